package worker_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/fault"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/worker"
)

// TestABadNetworkDoublesNothing runs jobs on two workers while one call in eight
// fails before it ran, or after, or goes out twice: each job completes, its steps
// run once, a failure uses one attempt, and asynq's counters agree.
func TestABadNetworkDoublesNothing(t *testing.T) {
	t.Parallel()
	const n = 150
	var effects [n][2]atomic.Int32
	var failed [n]atomic.Bool
	kind := jobs.Define[order, int]("order.one", fast(4)...)
	handler := kind.Do(func(ctx context.Context, o order) (int, error) {
		for i := range effects[o.ID] {
			if _, err := jobs.Step(ctx, fmt.Sprint("step", i), func(context.Context) (int32, error) {
				return effects[o.ID][i].Add(1), nil
			}); err != nil {
				return 0, err
			}
			if o.ID%4 == 0 && failed[o.ID].CompareAndSwap(false, true) {
				return 0, errors.New("once")
			}
		}
		return o.ID, nil
	})
	bad, clean, hook := badNetwork(t)
	runScheduler(t, bad)
	for range 2 {
		runWorker(t, bad, worker.Options{Handlers: []jobs.Handler{handler}, Concurrency: 16})
	}
	eventually(t, "the workers are up", func() bool {
		living, err := clean.Redis().ZCard(t.Context(), "perdure:owners").Result()
		return err == nil && living == 2
	})
	bad.Redis().AddHook(hook)                                            // from here on: a worker does not start without Redis
	for _, script := range []string{"claim", "checkpoint", "complete"} { // besides those by chance
		hook.Fail(script, 5, fault.Before)
		hook.Fail(script, 9, fault.After)
	}
	var many []jobs.Job
	for i := range n {
		many = append(many, kind.New(fmt.Sprintf("k%d", i), order{ID: i}))
	}
	for i, r := range bad.EnqueueMany(t.Context(), many) {
		for tries := 0; errors.Is(r.Err, jobs.ErrUnavailable) && tries < 10; tries++ {
			r.Handle, r.Err = bad.Enqueue(t.Context(), many[i])
		}
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	for i, job := range many {
		info, err := bad.Wait(t.Context(), job.Queue, job.Key)
		if err != nil || info.State != jobs.StateCompleted || string(info.Result) != fmt.Sprint(i) {
			t.Fatalf("%+v, %v", info, err)
		}
		attempts := 0
		if i%4 == 0 {
			attempts = 1
		}
		if info.Attempts != attempts || len(info.Failures) != attempts || info.Crashes != 0 || len(info.Steps) != 2 {
			t.Errorf("want %d attempts used: %+v", attempts, info)
		}
		for step := range effects[i] {
			if n := effects[i][step].Load(); n != 1 {
				t.Errorf("step %d of %s had its effect %d times", step, job.Key, n)
			}
		}
	}
	const failures = (n + 3) / 4
	if q, err := clean.QueueInfo(t.Context(), "default"); err != nil || q.Processed != n+failures || q.Failed != failures || q.Ended != n ||
		q.Pending+q.Running+q.Retrying+q.Parked+q.Scheduled+q.Quarantined != 0 {
		t.Errorf("%+v, %v", q, err)
	}
	counts := hook.Counts()
	for _, script := range []string{"claim", "checkpoint", "complete", "evalsha"} {
		if c := counts[script]; c.Before == 0 || c.After == 0 {
			t.Errorf("too few faults to tell: %s %+v", script, c)
		}
	}
}

// badNetwork is a store on a database, to which the hook is to be added, and one on
// the same that has none.
func badNetwork(t *testing.T) (bad, clean *store.Store, hook *fault.Hook) {
	t.Helper()
	options := redistest.Options(t)
	var stores [2]*store.Store
	for i := range stores {
		o := *options
		o.MaxRetries = -1 // as store.Connect has it
		client := redis.NewClient(&o)
		t.Cleanup(func() { _ = client.Close() })
		stores[i] = store.New(client, client)
	}
	return stores[0], stores[1], fault.New(fault.Options{Seed: 11, Before: 0.05, After: 0.05, Twice: 0.025, Script: store.ScriptName})
}
