package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/perdure/perdure/jobs"
	"pgregory.net/rapid"
)

const canary = "c4n4ry"

func message(err error) string {
	failure, _ := jobs.NewFailure(err, time.Unix(1, 0), "host:1", 1)
	return failure.Message
}

func TestFailureHidesSecretsOfURLs(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"userinfo", "dial redis://user:c4n4ry@host:6379/0 failed", "dial redis://...@host:6379/0 failed"},
		{"user alone", "clone https://c4n4ry@host/repo: 401", "clone https://...@host/repo: 401"},
		{"password alone", "redis://:c4n4ry@host", "redis://...@host"},
		{"at sign in the password", "amqp://u:p@c4n4ry@host/v", "amqp://...@host/v"},
		{"slash in the password", "redis://:p/c4n4ry@host/0", "redis://...@host/0"},
		{"hash in the password", "postgres://user:p#c4n4ry@host/db", "postgres://...?..."},
		{"hash at the password's start", "postgres://user:c4n4ry#x@host/db", "postgres://...?..."},
		{"question mark in the password", "postgres://c4n4ry:p?c4n4ry@host/db", "postgres://...?..."},
		{"quote in the password", "redis://:p'c4n4ry@host", "redis://...@host"},
		{"query", "GET https://host/path?token=c4n4ry&a=b: 500", "GET https://host/path?... 500"},
		{"query with an at sign", "GET https://host/path?mail=a@c4n4ry end", "GET https://host/path?... end"},
		{"query and userinfo", "https://u:c4n4ry@host/p?x=c4n4ry", "https://...@host/p?..."},
		{"single quotes in the query", "https://host/p?$filter=name%20eq%20'c4n4ry'", "https://host/p?..."},
		{"quoted, with a space", `Get "https://host/p?q=a c4n4ry": refused`, `Get "https://host/p?...": refused`},
		{"quoted, with a quote", `Get "https://host/p?q=\"c4n4ry\"": refused`, `Get "https://host/p?...": refused`},
		{"quoted, not closed", `Get "https://host/p?q=c4n4ry`, `Get "https://host/p?...`},
		{"quoted, not closed, with a space", `Get "https://host/p?q=a c4n4ry` + "\nthe next line", `Get "https://host/p?...` + "\nthe next line"},
		{"quoted, nothing to hide", `Get "https://host/p": refused`, `Get "https://host/p": refused`},
		{"fragment", "https://host/cb#access_token=c4n4ry end", "https://host/cb?... end"},
		{"relative", "POST /login?password=c4n4ry failed", "POST /login?... failed"},
		{"two", "https://c4n4ry@a/ then https://c4n4ry@b/", "https://...@a/ then https://...@b/"},
		{"bad port", `parse "redis://:c4n4ry/x@host": invalid port ":c4n4ry" after host`, `parse "redis://...@host": invalid port "..." after host`},
		{"in braces", `{"url":"https://u:c4n4ry@host/?k=c4n4ry"}`, `{"url":"https://...@host/?..."}`},
		{"port stays", "dial http://host:8080/a/b: refused", "dial http://host:8080/a/b: refused"},
		{"a number is no fragment", "order #1042 of user@example.com", "order #1042 of user@example.com"},
		{"a question stays a question", "really? yes", "really? yes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := message(errors.New(test.text))
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if strings.Contains(got, canary) {
				t.Errorf("the secret is in %q", got)
			}
		})
	}
}

// TestFailureHidesSecretsOfRealErrors takes the texts that net/http and net/url
// really write.
func TestFailureHidesSecretsOfRealErrors(t *testing.T) {
	t.Parallel()
	get := func(url string) error {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		response, err := newClient(t, &http.Transport{}).Do(request)
		if err == nil {
			defer response.Body.Close()
			return jobs.CheckResponse(response)
		}
		return err
	}
	closed := closedPort(t)
	for name, err := range map[string]error{
		"request":             get("http://c4n4ry:c4n4ry@" + closed + "/p?token=c4n4ry#c4n4ry"),
		"spaces in the query": get("http://" + closed + "/p?q=a c4n4ry \"c4n4ry\""),
		"does not parse":      get("redis://:p/c4n4ry@host"),
		"password as port":    get("redis://:c4n4ry/x@host"),
		"control character":   get("http://u:c4n4ry@host/\x7f?c4n4ry"),
		"status": &jobs.HTTPError{
			Status: 500, URL: "http://u:c4n4ry@host/p?token=c4n4ry",
		},
		"panic": func() error {
			_, err := jobs.Define[int, int]("k").Do(func(context.Context, int) (int, error) {
				panic("http://u:c4n4ry@host/p?token=c4n4ry")
			}).Run(t.Context(), []byte("1"))
			return err
		}(),
	} {
		if err == nil {
			t.Errorf("%s: no error was produced", name)
			continue
		}
		failure, _ := jobs.NewFailure(err, time.Now(), "host:1", 1)
		if text := fmt.Sprintf("%+v", failure); strings.Contains(text, canary) {
			t.Errorf("%s: the secret is in %s", name, text)
		}
	}
}

func TestCheckResponseHidesSecrets(t *testing.T) {
	t.Parallel()
	u, err := url.Parse("https://u:c4n4ry@host/p?token=c4n4ry#c4n4ry")
	if err != nil {
		t.Fatal(err)
	}
	err = jobs.CheckResponse(&http.Response{StatusCode: 500, Request: &http.Request{URL: u}})
	if got, want := err.Error(), "http status 500 Internal Server Error from https://host/p"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if u.User == nil || u.RawQuery == "" {
		t.Error("the request's own URL was changed")
	}
}

// TestFailureHidesAnySecretOfAURL puts a secret of any form into any URL, with
// the characters that RFC 3986 asks to escape escaped.
func TestFailureHidesAnySecretOfAURL(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.StringN(0, 20, -1).Draw(t, "before") + canary + rapid.StringN(0, 20, -1).Draw(t, "after")
		u := url.URL{
			Scheme:   rapid.SampledFrom([]string{"http", "https", "redis", "postgres", "h2+x"}).Draw(t, "scheme"),
			Host:     rapid.SampledFrom([]string{"host", "host:80", "[::1]:80"}).Draw(t, "host"),
			Path:     rapid.SampledFrom([]string{"", "/", "/a/b"}).Draw(t, "path"),
			RawQuery: url.Values{"k": {secret}, secret: {"v"}}.Encode(),
			User:     url.UserPassword(secret, secret),
		}
		text := rapid.SampledFrom([]string{"%s", "Get %q: refused", "a %s, b", "(%s)", "'%s'", "x=%s"}).Draw(t, "text")
		if got := message(fmt.Errorf(text, u.String())); strings.Contains(got, canary) || !strings.Contains(got, "://...@"+u.Host) {
			t.Fatalf("%s gives %s", u.String(), got)
		}
	})
}

func TestFailureIsCleanAndBounded(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"plain", "boom", "boom"},
		{"new line and tab stay", "a\n\tb", "a\n\tb"},
		{"escape sequence", "a\x1b[31mb", "a [31mb"},
		{"C0 and delete", "a\x00b\rc\x7fd\be", "a b c d e"},
		{"C1", "a\u0085b\u009bc", "a b c"},
		{"invalid UTF-8", "a\xff\xfeb\xc3", "a?b?"},
		{"just fits", strings.Repeat("x", 1024), strings.Repeat("x", 1024)},
		{"one too long", strings.Repeat("x", 1025), strings.Repeat("x", 1021) + "..."},
		{"a rune at the cut", strings.Repeat("x", 1020) + "ééé", strings.Repeat("x", 1020) + "..."},
		{"slow for a careless pattern", strings.Repeat(`\"a://`, 50_000), strings.Repeat(`\"a://`, 170) + `\...`},
		{"runes", strings.Repeat("€", 1000), strings.Repeat("€", 340) + "..."},
	}
	for _, test := range tests {
		if got := message(errors.New(test.text)); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestFailureBoundsWhatTheAuthorNamed(t *testing.T) {
	t.Parallel()
	long := "https://u:" + canary + "@host/" + strings.Repeat("é\x1b", 1000)
	failure, _ := jobs.NewFailure(&jobs.StepError{Step: long, Err: jobs.Pause(long, nil)}, time.Now(), "host:1", 1)
	requireCleanFailure(t, failure)
	if strings.Contains(failure.Rule+failure.Step+failure.Message, canary) {
		t.Errorf("the secret is in %+v", failure)
	}
	failure, _ = jobs.NewFailure(&sqlError{"40" + long, "x"}, time.Now(), "host:1", 1)
	requireCleanFailure(t, failure)
}

func TestFailureRecord(t *testing.T) {
	t.Parallel()
	at := time.Date(2024, 2, 29, 12, 0, 0, 0, time.FixedZone("", 3600))
	failure, c := jobs.NewFailure(&jobs.StepError{Step: "charge", Err: &jobs.HTTPError{Status: 503}}, at, "host:1", 7)
	want := jobs.Failure{
		Class: jobs.ClassUnavailable, Rule: "http 503", Message: `step "charge": http status 503 Service Unavailable from`,
		Step: "charge", At: at.UTC(), Worker: "host:1", Attempt: 7,
	}
	if failure != want || c.Class != want.Class || c.Rule != want.Rule {
		t.Errorf("got %+v by %+v, want %+v", failure, c, want)
	}
}

func TestFailureKeepsTheStackOfAPanic(t *testing.T) {
	t.Parallel()
	_, err := jobs.Define[int, int]("k").Do(func(_ context.Context, n int) (int, error) { return dig(n), nil }).Run(t.Context(), []byte("100"))
	failure, _ := jobs.NewFailure(fmt.Errorf("wrapped: %w", err), time.Now(), "host:1", 1)
	if failure.Class != jobs.ClassPanic || !strings.Contains(failure.Message, "panic: dug") {
		t.Errorf("got %+v", failure)
	}
	if !strings.Contains(failure.Stack, "dig(") {
		t.Errorf("the stack does not show where it was: %s", failure.Stack)
	}
	if len(failure.Stack) > 8<<10 {
		t.Errorf("the stack has %d bytes", len(failure.Stack))
	}
	failure, _ = jobs.NewFailure(&jobs.PanicError{Value: 1, Stack: "a\xff" + strings.Repeat("é", 8<<10)}, time.Now(), "host:1", 1)
	requireCleanFailure(t, failure)
}

//go:noinline
func dig(n int) int {
	if n == 0 {
		panic("dug")
	}
	return dig(n-1) + 1
}

func FuzzFailure(f *testing.F) {
	for _, seed := range []string{
		"", "boom", "https://u:c4n4ry@host/p?token=c4n4ry", `"a://b?c`, "\x00\xff\u009b", strings.Repeat("é", 600), `"x://\"`, "://@?#", `x://"`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		failure, _ := jobs.NewFailure(&jobs.StepError{Step: text, Err: jobs.Pause(text, errors.New(text))}, time.Now(), "host:1", 1)
		requireCleanFailure(t, failure)
	})
}

func requireCleanFailure(t testing.TB, failure jobs.Failure) {
	t.Helper()
	for _, field := range []struct {
		name, text string
		most       int
	}{
		{"message", failure.Message, 1 << 10},
		{"rule", failure.Rule, 128},
		{"step", failure.Step, jobs.MaxStepLength},
		{"stack", failure.Stack, 8 << 10},
	} {
		if len(field.text) > field.most {
			t.Errorf("%s has %d bytes, more than %d", field.name, len(field.text), field.most)
		}
		if !utf8.ValidString(field.text) {
			t.Errorf("%s is not UTF-8: %q", field.name, field.text)
		}
		if i := strings.IndexFunc(field.text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }); i >= 0 {
			t.Errorf("%s has a control character at %d: %q", field.name, i, field.text)
		}
	}
}
