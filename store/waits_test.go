package store

import (
	"testing"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Pauses in a row bound how often a job is tried while a service is away. One that tells
// of no failure (a worker holds the job back, or cannot run it) is no try.
func TestOnlyFailuresCountAsPausesInARow(t *testing.T) {
	t.Parallel()
	f := open(t)
	pause := delivery.Verdict{Outcome: delivery.Pause, Waiting: jobs.Waiting{Type: "timer", Name: "payments: this worker cannot reach it"}, Delay: time.Hour}
	f.enqueue("k")
	for i, c := range []struct {
		failure *jobs.Failure
		waits   string
	}{{nil, ""}, {&failed, "1"}, {nil, "1"}, {&failed, "2"}} {
		pause.Failure = c.failure
		f.ok(f.Settle(f.ctx, f.take(), pause))
		if waits := f.field("k", "p:waits"); waits != c.waits {
			t.Errorf("pause %d: p:waits is %q, want %q", i+1, waits, c.waits)
		}
		f.due("k")
		_, err := f.Promote(f.ctx, "q")
		f.ok(err)
	}
}
