package worker_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/worker"
)

// TestManyJobsWaitAndCostLittle has 10,000 jobs sleep and 10,000 wait for a signal:
// they hold no slot and little memory, and those that wake do so among them.
func TestManyJobsWaitAndCostLittle(t *testing.T) {
	t.Parallel()
	const many, bound = 10_000, 2 << 10
	sleep := jobs.Define[time.Time, string]("many.sleep", fast(3)...)
	approve := jobs.Define[order, bool]("many.approve", fast(3)...)
	b := start(t, worker.Options{Concurrency: 50, Handlers: []jobs.Handler{
		sleep.Do(func(ctx context.Context, until time.Time) (string, error) {
			if _, err := jobs.Step(ctx, "before", func(context.Context) (int, error) { return 1, nil }); err != nil {
				return "", err
			}
			return "awake", jobs.SleepUntil(ctx, "until", until)
		}),
		approve.Do(func(ctx context.Context, _ order) (bool, error) {
			a, err := jobs.AwaitApproval(ctx, "amount", 72*time.Hour)
			return a.Approved, err
		}),
	}})
	later := time.Now().Add(time.Hour)
	var all []jobs.Job
	for i := range many {
		all = append(all, sleep.New(fmt.Sprint("sleep:", i), later), approve.New(fmt.Sprint("approve:", i), order{ID: i}))
	}
	enqueueAll(t, b.store, all)
	rdb := b.store.Redis()
	deadline := time.Now().Add(2 * time.Minute)
	for rdb.ZCard(t.Context(), "perdure:{default}:parked").Val() < 2*many {
		if time.Now().After(deadline) {
			t.Fatalf("%d are parked", rdb.ZCard(t.Context(), "perdure:{default}:parked").Val())
		}
		time.Sleep(100 * time.Millisecond)
	}
	if n := rdb.LLen(t.Context(), "asynq:{default}:active").Val(); n != 0 {
		t.Errorf("%d are running", n)
	}
	for _, name := range []string{"sleep", "approve"} {
		bytes := memoryOf(t, rdb, name, many)
		t.Logf("%s: %d bytes a job", name, bytes)
		if bytes >= bound {
			t.Errorf("%s: %d bytes a job, want under %d", name, bytes, bound)
		}
	}
	wakeAmong(t, b, sleep)
}

// memoryOf is what the job takes in Redis, with its part of the indexes.
func memoryOf(t *testing.T, rdb redis.UniversalClient, name string, n int) int64 {
	t.Helper()
	var sum int64
	const sample = 100
	for i := range sample {
		sum += rdb.MemoryUsage(t.Context(), fmt.Sprintf("asynq:{default}:t:%s:%d", name, i*n/sample), 0).Val()
	}
	var indexes int64
	for _, index := range []string{"perdure:{default}:parked", "asynq:{default}:retry"} {
		indexes += rdb.MemoryUsage(t.Context(), index, 0).Val() / rdb.ZCard(t.Context(), index).Val()
	}
	return sum/sample + indexes
}

// wakeAmong has 500 jobs wake among those that sleep, none of them early.
func wakeAmong(t *testing.T, b *bundle, sleep jobs.Kind[time.Time, string]) {
	t.Helper()
	now, err := b.store.Redis().Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	var some []jobs.Job
	due := map[string]time.Time{}
	for i := range 500 {
		key := fmt.Sprint("wake:", i)
		due[key] = now.Add(time.Second + time.Duration(i)*3*time.Millisecond).Truncate(time.Millisecond)
		some = append(some, sleep.New(key, due[key]))
	}
	enqueueAll(t, b.store, some)
	var late []time.Duration
	for key, at := range due {
		info := inState(t, b.store, "default", key, jobs.StateCompleted)
		woke := info.Steps[slices.IndexFunc(info.Steps, func(s jobs.StepInfo) bool { return s.Name == "until" })].Ended
		if woke.Before(at) {
			t.Errorf("%s woke %v early", key, at.Sub(woke))
		}
		late = append(late, woke.Sub(at))
	}
	slices.Sort(late)
	t.Logf("of 500 that woke among them, p50 %v, p99 %v, max %v late", late[250], late[494], late[499])
}
