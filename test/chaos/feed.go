package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/internal/history"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// feed enqueues the jobs and keeps the ledger of what was accepted: the file that
// the run is judged by. A key is accepted when Enqueue has returned nil, and is
// on disk before anyone counts on it.
type feed struct {
	stage  *stage
	store  *store.Store // behind a proxy, answers withheld
	sample []orders.Order
	giveUp chan struct{} // closed when what is not accepted by now need not be

	mu       sync.Mutex
	ledger   *os.File
	accepted map[string]string // key to incarnation
	order    []string
}

func (s *stage) openFeed(ctx context.Context) (*feed, error) {
	f := &feed{stage: s, accepted: map[string]string{}, giveUp: make(chan struct{})}
	var err error
	if f.sample, err = orders.Sample(); err != nil {
		return nil, err
	}
	if f.ledger, err = os.OpenFile(ledgerPath(s.dir), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	if f.store, err = store.Connect(ctx, s.url(s.feeder)); err != nil {
		return nil, errors.Join(err, f.ledger.Close())
	}
	f.store.Redis().AddHook(s.history.Withhold(s.options.Seed, 0.01))
	return f, nil
}

// feed enqueues every job one to three times: at once, or again later. It spreads
// them over most of the time of the faults.
func (f *feed) feed(ctx context.Context) {
	o := f.stage.options
	r := rand.New(rand.NewPCG(o.Seed, 3))
	began, length := time.Now(), o.Duration*85/100
	var calls sync.WaitGroup
	for i := range o.Workflows {
		job := f.job(i)
		at := length * time.Duration(i) / time.Duration(o.Workflows)
		for _, other := range f.company(i) {
			calls.Go(func() {
				sleep(ctx, at-time.Since(began))
				f.enqueue(ctx, other)
			})
		}
		for n := range 1 + r.IntN(3) {
			later := time.Duration(0)
			if n > 0 && r.IntN(2) == 0 {
				later = time.Duration(r.Int64N(int64(5 * time.Second)))
			}
			calls.Go(func() {
				sleep(ctx, at+later-time.Since(began))
				f.enqueue(ctx, job)
			})
		}
	}
	calls.Wait()
}

func (f *feed) job(i int) jobs.Job {
	o := f.sample[i%len(f.sample)]
	o.ID = fmt.Sprintf("order:%d", 1_000_000+i)
	return orders.Fulfil.New(o.ID, o)
}

// enqueue tries until the job is accepted or nobody waits for it any more.
func (f *feed) enqueue(ctx context.Context, job jobs.Job) {
	for ctx.Err() == nil {
		handle, err := f.try(ctx, job)
		if err == nil {
			err = f.signal(ctx, job.Key)
		}
		if err == nil {
			if handle.Duplicate {
				f.stage.counters.add(duplicates, 1)
			}
			f.stage.fail(f.accept(handle))
			return
		}
		if !errors.Is(err, jobs.ErrUnavailable) {
			f.stage.fail(err)
			return
		}
		select {
		case <-f.giveUp:
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// try makes one call and records it.
func (f *feed) try(ctx context.Context, job jobs.Job) (jobs.Handle, error) {
	e, err := f.stage.history.Call(history.Event{Op: history.Enqueue, Key: job.Key})
	if err != nil {
		return jobs.Handle{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	handle, err := f.store.Enqueue(ctx, job)
	switch {
	case err != nil:
		e.Outcome = history.Unknown
		if errors.Is(err, context.DeadlineExceeded) {
			err = errors.Join(jobs.ErrUnavailable, err)
		}
	case handle.Duplicate:
		e.Outcome = history.Duplicate
	default:
		e.Outcome = history.OK
	}
	return handle, errors.Join(err, f.stage.history.Add(e))
}

// again sends every job once more.
func (f *feed) again(ctx context.Context) {
	var calls sync.WaitGroup
	for i := range f.stage.options.Workflows {
		for _, job := range append(f.company(i), f.job(i)) {
			calls.Go(func() { f.enqueue(ctx, job) })
		}
	}
	calls.Wait()
}

// accept writes a key down when it is new.
func (f *feed) accept(h jobs.Handle) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.accepted[h.Key] != "" {
		return nil
	}
	if _, err := fmt.Fprintln(f.ledger, h.Key, h.Incarnation); err != nil {
		return err
	}
	if err := f.ledger.Sync(); err != nil {
		return err
	}
	f.accepted[h.Key] = h.Incarnation
	f.order = append(f.order, h.Key)
	return nil
}

// replaced reports that a job is not the one that was accepted under its key: that
// one was lost, and the producer has sent the key again since.
func (f *feed) replaced(info jobs.Info) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.accepted[info.Key] != info.Incarnation
}

// keys are what was accepted, in order.
func (f *feed) keys() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.order[:len(f.order):len(f.order)]
}

// wanted is how many jobs there are to accept.
func (f *feed) wanted() int {
	n := f.stage.options.Workflows
	for i := range f.stage.options.Workflows {
		n += len(f.company(i))
	}
	return n
}

// finish waits for the calls under way until ctx ends, and then lets them give up.
func (f *feed) finish(ctx context.Context) {
	for len(f.keys()) < f.wanted() && sleep(ctx, 50*time.Millisecond) {
	}
	close(f.giveUp)
}

func (f *feed) close() {
	f.store.Close()
	f.ledger.Close()
}
