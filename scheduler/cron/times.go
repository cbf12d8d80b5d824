package cron

import (
	"fmt"
	"hash/fnv"
	"math/bits"
	"strings"
	"time"
	_ "time/tzdata" // a machine without time zones of its own has these

	robfig "github.com/robfig/cron/v3"

	"github.com/perdure/perdure/jobs"
)

// Times are the instants of a timetable. Make one with [Parse].
//
// robfig/cron reads the fields and nothing else: its own search for the next time
// steps through a change of the clocks by adding hours, has no say about times that
// are left out or repeated, and counts "@every" from when a process started.
type Times struct {
	every  time.Duration // of fixed steps; else 0
	fields fields
	zone   *time.Location
	skip   bool // leave out local times that a change of the clocks leaves out
	twice  bool // take both of a local time that it repeats
	name   string
	jitter time.Duration
}

// fields are the sets of cron's fields, a bit for each value.
type fields struct {
	second, minute, hour, dom, month, dow uint64
	either                                bool // day of month or day of week is enough: both are restricted
}

// Bounds of fixed steps.
const (
	minEvery = time.Second
	maxEvery = 366 * 24 * time.Hour
)

const star = 1 << 63 // robfig's mark of a field that was *

var reader = robfig.NewParser(robfig.SecondOptional | robfig.Minute | robfig.Hour | robfig.Dom | robfig.Month | robfig.Dow | robfig.Descriptor)

// Parse reads a timetable's instants after checking the whole of it. Errors match
// [jobs.ErrInvalid] and name field, value and bound.
func Parse(t jobs.Timetable) (*Times, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	times := &Times{zone: time.UTC, name: t.Name, jitter: time.Duration(t.Jitter)}
	if err := times.readZone(t.Zone); err != nil {
		return nil, fmt.Errorf("schedule %q: %w", t.Name, err)
	}
	if err := times.readWhen(string(t.When)); err != nil {
		return nil, fmt.Errorf("schedule %q: %w", t.Name, err)
	}
	if t.Skipped != "" {
		times.skip = t.Skipped == "skip"
	}
	if t.Repeated != "" {
		times.twice = t.Repeated == "twice"
	}
	if _, ever := times.Next(time.Unix(0, 0)); !ever {
		return nil, fmt.Errorf("schedule %q: %w", t.Name, &jobs.InvalidError{Field: "when", Value: string(t.When), Bound: "a time that comes: this day is in no month"})
	}
	return times, nil
}

// readZone refuses the machine's own zone: schedulers on others would find other
// instants.
func (t *Times) readZone(name string) error {
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return &jobs.InvalidError{Field: "zone", Value: name, Bound: `an IANA time zone such as "Europe/Berlin"`}
	}
	t.zone = zone
	return nil
}

func (t *Times) readWhen(when string) error {
	when = strings.TrimSpace(when)
	if step, fixed := strings.CutPrefix(when, "@every"); fixed {
		return t.readEvery(strings.TrimSpace(step))
	}
	bad := func(bound string) error { return &jobs.InvalidError{Field: "when", Value: when, Bound: bound} }
	if strings.Contains(when, "TZ=") {
		return bad("without a time zone: give it as zone")
	}
	parsed, err := reader.Parse(when)
	if err != nil {
		return bad(`five fields such as "0 2 * * *", six with seconds, a descriptor such as @daily, or "@every 90s": ` + err.Error())
	}
	spec, ok := parsed.(*robfig.SpecSchedule)
	if !ok {
		return bad("five or six fields, or a descriptor")
	}
	if bad := empty(spec); bad != "" {
		return &jobs.InvalidError{Field: "when", Value: when, Bound: "fields of at least one value each: " + bad + " has none"}
	}
	t.fields = fields{
		second: spec.Second &^ star, minute: spec.Minute &^ star, hour: spec.Hour &^ star,
		dom: spec.Dom &^ star, month: spec.Month &^ star, dow: spec.Dow &^ star,
		either: spec.Dom&star == 0 && spec.Dow&star == 0,
	}
	t.skip = realTime(when, spec)
	t.twice = t.skip
	return nil
}

// empty names a field without values: robfig reads "," as one.
func empty(s *robfig.SpecSchedule) string {
	for _, field := range []struct {
		name string
		set  uint64
	}{{"second", s.Second}, {"minute", s.Minute}, {"hour", s.Hour}, {"day of month", s.Dom}, {"month", s.Month}, {"day of week", s.Dow}} {
		if field.set&^star == 0 {
			return field.name
		}
	}
	return ""
}

// realTime reports whether a timing follows the hours as they pass, because its
// field of hours begins with *, and not the hours of a day.
func realTime(when string, s *robfig.SpecSchedule) bool {
	if bits.OnesCount64(s.Hour&^star) == 24 {
		return true
	}
	all := strings.Fields(when)
	return len(all) >= 5 && strings.HasPrefix(all[len(all)-4], "*")
}

func (t *Times) readEvery(step string) error {
	d, err := time.ParseDuration(step)
	if err != nil || d < minEvery || d > maxEvery || d%time.Second != 0 {
		return &jobs.InvalidError{Field: "when", Value: "@every " + step, Bound: "@every and whole seconds from 1s to 8784h, such as @every 90s"}
	}
	t.every = d
	return nil
}

// Due returns when the tick of an instant is due: then, or late by its jitter, which
// is always the same.
func (t *Times) Due(at time.Time) time.Time {
	if t.jitter <= 0 {
		return at
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%s@%d", t.name, at.Unix())
	return at.Add(time.Duration(spread(h.Sum64()) % uint64(t.jitter)).Truncate(time.Millisecond))
}

// spread mixes a hash so that its low bits depend on all of it.
func spread(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
