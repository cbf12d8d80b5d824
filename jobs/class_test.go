package jobs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// requireClass checks class and rule of an error, bare and in the wrappings that
// handlers and steps put around it.
func requireClass(t testing.TB, err error, class jobs.Class, rule string) {
	t.Helper()
	for _, wrapped := range []error{
		err,
		fmt.Errorf("charge: %w", fmt.Errorf("call: %w", err)),
		&jobs.StepError{Step: "charge", Err: err},
		errors.Join(errors.New("another"), err),
	} {
		c := jobs.Classify(wrapped)
		if c.Class != class || c.Rule != rule {
			t.Errorf("%T %v: %s by %q, want %s by %q", wrapped, wrapped, c.Class, c.Rule, class, rule)
		}
	}
	if got := jobs.Classify(&jobs.StepError{Step: "charge", Err: err}).Step; got != "charge" {
		t.Errorf("step %q, want charge", got)
	}
}

type validated struct{ N int }

func (v validated) Validate() error {
	if v.N < 0 {
		return errors.New("n is negative")
	}
	return nil
}

type sqlError struct{ code, text string }

func (e *sqlError) Error() string    { return e.text }
func (e *sqlError) SQLState() string { return e.code }

// brokenError is what a method on a nil pointer does: it panics.
type brokenError struct{ inner error }

func (e *brokenError) Error() string { return e.inner.Error() }
func (e *brokenError) Unwrap() error { return e.inner }

func TestClassify(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	unavailable := &jobs.HTTPError{Status: 503}
	run := func(fn func(context.Context, int) (int, error)) error {
		_, err := jobs.Define[int, int]("k").Do(fn).Run(t.Context(), []byte("1"))
		return err
	}
	var broken *brokenError
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	expired, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	_, notFinite := json.Marshal(math.NaN())
	//lint:ignore SA1026 the error is what is wanted
	_, notJSON := json.Marshal(make(chan int))

	tests := []struct {
		name  string
		err   error
		class jobs.Class
		rule  string
	}{
		{"anything", boom, jobs.ClassUnknown, "no rule matched"},
		{"permanent", jobs.Permanent(boom), jobs.ClassInvalid, "permanent"},
		{"permanent, no error", jobs.Permanent(nil), jobs.ClassInvalid, "permanent"},
		{"retry after", jobs.RetryAfter(time.Minute, boom), jobs.ClassThrottled, "retry after"},
		{"pause", jobs.Pause("payments", boom), jobs.ClassUnavailable, "pause on payments"},
		{"with class", jobs.WithClass(jobs.ClassDenied, boom), jobs.ClassDenied, "class given by the handler"},
		{"the author overrules the status", jobs.Permanent(unavailable), jobs.ClassInvalid, "permanent"},
		{"the outermost override counts", jobs.WithClass(jobs.ClassTransient, fmt.Errorf("x: %w", jobs.Permanent(boom))), jobs.ClassTransient, "class given by the handler"},

		{"panic", run(func(context.Context, int) (int, error) { panic("boom") }), jobs.ClassPanic, "panic"},
		{"panic with an error", run(func(context.Context, int) (int, error) { panic(unavailable) }), jobs.ClassPanic, "panic"},
		{"panic with nil", run(func(context.Context, int) (int, error) { panic(nil) }), jobs.ClassPanic, "panic"},
		{"panic of the runtime", run(func(_ context.Context, n int) (int, error) { return []int{}[n], nil }), jobs.ClassPanic, "panic"},
		{"panic with an override", run(func(context.Context, int) (int, error) { panic(jobs.Permanent(boom)) }), jobs.ClassInvalid, "permanent"},

		{"redis", jobs.ErrUnavailable, jobs.ClassUnavailable, "redis cannot be reached"},
		{"redis, by a timeout", fmt.Errorf("%w: %w", jobs.ErrUnavailable, context.DeadlineExceeded), jobs.ClassUnavailable, "redis cannot be reached"},

		{"context deadline", expired.Err(), jobs.ClassTimeout, "context deadline"},
		{"context cancelled", cancelled.Err(), jobs.ClassTransient, "context cancelled"},

		{"json syntax", json.Unmarshal([]byte(`{"a":`), new(any)), jobs.ClassInvalid, "json"},
		{"json type", json.Unmarshal([]byte(`{"a":"x"}`), &struct{ A int }{}), jobs.ClassInvalid, "json"},
		{"json of a channel", notJSON, jobs.ClassInvalid, "json"},
		{"json of NaN", notFinite, jobs.ClassInvalid, "json"},
		{"json cut short", json.NewDecoder(strings.NewReader(`{"a":`)).Decode(new(any)), jobs.ClassTransient, "reply cut short"},

		{"invalid", jobs.ErrInvalid, jobs.ClassInvalid, "validation"},
		{"invalid name", jobs.CheckKey(""), jobs.ClassInvalid, "validation"},
		{"payload that does not decode", jobs.Define[int, int]("k").Do(nil).Check([]byte(`"x"`)), jobs.ClassInvalid, "payload"},
		{"payload that is refused", jobs.Define[validated, int]("k").Do(nil).Check([]byte(`{"N":-1}`)), jobs.ClassInvalid, "payload"},

		{"sqlstate, serialization failure", &sqlError{"40001", "could not serialize access"}, jobs.ClassTransient, "sqlstate 40001"},
		{"sqlstate, deadlock", &sqlError{"40P01", "deadlock detected"}, jobs.ClassTransient, "sqlstate 40P01"},
		{"sqlstate, connection failure", &sqlError{"08006", "connection failure"}, jobs.ClassUnavailable, "sqlstate 08006"},
		{"sqlstate, shutdown", &sqlError{"57P01", "terminating connection"}, jobs.ClassUnavailable, "sqlstate 57P01"},
		{"sqlstate, query cancelled", &sqlError{"57014", "canceling statement"}, jobs.ClassUnknown, "no rule matched"},
		{"sqlstate, unique", &sqlError{"23505", "duplicate key"}, jobs.ClassUnknown, "no rule matched"},
		{"sqlstate, none", &sqlError{"", "?"}, jobs.ClassUnknown, "no rule matched"},
		{"deadlock by its text", errors.New("Error 1213 (40001): Deadlock found when trying to get lock"), jobs.ClassTransient, "deadlock"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.err == nil {
				t.Fatal("no error was produced")
			}
			requireClass(t, test.err, test.class, test.rule)
		})
	}

	t.Run("nil", func(t *testing.T) {
		t.Parallel()
		if c := jobs.Classify(nil); c.Class != jobs.ClassUnknown || c.Step != "" {
			t.Errorf("got %+v", c)
		}
	})
	t.Run("an error whose methods panic", func(t *testing.T) {
		t.Parallel()
		failure, c := jobs.NewFailure(broken, time.Now(), "host:1", 1)
		if c.Class != jobs.ClassUnknown || c.Rule == "" || failure.Message == "" {
			t.Errorf("got %+v, %+v", failure, c)
		}
		if got := run(func(context.Context, int) (int, error) { panic(broken) }); jobs.Classify(got).Class == "" {
			t.Error("no class")
		}
	})
}

func TestClassifyDetails(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	tests := []struct {
		name string
		err  error
		want jobs.Classification
	}{
		{"wait", jobs.RetryAfter(time.Minute, boom), jobs.Classification{Class: jobs.ClassThrottled, Rule: "retry after", Wait: time.Minute}},
		{"service", jobs.Pause("payments", boom), jobs.Classification{Class: jobs.ClassUnavailable, Rule: "pause on payments", On: "payments"}},
		{"status with a wait", &jobs.HTTPError{Status: 429, RetryAfter: time.Second}, jobs.Classification{Class: jobs.ClassThrottled, Rule: "http 429 with Retry-After", Wait: time.Second}},
		{"outermost step", &jobs.StepError{Step: "outer", Err: &jobs.StepError{Step: "inner", Err: boom}}, jobs.Classification{Class: jobs.ClassUnknown, Rule: "no rule matched", Step: "outer"}},
		{"override inside a step", &jobs.StepError{Step: "s", Err: jobs.Permanent(boom)}, jobs.Classification{Class: jobs.ClassInvalid, Rule: "permanent", Step: "s"}},
	}
	for _, test := range tests {
		if got := jobs.Classify(test.err); got != test.want {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestOverridesKeepTheError(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for rule, wrap := range map[string]func(error) error{
		"permanent":                  jobs.Permanent,
		"retry after":                func(err error) error { return jobs.RetryAfter(1, err) },
		"pause on s":                 func(err error) error { return jobs.Pause("s", err) },
		"class given by the handler": func(err error) error { return jobs.WithClass(jobs.ClassDenied, err) },
	} {
		if err := wrap(boom); !errors.Is(err, boom) || err.Error() != "boom" {
			t.Errorf("%s: %v does not stand for its error", rule, err)
		}
		if err := wrap(nil); err == nil || err.Error() != rule {
			t.Errorf("%s: without an error the text is %v", rule, err)
		}
	}
	if err := jobs.CancelJob("not wanted"); !errors.Is(err, jobs.ErrCancelled) || !strings.Contains(err.Error(), "not wanted") {
		t.Errorf("got %v", err)
	}
}

// statusServer answers /<status>, with the Retry-After header that it is asked for.
func statusServer(t *testing.T) func(status int, retryAfter string) error {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var code int
		fmt.Sscanf(r.URL.Path, "/%d", &code)
		if after := r.Header.Get("X-Retry-After"); after != "" {
			w.Header().Set("Retry-After", after)
		}
		w.WriteHeader(code)
	}))
	t.Cleanup(server.Close)
	client := server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return func(code int, retryAfter string) error {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("%s/%d?token=s3cret#f", server.URL, code), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Retry-After", retryAfter)
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return jobs.CheckResponse(response)
	}
}

func TestClassifyHTTP(t *testing.T) {
	t.Parallel()
	get := statusServer(t)
	special := map[int]jobs.Class{
		401: jobs.ClassDenied, 403: jobs.ClassDenied, 407: jobs.ClassDenied,
		408: jobs.ClassTimeout,
		409: jobs.ClassTransient, 425: jobs.ClassTransient,
		429: jobs.ClassThrottled,
		502: jobs.ClassUnavailable, 503: jobs.ClassUnavailable, 504: jobs.ClassUnavailable,
	}
	for code := 200; code < 600; code++ {
		want, ok := special[code]
		switch {
		case ok:
		case code < 300:
			if err := get(code, ""); err != nil {
				t.Errorf("%d is a failure: %v", code, err)
			}
			continue
		case code < 400:
			want = jobs.ClassUnknown
		case code < 500:
			want = jobs.ClassInvalid
		default:
			want = jobs.ClassTransient
		}
		rule := fmt.Sprintf("http %d", code)
		err := get(code, "")
		requireClass(t, err, want, rule)
		var failure *jobs.HTTPError
		if !errors.As(err, &failure) || failure.Status != code || !strings.HasSuffix(failure.URL, fmt.Sprint("/", code)) {
			t.Errorf("%d: got %#v", code, failure)
		}
		if code >= 400 {
			want, rule = jobs.ClassThrottled, rule+" with Retry-After"
		}
		err = get(code, "7")
		requireClass(t, err, want, rule)
		if wait := jobs.Classify(err).Wait; wait != 7*time.Second {
			t.Errorf("%d: wait %v, want 7s", code, wait)
		}
	}
}

func TestHTTPErrorText(t *testing.T) {
	t.Parallel()
	err := statusServer(t)(503, "")
	if text := err.Error(); !strings.HasPrefix(text, "http status 503 Service Unavailable from http://127.0.0.1:") || !strings.HasSuffix(text, "/503") {
		t.Errorf("got %q", text)
	}
	for _, response := range []*http.Response{{StatusCode: 599}, {StatusCode: 599, Request: &http.Request{}}} {
		if text := jobs.CheckResponse(response).Error(); !strings.HasPrefix(text, "http status 599") {
			t.Errorf("got %q", text)
		}
	}
}

func TestParseRetryAfter(t *testing.T) {
	t.Parallel()
	tests := []struct {
		value       string
		least, most time.Duration
	}{
		{"", 0, 0},
		{"0", 0, 0},
		{"120", 2 * time.Minute, 2 * time.Minute},
		{" 120 ", 2 * time.Minute, 2 * time.Minute},
		{"-5", 0, 0},
		{"1.5", 0, 0},
		{"soon", 0, 0},
		{"86400", 24 * time.Hour, 24 * time.Hour},
		{"86401", 24 * time.Hour, 24 * time.Hour},
		{"4294967296", 24 * time.Hour, 24 * time.Hour},           // over 32 bits
		{"9223372036854775807", 24 * time.Hour, 24 * time.Hour},  // overflows a Duration
		{"99999999999999999999", 24 * time.Hour, 24 * time.Hour}, // over 64 bits
		{"-99999999999999999999", 0, 0},
		{time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat), time.Second, 90 * time.Second},
		{time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat), 0, 0},
		{"Fri, 31 Dec 9999 23:59:59 GMT", 24 * time.Hour, 24 * time.Hour},
		{" Fri, 31 Dec 9999 23:59:59 GMT ", 24 * time.Hour, 24 * time.Hour},
		{"Fri, 31 Dec 9999", 0, 0},
	}
	for _, test := range tests {
		if got := jobs.ParseRetryAfter(http.Header{"Retry-After": {test.value}}); got < test.least || got > test.most {
			t.Errorf("%q: %v is not from %v to %v", test.value, got, test.least, test.most)
		}
	}
}

func TestRetryAfterCountsFromTheDateOfTheReply(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{-25 * time.Hour, 0, 25 * time.Hour} {
		sent := time.Now().Add(off)
		header := http.Header{"Date": {sent.UTC().Format(http.TimeFormat)}, "Retry-After": {sent.Add(time.Minute).UTC().Format(http.TimeFormat)}}
		if got := jobs.ParseRetryAfter(header); got != time.Minute {
			t.Errorf("clock off by %v: wait %v", off, got)
		}
	}
}

func FuzzParseRetryAfter(f *testing.F) {
	f.Add("120")
	f.Add("Fri, 31 Dec 9999 23:59:59 GMT")
	f.Add("99999999999999999999")
	f.Fuzz(func(t *testing.T, value string) {
		if got := jobs.ParseRetryAfter(http.Header{"Retry-After": {value}}); got < 0 || got > 24*time.Hour {
			t.Errorf("%q: %v", value, got)
		}
	})
}

func TestClassifyGRPC(t *testing.T) {
	t.Parallel()
	want := map[codes.Code]jobs.Class{
		codes.Canceled:           jobs.ClassTransient,
		codes.Unknown:            jobs.ClassUnknown,
		codes.InvalidArgument:    jobs.ClassInvalid,
		codes.DeadlineExceeded:   jobs.ClassTimeout,
		codes.NotFound:           jobs.ClassInvalid,
		codes.AlreadyExists:      jobs.ClassInvalid,
		codes.PermissionDenied:   jobs.ClassDenied,
		codes.ResourceExhausted:  jobs.ClassThrottled,
		codes.FailedPrecondition: jobs.ClassInvalid,
		codes.Aborted:            jobs.ClassTransient,
		codes.OutOfRange:         jobs.ClassInvalid,
		codes.Unimplemented:      jobs.ClassInvalid,
		codes.Internal:           jobs.ClassTransient,
		codes.Unavailable:        jobs.ClassUnavailable,
		codes.DataLoss:           jobs.ClassTransient,
		codes.Unauthenticated:    jobs.ClassDenied,
		codes.Code(99):           jobs.ClassUnknown,
	}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		if _, ok := want[code]; !ok {
			t.Errorf("no row for %v", code)
		}
	}

	// A real server and client: the method's name says the code to answer with.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		var code int
		fmt.Sscanf(method, "/test/%d", &code)
		return status.Error(codes.Code(code), "asked for")
	}))
	go func() { _ = server.Serve(listener) }()
	connection, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	invoke := func(code codes.Code) error {
		return connection.Invoke(t.Context(), fmt.Sprintf("/test/%d", code), &emptypb.Empty{}, &emptypb.Empty{})
	}
	for code, class := range want {
		requireClass(t, status.Error(code, "made here"), class, "grpc "+code.String())
		requireClass(t, invoke(code), class, "grpc "+code.String())
	}
	server.Stop()
	requireClass(t, invoke(codes.OK), jobs.ClassUnavailable, "grpc Unavailable")
	if err := connection.Close(); err != nil {
		t.Error(err)
	}
}

func TestStdlibErrorsThatAreNoFailureOfTheNetwork(t *testing.T) {
	t.Parallel()
	for _, err := range []error{io.ErrShortWrite, net.ErrClosed, http.ErrNoCookie} {
		requireClass(t, err, jobs.ClassUnknown, "no rule matched")
	}
}

func TestCheckClass(t *testing.T) {
	t.Parallel()
	if err := jobs.CheckClass(jobs.ClassTimeout); err != nil {
		t.Error(err)
	}
	for _, c := range []jobs.Class{"", "odd", "Timeout"} {
		var bad *jobs.InvalidError
		if err := jobs.CheckClass(c); !errors.As(err, &bad) || bad.Field != "class" || !strings.Contains(bad.Bound, "timeout, transient") {
			t.Errorf("%q: %v", c, err)
		}
	}
}
