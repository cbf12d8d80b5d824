package store

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

func atOnce(context.Context) error { return nil }

// census takes one and returns what was wrong with the test's queue.
func (f *fixture) census() map[string]int {
	f.t.Helper()
	f.rdb.SetNX(f.ctx, tokensKey("q"), 0, 0) // perdure serves the queue
	c, err := f.Census(f.ctx, atOnce)
	f.ok(err)
	for queue := range c.Drift {
		if queue != "q" {
			f.t.Errorf("queue %q in %+v", queue, c)
		}
	}
	return c.Drift["q"]
}

// halfway is a state that no script of ours leaves, how it comes about, and what
// the census makes of it.
type halfway struct {
	arrange func(f *fixture)
	drift   map[string]int
	state   jobs.State // of k afterwards; "": it is gone
	runs    int        // once it has been claimed, where it can be
}

func (f *fixture) as(outcome delivery.Outcome) { f.settle(f.running("k"), outcome) }

var halfways = map[string]halfway{
	"active without a token": {func(f *fixture) {
		f.running("k")
		f.rdb.HDel(f.ctx, taskKey("q", "k"), "p:tok")
		f.rdb.ZRem(f.ctx, leaseKey("q"), "k")
	}, map[string]int{"unowned": 1, "state": 1}, jobs.StatePending, 2},
	"active without a lease": {func(f *fixture) {
		f.running("k")
		f.rdb.ZRem(f.ctx, leaseKey("q"), "k")
	}, nil, jobs.StateRunning, 0},
	"a token that its owner does not hold": {func(f *fixture) {
		f.running("k")
		f.rdb.Del(f.ctx, ownerKey("q", "o"))
	}, map[string]int{"unowned": 1, "state": 1, "lease": 1}, jobs.StatePending, 2},
	"an owner that nobody watches": {func(f *fixture) { f.running("k") }, map[string]int{"unwatched owner": 1}, jobs.StateRunning, 0},
	"owned, but not on the active list": {func(f *fixture) {
		f.running("k")
		f.rdb.Del(f.ctx, activeKey("q"))
	}, map[string]int{"misplaced": 1}, jobs.StateRunning, 0},
	"pending without a job": {func(f *fixture) {
		f.enqueue("k")
		f.rdb.Del(f.ctx, taskKey("q", "k"))
	}, map[string]int{"gone": 1}, "", 0},
	"scheduled without a job": {func(f *fixture) {
		f.enqueue("k", jobs.Delay(time.Hour))
		f.rdb.Del(f.ctx, taskKey("q", "k"))
	}, map[string]int{"gone": 1}, "", 0},
	"parked without a job": {func(f *fixture) {
		f.as(delivery.Pause)
		f.rdb.Del(f.ctx, taskKey("q", "k"))
	}, map[string]int{"gone": 1}, "", 0},
	"quarantined without a job": {func(f *fixture) {
		f.as(delivery.Quarantine)
		f.rdb.Del(f.ctx, taskKey("q", "k"))
	}, map[string]int{"gone": 1, "group": 1}, "", 0},
	"deleted by asynq's tools": {func(f *fixture) {
		f.as(delivery.Quarantine)
		f.rdb.ZRem(f.ctx, archivedKey("q"), "k")
		f.rdb.Del(f.ctx, taskKey("q", "k"))
	}, map[string]int{"gone": 1, "group": 1}, "", 0},
	"a result without a job": {func(f *fixture) { f.rdb.HSet(f.ctx, taskKey("q", "k"), "result", "late") }, map[string]int{"rest": 1}, "", 0},
	"a lease without a job": {func(f *fixture) {
		f.enqueue("other")
		f.rdb.ZAdd(f.ctx, leaseKey("q"), redis.Z{Score: 1, Member: "k"})
	}, map[string]int{"lease": 1}, "", 0},
	"pending, in no list": {func(f *fixture) {
		f.enqueue("k")
		f.rdb.Del(f.ctx, pendingKey("q"))
	}, map[string]int{"misplaced": 1}, jobs.StatePending, 1},
	"scheduled, in no set": {func(f *fixture) {
		f.enqueue("k", jobs.Delay(time.Hour))
		f.rdb.Del(f.ctx, scheduledKey("q"))
	}, map[string]int{"misplaced": 1, "state": 1}, jobs.StatePending, 1},
	"retrying, in no set": {func(f *fixture) {
		f.as(delivery.Retry)
		f.rdb.Del(f.ctx, retryKey("q"))
	}, map[string]int{"misplaced": 1}, jobs.StateRetrying, 0},
	"paused, in no set": {func(f *fixture) {
		f.as(delivery.Pause)
		f.rdb.Del(f.ctx, retryKey("q"), parkedKey("q"))
	}, map[string]int{"misplaced": 1, "index": 1}, jobs.StatePaused, 0},
	"completed, in no set": {func(f *fixture) {
		f.as(delivery.Complete)
		f.rdb.Del(f.ctx, completedKey("q"))
	}, map[string]int{"misplaced": 1}, jobs.StateCompleted, 0},
	"quarantined, and trimmed from the archive": {func(f *fixture) {
		f.as(delivery.Quarantine)
		f.rdb.Del(f.ctx, archivedKey("q"))
	}, map[string]int{"misplaced": 1}, jobs.StateQuarantined, 0},
	"quarantined, in no index": {func(f *fixture) {
		f.as(delivery.Quarantine)
		f.rdb.Del(f.ctx, deadKey("q"))
	}, map[string]int{"index": 1}, jobs.StateQuarantined, 0},
	"quarantined, in no group": {func(f *fixture) {
		f.as(delivery.Quarantine)
		f.rdb.Del(f.ctx, groupKeysKey("q", sigK))
	}, map[string]int{"group": 1}, jobs.StateQuarantined, 0},
	"in a group that it has left": {func(f *fixture) {
		f.as(delivery.Quarantine)
		_, err := f.Replay(f.ctx, "q", "k", false, why)
		f.ok(err)
		f.rdb.ZAdd(f.ctx, groupKeysKey("q", sigK), redis.Z{Score: 1, Member: "k"})
	}, map[string]int{"group": 1}, jobs.StatePending, 0},
	"in two places": {func(f *fixture) {
		f.as(delivery.Retry)
		f.rdb.LPush(f.ctx, pendingKey("q"), "k", "k")
	}, map[string]int{"misplaced": 1}, jobs.StateRetrying, 0},
	"in the wrong place": {func(f *fixture) {
		f.as(delivery.Quarantine)
		f.rdb.HSet(f.ctx, taskKey("q", "k"), "state", "retry")
	}, map[string]int{"state": 1}, jobs.StateQuarantined, 0},
	"a state that nobody knows": {func(f *fixture) {
		f.as(delivery.Complete)
		f.rdb.HSet(f.ctx, taskKey("q", "k"), "state", "odd")
	}, map[string]int{"state": 1}, jobs.StateCompleted, 0},
	"archived with asynq's tools": {func(f *fixture) {
		f.enqueue("k")
		f.rdb.Del(f.ctx, pendingKey("q"))
		f.rdb.ZAdd(f.ctx, archivedKey("q"), redis.Z{Score: 1, Member: "k"})
		f.rdb.HSet(f.ctx, taskKey("q", "k"), "state", "archived")
		f.rdb.ZAdd(f.ctx, parkedKey("q"), redis.Z{Score: 1, Member: "k"}) // how it is noticed
	}, map[string]int{"archived elsewhere": 1, "index": 2}, jobs.StateQuarantined, 0},
	"on an index that it has left": {func(f *fixture) {
		f.as(delivery.Complete)
		f.rdb.ZAdd(f.ctx, parkedKey("q"), redis.Z{Score: 1, Member: "k"})
	}, map[string]int{"index": 1}, jobs.StateCompleted, 0},
}

func TestTheCensusPutsHalfwayStatesRight(t *testing.T) {
	t.Parallel()
	for name, c := range halfways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			if name != "an owner that nobody watches" {
				_, err := f.Beat(f.ctx, "o", true)
				f.ok(err)
			}
			c.arrange(f)
			f.ok(f.Register(f.ctx, "q"))
			if got := f.census(); !maps.Equal(got, c.drift) {
				t.Errorf("drift %v, want %v", got, c.drift)
			}
			if got := f.census(); len(got) != 0 {
				t.Errorf("drift of the next census: %v", got)
			}
			c.check(t, f)
		})
	}
}

// check that the job is in one place, the right one, and can go on from there.
func (c halfway) check(t *testing.T, f *fixture) {
	t.Helper()
	if c.state == "" {
		if n := f.rdb.Exists(f.ctx, taskKey("q", "k"), pendingKey("q"), scheduledKey("q"), retryKey("q"), archivedKey("q"), parkedKey("q"), deadKey("q")).Val(); n > 1 {
			t.Errorf("something is left: %v", f.dump())
		}
		return
	}
	info, err := f.Get(f.ctx, "q", "k")
	if err != nil || info.State != c.state {
		t.Fatalf("%+v, %v", info, err)
	}
	for _, p := range places {
		there := false
		if p.list {
			there = slices.Contains(f.rdb.LRange(f.ctx, p.key("q"), 0, -1).Val(), "k")
		} else {
			there = f.rdb.ZScore(f.ctx, p.key("q"), "k").Err() == nil
		}
		if state := f.field("k", "state"); !p.index && there != (p.state == state) {
			t.Errorf("on %s: %v, in state %s", p.key("q"), there, state)
		}
	}
	if c.runs > 0 {
		if d := f.take(); d.Run != c.runs || d.Attempts != 0 {
			t.Errorf("%+v", d)
		}
	}
}

func TestAForeignDeleteIsShown(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.as(delivery.Quarantine)
	f.rdb.Del(f.ctx, taskKey("q", "k"))
	f.census()
	events, err := f.Events(f.ctx, "q", 1)
	if err != nil || events[0].What != "deleted elsewhere" || events[0].Key != "k" || events[0].Actor != "census" {
		t.Errorf("%+v, %v", events, err)
	}
	last, err := f.LastCensus(f.ctx)
	if err != nil || last.Drift["q"]["gone"] != 1 || last.At.IsZero() {
		t.Errorf("%+v, %v", last, err)
	}
}

func TestAQueueThatPerdureDoesNotServeIsLeftAlone(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.enqueue("k")
	f.rdb.Del(f.ctx, pendingKey("q"))
	if c, err := f.Census(f.ctx, atOnce); err != nil || len(c.Drift) != 0 || c.Jobs != 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestATaskOfAsynqsOwnServerIsLeftAlone(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.enqueue("k")
	f.rdb.LMove(f.ctx, pendingKey("q"), activeKey("q"), "RIGHT", "LEFT")
	f.rdb.HSet(f.ctx, taskKey("q", "k"), "state", "active")
	f.rdb.ZAdd(f.ctx, leaseKey("q"), redis.Z{Score: float64(time.Now().Add(30 * time.Second).Unix()), Member: "k"})
	f.rdb.Set(f.ctx, tokensKey("q"), 0, 0)
	before := f.dump()
	if drift := f.census(); len(drift) != 0 {
		t.Errorf("drift %v", drift)
	}
	after := f.dump()
	maps.DeleteFunc(after, func(name, _ string) bool { return name == censusKey })
	if got := changes(before, after); len(got) != 0 {
		t.Errorf("changed %q", got)
	}
}

func TestAnotherTypeUnderAJobsName(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.enqueue("good")
	f.rdb.LPush(f.ctx, taskKey("q", "k"), "x")
	f.rdb.RPush(f.ctx, pendingKey("q"), "k")
	f.rdb.ZAdd(f.ctx, retryKey("q"), redis.Z{Score: 1, Member: "k"})
	if drift := f.census(); drift["foreign key"] == 0 {
		t.Errorf("drift %v", drift)
	}
	if _, err := f.Promote(f.ctx, "q"); err != nil {
		t.Errorf("promote: %v", err)
	}
	if d := f.take(); d.Key != "good" {
		t.Errorf("claimed %+v", d)
	}
}

func TestManyJobs(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.fill(1300, "completed", completedKey("q"), 4e9)
	for i := range 700 {
		f.enqueue(fmt.Sprint("p", i))
	}
	f.rdb.Set(f.ctx, tokensKey("q"), 0, 0)
	slices := 0
	c, err := f.Census(f.ctx, func(context.Context) error { slices++; return nil })
	if err != nil || c.Jobs < 2000 || len(c.Drift) != 0 || slices < 4 {
		t.Errorf("%+v, %v, %d slices", c, err, slices)
	}
	stop := fmt.Errorf("enough")
	if _, err := f.Census(f.ctx, func(context.Context) error { return stop }); err == nil {
		t.Error("a census that is stopped has an error")
	}
}

// A census of a system that is busy and healthy finds nothing and touches nothing.
func TestTheCensusLeavesABusySystemAlone(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx, stop := context.WithTimeout(f.ctx, time.Minute)
	defer stop()
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() { busy(ctx, f, fmt.Sprint("owner", w), rand.New(rand.NewPCG(1, uint64(w)))) })
	}
	all.Go(func() {
		for ctx.Err() == nil {
			f.Promote(ctx, "q")
			f.Expire(ctx, "q")
		}
	})
	taken := 0
	for began := time.Now(); ctx.Err() == nil && (taken < 5 || time.Since(began) < 3*time.Second); {
		c, err := f.Census(ctx, atOnce)
		if err == nil && len(c.Drift) > 0 {
			t.Errorf("found %v", c.Drift)
		}
		taken++
	}
	stop()
	all.Wait()
	if drift := f.census(); len(drift) != 0 || taken < 5 {
		t.Errorf("in the end %v; %d taken", drift, taken)
	}
}

// busy is a worker that does anything that workers do.
func busy(ctx context.Context, f *fixture, owner string, r *rand.Rand) {
	f.Beat(ctx, owner, true)
	for n := 0; ctx.Err() == nil; n++ {
		key := fmt.Sprintf("%s:%d", owner, n)
		f.Enqueue(ctx, jobs.Raw(kindA, key, []byte(`{}`)))
		batch, _ := f.Claim(ctx, "q", owner, 3)
		for _, d := range batch.Deliveries {
			f.Checkpoint(ctx, d.Hold, delivery.Checkpoint{Step: "s", Run: d.Run})
			outcome := outcomes()[r.IntN(len(outcomes()))]
			v := verdicts[outcome]
			v.Delay = time.Millisecond
			f.Settle(ctx, d, v)
			if outcome == delivery.Quarantine && r.IntN(2) == 0 {
				f.Replay(ctx, "q", d.Key, false, why)
			}
		}
		if n%50 == 49 {
			f.Reclaim(ctx, "q", owner)
			owner += "+"
			f.Beat(ctx, owner, true)
		}
	}
}

// Whatever is broken by hand, after the census every job that has a hash is in one
// place, and another census finds nothing.
func TestTheCensusMendsAnything(t *testing.T) {
	t.Parallel()
	f := open(t)
	rapid.Check(t, func(t *rapid.T) {
		f.rdb.FlushDB(f.ctx)
		f.ok(f.Register(f.ctx, "q"))
		f.Beat(f.ctx, "o", true)
		for i, outcome := range rapid.SliceOfN(rapid.SampledFrom(append(outcomes(), "pending", "running")), 1, 6).Draw(t, "jobs") {
			key := fmt.Sprint("k", i)
			f.enqueue(key)
			if outcome == "pending" {
				continue
			}
			batch, err := f.Claim(f.ctx, "q", "o", 10)
			f.ok(err)
			for _, d := range batch.Deliveries {
				if v, ok := verdicts[outcome]; ok {
					f.ok(f.Settle(f.ctx, d, v))
				}
			}
		}
		accepted := map[string]bool{}
		for range rapid.IntRange(1, 8).Draw(t, "breaks") {
			breakSomething(t, f)
		}
		for _, name := range f.rdb.Keys(f.ctx, "asynq:{q}:t:*").Val() {
			if f.rdb.HExists(f.ctx, name, "msg").Val() {
				accepted[name] = true
			}
		}
		f.census()
		if drift := f.census(); len(drift) != 0 {
			t.Fatalf("the next census finds %v", drift)
		}
		seen := map[string]int{}
		for _, p := range places {
			if p.index {
				continue
			}
			keys := f.rdb.ZRange(f.ctx, p.key("q"), 0, -1).Val()
			if p.list {
				keys = f.rdb.LRange(f.ctx, p.key("q"), 0, -1).Val()
			}
			for _, key := range keys {
				seen[taskKey("q", key)]++
				if got := f.field(key, "state"); got != p.state {
					t.Fatalf("%s is on %s and says %q", key, p.key("q"), got)
				}
			}
		}
		for name := range accepted {
			if seen[name] != 1 {
				t.Fatalf("%s is in %d places", name, seen[name])
			}
		}
		if len(seen) != len(accepted) {
			t.Fatalf("places name %v, jobs are %v", seen, accepted)
		}
	})
}

func breakSomething(t *rapid.T, f *fixture) {
	p := rapid.SampledFrom(places).Draw(t, "place")
	key := rapid.SampledFrom([]string{"k0", "k1", "k2"}).Draw(t, "key")
	switch rapid.SampledFrom([]string{"remove", "add", "delete", "state", "token", "owner"}).Draw(t, "break") {
	case "remove":
		if p.list {
			f.rdb.LRem(f.ctx, p.key("q"), 0, key)
		} else {
			f.rdb.ZRem(f.ctx, p.key("q"), key)
		}
	case "add":
		if p.list {
			f.rdb.LPush(f.ctx, p.key("q"), key)
		} else {
			f.rdb.ZAdd(f.ctx, p.key("q"), redis.Z{Score: 2e9, Member: key})
		}
	case "delete":
		f.rdb.Del(f.ctx, taskKey("q", key))
	case "state":
		if f.rdb.Exists(f.ctx, taskKey("q", key)).Val() == 1 {
			f.rdb.HSet(f.ctx, taskKey("q", key), "state", p.state)
		}
	case "token":
		f.rdb.HDel(f.ctx, taskKey("q", key), "p:tok")
	case "owner":
		f.rdb.HDel(f.ctx, ownerKey("q", "o"), key)
	}
}
