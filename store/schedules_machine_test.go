package store

import (
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/fault"
	"github.com/perdure/perdure/jobs"
)

// cronMachine drives one schedule and a model of it side by side, over a network that
// loses or repeats what is sent, with deciders that know an older state.
type cronMachine struct {
	f    *fixture
	hook *fault.Hook
	now  time.Time

	there   bool
	origin  string
	rev     int64
	last    time.Time
	open    *delivery.OpenTick
	run     string // of the last tick that was closed
	paused  bool
	minute  bool // its timing: each minute, else each hour
	counted [2]int64
	trigger time.Time
	before  []delivery.Scheduled // states that some scheduler may still believe in
	ended   []delivery.OpenTick  // ticks that somebody may still carry out
	jobs    map[firedTick]int    // how often each has fired
	highest map[string]time.Time // of each series
}

// firedTick is an instant of a series. A trigger at the instant of a tick has the same key
// for its job, and is no second tick of it.
type firedTick struct {
	series, key string
	at          int64 // ms
}

// through makes a call over the network; the store must see it through.
func (m *cronMachine) through(t *rapid.T, script string, call func() error) error {
	if when := rapid.SampledFrom(fates).Draw(t, "network"); when != "" {
		m.hook.Fail(script, 1, when)
		defer m.hook.Forget()
	}
	return call()
}

func (m *cronMachine) table() jobs.Timetable {
	t := minutely
	if !m.minute {
		t.When = "@hourly"
	}
	return t
}

func (m *cronMachine) pass(t *rapid.T) {
	m.now = m.now.Add(time.Duration(rapid.IntRange(1, 90).Draw(t, "seconds")) * time.Second)
}

// wrong is a clock that was ahead and is set right.
func (m *cronMachine) wrong(t *rapid.T) {
	m.now = m.now.Add(-time.Duration(rapid.IntRange(1, 300).Draw(t, "seconds")) * time.Second)
}

// setBack: what lies ahead may fire again.
func (m *cronMachine) setBack() {
	for series, at := range m.highest {
		if at.After(m.now) {
			m.highest[series] = m.now
		}
	}
	maps.DeleteFunc(m.jobs, func(tick firedTick, _ int) bool { return tick.at > m.now.UnixMilli() })
}

func (m *cronMachine) define(t *rapid.T) {
	was, minute := m.table(), rapid.Bool().Draw(t, "minute")
	origin := rapid.SampledFrom([]string{delivery.FromAPI, delivery.FromCode}).Draw(t, "origin")
	m.remember()
	refused := m.there && m.origin != delivery.FromAPI && origin == delivery.FromAPI
	same := m.there && m.minute == minute && m.origin == origin
	if !refused {
		m.minute = minute
	}
	table := m.table()
	if refused {
		table.When = "@weekly"
	}
	var added bool
	err := m.through(t, "schedule", func() (err error) {
		added, err = m.f.DefineSchedule(m.f.ctx, table, origin, m.now, why)
		return err
	})
	if refused {
		want(t, "define from the API what comes from code", err, jobs.ErrConflict)
		return
	}
	want(t, "define", err, nil)
	if added == m.there {
		t.Fatalf("added %v, was there %v", added, m.there)
	}
	if !m.there || was.When != table.When {
		if m.last.After(m.now) {
			m.setBack()
		}
		m.last = m.now
	}
	if !same {
		m.rev++
	}
	m.there, m.origin = true, origin
}

func (m *cronMachine) remove(t *rapid.T) {
	m.remember()
	err := m.through(t, "unschedule", func() error { return m.f.RemoveSchedule(m.f.ctx, "s", m.now, why) })
	if !m.there {
		want(t, "remove", err, jobs.ErrNotFound)
		return
	}
	want(t, "remove", err, nil)
	m.setBack()
	m.there, m.rev, m.last, m.open, m.run, m.paused, m.counted, m.trigger = false, 0, time.Time{}, nil, "", false, [2]int64{}, time.Time{}
}

func (m *cronMachine) rest(t *rapid.T) {
	pause := rapid.Bool().Draw(t, "pause")
	err := m.through(t, "rest", func() error {
		if pause {
			return m.f.PauseSchedule(m.f.ctx, "s", m.now, why)
		}
		return m.f.ResumeSchedule(m.f.ctx, "s", m.now, why)
	})
	if !m.there {
		want(t, "pause", err, jobs.ErrNotFound)
		return
	}
	want(t, "pause", err, nil)
	m.paused = pause
}

// remember keeps the state for a decider that is late.
func (m *cronMachine) remember() {
	if !m.there {
		return
	}
	s, err := m.f.Schedule(m.f.ctx, "s")
	m.f.ok(err)
	m.before = append(m.before, s)
}

// decide decides the next tick, as a scheduler that knows the state, or an older one.
func (m *cronMachine) decide(t *rapid.T) {
	if !m.there {
		t.Skip("there is no schedule")
	}
	m.remember()
	s := m.before[rapid.IntRange(max(0, len(m.before)-4), len(m.before)-1).Draw(t, "known")]
	next := s.Last.Truncate(time.Minute).Add(time.Minute)
	fires := rapid.Bool().Draw(t, "fires")
	d := delivery.TickDecision{Name: "s", Revision: s.Revision, Last: s.Last, Run: s.Run, Until: next, Due: next, Now: m.now, From: next, Count: 1, Reason: "overlap"}
	if fires {
		d.Open = &delivery.OpenTick{At: next, Queue: "q"}
	}
	fit := s.Revision == m.rev && s.Last.Equal(m.last) && placeText(s.Run) == m.run && m.open == nil && (!fires || !m.paused)
	var answer delivery.TickAnswer
	err := m.through(t, "tick", func() (err error) { answer, err = m.f.DecideTick(m.f.ctx, d); return err })
	want(t, "decide", err, nil)
	switch {
	case !fit && answer != delivery.TickPassed, fit && next.After(m.now) && answer != delivery.TickEarly, fit && !next.After(m.now) && answer != delivery.TickDecided:
		t.Fatalf("answer %v to %+v at %v; rev %d last %v open %v paused %v", answer, d, m.now, m.rev, m.last, m.open, m.paused)
	case answer == delivery.TickDecided:
		m.last, m.open = next, d.Open
		if !fires {
			m.counted[1]++
		}
	}
}

func (m *cronMachine) triggerNow(t *rapid.T) {
	tick := delivery.OpenTick{At: m.now, Queue: "q", Trigger: true, Actor: "ada", Reason: "because"}
	err := m.through(t, "trigger", func() error { return m.f.TriggerSchedule(m.f.ctx, "s", tick) })
	switch {
	case !m.there:
		want(t, "trigger", err, jobs.ErrNotFound)
	case m.open != nil || !m.now.After(m.trigger):
		want(t, "trigger", err, jobs.ErrConflict)
	default:
		want(t, "trigger", err, nil)
		s, err := m.f.Schedule(m.f.ctx, "s")
		m.f.ok(err)
		m.open, m.trigger = s.Open, m.now
	}
}

// fire carries out the open tick, or one of before once more.
func (m *cronMachine) fire(t *rapid.T) {
	var some []delivery.OpenTick
	if m.open != nil {
		some = append(some, *m.open)
	}
	some = append(some, m.ended...)
	if len(some) == 0 {
		t.Skip("there is no tick")
	}
	tick := rapid.SampledFrom(some).Draw(t, "tick")
	series, key := delivery.Series("s", tick.Trigger), delivery.TickKey("s", tick.At)
	expected := tick.At.After(m.highest[series])
	var fired bool
	err := m.through(t, "fire", func() (err error) {
		fired, err = m.f.FireTick(m.f.ctx, series, tick.At, jobs.Raw(kindA, key, nil))
		return err
	})
	if m.highest[series].After(tick.At) {
		want(t, "fire", err, delivery.ErrOvertaken)
	} else {
		want(t, "fire", err, nil)
	}
	if fired && !expected {
		t.Fatalf("%s has fired again", key)
	}
	if expected {
		m.highest[series] = tick.At
		m.jobs[firedTick{series, key, tick.At.UnixMilli()}]++
	}
	m.ended = append(m.ended, tick)
}

// forget lets jobs end and be forgotten.
func (m *cronMachine) forget(*rapid.T) {
	for tick := range m.jobs {
		m.f.rdb.Del(m.f.ctx, taskKey("q", tick.key))
	}
	m.f.rdb.Del(m.f.ctx, pendingKey("q"))
}

func (m *cronMachine) close(t *rapid.T) {
	some := slices.Clone(m.ended)
	if m.open != nil {
		some = append(some, *m.open)
	}
	if len(some) == 0 {
		t.Skip("there is no tick")
	}
	tick := rapid.SampledFrom(some).Draw(t, "tick")
	expected := m.open != nil && m.open.Text == tick.Text
	run := &delivery.JobPlace{Queue: "q", Key: delivery.TickKey("s", tick.At)}
	if tick.Trigger {
		run = &delivery.JobPlace{Queue: "q", Plan: delivery.PlanID("s", tick.At)}
	}
	var closed bool
	err := m.through(t, "ticked", func() (err error) {
		closed, err = m.f.CloseTick(m.f.ctx, delivery.TickEnd{Name: "s", Tick: tick, Run: run})
		return err
	})
	want(t, "close", err, nil)
	if closed != expected {
		t.Fatalf("closed %v: %+v, open %+v", closed, tick, m.open)
	}
	if closed {
		m.ended, m.open, m.run = append(m.ended, tick), nil, placeText(run)
		m.counted[0]++
	}
}

// check compares the schedule with the model.
func (m *cronMachine) check(t *rapid.T) {
	all, err := m.f.Schedules(m.f.ctx)
	want(t, "schedules", err, nil)
	if len(all) != 0 != m.there {
		t.Fatalf("%+v, there %v", all, m.there)
	}
	if !m.there {
		return
	}
	s := all[0]
	open := m.open == nil && s.Open == nil || m.open != nil && s.Open != nil && s.Open.At.Equal(m.open.At)
	if s.Revision != m.rev || !s.Last.Equal(m.last) || !open || placeText(s.Run) != m.run || (s.Paused != nil) != m.paused || s.Origin != m.origin || [2]int64{s.Fired, s.Left} != m.counted {
		t.Fatalf("%+v\nopen %+v, model %+v", s, s.Open, m)
	}
	for tick, n := range m.jobs {
		if n > 1 {
			t.Fatalf("%v has fired %d times", tick, n)
		}
	}
}

// TestScheduleMachine plays random decisions, deaths and faults against a model.
func TestScheduleMachine(t *testing.T) {
	t.Parallel()
	f, hook := hooked(t)
	rapid.Check(t, func(t *rapid.T) {
		f.rdb.FlushDB(f.ctx)
		f.known.Clear()
		m := &cronMachine{f: f, hook: hook, now: noon, jobs: map[firedTick]int{}, highest: map[string]time.Time{}}
		t.Repeat(map[string]func(*rapid.T){
			"": m.check, "pass": m.pass, "pass more": m.pass, "pass also": m.pass, "wrong": m.wrong, "define": m.define, "remove": m.remove, "rest": m.rest, "decide": m.decide, "decide too": m.decide,
			"decide also": m.decide, "trigger": m.triggerNow, "fire": m.fire, "fire too": m.fire, "forget": m.forget, "close": m.close, "close too": m.close,
		})
	})
	if n := hook.Total(); n.Before == 0 || n.After == 0 || n.Twice == 0 {
		t.Errorf("not every fault happened: %+v", n)
	}
}
