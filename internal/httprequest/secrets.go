package httprequest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/perdure/perdure/jobs"
)

const (
	referencePrefix = "env:"
	keyPrefix       = "whsec_"
	maxEnvName      = 128
)

func isReference(text string) bool { return strings.HasPrefix(text, referencePrefix) }

// referenceName returns the NAME of a reference env:NAME.
func referenceName(text string) (string, bool) {
	name, ok := strings.CutPrefix(text, referencePrefix)
	return name, ok && isEnvName(name)
}

func isEnvName(name string) bool {
	if name == "" || len(name) > maxEnvName || name[0] >= '0' && name[0] <= '9' {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}

// secrets looks up references. Errors name the reference, never the value.
type secrets struct {
	allowed map[string]bool
	lookup  func(name string) (string, bool)
}

func (s secrets) resolve(field, reference string) (string, error) {
	name, ok := referenceName(reference)
	if !ok || !s.allowed[name] {
		return "", jobs.Permanent(fmt.Errorf("%s: env:%s may not be referenced: to allow it, add it to %s", field, name, settingSecrets))
	}
	value, ok := s.lookup(name)
	if !ok || value == "" {
		return "", jobs.Permanent(fmt.Errorf("%s: env:%s is not set where the worker runs", field, name))
	}
	return value, nil
}

// header returns the value of a header, looked up when it is a reference.
func (s secrets) header(name, value string) (string, error) {
	if !isReference(value) {
		return value, nil
	}
	field := "header " + name
	found, err := s.resolve(field, value)
	if err != nil {
		return "", err
	}
	if isReference(found) || checkHeaderValue(field, found) != nil {
		return "", jobs.Permanent(fmt.Errorf("%s: the value of %s cannot be sent: it is too long or has control characters", field, value))
	}
	return found, nil
}

// key returns the signing key: the bytes in base64 after "whsec_", or the value
// as it is.
func (s secrets) key(reference string) ([]byte, error) {
	value, err := s.resolve("secret", reference)
	if err != nil {
		return nil, err
	}
	encoded, ok := strings.CutPrefix(value, keyPrefix)
	if !ok {
		return []byte(value), nil
	}
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
	if err != nil || len(key) == 0 {
		return nil, jobs.Permanent(fmt.Errorf("secret: the value of %s is not base64 after %s", reference, keyPrefix))
	}
	return key, nil
}

// sign returns the webhook-signature header of the Standard Webhooks
// specification 1.0.0, symmetric scheme.
func sign(key []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.", id, timestamp)
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
