package cron

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// bury quarantines jobs of kind "work" with a failure of a class.
func (b *bench) bury(class jobs.Class, message string, keys ...string) {
	b.t.Helper()
	d := jobs.Define[int, int]("work", jobs.Queue("q")).Definition()
	for _, key := range keys {
		_, err := b.store.Enqueue(b.ctx, jobs.Raw(d, key, json.RawMessage("1"), jobs.Tenant("acme")))
		b.ok(err)
	}
	b.buryPending(class, message)
}

// buryPending quarantines whatever is pending.
func (b *bench) buryPending(class jobs.Class, message string) {
	b.t.Helper()
	for {
		batch, err := b.store.Claim(b.ctx, "q", "o", 100)
		b.ok(err)
		for _, d := range batch.Deliveries {
			failure := &jobs.Failure{Class: class, Message: message, At: time.Now()}
			b.ok(b.store.Settle(b.ctx, d, delivery.Verdict{Outcome: delivery.Quarantine, Failure: failure, Entry: delivery.Entry{Class: class, Message: message, Signature: "0123456789ab"}}))
		}
		if batch.Emptied {
			return
		}
	}
}

// until gives turns until a condition holds.
func (b *bench) until(r *Runner, what string, holds func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); {
		if time.Now().After(deadline) {
			b.t.Fatalf("not in time: %s", what)
		}
		b.clock.forward(100 * time.Millisecond)
		b.turn(r)
		time.Sleep(2 * time.Millisecond) // the replay runs beside the turns
	}
}

// replayNow makes the tick of a replay schedule due by Redis' own clock: what is dead
// has died by that.
func (b *bench) replaying(which jobs.DeadFilter) *Runner {
	b.t.Helper()
	b.add(jobs.Timetable{Name: "r", When: "@every 1m", Replay: &which})
	b.clock.forward(time.Minute)
	return b.runner()
}

func (b *bench) states(keys ...string) (all []string) {
	b.t.Helper()
	for _, key := range keys {
		info, err := b.store.Get(b.ctx, "q", key)
		b.ok(err)
		all = append(all, string(info.State))
	}
	return all
}

func TestScheduledReplay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		which jobs.DeadFilter
		want  string // of t1, t2 (timeout, "mail is down"), v1 (invalid, "no address")
	}{
		{jobs.DeadFilter{}, "pending pending pending"},
		{jobs.DeadFilter{Class: jobs.ClassTimeout}, "pending pending quarantined"},
		{jobs.DeadFilter{Text: "ADDRESS"}, "quarantined quarantined pending"},
		{jobs.DeadFilter{Text: "t2"}, "quarantined pending quarantined"},
		{jobs.DeadFilter{Signature: "0123456789ab", Tenant: "acme"}, "pending pending pending"},
		{jobs.DeadFilter{Signature: "ffffffffffff"}, "quarantined quarantined quarantined"},
		{jobs.DeadFilter{Tenant: "other"}, "quarantined quarantined quarantined"},
		{jobs.DeadFilter{Kind: "other"}, "quarantined quarantined quarantined"},
		{jobs.DeadFilter{Queue: "other"}, "quarantined quarantined quarantined"},
		{jobs.DeadFilter{Version: 9}, "quarantined quarantined quarantined"},
		{jobs.DeadFilter{Older: jobs.Span(24 * time.Hour)}, "quarantined quarantined quarantined"},
		{jobs.DeadFilter{Newer: jobs.Span(24 * time.Hour)}, "pending pending pending"},
		{jobs.DeadFilter{Most: 1, Class: jobs.ClassTimeout}, "pending quarantined quarantined"},
	} {
		t.Run(fmt.Sprintf("%+v", c.which), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.bury(jobs.ClassTimeout, "mail is down", "t1", "t2")
			b.bury(jobs.ClassInvalid, "no address", "v1")
			c.which.Rate = 1000
			r := b.replaying(c.which)
			b.until(r, "the tick is over", func() bool { return b.schedule("r").Fired == 1 })
			got := strings.Join(b.states("t1", "t2", "v1"), " ")
			if c.which.Most == 1 && got == "quarantined pending quarantined" {
				got = c.want // either of the two
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if ticks := b.ticks("r"); ticks[0].Moved != strings.Count(c.want, "pending") {
				t.Errorf("%+v", ticks)
			}
			if events, _ := b.store.Events(b.ctx, "q", 10); strings.Contains(c.want, "pending") && events[0].Actor != "schedule r" {
				t.Errorf("%+v", events)
			}
			r.replays.Wait()
		})
	}
}

// TestReplayOnceATick: what fails again at once waits for the next tick.
func TestReplayOnceATick(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.bury(jobs.ClassTimeout, "mail is down", "a", "b", "c")
	b.clock.ms.Store(time.Now().Truncate(time.Minute).Add(-time.Minute).UnixMilli())
	b.add(jobs.Timetable{Name: "r", When: "@every 1s", Replay: &jobs.DeadFilter{Rate: 1000}})
	b.clock.ms.Store(time.Now().UnixMilli())
	r := b.runner()
	for b.schedule("r").Fired < 3 {
		b.clock.ms.Store(max(time.Now().UnixMilli(), b.clock.ms.Load()))
		b.turn(r)
		b.buryPending(jobs.ClassTimeout, "mail is down")
		b.clock.forward(othersHave)
	}
	r.replays.Wait()
	for _, tick := range b.ticks("r") {
		if tick.Moved > 3 {
			t.Errorf("replayed %d of 3 at one tick", tick.Moved)
		}
	}
}

// TestReplayGoesOn: the process that replays is killed again and again; others go on,
// and each job is replayed once.
func TestReplayGoesOn(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var keys []string
	for i := range 60 {
		keys = append(keys, fmt.Sprintf("k%02d", i))
	}
	b.bury(jobs.ClassTimeout, "mail is down", keys...)
	b.add(jobs.Timetable{Name: "r", When: "@every 1m", Replay: &jobs.DeadFilter{Rate: 1000}})
	b.clock.forward(time.Minute)
	replayed, died := 0, 0
	for n := 40; b.schedule("r").Fired == 0 && n < 10_000; n += 10 {
		options := *b.options
		rdb := redis.NewClient(&options)
		fate := &mortal{left: n, after: n%20 == 0}
		rdb.AddHook(fate)
		r, err := New(store.New(rdb, rdb), Options{Clock: b.clock.now})
		b.ok(err)
		for range 20 {
			_, _ = r.Turn(b.ctx)
			r.replays.Wait()
			b.clock.forward(time.Second)
		}
		if fate.dead() {
			died++
		}
		rdb.Close()
	}
	for {
		key, err := b.rdb.RPop(b.ctx, "asynq:{q}:pending").Result()
		if err != nil {
			break
		}
		replayed++
		keys = slices.DeleteFunc(keys, func(k string) bool { return k == key })
	}
	events, err := b.store.Events(b.ctx, "q", 500)
	b.ok(err)
	decided := 0
	for _, e := range events {
		if e.What == "replay" {
			decided++
		}
	}
	if replayed != 60 || decided != 60 || len(keys) > 0 || died < 3 {
		t.Errorf("%d replayed, %d decisions, %v left; %d died", replayed, decided, keys, died)
	}
}

func TestReplayKeepsItsRate(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.bury(jobs.ClassTimeout, "mail is down", "a", "b", "c", "d", "e", "f")
	r := b.replaying(jobs.DeadFilter{Rate: 10})
	began := time.Now()
	b.until(r, "the tick is over", func() bool { return b.schedule("r").Fired == 1 })
	if took := time.Since(began); took < 600*time.Millisecond {
		t.Errorf("six at ten a second took %v", took)
	}
	r.replays.Wait()
}
