package cron

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Books is what decisions of people about schedules need of the store.
type Books interface {
	Store
	RemoveSchedule(ctx context.Context, name string, now time.Time, by jobs.Decision) error
	PauseSchedule(ctx context.Context, name string, now time.Time, by jobs.Decision) error
	ResumeSchedule(ctx context.Context, name string, now time.Time, by jobs.Decision) error
	TriggerSchedule(ctx context.Context, name string, tick delivery.OpenTick) error
	ScheduleTicks(ctx context.Context, name string, limit int) ([]delivery.TickRecord, error)
	RecordBackfill(ctx context.Context, name string, from, until time.Time, n int, by jobs.Decision) error
	EnqueueMany(ctx context.Context, jobs []jobs.Job) []jobs.Enqueued
}

// Desk is where people decide about schedules. Make one with [NewDesk].
type Desk struct{ store Books }

// NewDesk returns the desk of a store.
func NewDesk(store Books) *Desk { return &Desk{store} }

// View is a schedule as people see it.
type View struct {
	delivery.Scheduled
	State string      `json:"state"` // active, paused, or resting: it came with a program or file that nobody runs
	Work  string      `json:"work"`
	Next  []time.Time `json:"next"` // the next instants, without jitter
}

// Story is a view with what became of the last ticks, newest first.
type Story struct {
	View
	Ticks []delivery.TickRecord `json:"ticks"`
	Plans []delivery.Plan       `json:"plans,omitempty"` // of the last replay, as they stand
}

// List returns all schedules by name, each with its next instant.
func (d *Desk) List(ctx context.Context) ([]View, error) {
	all, err := d.store.Schedules(ctx)
	if err != nil {
		return nil, err
	}
	_, now, err := d.store.ScheduleChanges(ctx)
	if err != nil {
		return nil, err
	}
	views := make([]View, len(all))
	for i, s := range all {
		views[i] = view(s, now, 1)
	}
	return views, nil
}

// Show returns a schedule with its next instants, 0 to 100, and its last ticks.
func (d *Desk) Show(ctx context.Context, name string, next int) (Story, error) {
	if next < 0 || next > 100 {
		return Story{}, &jobs.InvalidError{Field: "next", Value: next, Bound: "from 0 to 100"}
	}
	s, now, err := d.read(ctx, name)
	if err != nil {
		return Story{}, err
	}
	story := Story{View: view(s, now, next)}
	if story.Ticks, err = d.store.ScheduleTicks(ctx, name, 50); err != nil {
		return story, err
	}
	if s.Run != nil && s.Run.Plan != "" {
		story.Plans, err = plansOf(ctx, d.store, *s.Run)
	}
	return story, err
}

func (d *Desk) read(ctx context.Context, name string) (delivery.Scheduled, time.Time, error) {
	s, err := d.store.Schedule(ctx, name)
	if err != nil {
		return s, time.Time{}, err
	}
	_, now, err := d.store.ScheduleChanges(ctx)
	return s, now, err
}

func view(s delivery.Scheduled, now time.Time, next int) View {
	v := View{Scheduled: s, State: "active", Work: s.Timetable.Work(), Next: []time.Time{}}
	switch {
	case s.Paused != nil:
		v.State = "paused"
	case s.Rests(now):
		v.State = "resting"
	}
	times, err := Parse(s.Timetable)
	if s.Unreadable != "" || err != nil {
		v.State = "unreadable"
		return v
	}
	at := s.Last
	if now.After(at) {
		at = now
	}
	for range next {
		var ever bool
		if at, ever = times.Next(at); !ever {
			break
		}
		v.Next = append(v.Next, at)
	}
	return v
}

// Preview returns the next instants of a timetable that need not be known.
func Preview(t jobs.Timetable, after time.Time, n int) ([]time.Time, error) {
	times, err := Parse(t)
	if err != nil {
		return nil, err
	}
	var all []time.Time
	for at, ever := times.Next(after); ever && len(all) < n; at, ever = times.Next(at) {
		all = append(all, at)
	}
	return all, nil
}

// Add defines a schedule or changes one that was added before, and returns it. Its
// kind must have been published by a worker. ErrConflict: it comes with a program.
func (d *Desk) Add(ctx context.Context, t jobs.Timetable, by jobs.Decision) (Story, error) {
	if _, err := Parse(t); err != nil {
		return Story{}, err
	}
	if err := by.Check(); err != nil {
		return Story{}, err
	}
	if t.Replay == nil {
		kind, err := d.store.KindDefinition(ctx, t.Kind)
		if err != nil {
			return Story{}, err
		}
		if err := t.Job(kind, TickKey(t.Name, time.Unix(0, 0))).Err(); err != nil {
			return Story{}, err
		}
	}
	if _, err := d.store.DefineSchedule(ctx, t, delivery.FromAPI, time.Time{}, by); err != nil {
		return Story{}, err
	}
	return d.Show(ctx, t.Name, 5)
}

// Remove forgets a schedule; its jobs stay. ErrConflict: a process declares it.
func (d *Desk) Remove(ctx context.Context, name string, by jobs.Decision) error {
	return d.store.RemoveSchedule(ctx, name, time.Time{}, by)
}

// Pause skips a schedule's ticks until it is resumed.
func (d *Desk) Pause(ctx context.Context, name string, by jobs.Decision) (Story, error) {
	if err := d.store.PauseSchedule(ctx, name, time.Time{}, by); err != nil {
		return Story{}, err
	}
	return d.Show(ctx, name, 1)
}

// Resume takes Pause back. Ticks of the time between are not made up for.
func (d *Desk) Resume(ctx context.Context, name string, by jobs.Decision) (Story, error) {
	if err := d.store.ResumeSchedule(ctx, name, time.Time{}, by); err != nil {
		return Story{}, err
	}
	return d.Show(ctx, name, 1)
}

// Triggered is what became of a trigger.
type Triggered struct {
	Schedule string             `json:"schedule"`
	At       time.Time          `json:"at"`
	Job      *delivery.JobPlace `json:"job,omitempty"`
	Plan     *delivery.JobPlace `json:"plan,omitempty"` // of a replay, where there is something for it
	Note     string             `json:"note,omitempty"` // what else there is to say
}

// Trigger does now what the schedule does at a tick, also while it is paused and
// whatever runs. ErrBusy: a tick is under way.
func (d *Desk) Trigger(ctx context.Context, name string, by jobs.Decision) (Triggered, error) {
	s, now, err := d.read(ctx, name)
	if err != nil {
		return Triggered{}, err
	}
	tick := delivery.OpenTick{At: now.Truncate(time.Millisecond), Trigger: true, Actor: by.Actor, Reason: by.Reason, Decided: now}
	did := Triggered{Schedule: name, At: tick.At}
	if s.Replay != nil {
		err = d.readyReplay(ctx, s, &tick)
	} else {
		did.Job, err = d.readyJob(ctx, s, &tick)
	}
	if err != nil {
		return did, err
	}
	if err := d.store.TriggerSchedule(ctx, name, tick); err != nil {
		return did, err
	}
	// From here on it will happen; a scheduler does it when this process cannot.
	opened, err := d.store.Schedule(ctx, name)
	if err != nil || opened.Open == nil || !opened.Open.At.Equal(tick.At) {
		return did, nil
	}
	times, err := Parse(opened.Timetable)
	if err != nil {
		return did, err
	}
	end, err := fire(ctx, d.store, opened, times, now)
	if err != nil {
		return did, nil
	}
	_, _ = d.store.CloseTick(ctx, end)
	if end.Refused != "" {
		return did, errors.New(end.Refused)
	}
	if did.Note = end.Note; s.Replay != nil {
		did.Plan = end.Run
	}
	return did, nil
}

// readyJob makes a tick one that enqueues a job, and returns where that will be.
func (d *Desk) readyJob(ctx context.Context, s delivery.Scheduled, tick *delivery.OpenTick) (*delivery.JobPlace, error) {
	kind, err := d.store.KindDefinition(ctx, s.Kind)
	if err != nil {
		return nil, err
	}
	job := s.Timetable.Job(kind, TickKey(s.Name, tick.At))
	tick.Queue = job.Queue
	return &delivery.JobPlace{Queue: job.Queue, Key: job.Key}, job.Err()
}

// readyReplay makes a tick one that replays, and that ends the plan before where it
// has stopped.
func (d *Desk) readyReplay(ctx context.Context, s delivery.Scheduled, tick *delivery.OpenTick) error {
	tick.Queue = s.Replay.Queue
	if s.Run == nil || s.Run.Plan == "" {
		return nil
	}
	state, err := standing(ctx, d.store, *s.Run)
	if state == string(delivery.PlanStopped) {
		tick.Cancel = s.Run
	}
	return err
}

// maxBackfill is how many ticks one backfill makes up for.
const maxBackfill = 1000

// Range says which ticks a backfill makes up for.
type Range struct {
	From, Until time.Time // both included
	Forgotten   bool      // also those of which nothing is on record any more: they may have fired
	Dry         bool      // only say which
}

// Filled is a tick of a backfill.
type Filled struct {
	At    time.Time         `json:"at"`
	Job   delivery.JobPlace `json:"job"`
	State string            `json:"state"` // "new": it is enqueued, or would be; "fired": it has fired; "forgotten": it may have; else the state of the job under its key
	Error string            `json:"error,omitempty"`
}

// Backfill enqueues the jobs of the ticks of a range that have not fired. Ticks that
// are still to come are not among them. ErrInvalid: there are more than 1000.
func (d *Desk) Backfill(ctx context.Context, name string, in Range, by jobs.Decision) ([]Filled, error) {
	if !in.Dry {
		if err := by.Check(); err != nil {
			return nil, err
		}
	}
	s, err := d.store.Schedule(ctx, name)
	if err != nil {
		return nil, err
	}
	if s.Replay != nil {
		return nil, fmt.Errorf("backfill schedule %s: it replays what is dead now, which a time of the past has no part in; trigger it: %w", name, jobs.ErrConflict)
	}
	all, ticks, err := d.ticks(ctx, s, in)
	if err != nil || in.Dry || len(ticks) == 0 {
		return all, err
	}
	if err := d.store.RecordBackfill(ctx, name, in.From, in.Until, len(ticks), by); err != nil {
		return nil, err
	}
	at := map[string]int{}
	for i, f := range all {
		at[f.Job.Key] = i
	}
	var failed []error
	for i, done := range d.store.EnqueueMany(ctx, ticks) {
		f := &all[at[ticks[i].Key]]
		switch {
		case done.Err != nil:
			f.State, f.Error = "unknown", done.Err.Error()
			failed = append(failed, done.Err)
		case done.Handle.Duplicate:
			f.State = string(done.Handle.State)
		}
	}
	return all, errors.Join(failed...)
}

// ticks returns the ticks of a range, and the jobs of those that are to be enqueued.
func (d *Desk) ticks(ctx context.Context, s delivery.Scheduled, in Range) ([]Filled, []jobs.Job, error) {
	if in.From.After(in.Until) {
		return nil, nil, &jobs.InvalidError{Field: "from", Value: in.From, Bound: "not later than until"}
	}
	times, err := Parse(s.Timetable)
	if err != nil {
		return nil, nil, err
	}
	kind, err := d.store.KindDefinition(ctx, s.Kind)
	if err != nil {
		return nil, nil, err
	}
	fired, since, err := d.fired(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	until := in.Until
	if until.After(s.Last) {
		until = s.Last
	}
	all, todo := []Filled{}, []jobs.Job{}
	for at, ever := times.Next(in.From.Add(-time.Nanosecond)); ever && !at.After(until); at, ever = times.Next(at) {
		if len(all) == maxBackfill {
			return nil, nil, &jobs.InvalidError{Field: "range", Value: fmt.Sprintf("of more than %d ticks", maxBackfill), Bound: fmt.Sprintf("of at most %d ticks; take it in parts", maxBackfill)}
		}
		job := tickJob(s, kind, delivery.OpenTick{At: at})
		f := Filled{At: at, Job: delivery.JobPlace{Queue: job.Queue, Key: job.Key}, State: "new"}
		info, err := d.store.Get(ctx, job.Queue, job.Key)
		switch {
		case err == nil:
			f.State = string(info.State)
		case !errors.Is(err, jobs.ErrNotFound):
			return nil, nil, err
		case fired[job.Key]:
			f.State = "fired"
		case at.Before(since) && !in.Forgotten:
			f.State = "forgotten"
		default:
			todo = append(todo, job)
		}
		all = append(all, f)
	}
	return all, todo, nil
}

// fired returns the keys of the ticks that are on record to have fired, and since when
// all are on record; zero: they always were.
func (d *Desk) fired(ctx context.Context, s delivery.Scheduled) (keys map[string]bool, since time.Time, err error) {
	records, err := d.store.ScheduleTicks(ctx, s.Name, delivery.KeptTicks)
	if len(records) == delivery.KeptTicks {
		since = s.Last.Add(time.Nanosecond)
	}
	keys = map[string]bool{}
	for _, r := range records { // newest first
		switch {
		case r.What == "fired":
			keys[r.Key] = true
		case r.What == "triggered":
			continue
		}
		if !since.IsZero() {
			since = r.At
			if r.What == "skipped" && !r.From.IsZero() {
				since = r.From
			}
		}
	}
	return keys, since, err
}
