package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/worker"
)

// opened opens breakers as three workers would that see nothing but failures.
func opened(t *testing.T, s *store.Store, names ...string) {
	t.Helper()
	for _, name := range names {
		d, err := s.Dependency(t.Context(), name)
		if err != nil && !errors.Is(err, jobs.ErrNotFound) {
			t.Fatal(err)
		}
		for _, owner := range []string{"x", "y", "z"} {
			vote := delivery.Vote{Name: name, Turn: d.Turn, Calls: 20, Failed: 20, LongCalls: 20, LongFailed: 20, Reason: "gone"}
			if _, err := s.Vote(t.Context(), owner, vote); err != nil {
				t.Fatal(err)
			}
		}
		state(t, s, name, jobs.DependencyOpen)
	}
}

// TestTwoServicesGone: jobs that need two services which are gone at once find out about
// each in turn.
func TestTwoServicesGone(t *testing.T) {
	t.Parallel()
	both := newService()
	kind := jobs.Define[order, string]("order.both", jobs.Needs("pay", "ship"))
	b := arranged(t)
	opened(t, b.store, "pay", "ship")
	b.run(t, worker.Options{Concurrency: 4, Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) { return both.call(ctx) })}})
	fill(t, b.store, kind, 10)
	unharmed(t, b.store, "default", 10, both)
}

// TestTwoLimits: a job that two limits bound does not lose its turn at one while it waits
// for the other, and does not use up what it does not need: they run as fast as the lower
// one allows.
func TestTwoLimits(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string][2]jobs.Limit{ // of the tenant, of the kind
		"the other is higher":      {{Rate: 10}, {Rate: 20}},
		"it is a little higher":    {{Rate: 10}, {Rate: 11}},
		"it is the same":           {{Rate: 10}, {Rate: 10}},
		"it is of concurrency":     {{Rate: 10}, {Concurrency: 1}},
		"the first of concurrency": {{Concurrency: 1}, {Rate: 10}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := newService()
			calls.takes = 10 * time.Millisecond
			kind := jobs.Define[order, string]("order.two")
			b := arranged(t)
			limited(t, b, "tenant/acme", limits[0])
			limited(t, b, "kind/order.two", limits[1])
			b.run(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) { return calls.call(ctx) })}})
			const n = 40
			began := time.Now()
			fill(t, b.store, kind, n, jobs.Tenant("acme"))
			unharmed(t, b.store, "default", n, calls)
			took := time.Since(began)
			if took > 25*time.Second || took < 3500*time.Millisecond {
				t.Errorf("%d jobs at 10 a second took %v", n, took)
			}
			t.Logf("%.1f a second", n/took.Seconds())
		})
	}
}

// TestALostClaimLosesNoPlace: a job that was sent back from its line, and whose claim was
// not answered, goes before those that came after it.
func TestALostClaimLosesNoPlace(t *testing.T) {
	t.Parallel()
	s := newFaulty(t)
	calls := newService()
	kind := jobs.Define[order, string]("order.line", jobs.LimitKind(jobs.Limit{Rate: 10}))
	const n = 30
	for i := range n {
		if _, err := s.Enqueue(t.Context(), kind.New(key(i), order{})); err != nil {
			t.Fatal(err)
		}
	}
	runScheduler(t, s.Store)
	var mu sync.Mutex
	var began []string
	runWorker(t, s, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		about, _ := jobs.Current(ctx)
		mu.Lock()
		began = append(began, about.Key)
		mu.Unlock()
		return calls.call(ctx)
	})}})
	eventually(t, "they stand in line", func() bool {
		d, err := s.Dependency(t.Context(), "kind/order.line")
		return err == nil && d.Waiting >= n-10
	})
	s.loseClaim.Store(true)
	unharmed(t, s.Store, "default", n, calls)
	s.mu.Lock()
	lost := s.lost
	s.mu.Unlock()
	if len(lost) == 0 {
		t.Fatal("no claim was lost")
	}
	mu.Lock()
	defer mu.Unlock()
	if last := began[n-1]; slices.Contains(lost, last) {
		t.Errorf("%v was lost, and began last of %v", lost, began)
	}
}

// TestASuspectProbes: a queue that is paused for a service, and whose only job has to run
// by itself, does not wait for ever.
func TestASuspectProbes(t *testing.T) {
	t.Parallel()
	pay := newService()
	kind := jobs.Define[order, string]("order.a", jobs.Needs("pay"))
	b := arranged(t)
	opened(t, b.store, "pay")
	b.run(t, worker.Options{Concurrency: 4, Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) { return pay.call(ctx) })}})
	h := enqueue(t, b, kind.New(key(0), order{}))
	eventually(t, "the queue is paused", func() bool {
		held, err := b.store.Held(t.Context())
		return err == nil && len(held.For["default"]) == 1
	})
	if err := b.store.Redis().HSet(t.Context(), "asynq:{default}:t:"+h.Key, "p:row", 2, "p:run", 2).Err(); err != nil {
		t.Fatal(err)
	}
	completed(t, b.store, "default", h.Key)
}

// TestAPausedQueueProbesNothing: jobs of a queue that an operator has paused are not sent
// to find out about a service, as nobody would claim them.
func TestAPausedQueueProbesNothing(t *testing.T) {
	t.Parallel()
	pay := newService()
	do := func(ctx context.Context, _ order) (string, error) { return pay.call(ctx) }
	resting, other := jobs.Define[order, string]("order.a", jobs.Needs("pay"), jobs.Queue("qa")), jobs.Define[order, string]("order.b", jobs.Needs("pay"), jobs.Queue("qb"))
	note := func(queue string) jobs.Handler {
		return jobs.Define[order, string]("note."+queue, jobs.Queue(queue)).Do(func(context.Context, order) (string, error) { return "", nil })
	}
	b := arranged(t)
	opened(t, b.store, "pay")
	b.run(t, worker.Options{Handlers: []jobs.Handler{resting.Do(do), other.Do(do), note("qa"), note("qb")}})
	fill(t, b.store, resting, 3)
	eventually(t, "they wait", func() bool {
		d, err := b.store.Dependency(t.Context(), "pay")
		return err == nil && d.Waiting == 3
	})
	if err := b.store.PauseQueue(t.Context(), "qa", by); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // a look at the queues
	fill(t, b.store, other, 5)
	unharmed(t, b.store, "qb", 5, pay)
	if _, err := b.store.ResumeQueue(t.Context(), "qa", by); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		completed(t, b.store, "qa", key(i))
	}
}

// TestWhatNeverCalledTellsNothing: a job that ends before it has called anybody does not
// find that a service is well.
func TestWhatNeverCalledTellsNothing(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[order, string]("order.odd")
	b := arranged(t)
	opened(t, b.store, "pay")
	b.run(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		return jobs.Step(ctx, "charge", func(context.Context) (string, error) { return "", jobs.Permanent(errors.New("no such secret")) }, jobs.StepNeeds("pay"))
	})}})
	h := enqueue(t, b, kind.New("k", order{}))
	inState(t, b.store, h.Queue, h.Key, jobs.StateQuarantined) // it was the probe
	if d := state(t, b.store, "pay", jobs.DependencyOpen); d.Probes == 0 {
		t.Errorf("%+v", d)
	}
}

// TestAProbeThatHangs: the jobs of a service that is back do not wait for a call that was
// made before, and does not end.
func TestAProbeThatHangs(t *testing.T) {
	t.Parallel()
	pay := newService()
	kind := jobs.Define[order, string]("order.pay", jobs.Needs("pay"))
	release := make(chan struct{})
	ends := sync.OnceFunc(func() { close(release) })
	var hung atomic.Bool
	b := arranged(t)
	opened(t, b.store, "pay")
	b.run(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		return jobs.Step(ctx, "charge", func(ctx context.Context) (string, error) {
			if hung.CompareAndSwap(false, true) {
				<-release
			}
			return pay.call(ctx)
		})
	})}})
	t.Cleanup(ends)
	fill(t, b.store, kind, 3)
	eventually(t, "the others are served", func() bool { _, served := pay.count(); return served == 2 })
	ends()
	unharmed(t, b.store, "default", 3, pay)
}

// TestAProbeThatTimesOut: a service that hangs uses up no attempt of the jobs that find out
// whether it is back, and leaves no failures with them.
func TestAProbeThatTimesOut(t *testing.T) {
	t.Parallel()
	pay := newService()
	pay.answer(fmt.Errorf("call: %w", context.DeadlineExceeded))
	kind := jobs.Define[order, string]("order.pay", jobs.Needs("pay"), jobs.Retry(jobs.Fixed(10*time.Millisecond, 2)))
	b := arranged(t)
	opened(t, b.store, "pay")
	b.run(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		return jobs.Step(ctx, "charge", pay.call)
	})}})
	h := enqueue(t, b, kind.New(key(0), order{}))
	eventually(t, "it has found out three times", func() bool { failed, _ := pay.count(); return failed >= 3 })
	pay.answer(nil)
	unharmed(t, b.store, "default", 1, pay)
	if info, err := b.store.Get(t.Context(), h.Queue, h.Key); err != nil || len(info.Failures) != 0 {
		t.Errorf("%v, failures %+v", err, info.Failures)
	}
}
