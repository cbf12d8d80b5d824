package conformance

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// reuse is the handler for a key that is used for a second job: the first one
// returns at once, the second one is held at its first execution.
type reuse struct{ second *held }

// ProcessTask implements [asynq.Handler].
func (r reuse) ProcessTask(ctx context.Context, task *asynq.Task) error {
	if string(task.Payload()) == "first" {
		return nil
	}
	return r.second.ProcessTask(ctx, task)
}

// A finishes the job, and the bytes that say so are stuck in a network that has
// broken. B runs it again, the key is used for a new job, the network heals and
// the bytes arrive. B is killed while it runs the new job.
func TestALateDoneAndANewJobOfTheSameKey(t *testing.T) {
	t.Parallel()
	t.Run("stock asynq loses the new job", func(t *testing.T) {
		t.Parallel()
		s := newSide(t)
		a, b, c := s.process(t), s.process(t), s.process(t)
		h := newHeld(t)
		stuck, deliver := a.link.hold(t, stockDone)
		a.stock(t, reuse{h}, quick)
		s.add(t, "k", "first")
		await(t, "A is done", stuck)
		a.link.cut.Store(true)
		s.lapse(t, "k")
		b.stock(t, reuse{h}, quick)
		eventually(t, "B is done as well", func() bool { return s.gone("k") })
		s.add(t, "k", "second")
		await(t, "B runs the new job", h.began)

		deliver()
		if late := a.link.answered(t, stockDone, 1); late.err != nil {
			t.Fatalf("the late Done: %v", late.err)
		}
		b.link.cut.Store(true) // killed
		if !s.gone("k") || len(s.places(t, "k")) != 0 {
			t.Fatalf("the new job is still there: %v", s.places(t, "k"))
		}
		c.stock(t, reuse{h}, quick)
		c.link.answered(t, stockExpired, 1)
		never(t, "the new job is run by anyone", time.Second, func() bool { return h.runs.Load() > 1 })
	})
	t.Run("perdure refuses the verdict and another worker finishes the job", func(t *testing.T) {
		t.Parallel()
		s := newSide(t)
		s.keeper(t)
		a, b := s.process(t, asConnect), s.process(t, asConnect)
		h := newHeld(t)
		stuck, deliver := a.link.hold(t, "complete")
		a.ours(t, quickly(reuse{h}))
		s.add(t, "k", "first")
		await(t, "A is done", stuck)
		a.link.cut.Store(true)
		b.ours(t, quickly(reuse{h}))
		eventually(t, "B is done as well", func() bool { return s.gone("k") })
		s.add(t, "k", "second")
		await(t, "B runs the new job", h.began)

		deliver()
		if late := a.link.answered(t, "complete", 1); late.err != nil || late.answer != int64(-2) {
			t.Fatalf("the late verdict was answered %v, %v; -2 is stale", late.answer, late.err)
		}
		if s.stateOf(t, "k") != asynq.TaskStateActive {
			t.Fatal("the late verdict changed the new job")
		}
		a.link.cut.Store(false) // A is back
		b.link.cut.Store(true)  // killed
		eventually(t, "A finishes the new job", func() bool { return s.gone("k") })
		if n := h.runs.Load(); n != 2 {
			t.Fatalf("the new job was run %d times, by B and by A", n)
		}
	})
}

// A Retry is executed and its answer is lost; the job is due at once, and the same
// process runs it again before go-redis sends the Retry once more.
func TestARetrySentAgainWhileTheJobRunsAgain(t *testing.T) {
	t.Parallel()
	// The second execution is held; the first one fails.
	handler := func(t *testing.T) (h *held, handle asynq.HandlerFunc, runs *atomic.Int64) {
		h, runs = newHeld(t), new(atomic.Int64)
		return h, func(ctx context.Context, task *asynq.Task) error {
			if runs.Add(1) == 1 {
				return errors.New("once")
			}
			return h.ProcessTask(ctx, task)
		}, runs
	}
	t.Run("stock asynq runs the job twice at the same time", func(t *testing.T) {
		t.Parallel()
		p := newSide(t).process(t)
		h, handle, runs := handler(t)
		p.link.again(t, stockRetry, h.began)
		p.stock(t, handle, quick)
		p.add(t, "k", "p")
		eventually(t, "a third execution while the second one goes on", func() bool { return runs.Load() == 3 })
		if second := p.link.answered(t, stockRetry, 2); second.err != nil {
			t.Fatalf("the second Retry: %v", second.err)
		}
	})
	t.Run("perdure knows it and changes nothing", func(t *testing.T) {
		t.Parallel()
		p := newSide(t).process(t, asConnect)
		h, handle, runs := handler(t)
		p.link.again(t, "retry", h.began)
		p.ours(t, quickly(handle))
		p.add(t, "k", "p")
		await(t, "the second execution", h.began)
		if again := p.link.answered(t, "retry", 2); again.err != nil || again.answer != int64(2) {
			t.Fatalf("the second Retry was answered %v, %v; 2 is sent twice", again.answer, again.err)
		}
		if in := p.places(t, "k"); strings.Join(in, " ") != "active lease" {
			t.Fatalf("the job is in %v", in)
		}
		h.free()
		eventually(t, "the job is done", func() bool { return p.gone("k") })
		if n := runs.Load(); n != 2 {
			t.Fatalf("%d executions", n)
		}
	})
}

// The lease of a running task is deleted by hand, or lost in a fail-over.
func TestARunningTaskWithoutALease(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, p process, h *held) {
		p.add(t, "k", "p")
		await(t, "the execution", h.began)
		if n, err := p.rdb.ZRem(t.Context(), "asynq:{default}:lease", "k").Result(); err != nil || n != 1 {
			t.Fatalf("%d, %v", n, err)
		}
		h.free()
	}
	t.Run("stock asynq leaves it in no list and its ID taken", func(t *testing.T) {
		t.Parallel()
		p := newSide(t).process(t)
		h := newHeld(t)
		p.stock(t, h, quick)
		run(t, p, h)
		if done := p.link.answered(t, stockDone, 1); done.err == nil || !strings.Contains(done.err.Error(), "NOT FOUND") {
			t.Fatalf("Done: %v", done.err)
		}
		if in := p.places(t, "k"); p.gone("k") || len(in) != 0 {
			t.Fatalf("gone %t, in %v", p.gone("k"), in)
		}
		if _, err := p.client.Enqueue(asynq.NewTask("kind.a", nil), asynq.TaskID("k")); !errors.Is(err, asynq.ErrTaskIDConflict) {
			t.Fatalf("enqueue again: %v", err)
		}
	})
	t.Run("perdure ends it", func(t *testing.T) {
		t.Parallel()
		p := newSide(t).process(t, asConnect)
		h := newHeld(t)
		p.ours(t, quickly(h))
		run(t, p, h)
		eventually(t, "the job is done", func() bool { return p.gone("k") })
		if in := p.places(t, "k"); len(in) != 0 || h.runs.Load() != 1 {
			t.Fatalf("left in %v after %d executions", in, h.runs.Load())
		}
		p.add(t, "k", "p")
		eventually(t, "the next job of the key is done", func() bool { return p.gone("k") })
	})
}

// A process stops while a handler that does not heed its context goes on. In
// stock asynq the whole handler is what runs; in perdure it has two steps, and the
// second is the one that is held.
func TestAStopWhileTheHandlerGoesOn(t *testing.T) {
	t.Parallel()
	t.Run("stock asynq runs it twice at the same time and both write", func(t *testing.T) {
		t.Parallel()
		s := newSide(t)
		a, b := s.process(t), s.process(t)
		h := newHeld(t)
		var begun, effects atomic.Int64
		handle := asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
			begun.Add(1)
			err := h.ProcessTask(ctx, task)
			effects.Add(1)
			return err
		})
		a.stock(t, handle, quick)
		s.add(t, "k", "p")
		await(t, "A runs it", h.began)
		a.stop()
		b.stock(t, handle, quick)
		eventually(t, "B is done while A's handler goes on", func() bool { return s.gone("k") && begun.Load() == 2 && effects.Load() == 1 })
		h.free()
		eventually(t, "A's handler writes as well", func() bool { return effects.Load() == 2 })
	})
	t.Run("perdure refuses what the first one writes late", func(t *testing.T) {
		t.Parallel()
		s := newSide(t)
		a, b := s.process(t, asConnect), s.process(t, asConnect)
		h := newHeld(t)
		var first atomic.Int64
		late := make(chan error, 2)
		kind := jobs.Define[string, string]("kind.a")
		handler := kind.Do(func(ctx context.Context, _ string) (string, error) {
			if _, err := jobs.Step(ctx, "first", func(context.Context) (int64, error) { return first.Add(1), nil }); err != nil {
				return "", err
			}
			about, _ := jobs.Current(ctx)
			result, err := jobs.Step(ctx, "second", func(ctx context.Context) (string, error) {
				return map[int]string{1: "by A", 2: "by B"}[about.Attempt], h.ProcessTask(ctx, nil)
			})
			late <- err
			return result, err
		})
		o := quickly(h)
		o.Fallback, o.Handlers = nil, []jobs.Handler{handler}
		a.ours(t, o)
		client := store.New(s.rdb, s.rdb)
		if _, err := client.Enqueue(t.Context(), kind.New("k", "p")); err != nil {
			t.Fatal(err)
		}
		await(t, "A runs it", h.began)
		stopped := time.Now()
		a.stop()
		b.ours(t, o)
		reach(t, s, "k", asynq.TaskStateCompleted)
		if took := time.Since(stopped); took > 20*time.Second {
			t.Errorf("it went on after %v", took)
		}
		if err := <-late; err != nil {
			t.Fatalf("B: %v", err)
		}
		h.free()
		if err := <-late; !errors.Is(err, jobs.ErrLost) {
			t.Fatalf("A's late record: %v", err)
		}
		info, err := client.Get(t.Context(), "default", "k")
		if err != nil || info.Attempts != 0 || info.Crashes != 0 || info.Runs != 2 || first.Load() != 1 {
			t.Fatalf("%+v, %v; the first step ran %d times", info, err, first.Load())
		}
		if result, err := kind.Result(info); err != nil || result != "by B" || info.Steps[1].Attempt != 2 {
			t.Fatalf("%q, %v, %+v", result, err, info.Steps)
		}
	})
}
