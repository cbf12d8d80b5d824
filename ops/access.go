package ops

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/perdure/perdure/jobs"
)

// The settings that messages name.
const (
	settingListen = "PERDURE_LISTEN"
	settingTokens = "PERDURE_ACCESS_TOKENS"
)

// Bounds of access tokens.
const (
	minSecret    = 16
	maxSecret    = 512
	maxTokenName = 64
	maxTokens    = 1000
)

// Role is what the holder of an access token may do. Each includes those before.
type Role string

// The roles.
const (
	Viewer   Role = "viewer"   // look
	Producer Role = "producer" // and enqueue
	Operator Role = "operator" // and decide: cancel, replay, discard, pause, resume
)

// rank orders the roles. What is not in it has no right to anything and gives
// none.
var rank = map[Role]int{Viewer: 1, Producer: 2, Operator: 3}

// may reports whether a holder of this role may use a route that needs another.
func (r Role) may(needs Role) bool { return rank[needs] > 0 && rank[r] >= rank[needs] }

// Token is an access token. It keeps a digest of its secret only, so that printing
// it shows nothing.
type Token struct {
	Name string // who: the actor of its decisions
	Role Role
	sum  [sha256.Size]byte
}

// ParseTokens reads PERDURE_ACCESS_TOKENS: name:role:secret, separated by commas.
// A secret may hold colons. Errors name an entry by its number and never show what
// it holds.
func ParseTokens(text string) ([]Token, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	entries := strings.Split(text, ",")
	if len(entries) > maxTokens {
		return nil, &jobs.InvalidError{Field: settingTokens, Value: fmt.Sprintf("%d entries", len(entries)), Bound: fmt.Sprintf("at most %d entries", maxTokens)}
	}
	var tokens []Token
	for i, entry := range entries {
		token, bound := parseToken(strings.TrimSpace(entry))
		for _, earlier := range tokens {
			switch {
			case bound != "":
			case earlier.Name == token.Name:
				bound = "a name that no other entry has"
			case earlier.sum == token.sum:
				bound = "a secret that no other entry has"
			}
		}
		if bound != "" {
			return nil, &jobs.InvalidError{Field: settingTokens, Value: fmt.Sprintf("entry %d", i+1), Bound: bound}
		}
		tokens = append(tokens, token)
	}
	return tokens, nil
}

// parseToken returns the bound that an entry breaks, or "".
func parseToken(entry string) (token Token, bound string) {
	name, rest, _ := strings.Cut(entry, ":")
	role, secret, found := strings.Cut(rest, ":")
	token = Token{Name: name, Role: Role(role), sum: sha256.Sum256([]byte(secret))}
	switch {
	case !found:
		return token, "name:role:secret"
	case !validTokenName(name):
		return token, fmt.Sprintf(`name:role:secret with a name of 1 to %d of A-Z a-z 0-9 . _ @ + -, not "perdure"`, maxTokenName)
	case rank[token.Role] == 0:
		return token, "name:role:secret with the role viewer, producer or operator"
	case len(secret) < minSecret || len(secret) > maxSecret:
		return token, fmt.Sprintf("name:role:secret with a secret of %d to %d bytes", minSecret, maxSecret)
	case strings.ContainsFunc(secret, func(r rune) bool { return r <= ' ' || r > '~' }):
		return token, "name:role:secret with a secret of printable ASCII without spaces"
	}
	return token, ""
}

// validTokenName refuses "perdure" because the system's own decisions carry it.
func validTokenName(name string) bool {
	if len(name) == 0 || len(name) > maxTokenName || name == "perdure" {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._@+-", r))
	})
}

// checkTokens refuses tokens that [ParseTokens] did not make.
func checkTokens(tokens []Token) error {
	for i, token := range tokens {
		if !validTokenName(token.Name) || rank[token.Role] == 0 || token.sum == ([sha256.Size]byte{}) {
			return &jobs.InvalidError{Field: settingTokens, Value: fmt.Sprintf("entry %d", i+1), Bound: "made by ParseTokens"}
		}
	}
	return nil
}

// CheckListen refuses an address that other machines can reach while there are no
// access tokens.
func CheckListen(addr string, tokens []Token) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return &jobs.InvalidError{Field: settingListen, Value: addr, Bound: "host:port, for example 127.0.0.1:8080"}
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return &jobs.InvalidError{Field: settingListen, Value: addr, Bound: "host:port with a port from 0 to 65535"}
	}
	if len(tokens) == 0 && !isLoopback(host) {
		return &jobs.InvalidError{
			Field: settingListen, Value: addr,
			Bound: "a loopback address such as 127.0.0.1:8080 while " + settingTokens + " is empty",
		}
	}
	return nil
}

// isLoopback reports whether host is this machine by its very text; nothing is
// resolved.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// foldHost is a host name as names are compared.
func foldHost(host string) string { return strings.ToLower(host) }

func checkHostName(host string) error {
	ok := len(host) > 0 && len(host) <= 253 && !strings.ContainsFunc(host, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._:-", r))
	})
	if _, err := netip.ParseAddr(host); err != nil && strings.Contains(host, ":") {
		ok = false
	}
	if !ok {
		return &jobs.InvalidError{Field: "Hosts", Value: host, Bound: "a host name or address without port"}
	}
	return nil
}

// hostOf returns the host in a Host header, without its port.
func hostOf(header string) string {
	if host, _, err := net.SplitHostPort(header); err == nil {
		return host
	}
	if inner, found := strings.CutPrefix(header, "["); found {
		if inner, found = strings.CutSuffix(inner, "]"); found {
			return inner
		}
	}
	return header
}

// identity is who asks.
type identity struct {
	name   string
	role   Role
	nobody bool // there are no tokens, so nobody in particular
}

// actor is who decides, for the record: the access token's name and role. Without
// tokens it is "api", which no token is recorded as.
func (i identity) actor() string {
	if i.nobody {
		return i.name
	}
	return fmt.Sprintf("%s (%s)", i.name, i.role)
}

// identify finds out who asks. Without tokens that is whoever reached the
// service, under the name "api".
func (s *service) identify(r *http.Request) (identity, bool) {
	if len(s.tokens) == 0 {
		return identity{name: "api", role: Operator, nobody: true}, true
	}
	name, secret, ok := credentials(r)
	if !ok {
		return identity{}, false
	}
	sum := sha256.Sum256([]byte(secret))
	found := -1
	for i, token := range s.tokens { // all of them, so that time tells nothing
		same := subtle.ConstantTimeCompare(sum[:], token.sum[:])
		found = subtle.ConstantTimeSelect(same, i, found)
	}
	if found < 0 || name != "" && name != s.tokens[found].Name {
		return identity{}, false
	}
	return identity{name: s.tokens[found].Name, role: s.tokens[found].Role}, true
}

// credentials reads a bearer secret, or the name and secret that browsers send.
func credentials(r *http.Request) (name, secret string, ok bool) {
	if len(r.Header.Values("Authorization")) != 1 {
		return "", "", false
	}
	if name, secret, ok = r.BasicAuth(); ok {
		return name, secret, name != "" && secret != ""
	}
	scheme, secret, found := strings.Cut(r.Header.Get("Authorization"), " ")
	return "", secret, found && strings.EqualFold(scheme, "Bearer") && secret != ""
}
