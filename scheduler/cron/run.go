package cron

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

const (
	lookEvery    = 5 * time.Second        // for changes
	declareEvery = 30 * time.Second       // so that schedules of code and file do not rest
	again        = time.Second            // after what could not be done, and for what is held
	othersHave   = 2 * time.Second        // to carry out what they have decided
	mostSteps    = 100                    // of one schedule before the others have their turn
	earlyLook    = 100 * time.Millisecond // after Redis has said that it is not due yet
)

// Options say which schedules a process has, and how it runs them. The zero value
// of each field has a default.
type Options struct {
	Code       []jobs.Timetable      // that come with handlers
	File       []jobs.Timetable      // of perdure.yaml
	Actor      string                // who is on record for them; default "perdure"
	Clock      func() time.Time      // instead of Redis' clock, for tests
	Log        *slog.Logger          // default: none
	Registerer prometheus.Registerer // default: none
}

// Runner carries out the ticks of all schedules. Make one with [New]. Any number may
// run; each tick happens once.
type Runner struct {
	store    Store
	options  Options
	log      *slog.Logger
	metrics  metrics
	table    map[string]*entry
	changes  int64
	looked   time.Time // by this process' own clock
	redis    time.Time // what Redis' clock showed then
	stale    bool      // the two have parted
	now      time.Time // of this turn
	declared time.Time // by the same clock
	defined  map[string]bool
}

// entry is a schedule with what this process knows of it.
type entry struct {
	delivery.Scheduled
	times *Times
	mine  bool // the open tick was opened here
}

// New returns a runner. It refuses schedules that are out of bounds or have the same
// name, naming field, value and bound.
func New(store Store, o Options) (*Runner, error) {
	names := map[string]bool{}
	for _, t := range slices.Concat(o.Code, o.File) {
		if _, err := Parse(t); err != nil {
			return nil, err
		}
		if names[t.Name] {
			return nil, &jobs.InvalidError{Field: "schedule", Value: t.Name, Bound: "a name that no other schedule of this process has"}
		}
		names[t.Name] = true
	}
	if len(names) > jobs.MaxTimetables {
		return nil, &jobs.InvalidError{Field: "number of schedules", Value: len(names), Bound: fmt.Sprintf("at most %d", jobs.MaxTimetables)}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Actor == "" {
		o.Actor = "perdure"
	}
	return &Runner{
		store: store, options: o, log: o.Log, metrics: newMetrics(o.Registerer), table: map[string]*entry{}, changes: -1, defined: map[string]bool{},
	}, nil
}

// Run carries out ticks until ctx ends, and then returns nil. While Redis cannot be
// reached it keeps trying.
func (r *Runner) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		wait, err := r.Turn(ctx)
		if err != nil && ctx.Err() == nil {
			r.log.Warn("cannot carry out schedules", "error", err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// Turn does what is due and returns how long nothing more will be. Tests call it
// with a clock of their own; it is not for concurrent use.
func (r *Runner) Turn(ctx context.Context) (time.Duration, error) {
	if err := r.look(ctx); err != nil {
		return again, err
	}
	next := r.now.Add(lookEvery)
	var errs []error
	for _, name := range r.names() {
		at, err := r.advance(ctx, r.table[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("schedule %s: %w", name, err))
			at = r.now.Add(again)
		}
		if at.Before(next) {
			next = at
		}
		if ctx.Err() != nil {
			break
		}
	}
	return max(next.Sub(r.time()), time.Millisecond), errors.Join(errs...)
}

func (r *Runner) names() []string {
	names := make([]string, 0, len(r.table))
	for name := range r.table {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// time is Redis' time, as it went on since it was looked at.
func (r *Runner) time() time.Time {
	if r.options.Clock != nil {
		return r.options.Clock().UTC()
	}
	return r.redis.Add(time.Since(r.looked))
}

// driven is the time that scripts are to take for Redis', or zero.
func (r *Runner) driven() time.Time {
	if r.options.Clock == nil {
		return time.Time{}
	}
	return r.time()
}

// look takes in the time, and every few seconds what has changed.
func (r *Runner) look(ctx context.Context) error {
	if r.changes < 0 || r.stale || r.options.Clock != nil || time.Since(r.looked) >= lookEvery {
		changes, now, err := r.store.ScheduleChanges(ctx)
		if err != nil {
			return err
		}
		r.looked, r.redis, r.stale = time.Now(), now, false
		r.now = r.time()
		if changes != r.changes {
			if err := r.load(ctx); err != nil {
				return err
			}
			r.changes = changes
		}
	}
	r.now = r.time()
	if r.declared.IsZero() || r.now.Sub(r.declared) >= declareEvery {
		if err := r.declare(ctx); err != nil {
			return err
		}
		r.declared = r.now
	}
	return nil
}

// load reads all schedules. One that cannot be read stops nobody else's.
func (r *Runner) load(ctx context.Context) error {
	all, err := r.store.Schedules(ctx)
	if err != nil {
		return err
	}
	table := map[string]*entry{}
	for _, s := range all {
		if e := r.entry(s); e != nil {
			table[s.Name] = e
		}
	}
	r.table = table
	return nil
}

// entry reads a schedule's instants again where its timetable has changed.
func (r *Runner) entry(s delivery.Scheduled) *entry {
	known := r.table[s.Name]
	if known != nil && sameTiming(known.Timetable, s.Timetable) {
		mine := known.mine && s.Open != nil && known.Open != nil && s.Open.Text == known.Open.Text
		return &entry{s, known.times, mine}
	}
	times, err := Parse(s.Timetable)
	if s.Unreadable != "" {
		err = errors.New(s.Unreadable)
	}
	if err != nil {
		r.log.Error("a schedule cannot be read; its ticks are not carried out", "schedule", s.Name, "error", err)
		return nil
	}
	return &entry{Scheduled: s, times: times}
}

func sameTiming(a, b jobs.Timetable) bool {
	return a.When == b.When && a.Zone == b.Zone && a.Skipped == b.Skipped && a.Repeated == b.Repeated && a.Jitter == b.Jitter
}

// declare says that this process has its schedules, and defines those that are new,
// changed or lost. The newest process to start has its way. One that cannot be defined
// stops nobody else's.
func (r *Runner) declare(ctx context.Context) error {
	var names []string
	for origin, list := range map[string][]jobs.Timetable{delivery.FromCode: r.options.Code, delivery.FromFile: r.options.File} {
		for _, t := range list {
			err := r.define(ctx, t, origin)
			if ctx.Err() != nil || errors.Is(err, jobs.ErrUnavailable) {
				return err
			}
			if err != nil {
				r.log.Error("a schedule of this process cannot be defined", "schedule", t.Name, "error", err)
			}
			if r.table[t.Name] != nil {
				names = append(names, t.Name)
			}
		}
	}
	if err := r.store.DeclareSchedules(ctx, names, r.now); err != nil {
		return err
	}
	for _, name := range names {
		r.table[name].Declared = r.now
	}
	return nil
}

// define defines a schedule of this process once; another process may change it since.
func (r *Runner) define(ctx context.Context, t jobs.Timetable, origin string) error {
	if known := r.table[t.Name]; known != nil && known.Origin != delivery.FromAPI && r.defined[t.Name] {
		return nil
	}
	by := jobs.Decision{Actor: r.options.Actor, Reason: "declared by " + origin}
	if _, err := r.store.DefineSchedule(ctx, t, origin, r.driven(), by); err != nil {
		return err
	}
	r.defined[t.Name] = true
	return r.reload(ctx, t.Name)
}

// reload reads one schedule again.
func (r *Runner) reload(ctx context.Context, name string) error {
	s, err := r.store.Schedule(ctx, name)
	if err != nil && !errors.Is(err, jobs.ErrNotFound) {
		return err
	}
	e := (*entry)(nil)
	if err == nil {
		e = r.entry(s)
	}
	if e == nil {
		delete(r.table, name)
		return nil
	}
	r.table[name] = e
	return nil
}

// advance decides and carries out what is due of a schedule and returns when to look
// at it again.
func (r *Runner) advance(ctx context.Context, e *entry) (time.Time, error) {
	for range mostSteps {
		if e == nil || ctx.Err() != nil || e.Rests(r.now) {
			return r.now.Add(lookEvery), ctx.Err()
		}
		wait, err := r.step(ctx, e)
		if err != nil || wait > 0 {
			return r.now.Add(wait), err
		}
		e = r.table[e.Name]
	}
	return r.now, nil
}

// step makes one step of a schedule; wait is how long there is none.
func (r *Runner) step(ctx context.Context, e *entry) (wait time.Duration, err error) {
	if e.Open != nil {
		return r.finish(ctx, e)
	}
	next, at := plan(e.times, e.Scheduled, r.now)
	if !next.fire && next.count == 0 {
		return max(at.Sub(r.now), time.Millisecond), nil
	}
	d := delivery.TickDecision{
		Name: e.Name, Revision: e.Revision, Last: e.Last, Run: e.Run, Until: next.at, From: next.from, Count: next.count, Reason: next.reason, Due: next.due, Now: r.driven(),
	}
	if next.fire {
		if hold, err := r.judge(ctx, e, &d); hold > 0 || err != nil {
			return hold, err
		}
	}
	answer, err := r.store.DecideTick(ctx, d)
	switch {
	case err != nil:
		return 0, err
	case answer == delivery.TickEarly:
		r.stale = true
		return earlyLook, nil
	case answer == delivery.TickPassed:
		return 0, r.reload(ctx, e.Name)
	}
	if e.Last, e.Open, e.mine = d.Until, d.Open, true; d.Open == nil {
		r.skipped(e, d.Count, d.Reason, d.Until)
	}
	return 0, nil
}

func (r *Runner) skipped(e *entry, n int, reason string, at time.Time) {
	why, _, _ := strings.Cut(reason, " ")
	r.metrics.skipped.WithLabelValues(e.Name, strings.TrimRight(why, ":;")).Add(float64(n))
	r.log.Warn("skipped ticks of a schedule", "schedule", e.Name, "ticks", n, "last", at, "reason", reason)
}

// judge makes a decision to fire of one that has none yet, or one to skip; hold says
// that it is too early for either, and for how long.
func (r *Runner) judge(ctx context.Context, e *entry, d *delivery.TickDecision) (hold time.Duration, err error) {
	tick := &delivery.OpenTick{At: d.Until, Decided: r.now}
	if e.Replay != nil {
		tick.Queue = e.Replay.Queue
	} else {
		kind, err := r.store.KindDefinition(ctx, e.Kind)
		if errors.Is(err, jobs.ErrUnknownKind) {
			r.log.Warn("a tick waits: no worker has published its kind", "schedule", e.Name, "kind", e.Kind)
			return lookEvery, nil
		}
		if err != nil {
			return 0, err
		}
		tick.Queue = e.Timetable.Job(kind, TickKey(e.Name, d.Until)).Queue
	}
	d.Open = tick
	overlap := overlapOf(e.Timetable)
	if e.Run == nil || overlap == jobs.OverlapAllow && e.Run.Plan == "" {
		return 0, nil
	}
	state, err := standing(ctx, r.store, *e.Run)
	switch {
	case err != nil || state == "":
		return 0, err
	case overlap == jobs.OverlapCancel || e.Run.Plan != "" && state == string(delivery.PlanStopped):
		tick.Cancel = e.Run // a plan that has stopped leaves the rest to this tick
	case overlap == jobs.OverlapAllow:
	case overlap == jobs.OverlapQueue:
		return again, nil
	default:
		d.Open, d.From, d.Count = nil, d.Until, 1
		d.Reason = fmt.Sprintf("overlap: the run before, %s, is %s", named(*e.Run), state)
	}
	return 0, nil
}

// overlapOf is what a tick does while the run before is not over. Two replays at a
// time would be twice the rate, so they are not unless it is said.
func overlapOf(t jobs.Timetable) jobs.Overlap {
	switch {
	case t.Overlap != "":
		return t.Overlap
	case t.Replay != nil:
		return jobs.OverlapSkip
	}
	return jobs.OverlapAllow
}
