package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/perdure/perdure/deadletter"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// damaged is no message of asynq's.
const damaged = "\xff\x00\x1b[31mnot a message"

// damage overwrites a task's message, whatever state the task is in.
func (s *side) damage(t *testing.T, id string) {
	t.Helper()
	if err := s.rdb.HSet(t.Context(), "asynq:{default}:t:"+id, "msg", damaged).Err(); err != nil {
		t.Fatal(err)
	}
}

// One message cannot be decoded, and the worker that has it dies together with
// one that runs something else.
func TestAnUndecodableMessage(t *testing.T) {
	t.Parallel()
	t.Run("stock asynq recovers nothing any more", func(t *testing.T) {
		t.Parallel()
		s := newSide(t)
		a, b, c := s.process(t), s.process(t), s.process(t)
		h := newHeld(t)
		s.add(t, "good", "p")
		s.add(t, "bad", "p")
		s.damage(t, "bad")
		a.stock(t, h, quick)
		await(t, "A runs the good one", h.began)
		eventually(t, "A takes the bad one", func() bool { return strings.Join(s.places(t, "bad"), " ") == "active lease" })
		a.link.cut.Store(true) // killed
		s.lapse(t, "good")
		s.lapse(t, "bad")
		b.stock(t, h, quick)
		if expired, _ := b.link.answered(t, stockExpired, 1).answer.([]any); len(expired) != 2 {
			t.Fatalf("B's recoverer was given %d messages", len(expired))
		}
		never(t, "the good one is recovered", time.Second, func() bool { return h.runs.Load() > 1 })
		if in := strings.Join(s.places(t, "good"), " "); in != "active lease" {
			t.Fatalf("the good one is in %s", in)
		}
		// It was the bad one that stopped it.
		if err := s.rdb.ZRem(t.Context(), "asynq:{default}:lease", "bad").Err(); err != nil {
			t.Fatal(err)
		}
		c.stock(t, h, quick)
		eventually(t, "the good one is recovered", func() bool { return h.runs.Load() == 2 })
	})
	t.Run("perdure quarantines its bytes and goes on", func(t *testing.T) {
		t.Parallel()
		s := newSide(t)
		s.keeper(t)
		a, b := s.process(t, asConnect), s.process(t, asConnect)
		good, bad := newHeld(t), newHeld(t)
		a.ours(t, quickly(asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
			return map[string]*held{"good": good, "bad": bad}[string(task.Payload())].ProcessTask(ctx, task)
		})))
		s.add(t, "good", "good")
		s.add(t, "bad", "bad")
		await(t, "A runs the good one", good.began)
		await(t, "A runs the bad one", bad.began)
		s.damage(t, "bad")
		a.link.cut.Store(true) // killed
		for i := range 20 {
			s.add(t, fmt.Sprint("waits", i), "p")
		}
		s.damage(t, "waits3")
		s.add(t, "later", "p", asynq.ProcessIn(time.Second))
		s.damage(t, "later")
		h := &counted{}
		b.ours(t, quickly(h))
		eventually(t, "all good ones are done", func() bool { return h.runs.Load() == 20 && s.gone("good") })
		for _, id := range []string{"bad", "waits3", "later"} {
			s.isQuarantined(t, id)
		}
	})
}

// isQuarantined waits until a damaged job is, and looks at it in every way there
// is.
func (s *side) isQuarantined(t *testing.T, id string) {
	t.Helper()
	st := store.New(s.rdb, s.rdb)
	dead := deadletter.New(st)
	eventually(t, id+" is quarantined", func() bool {
		info, err := st.Get(t.Context(), "default", id)
		if err != nil {
			t.Fatal(err)
		}
		return info.State == jobs.StateQuarantined
	})
	entry, err := dead.Show(t.Context(), "default", id)
	if err != nil || string(entry.Raw) != damaged || entry.Class != jobs.ClassInvalid {
		t.Errorf("%+v, %v", entry, err)
	}
	listed, err := dead.List(t.Context(), deadletter.Query{Queue: "default"})
	if err != nil || len(listed.Entries) == 0 {
		t.Errorf("%+v, %v", listed, err)
	}
	if _, err := s.inspector.ListArchivedTasks("default"); err != nil {
		t.Error(err)
	}
	if info, err := s.inspector.GetQueueInfo("default"); err != nil || info.Archived == 0 {
		t.Errorf("%+v, %v", info, err)
	}
	by := jobs.Decision{Actor: "test", Reason: "because"}
	if _, err := dead.Replay(t.Context(), "default", id, false, by); !errors.Is(err, jobs.ErrConflict) {
		t.Errorf("replay: %v", err)
	}
	if _, err := dead.Discard(t.Context(), "default", id, by); err != nil || !s.gone(id) {
		t.Errorf("discard: %v", err)
	}
}

// A result is to be kept for 24 h and a job to run in an hour; then comes a
// process whose clock is 25 h ahead.
func TestAClockThatIsAhead(t *testing.T) {
	t.Parallel()
	const ahead = 25 * time.Hour
	prepare := func(t *testing.T, s *side) {
		s.add(t, "result", "p", asynq.Retention(24*time.Hour))
		reach(t, s, "result", asynq.TaskStateCompleted)
		s.add(t, "later", "p", asynq.ProcessIn(time.Hour), asynq.Retention(48*time.Hour))
	}
	t.Run("stock asynq forgets the one and runs the other", func(t *testing.T) {
		t.Parallel()
		s := newSide(t)
		right, wrong := s.process(t), s.process(t)
		right.stock(t, &counted{}, quick)
		prepare(t, s)
		right.stop()
		wrong.link.ahead.Store(int64(ahead))
		wrong.stock(t, &counted{}, quick)
		eventually(t, "the result is deleted", func() bool { return s.gone("result") })
		reach(t, s, "later", asynq.TaskStateCompleted)
	})
	t.Run("perdure goes by Redis' clock", func(t *testing.T) {
		t.Parallel()
		s := newSide(t)
		right, wrong := s.process(t, asConnect), s.process(t, asConnect)
		right.ours(t, quickly(&counted{}))
		prepare(t, s)
		right.stop()
		wrong.link.ahead.Store(int64(ahead))
		h := &counted{}
		wrong.ours(t, quickly(h))
		wrong.link.answered(t, "expire", 1)
		wrong.link.answered(t, "promote", 4) // two rounds of the two sets
		s.add(t, "now", "p")
		eventually(t, "it works on", func() bool { return s.gone("now") })
		if result, later := s.stateOf(t, "result"), s.stateOf(t, "later"); result != asynq.TaskStateCompleted || later != asynq.TaskStateScheduled || h.runs.Load() != 1 {
			t.Fatalf("result %v, later %v, %d executions", result, later, h.runs.Load())
		}
	})
}

// More jobs fail for good than asynq's archive holds.
func TestMoreDeadJobsThanTheArchiveHolds(t *testing.T) {
	t.Parallel()
	const n = 10_001
	t.Run("stock asynq deletes some", func(t *testing.T) {
		t.Parallel()
		s := newSide(t)
		s.addMany(t, n)
		var runs atomic.Int64
		s.stock(t, asynq.HandlerFunc(func(context.Context, *asynq.Task) error { runs.Add(1); return asynq.SkipRetry }), quick,
			func(c *asynq.Config) { c.Concurrency = 32 })
		eventually(t, "all have failed", func() bool { return s.counter(t, "failed") == n })
		kept := s.rdb.ZCard(t.Context(), "asynq:{default}:archived").Val()
		if kept != 9_999 || s.hashes(t) != 9_999 || runs.Load() != n {
			t.Fatalf("%d in the archive, %d tasks, of %d", kept, s.hashes(t), n)
		}
	})
	t.Run("perdure keeps all", func(t *testing.T) {
		t.Parallel()
		s := newSide(t)
		s.addMany(t, n)
		s.quarantineAll(t)
		for _, set := range []string{"asynq:{default}:archived", "perdure:{default}:dead"} {
			if kept := s.rdb.ZCard(t.Context(), set).Val(); kept != n {
				t.Errorf("%d in %s", kept, set)
			}
		}
		if s.hashes(t) != n {
			t.Errorf("%d tasks", s.hashes(t))
		}
	})
}

// addMany enqueues tasks named by their number.
func (s *side) addMany(t *testing.T, n int) {
	t.Helper()
	var next atomic.Int64
	var adding sync.WaitGroup
	for range 16 {
		adding.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if _, err := s.client.Enqueue(asynq.NewTask("kind.a", nil), asynq.TaskID(fmt.Sprint(i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	adding.Wait()
}

// quarantineAll claims and quarantines every job as a worker does.
func (s *side) quarantineAll(t *testing.T) {
	t.Helper()
	st := store.New(s.rdb, s.rdb)
	entry := delivery.Entry{Class: jobs.ClassInvalid, Reason: "no use", Message: "bad"}
	var isolating sync.WaitGroup
	for worker := range 16 {
		isolating.Go(func() {
			for {
				batch, err := st.Claim(t.Context(), "default", fmt.Sprint("owner", worker), 100)
				if err != nil {
					t.Error(err)
				}
				for _, d := range batch.Deliveries {
					if err := st.Settle(t.Context(), d, delivery.Verdict{Outcome: delivery.Quarantine, Entry: entry}); err != nil {
						t.Error(err)
					}
				}
				if len(batch.Deliveries) == 0 {
					return
				}
			}
		})
	}
	isolating.Wait()
}

func (s *side) counter(t *testing.T, name string) int {
	t.Helper()
	n, err := s.rdb.Get(t.Context(), "asynq:{default}:"+name).Int()
	if err != nil && s.rdb.Ping(t.Context()).Err() != nil {
		t.Fatal(err)
	}
	return n
}

func (s *side) hashes(t *testing.T) int {
	t.Helper()
	keys, err := s.rdb.Keys(t.Context(), "asynq:{default}:t:*").Result()
	if err != nil {
		t.Fatal(err)
	}
	return len(keys)
}
