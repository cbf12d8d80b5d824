package jobs

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Timetable is a schedule: at which instants a job of a kind is enqueued, or dead
// letters are replayed. Make one with [Kind.Scheduled] or [ScheduledReplay] and
// give it to a handler with [Handler.With]; as JSON it is what perdure.yaml and the
// API take. Each instant is a tick, which happens once however many schedulers run.
type Timetable struct {
	Name string `json:"name"`           // unique: 1 to 64 of a-z 0-9 _ . -
	When Timing `json:"when"`           // see [Cron] and [Every]
	Zone string `json:"zone,omitempty"` // IANA name of the time zone that When is in; empty: UTC

	Kind    string          `json:"kind,omitempty"`    // of the job of each tick; absent with Replay
	Queue   string          `json:"queue,omitempty"`   // empty: the kind's
	Tenant  string          `json:"tenant,omitempty"`  // on whose behalf
	Payload json.RawMessage `json:"payload,omitempty"` // the same at each tick, at most 64 KiB
	Replay  *DeadFilter     `json:"replay,omitempty"`  // instead of Kind: the dead letters to replay

	Skipped  string   `json:"skipped,omitempty"`  // a local time that a change of the clocks leaves out: "next" instant or "skip"
	Repeated string   `json:"repeated,omitempty"` // a local time that comes twice: "once" or "twice"
	Jitter   Span     `json:"jitter,omitempty"`   // each tick is late by up to this, always the same for one instant; at most 24 h
	Overlap  Overlap  `json:"overlap,omitempty"`  // while the run before is not over; default OverlapAllow, of a replay OverlapSkip
	CatchUp  *CatchUp `json:"catch_up,omitempty"` // nil: one tick, not older than 24 h

	// Encoded and Digest stand for Payload where the kind has a codec of its own.
	Encoded []byte `json:"encoded,omitempty"`
	Digest  string `json:"digest,omitempty"`

	err error
}

// Timing says when: cron's five fields (minute, hour, day of month, month, day of
// week), six with seconds first, a descriptor (@hourly, @daily, @weekly, @monthly,
// @yearly) or "@every 90s".
type Timing string

// Cron is a timing in cron's syntax or a descriptor such as "@daily".
func Cron(fields string) Timing { return Timing(fields) }

// Every is a timing of fixed steps of whole seconds, from 1 s to 366 days, counted
// from 1970 in UTC, so that every scheduler finds the same instants.
func Every(d time.Duration) Timing { return Timing("@every " + d.String()) }

// Overlap says what a tick does while the run of the tick before is not over: its
// job waits, runs, retries or is paused, or its replay plan goes on or is paused.
type Overlap string

// The ways to overlap.
const (
	OverlapAllow  Overlap = "allow"  // run beside it
	OverlapSkip   Overlap = "skip"   // leave this tick out
	OverlapQueue  Overlap = "queue"  // wait until it is over; what waits counts as missed, see CatchUp
	OverlapCancel Overlap = "cancel" // cancel it
)

// CatchUp bounds which missed ticks are made up for: those for which nobody was
// there, and those that OverlapQueue held. A tick within ten seconds is not missed.
type CatchUp struct {
	Most   int  `json:"most"`             // the last so many, 0 to 1000
	Oldest Span `json:"oldest,omitempty"` // not older than this; 0: 24 h, at most 7 days
}

// DeadFilter selects dead letters of a scheduled replay. The zero value of a field
// selects all. Each tick makes a replay plan over what was dead before it, so that
// what fails again waits for the next one. The plan stops when the same failure is
// back; the next tick begins again with what is dead by then.
type DeadFilter struct {
	Queue     string `json:"queue,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Class     Class  `json:"class,omitempty"`
	Signature string `json:"signature,omitempty"`
	Version   int    `json:"version,omitempty"`
	Tenant    string `json:"tenant,omitempty"`
	Text      string `json:"text,omitempty"`   // in message, reason, step or key, whatever its case; at most 1000 bytes
	Newer     Span   `json:"newer,omitempty"`  // dead for less than this
	Older     Span   `json:"older,omitempty"`  // dead for longer than this
	Rate      int    `json:"rate,omitempty"`   // a second, 1 to 1000; 0: 10
	Most      int    `json:"most,omitempty"`   // at one tick, those that are dead longest, 1 to 100000; 0: 1000
	Reason    string `json:"reason,omitempty"` // for the record; empty: that the schedule says so

	FromStart bool `json:"from_start,omitempty"` // forget recorded steps; else from the failed step
	NoCanary  bool `json:"no_canary,omitempty"`  // let none go ahead; else 1 and then 10 do
}

// Span is a duration that is written as text such as "90s" or "24h".
type Span time.Duration

// String writes it as [time.Duration] does.
func (s Span) String() string { return time.Duration(s).String() }

// MarshalText implements [encoding.TextMarshaler].
func (s Span) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Span) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return &InvalidError{Field: "duration", Value: string(text), Bound: `a text such as "90s" or "24h"`}
	}
	*s = Span(d)
	return nil
}

// Bounds of timetables.
const (
	MaxTimetables       = 1000     // in one Redis
	MaxTimetablePayload = 64 << 10 // bytes
)

// TimetableOption changes a timetable as it is made.
type TimetableOption interface{ times(*Timetable) }

type timetableOption func(*Timetable)

func (o timetableOption) times(t *Timetable) { o(t) }

func (q QueueOption) times(t *Timetable) { t.Queue = string(q) }

// In says which time zone the timing is in, by its IANA name, for example
// "Europe/Berlin".
func In(zone string) TimetableOption { return timetableOption(func(t *Timetable) { t.Zone = zone }) }

// Jitter makes each tick late by up to d, so that schedules of the same time do not
// all come at once.
func Jitter(d time.Duration) TimetableOption {
	return timetableOption(func(t *Timetable) { t.Jitter = Span(d) })
}

// IfRunning says what a tick does while the run before is not over.
func IfRunning(o Overlap) TimetableOption {
	return timetableOption(func(t *Timetable) { t.Overlap = o })
}

// Missed says how many missed ticks are made up for, and how old they may be.
func Missed(most int, oldest time.Duration) TimetableOption {
	return timetableOption(func(t *Timetable) { t.CatchUp = &CatchUp{Most: most, Oldest: Span(oldest)} })
}

// ClockChanges says what becomes of a local time that a change of the clocks leaves
// out ("next" or "skip") and of one that it repeats ("once" or "twice"). Without it,
// a timing that begins its hours with * follows the real time (skip and twice), and
// one of fixed hours comes once each day (next and once).
func ClockChanges(skipped, repeated string) TimetableOption {
	return timetableOption(func(t *Timetable) { t.Skipped, t.Repeated = skipped, repeated })
}

// Scheduled returns a schedule that enqueues a job of the kind at each tick, under
// the key <name>@<instant>.
func (k Kind[P, R]) Scheduled(name string, when Timing, payload P, options ...TimetableOption) Timetable {
	t := Timetable{Name: name, When: when, Kind: k.definition.Name}
	job := k.New("tick", payload)
	if _, plain := k.definition.Codec.(jsonCodec); plain {
		t.Payload = job.Payload
	} else {
		t.Encoded, t.Digest = job.Payload, job.Digest
	}
	for _, option := range options {
		option.times(&t)
	}
	t.err = job.Err()
	return t
}

// ScheduledReplay returns a schedule that makes a replay plan at each tick: 1 dead
// letter and then 10 go ahead, the others follow at the rate when none of those came
// back, and it stops when the same failure is back.
func ScheduledReplay(name string, when Timing, which DeadFilter, options ...TimetableOption) Timetable {
	t := Timetable{Name: name, When: when, Replay: &which}
	for _, option := range options {
		option.times(&t)
	}
	return t
}

// Check returns an error for each field that is out of bounds. Whether When and
// Zone can be read is not looked at here.
func (t Timetable) Check() error {
	errs := []error{t.err, checkLower("name", t.Name)}
	if len(t.When) > 256 {
		errs = append(errs, &InvalidError{Field: "when", Value: string(t.When), Bound: "at most 256 bytes"})
	}
	errs = append(errs,
		within("skipped", t.Skipped, "", "next", "skip"), within("repeated", t.Repeated, "", "once", "twice"),
		within("overlap", string(t.Overlap), "", string(OverlapAllow), string(OverlapSkip), string(OverlapQueue), string(OverlapCancel)),
		between("jitter", time.Duration(t.Jitter), 0, 24*time.Hour), t.checkWork())
	if t.CatchUp != nil {
		errs = append(errs, bounded("catch_up.most", t.CatchUp.Most, 0, 1000),
			between("catch_up.oldest", time.Duration(t.CatchUp.Oldest), 0, 7*24*time.Hour))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("schedule %q: %w", t.Name, err)
	}
	return nil
}

// checkWork checks what is done at a tick.
func (t Timetable) checkWork() error {
	if t.Replay != nil {
		if t.Kind != "" || t.Queue != "" || t.Tenant != "" || len(t.Payload)+len(t.Encoded) > 0 {
			return &InvalidError{Field: "replay", Value: "given", Bound: "alone, without kind, queue, tenant and payload"}
		}
		return t.Replay.check()
	}
	errs := []error{CheckKind(t.Kind)}
	if t.Queue != "" {
		errs = append(errs, CheckQueue(t.Queue))
	}
	if t.Tenant != "" {
		errs = append(errs, checkLower("tenant", t.Tenant))
	}
	if n := len(t.Payload) + len(t.Encoded); n > MaxTimetablePayload {
		errs = append(errs, &InvalidError{Field: "payload", Value: fmt.Sprintf("of %d bytes", n), Bound: fmt.Sprintf("at most %d bytes in a schedule", MaxTimetablePayload)})
	}
	if len(t.Payload) > 0 && !json.Valid(t.Payload) {
		errs = append(errs, &InvalidError{Field: "payload", Value: fmt.Sprintf("of %d bytes", len(t.Payload)), Bound: "valid JSON"})
	}
	return errors.Join(errs...)
}

func (f DeadFilter) check() error {
	errs := []error{
		bounded("replay.version", f.Version, 0, 1_000_000), bounded("replay.rate", f.Rate, 0, 1000), bounded("replay.most", f.Most, 0, 100_000),
		between("replay.newer", time.Duration(f.Newer), 0, 10*365*24*time.Hour), between("replay.older", time.Duration(f.Older), 0, 10*365*24*time.Hour),
		bounded("length of replay.text", len(f.Text), 0, 1000), bounded("length of replay.reason", len(f.Reason), 0, 1000),
	}
	for _, name := range []struct{ field, value string }{{"replay.queue", f.Queue}, {"replay.kind", f.Kind}, {"replay.tenant", f.Tenant}} {
		if name.value != "" {
			errs = append(errs, checkLower(name.field, name.value))
		}
	}
	if f.Class != "" {
		errs = append(errs, checkClass("replay.class", f.Class))
	}
	if f.Signature != "" && (len(f.Signature) != 12 || strings.Trim(f.Signature, "0123456789abcdef") != "") {
		errs = append(errs, &InvalidError{Field: "replay.signature", Value: f.Signature, Bound: "twelve hexadecimal digits"})
	}
	if f.Newer > 0 && f.Older >= f.Newer {
		errs = append(errs, &InvalidError{Field: "replay.older", Value: f.Older, Bound: "less than replay.newer"})
	}
	return errors.Join(errs...)
}

// Job returns the job of one run, under a key, by its kind's definition.
func (t Timetable) Job(d Definition, key string) Job {
	var options []JobOption
	if t.Queue != "" {
		options = append(options, Queue(t.Queue))
	}
	if t.Tenant != "" {
		options = append(options, Tenant(t.Tenant))
	}
	if len(t.Encoded) == 0 {
		return Raw(d, key, t.Payload, options...)
	}
	j := newJob(d, key, options)
	j.Payload, j.Digest = t.Encoded, t.Digest
	j.err = errors.Join(j.err, checkPayload(d, j.Payload))
	return j
}

// Work says in a few words what is done at a tick.
func (t Timetable) Work() string {
	if t.Replay == nil {
		return "enqueue " + t.Kind
	}
	return "replay dead letters: " + t.Replay.String()
}

// String tells people what is selected, and what is not by default of its replay.
func (f DeadFilter) String() string {
	var all []string
	for _, field := range []struct {
		name  string
		value any
	}{
		{"queue", f.Queue}, {"kind", f.Kind}, {"class", f.Class}, {"signature", f.Signature}, {"version", f.Version}, {"tenant", f.Tenant}, {"text", f.Text},
		{"newer", f.Newer}, {"older", f.Older}, {"rate", f.Rate}, {"most", f.Most}, {"from_start", f.FromStart}, {"no_canary", f.NoCanary},
	} {
		if !reflect.ValueOf(field.value).IsZero() {
			all = append(all, fmt.Sprintf("%s=%v", field.name, field.value))
		}
	}
	if len(all) == 0 {
		return "all"
	}
	return strings.Join(all, " ")
}

// With adds schedules that come with the handler: a process that runs the handler
// declares them, and they rest two minutes after no process declares them any more.
func (h Handler) With(schedules ...Timetable) Handler {
	h.timetables = append(slices.Clone(h.timetables), schedules...)
	return h
}

// Timetables returns the schedules that come with handlers.
func Timetables(handlers []Handler) []Timetable {
	var all []Timetable
	for _, h := range handlers {
		all = append(all, h.timetables...)
	}
	return all
}

func within(field, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return &InvalidError{Field: field, Value: value, Bound: "one of " + strings.Join(allowed[1:], ", ")}
}
