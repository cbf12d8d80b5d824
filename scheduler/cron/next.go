package cron

import "time"

// horizon is how many years ahead an instant is looked for: a 29th of February may
// be eight years away.
const horizon = 12

// Next returns the first instant after a time, in UTC, and false when there is none
// within 12 years.
//
// The time is cut into periods in which the zone's offset is one and the same, so
// that local time only ever grows in them. What a change of the clocks leaves out or
// repeats lies at the seams.
func (t *Times) Next(after time.Time) (time.Time, bool) {
	after = after.UTC()
	if t.every > 0 {
		steps := floorDiv(after.Unix(), int64(t.every/time.Second))
		return time.Unix((steps+1)*int64(t.every/time.Second), 0).UTC(), true
	}
	from := after.Truncate(time.Second).Add(time.Second) // the first instant that is looked at
	limit := from.AddDate(horizon, 0, 0)
	for from.Before(limit) {
		p := t.period(from)
		if at, ok := t.within(p, from); ok {
			return at, true
		}
		if p.end.IsZero() || !p.end.After(from) {
			return time.Time{}, false // its last period was searched to the horizon
		}
		from = p.end
	}
	return time.Time{}, false
}

// period is a time in which a zone has one offset.
type period struct {
	start, end time.Time     // zero: it has always been so, it will always be so
	offset     time.Duration // local time less UTC
	before     time.Duration // of the period before
	reached    time.Time     // the local time that periods before have come to
}

func (t *Times) period(at time.Time) period {
	start, end := at.In(t.zone).ZoneBounds()
	p := period{start: start.UTC(), end: end.UTC(), offset: t.offset(at)}
	if start.IsZero() {
		p.start, p.before = time.Time{}, p.offset
		return p
	}
	p.before = t.offset(start.Add(-time.Second))
	p.reached = local(start, p.before)
	// Two changes within days: the one before may have come further.
	for at, n := start, 0; n < 2; n++ {
		earlier, _ := at.Add(-time.Second).In(t.zone).ZoneBounds()
		if earlier.IsZero() || start.Sub(earlier) > 48*time.Hour {
			break
		}
		if reached := local(earlier, t.offset(earlier.Add(-time.Second))); reached.After(p.reached) {
			p.reached = reached
		}
		at = earlier
	}
	return p
}

func (t *Times) offset(at time.Time) time.Duration {
	_, seconds := at.In(t.zone).Zone()
	return time.Duration(seconds) * time.Second
}

// local is what clocks show at an instant, as if it were UTC.
func local(at time.Time, offset time.Duration) time.Time { return at.UTC().Add(offset) }

// within returns the first instant of a period that is not before another.
func (t *Times) within(p period, from time.Time) (time.Time, bool) {
	first := local(from, p.offset)
	if !p.start.IsZero() && from.Equal(p.start) && t.leftOut(p) {
		return from, true
	}
	if !t.twice && first.Before(p.reached) {
		first = p.reached
	}
	last := first.AddDate(horizon, 0, 0)
	if !p.end.IsZero() {
		last = local(p.end, p.offset)
	}
	found, ok := t.fields.next(first, last)
	return found.Add(-p.offset), ok
}

// leftOut reports whether a time of the timetable was left out where a period
// begins, and so comes at its beginning.
func (t *Times) leftOut(p period) bool {
	begins := local(p.start, p.offset)
	if t.skip || !begins.After(p.reached) {
		return false
	}
	_, ok := t.fields.next(p.reached, begins)
	return ok
}

// next returns the first local time from first on, and before end, that all fields
// allow.
func (f fields) next(first, end time.Time) (time.Time, bool) {
	at := first
	for at.Before(end) {
		year, month, day := at.Date()
		hour, minute, second := at.Clock()
		switch {
		case f.month&(1<<month) == 0:
			at = time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC)
		case !f.day(at):
			at = time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC)
		case f.hour&(1<<hour) == 0:
			at = time.Date(year, month, day, hour+1, 0, 0, 0, time.UTC)
		case f.minute&(1<<minute) == 0:
			at = time.Date(year, month, day, hour, minute+1, 0, 0, time.UTC)
		case f.second&(1<<second) == 0:
			at = at.Add(time.Second)
		default:
			return at, true
		}
	}
	return time.Time{}, false
}

func (f fields) day(at time.Time) bool {
	dom, dow := f.dom&(1<<at.Day()) != 0, f.dow&(1<<at.Weekday()) != 0
	if f.either {
		return dom || dow
	}
	return dom && dow
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
