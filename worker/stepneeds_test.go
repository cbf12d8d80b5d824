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
