package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/fault"
	"github.com/perdure/perdure/jobs"
)

// noon is the time of the tests of schedules, whose scripts are told it.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

var minutely = jobs.Timetable{Name: "s", When: "* * * * *", Kind: "kind.a"}

func (f *fixture) define(t jobs.Timetable, origin string, most int, now time.Time) any {
	f.t.Helper()
	code, err := f.runCode(f.ctx, "schedule", []string{
		scheduleKey(t.Name), schedulesKey, scheduleChangesKey, scheduleEventsKey, scheduleTicksKey(t.Name), scheduleDecidedKey(rand.Text()),
	}, t.Name, mustJSON(t), scheduleTiming(t), origin, most, msOrNone(now), "ada", "because", keptTicks)
	f.ok(err)
	return code
}

func define(when jobs.Timing, origin string, most int) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		t := minutely
		t.When = when
		return f.define(t, origin, most, noon)
	}
}

func unschedule(f *fixture, _ any) any {
	code, err := f.runCode(f.ctx, "unschedule", []string{
		scheduleKey("s"), schedulesKey, scheduleChangesKey, scheduleEventsKey, scheduleTicksKey("s"), scheduleDeclaredKey, scheduleDecidedKey(rand.Text()),
	}, "s", 120_000, "ada", "because")
	f.ok(err)
	return code
}

func rest(verb string) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		code, err := f.runCode(f.ctx, "rest", []string{scheduleKey("s"), scheduleChangesKey, scheduleEventsKey, scheduleDecidedKey(rand.Text())},
			verb, "s", `{"actor":"ada"}`, noon.UnixMilli(), "ada", "because")
		f.ok(err)
		return code
	}
}

// decideTick decides the tick after noon, as one that knows of no run yet.
func decideTick(nonce string, revision int, last time.Time, open string, due time.Time) func(f *fixture, _ any) any {
	return decideTickAfter("", nonce, revision, last, open, due)
}

func decideTickAfter(run, nonce string, revision int, last time.Time, open string, due time.Time) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		at := noon.Add(time.Minute)
		code, err := f.runCode(f.ctx, "tick", []string{scheduleKey("s"), scheduleTicksKey("s")}, nonce, revision, last.UnixMilli(), at.UnixMilli(), open,
			due.UnixMilli(), at.UnixMilli(), at.UnixMilli(), 1, "overlap", keptTicks, run)
		f.ok(err)
		return code
	}
}

func trigger(open string, at time.Time) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		code, err := f.runCode(f.ctx, "trigger", []string{scheduleKey("s"), scheduleEventsKey, scheduleChangesKey, scheduleDecidedKey(rand.Text())},
			"s", open, at.UnixMilli(), "ada", "because")
		f.ok(err)
		return code
	}
}

func ticked(nonce, open, run, what string) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		code, err := f.runCode(f.ctx, "ticked", []string{scheduleKey("s"), scheduleTicksKey("s")}, nonce, open, what,
			noon.UnixMilli(), "q", run, "why", 7, keptTicks)
		f.ok(err)
		return code
	}
}

func fireTick(key string, at time.Time) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		code, err := f.runCode(f.ctx, "fire", []string{taskKey("q", key), pendingKey("q"), firedKey("q")}, key, "s", at.UnixMilli(), "message", 3)
		f.ok(err)
		return code
	}
}

func setBack(now time.Time) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		code, err := f.runCode(f.ctx, "setback", []string{firedKey("q")}, now.UnixMilli(), "s", "s@trigger")
		f.ok(err)
		return code
	}
}

func note(f *fixture, _ any) any {
	code, err := f.runCode(f.ctx, "note", []string{scheduleEventsKey, scheduleDecidedKey(rand.Text())}, "backfill schedule", "s", "ada", "because")
	f.ok(err)
	return code
}

func scheduleCases() []scriptCase {
	api, code := define("* * * * *", "api", 3), define("* * * * *", "code", 3)
	after := func(acts ...func(f *fixture, from any) any) func(f *fixture) any { return after(nil, acts...) }
	fires := decideTick("n", 1, noon, "open", noon)
	declare := func(f *fixture, _ any) any { f.ok(f.DeclareSchedules(f.ctx, []string{"s"}, time.Now())); return nil }
	return []scriptCase{
		{"schedule 1", nil, api},
		{"schedule 2 other timing", after(api), func(f *fixture, _ any) any {
			t := minutely
			t.When = "@hourly"
			return f.define(t, "api", 3, noon.Add(time.Hour))
		}},
		{"schedule 4", after(api), func(f *fixture, _ any) any {
			t := minutely
			t.When = "@hourly"
			return f.define(t, "api", 3, noon.Add(-time.Hour))
		}},
		{"schedule 2 same timing", after(api), func(f *fixture, _ any) any {
			t := minutely
			t.Queue = "p"
			return f.define(t, "api", 3, noon.Add(time.Hour))
		}},
		{"schedule 2 taken over by code", after(api), code},
		{"schedule 3", after(api), api},
		{"schedule -2", after(api), func(f *fixture, _ any) any {
			t := minutely
			t.Name = "other"
			return f.define(t, "api", 1, noon)
		}},
		{"schedule -3", after(code), define("@hourly", "api", 3)},
		{"unschedule 1", after(api, fires), unschedule},
		{"unschedule 1 resting", after(code), unschedule},
		{"unschedule -1", nil, unschedule},
		{"unschedule -3", after(code, declare), unschedule},
		{"rest 1 pause", after(api), rest("pause")},
		{"rest 1 resume", after(api, rest("pause")), rest("resume")},
		{"rest 2 pause", after(api, rest("pause")), rest("pause")},
		{"rest 2 resume", after(api), rest("resume")},
		{"rest -1", nil, rest("pause")},
		{"tick 1 fires", after(api), fires},
		{"tick 1 skips", after(api), decideTick("n", 1, noon, "", noon)},
		{"tick 1 skips paused", after(api, rest("pause")), decideTick("n", 1, noon, "", noon)},
		{"tick 1 sent twice", after(api, fires), fires},
		{"tick -1", nil, fires},
		{"tick -2", after(api, define("@hourly", "api", 3)), fires},
		{"tick -3", after(api, rest("pause")), fires},
		{"tick -4", after(api, fires), decideTick("m", 1, noon.Add(time.Minute), "more", noon)},
		{"tick -5", after(api), decideTick("n", 1, noon, "open", noon.Add(time.Hour))},
		{"tick -6", after(api), decideTick("n", 1, noon.Add(-time.Minute), "open", noon)},
		{"tick -6 a run has begun", after(api, trigger("open", noon), ticked("m", "open", "k", "triggered")), fires},
		{"trigger 1", after(api), trigger("open", noon)},
		{"trigger -1", nil, trigger("open", noon)},
		{"trigger -4", after(api, fires), trigger("other", noon)},
		{"trigger -5", after(api, trigger("open", noon), ticked("n", "open", "k", "triggered")), trigger("open", noon)},
		{"ticked 1 fired", after(api, fires), ticked("n", "open", "k", "fired")},
		{"ticked 1 skipped", after(api, fires), ticked("n", "open", "k", "skipped")},
		{"ticked 1 sent twice", after(api, fires, ticked("n", "open", "k", "fired")), ticked("n", "open", "k", "fired")},
		{"ticked 1 with a plan", after(api, fires), ticked("n", "open", "plan p1", "fired")},
		{"ticked 1 without a run", after(api, fires, ticked("m", "open", "j", "fired"), decideTickAfter("q j", "o", 1, noon.Add(time.Minute), "open", noon)), ticked("n", "open", "", "fired")},
		{"ticked -1", after(api, fires, ticked("n", "open", "k", "fired")), ticked("m", "open", "k", "fired")},
		{"ticked -1 no schedule", nil, ticked("n", "open", "k", "fired")},
		{"fire 1", nil, fireTick("k", noon)},
		{"fire 2", after(fireTick("k", noon)), fireTick("k", noon)},
		{"fire 2 forgotten", after(fireTick("k", noon), func(f *fixture, _ any) any {
			return f.rdb.Del(f.ctx, taskKey("q", "k"), pendingKey("q"))
		}), fireTick("k", noon)},
		{"fire 4", after(fireTick("k", noon)), fireTick("j", noon.Add(-time.Minute))},
		{"fire 3", func(f *fixture) any { f.enqueue("k"); return nil }, fireTick("k", noon)},
		{"setback 1", after(fireTick("k", noon)), setBack(noon.Add(-time.Minute))},
		{"setback 2 sent twice", after(fireTick("k", noon), setBack(noon.Add(-time.Minute))), setBack(noon.Add(-time.Minute))},
		{"setback 2", after(fireTick("k", noon)), setBack(noon)},
		{"note 1", nil, note},
	}
}

// scheduleFaults are the calls about schedules. The store sends each again itself.
func scheduleFaults() []faultCase {
	defined := func(f *fixture) any {
		_, err := f.DefineSchedule(f.ctx, minutely, delivery.FromAPI, noon, why)
		f.ok(err)
		return nil
	}
	tick := func() delivery.TickDecision {
		return delivery.TickDecision{
			Name: "s", Revision: 1, Last: noon, Until: noon.Add(time.Minute), Due: noon.Add(time.Minute), Now: noon.Add(time.Minute),
			Open: &delivery.OpenTick{At: noon.Add(time.Minute), Queue: "q"},
		}
	}
	decide := func(d delivery.TickDecision) func(f *fixture, _ any) error {
		return func(f *fixture, _ any) error {
			d := d
			if d.Open != nil { // which is written to
				own := *d.Open
				d.Open = &own
			}
			answer, err := f.DecideTick(f.ctx, d)
			if err == nil && answer != delivery.TickDecided {
				return fmt.Errorf("answered %v", answer)
			}
			return err
		}
	}
	opened := func(f *fixture) any {
		defined(f)
		d := tick()
		_, err := f.DecideTick(f.ctx, d)
		f.ok(err)
		return *d.Open
	}
	skipped := tick()
	skipped.Open, skipped.From, skipped.Count, skipped.Reason = nil, skipped.Until, 1, "overlap"
	end := func(run *delivery.JobPlace) func(f *fixture, from any) error {
		return func(f *fixture, from any) error {
			closed, err := f.CloseTick(f.ctx, delivery.TickEnd{Name: "s", Tick: from.(delivery.OpenTick), Run: run})
			if err == nil && !closed {
				return errors.New("not closed by this call")
			}
			return err
		}
	}
	return []faultCase{
		{script: "schedule", itself: true, call: func(f *fixture, _ any) error {
			added, err := f.DefineSchedule(f.ctx, minutely, delivery.FromAPI, noon, why)
			if err == nil && !added {
				return errors.New("it was there before")
			}
			return err
		}},
		{script: "unschedule", arrange: defined, itself: true, call: func(f *fixture, _ any) error { return f.RemoveSchedule(f.ctx, "s", time.Time{}, why) }},
		{script: "rest", arrange: defined, itself: true, call: func(f *fixture, _ any) error { return f.PauseSchedule(f.ctx, "s", noon, why) }},
		{script: "tick", name: "that fires", arrange: defined, itself: true, call: decide(tick())},
		{script: "tick", name: "that is skipped", arrange: defined, itself: true, call: decide(skipped)},
		{script: "trigger", arrange: defined, itself: true, call: func(f *fixture, _ any) error {
			return f.TriggerSchedule(f.ctx, "s", delivery.OpenTick{At: noon, Trigger: true, Actor: "ada", Reason: "because"})
		}},
		{script: "ticked", name: "of a job", arrange: opened, itself: true, call: end(&delivery.JobPlace{Queue: "q", Key: "k"})},
		{script: "ticked", name: "of a plan", arrange: opened, itself: true, call: end(&delivery.JobPlace{Plan: "p1"})},
		{script: "fire", itself: true, call: func(f *fixture, _ any) error {
			_, err := f.FireTick(f.ctx, "s", noon, jobs.Raw(kindA, "k", nil))
			return err
		}},
		{script: "setback", arrange: func(f *fixture) any {
			defined(f)
			_, err := f.FireTick(f.ctx, "s", noon.Add(time.Hour), jobs.Raw(kindA, "k", nil))
			f.ok(err)
			return nil
		}, itself: true, call: func(f *fixture, _ any) error { return f.RemoveSchedule(f.ctx, "s", noon, why) }},
		{script: "note", itself: true, call: func(f *fixture, _ any) error { return f.RecordBackfill(f.ctx, "s", noon, noon, 1, why) }},
	}
}

// TestFiredJobIsAsynqs compares the job of a tick with what asynq's own client makes.
func TestFiredJobIsAsynqs(t *testing.T) {
	t.Parallel()
	f := open(t)
	job := jobs.Raw(kindA, "k", []byte(`{"a":1}`), jobs.Deadline(noon), jobs.Tenant("acme"), jobs.Header("x", "y"))
	fired, err := f.FireTick(f.ctx, "s", noon, job)
	f.ok(err)
	if !fired {
		t.Fatal("it has not fired")
	}
	theirs := job
	theirs.Key = "l"
	_, err = f.Enqueue(f.ctx, theirs)
	f.ok(err)
	for _, field := range []string{"state", "msg"} {
		ours, want := f.field("k", field), f.field("l", field)
		if field == "msg" {
			ours, want = plainMessage(ours), strings.Replace(plainMessage(want), "ID:l", "ID:k", 1)
		}
		if ours != want {
			t.Errorf("%s: %s\nasynq's client: %s", field, ours, want)
		}
	}
	info, err := asynq.NewInspectorFromRedisClient(f.rdb).GetTaskInfo("q", "k")
	f.ok(err)
	if info.State != asynq.TaskStatePending || info.Retention != job.Retention || !info.Deadline.Equal(noon) {
		t.Errorf("asynq sees %+v", info)
	}
	if got := f.take(); got.Key != "k" || got.Tenant != "acme" || got.Headers["x"] != "y" {
		t.Errorf("claimed %+v", got)
	}
}

func TestSchedulesBounds(t *testing.T) {
	t.Parallel()
	f := open(t)
	for i := range jobs.MaxTimetables {
		one := minutely
		one.Name = fmt.Sprint("s", i)
		f.define(one, "api", jobs.MaxTimetables, noon)
	}
	_, err := f.DefineSchedule(f.ctx, minutely, delivery.FromAPI, noon, why)
	if !errors.Is(err, jobs.ErrInvalid) || !strings.Contains(err.Error(), "at most 1000") {
		t.Errorf("one too many: %v", err)
	}
	all, err := f.Schedules(f.ctx)
	if err != nil || len(all) != jobs.MaxTimetables || all[1].Name != "s1" || !all[1].Last.Equal(noon) {
		t.Errorf("%d schedules, %v", len(all), err)
	}
	for i := range 5 {
		if _, err := f.FireTick(f.ctx, fmt.Sprint("series", i), noon.Add(time.Duration(i)*time.Minute), jobs.Raw(kindA, fmt.Sprint("k", i), nil)); err != nil {
			t.Fatal(err)
		}
	}
	fireTick("last", noon.Add(time.Hour))(f, nil) // remembers three
	if n := f.rdb.ZCard(f.ctx, firedKey("q")).Val(); n != 3 {
		t.Errorf("%d series are remembered, want the last 3", n)
	}
}

// TestUnknownOutcome: the caller of a decision whose outcome stays unknown hears so.
func TestScheduleOutcomeUnknown(t *testing.T) {
	t.Parallel()
	f, h := hooked(t)
	for n := 1; n <= 3; n++ {
		h.Fail("schedule", n, fault.Before)
	}
	if _, err := f.DefineSchedule(f.ctx, minutely, delivery.FromAPI, noon, why); !errors.Is(err, jobs.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if _, err := f.Schedule(f.ctx, "s"); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("%v", err)
	}
}
