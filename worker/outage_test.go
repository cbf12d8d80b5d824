package worker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/worker"
)

// payments is a service that can be taken away; it counts.
type payments struct {
	mu     sync.Mutex
	away   bool
	calls  int                  // made
	failed int                  // of them, while it was away
	served map[string]int       // by key
	at     map[string]time.Time // when each was served
	starts []time.Time          // of calls while it was there
}

func newPayments() *payments {
	return &payments{served: map[string]int{}, at: map[string]time.Time{}}
}

func (p *payments) set(away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = away
}

func (p *payments) charge(ctx context.Context, key string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if p.away {
		p.failed++
		return fmt.Errorf("charge: %w", syscall.ECONNREFUSED)
	}
	p.served[key]++
	p.at[key] = time.Now()
	p.starts = append(p.starts, time.Now())
	return nil
}

func (p *payments) count() (calls, failed, served int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls, p.failed, len(p.served)
}

func TestOutage(t *testing.T) {
	t.Parallel()
	p := newPayments()
	kind := jobs.Define[order, string]("order.pay", jobs.Needs("payments"), jobs.Describe(jobs.Dependency{Name: "payments", Resume: 200}))
	var executions atomic.Int64
	handler := kind.Do(func(ctx context.Context, o order) (string, error) {
		executions.Add(1)
		about, _ := jobs.Current(ctx)
		return jobs.Step(ctx, "charge", func(ctx context.Context) (string, error) { return "ok", p.charge(ctx, about.Key) })
	})
	s := newFaulty(t)
	for range 3 {
		runWorker(t, s, worker.Options{Handlers: []jobs.Handler{handler}, Concurrency: 8})
	}
	runScheduler(t, s)
	p.set(true)
	const n = 500
	began := time.Now()
	for i := range n {
		if _, err := s.Enqueue(t.Context(), kind.New(fmt.Sprintf("k%d", i), order{ID: i})); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the breaker opens", func() bool {
		d, err := s.Dependency(t.Context(), "payments")
		return err == nil && d.State == jobs.DependencyOpen
	})
	t.Logf("open after %v", time.Since(began))
	eventually(t, "the queue is paused whole", func() bool {
		q, err := s.QueueInfo(t.Context(), "default")
		return err == nil && q.Paused
	})
	q, _ := s.QueueInfo(t.Context(), "default")
	t.Logf("queue: %+v", q)
	time.Sleep(3 * time.Second)
	calls, failed, _ := p.count()
	t.Logf("calls %d failed %d executions %d", calls, failed, executions.Load())
	p.set(false)
	back := time.Now()
	eventually(t, "the first is served", func() bool { _, _, served := p.count(); return served > 0 })
	t.Logf("first served after %v", time.Since(back))
	d, _ := s.Dependency(t.Context(), "payments")
	t.Logf("%+v", d)
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if _, _, served := p.count(); served == n {
			break
		}
	}
	calls, failed, served := p.count()
	t.Logf("all %d served %v after; calls %d failed %d executions %d", served, time.Since(back), calls, failed, executions.Load())
	d, _ = s.Dependency(t.Context(), "payments")
	t.Logf("%+v", d)
	for i := range n {
		info, err := s.Get(t.Context(), "default", fmt.Sprintf("k%d", i))
		if err != nil || info.State != jobs.StateCompleted || info.Attempts != 0 {
			t.Fatalf("%v %+v", err, info)
		}
	}
	_ = errors.Is
}
