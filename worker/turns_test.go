package worker_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/worker"
)

// TestANoisyTenant: the jobs of another tenant start promptly.
func TestANoisyTenant(t *testing.T) {
	t.Parallel()
	noisyTenant(t, 20_000, 0)
}

// noisyTenant has many jobs of one tenant in a queue before the workers start, and
// before anybody knows that there is another tenant. Then that one has a hundred, one
// after the other.
func noisyTenant(t *testing.T, many int, goal time.Duration) {
	t.Helper()
	client := redistest.Client(t)
	b := &bundle{store: store.New(client, client)}
	kind := jobs.Define[order, string]("turns.order", fast(3)...)
	var all []jobs.Job
	for i := range many {
		all = append(all, kind.New(fmt.Sprint("noisy:", i), order{ID: i}, jobs.Tenant("noisy")))
	}
	enqueueAll(t, b.store, all)
	var mu sync.Mutex
	started, before := map[int]time.Time{}, map[int]int{} // and how many had started by then
	o := worker.Options{Concurrency: 8, Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, o order) (string, error) {
		mu.Lock()
		_, twice := started[o.ID]
		started[o.ID], before[o.ID] = time.Now(), len(started)
		mu.Unlock()
		if twice {
			t.Errorf("%d runs twice", o.ID)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
		return "", ctx.Err()
	})}}
	b.run(t, o)
	b.run(t, o)
	asked, begun := map[int]time.Time{}, map[int]int{}
	for i := range 100 {
		mu.Lock()
		asked[-i-1], begun[-i-1] = time.Now(), len(started)
		mu.Unlock()
		enqueue(t, b, kind.New(fmt.Sprint("quiet:", i), order{ID: -i - 1}, jobs.Tenant("quiet")))
		time.Sleep(30 * time.Millisecond)
	}
	var late []time.Duration
	eventually(t, "the quiet tenant's jobs start", func() bool {
		mu.Lock()
		defer mu.Unlock()
		late = late[:0]
		for id, at := range asked {
			if _, ok := started[id]; ok {
				late = append(late, started[id].Sub(at))
			}
		}
		return len(late) == len(asked)
	})
	mu.Lock()
	ran, first := len(started)-len(late), started[-1].Sub(asked[-1])
	var ahead []int // jobs that started between
	for id, n := range begun {
		ahead = append(ahead, before[id]-n)
	}
	mu.Unlock()
	slices.Sort(late)
	slices.Sort(ahead)
	t.Logf("%d jobs before, %d of them ran meanwhile; the other tenant's start after p50 %v, p99 %v, max %v, the first after %v; %d others ahead of one, p99 %d", many, ran, late[50], late[98], late[99], first, ahead[50], ahead[98])
	// Sixteen at a time that take 20 ms each: of two seconds, if the machine does nothing else.
	if ahead[98] > 1600 || ahead[50] > 200 {
		t.Errorf("between a job's being there and its start p50 %d, p99 %d others started", ahead[50], ahead[98])
	}
	if goal > 0 && late[98] > goal {
		t.Errorf("p99 %v", late[98])
	}
	if ran == many {
		t.Error("the noisy tenant has no jobs left")
	}
}

// TestIdleWorkersFindJobsThatWaitTheirTurn: of a queue that another worker has sorted
// nothing is left lying, although nobody adds to it any more.
func TestIdleWorkersFindJobsThatWaitTheirTurn(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	b := &bundle{store: store.New(client, client)}
	kind := jobs.Define[order, string]("turns.order", fast(3)...)
	tenants := []string{"a", "b", "c"}
	var all []jobs.Job
	for i := range 90 {
		all = append(all, kind.New(fmt.Sprint("k:", i), order{ID: i}, jobs.Tenant(tenants[i%3])))
	}
	enqueueAll(t, b.store, all)
	ctx := context.Background()
	batch, err := b.store.Claim(ctx, "default", "dies", 1) // it sorts, and says nothing to anybody
	if err != nil || len(batch.Deliveries) != 1 {
		t.Fatal(batch, err)
	}
	if n := client.ZCard(ctx, "perdure:{default}:queued").Val(); n != 88 {
		t.Fatalf("%d wait their turn", n)
	}
	if _, err := b.store.Reclaim(ctx, "default", "dies"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	both := make(chan struct{})
	var one sync.Once
	var running sync.WaitGroup
	running.Add(2)
	var count sync.Map
	run := func(name string) func(context.Context, order) (string, error) {
		return func(context.Context, order) (string, error) {
			if _, known := count.LoadOrStore(name, true); !known {
				running.Done()
				go func() { running.Wait(); one.Do(func() { close(both) }) }()
			}
			<-both // until each worker has one
			return "", nil
		}
	}
	b.run(t, worker.Options{Concurrency: 4, Handlers: []jobs.Handler{kind.Do(run("first"))}})
	b.run(t, worker.Options{Concurrency: 4, Handlers: []jobs.Handler{kind.Do(run("second"))}})
	for _, job := range all {
		if info := inState(t, b.store, "default", job.Key, jobs.StateCompleted); info.Runs > 2 {
			t.Errorf("%+v", info)
		}
	}
	t.Logf("all ended after %v", time.Since(began))
}
