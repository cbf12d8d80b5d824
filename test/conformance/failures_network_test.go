package conformance

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// counted returns at once and counts.
type counted struct{ runs atomic.Int64 }

// ProcessTask implements [asynq.Handler].
func (c *counted) ProcessTask(context.Context, *asynq.Task) error { c.runs.Add(1); return nil }

// The link breaks just when a job has finished, and is well again a moment later.
func TestABlipWhenTheJobIsDone(t *testing.T) {
	t.Parallel()
	t.Run("stock asynq never sends it again and runs the finished job once more", func(t *testing.T) {
		t.Parallel()
		s := newSide(t)
		p, next := s.process(t), s.process(t)
		h := &counted{}
		p.link.fail(stockDone)
		p.stock(t, h, quick)
		s.add(t, "k", "p")
		// The syncer sends it again every 5 s, on a context that has ended.
		if again := p.link.answered(t, stockDone, 1); !errors.Is(again.err, context.Canceled) {
			t.Fatalf("the Done that is sent again: %v", again.err)
		}
		if err := p.rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if s.stateOf(t, "k") != asynq.TaskStateActive || h.runs.Load() != 1 {
			t.Fatalf("%v after %d executions", s.stateOf(t, "k"), h.runs.Load())
		}
		s.lapse(t, "k")
		next.stock(t, h, quick)
		eventually(t, "the finished job is run again", func() bool { return h.runs.Load() == 2 })
	})
	t.Run("perdure sends it again and the job ends once", func(t *testing.T) {
		t.Parallel()
		p := newSide(t).process(t, asConnect)
		h := &counted{}
		p.link.fail("complete")
		p.ours(t, quickly(h))
		p.add(t, "k", "p")
		eventually(t, "the job is done", func() bool { return p.gone("k") })
		if again := p.link.answered(t, "complete", 1); again.err != nil || again.answer != int64(1) {
			t.Fatalf("the verdict that is sent again was answered %v, %v", again.answer, again.err)
		}
		if n := h.runs.Load(); n != 1 {
			t.Fatalf("%d executions", n)
		}
	})
}

// Redis hands a job out and the answer is lost. The task must not be retried, so
// that it shows whether it was run at all.
func TestALostAnswerToAClaim(t *testing.T) {
	t.Parallel()
	t.Run("stock asynq archives the job without ever having run it", func(t *testing.T) {
		t.Parallel()
		s := newSide(t)
		p, next := s.process(t), s.process(t)
		h := &counted{}
		s.add(t, "k", "p", asynq.MaxRetry(0))
		p.link.lose(stockDequeue)
		p.stock(t, h, quick)
		eventually(t, "it is handed out", func() bool { return s.stateOf(t, "k") == asynq.TaskStateActive })
		s.add(t, "other", "p")
		eventually(t, "another job is done", func() bool { return s.gone("other") })
		never(t, "the lost one is done", time.Second, func() bool { return s.gone("k") || h.runs.Load() > 1 })
		if in := s.places(t, "k"); strings.Join(in, " ") != "active lease" {
			t.Fatalf("it is in %v", in)
		}
		s.lapse(t, "k")
		next.stock(t, h, quick)
		reach(t, s, "k", asynq.TaskStateArchived)
		if h.runs.Load() != 1 { // the other one
			t.Fatalf("%d executions", h.runs.Load())
		}
	})
	t.Run("perdure hands it back within seconds and runs it once", func(t *testing.T) {
		t.Parallel()
		p := newSide(t).process(t, asConnect)
		h := &counted{}
		p.add(t, "k", "p", asynq.MaxRetry(0), asynq.Retention(time.Hour))
		p.link.lose("claim")
		p.ours(t, quickly(h))
		began := time.Now()
		reach(t, p.side, "k", asynq.TaskStateCompleted)
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("done after %v", took)
		}
		info, err := store.New(p.rdb, p.rdb).Get(t.Context(), "default", "k")
		if err != nil || h.runs.Load() != 1 || info.Runs != 2 || info.Attempts != 0 || info.Crashes != 0 { // two claims
			t.Fatalf("%d executions, %+v, %v", h.runs.Load(), info, err)
		}
		if back := p.link.calls("handback"); len(back) != 1 || back[0].answer != int64(1) {
			t.Fatalf("handed back %+v", back)
		}
	})
}

const (
	silence = 1600 * time.Millisecond // perdure's limit, by default
	freeze  = 3500 * time.Millisecond // over twice that
)

// Redis stands still for longer than a worker may be silent, with a second worker
// there to take over. The half for stock asynq needs a freeze of 37 s and is in
// failures_freeze_test.go.
func TestAFrozenRedis(t *testing.T) {
	t.Parallel()
	server, s := ownServer(t)
	frozenJobs(t, s, frozenFor(server, freeze))
}

// ownServer returns a side on a Redis that the test can harm.
func ownServer(t *testing.T) (*redistest.Server, *side) {
	t.Helper()
	server := redistest.NewServer(t)
	o, err := redis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return server, sideOn(rdb)
}

func frozenFor(server *redistest.Server, d time.Duration) func(during func()) {
	return func(during func()) {
		server.Freeze()
		during()
		time.Sleep(d)
		server.Thaw()
	}
}

// frozenJobs has one job end during the freeze, and one go on until after the
// time in which a scheduler takes over from workers that it has not heard of.
func frozenJobs(t *testing.T, s *side, freeze func(during func())) {
	t.Helper()
	a, b := s.process(t, asConnect), s.process(t, asConnect)
	st := store.New(s.rdb, s.rdb)
	began, release := make(chan string, 9), map[string]chan struct{}{"during": make(chan struct{}), "after": make(chan struct{})}
	kind := jobs.Define[string, string]("kind.a", jobs.Timeout(10*time.Minute))
	worker := quickly(nil)
	worker.Fallback = nil
	worker.Handlers = []jobs.Handler{kind.Do(func(ctx context.Context, key string) (string, error) {
		began <- key
		select {
		case <-release[key]:
			return "ok", nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	})}
	a.ours(t, worker)
	for _, key := range []string{"during", "after"} {
		if _, err := st.Enqueue(t.Context(), kind.New(key, key)); err != nil {
			t.Fatal(err)
		}
		<-began
	}
	b.ours(t, worker)
	eventually(t, "both workers beat", func() bool { return s.rdb.ZCard(t.Context(), "perdure:owners").Val() == 2 })
	// A scheduler may be heard before the worker is: its next beat comes a second late.
	_, beat := a.link.hold(t, "beat")
	freeze(func() { close(release["during"]) })
	taken := func() bool { return len(began) > 0 }
	never(t, "the job is taken from its worker", time.Second, taken)
	beat()
	never(t, "the job is taken from its worker", 2*silence, taken)
	reach(t, s, "during", asynq.TaskStateCompleted)
	close(release["after"])
	reach(t, s, "after", asynq.TaskStateCompleted)
	for key := range release {
		if info, err := st.Get(t.Context(), "default", key); err != nil || info.Runs != 1 || info.Crashes != 0 || info.Attempts != 0 {
			t.Errorf("%+v, %v", info, err)
		}
	}
	for _, p := range []process{a, b} {
		for _, call := range p.link.calls("reclaim") {
			t.Errorf("a reclaim was answered %v, %v", call.answer, call.err)
		}
	}
}
