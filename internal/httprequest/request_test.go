package httprequest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
)

const canary = "c4n4ry"

func TestValidate(t *testing.T) {
	const good = "https://example.com/hook"
	many := map[string]string{}
	for i := range maxHeaders + 1 {
		many[fmt.Sprint("X-", i)] = "v"
	}
	header := func(name, value string) Request {
		return Request{URL: good, Headers: map[string]string{name: value}}
	}
	for _, test := range []struct {
		name    string
		request Request
		field   string // the problem's, or empty when valid
	}{
		{"least", Request{URL: good}, ""},
		{"all", Request{URL: "http://[2001:db8::1]:8080/a?b=c#d", Method: "PUT", Headers: map[string]string{"X-A": "b\tc", "Authorization": "env:TOKEN"}, Body: json.RawMessage(`{"a":1}`), Timeout: "10m", Success: "2xx,409", Secret: "env:KEY"}, ""},
		{"text body", Request{URL: good, BodyText: "hello", Timeout: "100ms"}, ""},
		{"null body and text", Request{URL: good, Body: json.RawMessage("null"), BodyText: "hello"}, ""},
		{"no url", Request{}, "url"},
		{"long url", Request{URL: good + strings.Repeat(canary, 400)}, "url"},
		{"ftp", Request{URL: "ftp://" + canary}, "url"},
		{"file", Request{URL: "file:///etc/" + canary}, "url"},
		{"relative", Request{URL: "/path/" + canary}, "url"},
		{"no scheme", Request{URL: "example.com:80/" + canary}, "url"},
		{"opaque", Request{URL: "http:" + canary}, "url"},
		{"no host", Request{URL: "http:///" + canary}, "url"},
		{"port only", Request{URL: "http://:80/" + canary}, "url"},
		{"userinfo", Request{URL: "https://user:" + canary + "@example.com/"}, "url"},
		{"user", Request{URL: "https://" + canary + "@example.com/"}, "url"},
		{"port 0", Request{URL: "http://example.com:0/" + canary}, "url"},
		{"port 65536", Request{URL: "http://example.com:65536/" + canary}, "url"},
		{"port text", Request{URL: "http://example.com:" + canary}, "url"},
		{"crlf in url", Request{URL: good + "\r\nX-A: " + canary}, "url"},
		{"space in query", Request{URL: good + "?q=a b" + canary}, "url"},
		{"bad escape", Request{URL: good + "/%zz" + canary}, "url"},
		{"method", Request{URL: good, Method: "TRACE"}, "method"},
		{"method case", Request{URL: good, Method: "post"}, "method"},
		{"method crlf", Request{URL: good, Method: "GET / HTTP/1.1\r\nX: y"}, "method"},
		{"many headers", Request{URL: good, Headers: many}, "number of headers"},
		{"empty name", header("", canary), "header"},
		{"space in name", header("Authorization "+canary, "v"), "header"},
		{"colon in name", header("Authorization: "+canary, "v"), "header"},
		{"crlf in name", header("X-A\r\n"+canary, "v"), "header"},
		{"non-ascii name", header("X-Ä"+canary, "v"), "header"},
		{"long name", header(strings.Repeat("x", maxHeaderName+1), canary), "header"},
		{"twice", Request{URL: good, Headers: map[string]string{"x-a": canary, "X-A": canary}}, "header"},
		{"crlf in value", header("X-A", canary+"\r\nX-B: c"), "header X-A"},
		{"nul in value", header("X-A", canary+"\x00"), "header X-A"},
		{"c1 in value", header("X-A", canary+"\u0085"), "header X-A"},
		{"long value", header("X-A", strings.Repeat(canary, 1000)), "header X-A"},
		{"bad reference", header("X-A", "env:a-"+canary), "header X-A"},
		{"empty reference", header("X-A", "env:"), "header X-A"},
		{"host", header("host", canary), "header"},
		{"content-length", header("Content-length", canary), "header"},
		{"transfer-encoding", header("TRANSFER-ENCODING", canary), "header"},
		{"idempotency-key", header("idempotency-key", canary), "header"},
		{"webhook-id", header("webhook-id", canary), "header"},
		{"webhook-other", header("Webhook-Other", canary), "header"},
		{"connection", header("connection", canary), "header"},
		{"two bodies", Request{URL: good, Body: json.RawMessage(`1`), BodyText: canary}, "body_text"},
		{"bad body", Request{URL: good, Body: json.RawMessage(canary)}, "body"},
		{"big body", Request{URL: good, Body: json.RawMessage(`"` + strings.Repeat(canary, maxSent/5) + `"`)}, "body"},
		{"big text", Request{URL: good, BodyText: strings.Repeat(canary, maxSent/5)}, "body_text"},
		{"timeout", Request{URL: good, Timeout: "soon"}, "timeout"},
		{"number timeout", Request{URL: good, Timeout: "10"}, "timeout"},
		{"short timeout", Request{URL: good, Timeout: "99ms"}, "timeout"},
		{"long timeout", Request{URL: good, Timeout: "10m1s"}, "timeout"},
		{"negative timeout", Request{URL: good, Timeout: "-1s"}, "timeout"},
		{"success", Request{URL: good, Success: "ok"}, "success"},
		{"secret itself", Request{URL: good, Secret: "whsec_" + canary}, "secret"},
		{"bad secret reference", Request{URL: good, Secret: "env:1" + canary}, "secret"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.request.Validate()
			if test.field == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var problem *jobs.InvalidError
			if !errors.As(err, &problem) || problem.Field != test.field || problem.Bound == "" || problem.Value == nil {
				t.Fatalf("got %v", err)
			}
			if strings.ContainsAny(err.Error(), "\r\n") || strings.Contains(err.Error(), canary) {
				t.Errorf("the message %q shows too much", err)
			}
		})
	}
}

func TestValidateNamesEachProblem(t *testing.T) {
	err := Request{URL: "x", Method: "x", Headers: map[string]string{"Host": "x", "A b": "x"}, Body: json.RawMessage("{"), Timeout: "x", Success: "x", Secret: "x"}.Validate()
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 8 {
		t.Errorf("got %q", lines)
	}
}

func TestDefaults(t *testing.T) {
	p, err := Request{URL: "https://example.com"}.plan()
	if err != nil || p.method != http.MethodPost || p.timeout != 30*time.Second || !p.success.has(204) || p.success.has(300) || p.body != nil {
		t.Errorf("plan %+v, %v", p, err)
	}
	d := Kind.Definition()
	if Kind.Err() != nil || d.Name != "http.request" || d.Queue != "default" || d.Timeout != 11*time.Minute {
		t.Errorf("definition %+v, %v", d, Kind.Err())
	}
}

func TestNew(t *testing.T) {
	h, err := New(Options{SecretNames: []string{"HOOK_KEY"}, AllowNets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}})
	if err != nil || h.Err() != nil || h.Definition.Name != "http.request" {
		t.Errorf("handler %+v, %v", h, err)
	}
	if err := h.Check([]byte(`{"url":"http://u:` + canary + `@h"}`)); !errors.Is(err, jobs.ErrInvalid) || strings.Contains(err.Error(), canary) {
		t.Errorf("check: %v", err)
	}
	for field, o := range map[string]Options{
		settingNets:        {AllowNets: []netip.Prefix{{}}},
		settingNets + " ":  {AllowNets: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/8")}},
		settingNets + "  ": {AllowNets: []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}},
		settingSecrets:     {SecretNames: []string{"A-B"}},
	} {
		_, err := New(o)
		var problem *jobs.InvalidError
		if !errors.As(err, &problem) || problem.Field != strings.TrimSpace(field) {
			t.Errorf("%q: %v", field, err)
		}
	}
}

func FuzzValidate(f *testing.F) {
	for _, payload := range []string{
		`{"url":"https://example.com/a?b=c"}`,
		`{"url":"http://u:p@h:99999"}`,
		`{"url":"http://[::1%25lo]:80","method":"GET","headers":{"X-A":"env:B"},"timeout":"1s","success":"2xx","secret":"env:C"}`,
		`{"url":"http://h","headers":{"x-a":"1","X-A":"2","Webhook-Id":"3"},"body":{"a":[1]},"body_text":"t"}`,
	} {
		f.Add([]byte(payload))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		var r Request
		if json.Unmarshal(payload, &r) != nil {
			return
		}
		if err := r.Validate(); err != nil {
			if !errors.Is(err, jobs.ErrInvalid) {
				t.Fatalf("%q: %v", payload, err)
			}
			return
		}
		p, err := r.plan()
		if err != nil {
			t.Fatal(err)
		}
		request, err := http.NewRequest(p.method, p.url.String(), nil)
		if err != nil {
			t.Fatalf("%q is valid but makes no request: %v", payload, err)
		}
		if request.URL.User != nil || request.URL.Host == "" || p.timeout < minTimeout || p.timeout > maxTimeout {
			t.Fatalf("%q: %+v", payload, p)
		}
		for name, value := range p.headers {
			if strings.ContainsAny(name+value, "\r\n\x00") || len(value) > maxHeaderValue {
				t.Fatalf("%q: header %q: %q", payload, name, value)
			}
		}
	})
}
