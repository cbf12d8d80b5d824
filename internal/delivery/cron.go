package delivery

import (
	"errors"
	"fmt"
	"time"

	"github.com/perdure/perdure/jobs"
)

// Where a schedule comes from.
const (
	FromCode = "code" // of a program; rests when no process declares it any more
	FromFile = "file" // perdure.yaml; likewise
	FromAPI  = "api"  // command line or HTTP; stays until it is removed
)

// Lapse is how long a schedule of code or file goes on after a process has declared
// it last.
const Lapse = 2 * time.Minute

// KeptTicks is how many ticks, or runs of skipped ones, are kept on record of one
// schedule.
const KeptTicks = 1000

// Scheduled is a schedule as it stands.
type Scheduled struct {
	jobs.Timetable
	Origin   string         `json:"origin"`
	Revision int64          `json:"revision"` // grows with each change of the timetable
	Last     time.Time      `json:"last"`     // every tick up to here is decided
	Open     *OpenTick      `json:"open,omitempty"`
	Run      *JobPlace      `json:"run,omitempty"` // of the last tick that fired and had something to do
	Paused   *jobs.Decision `json:"paused,omitempty"`
	Resumed  time.Time      `json:"resumed_at,omitzero"`
	Declared time.Time      `json:"declared_at,omitzero"` // by a process, last
	Fired    int64          `json:"fired"`
	Left     int64          `json:"skipped_total"` // ticks that were skipped

	Unreadable string `json:"unreadable,omitempty"` // why; then nothing but the name is known
}

// Rests reports whether a schedule of code or file is not declared any more.
func (s Scheduled) Rests(now time.Time) bool {
	return s.Origin != FromAPI && now.Sub(s.Declared) > Lapse
}

// JobPlace is where a job is, or the replay plan of a tick.
type JobPlace struct {
	Queue string `json:"queue"` // of a plan: empty stands for every queue that has it
	Key   string `json:"key,omitempty"`
	Plan  string `json:"plan,omitempty"` // its ID, instead of a key
}

// OpenTick is a tick that was decided to fire and is not known to have fired.
type OpenTick struct {
	At      time.Time `json:"at"`
	Queue   string    `json:"queue,omitempty"`  // of the job or the replay; empty: a replay in each queue
	Cancel  *JobPlace `json:"cancel,omitempty"` // the run before, to be cancelled first
	Trigger bool      `json:"trigger,omitempty"`
	Actor   string    `json:"actor,omitempty"`  // of a trigger
	Reason  string    `json:"reason,omitempty"` // of a trigger
	Decided time.Time `json:"decided"`          // as its decider knew the time

	Text string `json:"-"` // as stored
}

// TickKey is the key of the job of a tick.
func TickKey(schedule string, at time.Time) string {
	return schedule + "@" + at.UTC().Format("2006-01-02T15:04:05.999Z07:00")
}

// TickDecision is what is to become of a schedule's next ticks.
type TickDecision struct {
	Name     string
	Revision int64
	Last     time.Time // as it was when this was decided
	Run      *JobPlace // likewise
	Until    time.Time // this tick and those before it are decided
	Open     *OpenTick // it fires; else these are skipped
	From     time.Time // skipped: the first of them
	Count    int       // skipped: how many
	Reason   string    // skipped: why
	Due      time.Time // not to be decided earlier by Redis' clock
	Now      time.Time // instead of Redis' clock, for tests; zero: that
}

// TickAnswer is what became of a decision.
type TickAnswer int

// The answers. Whoever gets another one than TickDecided reads the schedule again.
const (
	TickDecided TickAnswer = iota
	TickPassed             // others have decided, a run has begun, or the schedule was changed, paused or removed
	TickEarly              // it is not due yet
)

// PlanID names the replay plan of a tick.
func PlanID(schedule string, at time.Time) string {
	return schedule + "." + at.UTC().Format("20060102T150405.999Z")
}

// TickEnd says how an open tick has ended.
type TickEnd struct {
	Name    string
	Tick    OpenTick
	Run     *JobPlace // the job that it has enqueued, or its replay plan; nil: there was nothing to do
	Refused string    // why it could not fire; empty: it has
	Note    string    // what else there is to say of it
	Late    time.Duration
}

// TickRecord is what became of a tick, or of several that were skipped.
type TickRecord struct {
	At     time.Time     `json:"at"`
	From   time.Time     `json:"from,omitzero"` // of several: the first
	Count  int           `json:"count"`
	What   string        `json:"what"` // fired, triggered, skipped or changed
	Key    string        `json:"key,omitempty"`
	Plan   string        `json:"plan,omitempty"`
	Queue  string        `json:"queue,omitempty"`
	Reason string        `json:"reason,omitempty"`
	Late   time.Duration `json:"late,omitempty"`
}

// Series is what a queue remembers the last instant of that has fired: a schedule's
// ticks, or its triggers.
func Series(schedule string, trigger bool) string {
	if trigger {
		return schedule + "@trigger"
	}
	return schedule
}

// ErrOvertaken is matched by errors of ticks that are to fire after a later one has.
var ErrOvertaken = errors.New("a later tick has fired in its queue; if Redis' clock was ahead then, remove the schedule and add it again")

// ErrBusy is matched by errors of decisions about a schedule that meet a tick on its
// way.
var ErrBusy = fmt.Errorf("a tick of this schedule is under way; try again: %w", jobs.ErrConflict)
