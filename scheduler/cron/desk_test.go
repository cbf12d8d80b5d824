package cron

import (
	"context"
	"errors"
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

func TestTrigger(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add(every("s", 3600))
	d := NewDesk(b.store)
	b.ok(b.store.PauseSchedule(b.ctx, "s", b.clock.now(), by))
	first, err := d.Trigger(b.ctx, "s", by)
	b.ok(err)
	second, err := d.Trigger(b.ctx, "s", jobs.Decision{Actor: "bob", Reason: "again"})
	for errors.Is(err, jobs.ErrConflict) { // in the same millisecond
		second, err = d.Trigger(b.ctx, "s", jobs.Decision{Actor: "bob", Reason: "again"})
	}
	b.ok(err)
	if got := b.take(); !slices.Equal(got, []string{first.Job.Key, second.Job.Key}) || first.Job.Queue != "q" {
		t.Errorf("%v, want %v and %v", got, first.Job, second.Job)
	}
	s, ticks := b.schedule("s"), b.ticks("s")
	if s.Open != nil || s.Fired != 2 || len(ticks) != 2 || ticks[0].What != "triggered" || ticks[0].Reason != "bob: again" {
		t.Errorf("%+v %+v", s, ticks)
	}
	events, err := b.store.ScheduleEvents(b.ctx, 10)
	b.ok(err)
	if len(events) != 4 || events[0].What != "trigger schedule" || events[0].Actor != "bob" || events[0].Key != "s" {
		t.Errorf("%+v", events)
	}
	for name, want := range map[string]error{"none": jobs.ErrNotFound} {
		if _, err := d.Trigger(b.ctx, name, by); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := d.Trigger(b.ctx, "s", jobs.Decision{Actor: "ada"}); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("without a reason: %v", err)
	}
}

// TestTriggerOfTheDead: whoever triggers dies at each call in turn; the job is there
// once, or nothing has happened.
func TestTriggerOfTheDead(t *testing.T) {
	t.Parallel()
	for calls := 1; calls <= 12; calls++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("at call %d, executed %v", calls, after), func(t *testing.T) {
				t.Parallel()
				b := newBench(t)
				b.add(every("s", 3600))
				options := *b.options
				rdb := redis.NewClient(&options)
				defer rdb.Close()
				rdb.AddHook(&mortal{left: calls, after: after})
				_, err := NewDesk(store.New(rdb, rdb)).Trigger(b.ctx, "s", by)
				events, _ := b.store.ScheduleEvents(b.ctx, 1)
				decided := events[0].What == "trigger schedule"
				b.pass(b.runner(), 5*time.Second)
				if n := len(b.take()); n > 1 || (n == 1) != decided || err == nil && n == 0 {
					t.Errorf("%d jobs, decided %v; its caller heard %v", n, decided, err)
				}
				if s := b.schedule("s"); s.Open != nil || (s.Fired == 1) != decided {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

func TestBackfill(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add(every("s", 60, func(t *jobs.Timetable) { t.CatchUp = &jobs.CatchUp{} }))
	began, r := b.clock.now(), b.runner()
	b.pass(r, 61*time.Second)
	b.clock.forward(290 * time.Second) // to 351 s: four ticks are missed and skipped
	b.turn(r)
	b.take() // the first has run and is forgotten
	d := NewDesk(b.store)
	want := keys("s", began, 120, 180, 240, 300)
	dry, err := d.Backfill(b.ctx, "s", Range{From: began.Add(time.Second), Until: b.clock.now().Add(time.Hour), Dry: true}, jobs.Decision{})
	b.ok(err)
	if got := newKeys(dry); !slices.Equal(got, want) || dry[0].State != "fired" || len(dry) != 5 {
		t.Errorf("dry run: %+v, want %v", dry, want)
	}
	if got := b.take(); len(got) > 0 {
		t.Errorf("the dry run enqueued %v", got)
	}
	filled, err := d.Backfill(b.ctx, "s", Range{From: began.Add(2 * time.Minute), Until: b.clock.now()}, by)
	b.ok(err)
	again, err := d.Backfill(b.ctx, "s", Range{From: began.Add(time.Second), Until: b.clock.now()}, by)
	b.ok(err)
	if got := newKeys(filled); !slices.Equal(got, want) || len(newKeys(again)) > 0 || again[1].State != "pending" {
		t.Errorf("enqueued %v, then %+v", got, again)
	}
	got := b.take()
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("in the queue: %v, want %v", got, want)
	}
	events, err := b.store.ScheduleEvents(b.ctx, 10)
	b.ok(err)
	if len(events) != 2 || !strings.Contains(events[0].Reason, "because (4 ticks from") {
		t.Errorf("%+v", events)
	}
}

func newKeys(filled []Filled) (all []string) {
	for _, f := range filled {
		if f.State == "new" {
			all = append(all, f.Job.Key)
		}
	}
	return all
}

// TestBackfillOfForgottenTicks: where record and job are gone, nobody knows whether a
// tick has fired, and it does so again only when that is asked for.
func TestBackfillOfForgottenTicks(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add(every("s", 1))
	began, r := b.clock.now(), b.runner()
	const ticks = delivery.KeptTicks + 5
	for range ticks {
		b.pass(r, time.Second)
		b.take()
	}
	d := NewDesk(b.store)
	in := Range{From: began.Add(time.Second), Until: began.Add(10 * time.Second)}
	filled, err := d.Backfill(b.ctx, "s", in, by)
	b.ok(err)
	for i, f := range filled {
		if want := map[bool]string{true: "forgotten", false: "fired"}[i < 5]; f.State != want {
			t.Errorf("tick %d of %d is %q, want %q", i+1, ticks, f.State, want)
		}
	}
	if got := b.take(); len(filled) != 10 || len(got) > 0 {
		t.Errorf("%d ticks, enqueued again %v", len(filled), got)
	}
	in.Forgotten = true
	filled, err = d.Backfill(b.ctx, "s", in, by)
	b.ok(err)
	if got, want := newKeys(filled), keys("s", began, 1, 2, 3, 4, 5); !slices.Equal(got, want) || len(b.take()) != len(want) {
		t.Errorf("asked for: %v, want %v", got, want)
	}
}

// TestBackfillBeforeTheRecord: skipped ticks and triggers on record tell how far back it
// reaches.
func TestBackfillBeforeTheRecord(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	run := func(n int, r delivery.TickRecord) []delivery.TickRecord {
		return slices.Repeat([]delivery.TickRecord{r}, n)
	}
	fired := delivery.TickRecord{What: "fired", At: at}
	for _, c := range []struct {
		what    string
		records []delivery.TickRecord // newest first
		want    time.Time
	}{
		{"all are on record", run(999, fired), time.Time{}},
		{"the oldest has fired", run(1000, fired), at},
		{"the oldest were skipped", append(run(999, fired), delivery.TickRecord{What: "skipped", From: at.Add(-time.Hour), At: at}), at.Add(-time.Hour)},
		{"the oldest was a trigger", append(run(999, fired), delivery.TickRecord{What: "triggered", At: at.Add(-time.Hour)}), at},
		{"before that the timing was another", append(run(999, fired), delivery.TickRecord{What: "changed", From: at.Add(-time.Hour), At: at}), at},
		{"nothing but triggers", run(1000, delivery.TickRecord{What: "triggered", At: at}), at.Add(time.Hour + 1)},
	} {
		d := NewDesk(onRecord{records: c.records})
		_, since, err := d.fired(t.Context(), delivery.Scheduled{Last: at.Add(time.Hour)})
		if err != nil || !since.Equal(c.want) {
			t.Errorf("%s: since %v, want %v; %v", c.what, since, c.want, err)
		}
	}
}

// onRecord is a store of which only the record of ticks is asked for.
type onRecord struct {
	Books
	records []delivery.TickRecord
}

func (o onRecord) ScheduleTicks(context.Context, string, int) ([]delivery.TickRecord, error) {
	return o.records, nil
}

func TestBackfillRefuses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add(every("s", 1))
	b.add(jobs.Timetable{Name: "r", When: "@daily", Replay: &jobs.DeadFilter{}})
	b.clock.forward(time.Hour)
	b.turn(b.runner())
	d, now := NewDesk(b.store), b.clock.now()
	for what, c := range map[string]struct {
		name        string
		from, until time.Time
		by          jobs.Decision
		want        error
	}{
		"too many":       {"s", now.Add(-time.Hour), now, by, jobs.ErrInvalid},
		"a replay":       {"r", now.Add(-time.Hour), now, by, jobs.ErrConflict},
		"no reason":      {"s", now.Add(-time.Minute), now, jobs.Decision{Actor: "ada"}, jobs.ErrInvalid},
		"the wrong way":  {"s", now, now.Add(-time.Minute), by, jobs.ErrInvalid},
		"nothing to see": {"none", now, now, by, jobs.ErrNotFound},
	} {
		if _, err := d.Backfill(b.ctx, c.name, Range{From: c.from, Until: c.until}, c.by); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
	if got := b.take(); len(got) > 12 { // those that are not late, and one that is made up for
		t.Errorf("enqueued %d", len(got))
	}
}

func TestAddAndShow(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	d := NewDesk(b.store)
	table := jobs.Timetable{Name: "s", When: "30 2 * * *", Zone: "Europe/Berlin", Kind: "work"}
	story, err := d.Add(b.ctx, table, by)
	b.ok(err)
	if len(story.Next) != 5 || story.State != "active" || story.Origin != "api" || story.Work != "enqueue work" {
		t.Errorf("%+v", story)
	}
	for i, at := range story.Next {
		if i > 0 && !at.After(story.Next[i-1]) || at.In(parse(t, table).zone).Hour() != 2 {
			t.Errorf("next %v", story.Next)
		}
	}
	for what, c := range map[string]struct {
		change func(*jobs.Timetable)
		by     jobs.Decision
		want   error
	}{
		"unknown kind": {func(t *jobs.Timetable) { t.Kind = "none" }, by, jobs.ErrUnknownKind},
		"bad zone":     {func(t *jobs.Timetable) { t.Zone = "Mars" }, by, jobs.ErrInvalid},
		"no actor":     {func(*jobs.Timetable) {}, jobs.Decision{Reason: "r"}, jobs.ErrInvalid},
	} {
		changed := table
		c.change(&changed)
		if _, err := d.Add(b.ctx, changed, c.by); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	app := b.runner(table)
	b.clock.ms.Store(time.Now().UnixMilli())
	b.turn(app)
	if _, err := d.Add(b.ctx, every("s", 60), by); !errors.Is(err, jobs.ErrConflict) {
		t.Errorf("one that comes with a program is changed: %v", err)
	}
	if err := d.Remove(b.ctx, "s", by); !errors.Is(err, jobs.ErrConflict) {
		t.Errorf("one that comes with a program is removed: %v", err)
	}
	views, err := d.List(b.ctx)
	if err != nil || len(views) != 1 || views[0].Origin != "code" || len(views[0].Next) != 1 {
		t.Errorf("%+v %v", views, err)
	}
	if _, err := d.Show(b.ctx, "s", 101); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

// TestRemovedWhileItRuns: a scheduler that knows it still does nothing more.
func TestRemovedWhileItRuns(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add(every("s", 10))
	r := b.runner()
	b.pass(r, 15*time.Second)
	b.take()
	b.ok(NewDesk(b.store).Remove(b.ctx, "s", by))
	b.pass(r, 30*time.Second)
	if got := b.take(); len(got) > 0 {
		t.Errorf("fired %v", got)
	}
	if keys := b.rdb.Keys(b.ctx, "perdure:{@cron}:s:*").Val(); len(keys) > 0 {
		t.Errorf("left behind: %v", keys)
	}
	b.add(every("s", 10)) // it begins anew
	b.pass(r, 11*time.Second)
	if got := b.take(); len(got) != 1 {
		t.Errorf("fired %v", got)
	}
	var _ delivery.Scheduled = b.schedule("s")
}
