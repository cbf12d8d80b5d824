package store

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

func (f *fixture) promote() (int, time.Duration) {
	f.t.Helper()
	p, err := f.Promote(f.ctx, "q")
	f.ok(err)
	return p.Moved, p.Next
}

func TestPromote(t *testing.T) {
	t.Parallel()
	f := open(t)
	if moved, next := f.promote(); moved != 0 || next >= 0 {
		t.Errorf("nothing waits: %d, %v", moved, next)
	}
	f.enqueue("later", jobs.Delay(time.Hour))
	f.settle(f.running("paused"), delivery.Pause)
	f.settle(f.running("retrying"), delivery.Retry)
	if moved, next := f.promote(); moved != 0 || next < 59*time.Minute || next > time.Hour+time.Second {
		t.Errorf("nothing is due: %d, %v", moved, next)
	}
	f.due("later")
	f.due("paused")
	f.due("retrying")
	if moved, next := f.promote(); moved != 3 || next >= 0 {
		t.Errorf("all are due: %d, %v", moved, next)
	}
	for _, key := range []string{"later", "paused", "retrying"} {
		if f.state(key) != jobs.StatePending || f.field(key, "pending_since") == "" || f.field(key, "p:due") != "" || f.field(key, "p:wait") != "" {
			t.Errorf("%s: %v", key, f.rdb.HGetAll(f.ctx, taskKey("q", key)).Val())
		}
	}
	if n := f.rdb.Exists(f.ctx, parkedKey("q"), retryKey("q"), scheduledKey("q")).Val(); n != 0 {
		t.Errorf("%d sets are left", n)
	}
	if d := f.take(); d.Key != "later" || d.Ready.IsZero() {
		t.Errorf("delivery %+v", d)
	}
	f.wantDecisions()
}

func TestPromoteWithinTheSecond(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.settle(f.running("k"), delivery.Retry)
	now, err := f.rdb.Time(f.ctx).Result()
	f.ok(err)
	f.rdb.ZAdd(f.ctx, retryKey("q"), redis.Z{Score: float64(now.Unix()), Member: "k"})
	f.rdb.HSet(f.ctx, taskKey("q", "k"), "p:due", now.Add(10*time.Second).UnixMilli())
	if moved, next := f.promote(); moved != 0 || next < 5*time.Second || next > 10*time.Second {
		t.Errorf("due by its score alone: %d, %v", moved, next)
	}
	f.rdb.HSet(f.ctx, taskKey("q", "k"), "p:due", now.UnixMilli())
	if moved, _ := f.promote(); moved != 1 {
		t.Errorf("due: %d", moved)
	}
}

func TestPromoteForgetsDeletedJobs(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.settle(f.running("k"), delivery.Pause)
	f.rdb.Del(f.ctx, taskKey("q", "k"))
	f.due("k")
	if moved, _ := f.promote(); moved != 0 {
		t.Errorf("moved %d", moved)
	}
	if n := f.rdb.Exists(f.ctx, retryKey("q"), parkedKey("q"), pendingKey("q"), taskKey("q", "k")).Val(); n != 0 {
		t.Errorf("left: %v", f.dump())
	}
}

func TestPromoteInBatches(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.fill(1200, "scheduled", scheduledKey("q"), 1)
	for _, want := range []int{500, 500, 200} {
		moved, next := f.promote()
		if moved != want || (next == 0) != (want == 500) {
			t.Errorf("moved %d, next in %v", moved, next)
		}
	}
}

// fill makes jobs in a sorted set.
func (f *fixture) fill(n int, state, set string, score float64) {
	f.t.Helper()
	pipe := f.rdb.Pipeline()
	pipe.SAdd(f.ctx, queuesKey, "q")
	for i := range n {
		key := fmt.Sprintf("k%04d", i)
		m := &message{Type: "kind.a", ID: key, Queue: "q", Timeout: 60, Retention: 3600}
		pipe.HSet(f.ctx, taskKey("q", key), "msg", m.encode(), "state", state)
		pipe.ZAdd(f.ctx, set, redis.Z{Score: score, Member: key})
	}
	_, err := pipe.Exec(f.ctx)
	f.ok(err)
}

func TestExpire(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.settle(f.running("kept"), delivery.Complete)
	f.settle(f.running("over"), delivery.Complete)
	f.settle(f.running("cancelled"), delivery.Cancel)
	f.enqueue("reused") // its key is still in the set, from a job that was deleted elsewhere
	for _, key := range []string{"over", "cancelled", "reused"} {
		f.rdb.ZAdd(f.ctx, completedKey("q"), redis.Z{Score: 1, Member: key})
	}
	n, err := f.Expire(f.ctx, "q")
	f.ok(err)
	if n != 3 {
		t.Errorf("forgot %d", n)
	}
	for key, want := range map[string]error{"kept": nil, "over": jobs.ErrNotFound, "cancelled": jobs.ErrNotFound, "reused": nil} {
		if _, err := f.Get(f.ctx, "q", key); !errors.Is(err, want) {
			t.Errorf("%s: %v", key, err)
		}
	}
	if left := f.rdb.ZRange(f.ctx, completedKey("q"), 0, -1).Val(); !slices.Equal(left, []string{"kept"}) {
		t.Errorf("left %v", left)
	}
	f.fill(700, "completed", completedKey("q"), 1)
	for _, want := range []int{500, 200, 0} {
		if n, _ := f.Expire(f.ctx, "q"); n != want {
			t.Errorf("forgot %d, want %d", n, want)
		}
	}
}

func TestReclaim(t *testing.T) {
	t.Parallel()
	f := open(t)
	d := f.running("k")
	before := f.dump()
	n, err := f.Reclaim(f.ctx, "q", "o")
	f.ok(err)
	want := []string{
		"+asynq:{q}:pending=k", "+asynq:{q}:t:k f:1", "+asynq:{q}:t:k p:blame=0 1-o-1", "+asynq:{q}:t:k p:cra=1", "+asynq:{q}:t:k p:fn=1",
		"+asynq:{q}:t:k p:row=1",
		"+perdure:{q}:own:o !fenced=1", "+perdure:{q}:own:o ttl=set",
		"-asynq:{q}:active", "-asynq:{q}:lease k", "-asynq:{q}:t:k p:tok", "-perdure:{q}:own:o k",
		"~asynq:{q}:t:k state=pending",
	}
	if got := changes(before, f.dump()); n != 1 || !slices.Equal(got, want) {
		t.Errorf("moved %d, changed %q", n, got)
	}
	before = f.dump()
	if n, err := f.Reclaim(f.ctx, "q", "o"); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
	// What the dead one still sends is refused, before and after the job is taken again.
	for range 2 {
		for _, outcome := range outcomes() {
			if err := f.Settle(f.ctx, d, verdicts[outcome]); !errors.Is(err, jobs.ErrLost) {
				t.Errorf("late %s: %v", outcome, err)
			}
		}
		if err := f.Checkpoint(f.ctx, d.Hold, delivery.Checkpoint{Step: "s", Run: 1}); !errors.Is(err, jobs.ErrLost) {
			t.Errorf("late checkpoint: %v", err)
		}
		if err := f.SaveProgress(f.ctx, d.Hold, "s", []byte("1")); !errors.Is(err, jobs.ErrLost) {
			t.Errorf("late progress: %v", err)
		}
		f.same(before, "a dead owner's calls")
		if f.state("k") == jobs.StatePending {
			next := f.takeAs("p")
			if next.Crashes != 1 || next.Attempts != 0 || next.Failures[0].Class != jobs.ClassCrash || next.Failures[0].Worker != "o" {
				t.Errorf("delivery %+v", next)
			}
		}
		before = f.dump()
	}
}

func TestReclaimInBatches(t *testing.T) {
	t.Parallel()
	f := open(t)
	pipe := f.rdb.Pipeline()
	for i := range 1200 {
		key := fmt.Sprintf("k%04d", i)
		m := &message{Type: "kind.a", ID: key, Queue: "q"}
		pipe.HSet(f.ctx, taskKey("q", key), "msg", m.encode(), "state", "pending")
		pipe.LPush(f.ctx, pendingKey("q"), key)
	}
	_, err := pipe.Exec(f.ctx)
	f.ok(err)
	for _, want := range []int{500, 500, 200} {
		batch, err := f.Claim(f.ctx, "q", "o", 1000)
		f.ok(err)
		if len(batch.Deliveries) != want {
			t.Errorf("claimed %d", len(batch.Deliveries))
		}
	}
	// Entries of the owner's list that are out of date: one job moved on, one is gone.
	f.rdb.HSet(f.ctx, taskKey("q", "k0000"), "p:tok", "9-p-9")
	f.rdb.Del(f.ctx, taskKey("q", "k0001"))
	moved := f.rdb.HGetAll(f.ctx, taskKey("q", "k0000")).Val()
	if n, err := f.Reclaim(f.ctx, "q", "o"); n != 1198 || err != nil {
		t.Errorf("moved %d, %v", n, err)
	}
	if got := f.rdb.HGetAll(f.ctx, taskKey("q", "k0000")).Val(); fmt.Sprint(got) != fmt.Sprint(moved) {
		t.Errorf("a job that moved on has changed: %v", got)
	}
	if active := f.rdb.LRange(f.ctx, activeKey("q"), 0, -1).Val(); !slices.Equal(active, []string{"k0000"}) {
		t.Errorf("active %v", active)
	}
	if f.rdb.Exists(f.ctx, taskKey("q", "k0001")).Val() != 0 {
		t.Error("a deleted job was made again")
	}
	if n := f.rdb.LLen(f.ctx, pendingKey("q")).Val(); n != 1198 {
		t.Errorf("%d pending", n)
	}
	if left := f.rdb.HKeys(f.ctx, ownerKey("q", "o")).Val(); !slices.Equal(left, []string{"!fenced"}) {
		t.Errorf("the owner's list: %v", left)
	}
}

func TestBeatAndSilent(t *testing.T) {
	t.Parallel()
	f := open(t)
	alive := func(owner string, first, want bool) {
		t.Helper()
		if got, err := f.Beat(f.ctx, owner, first); got != want || err != nil {
			t.Errorf("beat of %s: %v, %v", owner, got, err)
		}
	}
	silent := func(want ...string) {
		t.Helper()
		if got, err := f.Silent(f.ctx, time.Second*30); !slices.Equal(got, want) || err != nil {
			t.Errorf("silent: %v, %v", got, err)
		}
	}
	alive("a", true, true)
	alive("a", false, true)
	alive("unknown", false, false)
	silent()
	f.rdb.ZAdd(f.ctx, ownersKey, redis.Z{Score: 2, Member: "b"}, redis.Z{Score: 1, Member: "c"})
	silent("c", "b")
	alive("b", false, true)
	silent("c")
	f.ok(f.Retire(f.ctx, "c"))
	silent()
	alive("c", false, false)
	for i := range 150 {
		f.rdb.ZAdd(f.ctx, ownersKey, redis.Z{Score: 1, Member: strconv.Itoa(i)})
	}
	if got, _ := f.Silent(f.ctx, time.Second); len(got) != 100 {
		t.Errorf("%d silent owners at once", len(got))
	}
}

// Each owner is silent by its own limit, whatever the limit of the one who looks.
func TestSilentGoesByTheOwnersLimit(t *testing.T) {
	t.Parallel()
	f := open(t)
	now := f.rdb.Time(f.ctx).Val().UnixMilli()
	for owner, ago := range map[string]int64{"patient~60000": 30_000, "hasty~500": 2_000, "gone~60000": 61_000, "mute": 30_000} {
		f.rdb.ZAdd(f.ctx, ownersKey, redis.Z{Score: float64(now - ago), Member: owner})
	}
	for limit, want := range map[time.Duration][]string{
		time.Second: {"gone~60000", "mute", "hasty~500"},
		time.Hour:   {"gone~60000", "hasty~500"},
	} {
		got, err := f.Silent(f.ctx, limit)
		slices.Sort(got)
		if slices.Sort(want); !slices.Equal(got, want) || err != nil {
			t.Errorf("silent by %v: %v, %v; want %v", limit, got, err, want)
		}
	}
}

func TestHoldings(t *testing.T) {
	t.Parallel()
	f := open(t)
	a, b := f.running("a"), f.running("b")
	_, err := f.Cancel(f.ctx, "q", "b", why)
	f.ok(err)
	f.rdb.ZAdd(f.ctx, leaseKey("q"), redis.Z{Score: 1, Member: "a"})
	f.rdb.ZRem(f.ctx, leaseKey("q"), "b")
	found, err := f.Holdings(f.ctx, "q", "o")
	f.ok(err)
	held := found.Held
	slices.SortFunc(held, func(x, y delivery.Holding) int { return int(x.Key[0]) - int(y.Key[0]) })
	want := []delivery.Holding{{Hold: a.Hold}, {Hold: b.Hold, Asked: jobs.ErrCancelled}}
	if found.Fenced || found.Suspects != 0 || !slices.Equal(held, want) {
		t.Errorf("found %+v", found)
	}
	now, _ := f.rdb.Time(f.ctx).Result()
	if score := f.rdb.ZScore(f.ctx, leaseKey("q"), "a").Val(); score < float64(now.Unix()+25) {
		t.Errorf("the lease is kept until %v, now %v", score, now.Unix())
	}
	if n := f.rdb.ZCard(f.ctx, leaseKey("q")).Val(); n != 1 {
		t.Errorf("%d leases: one that is gone is not made again", n)
	}
	_, err = f.Reclaim(f.ctx, "q", "o")
	f.ok(err)
	if found, err := f.Holdings(f.ctx, "q", "o"); !found.Fenced || found.Held != nil || err != nil {
		t.Errorf("fenced: %+v, %v", found, err)
	}
	if found, err := f.Holdings(f.ctx, "q", "nobody"); found.Fenced || found.Held != nil || err != nil {
		t.Errorf("nobody: %+v, %v", found, err)
	}
}
