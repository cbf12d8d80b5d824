package worker_test

import (
	"context"
	"testing"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/worker"
)

// A kind needs services, and its steps say which of them they call. A probe tells what
// its step has found, not that a step before it was recorded; and a job that is let
// through is so as a whole: its own step does not send it back into the line.
func TestAProbeIsItsStep(t *testing.T) {
	t.Parallel()
	payments := newService()
	payments.answer(errRefused)
	kind := jobs.Define[order, string]("order.pay", jobs.Needs("payments", "warehouse"), jobs.Describe(jobs.Dependency{Name: "payments", Resume: 200}))
	handler := kind.Do(func(ctx context.Context, _ order) (string, error) {
		if _, err := jobs.Step(ctx, "validate", func(context.Context) (bool, error) { return true, nil }); err != nil {
			return "", err
		}
		return jobs.Step(ctx, "charge", payments.call, jobs.StepNeeds("payments"))
	})
	f := newFaulty(t)
	for range 3 {
		runWorker(t, f, worker.Options{Handlers: []jobs.Handler{handler}, Concurrency: 8})
	}
	runScheduler(t, f)
	const n = 100
	fill(t, f.Store, kind, n)
	state(t, f.Store, "payments", jobs.DependencyOpen)
	eventually(t, "two probes are made", func() bool {
		d, err := f.Dependency(t.Context(), "payments")
		return err == nil && d.Probes >= 2
	})
	if d := state(t, f.Store, "payments", jobs.DependencyOpen); d.Turn != 1 {
		t.Errorf("payments is still away, and its breaker has opened %d times", d.Turn)
	}
	payments.answer(nil)
	unharmed(t, f.Store, "default", n, payments)
	if d, err := f.Dependency(t.Context(), "payments"); err != nil || d.Turn != 1 {
		t.Errorf("%v, the breaker has opened %d times", err, d.Turn)
	}
}

// TestPastItsStep: a job that has recorded its call of a service, and makes no other, finds
// out nothing of it; neither by its end nor by what else it records, and also in a worker
// that has never seen the step run.
func TestPastItsStep(t *testing.T) {
	t.Parallel()
	pay := newService()
	kind := jobs.Define[order, string]("order.pay", jobs.Needs("pay"))
	handler := kind.Do(func(ctx context.Context, _ order) (string, error) {
		if _, err := jobs.Step(ctx, "charge", pay.call, jobs.StepNeeds("pay")); err != nil {
			return "", err
		}
		if _, err := jobs.Await[string](ctx, "go", 0); err != nil {
			return "", err
		}
		return jobs.Step(ctx, "note", func(context.Context) (string, error) { return "noted", nil })
	})
	f := newFaulty(t)
	stop := runWorker(t, f, worker.Options{Handlers: []jobs.Handler{handler}})
	fill(t, f.Store, kind, 2)
	for i := range 2 { // they have called, and wait for something else
		inState(t, f.Store, "default", key(i), jobs.StatePaused)
	}
	stop()
	opened(t, f.Store, "pay")
	signal, err := kind.Signal("go", "now")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if err := f.Signal(t.Context(), "default", key(i), signal); err != nil {
			t.Fatal(err)
		}
	}
	runWorker(t, f, worker.Options{Handlers: []jobs.Handler{handler}})
	runScheduler(t, f)
	for i := range 2 { // each is a probe
		completed(t, f.Store, "default", key(i))
	}
	if d := state(t, f.Store, "pay", jobs.DependencyOpen); d.Turn != 1 || d.Probes < 2 {
		t.Errorf("pay is away, and they have found %+v", d)
	}
}

// TestAStepOfAnotherService: a step that says what it calls, and is recorded, tells nothing
// of the service that its kind needs besides.
func TestAStepOfAnotherService(t *testing.T) {
	t.Parallel()
	ship, pay := newService(), newService()
	pay.answer(errRefused)
	kind := jobs.Define[order, string]("order.pay", jobs.Needs("pay"))
	b := arranged(t)
	opened(t, b.store, "pay")
	b.run(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		if _, err := jobs.Step(ctx, "ship", ship.call, jobs.StepNeeds("ship")); err != nil {
			return "", err
		}
		return jobs.Step(ctx, "charge", pay.call)
	})}})
	fill(t, b.store, kind, 2)
	eventually(t, "both have found out", func() bool { failed, _ := pay.count(); return failed >= 2 })
	events, err := b.store.DependencyEvents(t.Context(), 10)
	if err != nil || len(events) != 1 {
		t.Errorf("%v, pay is away, and the breaker: %+v", err, events)
	}
	pay.answer(nil)
	unharmed(t, b.store, "default", 2, pay)
}
