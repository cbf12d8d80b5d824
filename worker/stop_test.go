package worker_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/worker"
)

func TestStopLetsAttemptsFinish(t *testing.T) {
	t.Parallel()
	s := newFaulty(t)
	kind := jobs.Define[order, string]("order.one")
	running := make(chan struct{})
	stop := runWorker(t, s, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		close(running)
		time.Sleep(300 * time.Millisecond)
		return jobs.Step(ctx, "late", func(context.Context) (string, error) { return "ok", nil })
	})}})
	if _, err := s.Enqueue(t.Context(), kind.New("k", order{ID: 1})); err != nil {
		t.Fatal(err)
	}
	<-running
	stop()
	if info, err := s.Get(t.Context(), "default", "k"); err != nil || info.State != jobs.StateCompleted {
		t.Fatalf("%+v, %v", info, err)
	}
	owners, err := s.Silent(t.Context(), 0)
	if err != nil || len(owners) != 0 {
		t.Fatalf("owners left behind: %v, %v", owners, err)
	}
}

func TestStopHandsTheRestBackAtItsCheckpoint(t *testing.T) {
	t.Parallel()
	s := newFaulty(t)
	kind := jobs.Define[order, string]("order.one", fast(1)...)
	var first, second atomic.Int64
	running, causes := make(chan struct{}), make(chan error, 2)
	handler := kind.Do(func(ctx context.Context, _ order) (string, error) {
		if _, err := jobs.Step(ctx, "first", func(context.Context) (int64, error) { return first.Add(1), nil }); err != nil {
			return "", err
		}
		return jobs.Step(ctx, "second", func(ctx context.Context) (string, error) {
			if second.Add(1) == 1 {
				close(running)
				<-ctx.Done()
				causes <- context.Cause(ctx)
				return "", ctx.Err()
			}
			return "ok", nil
		})
	})
	options := worker.Options{Handlers: []jobs.Handler{handler}, ShutdownTimeout: 50 * time.Millisecond}
	stop := runWorker(t, s, options)
	if _, err := s.Enqueue(t.Context(), kind.New("k", order{ID: 1})); err != nil {
		t.Fatal(err)
	}
	<-running
	stop()
	if cause := <-causes; !errors.Is(cause, jobs.ErrShutdown) {
		t.Fatalf("cause %v", cause)
	}
	info, err := s.Get(t.Context(), "default", "k")
	if err != nil || info.State != jobs.StatePending || info.Attempts != 0 || len(info.Steps) != 1 || len(info.Failures) != 0 {
		t.Fatalf("%+v, %v", info, err)
	}
	runWorker(t, s, options)
	info = inState(t, s.Store, "default", "k", jobs.StateCompleted)
	if info.Attempts != 0 || info.Runs != 2 || first.Load() != 1 || second.Load() != 2 {
		t.Fatalf("first ran %d, second %d times: %+v", first.Load(), second.Load(), info)
	}
}

func TestStopDoesNotWaitForAHandlerThatIgnoresIt(t *testing.T) {
	t.Parallel()
	s := newFaulty(t)
	kind := jobs.Define[order, string]("order.one")
	running, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	stop := runWorker(t, s, worker.Options{
		ShutdownTimeout: 10 * time.Millisecond, Grace: 10 * time.Millisecond,
		Handlers: []jobs.Handler{kind.Do(func(context.Context, order) (string, error) {
			once.Do(func() { close(running) })
			<-release
			return "", nil
		})},
	})
	t.Cleanup(func() { close(release) })
	if _, err := s.Enqueue(t.Context(), kind.New("k", order{ID: 1})); err != nil {
		t.Fatal(err)
	}
	<-running
	began := time.Now()
	stop()
	if took := time.Since(began); took > 3*time.Second {
		t.Fatalf("stopped after %v", took)
	}
	if info, err := s.Get(t.Context(), "default", "k"); err != nil || info.State != jobs.StatePending || info.Attempts != 0 {
		t.Fatalf("%+v, %v", info, err)
	}
}

func TestStopBeforeStartAndStopTwice(t *testing.T) {
	t.Parallel()
	s := newFaulty(t)
	w, err := worker.New(s, worker.Options{Queues: map[string]int{"q": 1}})
	if err != nil {
		t.Fatal(err)
	}
	if w.Ready() == nil {
		t.Fatal("ready before it was started")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cancel()
	if err := w.Run(ctx); err != nil {
		t.Fatalf("stopped before its start: %v", err)
	}
	if err := w.Run(t.Context()); err == nil {
		t.Fatal("started twice")
	}
}

func TestAWorkerThatCannotReachRedisDoesNotStart(t *testing.T) {
	t.Parallel()
	s := newFaulty(t)
	if err := s.Redis().Close(); err != nil {
		t.Fatal(err)
	}
	w, err := worker.New(s, worker.Options{Queues: map[string]int{"q": 1}, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Run(t.Context()); !errors.Is(err, jobs.ErrUnavailable) {
		t.Fatalf("started: %v", err)
	}
}

func TestOptionsAreBounded(t *testing.T) {
	t.Parallel()
	good := jobs.Define[order, string]("order.one").Do(func(context.Context, order) (string, error) { return "", nil })
	bad := jobs.Define[order, string]("No Such Name").Do(func(context.Context, order) (string, error) { return "", nil })
	for name, o := range map[string]worker.Options{
		"nothing to run":        {},
		"concurrency":           {Handlers: []jobs.Handler{good}, Concurrency: -1},
		"much concurrency":      {Handlers: []jobs.Handler{good}, Concurrency: 10_001},
		"grace":                 {Handlers: []jobs.Handler{good}, Grace: -1},
		"shutdown":              {Handlers: []jobs.Handler{good}, ShutdownTimeout: 2 * time.Hour},
		"beat":                  {Handlers: []jobs.Handler{good}, Beat: time.Millisecond},
		"priority":              {Handlers: []jobs.Handler{good}, Queues: map[string]int{"q": 101}},
		"queue":                 {Handlers: []jobs.Handler{good}, Queues: map[string]int{"": 1}},
		"a kind twice":          {Handlers: []jobs.Handler{good, good}},
		"a kind out of bounds":  {Handlers: []jobs.Handler{bad}},
		"fallback out of bound": {Fallback: &bad, Queues: map[string]int{"q": 1}},
	} {
		if _, err := worker.New(newUnused(), o); !errors.Is(err, jobs.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func newUnused() worker.Store { return nil }
