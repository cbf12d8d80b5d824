package jobs

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Schedule says how long to wait before the next attempt and when to give up.
// It is a value: make one with [Exponential], [Fixed] or [Delays]. The zero
// value allows one attempt and no retry.
type Schedule struct {
	base, limit time.Duration   // exponential: first and longest wait
	list        []time.Duration // explicit waits; the last is used for any further retry
	attempts    int             // attempts in all, the first included
	jitter      bool
}

// Exponential doubles the wait from base up to longest, with full jitter: each
// wait is drawn evenly from (0, min(longest, base·2ⁿ)], so that jobs that failed
// together do not come back together. attempts counts the first one too.
//
// The algorithm is "full jitter" of the AWS Architecture Blog's "Exponential
// Backoff And Jitter".
func Exponential(base, longest time.Duration, attempts int) Schedule {
	return Schedule{base: base, limit: longest, attempts: attempts, jitter: true}
}

// Fixed waits the same time before each retry. attempts counts the first one too.
func Fixed(wait time.Duration, attempts int) Schedule {
	return Schedule{list: []time.Duration{wait}, attempts: attempts}
}

// Delays waits exactly as listed: the job is tried once and then once after each
// wait.
func Delays(waits ...time.Duration) Schedule {
	return Schedule{list: slices.Clone(waits), attempts: len(waits) + 1}
}

// DefaultRetry is used by kinds that name no schedule: from one second up to ten
// minutes, twelve attempts in all.
var DefaultRetry = Exponential(time.Second, 10*time.Minute, 12)

// Attempts is how many attempts the schedule allows in all, at least 1.
func (s Schedule) Attempts() int { return max(s.attempts, 1) }

// Next returns the wait after the given number of used attempts (1 after the
// first failure), and false when the schedule is exhausted.
func (s Schedule) Next(used int) (time.Duration, bool) {
	return s.next(used, rand.Float64)
}

func (s Schedule) next(used int, random func() float64) (time.Duration, bool) {
	if used >= s.Attempts() {
		return 0, false
	}
	wait := s.longest(max(used, 1))
	if s.jitter { // the bounds hold whatever float64 rounds to
		wait = min(max(time.Duration(float64(wait)*(1-random())), 1), wait)
	}
	return wait, true
}

// longest is the wait after n used attempts before jitter.
func (s Schedule) longest(n int) time.Duration {
	if len(s.list) > 0 {
		return s.list[min(n, len(s.list))-1]
	}
	doubled := math.Ldexp(float64(s.base), min(n-1, 64)) // 64 doublings pass any limit
	if doubled >= float64(s.limit) {
		return s.limit
	}
	return time.Duration(doubled)
}

// check returns an *InvalidError naming the field that is out of bounds.
func (s Schedule) check(field string) error {
	const most = 365 * 24 * time.Hour
	zero := !s.jitter && len(s.list) == 0
	if s.attempts < 0 || s.attempts == 0 && !zero || s.attempts > 10_000 {
		return &InvalidError{Field: field + " attempts", Value: s.attempts, Bound: "from 1 to 10000"}
	}
	for _, wait := range append([]time.Duration{s.base, s.limit}, s.list...) {
		if wait < 0 || wait > most {
			return &InvalidError{Field: field + " wait", Value: wait, Bound: "from 0s to 8760h"}
		}
	}
	if s.jitter && s.base == 0 {
		return &InvalidError{Field: field + " first wait", Value: s.base, Bound: "over 0s"}
	}
	if s.jitter && s.limit < s.base {
		return &InvalidError{Field: field + " longest wait", Value: s.limit, Bound: fmt.Sprintf("at least the first wait, %v", s.base)}
	}
	return nil
}
