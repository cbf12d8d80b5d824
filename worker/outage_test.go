package worker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/scheduler"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/worker"
)

// service is something that jobs call and that can be taken away; it keeps a ledger.
type service struct {
	mu     sync.Mutex
	err    error          // what it answers instead; nil: it is there
	failed []time.Time    // calls that it did not serve
	starts []time.Time    // calls that it has served
	served map[string]int // by key
	now    int            // calls under way
	most   int            // at a time
	takes  time.Duration
}

func newService() *service { return &service{served: map[string]int{}} }

var errRefused = fmt.Errorf("call: %w", syscall.ECONNREFUSED)

func (s *service) answer(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// call serves the job that runs in ctx.
func (s *service) call(ctx context.Context) (string, error) {
	about, _ := jobs.Current(ctx)
	s.mu.Lock()
	if s.err != nil {
		defer s.mu.Unlock()
		s.failed = append(s.failed, time.Now())
		return "", s.err
	}
	s.starts = append(s.starts, time.Now())
	s.now++
	s.most = max(s.most, s.now)
	s.mu.Unlock()
	time.Sleep(s.takes)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now--
	s.served[about.Key]++
	return "served", nil
}

func (s *service) count() (failed, served int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.failed), len(s.served)
}

func (s *service) times(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served[key]
}

// within returns the most of the times that fall into one window.
func within(times []time.Time, window time.Duration) (most int) {
	first := 0
	for i := range times {
		for times[i].Sub(times[first]) >= window {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// keptRamp checks that no call has begun before a ramp allowed it that began at from, or
// later, with one call a second. A call that begins late proves nothing: so this does not
// depend on how busy the machine is.
func (s *service) keptRamp(t *testing.T, from time.Time) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, at := range s.starts {
		if allowed := rampAllows(at.Sub(from)); i+1 > allowed {
			t.Errorf("call %d of %d began %v after the ramp, which allows %d by then", i+1, len(s.starts), at.Sub(from), allowed)
			return
		}
	}
}

// rampAllows returns how many calls a ramp from one a second to a hundred allows within d:
// what its rate makes of the time, one at its beginning, and one each time that the rate
// grows, because the next call is due by the new rate at once.
func rampAllows(d time.Duration) int {
	calls, rate := 1.0, 1.0
	for ; d > 0; d -= time.Second {
		calls += rate*min(d, time.Second).Seconds() + 1
		rate = min(2*rate, 100)
	}
	return int(calls)
}

// state waits until a dependency is in a state.
func state(t *testing.T, s *store.Store, name string, want jobs.DependencyState) delivery.DependencyInfo {
	t.Helper()
	var info delivery.DependencyInfo
	eventually(t, name+" is "+string(want), func() bool {
		var err error
		info, err = s.Dependency(t.Context(), name)
		return err == nil && info.State == want
	})
	return info
}

// fill enqueues n jobs, several at a time.
func fill(t *testing.T, s *store.Store, kind jobs.Kind[order, string], n int, options ...jobs.JobOption) {
	t.Helper()
	var producers sync.WaitGroup
	for p := range 8 {
		producers.Go(func() {
			for i := p; i < n; i += 8 {
				if _, err := s.Enqueue(t.Context(), kind.New(key(i), order{ID: i}, options...)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	producers.Wait()
}

func key(i int) string { return fmt.Sprintf("k%d", i) }

// unharmed checks that jobs have completed without an attempt used, each served once.
func unharmed(t *testing.T, s *store.Store, queue string, n int, by *service) {
	t.Helper()
	for i := range n {
		info := completed(t, s, queue, key(i))
		if times := by.times(key(i)); info.Attempts != 0 || times != 1 {
			t.Fatalf("%s has used %d attempts and was served %d times: %+v", key(i), info.Attempts, times, info.Failures)
		}
	}
}

// completed waits, longer than others do, until a job has completed.
func completed(t *testing.T, s *store.Store, queue, key string) jobs.Info {
	t.Helper()
	for end := time.Now().Add(90 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		info, err := s.Get(t.Context(), queue, key)
		if err != nil {
			t.Fatal(err)
		}
		if info.State == jobs.StateCompleted {
			return info
		}
		if info.State.Ended() || time.Now().After(end) {
			t.Fatalf("%s is %s: %+v %+v", key, info.State, info.WaitingOn, info.Failures)
		}
	}
}

// late is a store whose board comes late.
type late struct {
	*faulty
	by time.Duration
}

func (l *late) Board(ctx context.Context) (map[string]jobs.Standing, error) {
	board, err := l.faulty.Board(ctx)
	select {
	case <-ctx.Done():
	case <-time.After(l.by):
	}
	return board, err
}

func (l *late) Listen(ctx context.Context, begun func(), _ func(jobs.Standing)) error {
	begun()
	<-ctx.Done()
	return nil
}

// dying runs one scheduler after the other, each for a while.
func dying(t *testing.T, s *store.Store, lives time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			k, err := scheduler.New(s, scheduler.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			life, end := context.WithTimeout(ctx, lives)
			k.Run(life)
			end()
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// TestOutage: a service goes away under ten thousand jobs and comes back, while
// schedulers die and one worker hears of it late. Few calls are made in vain, no attempt
// is used, nothing is forgotten, and each job is served once.
func TestOutage(t *testing.T) {
	t.Parallel()
	const n, outage = 10_000, 8 * time.Second
	payments := newService()
	kind := jobs.Define[order, string]("order.pay", jobs.Queue("pay"), jobs.Needs("payments"), jobs.Describe(jobs.Dependency{Name: "payments", Resume: 1000}))
	handler := kind.Do(func(ctx context.Context, _ order) (string, error) { return jobs.Step(ctx, "charge", payments.call) })
	f := newFaulty(t)
	payments.answer(errRefused)
	for range 2 {
		runWorker(t, f, worker.Options{Handlers: []jobs.Handler{handler}})
	}
	runWorker(t, &late{f, time.Second}, worker.Options{Handlers: []jobs.Handler{handler}})
	dying(t, f.Store, 2*time.Second)
	away := time.Now()
	fill(t, f.Store, kind, n)
	state(t, f.Store, "payments", jobs.DependencyOpen)
	eventually(t, "the queue is paused", func() bool {
		q, err := f.QueueInfo(t.Context(), "pay")
		return err == nil && q.Reasons["dependency:payments"] != ""
	})
	if left := outage - time.Since(away); left > 0 {
		time.Sleep(left)
	}
	payments.answer(nil)
	unharmed(t, f.Store, "pay", n, payments)
	failed, served := payments.count()
	if calls := failed + served; served != n || calls > n*11/10 {
		t.Errorf("%d calls for %d jobs, %d served", calls, n, served)
	}
	info := state(t, f.Store, "payments", jobs.DependencyClosed)
	if probes := within(payments.failed[min(len(payments.failed), 100):], 950*time.Millisecond); probes > 2 {
		t.Errorf("%d probes in a second", probes)
	}
	if info.Waiting != 0 || info.Probes > int64(time.Since(away)/time.Second) {
		t.Errorf("%d wait, %d probes in %v", info.Waiting, info.Probes, time.Since(away))
	}
	q, err := f.QueueInfo(t.Context(), "pay")
	if err != nil || q.Paused || q.Parked != 0 || q.Quarantined != 0 {
		t.Errorf("%v, the queue afterwards: %+v", err, q)
	}
	t.Logf("%d calls in vain, %d probes, %d at most in a second", failed, info.Probes, within(payments.starts, time.Second))
}

// TestHeldAtStep: a job keeps what it has recorded and waits at the step whose service is
// gone, and other kinds of the queue go on.
func TestHeldAtStep(t *testing.T) {
	t.Parallel()
	warehouse, payments := newService(), newService()
	payments.answer(errRefused)
	paying := jobs.Define[order, string]("order.pay", jobs.Needs("payments", "warehouse"))
	other := jobs.Define[order, string]("order.note")
	b := start(t, worker.Options{Handlers: []jobs.Handler{
		paying.Do(func(ctx context.Context, _ order) (string, error) {
			if _, err := jobs.Step(ctx, "reserve", warehouse.call, jobs.StepNeeds("warehouse")); err != nil {
				return "", err
			}
			return jobs.Step(ctx, "charge", payments.call, jobs.StepNeeds("payments"))
		}),
		other.Do(func(context.Context, order) (string, error) { return "", nil }),
	}})
	fill(t, b.store, paying, 20)
	state(t, b.store, "payments", jobs.DependencyOpen)
	wait(t, enqueue(t, b, other.New("other", order{})))
	if q, err := b.store.QueueInfo(t.Context(), "default"); err != nil || q.Paused {
		t.Errorf("%v, a queue with a kind that does not need it is paused: %+v", err, q.Reasons)
	}
	if _, err := b.store.Enqueue(t.Context(), paying.New(key(20), order{ID: 20})); err != nil {
		t.Fatal(err)
	}
	info := inState(t, b.store, "default", key(20), jobs.StatePaused)
	if info.WaitingOn == nil || info.WaitingOn.Type != "dependency" || info.WaitingOn.Name != "payments" || info.Attempts != 0 {
		t.Errorf("it waits on %+v", info.WaitingOn)
	}
	payments.answer(nil)
	unharmed(t, b.store, "default", 21, payments)
	if d := state(t, b.store, "warehouse", jobs.DependencyClosed); d.Turn != 0 {
		t.Errorf("the innocent service's breaker has opened: %+v", d)
	}
	for k, times := range warehouse.served {
		if times != 1 {
			t.Errorf("%s was reserved %d times", k, times)
		}
	}
}

// TestFallback: a step goes its other way while its service is held, and that is
// recorded.
func TestFallback(t *testing.T) {
	t.Parallel()
	rates := newService()
	kind := jobs.Define[order, string]("order.price")
	b := arranged(t)
	if _, err := b.store.ForceDependency(t.Context(), "rates", true, by); err != nil {
		t.Fatal(err)
	}
	b.run(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		return jobs.Step(ctx, "rate", rates.call, jobs.StepNeeds("rates"), jobs.Fallback(func(_ context.Context, held error) (string, error) {
			return "yesterday's, because " + held.Error(), nil
		}))
	})}})
	info := wait(t, enqueue(t, b, kind.New("k", order{})))
	result, err := kind.Result(info)
	if want := "yesterday's, because rates is not available since"; err != nil || len(result) < len(want) || result[:len(want)] != want {
		t.Errorf("result %q, %v", result, err)
	}
	if _, served := rates.count(); served != 0 || len(info.Steps) != 1 {
		t.Errorf("%d calls, steps %+v", served, info.Steps)
	}
}

// TestOneBadNode: a worker that cannot reach a service pauses only itself, also where nobody
// has called it before.
func TestOneBadNode(t *testing.T) {
	t.Parallel()
	good, bad := newService(), newService()
	bad.answer(errRefused)
	kind := jobs.Define[order, string]("order.pay", jobs.Needs("payments"))
	on := func(s *service) jobs.Handler {
		return kind.Do(func(ctx context.Context, _ order) (string, error) { return jobs.Step(ctx, "charge", s.call) })
	}
	f := newFaulty(t)
	good.takes = 5 * time.Millisecond
	for range 2 {
		runWorker(t, f, worker.Options{Handlers: []jobs.Handler{on(good)}, Concurrency: 4})
	}
	runWorker(t, f, worker.Options{Handlers: []jobs.Handler{on(bad)}, Concurrency: 4})
	runScheduler(t, f)
	fill(t, f.Store, kind, 300)
	unharmed(t, f.Store, "default", 300, good)
	d := state(t, f.Store, "payments", jobs.DependencyClosed)
	if failed, _ := bad.count(); d.Turn != 0 || failed > 60 {
		t.Errorf("%d calls of the bad node failed; the breaker: %+v", failed, d)
	}
}

// TestIdleWorkersHaveNoSay: the breaker opens by what one worker sees that has all the calls,
// though another needs the service too.
func TestIdleWorkersHaveNoSay(t *testing.T) {
	t.Parallel()
	payments := newService()
	payments.answer(errRefused)
	do := func(ctx context.Context, _ order) (string, error) { return jobs.Step(ctx, "charge", payments.call) }
	f := newFaulty(t)
	busy := jobs.Define[order, string]("order.pay", jobs.Needs("payments"), jobs.Queue("pay"))
	runWorker(t, f, worker.Options{Handlers: []jobs.Handler{busy.Do(do)}})
	runWorker(t, f, worker.Options{Handlers: []jobs.Handler{jobs.Define[order, string]("order.refund", jobs.Needs("payments"), jobs.Queue("refund")).Do(do)}})
	runScheduler(t, f)
	eventually(t, "both say that they have made no calls", func() bool {
		return f.Redis().HLen(t.Context(), "perdure:{@dep}:votes:payments").Val() == 2
	})
	fill(t, f.Store, busy, 20)
	if d := state(t, f.Store, "payments", jobs.DependencyOpen); !strings.Contains(d.Reason, "seen by 1 of 1 workers") {
		t.Error(d.Reason)
	}
	payments.answer(nil)
	unharmed(t, f.Store, "pay", 20, payments)
}

// TestRelapse: a service that goes away again while its jobs come back stops them at once;
// the rest stays paused.
func TestRelapse(t *testing.T) {
	t.Parallel()
	payments := newService()
	payments.answer(errRefused)
	kind := jobs.Define[order, string]("order.pay", jobs.Needs("payments"))
	b := start(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		return jobs.Step(ctx, "charge", payments.call)
	})}})
	const n = 200
	fill(t, b.store, kind, n)
	state(t, b.store, "payments", jobs.DependencyOpen)
	payments.answer(nil)
	eventually(t, "some are served", func() bool { _, served := payments.count(); return served >= 10 })
	payments.answer(errRefused)
	before, _ := payments.count()
	eventually(t, "it opens again", func() bool {
		d, err := b.store.Dependency(t.Context(), "payments")
		return err == nil && d.Turn == 2
	})
	failed, served := payments.count()
	if failed-before > 60 || served > n/2 {
		t.Errorf("%d calls failed in the relapse, %d of %d were served before it", failed-before, served, n)
	}
	payments.answer(nil)
	unharmed(t, b.store, "default", n, payments)
}

// TestForced: what somebody opens stays open without a probe, and what somebody closes
// comes back in the ramp.
func TestForced(t *testing.T) {
	t.Parallel()
	payments := newService()
	kind := jobs.Define[order, string]("order.pay", jobs.Needs("payments"))
	b := arranged(t)
	if _, err := b.store.ForceDependency(t.Context(), "payments", true, by); err != nil {
		t.Fatal(err)
	}
	b.run(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		return jobs.Step(ctx, "charge", payments.call)
	})}})
	fill(t, b.store, kind, 10)
	eventually(t, "the queue is paused", func() bool {
		q, err := b.store.QueueInfo(t.Context(), "default")
		return err == nil && q.Reasons["dependency:payments"] != ""
	})
	time.Sleep(1500 * time.Millisecond) // a probe would be made within a second
	if _, served := payments.count(); served != 0 {
		t.Errorf("%d jobs ran although the breaker was opened by hand", served)
	}
	if err := b.store.PauseQueue(t.Context(), "default", by); err != nil {
		t.Fatal(err)
	}
	closed := time.Now()
	if _, err := b.store.ForceDependency(t.Context(), "payments", false, by); err != nil {
		t.Fatal(err)
	}
	eventually(t, "only the operator's pause is left", func() bool {
		q, err := b.store.QueueInfo(t.Context(), "default")
		return err == nil && q.Paused && len(q.Reasons) == 1 && q.Reasons["operator"] != ""
	})
	if _, err := b.store.ResumeQueue(t.Context(), "default", by); err != nil {
		t.Fatal(err)
	}
	unharmed(t, b.store, "default", 10, payments)
	payments.keptRamp(t, closed)
}

// TestLostState: jobs that wait for a dependency come back in the ramp when Redis has lost
// what was known of it. It was opened by hand, so that no probe is under way meanwhile.
func TestLostState(t *testing.T) {
	t.Parallel()
	payments := newService()
	kind := jobs.Define[order, string]("order.pay", jobs.Needs("payments"))
	b := arranged(t)
	if _, err := b.store.ForceDependency(t.Context(), "payments", true, by); err != nil {
		t.Fatal(err)
	}
	b.run(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		return jobs.Step(ctx, "charge", payments.call)
	})}})
	fill(t, b.store, kind, 30)
	eventually(t, "all wait", func() bool {
		q, err := b.store.QueueInfo(t.Context(), "default")
		return err == nil && q.Parked+q.Pending == 30
	})
	if _, served := payments.count(); served != 0 {
		t.Errorf("%d jobs ran although the breaker was opened by hand", served)
	}
	back := time.Now()
	rdb := b.store.Redis()
	lost, err := rdb.Keys(t.Context(), "perdure:{@dep}:*").Result()
	if err == nil {
		err = rdb.Del(t.Context(), lost...).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	unharmed(t, b.store, "default", 30, payments)
	payments.keptRamp(t, back)
}

// TestFallbackTime: when nobody sends jobs back they look for themselves, and even then no
// more begin than the ramp allows.
func TestFallbackTime(t *testing.T) {
	t.Parallel()
	payments := newService()
	kind := jobs.Define[order, string]("order.pay", jobs.Needs("payments"))
	f := newFaulty(t)
	if _, err := f.ForceDependency(t.Context(), "payments", true, by); err != nil {
		t.Fatal(err)
	}
	runWorker(t, f, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		return jobs.Step(ctx, "charge", payments.call)
	})}})
	const n = 12
	fill(t, f.Store, kind, n)
	eventually(t, "all wait", func() bool {
		q, err := f.QueueInfo(t.Context(), "default")
		return err == nil && q.Parked == n
	})
	closed := time.Now()
	if _, err := f.ForceDependency(t.Context(), "payments", false, by); err != nil {
		t.Fatal(err)
	}
	rdb := f.Redis()
	ctx, cancel := context.WithCancel(t.Context())
	woken := make(chan struct{})
	go func() { // their time has come, again and again
		defer close(woken)
		for ctx.Err() == nil {
			for i := range n {
				if rdb.ZScore(ctx, "asynq:{default}:retry", key(i)).Err() == nil {
					rdb.HSet(ctx, "asynq:{default}:t:"+key(i), "p:due", 1)
					rdb.ZAddXX(ctx, "asynq:{default}:retry", dueNow(key(i)))
				}
			}
			_, _ = f.Promote(ctx, "default")
			time.Sleep(20 * time.Millisecond)
		}
	}()
	defer func() { cancel(); <-woken }()
	unharmed(t, f.Store, "default", n, payments)
	payments.keptRamp(t, closed)
}

// TestBreakerCostsNothing: a call that succeeds costs no more round trips for what the job
// needs.
func TestBreakerCostsNothing(t *testing.T) {
	t.Parallel()
	needing := jobs.Define[order, string]("order.pay", jobs.Needs("payments"))
	count := &commands{count: map[string]int{}}
	f, payments := newFaulty(t), newService()
	f.Redis().AddHook(count)
	runWorker(t, f, worker.Options{Concurrency: 1, Handlers: []jobs.Handler{needing.Do(func(ctx context.Context, _ order) (string, error) {
		return jobs.Step(ctx, "charge", payments.call, jobs.StepNeeds("payments", "warehouse"))
	})}})
	fill(t, f.Store, needing, 50)
	unharmed(t, f.Store, "default", 50, payments)
	_, by := count.snapshot()
	if by["admit"] != 0 || by["checkpoint"] != 50 || by["complete"] != 50 || by["vote"] > 10 {
		t.Errorf("commands: %v", by)
	}
}

// TestHealthCheck: where a worker can ask the service itself, no job has to find out.
func TestHealthCheck(t *testing.T) {
	t.Parallel()
	payments := newService()
	payments.answer(errRefused)
	kind := jobs.Define[order, string]("order.pay", jobs.Needs("payments"), jobs.Describe(jobs.Dependency{
		Name: "payments", Health: func(context.Context) error {
			payments.mu.Lock()
			defer payments.mu.Unlock()
			return payments.err
		},
	}))
	b := start(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		return jobs.Step(ctx, "charge", payments.call)
	})}})
	fill(t, b.store, kind, 20)
	state(t, b.store, "payments", jobs.DependencyOpen)
	eventually(t, "all wait", func() bool {
		q, err := b.store.QueueInfo(t.Context(), "default")
		return err == nil && q.Parked+q.Pending == 20
	})
	before, _ := payments.count()
	eventually(t, "two probes are made", func() bool {
		d, err := b.store.Dependency(t.Context(), "payments")
		return err == nil && d.Probes >= 2
	})
	if failed, _ := payments.count(); failed != before {
		t.Errorf("%d jobs were sent to find out", failed-before)
	}
	payments.answer(nil)
	unharmed(t, b.store, "default", 20, payments)
}

// TestEntrySaysHowServicesStood: a quarantined job's entry says how what it needs stood.
func TestEntrySaysHowServicesStood(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[order, string]("order.pay")
	b := arranged(t)
	if _, err := b.store.ForceDependency(t.Context(), "payments", true, by); err != nil {
		t.Fatal(err)
	}
	b.run(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		_, err := jobs.Step(ctx, "charge", func(context.Context) (string, error) { return "", nil }, jobs.StepNeeds("payments"),
			jobs.Fallback(func(context.Context, error) (string, error) { return "", jobs.Permanent(errors.New("no other way")) }))
		return "", err
	})}})
	h := enqueue(t, b, kind.New("k", order{}))
	inState(t, b.store, h.Queue, h.Key, jobs.StateQuarantined)
	entry, err := b.store.Entry(t.Context(), h.Queue, h.Key)
	if err != nil || !strings.HasPrefix(entry.Dependencies["payments"], "open since ") {
		t.Errorf("%v, %v", err, entry.Dependencies)
	}
}
