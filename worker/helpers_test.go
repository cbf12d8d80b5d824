package worker_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/scheduler"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/worker"
)

var by = jobs.Decision{Actor: "test", Reason: "because"}

// fast retries quickly, whatever the class.
func fast(attempts int) []jobs.Option {
	s := jobs.Fixed(10*time.Millisecond, attempts)
	return []jobs.Option{
		jobs.Retry(s), jobs.RetryClass(jobs.ClassPanic, s), jobs.RetryClass(jobs.ClassDenied, s),
		jobs.RetryClass(jobs.ClassUnavailable, s), jobs.RetryClass(jobs.ClassThrottled, s),
	}
}

// one runs a single job of a kind to its end.
func one(t *testing.T, options []jobs.Option, run func(context.Context, order) (string, error), job ...jobs.JobOption) (jobs.Info, *bundle) {
	t.Helper()
	kind := jobs.Define[order, string]("order.one", options...)
	b := start(t, worker.Options{Handlers: []jobs.Handler{kind.Do(run)}, Grace: 50 * time.Millisecond})
	promote(t, b.store, "default")
	return wait(t, enqueue(t, b, kind.New("k", order{ID: 1}, job...))), b
}

// promote looks for due jobs more often than the scheduler does.
func promote(t *testing.T, s *store.Store, queue string) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_, _ = s.Promote(ctx, queue)
			time.Sleep(5 * time.Millisecond)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// eventually polls until ok, for at most thirty seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never happened: %s", what)
}

// inState waits until a job is in a state.
func inState(t *testing.T, s *store.Store, queue, key string, state jobs.State) jobs.Info {
	t.Helper()
	var info jobs.Info
	eventually(t, key+" is "+string(state), func() bool {
		var err error
		if info, err = s.Get(t.Context(), queue, key); err != nil {
			t.Fatal(err)
		}
		return info.State == state
	})
	return info
}

// metric sums a metric's values over its labels.
func metric(t *testing.T, r *prometheus.Registry, name string, labels ...string) (sum float64) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if has(m, labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

func has(m *dto.Metric, values []string) bool {
	found := 0
	for _, pair := range m.GetLabel() {
		for _, v := range values {
			if pair.GetValue() == v {
				found++
			}
		}
	}
	return found == len(values)
}

// faulty is a store that tests break.
type faulty struct {
	*store.Store
	loseClaim  atomic.Bool  // the next claim of a job executes and says that it failed
	loseSettle atomic.Int64 // so many verdicts execute and say that they failed
	silent     atomic.Bool  // beats say that they went in, and do not
	dead       atomic.Bool  // as silent, and nothing else goes in either
	mu         sync.Mutex
	owners     []string // who claimed, in order, without repetition
	lost       []string // keys of the jobs whose claim was lost
	claims     []string // queues that jobs were claimed from, in order
	handed     atomic.Int64
}

var errLostReply = &net.OpError{Op: "read", Net: "tcp", Err: errors.New("i/o timeout")}

func (f *faulty) Claim(ctx context.Context, queue, owner string, most int) (delivery.Batch, error) {
	if f.dead.Load() {
		return delivery.Batch{}, errLostReply
	}
	batch, err := f.Store.Claim(ctx, queue, owner, most)
	f.mu.Lock()
	if len(f.owners) == 0 || f.owners[len(f.owners)-1] != owner {
		f.owners = append(f.owners, owner)
	}
	for range batch.Deliveries {
		f.claims = append(f.claims, queue)
	}
	f.mu.Unlock()
	if len(batch.Deliveries) > 0 && f.loseClaim.CompareAndSwap(true, false) {
		f.mu.Lock()
		for _, d := range batch.Deliveries {
			f.lost = append(f.lost, d.Key)
		}
		f.mu.Unlock()
		return delivery.Batch{}, errLostReply
	}
	return batch, err
}

func (f *faulty) Settle(ctx context.Context, d delivery.Delivery, v delivery.Verdict) error {
	if f.dead.Load() {
		return errLostReply
	}
	err := f.Store.Settle(ctx, d, v)
	if err == nil && f.loseSettle.Add(-1) >= 0 {
		return errLostReply
	}
	return err
}

func (f *faulty) Beat(ctx context.Context, owner string, first bool) (bool, error) {
	if f.silent.Load() || f.dead.Load() {
		return true, nil
	}
	return f.Store.Beat(ctx, owner, first)
}

func (f *faulty) Holdings(ctx context.Context, queue, owner string) (delivery.Holdings, error) {
	if f.dead.Load() {
		return delivery.Holdings{}, errLostReply
	}
	return f.Store.Holdings(ctx, queue, owner)
}

func (f *faulty) HandBack(ctx context.Context, hold delivery.Hold) error {
	if f.dead.Load() {
		return errLostReply
	}
	f.handed.Add(1)
	return f.Store.HandBack(ctx, hold)
}

func (f *faulty) Retire(ctx context.Context, owner string) error {
	if f.dead.Load() {
		return errLostReply
	}
	return f.Store.Retire(ctx, owner)
}

// commands counts what goes to Redis, scripts by their name.
type commands struct {
	mu    sync.Mutex
	count map[string]int
}

func (c *commands) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *commands) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.add(cmd)
		return next(ctx, cmd)
	}
}

func (c *commands) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			c.add(cmd)
		}
		return next(ctx, cmds)
	}
}

func (c *commands) add(cmd redis.Cmder) {
	name := strings.ToLower(cmd.Name())
	switch name {
	case "hello", "client", "select":
		return // of a new connection
	case "hget":
		if cmd.Args()[1] == "perdure:{@dep}:board" {
			return // other tests of the server have news of dependencies: a channel is that of all its databases
		}
	case "evalsha":
		if sha, ok := cmd.Args()[1].(string); ok {
			name = store.ScriptName(sha)
		}
	}
	c.mu.Lock()
	c.count[name]++
	c.mu.Unlock()
}

func (c *commands) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count = map[string]int{}
}

func (c *commands) snapshot() (total int, count map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	count = map[string]int{}
	for name, n := range c.count {
		total += n
		count[name] = n
	}
	return total, count
}

// newFaulty returns a store that can be broken, on a database of its own.
func newFaulty(t *testing.T) *faulty {
	t.Helper()
	client := redistest.Client(t)
	return &faulty{Store: store.New(client, client)}
}

// runWorker runs a worker alone and returns how to stop it.
func runWorker(t *testing.T, s worker.Store, o worker.Options) (stop func()) {
	t.Helper()
	w, err := worker.New(s, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := w.Run(ctx); err != nil {
			t.Errorf("worker: %v", err)
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(stop)
	return stop
}

// runScheduler runs a scheduler alone.
func runScheduler(t *testing.T, s scheduler.Store) {
	t.Helper()
	k, err := scheduler.New(s, scheduler.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { k.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
}

// dueNow is a job of a waiting set that is due.
func dueNow(key string) redis.Z { return redis.Z{Score: 1, Member: key} }
