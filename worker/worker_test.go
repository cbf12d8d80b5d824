package worker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/scheduler"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/worker"
)

// TestMain is also the main of the worker processes that tests start, and of the
// processes that those start for suspects.
func TestMain(m *testing.M) {
	if worker.Isolated() {
		os.Exit(childMain())
	}
	if url := os.Getenv(workerProcess); url != "" {
		os.Exit(workerMain(url))
	}
	redistest.Main(m)
}

type order struct {
	ID int `json:"id"`
}

type bundle struct {
	store *store.Store
	stop  func() // stops the worker and waits
	w     *worker.Worker
}

// start runs a worker and a scheduler on a database of its own.
func start(t *testing.T, o worker.Options) *bundle {
	t.Helper()
	b := arranged(t)
	b.run(t, o)
	return b
}

// arranged is a bundle that does not run yet. What is said of dependencies and limits before
// it does is known to the worker before its first claim.
func arranged(t *testing.T) *bundle {
	t.Helper()
	client := redistest.Client(t)
	return &bundle{store: store.New(client, client)}
}

func (b *bundle) run(t *testing.T, o worker.Options) {
	t.Helper()
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	w, err := worker.New(b.store, o)
	if err != nil {
		t.Fatal(err)
	}
	s, err := scheduler.New(b.store, scheduler.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{}, 2)
	go func() {
		if err := w.Run(ctx); err != nil {
			t.Errorf("worker: %v", err)
		}
		done <- struct{}{}
	}()
	go func() { s.Run(ctx); done <- struct{}{} }()
	stopped := false
	b.w = w
	b.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			<-done
			<-done
		}
	}
	t.Cleanup(b.stop)
}

func wait(t *testing.T, h jobs.Handle) jobs.Info {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	info, err := h.Wait(ctx)
	if err != nil {
		t.Fatalf("wait: %v (job is %+v)", err, info)
	}
	return info
}

func enqueue(t *testing.T, b *bundle, job jobs.Job) jobs.Handle {
	t.Helper()
	h, err := b.store.Enqueue(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestAJobRunsItsStepsOnceAndKeepsItsResult(t *testing.T) {
	t.Parallel()
	var first, second atomic.Int64
	kind := jobs.Define[order, string]("order.run", jobs.Retry(jobs.Fixed(10*time.Millisecond, 3)))
	b := start(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, o order) (string, error) {
		a, err := jobs.Step(ctx, "first", func(context.Context) (int64, error) { return first.Add(1), nil })
		if err != nil {
			return "", err
		}
		if _, err := jobs.Step(ctx, "second", func(context.Context) (int64, error) {
			if second.Add(1) == 1 {
				return 0, errors.New("not yet")
			}
			return 1, nil
		}); err != nil {
			return "", err
		}
		return fmt.Sprintf("%d-%d", o.ID, a), nil
	})}})
	info := wait(t, enqueue(t, b, kind.New("order:7", order{ID: 7})))
	got, err := kind.Result(info)
	if err != nil || got != "7-1" {
		t.Fatalf("result %q, %v; job %+v", got, err, info)
	}
	if first.Load() != 1 || second.Load() != 2 || info.Attempts != 1 || info.Runs != 2 || len(info.Failures) != 1 || len(info.Steps) != 2 {
		t.Fatalf("first ran %d, second %d times; job %+v", first.Load(), second.Load(), info)
	}
	again := enqueue(t, b, kind.New("order:7", order{ID: 7}))
	if !again.Duplicate || again.State != jobs.StateCompleted || again.Incarnation != info.Incarnation {
		t.Fatalf("duplicate: %+v", again)
	}
	if _, err := b.store.Enqueue(t.Context(), kind.New("order:7", order{ID: 8})); !errors.Is(err, jobs.ErrOtherPayload) {
		t.Fatalf("other payload: %v", err)
	}
}
