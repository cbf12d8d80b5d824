package store

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// crash has an owner of its own take a job and die; the job may be new.
func (f *fixture) crash(key string) delivery.Delivery {
	f.t.Helper()
	if f.rdb.Exists(f.ctx, taskKey("q", key)).Val() == 0 {
		f.enqueue(key)
	}
	owner := "crashed" + key + f.field(key, "p:run")
	d := f.takeAs(owner)
	f.reclaim(owner)
	return d
}

func (f *fixture) reclaim(owner string) {
	f.t.Helper()
	n, err := f.Reclaim(f.ctx, "q", owner)
	f.ok(err)
	if n != 1 {
		f.t.Fatalf("reclaimed %d jobs", n)
	}
}

// suspectNow makes a job a suspect that waits to be isolated.
func (f *fixture) suspectNow(key string) {
	f.t.Helper()
	f.crash(key)
	f.crash(key)
	batch, err := f.Claim(f.ctx, "q", "o", 1)
	f.ok(err)
	if len(batch.Deliveries) != 0 || batch.Suspects != 1 || batch.Dropped != 0 || !batch.Emptied {
		f.t.Fatalf("claimed %+v", batch)
	}
}

func (f *fixture) isolate(owner string, alone bool) delivery.Batch {
	f.t.Helper()
	batch, err := f.Isolate(f.ctx, "q", owner, alone)
	f.ok(err)
	return batch
}

// crashAlone has an owner take a suspect alone and die.
func (f *fixture) crashAlone(key string) delivery.Delivery {
	f.t.Helper()
	owner := "alone" + key + f.field(key, "p:run")
	batch := f.isolate(owner, true)
	if len(batch.Deliveries) != 1 {
		f.t.Fatalf("isolated %+v", batch)
	}
	f.reclaim(owner)
	return batch.Deliveries[0]
}

func TestTwoCrashesInARowMakeASuspect(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.suspectNow("k")
	info, err := f.Get(f.ctx, "q", "k")
	f.ok(err)
	if info.State != jobs.StatePaused || info.WaitingOn == nil || info.WaitingOn.Type != "isolation" || info.Crashes != 2 || info.Attempts != 0 {
		t.Fatalf("%+v", info)
	}
	task, err := asynq.NewInspectorFromRedisClient(f.rdb).GetTaskInfo("q", "k")
	if err != nil || task.State != asynq.TaskStateRetry || !strings.HasPrefix(task.LastErr, "isolated: ") || time.Until(task.NextProcessAt) < 23*time.Hour {
		t.Fatalf("asynq shows %+v, %v", task, err)
	}
	// Whoever wakes it early, it comes back.
	size := len(f.field("k", "msg"))
	for range 3 {
		f.due("k")
		_, err := f.Promote(f.ctx, "q")
		f.ok(err)
		if batch, err := f.Claim(f.ctx, "q", "o", 5); err != nil || batch.Suspects != 1 || len(batch.Deliveries) != 0 {
			t.Fatalf("%+v, %v", batch, err)
		}
	}
	if got := len(f.field("k", "msg")); got != size {
		t.Errorf("the message has grown from %d to %d bytes", size, got)
	}
	if batch := f.isolate("o", false); len(batch.Deliveries) != 1 || batch.Deliveries[0].Kind != "kind.a" || string(batch.Deliveries[0].Payload) != `{"a":1,"b":2}` {
		t.Errorf("isolated %+v", batch)
	}
}

func TestAStepBetweenCrashesClearsTheJob(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.crash("k")
	d := f.takeAs("second")
	f.ok(f.Checkpoint(f.ctx, d.Hold, delivery.Checkpoint{Step: "s1", Run: d.Run, Output: []byte("1")}))
	f.reclaim("second")
	if d := f.take(); d.Crashes != 2 || d.Run != 3 {
		t.Errorf("%+v", d)
	}
}

func TestASuspectIsParkedInFrontOfOthers(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.crash("k")
	f.crash("k")
	f.enqueue("after")
	batch, err := f.Claim(f.ctx, "q", "o", 10)
	if err != nil || len(batch.Deliveries) != 1 || batch.Deliveries[0].Key != "after" || batch.Suspects != 1 {
		t.Errorf("claimed %+v, %v", batch, err)
	}
}

func TestIsolate(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.suspectNow("k")
	f.rdb.HSet(f.ctx, taskKey("q", "k"), "p:cat", 1) // in the same millisecond nothing would change
	before := f.dump()
	batch := f.isolate("o", true)
	want := []string{
		"+asynq:{q}:active=k", "+asynq:{q}:lease k=<time>", "+asynq:{q}:t:k p:alone=1", "+asynq:{q}:t:k p:tok=" + batch.Deliveries[0].Token,
		"+perdure:{q}:own:o k=" + batch.Deliveries[0].Token, "-asynq:{q}:retry k", "-asynq:{q}:t:k p:due", "-asynq:{q}:t:k p:wait",
		"-perdure:{q}:parked k", "-perdure:{q}:suspects k", "~asynq:{q}:t:k p:cat=<time>", "~asynq:{q}:t:k p:run=3", "~asynq:{q}:t:k state=active", "~perdure:{q}:tokens=3",
	}
	if got := changes(before, f.dump()); !slices.Equal(got, want) {
		t.Errorf("changed %q\nwant %q", got, want)
	}
	for name, batch := range map[string]delivery.Batch{"nothing is left": f.isolate("o", false), "nor for others": f.isolate("p", true)} {
		if len(batch.Deliveries) > 0 || !batch.Emptied {
			t.Errorf("%s: %+v", name, batch)
		}
	}
}

func TestIsolateRefuses(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.suspectNow("k")
	f.ok(f.PauseQueue(f.ctx, "q", why))
	if batch := f.isolate("o", false); !batch.Paused || len(batch.Deliveries) > 0 {
		t.Errorf("paused: %+v", batch)
	}
	_, err := f.ResumeQueue(f.ctx, "q", why)
	f.ok(err)
	if batch := f.isolate("crashedk1", false); !batch.Fenced || len(batch.Deliveries) > 0 {
		t.Errorf("fenced: %+v", batch)
	}
	// A time to come.
	f.rdb.ZAdd(f.ctx, suspectsKey("q"), redis.Z{Score: 1e15, Member: "k"})
	if batch := f.isolate("o", true); !batch.Emptied || len(batch.Deliveries) > 0 {
		t.Errorf("not yet: %+v", batch)
	}
	// Entries that stand for nothing.
	f.rdb.ZAdd(f.ctx, suspectsKey("q"), redis.Z{Score: 1, Member: "gone"}, redis.Z{Score: 1, Member: "k"})
	_, err = f.Cancel(f.ctx, "q", "k", why)
	f.ok(err)
	if batch := f.isolate("o", true); !batch.Emptied || batch.Dropped != 2 {
		t.Errorf("gone: %+v", batch)
	}
	if n := f.rdb.Exists(f.ctx, suspectsKey("q")).Val(); n != 0 {
		t.Error("entries that stand for nothing stay")
	}
}

func TestAfterTwoMoreDeathsItRunsOnlyAlone(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.suspectNow("k")
	for range 2 {
		batch := f.isolate("together", false)
		if len(batch.Deliveries) != 1 {
			t.Fatalf("%+v", batch)
		}
		f.rdb.HDel(f.ctx, ownerKey("q", "together"), "!fenced")
		f.reclaim("together")
		f.rdb.HDel(f.ctx, ownerKey("q", "together"), "!fenced")
		if batch, err := f.Claim(f.ctx, "q", "o", 1); err != nil || batch.Suspects != 1 {
			t.Fatalf("%+v, %v", batch, err)
		}
	}
	f.enqueue("other")
	f.suspectNow("other")
	if batch := f.isolate("o", false); len(batch.Deliveries) != 1 || batch.Deliveries[0].Key != "other" {
		t.Fatalf("one that must be alone holds another up: %+v", batch)
	}
	if batch := f.isolate("o", false); !batch.Alone || len(batch.Deliveries) > 0 {
		t.Fatalf("%+v", batch)
	}
	for want := 1; want <= 2; want++ {
		f.crashAlone("k")
		if got := f.field("k", "p:icr"); got != string(rune('0'+want)) {
			t.Fatalf("%s crashes alone, want %d", got, want)
		}
		if batch, err := f.Claim(f.ctx, "q", "o", 1); err != nil || batch.Suspects != 1 {
			t.Fatalf("%+v, %v", batch, err)
		}
	}
	if d := f.isolate("o", true).Deliveries[0]; d.CrashedAlone != 2 || d.Crashes != 6 {
		t.Errorf("%+v", d)
	}
}

func TestAReplayedPoisonIsIsolatedAgain(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.suspectNow("k")
	d := f.isolate("o", false).Deliveries[0]
	f.settle(d, delivery.Quarantine)
	_, err := f.Replay(f.ctx, "q", "k", false, why)
	f.ok(err)
	if batch, err := f.Claim(f.ctx, "q", "o", 1); err != nil || batch.Suspects != 1 || len(batch.Deliveries) != 0 {
		t.Fatalf("%+v, %v", batch, err)
	}
	if d := f.isolate("o", false).Deliveries[0]; d.CrashedAlone != 0 || d.Crashes != 0 {
		t.Errorf("%+v", d)
	}
}

func TestHoldingsCountSuspects(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.suspectNow("k")
	found, err := f.Holdings(f.ctx, "q", "o")
	if err != nil || found.Suspects != 1 || found.Fenced {
		t.Errorf("%+v, %v", found, err)
	}
	f.rdb.ZAdd(f.ctx, suspectsKey("q"), redis.Z{Score: 1e15, Member: "k"})
	if found, err := f.Holdings(f.ctx, "q", "o"); err != nil || found.Suspects != 0 {
		t.Errorf("one that must wait: %+v, %v", found, err)
	}
}
