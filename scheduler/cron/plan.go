package cron

import (
	"fmt"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

const (
	onTime     = 10 * time.Second // a tick that is no later than this is not missed
	pausedLook = time.Minute      // between two looks at a paused schedule
	mostLooked = 10_000           // instants that one plan looks at
	oldest     = 24 * time.Hour   // that a missed tick is made up for, unless the timetable says
)

// step is what is to be decided next of a schedule.
type step struct {
	fire   bool
	from   time.Time // skipped: the first
	at     time.Time // the tick that fires, or the last that is skipped
	count  int       // skipped: how many; 0 with fire false: nothing is to be decided
	reason string
	due    time.Time
}

// plan says what is to be decided of a schedule now, and otherwise when there will
// be something. Ticks are decided in their order.
func plan(t *Times, s delivery.Scheduled, now time.Time) (step, time.Time) {
	first, ever := t.Next(s.Last)
	if !ever {
		return step{}, now.AddDate(1, 0, 0)
	}
	due := t.Due(first)
	if due.After(now) {
		return step{}, due
	}
	if s.Paused != nil {
		if look := first.Add(pausedLook); look.After(now) {
			return step{}, look // one record for many
		}
		return skip(t, first, now, "paused by "+s.Paused.Actor+": "+s.Paused.Reason), now
	}
	if !first.After(s.Resumed) {
		return skip(t, first, s.Resumed, "paused at the time"), now
	}
	if missed := t.missed(first, now, s.CatchUp); missed.count > 0 {
		return missed, now
	}
	return step{fire: true, at: first, due: due}, now
}

// skip skips the ticks from first to until, up to 10,000.
func skip(t *Times, first, until time.Time, reason string) step {
	s := step{from: first, reason: reason}
	for at, ever := first, true; ever && !at.After(until) && s.count < mostLooked; at, ever = t.Next(at) {
		s.at, s.due = at, at
		s.count++
	}
	return s
}

// missed returns the ticks to skip because they are too late and too many or too
// old to be made up for; those after them are.
func (t *Times) missed(first, now time.Time, bound *jobs.CatchUp) step {
	most, age := 1, oldest
	if bound != nil {
		most = bound.Most
		if bound.Oldest > 0 {
			age = time.Duration(bound.Oldest)
		}
	}
	var late []time.Time
	for at, ever := first, true; ever && len(late) < mostLooked && t.Due(at).Before(now.Add(-onTime)); at, ever = t.Next(at) {
		late = append(late, at)
	}
	n := max(len(late)-most, 0)
	for n < len(late) && late[n].Before(now.Add(-age)) {
		n++
	}
	if n == 0 {
		return step{}
	}
	return step{
		from: first, at: late[n-1], count: n, due: t.Due(late[n-1]),
		reason: fmt.Sprintf("missed; the last %d not older than %v are made up for", most, age),
	}
}
