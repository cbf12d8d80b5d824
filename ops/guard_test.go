package ops

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/perdure/perdure/jobs"
)

const goodJob = `{"kind":"order.fulfil","key":"order:1","payload":{"amount":1}}`

// TestNoWebPageMayEnqueue sends what a page of another origin could make a browser
// send.
func TestNoWebPageMayEnqueue(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*http.Request)
		want   int
	}{
		"foreign origin":               {func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, 403},
		"another port of this machine": {func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:3000") }, 403},
		"origin null":                  {func(r *http.Request) { r.Header.Set("Origin", "null") }, 403},
		"origin of another scheme":     {func(r *http.Request) { r.Header.Set("Origin", "chrome-extension://127.0.0.1:8080") }, 403},
		"cross-site fetch":             {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		"same-site fetch":              {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, 403},
		"same-origin by word, not by origin": {func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "same-origin")
			r.Header.Set("Origin", "https://evil.example")
		}, 403},
		"rebound name":                       {func(r *http.Request) { r.Host = "evil.example:8080" }, 403},
		"rebound name with its origin":       {func(r *http.Request) { r.Host = "evil.example"; r.Header.Set("Origin", "http://evil.example") }, 403},
		"name that begins like this machine": {func(r *http.Request) { r.Host = "127.0.0.1.evil.example" }, 403},
		"name that ends like this machine":   {func(r *http.Request) { r.Host = "evil.localhost" }, 403},
		"no name":                            {func(r *http.Request) { r.Host = "" }, 403},
		"address of another machine":         {func(r *http.Request) { r.Host = "10.0.0.1" }, 403},
		"unspecified address":                {func(r *http.Request) { r.Host = "0.0.0.0:8080" }, 403},
		"form as text":                       {func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, 415},
		"form":                               {func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }, 415},
		"no type":                            {func(r *http.Request) { r.Header.Del("Content-Type") }, 415},
		"type that begins like JSON":         {func(r *http.Request) { r.Header.Set("Content-Type", "application/jsonp") }, 415},
		"curl":                               {func(*http.Request) {}, 201},
		"curl by name":                       {func(r *http.Request) { r.Host = "localhost:8080" }, 201},
		"curl by IPv6":                       {func(r *http.Request) { r.Host = "[::1]:8080" }, 201},
		"curl by IPv6 without port":          {func(r *http.Request) { r.Host = "[::1]" }, 201},
		"curl by a listed name":              {func(r *http.Request) { r.Host = "Jobs.internal" }, 201},
		"charset":                            {func(r *http.Request) { r.Header.Set("Content-Type", "application/json; charset=utf-8") }, 201},
		"its own page": {func(r *http.Request) {
			r.Header.Set("Origin", "http://127.0.0.1:8080")
			r.Header.Set("Sec-Fetch-Site", "same-origin")
		}, 201},
	} {
		f := newFake()
		h := newAPI(t, Options{Store: f, Hosts: []string{"jobs.internal"}})
		r := request(http.MethodPost, "/api/v1/jobs", goodJob)
		c.change(r)
		got := do(h, r)
		if got.Code != c.want {
			t.Errorf("%s: %d %s", name, got.Code, got.text)
		}
		if c.want != 201 {
			got.problem(t)
			if len(f.seen) > 0 {
				t.Errorf("%s: enqueued", name)
			}
		}
		if got.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: answers may be read by foreign pages", name)
		}
	}
}

// Browsers send Basic credentials by themselves, so tokens do not replace the
// check of origins. Names need no check then.
func TestOriginsWithTokens(t *testing.T) {
	t.Parallel()
	h := newAPI(t, Options{Tokens: testTokens(t)})
	r := request(http.MethodPost, "/api/v1/jobs", goodJob)
	r.Host = "jobs.example"
	r.SetBasicAuth("ola", operatorSecret)
	r.Header.Set("Origin", "https://evil.example")
	if got := do(h, r); got.Code != http.StatusForbidden {
		t.Errorf("foreign origin with credentials: %d", got.Code)
	}
	r = request(http.MethodPost, "/api/v1/jobs", goodJob)
	r.Host = "jobs.example"
	r.Header.Set("Origin", "https://jobs.example")
	r.SetBasicAuth("ola", operatorSecret)
	if got := do(h, r); got.Code != http.StatusCreated {
		t.Errorf("own origin with credentials: %d %s", got.Code, got.text)
	}
	if got := do(h, httptest.NewRequest(http.MethodOptions, "/api/v1/jobs", nil)); got.Code != http.StatusUnauthorized {
		t.Errorf("preflight: %d", got.Code)
	}
}

func TestForeignHostMayNotRead(t *testing.T) {
	t.Parallel()
	h := newAPI(t, Options{})
	for _, target := range []string{"/", "/api/v1/jobs", "/api/v1/queues", "/nothing"} {
		r := request(http.MethodGet, target, "")
		r.Host = "evil.example"
		if got := do(h, r); got.Code != http.StatusForbidden {
			t.Errorf("GET %s: %d", target, got.Code)
		}
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	h := newAPI(t, Options{})
	for target, page := range map[string]bool{"/": true, "/style.css": true, "/api/v1/jobs": false, "/api/v1/jobs/q/none": false, "/nothing": false, "/api/v1/version": false} {
		got := call(h, http.MethodGet, target, "").Header()
		csp := got.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") ||
			got.Get("X-Content-Type-Options") != "nosniff" || got.Get("X-Frame-Options") != "DENY" || got.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", target, got)
		}
		if !page && got.Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be cached: %q", target, got.Get("Cache-Control"))
		}
	}
}

func TestNoSuchPathOrMethod(t *testing.T) {
	t.Parallel()
	h := newAPI(t, Options{})
	if got := call(h, http.MethodGet, "/api/v1/nothing", ""); got.Code != 404 || got.problem(t).Type != "urn:perdure:problem:no-route" {
		t.Errorf("%d %s", got.Code, got.text)
	}
	got := call(h, http.MethodDelete, "/api/v1/jobs", "")
	if got.problem(t); got.Code != 405 || got.Header().Get("Allow") != "GET, HEAD, POST" {
		t.Errorf("%d %v", got.Code, got.Header())
	}
	if got := call(h, http.MethodGet, "/api/v1/jobs?"+strings.Repeat("x", maxQuery+1), ""); got.problem(t).Field != "query" || got.Code != 400 {
		t.Errorf("long query: %d %s", got.Code, got.text)
	}
}

// TestPanic checks that a panic is one failed answer: told to nobody but the log,
// and the connection goes on.
func TestPanic(t *testing.T) {
	t.Parallel()
	var log logBuffer
	f := newFake()
	f.panics = "CANARY"
	server := httptest.NewUnstartedServer(nil)
	server.Config = NewServer(newAPI(t, Options{Store: f, Log: log.logger()}), log.logger())
	server.Start()
	defer server.Close()
	client := server.Client()
	defer client.CloseIdleConnections()
	for range 3 {
		answer, err := client.Get(server.URL + "/api/v1/jobs/default/a")
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != 500 || answer.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("answer %d %v", answer.StatusCode, answer.Header)
		}
	}
	if text := log.String(); !strings.Contains(text, "fakeStore") || strings.Contains(text, "CANARY") {
		t.Errorf("log has no stack, or the panic's text: %s", text)
	}
}

func TestErrorsBecomeStatuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want int
		tell bool
	}{
		{jobs.ErrNotFound, 404, true}, {jobs.ErrOtherPayload, 409, true}, {jobs.ErrConflict, 409, true}, {jobs.ErrInvalid, 400, true},
		{jobs.ErrUnknownKind, 422, true}, {jobs.ErrUnavailable, 503, false}, {errors.New("WRONGPASS"), 500, false},
		{errors.Join(jobs.ErrUnavailable, jobs.ErrOtherPayload), 409, true},
	} {
		var log logBuffer
		f := newFake()
		f.fail = fmt.Errorf("script of CANARY at 10.0.0.9: %w", c.err)
		h := newAPI(t, Options{Store: f, Log: log.logger()})
		got := call(h, http.MethodGet, "/api/v1/jobs/default/a", "")
		p := got.problem(t)
		if got.Code != c.want || strings.Contains(p.Detail, "10.0.0.9") != c.tell {
			t.Errorf("%v: %d %s", c.err, got.Code, got.text)
		}
		if c.want == 503 && got.Header().Get("Retry-After") != "1" {
			t.Errorf("%v: no Retry-After", c.err)
		}
		if !c.tell && !strings.Contains(log.String(), "10.0.0.9") {
			t.Errorf("%v: told neither to the caller nor to the log", c.err)
		}
	}
}

// TestNothingSecretIsLogged puts a canary wherever callers can put text.
func TestNothingSecretIsLogged(t *testing.T) {
	t.Parallel()
	const canary = "CANARY-0123456789abcdef"
	var log logBuffer
	f := newFake()
	tokens, err := ParseTokens("ola:operator:" + canary)
	if err != nil {
		t.Fatal(err)
	}
	h := newAPI(t, Options{Store: f, Tokens: tokens, Log: log.logger()})
	send := func(method, target, body string, authorization string) {
		r := request(method, target, body)
		r.Header.Set("Authorization", authorization)
		r.Header.Set("User-Agent", canary)
		r.Header.Set("Cookie", canary)
		got := do(h, r)
		if strings.Contains(got.text, canary) || strings.Contains(fmt.Sprint(got.Header()), canary) {
			t.Errorf("%s %s answers %d with the secret: %s", method, target, got.Code, got.text)
		}
	}
	bearer := "Bearer " + canary
	send("POST", "/api/v1/jobs", `{"kind":"order.fulfil","key":"a","payload":{"note":"`+canary+`"},"headers":{"x":"`+canary+`"}}`, bearer)
	send("POST", "/api/v1/jobs", `{"kind":"order.fulfil","key":"a","payload":{"note":"other `+canary+`"}}`, bearer)
	send("POST", "/api/v1/jobs", `{"kind":"order.fulfil","key":"b","payload":{"amount":"`+canary+`"}}`, bearer)
	send("POST", "/api/v1/jobs", `{"kind":"order.fulfil","key":"b","payload":"`+canary+`"}`, bearer)
	send("POST", "/api/v1/jobs", `{"kind":"order.fulfil","key":"b","payload":{"note":"`+canary, bearer)
	send("POST", "/api/v1/jobs", `{"kind":["`+canary+`"]}`, bearer)
	send("POST", "/api/v1/jobs/orders/a/cancel", `{"reason":"`+canary+`"}`, bearer)
	send("GET", "/api/v1/jobs/orders/a", "", bearer)
	send("GET", "/api/v1/jobs", "", "Bearer x"+canary)
	send("GET", "/"+canary, "", bearer)
	send("GET", "/api/v1/version?token="+canary, "", bearer)
	f.fail = errors.New("broken")
	send("GET", "/api/v1/jobs/orders/a", "", bearer)
	if strings.Contains(log.String(), canary) {
		t.Errorf("the log has the secret: %s", log.String())
	}
	if !strings.Contains(log.String(), `"actor":"ola"`) || !strings.Contains(log.String(), `"key":"a"`) {
		t.Errorf("the log does not say who did what: %s", log.String())
	}
}
