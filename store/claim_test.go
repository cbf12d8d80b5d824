package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

func keysOf(batch delivery.Batch) []string {
	var keys []string
	for _, d := range batch.Deliveries {
		keys = append(keys, d.Key)
	}
	return keys
}

func TestClaimTakesTheOldestFirst(t *testing.T) {
	t.Parallel()
	f := open(t)
	var want []string
	for i := range 5 {
		want = append(want, fmt.Sprintf("k%d", i))
		f.enqueue(want[i])
	}
	f.enqueue("elsewhere", jobs.Queue("r"))
	batch, err := f.Claim(f.ctx, "q", "o", 3)
	f.ok(err)
	if !slices.Equal(keysOf(batch), want[:3]) || batch.Emptied || batch.Paused || batch.Fenced || batch.Dropped != 0 {
		t.Errorf("first batch %+v", batch)
	}
	batch, err = f.Claim(f.ctx, "q", "o", 10)
	f.ok(err)
	if !slices.Equal(keysOf(batch), want[3:]) || !batch.Emptied {
		t.Errorf("second batch %+v", batch)
	}
	batch, err = f.Claim(f.ctx, "r", "o", 10)
	f.ok(err)
	if !slices.Equal(keysOf(batch), []string{"elsewhere"}) || batch.Deliveries[0].Queue != "r" {
		t.Errorf("other queue %+v", batch)
	}
}

func TestClaimWrites(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.enqueue("k")
	before := f.dump()
	d := f.take()
	want := []string{
		"+asynq:{q}:active=k", "+asynq:{q}:lease k=<time>",
		"+asynq:{q}:t:k p:cat=<time>", "+asynq:{q}:t:k p:inc=1-o-1", "+asynq:{q}:t:k p:run=1", "+asynq:{q}:t:k p:tok=1-o-1",
		"+perdure:{q}:own:o k=1-o-1", "+perdure:{q}:tokens=1",
		"-asynq:{q}:pending", "-asynq:{q}:t:k pending_since", "~asynq:{q}:t:k state=active",
	}
	if got := changes(before, f.dump()); !slices.Equal(got, want) {
		t.Errorf("wrote\n%s", strings.Join(got, "\n"))
	}
	if d.Token != "1-o-1" || d.Run != 1 || d.Attempts != 0 || d.Ready.IsZero() || d.Claimed.Before(d.Ready.Add(-time.Second)) {
		t.Errorf("delivery %+v", d)
	}
	f.settle(d, delivery.HandBack)
	again := f.take()
	if again.Token == d.Token || again.Run != 2 || again.Incarnation != d.Incarnation {
		t.Errorf("second run %+v", again)
	}
}

func TestClaimRefuses(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]func(f *fixture) delivery.Batch{
		"paused": func(f *fixture) delivery.Batch {
			f.ok(f.PauseQueue(f.ctx, "q", why))
			return delivery.Batch{Paused: true}
		},
		"paused by asynq": func(f *fixture) delivery.Batch {
			f.ok(f.inspector().PauseQueue("q"))
			return delivery.Batch{Paused: true}
		},
		"fenced": func(f *fixture) delivery.Batch {
			_, err := f.Reclaim(f.ctx, "q", "o")
			f.ok(err)
			return delivery.Batch{Fenced: true}
		},
		"none asked": func(f *fixture) delivery.Batch { return delivery.Batch{} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			f.enqueue("k")
			want := refuse(f)
			before := f.dump()
			most := 5
			if name == "none asked" {
				most = 0
			}
			batch, err := f.Claim(f.ctx, "q", "o", most)
			f.ok(err)
			if fmt.Sprint(batch) != fmt.Sprint(want) {
				t.Errorf("batch %+v", batch)
			}
			f.same(before, "the claim")
		})
	}
}

func TestClaimDropsWhatIsNoJob(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.enqueue("gone")
	f.enqueue("twice")
	f.enqueue("last")
	f.rdb.Del(f.ctx, taskKey("q", "gone"))
	f.rdb.RPush(f.ctx, pendingKey("q"), "twice")
	batch, err := f.Claim(f.ctx, "q", "o", 10)
	f.ok(err)
	if !slices.Equal(keysOf(batch), []string{"twice", "last"}) || batch.Dropped != 2 {
		t.Errorf("batch %+v", batch)
	}
	if f.rdb.Exists(f.ctx, taskKey("q", "gone")).Val() != 0 {
		t.Error("a deleted job was made again")
	}
	for i := range 150 {
		f.rdb.LPush(f.ctx, pendingKey("q"), fmt.Sprintf("gone:%d", i))
	}
	batch, err = f.Claim(f.ctx, "q", "o", 10)
	f.ok(err)
	if batch.Dropped != 100 || batch.Emptied {
		t.Errorf("a call drops %d, emptied %v", batch.Dropped, batch.Emptied)
	}
	f.enqueue("behind")
	for calls := 0; len(keysOf(batch)) == 0 && calls < 20; calls++ {
		batch, err = f.Claim(f.ctx, "q", "o", 10)
		f.ok(err)
	}
	if !slices.Equal(keysOf(batch), []string{"behind"}) {
		t.Errorf("batch %+v", batch)
	}
}

func TestRunNow(t *testing.T) {
	t.Parallel()
	t.Run("paused", func(t *testing.T) {
		t.Parallel()
		f := open(t)
		ended(delivery.Pause)(f)
		runNow(f, nil)
		d := f.take()
		f.wantDecisions("resume k by asynq: run now was asked for a paused job")
		if d.Waits != 1 || d.Attempts != 0 || f.field("k", "p:wait") != "" || f.rdb.Exists(f.ctx, parkedKey("q")).Val() != 0 {
			t.Errorf("delivery %+v", d)
		}
	})
	t.Run("quarantined", func(t *testing.T) {
		t.Parallel()
		f := open(t)
		deadJob(f)
		runNow(f, nil)
		d := f.take()
		f.wantDecisions("quarantine k by perdure: exhausted", "replay k by asynq: run now was asked for a quarantined job")
		if d.Attempts != 0 || string(d.Steps["s1"]) != `{"x":1}` || len(d.Failures) != 1 || f.rdb.Exists(f.ctx, deadKey("q")).Val() != 0 {
			t.Errorf("delivery %+v", d)
		}
		if _, err := f.Entry(f.ctx, "q", "k"); !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("entry: %v", err)
		}
	})
	for _, outcome := range []delivery.Outcome{delivery.Complete, delivery.Cancel} {
		t.Run("ended by "+string(outcome), func(t *testing.T) {
			t.Parallel()
			f := open(t)
			ended(outcome)(f)
			before := f.dump()
			runNow(f, nil)
			batch, err := f.Claim(f.ctx, "q", "o", 1)
			f.ok(err)
			if len(batch.Deliveries) != 0 || batch.Dropped != 1 {
				t.Errorf("batch %+v", batch)
			}
			event := "run refused k by asynq: the job has ended; its result stands"
			n := len(f.decisions())
			if f.decisions()[n-1] != event {
				t.Errorf("decisions %q", f.decisions())
			}
			f.rdb.XTrimMaxLen(f.ctx, eventsKey("q"), int64(n-1))
			got := changes(before, f.dump())
			got = slices.DeleteFunc(got, func(line string) bool {
				return strings.Contains(line, eventsKey("q")) || strings.Contains(line, tokensKey("q"))
			})
			if len(got) > 0 {
				t.Errorf("changed %q", got)
			}
		})
	}
	t.Run("retrying", func(t *testing.T) {
		t.Parallel()
		f := open(t)
		ended(delivery.Retry)(f)
		runNow(f, nil)
		if d := f.take(); d.Attempts != 1 || f.field("k", "p:due") != "" {
			t.Errorf("delivery %+v", d)
		}
		f.wantDecisions()
	})
}

func TestClaimUndecodable(t *testing.T) {
	t.Parallel()
	other := (&message{Type: "kind.a", ID: "other"}).encode()
	for name, stored := range map[string]string{"not a message": "\xff\xff", "cut": "\x0a\x7fx", "another job's": string(other), "empty": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			f.enqueue("k")
			f.rdb.HSet(f.ctx, taskKey("q", "k"), "msg", stored)
			d := f.take()
			if d.Undecodable == nil || string(d.Message) != stored || d.Retention == 0 {
				t.Fatalf("delivery %+v", d)
			}
			if code := f.settle(d, delivery.Quarantine); code != 1 {
				t.Errorf("quarantine answered %d", code)
			}
			info, err := f.Get(f.ctx, "q", "k")
			if err != nil || info.State != jobs.StateQuarantined || info.Kind != "" {
				t.Errorf("info %+v, error %v", info, err)
			}
			if data, err := f.Payload(f.ctx, "q", "k"); err != nil || string(data) != stored {
				t.Errorf("payload %q, error %v", data, err)
			}
			if data, err := f.Unreadable(f.ctx, "q", "k"); err != nil || data == nil || string(data) != stored {
				t.Errorf("unreadable %q, error %v", data, err)
			}
			before := f.dump()
			if _, err = f.Replay(f.ctx, "q", "k", true, why); !errors.Is(err, jobs.ErrConflict) {
				t.Errorf("replay: %v", err)
			}
			if _, err := f.Enqueue(f.ctx, jobs.Raw(kindA, "k", []byte("1"))); !errors.Is(err, jobs.ErrOtherPayload) {
				t.Errorf("enqueue: %v", err)
			}
			f.same(before, "a replay and an enqueue that were refused")
			_, err = f.Discard(f.ctx, "q", "k", why)
			f.ok(err)
		})
	}
}

func TestClaimAdoptsStockTasks(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.stock("k", "email", "not json", asynq.MaxRetry(3), asynq.Unique(time.Hour))
	d := f.take()
	if d.MaxAttempts != 4 || d.Incarnation != d.Token || d.Retention != 0 || d.Kind != "email" || string(d.Payload) != "not json" || d.Undecodable != nil {
		t.Errorf("delivery %+v", d)
	}
	f.settle(d, delivery.HandBack)
	if again := f.take(); again.Incarnation != d.Token {
		t.Errorf("incarnation %q, was %q", again.Incarnation, d.Token)
	} else {
		d = again
	}
	if info, _ := f.Get(f.ctx, "q", "k"); info.Incarnation != d.Incarnation {
		t.Errorf("info %+v", info)
	}
	if code := f.settle(d, delivery.Complete); code != 1 {
		t.Errorf("complete answered %d", code)
	}
	for path := range f.dump() {
		if strings.Contains(path, ":t:") || strings.Contains(path, ":unique:") || strings.Contains(path, ":completed") {
			t.Errorf("%s is left of a task without retention", path)
		}
	}
	if code := f.settle(d, delivery.Complete); code != -1 {
		t.Errorf("sent twice: %d", code)
	}
}

// TestUniqueLocks: a lock goes with its job's end, and only when it is its own.
func TestUniqueLocks(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"complete", "cancelled", "cancel", "discard"} {
		for _, own := range []bool{true, false} {
			f := open(t)
			f.stock("k", "email", "x", asynq.Unique(time.Hour), asynq.Retention(time.Hour))
			lock := f.rdb.Keys(f.ctx, "*:unique:*").Val()[0]
			if !own {
				f.rdb.Set(f.ctx, lock, "another", 0)
			}
			switch end {
			case "complete":
				f.settle(f.take(), delivery.Complete)
			case "cancelled":
				f.settle(f.take(), delivery.Cancel)
			case "cancel":
				cancel(f, nil)
			case "discard":
				f.settle(f.take(), delivery.Quarantine)
				_, err := f.Discard(f.ctx, "q", "k", why)
				f.ok(err)
			}
			if left := f.rdb.Exists(f.ctx, lock).Val() == 1; left == own {
				t.Errorf("%s, own %v: the lock is left: %v", end, own, left)
			}
		}
	}
}

// counting counts commands.
type counting struct{ n atomic.Int64 }

func (c *counting) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *counting) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.n.Add(1)
		return next(ctx, cmds)
	}
}

func (c *counting) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.n.Add(1)
		return next(ctx, cmd)
	}
}

func TestRoundTrips(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.settle(f.running("warm"), delivery.Complete)
	f.checkpoint(f.running("k"), 1, maxFields)
	for i := range 10 {
		f.enqueue(fmt.Sprintf("k%d", i))
	}
	commands := &counting{}
	f.rdb.(*redis.Client).AddHook(commands)
	one := func(what string, call func()) {
		t.Helper()
		commands.n.Store(0)
		call()
		if n := commands.n.Load(); n != 1 {
			t.Errorf("%s takes %d round trips", what, n)
		}
	}
	var batch delivery.Batch
	one("a claim of ten", func() { batch, _ = f.Claim(f.ctx, "q", "o", 10) })
	if len(batch.Deliveries) != 10 {
		t.Fatalf("claimed %d", len(batch.Deliveries))
	}
	d := batch.Deliveries[0]
	one("a checkpoint", func() { f.ok(f.Checkpoint(f.ctx, d.Hold, delivery.Checkpoint{Step: "s", Run: 1})) })
	one("a verdict", func() { f.ok(f.Settle(f.ctx, d, verdicts[delivery.Complete])) })
	one("enqueuing", func() { f.enqueue("new") })
}

func TestClaimConcurrently(t *testing.T) {
	t.Parallel()
	f := open(t)
	const all = 300
	for i := range all {
		f.enqueue(fmt.Sprintf("k%d", i))
	}
	var mu sync.Mutex
	tokens, keys := map[string]bool{}, map[string]bool{}
	var workers sync.WaitGroup
	for i := range 8 {
		workers.Go(func() {
			for {
				batch, err := f.Claim(f.ctx, "q", fmt.Sprintf("o%d", i), 7)
				if err != nil || len(batch.Deliveries) == 0 {
					return
				}
				mu.Lock()
				for _, d := range batch.Deliveries {
					tokens[d.Token], keys[d.Key] = true, true
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	if len(tokens) != all || len(keys) != all {
		t.Errorf("%d tokens, %d keys", len(tokens), len(keys))
	}
}

func TestAwaitWork(t *testing.T) {
	t.Parallel()
	f := open(t)
	found := make(chan bool, 1)
	go func() {
		ok, err := f.AwaitWork(f.ctx, "q", 20*time.Second)
		found <- ok && err == nil
	}()
	f.enqueue("a")
	f.enqueue("b")
	if !<-found {
		t.Error("no work was found")
	}
	before := f.dump()
	if ok, err := f.AwaitWork(f.ctx, "q", time.Second); !ok || err != nil {
		t.Errorf("work that is there: %v, %v", ok, err)
	}
	f.same(before, "waiting")
	if ok, err := f.AwaitWork(f.ctx, "empty", time.Second); ok || err != nil {
		t.Errorf("no work: %v, %v", ok, err)
	}
}
