package httprequest

import (
	"strings"
	"testing"

	"github.com/perdure/perdure/jobs"
)

// The specification's own example.
func TestSignature(t *testing.T) {
	s := secrets{allowed: map[string]bool{"KEY": true}, lookup: env(map[string]string{"KEY": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})}
	key, err := s.key("env:KEY")
	if err != nil {
		t.Fatal(err)
	}
	const want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	if got := sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`)); got != want {
		t.Errorf("got %s", got)
	}
}

func TestKeyForms(t *testing.T) {
	values := map[string]string{"PADDED": "whsec_aGVsbG8=", "BARE": "whsec_aGVsbG8", "RAW": "aGVsbG8=", "BAD": "whsec_!" + canary, "NONE": "whsec_", "EMPTY": ""}
	s := secrets{allowed: map[string]bool{"PADDED": true, "BARE": true, "RAW": true, "BAD": true, "NONE": true, "EMPTY": true, "UNSET": true}, lookup: env(values)}
	for name, want := range map[string]string{"PADDED": "hello", "BARE": "hello", "RAW": "aGVsbG8="} {
		if key, err := s.key("env:" + name); err != nil || string(key) != want {
			t.Errorf("%s: %q, %v", name, key, err)
		}
	}
	for _, name := range []string{"BAD", "NONE", "EMPTY", "UNSET", "OTHER"} {
		_, err := s.key("env:" + name)
		if jobs.Classify(err).Class != jobs.ClassInvalid || !strings.Contains(err.Error(), "env:"+name) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHeaderReferences(t *testing.T) {
	values := map[string]string{"GOOD": "Bearer x", "LINE": canary + "\r\nX: y", "LONG": strings.Repeat(canary, 1000), "LOOP": "env:GOOD", "OTHER": canary}
	s := secrets{allowed: map[string]bool{"GOOD": true, "LINE": true, "LONG": true, "LOOP": true, "UNSET": true}, lookup: env(values)}
	for value, want := range map[string]string{"env:GOOD": "Bearer x", "plain": "plain", "": ""} {
		if got, err := s.header("Authorization", value); err != nil || got != want {
			t.Errorf("%s: %q, %v", value, got, err)
		}
	}
	for _, name := range []string{"LINE", "LONG", "LOOP", "UNSET", "OTHER"} {
		_, err := s.header("Authorization", "env:"+name)
		if jobs.Classify(err).Class != jobs.ClassInvalid || !strings.Contains(err.Error(), "env:"+name) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSecretsComeFromTheEnvironment(t *testing.T) {
	t.Setenv("HTTPREQUEST_TEST_KEY", "value")
	got, err := Options{SecretNames: []string{"HTTPREQUEST_TEST_KEY"}}.secrets().resolve("secret", "env:HTTPREQUEST_TEST_KEY")
	if err != nil || got != "value" {
		t.Errorf("%q, %v", got, err)
	}
}
