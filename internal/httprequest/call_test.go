package httprequest

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
)

// seen is a call as the server saw it.
type seen struct {
	method, uri, body string
	header            http.Header
}

// record returns a server that answers ok and hands over what it saw.
func record(t *testing.T) (*httptest.Server, chan seen) {
	t.Helper()
	calls := make(chan seen, 10)
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls <- seen{r.Method, r.RequestURI, string(body), r.Header}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"ok":true}`)
	}), calls
}

func TestCall(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	server, calls := record(t)
	c, a := newTestCaller(t, Options{AllowLoopback: true, SecretNames: []string{"TOKEN"}, Secrets: env(map[string]string{"TOKEN": "Bearer t"})}), newAttempt()
	a.about.Headers = map[string]string{"traceparent": parent}
	r := Request{URL: server.URL + "/a?b=c", Headers: map[string]string{"authorization": "env:TOKEN", "X-Plain": "p"}, Body: json.RawMessage(`{"n":1}`)}
	response, err := run(t, t.Context(), c, a, r)
	if err != nil {
		t.Fatal(err)
	}
	if response.Status != 200 || string(response.Body) != `{"ok":true}` || response.Truncated || response.Headers["content-type"] != "application/json" || len(response.Headers) != 1 {
		t.Errorf("response %+v", response)
	}
	got := <-calls
	if got.method != "POST" || got.uri != "/a?b=c" || got.body != `{"n":1}` {
		t.Errorf("server saw %+v", got)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "User-Agent": "perdure", "Authorization": "Bearer t", "X-Plain": "p", "Traceparent": parent,
		"Idempotency-Key": idempotencyKey(t, a), "Accept-Encoding": "", "Webhook-Id": "", "Webhook-Signature": "",
	} {
		if got.header.Get(name) != want {
			t.Errorf("header %s is %q, want %q", name, got.header.Get(name), want)
		}
	}

	again, err := run(t, t.Context(), c, a.again(), r)
	if err != nil || again.Status != 200 || string(again.Body) != `{"ok":true}` || again.DurationMS != response.DurationMS {
		t.Errorf("second execution: %+v, %v", again, err)
	}
	if len(calls) != 0 {
		t.Error("a recorded call was made again")
	}
}

// idempotencyKey is the key of the request step, as another step function sees it.
func idempotencyKey(t *testing.T, a *attempt) string {
	t.Helper()
	other := newAttempt()
	other.about = a.about
	key, err := jobs.Step(jobs.WithAttempt(t.Context(), other), "request", func(ctx context.Context) (string, error) {
		return jobs.IdempotencyKey(ctx), nil
	})
	if err != nil || key == "" {
		t.Fatalf("key %q: %v", key, err)
	}
	return key
}

func TestBodies(t *testing.T) {
	server, calls := record(t)
	for _, test := range []struct {
		request           Request
		body, contentType string
	}{
		{Request{}, "", ""},
		{Request{Body: json.RawMessage("null")}, "", ""},
		{Request{Body: json.RawMessage(`[1,"a"]`)}, `[1,"a"]`, "application/json"},
		{Request{BodyText: "a=b"}, "a=b", "text/plain; charset=utf-8"},
		{Request{BodyText: "a=b", Headers: map[string]string{"content-type": "application/x-www-form-urlencoded"}}, "a=b", "application/x-www-form-urlencoded"},
		{Request{Method: "GET", Headers: map[string]string{"User-Agent": "mine"}}, "", ""},
	} {
		test.request.URL = server.URL
		if _, err := try(t, Options{}, test.request); err != nil {
			t.Fatal(err)
		}
		if got := <-calls; got.body != test.body || got.header.Get("Content-Type") != test.contentType {
			t.Errorf("%+v: server saw %+v", test.request, got)
		}
	}
}

func TestSignedCall(t *testing.T) {
	server, calls := record(t)
	o := Options{SecretNames: []string{"KEY"}, Secrets: env(map[string]string{"KEY": "whsec_" + base64.StdEncoding.EncodeToString([]byte("a key of the receiver"))})}
	before := time.Now().Unix()
	if _, err := try(t, o, Request{URL: server.URL, Body: json.RawMessage(`{"n":1}`), Secret: "env:KEY"}); err != nil {
		t.Fatal(err)
	}
	got := <-calls
	id, at := got.header.Get("webhook-id"), got.header.Get("webhook-timestamp")
	if seconds, err := strconv.ParseInt(at, 10, 64); err != nil || seconds < before || seconds > time.Now().Unix() {
		t.Errorf("timestamp %q", at)
	}
	if id == "" || id != got.header.Get("idempotency-key") || strings.Contains(id, ".") {
		t.Errorf("id %q", id)
	}
	mac := hmac.New(sha256.New, []byte("a key of the receiver"))
	mac.Write([]byte(id + "." + at + "." + got.body))
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); got.header.Get("webhook-signature") != want {
		t.Errorf("signature %q, want %q", got.header.Get("webhook-signature"), want)
	}
}

func TestReferencesThatCannotBeUsed(t *testing.T) {
	server, calls := record(t)
	o := Options{SecretNames: []string{"UNSET"}, Secrets: env(map[string]string{"OTHER": canary})}
	for _, r := range []Request{
		{Secret: "env:UNSET"}, {Secret: "env:OTHER"},
		{Headers: map[string]string{"X-A": "env:UNSET"}}, {Headers: map[string]string{"X-A": "env:OTHER"}},
	} {
		r.URL = server.URL
		_, err := try(t, o, r)
		if jobs.Classify(err).Rule != "permanent" || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), r.Secret+r.Headers["X-A"]) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if len(calls) != 0 {
		t.Error("a call was made")
	}
}

func TestBadTraceParentIsNotSent(t *testing.T) {
	server, calls := record(t)
	a := newAttempt()
	a.about.Headers = map[string]string{"traceparent": "00-x\r\nX-Evil: 1"}
	if _, err := run(t, t.Context(), newTestCaller(t, Options{AllowLoopback: true}), a, Request{URL: server.URL}); err != nil {
		t.Fatal(err)
	}
	if got := <-calls; got.header.Get("Traceparent") != "" || got.header.Get("X-Evil") != "" {
		t.Errorf("server saw %v", got.header)
	}
}

func TestStatusClasses(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		if wait := r.URL.Query().Get("wait"); wait != "" {
			w.Header().Set("Retry-After", wait)
		}
		if status >= 300 && status < 400 {
			w.Header().Set("Location", r.URL.Query().Get("location"))
		}
		w.WriteHeader(status)
	})
	for _, test := range []struct {
		query, success string
		class          jobs.Class // empty: no error
		wait           time.Duration
		text           string
	}{
		{"status=200", "", "", 0, ""},
		{"status=204", "", "", 0, ""},
		{"status=409", "200-204,409", "", 0, ""},
		{"status=500", "5xx", "", 0, ""},
		{"status=200", "204", jobs.ClassUnknown, 0, "status is not one of success"},
		{"status=301&location=/x", "", jobs.ClassUnknown, 0, "redirects are not followed"},
		{"status=302&location=http://169.254.169.254/", "", jobs.ClassUnknown, 0, "redirects are not followed"},
		{"status=302&location=%25zz", "", jobs.ClassUnknown, 0, "redirects are not followed"},
		{"status=307&location=/x", "3xx", "", 0, ""},
		{"status=400", "", jobs.ClassInvalid, 0, "http status 400"},
		{"status=401", "", jobs.ClassDenied, 0, ""},
		{"status=404", "", jobs.ClassInvalid, 0, ""},
		{"status=408", "", jobs.ClassTimeout, 0, ""},
		{"status=409", "", jobs.ClassTransient, 0, ""},
		{"status=429", "", jobs.ClassThrottled, 0, ""},
		{"status=429&wait=7", "", jobs.ClassThrottled, 7 * time.Second, ""},
		{"status=429&wait=999999", "", jobs.ClassThrottled, 24 * time.Hour, ""},
		{"status=429&wait=soon", "", jobs.ClassThrottled, 0, ""},
		{"status=500", "", jobs.ClassTransient, 0, ""},
		{"status=503", "", jobs.ClassUnavailable, 0, ""},
		{"status=503&wait=30", "", jobs.ClassThrottled, 30 * time.Second, ""},
	} {
		response, err := try(t, Options{}, Request{URL: server.URL + "/?" + test.query, Success: test.success})
		if test.class == "" {
			if err != nil || !strings.Contains(test.query, strconv.Itoa(response.Status)) {
				t.Errorf("%s: %+v, %v", test.query, response, err)
			}
			continue
		}
		var status *jobs.HTTPError
		if c := jobs.Classify(err); !errors.As(err, &status) || c.Class != test.class || c.Wait != test.wait || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %+v, %v", test.query, c, err)
		}
	}
}

func TestRedirectIsKeptWhenItIsSuccess(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			t.Error("the redirect was followed")
		}
		http.Redirect(w, r, "/next", http.StatusSeeOther)
	})
	response, err := try(t, Options{}, Request{URL: server.URL, Success: "303"})
	if err != nil || response.Headers["location"] != "/next" {
		t.Errorf("%+v, %v", response, err)
	}
}

func TestStoredBody(t *testing.T) {
	deep := strings.Repeat("[", 9990) + strings.Repeat("]", 9990)
	big := strings.Repeat("x", maxReceived)
	for _, test := range []struct {
		name, body, want string
		truncated        bool
	}{
		{"empty", "", "", false},
		{"json", `{"a": [1, 2]}`, `{"a":[1,2]}`, false},
		{"json string", `"a"`, `"a"`, false},
		{"null", "null", "null", false},
		{"text", "hello", `"hello"`, false},
		{"two values", "1],[2", `"1],[2"`, false},
		{"not utf-8", "a\xff\xfeb", `"a` + "\uFFFD" + `b"`, false},
		{"not utf-8 in json", "\"a\xff\"", `"\"a` + "\uFFFD" + `\""`, false},
		{"control", "\x00\x1b", `"\u0000\u001b"`, false},
		{"deep json", deep, `"` + deep + `"`, false},
		{"full", big, `"` + big + `"`, false},
		{"full json", `"` + big[2:] + `"`, `"` + big[2:] + `"`, false},
		{"too long", big + "y", `"` + big + `"`, true},
		{"too long json", `"` + big + `"`, `"\"` + big[1:] + `"`, true},
		{"all control", strings.Repeat("\x01", maxReceived+1), `"` + strings.Repeat(`\u0001`, maxReceived) + `"`, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, test.body) })
			response, err := try(t, Options{}, Request{URL: server.URL})
			if err != nil || string(response.Body) != test.want || response.Truncated != test.truncated {
				t.Errorf("%.80s, truncated %v, %v; want %.80s", response.Body, response.Truncated, err, test.want)
			}
		})
	}
}

func TestEndlessBodyIsCut(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	})
	response, err := try(t, Options{}, Request{URL: server.URL})
	if err != nil || !response.Truncated {
		t.Errorf("truncated %v, %v", response.Truncated, err)
	}
}

func TestKeptHeaders(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Request-Id", "r1")
		w.Header().Set("Retry-After", strings.Repeat("9", maxKept+1))
		w.Header().Set("Set-Cookie", canary)
		w.Header().Set("Content-Type", "text/x\xff")
	})
	response, err := try(t, Options{}, Request{URL: server.URL, Method: "HEAD"})
	if err != nil || len(response.Headers) != 2 || response.Headers["x-request-id"] != "r1" || response.Headers["content-type"] != "text/x\uFFFD" || response.Body != nil {
		t.Errorf("%+v, %v", response, err)
	}
}

// raw returns a server that answers each call with these bytes and hangs up.
func raw(t *testing.T, reply string) *httptest.Server {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(conn, reply)
		conn.Close()
	})
}

func TestBrokenReplies(t *testing.T) {
	for _, test := range []struct {
		name, reply string
		class       jobs.Class
	}{
		{"half body", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + canary, jobs.ClassTransient},
		{"half chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n" + canary, jobs.ClassTransient},
		{"half header", "HTTP/1.1 200 OK\r\nX-A: " + canary, jobs.ClassTransient},
		{"nothing", "", jobs.ClassUnavailable},
		{"not http", canary + " " + canary + "\r\n\r\n", jobs.ClassUnknown},
		{"bad status", "HTTP/1.1 " + canary + "\r\n\r\n", jobs.ClassUnknown},
		{"bad header", "HTTP/1.1 200 OK\r\n" + canary + "\r\n\r\n", jobs.ClassUnknown},
		{"bad length", "HTTP/1.1 200 OK\r\nContent-Length: " + canary + "\r\n\r\n", jobs.ClassUnknown},
		{"bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + canary + "\r\n", jobs.ClassUnknown},
		{"big headers", "HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat(canary, 20_000) + "\r\n\r\n", jobs.ClassUnknown},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := try(t, Options{}, Request{URL: raw(t, test.reply).URL, Method: "GET"})
			if c := jobs.Classify(err); err == nil || c.Class != test.class || c.Step != "request" {
				t.Errorf("%+v, %v", c, err)
			}
			if err != nil && strings.Contains(err.Error(), canary) {
				t.Errorf("message %q quotes the reply", err)
			}
		})
	}
}

func TestHangingServer(t *testing.T) {
	end := make(chan struct{})
	for name, begin := range map[string]func(http.ResponseWriter){
		"before the headers": func(http.ResponseWriter) {},
		"in the body": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "half")
			http.NewResponseController(w).Flush()
		},
	} {
		server := serve(t, func(w http.ResponseWriter, _ *http.Request) { begin(w); <-end })
		_, err := try(t, Options{}, Request{URL: server.URL, Timeout: "100ms"})
		if c := jobs.Classify(err); c.Class != jobs.ClassTimeout || err == nil || !strings.HasSuffix(err.Error(), "no complete reply within 100ms: context deadline exceeded") {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	close(end)
}

func TestWorkerStops(t *testing.T) {
	arrived, end := make(chan struct{}), make(chan struct{})
	server := serve(t, func(http.ResponseWriter, *http.Request) { close(arrived); <-end })
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-arrived; cancel(jobs.ErrShutdown) }()
	_, err := run(t, ctx, newTestCaller(t, Options{AllowLoopback: true}), newAttempt(), Request{URL: server.URL})
	close(end)
	if !errors.Is(err, jobs.ErrShutdown) {
		t.Errorf("got %v", err)
	}
}

func TestNobodyListens(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	_, err := try(t, Options{}, Request{URL: server.URL})
	if c := jobs.Classify(err); c.Class != jobs.ClassUnavailable || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestOutsideOfAJob(t *testing.T) {
	_, err := newTestCaller(t, Options{}).handler().Run(t.Context(), []byte(`{"url":"http://example.com"}`))
	if !errors.Is(err, jobs.ErrNoJob) {
		t.Errorf("got %v", err)
	}
}

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%d", r.ProtoMajor) }))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = quiet()
	server.StartTLS()
	t.Cleanup(server.Close)

	_, err := try(t, Options{}, Request{URL: server.URL + "/?q=" + canary})
	if c := jobs.Classify(err); c.Class != jobs.ClassDenied || strings.Contains(err.Error(), canary) {
		t.Errorf("unknown authority: %+v, %v", c, err)
	}

	c := newTestCaller(t, Options{AllowLoopback: true})
	c.transport.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
	c.transport.TLSClientConfig.RootCAs.AddCert(server.Certificate())
	response, err := run(t, t.Context(), c, newAttempt(), Request{URL: server.URL})
	if err != nil || string(response.Body) != "2" {
		t.Errorf("protocol %s, %v", response.Body, err)
	}
}

// Whatever goes wrong, what is stored of it holds no data of the call.
func TestFailuresHoldNoSecrets(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	end := make(chan struct{})
	secure := httptest.NewUnstartedServer(nil)
	secure.Config.ErrorLog = quiet()
	secure.StartTLS()
	t.Cleanup(secure.Close)
	servers := map[string]string{
		"closed": closed.URL,
		"tls":    secure.URL,
		"hangs":  serve(t, func(http.ResponseWriter, *http.Request) { <-end }).URL,
		"echoes": serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/"+canary)
			w.Header().Set("X-Request-Id", canary)
			w.Header().Set("Retry-After", canary)
			w.WriteHeader(http.StatusFound)
			io.Copy(w, r.Body)
		}).URL,
		"garbage":    raw(t, canary+"\r\n\r\n").URL,
		"bad header": raw(t, "HTTP/1.1 200 OK\r\nX "+canary+"\r\n\r\n").URL,
		"private":    "http://10.0.0.1",
		"no name":    "http://name.invalid",
	}
	values := map[string]string{"KEY": "whsec_" + base64.StdEncoding.EncodeToString([]byte(canary)), "TOKEN": canary, "BAD": "whsec_" + canary + "!", "LINE": canary + "\n"}
	o := Options{SecretNames: []string{"KEY", "TOKEN", "BAD", "LINE"}, Secrets: env(values)}
	request := func(url, key, token string) Request {
		return Request{
			URL: url + "/" + canary + "?token=" + canary, Body: json.RawMessage(`{"a":"` + canary + `"}`), Timeout: "500ms",
			Headers: map[string]string{"Authorization": token, "X-Plain": canary}, Secret: key,
		}
	}
	for name, url := range servers {
		_, err := try(t, o, request(url, "env:KEY", "env:TOKEN"))
		checkNoSecrets(t, name, err, values["KEY"])
	}
	close(end)
	_, err := try(t, o, request(closed.URL, "env:BAD", "env:TOKEN"))
	checkNoSecrets(t, "bad key", err, values["KEY"])
	_, err = try(t, o, request(closed.URL, "env:KEY", "env:LINE"))
	checkNoSecrets(t, "bad token", err, values["KEY"])
	_, err = try(t, o, request(closed.URL, canary, canary))
	checkNoSecrets(t, "not a reference", err, values["KEY"])
}

func checkNoSecrets(t *testing.T, name string, err error, key string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", name)
		return
	}
	failure, _ := jobs.NewFailure(err, time.Now(), "host:1", 1)
	stored, encodeErr := json.Marshal(failure)
	if encodeErr != nil {
		t.Fatal(encodeErr)
	}
	for _, text := range []string{err.Error(), fmt.Sprintf("%v %+v", err, failure), string(stored)} {
		if strings.Contains(text, canary) || strings.Contains(text, key) {
			t.Errorf("%s: %s", name, text)
		}
	}
}
