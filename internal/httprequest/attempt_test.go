package httprequest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/perdure/perdure/jobs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// attempt runs a job in memory.
type attempt struct {
	about jobs.About

	mu      sync.Mutex
	entered map[string]bool
	called  []string // services
	outputs map[string][]byte
}

func newAttempt() *attempt {
	return &attempt{
		about:   jobs.About{Queue: "default", Key: "call:1", Kind: "http.request", Incarnation: "i1", Attempt: 1},
		entered: map[string]bool{}, outputs: map[string][]byte{},
	}
}

// again is the next execution of the same job.
func (a *attempt) again() *attempt {
	next := newAttempt()
	next.outputs, next.about.Attempt = a.outputs, a.about.Attempt+1
	return next
}

func (a *attempt) About() jobs.About { return a.about }

func (a *attempt) Definition() jobs.Definition { return Kind.Definition() }

func (a *attempt) Enter(step string) ([]byte, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.entered[step] {
		return nil, false, jobs.ErrDuplicateStep
	}
	a.entered[step] = true
	output, ok := a.outputs[step]
	return output, ok, nil
}

func (a *attempt) Commit(_ context.Context, step string, output []byte, _ time.Time, _ bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.outputs[step] = output
	return nil
}

func (a *attempt) Progress(string) []byte { return nil }

func (a *attempt) SaveProgress(context.Context, string, []byte) error { return nil }

func (a *attempt) Await(context.Context, jobs.Wait) ([]byte, bool, error) {
	return nil, false, errors.ErrUnsupported
}

func (a *attempt) Children(context.Context, jobs.Group, bool) ([]jobs.Ended, bool, error) {
	return nil, false, errors.ErrUnsupported
}

// newTestCaller returns a caller whose connections end with the test.
func newTestCaller(t *testing.T, o Options) *caller {
	t.Helper()
	c, err := newCaller(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.transport.CloseIdleConnections)
	return c
}

func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

// run runs a request as a job; its payload goes through the stored form.
func run(t *testing.T, ctx context.Context, c *caller, a *attempt, r Request) (Response, error) {
	t.Helper()
	payload, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	result, err := c.handler().Run(jobs.WithAttempt(ctx, a), payload)
	if err != nil {
		return Response{}, err
	}
	var response Response
	if err := json.Unmarshal(result, &response); err != nil {
		t.Fatalf("result %s: %v", result, err)
	}
	return response, nil
}

// try runs a request against a server on loopback, as the first attempt.
func try(t *testing.T, o Options, r Request) (Response, error) {
	t.Helper()
	o.AllowLoopback = true
	return run(t, t.Context(), newTestCaller(t, o), newAttempt(), r)
}

func env(values map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := values[name]
		return value, ok
	}
}

// quiet is the log of a server whose handshakes are meant to fail.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func (a *attempt) Undoing() ([]string, bool) { return nil, false }

func (a *attempt) Undone(string) int { return 0 }

func (a *attempt) Unmet() []string { return nil }

func (a *attempt) Call(_ context.Context, _ string, services []string) (func(error), error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.called = append(a.called, services...)
	return func(error) {}, nil
}
