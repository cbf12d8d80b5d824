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
		return jobs.Step(ctx, "last", func(ctx context.Context) (string, error) {
			close(running)
			time.Sleep(300 * time.Millisecond)
			return "ok", ctx.Err()
		})
	})}})
	if _, err := s.Enqueue(t.Context(), kind.New("k", order{ID: 1})); err != nil {
		t.Fatal(err)
	}
	<-running
	stop()
	if info, err := s.Get(t.Context(), "default", "k"); err != nil || info.State != jobs.StateCompleted {
		t.Fatalf("%+v, %v", info, err)
	}
	owners, err := s.Redis().ZRange(t.Context(), "perdure:owners", 0, -1).Result()
	if err != nil || len(owners) != 0 {
		t.Fatalf("owners left behind: %v, %v", owners, err)
	}
}

// A job leaves a worker that stops where nothing is lost by it: before a step, or
// when it has saved progress. It need not run on for the whole shutdown timeout.
func TestStopHandsAJobOverAtItsNextBoundary(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]func(e *execution) func(context.Context, order) (string, error){
		"step": func(e *execution) func(context.Context, order) (string, error) {
			return func(ctx context.Context, _ order) (string, error) {
				if _, err := jobs.Step(ctx, "first", e.piece); err != nil {
					return "", err
				}
				return jobs.Step(ctx, "second", e.piece)
			}
		},
		"progress": func(e *execution) func(context.Context, order) (string, error) {
			return func(ctx context.Context, _ order) (string, error) {
				done, _, err := jobs.Progress[int](ctx)
				for ; done < 2 && err == nil; done++ {
					if _, err = e.piece(ctx); err == nil {
						err = jobs.Heartbeat(ctx, done+1)
					}
				}
				if err != nil {
					err = errors.New("hidden: " + err.Error()) // also where a handler does not wrap
				}
				return "ok", err
			}
		},
		"branch": func(e *execution) func(context.Context, order) (string, error) {
			return func(ctx context.Context, _ order) (string, error) {
				_, err := jobs.Map(ctx, "each", []string{"a", "b", "c"}, func(s string) string { return s },
					func(ctx context.Context, _ string) (string, error) { return e.piece(ctx) }, jobs.AtMost(2))
				return "ok", err
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handOver(t, handler)
		})
	}
}

// execution counts the pieces of a job, and holds them up until a worker stops.
type execution struct {
	pieces  atomic.Int64
	running chan struct{}
	stopped chan struct{}
}

func (e *execution) piece(ctx context.Context) (string, error) {
	if e.pieces.Add(1) == 1 {
		close(e.running)
	}
	<-e.stopped
	return "ok", ctx.Err()
}

func handOver(t *testing.T, handler func(e *execution) func(context.Context, order) (string, error)) {
	s := newFaulty(t)
	kind := jobs.Define[order, string]("order.one", fast(1)...)
	e := &execution{running: make(chan struct{}), stopped: make(chan struct{})}
	options := worker.Options{Handlers: []jobs.Handler{kind.Do(handler(e))}, ShutdownTimeout: time.Hour}
	stop := runWorker(t, s, options)
	if _, err := s.Enqueue(t.Context(), kind.New("k", order{ID: 1})); err != nil {
		t.Fatal(err)
	}
	<-e.running
	left := make(chan struct{})
	go func() { defer close(left); stop() }()
	time.Sleep(100 * time.Millisecond) // the worker now stops and waits
	close(e.stopped)
	<-left
	begun := e.pieces.Load()
	info, err := s.Get(t.Context(), "default", "k")
	if err != nil || info.State != jobs.StatePending || info.Attempts != 0 || len(info.Failures) != 0 {
		t.Fatalf("%+v, %v", info, err)
	}
	runWorker(t, s, options)
	info = inState(t, s.Store, "default", "k", jobs.StateCompleted)
	if info.Attempts != 0 || info.Runs != 2 {
		t.Fatalf("%+v", info)
	}
	whole := int64(2)
	if len(info.Steps) > 0 {
		whole = int64(len(info.Steps))
	}
	if e.pieces.Load() != whole || begun == whole {
		t.Errorf("%d pieces began before the stop, %d in all, want %d in all", begun, e.pieces.Load(), whole)
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
	if took := time.Since(began); took > 30*time.Second {
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
