//go:build soak

package conformance

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
)

// Redis stands still for 37 s: longer than asynq's lease of 30 s, which each
// worker ends by its own clock, so there is no quick way to show it. Run it with
//
//	go test -tags soak -timeout 10m -run Frozen37 -v ./test/conformance
const longFreeze = 37 * time.Second

func TestFrozen37StockAsynqRunsALiveJobAgain(t *testing.T) {
	t.Parallel()
	server, s := ownServer(t)
	p := s.process(t)
	began, cancelled, again := make(chan struct{}), make(chan time.Duration, 1), make(chan int, 1)
	var runs atomic.Int64
	p.stock(t, asynq.HandlerFunc(func(ctx context.Context, _ *asynq.Task) error {
		if runs.Add(1) > 1 {
			used, _ := asynq.GetRetryCount(ctx)
			again <- used
			return nil
		}
		close(began)
		start := time.Now()
		<-ctx.Done() // nobody but asynq has a reason to end it
		cancelled <- time.Since(start)
		return nil
	}), quick)
	s.add(t, "k", "p", asynq.Timeout(time.Hour))
	await(t, "it runs", began)
	frozenFor(server, longFreeze)(func() {})
	start := time.Now()
	select {
	case after := <-cancelled:
		t.Logf("the handler was cancelled after %v", after.Round(time.Second))
	case <-time.After(time.Minute):
		t.Fatal("the handler was never cancelled")
	}
	time.Sleep(5 * time.Second)
	if s.stateOf(t, "k") != asynq.TaskStateActive {
		t.Fatalf("it is %v", s.stateOf(t, "k"))
	}
	select {
	case used := <-again:
		t.Logf("it was run again %v after the thaw, retries used: %d", time.Since(start).Round(time.Second), used)
		if used != 1 {
			t.Errorf("%d retries used", used)
		}
	case <-time.After(3 * time.Minute):
		t.Fatal("it was never run again")
	}
}

func TestFrozen37PerdureGoesOn(t *testing.T) {
	t.Parallel()
	server, s := ownServer(t)
	frozenJobs(t, s, frozenFor(server, longFreeze))
}
