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

	"github.com/hibiken/asynq"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/worker"
)

// counting is a kind whose runs are counted by key.
func counting() (jobs.Kind[order, string], jobs.Handler, *sync.Map) {
	var runs sync.Map
	kind := jobs.Define[order, string]("order.one", fast(3)...)
	return kind, kind.Do(func(ctx context.Context, _ order) (string, error) {
		about, _ := jobs.Current(ctx)
		n, _ := runs.LoadOrStore(about.Key, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		return "ok", nil
	}), &runs
}

func exactlyOnce(t *testing.T, runs *sync.Map, want int) {
	t.Helper()
	seen := 0
	runs.Range(func(key, n any) bool {
		seen++
		if n := n.(*atomic.Int64).Load(); n != 1 {
			t.Errorf("%v ran %d times", key, n)
		}
		return true
	})
	if seen != want {
		t.Errorf("%d jobs ran instead of %d", seen, want)
	}
}

func add(t *testing.T, s *faulty, kind jobs.Kind[order, string], n int) {
	t.Helper()
	var many []jobs.Job
	for i := range n {
		many = append(many, kind.New(fmt.Sprintf("k%d", i), order{ID: i}))
	}
	for _, r := range s.EnqueueMany(t.Context(), many) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
}

func TestAClaimWhoseReplyIsLostRunsOnce(t *testing.T) {
	t.Parallel()
	s := newFaulty(t)
	s.loseClaim.Store(true)
	kind, handler, runs := counting()
	add(t, s, kind, 10)
	runWorker(t, s, worker.Options{Handlers: []jobs.Handler{handler}, Concurrency: 10})
	for i := range 10 {
		info := inState(t, s.Store, "default", fmt.Sprintf("k%d", i), jobs.StateCompleted)
		if info.Attempts != 0 || info.Crashes != 0 {
			t.Errorf("%+v", info)
		}
	}
	exactlyOnce(t, runs, 10)
	if s.loseClaim.Load() || s.handed.Load() != 10 {
		t.Fatalf("%d handed back", s.handed.Load())
	}
}

func TestAClaimLostJustBeforeTheStopIsHandedBack(t *testing.T) {
	t.Parallel()
	s := newFaulty(t)
	s.loseClaim.Store(true)
	kind, handler, _ := counting()
	add(t, s, kind, 1)
	stop := runWorker(t, s, worker.Options{Handlers: []jobs.Handler{handler}})
	eventually(t, "a claim", func() bool { return !s.loseClaim.Load() })
	stop()
	if info, err := s.Get(t.Context(), "default", "k0"); err != nil || info.State != jobs.StatePending {
		t.Fatalf("%+v, %v", info, err)
	}
}

func TestAVerdictWhoseReplyIsLostIsNoSecondRun(t *testing.T) {
	t.Parallel()
	s := newFaulty(t)
	s.loseSettle.Store(5)
	kind, handler, runs := counting()
	add(t, s, kind, 20)
	runWorker(t, s, worker.Options{Handlers: []jobs.Handler{handler}, Concurrency: 4})
	for i := range 20 {
		inState(t, s.Store, "default", fmt.Sprintf("k%d", i), jobs.StateCompleted)
	}
	exactlyOnce(t, runs, 20)
	if info, err := s.QueueInfo(t.Context(), "default"); err != nil || info.Processed != 20 || info.Failed != 0 || info.Running != 0 {
		t.Fatalf("%+v, %v", info, err)
	}
}

func TestALostRetryVerdictUsesOneAttempt(t *testing.T) {
	t.Parallel()
	s := newFaulty(t)
	s.loseSettle.Store(2)
	kind := jobs.Define[order, string]("order.one", fast(5)...)
	var runs atomic.Int64
	runScheduler(t, s)
	runWorker(t, s, worker.Options{Handlers: []jobs.Handler{kind.Do(func(context.Context, order) (string, error) {
		if runs.Add(1) == 1 {
			return "", errors.New("once")
		}
		return "ok", nil
	})}})
	add(t, s, kind, 1)
	info := inState(t, s.Store, "default", "k0", jobs.StateCompleted)
	if info.Attempts != 1 || info.Runs != 2 || len(info.Failures) != 1 || runs.Load() != 2 {
		t.Fatalf("%+v", info)
	}
}

// A worker that dies is one that does not beat any more and that nothing more is
// heard of.
func TestADeadWorkersJobsGoOnElsewhere(t *testing.T) {
	t.Parallel()
	doomed := newFaulty(t)
	runScheduler(t, doomed.Store)
	kind := jobs.Define[order, string]("order.one", fast(1)...)
	var first, second atomic.Int64
	var dying atomic.Bool
	dying.Store(true)
	release := make(chan struct{})
	running := make(chan struct{}, 100)
	handler := kind.Do(func(ctx context.Context, _ order) (string, error) {
		if _, err := jobs.Step(ctx, "first", func(context.Context) (int64, error) { return first.Add(1), nil }); err != nil {
			return "", err
		}
		if dying.Load() {
			running <- struct{}{}
			<-release
		}
		return jobs.Step(ctx, "second", func(context.Context) (string, error) { second.Add(1); return "ok", nil })
	})
	options := worker.Options{Handlers: []jobs.Handler{handler}, Concurrency: 8, ShutdownTimeout: time.Millisecond, Grace: time.Millisecond}
	runWorker(t, doomed, options)
	time.Sleep(3500 * time.Millisecond) // the scheduler takes over only after a while of contact of its own
	add(t, doomed, kind, 8)
	for range 8 {
		<-running
	}
	dying.Store(false)
	doomed.dead.Store(true)
	runWorker(t, &faulty{Store: doomed.Store}, options)
	for i := range 8 {
		info := inState(t, doomed.Store, "default", fmt.Sprintf("k%d", i), jobs.StateCompleted)
		if info.Attempts != 0 || info.Runs != 2 || info.Crashes != 1 || len(info.Failures) != 1 || info.Failures[0].Class != jobs.ClassCrash {
			t.Errorf("%+v", info)
		}
	}
	close(release) // the dead come back: their late steps are refused
	time.Sleep(100 * time.Millisecond)
	if first.Load() != 8 || second.Load() < 8 {
		t.Fatalf("first ran %d, second %d times", first.Load(), second.Load())
	}
	for i := range 8 {
		if info, _ := doomed.Get(t.Context(), "default", fmt.Sprintf("k%d", i)); info.State != jobs.StateCompleted || info.Steps[1].Attempt != 2 {
			t.Errorf("a dead worker's step went in: %+v", info)
		}
	}
}

func TestAFencedOwnerTakesANewIdentity(t *testing.T) {
	t.Parallel()
	s := newFaulty(t)
	runScheduler(t, s.Store)
	kind := jobs.Define[order, string]("order.one", fast(3)...)
	running, causes := make(chan struct{}, 10), make(chan error, 10)
	var runs atomic.Int64
	runWorker(t, s, worker.Options{Beat: 50 * time.Millisecond, Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		if runs.Add(1) > 1 {
			return "ok", nil
		}
		running <- struct{}{}
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return "", ctx.Err()
	})}})
	add(t, s, kind, 1)
	<-running
	s.silent.Store(true)
	if cause := <-causes; !errors.Is(cause, jobs.ErrLost) {
		t.Fatalf("cause %v", cause)
	}
	s.silent.Store(false)
	info := inState(t, s.Store, "default", "k0", jobs.StateCompleted)
	if info.Attempts != 0 || info.Runs != 2 || len(info.Failures) != 1 {
		t.Fatalf("%+v", info)
	}
	eventually(t, "the crash is taken back: there was none", func() bool {
		info, err := s.Get(t.Context(), "default", "k0")
		return err == nil && info.Crashes == 0
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if first, last := s.owners[0], s.owners[len(s.owners)-1]; first == last {
		t.Fatalf("owners %v", s.owners)
	}
}

func TestEntriesWithoutAJobDoNotHoldTheQueueUp(t *testing.T) {
	t.Parallel()
	s := newFaulty(t)
	kind, handler, runs := counting()
	if err := s.Register(t.Context(), "default"); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		if err := s.Redis().LPush(t.Context(), "asynq:{default}:pending", fmt.Sprintf("ghost%d", i)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	add(t, s, kind, 3)
	runWorker(t, s, worker.Options{Handlers: []jobs.Handler{handler}, Concurrency: 2})
	for i := range 3 {
		inState(t, s.Store, "default", fmt.Sprintf("k%d", i), jobs.StateCompleted)
	}
	exactlyOnce(t, runs, 3)
}

func TestAJobDeletedWhileItRunsLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newFaulty(t)
	kind := jobs.Define[order, string]("order.one", fast(3)...)
	running, release := make(chan struct{}), make(chan struct{})
	stop := runWorker(t, s, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		close(running)
		<-release
		return jobs.Step(ctx, "after", func(context.Context) (string, error) { return "", nil })
	})}})
	add(t, s, kind, 1)
	<-running
	if err := s.Redis().Del(t.Context(), "asynq:{default}:t:k0").Err(); err != nil {
		t.Fatal(err)
	}
	close(release)
	stop()
	if _, err := s.Get(t.Context(), "default", "k0"); !errors.Is(err, jobs.ErrNotFound) {
		t.Fatalf("the job is back: %v", err)
	}
	if info, err := s.QueueInfo(t.Context(), "default"); err != nil || info.Running != 0 || info.Pending != 0 {
		t.Fatalf("%+v, %v", info, err)
	}
}

func prioritised(t *testing.T, strict bool) []string {
	t.Helper()
	s := newFaulty(t)
	_, handler, runs := counting()
	for _, q := range []string{"high", "low"} {
		kind := jobs.Define[order, string]("order.one", jobs.Queue(q))
		for i := range 200 {
			if _, err := s.Enqueue(t.Context(), kind.New(fmt.Sprintf("%s%d", q, i), order{ID: i})); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Held while the worker finds both queues ready.
	for _, q := range []string{"high", "low"} {
		if err := s.PauseQueue(t.Context(), q, by); err != nil {
			t.Fatal(err)
		}
	}
	for _, q := range []string{"high", "low"} {
		if _, err := s.ResumeQueue(t.Context(), q, by); err != nil {
			t.Fatal(err)
		}
	}
	runWorker(t, s, worker.Options{
		Handlers: []jobs.Handler{handler}, Queues: map[string]int{"high": 4, "low": 1}, StrictPriority: strict, Concurrency: 1,
	})
	eventually(t, "all are done", func() bool {
		n := 0
		runs.Range(func(any, any) bool { n++; return true })
		return n == 400
	})
	exactlyOnce(t, runs, 400)
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.claims)
}

func TestStrictPriorityServesTheHighFirst(t *testing.T) {
	t.Parallel()
	claims := prioritised(t, true)
	late := 0
	for _, q := range claims[:200] {
		if q == "low" {
			late++
		}
	}
	if late > 5 { // until the worker has seen that the other queue has work
		t.Fatalf("%d of the first 200 were of low priority", late)
	}
}

func TestWeightedPriorityServesBoth(t *testing.T) {
	t.Parallel()
	claims := prioritised(t, false)
	low := 0
	for _, q := range claims[:200] {
		if q == "low" {
			low++
		}
	}
	if low < 12 || low > 90 { // 40 are to be expected
		t.Fatalf("%d of the first 200 were of low priority", low)
	}
}

func TestThousandsOfStepsOnceEach(t *testing.T) {
	t.Parallel()
	const n, steps = 2000, 3
	s := newFaulty(t)
	var effects [n * steps]atomic.Int32
	kind := jobs.Define[order, int]("order.one")
	handler := kind.Do(func(ctx context.Context, o order) (int, error) {
		for i := range steps {
			if _, err := jobs.Step(ctx, fmt.Sprint("step", i), func(context.Context) (int, error) {
				effects[o.ID*steps+i].Add(1)
				return i, nil
			}); err != nil {
				return 0, err
			}
		}
		return o.ID, nil
	})
	var many []jobs.Job
	for i := range n {
		many = append(many, kind.New(fmt.Sprintf("k%d", i), order{ID: i}))
	}
	for range 2 {
		runWorker(t, s, worker.Options{Handlers: []jobs.Handler{handler}, Concurrency: 64})
	}
	runScheduler(t, s.Store)
	for _, r := range s.EnqueueMany(t.Context(), many) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		info, err := s.QueueInfo(t.Context(), "default")
		if err != nil {
			t.Fatal(err)
		}
		if info.Ended == n {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%+v", info)
		}
	}
	for i := range effects {
		if got := effects[i].Load(); got != 1 {
			t.Errorf("step %d of job %d: %d times", i%steps, i/steps, got)
		}
	}
	if n := s.handed.Load(); n != 0 {
		t.Errorf("%d jobs handed back for no reason", n)
	}
}

func TestAStockProducersRetriesBoundTheKinds(t *testing.T) {
	t.Parallel()
	s := newFaulty(t)
	kind := jobs.Define[order, string]("order.one", fast(9)...)
	client := asynq.NewClientFromRedisClient(s.Redis())
	if _, err := client.Enqueue(asynq.NewTask("order.one", []byte(`{"id":1}`)), asynq.TaskID("k"), asynq.MaxRetry(2)); err != nil {
		t.Fatal(err)
	}
	runScheduler(t, s.Store)
	runWorker(t, s, worker.Options{Handlers: []jobs.Handler{kind.Do(func(context.Context, order) (string, error) { return "", errors.New("no") })}})
	if info := inState(t, s.Store, "default", "k", jobs.StateQuarantined); info.Runs != 3 || info.Attempts != 3 {
		t.Fatalf("%+v", info)
	}
}
