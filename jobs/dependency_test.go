package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
)

var calling = jobs.Define[int, string]("calling")

// runOnce runs a handler once on a memory.
func runOnce(m *memory, fn func(ctx context.Context) (string, error)) (string, error) {
	m.again()
	result, err := calling.Do(func(ctx context.Context, _ int) (string, error) { return fn(ctx) }).Run(jobs.WithAttempt(context.Background(), m), []byte("1"))
	return string(result), err
}

func TestStepNeeds(t *testing.T) {
	t.Parallel()
	refused := fmt.Errorf("call: %w", syscall.ECONNREFUSED)
	answer := refused
	step := func(options ...jobs.StepOption) func(context.Context) (string, error) {
		return func(ctx context.Context) (string, error) {
			return jobs.Step(ctx, "charge", func(context.Context) (string, error) { return "charged", answer }, options...)
		}
	}
	m := newMemory(calling.Definition())
	if _, err := runOnce(m, step(jobs.StepNeeds("payments"))); !errors.Is(err, refused) || len(m.called) != 1 || !errors.Is(m.called[0], refused) {
		t.Errorf("%v; calls ended with %v", err, m.called)
	}
	m.away = map[string]bool{"payments": true}
	if _, err := runOnce(m, step(jobs.StepNeeds("payments"))); !errors.Is(err, jobs.ErrParked) || !errors.Is(err, jobs.ErrHeld) || len(m.called) != 1 {
		t.Errorf("held: %v; calls ended with %v", err, m.called)
	}
	m.away, answer = nil, nil
	if result, err := runOnce(m, step(jobs.StepNeeds("payments"))); err != nil || result != `"charged"` {
		t.Errorf("%q, %v", result, err)
	}
	m.away = map[string]bool{"payments": true}
	if result, err := runOnce(m, step(jobs.StepNeeds("payments"))); err != nil || result != `"charged"` {
		t.Errorf("a recorded step is held: %q, %v", result, err)
	}
	m = newMemory(calling.Definition())
	if _, err := runOnce(m, step(jobs.StepNeeds("Pay Ments"))); !errors.Is(err, jobs.ErrInvalid) || jobs.Classify(err).Class != jobs.ClassInvalid {
		t.Errorf("a bad name: %v", err)
	}
}

// TestHeldEndsTheExecution: what a handler makes of a held step, it is parked there and
// does nothing more.
func TestHeldEndsTheExecution(t *testing.T) {
	t.Parallel()
	m := newMemory(calling.Definition())
	m.away = map[string]bool{"payments": true}
	_, err := runOnce(m, func(ctx context.Context) (string, error) {
		_, _ = jobs.Step(ctx, "charge", func(context.Context) (string, error) { return "charged", nil }, jobs.StepNeeds("payments"))
		return jobs.Step(ctx, "ship", func(context.Context) (string, error) { return "shipped", nil })
	})
	if !errors.Is(err, jobs.ErrParked) || len(m.steps) != 0 {
		t.Errorf("%v, recorded %v", err, m.steps)
	}
}

func TestFallback(t *testing.T) {
	t.Parallel()
	m := newMemory(calling.Definition())
	m.away = map[string]bool{"rates": true}
	run := func(fallback jobs.StepOption) (string, error) {
		return runOnce(m, func(ctx context.Context) (string, error) {
			return jobs.Step(ctx, "rate", func(context.Context) (string, error) { return "today's", nil }, jobs.StepNeeds("rates"), fallback)
		})
	}
	failing := errors.New("nothing of yesterday's")
	if _, err := run(jobs.Fallback(func(context.Context, error) (string, error) { return "", failing })); !errors.Is(err, failing) || len(m.steps) != 0 {
		t.Errorf("the fallback's own error: %v", err)
	}
	if _, err := run(jobs.Fallback(func(context.Context, error) (int, error) { return 1, nil })); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("of another type: %v", err)
	}
	if result, err := run(jobs.Fallback(func(_ context.Context, held error) (string, error) {
		return "yesterday's", errors.Join(nil, map[bool]error{true: nil, false: held}[errors.Is(held, jobs.ErrHeld)])
	})); err != nil || result != `"yesterday's"` {
		t.Errorf("%q, %v", result, err)
	}
	m.away = nil
	if result, err := run(jobs.StepNeeds()); err != nil || result != `"yesterday's"` {
		t.Errorf("it is recorded: %q, %v", result, err)
	}
}

func TestDependencyRules(t *testing.T) {
	t.Parallel()
	for field, d := range map[string]jobs.Dependency{
		"dependency":             {Name: "Payments"},
		"resume rate of a":       {Name: "a", Resume: 100_001},
		"failure ratio of a":     {Name: "a", Ratio: 1.1},
		"min calls of a":         {Name: "a", MinCalls: -1},
		"quorum of a":            {Name: "a", Quorum: 1001},
		"limit of a rate":        {Name: "a", Limit: jobs.Limit{Rate: math.NaN()}},
		"limit of a concurrency": {Name: "a", Limit: jobs.Limit{Concurrency: -1}},
		"":                       {Name: "a", Resume: 0.1, Ratio: 1, MinCalls: 1, Quorum: 1, Limit: jobs.Limit{Rate: 0.001, Concurrency: 1_000_000}},
		"dependency ":            {Name: strings.Repeat("a", 129)},
	} {
		err := d.Check()
		if field == "" {
			if err != nil {
				t.Errorf("%+v: %v", d, err)
			}
			continue
		}
		requireInvalid(t, err, strings.TrimSpace(field))
		requireInvalid(t, jobs.Define[int, int]("k", jobs.Describe(d)).Err(), strings.TrimSpace(field))
	}
	requireInvalid(t, jobs.Define[int, int]("k", jobs.LimitKind(jobs.Limit{Rate: -1})).Err(), "limit of the kind rate")
	for _, name := range []string{"payments", "api.example.com:8443", "a", strings.Repeat("z", 128)} {
		if err := jobs.CheckDependency(name); err != nil {
			t.Error(err)
		}
	}
}

// ExampleStepNeeds shows a kind whose steps call two services, one of which has a way
// around it.
func ExampleStepNeeds() {
	type Order struct{ Cents int }
	fulfil := func(ctx context.Context, o Order) (string, error) {
		rate, err := jobs.Step(ctx, "rate", func(ctx context.Context) (float64, error) { return 1.1, nil },
			jobs.StepNeeds("rates"), jobs.Fallback(func(context.Context, error) (float64, error) { return 1.0, nil }))
		if err != nil {
			return "", err
		}
		return jobs.Step(ctx, "charge", func(ctx context.Context) (string, error) {
			return fmt.Sprintf("charged %.0f", float64(o.Cents)*rate), nil
		}, jobs.StepNeeds("payments"))
	}
	kind := jobs.Define[Order, string]("order.charge", jobs.Needs("payments", "rates"),
		jobs.Describe(jobs.Dependency{Name: "payments", Resume: 50, Limit: jobs.Limit{Concurrency: 20}}))
	handler := kind.Do(fulfil)
	fmt.Println(handler.Err(), kind.Definition().Needs)
	// Output: <nil> [payments rates]
}

// TestOutsideOfAJob: a step with needs outside of a job says so.
func TestNeedsOutsideOfAJob(t *testing.T) {
	t.Parallel()
	_, err := jobs.Step(context.Background(), "s", func(context.Context) (int, error) { return 1, nil }, jobs.StepNeeds("a"), jobs.Within(time.Second))
	if !errors.Is(err, jobs.ErrNoJob) {
		t.Error(err)
	}
}

func TestHealthURL(t *testing.T) {
	t.Parallel()
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
	}))
	ask := jobs.HealthURL(server.URL)
	for status = range map[int]bool{http.StatusOK: true, http.StatusServiceUnavailable: false, http.StatusFound: false} {
		if err := ask(t.Context()); (err == nil) != (status == http.StatusOK) {
			t.Errorf("%d: %v", status, err)
		}
	}
	server.Close()
	if err := ask(t.Context()); jobs.Classify(err).Class != jobs.ClassUnavailable {
		t.Errorf("it is gone: %v", err)
	}
}
