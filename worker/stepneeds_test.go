package worker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/worker"
)

// A kind needs services, and its steps say which of them they call. A probe tells what
// its step has found, not that a step before it was recorded; and a job that is let
// through is so as a whole: its own step does not send it back into the line.
func TestAProbeIsItsStep(t *testing.T) {
	t.Parallel()
	p := newPayments()
	kind := jobs.Define[order, string]("order.pay", jobs.Needs("payments", "warehouse"), jobs.Describe(jobs.Dependency{Name: "payments", Resume: 200}))
	handler := kind.Do(func(ctx context.Context, _ order) (string, error) {
		about, _ := jobs.Current(ctx)
		if _, err := jobs.Step(ctx, "validate", func(context.Context) (bool, error) { return true, nil }); err != nil {
			return "", err
		}
		return jobs.Step(ctx, "charge", func(ctx context.Context) (string, error) { return "ok", p.charge(ctx, about.Key) }, jobs.StepNeeds("payments"))
	})
	s := newFaulty(t)
	for range 3 {
		runWorker(t, s, worker.Options{Handlers: []jobs.Handler{handler}, Concurrency: 8})
	}
	runScheduler(t, s)
	p.set(true)
	const n = 100
	for i := range n {
		if _, err := s.Enqueue(t.Context(), kind.New(fmt.Sprintf("k%d", i), order{ID: i})); err != nil {
			t.Fatal(err)
		}
	}
	standing := func() (state jobs.DependencyState, turn, probes int64) {
		d, err := s.Dependency(t.Context(), "payments")
		if err != nil {
			return "", 0, 0
		}
		return d.State, d.Turn, d.Probes
	}
	eventually(t, "the breaker opens", func() bool { state, _, _ := standing(); return state == jobs.DependencyOpen })
	eventually(t, "two probes are made", func() bool { _, _, probes := standing(); return probes >= 2 })
	if state, turn, _ := standing(); state != jobs.DependencyOpen || turn != 1 {
		t.Errorf("payments is still away, and its breaker is %s and has opened %d times", state, turn)
	}
	p.set(false)
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, _, served := p.count(); served == n {
			break
		}
	}
	if _, _, served := p.count(); served != n {
		t.Fatalf("%d of %d are served", served, n)
	}
	for i := range n {
		if info := inState(t, s.Store, "default", fmt.Sprintf("k%d", i), jobs.StateCompleted); info.Attempts != 0 {
			t.Errorf("%s used %d attempts", info.Key, info.Attempts)
		}
	}
	if _, turn, _ := standing(); turn != 1 {
		t.Errorf("the breaker has opened %d times", turn)
	}
}
