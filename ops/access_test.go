package ops

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/scheduler/cron"
	"github.com/perdure/perdure/store"
)

const (
	viewerSecret   = "viewer-secret-0123456789"
	producerSecret = "producer:secret:0123456789"
	operatorSecret = "operator-secret-0123456789"
)

func testTokens(t testing.TB) []Token {
	t.Helper()
	tokens, err := ParseTokens("vera:viewer:" + viewerSecret + ", pia:producer:" + producerSecret + ",ola:operator:" + operatorSecret)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func TestParseTokens(t *testing.T) {
	t.Parallel()
	if tokens := testTokens(t); len(tokens) != 3 || tokens[1].Name != "pia" || tokens[1].Role != Producer {
		t.Errorf("tokens %+v", tokens)
	}
	if tokens, err := ParseTokens("  "); err != nil || tokens != nil {
		t.Errorf("empty: %v, %v", tokens, err)
	}
	const good, secret = "ann:viewer:0123456789abcdef", "CANARY-0123456789"
	for text, want := range map[string]string{
		secret:                                         "entry 1",
		good + "," + secret + ":viewer":                "entry 2",
		good + ",":                                     "entry 2",
		"bob:" + secret + ":viewer":                    "role viewer, producer or operator",
		secret + " x:viewer:" + secret:                 "name of 1 to 64",
		":viewer:" + secret:                            "name of 1 to 64",
		"perdure:viewer:" + secret:                     `not "perdure"`,
		"bob:viewer:CANARY":                            "16 to 512 bytes",
		"bob:viewer:":                                  "16 to 512 bytes",
		"bob:viewer:" + secret + " spaced":             "printable ASCII",
		"bob:viewer:" + secret + "\u00e9":              "printable ASCII",
		"bob:viewer:" + strings.Repeat("CANARY", 100):  "16 to 512 bytes",
		good + ",ann:operator:" + secret:               "a name that no other",
		"a:viewer:" + secret + ",b:operator:" + secret: "a secret that no other",
		strings.Repeat(good+",", maxTokens+1):          "at most 1000 entries",
	} {
		_, err := ParseTokens(text)
		if !errors.Is(err, jobs.ErrInvalid) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), settingTokens) {
			t.Errorf("ParseTokens(%.60q) = %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "CANARY") {
			t.Errorf("error shows the secret: %v", err)
		}
	}
	if shown := fmt.Sprintf("%v %+v %#v %s", testTokens(t), testTokens(t), testTokens(t), testTokens(t)); strings.Contains(shown, "secret-") {
		t.Errorf("printed tokens show a secret: %s", shown)
	}
}

func TestCheckListen(t *testing.T) {
	t.Parallel()
	tokens := testTokens(t)
	for addr, want := range map[string]struct{ open, closed bool }{
		"127.0.0.1:8080":        {true, true},
		"127.8.8.8:0":           {true, true},
		"localhost:8080":        {true, true},
		"[::1]:8080":            {true, true},
		"[::ffff:127.0.0.1]:80": {true, true},
		":8080":                 {false, true},
		"0.0.0.0:8080":          {false, true},
		"[::]:8080":             {false, true},
		"192.168.0.1:8080":      {false, true},
		"127.0.0.1.example:80":  {false, true},
		"localhost.example:80":  {false, true},
		"127.0.0.1":             {false, false},
		"127.0.0.1:99999":       {false, false},
		"127.0.0.1:http":        {false, false},
		"":                      {false, false},
	} {
		err := CheckListen(addr, nil)
		if (err == nil) != want.open {
			t.Errorf("CheckListen(%q, no tokens) = %v", addr, err)
		}
		if err != nil && !strings.Contains(err.Error(), settingListen) {
			t.Errorf("error does not name the setting: %v", err)
		}
		if want.closed && err != nil && !strings.Contains(err.Error(), settingTokens) {
			t.Errorf("error does not name what would help: %v", err)
		}
		if err := CheckListen(addr, tokens); (err == nil) != want.closed {
			t.Errorf("CheckListen(%q, tokens) = %v", addr, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	broken := jobs.Define[order, string]("BAD NAME").Do(nil)
	for name, o := range map[string]Options{
		"no store":          {},
		"an open door":      {Store: newFake(), Listen: ":8080"},
		"a token from thin": {Store: newFake(), Tokens: []Token{{Name: "x", Role: Operator}}},
		"a broken kind":     {Store: newFake(), Handlers: []jobs.Handler{broken}},
		"a kind twice":      {Store: newFake(), Handlers: []jobs.Handler{fulfilHandler(), fulfilHandler()}},
		"a host with port":  {Store: newFake(), Hosts: []string{"example:80"}},
		"a host pattern":    {Store: newFake(), Hosts: []string{"*.example"}},
	} {
		if _, err := New(o); !errors.Is(err, jobs.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEveryRouteIsGuarded walks the whole table with each role and with none.
func TestEveryRouteIsGuarded(t *testing.T) {
	t.Parallel()
	rdb := redistest.Client(t)
	onRedis := store.New(rdb, rdb)
	o := Options{Store: newFake(), Schedules: cron.NewDesk(onRedis), Audit: onRedis, Tokens: testTokens(t), Metrics: prometheus.NewRegistry(), AsynqUI: rdb}
	s, err := newService(o)
	if err != nil {
		t.Fatal(err)
	}
	// A route that someone forgot to give a role to.
	forgotten := route{pattern: "GET /forgotten", serve: (*service).showVersion}
	routes := append(s.routes(), forgotten, route{"GET /misspelt", "admin", (*service).showVersion})
	h := s.protect(routes)
	mayWrite := map[Role]func(pattern string) bool{
		Viewer: func(string) bool { return false },
		Producer: func(pattern string) bool {
			return pattern == "POST /api/v1/jobs" || strings.Contains(pattern, "/signals/")
		},
		Operator: func(string) bool { return true },
	}
	secrets := map[Role]string{Viewer: viewerSecret, Producer: producerSecret, Operator: operatorSecret}
	fill := regexp.MustCompile(`\{[a-z]+(\.\.\.)?\}`)
	for _, rt := range routes {
		method, pattern, _ := strings.Cut(rt.pattern, " ")
		target := fill.ReplaceAllString(strings.TrimSuffix(pattern, "{$}"), "default")
		for name, authorization := range map[string]string{
			"none": "", "wrong": "Bearer wrong-secret-0123456789", "empty": "Bearer ", "other scheme": "Token " + operatorSecret, "bare": operatorSecret,
		} {
			r := request(method, target, "")
			if authorization != "" {
				r.Header.Set("Authorization", authorization)
			}
			if got := do(h, r); got.Code != http.StatusUnauthorized || got.Header().Get("WWW-Authenticate") == "" {
				t.Errorf("%s with %s credentials: %d %s", rt.pattern, name, got.Code, got.text)
			}
		}
		for role, secret := range secrets {
			r := request(method, target, "")
			r.Header.Set("Authorization", "Bearer "+secret)
			got := do(h, r)
			open := rank[rt.needs] > 0 && (method == http.MethodGet || mayWrite[role](rt.pattern))
			if open == (got.Code == http.StatusForbidden) || got.Code == http.StatusUnauthorized {
				t.Errorf("%s as %s: %d %s", rt.pattern, role, got.Code, got.text)
			}
		}
	}
	for _, target := range []string{"/nothing", "/api/v1/nothing", "/livez", "/asynq", "//"} {
		if got := call(h, http.MethodGet, target, ""); got.Code != http.StatusUnauthorized {
			t.Errorf("%s without credentials: %d", target, got.Code)
		}
	}
}

func TestBasicCredentials(t *testing.T) {
	t.Parallel()
	h := newAPI(t, Options{Tokens: testTokens(t)})
	for _, c := range []struct {
		name, secret string
		want         int
	}{
		{"vera", viewerSecret, 200}, {"pia", producerSecret, 200}, {"vera", operatorSecret, 401}, {"", viewerSecret, 401}, {"vera", "", 401}, {"nobody", viewerSecret, 401},
	} {
		r := request(http.MethodGet, "/", "")
		r.SetBasicAuth(c.name, c.secret)
		if got := do(h, r); got.Code != c.want {
			t.Errorf("%s: %d, want %d", c.name, got.Code, c.want)
		}
	}
	if challenge := call(h, http.MethodGet, "/", "").Header().Values("WWW-Authenticate"); len(challenge) != 2 {
		t.Errorf("pages do not ask browsers for a name: %v", challenge)
	}
	r := request(http.MethodGet, "/", "")
	r.Header["Authorization"] = []string{"Bearer " + viewerSecret, "Bearer " + operatorSecret}
	if got := do(h, r); got.Code != http.StatusUnauthorized {
		t.Errorf("two credentials: %d", got.Code)
	}
}
