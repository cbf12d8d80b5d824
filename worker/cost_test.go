package worker_test

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/worker"
)

// counted returns a store whose commands are counted.
func counted(t *testing.T) (*store.Store, *commands) {
	t.Helper()
	client := redistest.Client(t)
	c := &commands{count: map[string]int{}}
	client.AddHook(c)
	return store.New(client, client), c
}

// idle is what a worker and a scheduler send without any job; eval is one of these
// scripts when Redis does not know it yet.
var idle = []string{"beat", "holdings", "presence", "eval", "time", "blmove", "zadd", "promote", "expire", "silent", "smembers", "sadd", "hset"}

func TestAJobCostsOneClaimItsStepsAndOneVerdict(t *testing.T) {
	t.Parallel()
	const n, steps = 20, 5
	s, count := counted(t)
	kind := jobs.Define[order, string]("order.one")
	running := make(chan struct{}, n)
	release := make(chan struct{})
	handler := kind.Do(func(ctx context.Context, _ order) (string, error) {
		running <- struct{}{}
		<-release
		for i := range steps {
			if _, err := jobs.Step(ctx, fmt.Sprint("s", i), func(context.Context) (int, error) { return i, nil }); err != nil {
				return "", err
			}
		}
		return "ok", nil
	})
	runScheduler(t, s)
	runWorker(t, s, worker.Options{Handlers: []jobs.Handler{handler}, Concurrency: n})
	round := func(tag string) {
		var many []jobs.Job
		for i := range n {
			many = append(many, kind.New(fmt.Sprint(tag, i), order{ID: i}))
		}
		s.EnqueueMany(t.Context(), many)
		for range n {
			<-running
		}
		for range n {
			release <- struct{}{}
		}
		for i := range n {
			inState(t, s, "default", fmt.Sprint(tag, i), jobs.StateCompleted)
		}
	}
	round("warm") // connections, and scripts that Redis does not know yet
	count.reset()
	round("k")
	time.Sleep(1500 * time.Millisecond) // anything that would follow
	_, sent := count.snapshot()
	for _, name := range append(idle, "hgetall", "zscore") { // the last two are this test's own looks
		delete(sent, name)
	}
	claims := sent["claim"]
	delete(sent, "claim")
	delete(sent, "") // asynq's own script of the enqueue
	if want := map[string]int{"checkpoint": n * steps, "complete": n}; !maps.Equal(sent, want) {
		t.Fatalf("sent %v, want %v", sent, want)
	}
	if claims > n+2 { // a claim takes many; one more finds the queue empty
		t.Fatalf("%d claims for %d jobs", claims, n)
	}
}

func TestIdleCostsLittle(t *testing.T) {
	t.Parallel()
	s, count := counted(t)
	kind := jobs.Define[order, string]("order.one")
	runScheduler(t, s)
	runWorker(t, s, worker.Options{Handlers: []jobs.Handler{kind.Do(func(context.Context, order) (string, error) { return "", nil })}})
	time.Sleep(1100 * time.Millisecond)
	count.reset()
	const measured = 3 * time.Second
	time.Sleep(measured)
	total, sent := count.snapshot()
	if perSecond := float64(total) / measured.Seconds(); perSecond > 10 {
		t.Fatalf("%.1f commands a second: %v", perSecond, sent)
	}
	t.Logf("%d commands in %v: %v", total, measured, sent)
}
