package store

import (
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
)

// promoteAll promotes for as long as there is more to do at once, and returns how many jobs
// were moved and how many calls it took.
func (f *fixture) promoteAll() (moved, calls int) {
	f.t.Helper()
	for {
		p, err := f.Promote(f.ctx, "q")
		f.ok(err)
		moved, calls = moved+p.Moved, calls+1
		if p.Next != 0 {
			return moved, calls
		}
		if calls == 100 {
			f.t.Fatal("it does not end")
		}
	}
}

func (f *fixture) queued() []string { return f.rdb.ZRange(f.ctx, queuedKey("q"), 0, -1).Val() }

// TestStaleEntriesHoldNobodyUp: entries of jobs that do not wait their turn any more do not
// keep those behind them from being found, however many they are; no script takes long for it.
func TestStaleEntriesHoldNobodyUp(t *testing.T) {
	t.Parallel()
	f := open(t)
	const stale = 3*maxBatch + 7
	entries := make([]redis.Z, stale)
	for i := range entries {
		f.ofNumber("a", 1000+i)
		f.settle(f.take(), delivery.Complete)
		entries[i] = redis.Z{Score: float64(i), Member: fmt.Sprint("a", 1000+i)}
	}
	shared(f)
	f.ok(f.rdb.ZAdd(f.ctx, queuedKey("q"), entries...).Err())
	f.rdb.Del(f.ctx, turnKey("q", "a"))
	if p, err := f.Promote(f.ctx, "q"); err != nil || p.Moved != 0 || p.Next != 0 || len(f.queued()) != stale+2-maxBatch {
		t.Errorf("one call: %+v, %v, %d entries are left", p, err, len(f.queued()))
	}
	if moved, calls := f.promoteAll(); moved != 2 || calls != 3 {
		t.Errorf("moved %d in %d more calls", moved, calls)
	}
	f.wantWaiting([]string{"b1", "a2", "a3"})
	f.wantClaimed(9, "b1", "a2", "a3")
	f.wantClean()
}

// TestDeletedJobsHoldNobodyUp: so it is with entries of jobs that were deleted, which the
// census still finds by them, and records.
func TestDeletedJobsHoldNobodyUp(t *testing.T) {
	t.Parallel()
	f := open(t)
	shared(f)
	const gone = maxBatch + 7
	entries := make([]redis.Z, gone)
	for i := range entries {
		entries[i] = redis.Z{Score: float64(i), Member: fmt.Sprint("gone", i)}
	}
	f.ok(f.rdb.ZAdd(f.ctx, queuedKey("q"), entries...).Err())
	f.rdb.Del(f.ctx, turnKey("q", "a"))
	for i, want := range []int{0, 2} {
		if p, err := f.Promote(f.ctx, "q"); err != nil || p.Moved != want || p.Next == 0 {
			t.Errorf("look %d: %+v, %v", i+1, p, err)
		}
	}
	_, err := f.Beat(f.ctx, "o", true)
	f.ok(err)
	if drift := f.census(); drift["gone"] != gone || len(drift) != 1 {
		t.Errorf("the census finds %v", drift)
	}
}

// TestAnEntryWithoutAWait: whatever has become of a job, its entry goes and it is left alone.
// The entry of one that is gone stays for the census, behind all others.
func TestAnEntryWithoutAWait(t *testing.T) {
	t.Parallel()
	running := func(f *fixture) delivery.Delivery {
		f.ok(f.inspector().RunTask("q", "a2"))
		for {
			if d := f.take(); d.Key == "a2" {
				return d
			}
		}
	}
	for name, moves := range map[string]func(f *fixture){
		"deleted with asynq":  func(f *fixture) { f.ok(f.inspector().DeleteTask("q", "a2")) },
		"archived with asynq": func(f *fixture) { f.ok(f.inspector().ArchiveTask("q", "a2")) },
		"run now":             func(f *fixture) { f.ok(f.inspector().RunTask("q", "a2")) },
		"runs":                func(f *fixture) { running(f) },
		"has ended":           func(f *fixture) { f.settle(running(f), delivery.Complete) },
		"retries":             func(f *fixture) { f.settle(running(f), delivery.Retry) },
		"in a lane":           func(f *fixture) { f.ok(f.Settle(f.ctx, running(f), inPay)) },
		"quarantined":         func(f *fixture) { f.settle(running(f), delivery.Quarantine) },
		"cancelled":           func(f *fixture) { _, err := f.Cancel(f.ctx, "q", "a2", why); f.ok(err) },
		"paused":              func(f *fixture) { _, err := f.Pause(f.ctx, "q", "a2", why); f.ok(err) },
		"no job":              func(f *fixture) { f.rdb.Del(f.ctx, taskKey("q", "a2")); f.rdb.Set(f.ctx, taskKey("q", "a2"), 1, 0) },
		"off the retry set":   func(f *fixture) { f.rdb.ZRem(f.ctx, retryKey("q"), "a2") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			if name == "archived with asynq" {
				redistest.Foreign(t)
			}
			shared(f)
			f.of("c", 3)
			moves(f)
			f.ok(f.rdb.ZAdd(f.ctx, queuedKey("q"), redis.Z{Score: 1, Member: "a2"}).Err()) // as one that was left
			before := f.dump()
			if moved, _ := f.promoteAll(); moved != 0 {
				t.Errorf("moved %d", moved)
			}
			want := "-perdure:{q}:queued a2"
			if name == "deleted with asynq" || name == "no job" {
				want = "~perdure:{q}:queued a2=<time>"
			}
			if got := changes(before, f.dump()); !slices.Equal(got, []string{want}) {
				t.Errorf("changed %q", got)
			}
		})
	}
}

// TestWhoWaitsIsLeftAlone: looking for the lost touches nobody who waits, in whichever
// waiting set it looks.
func TestWhoWaitsIsLeftAlone(t *testing.T) {
	t.Parallel()
	f := open(t)
	shared(f)
	before := f.dump()
	if moved, calls := f.promoteAll(); moved != 0 || calls != 1 {
		t.Errorf("moved %d in %d calls", moved, calls)
	}
	f.same(before, "looking")
}
