package jobs

import (
	"math"
	"testing"
	"time"
)

// TestScheduleWaits fixes the random number, so that every wait is known.
func TestScheduleWaits(t *testing.T) {
	t.Parallel()
	const (
		ms   = time.Millisecond
		most = 0.0             // of full jitter: the whole wait
		half = 0.5             // half of it
		tiny = 1 - 1.0/(1<<53) // the largest number that rand.Float64 returns
		year = 365 * 24 * time.Hour
	)
	tests := []struct {
		name   string
		s      Schedule
		random float64
		used   int
		want   time.Duration
		more   bool
	}{
		{"zero value, first", Schedule{}, most, 1, 0, false},
		{"zero value, before any", Schedule{}, most, 0, 0, true},
		{"one attempt", Exponential(time.Second, time.Minute, 1), most, 1, 0, false},
		{"first", Exponential(time.Second, time.Minute, 12), most, 1, time.Second, true},
		{"second", Exponential(time.Second, time.Minute, 12), most, 2, 2 * time.Second, true},
		{"sixth", Exponential(time.Second, time.Minute, 12), most, 6, 32 * time.Second, true},
		{"seventh is capped", Exponential(time.Second, time.Minute, 12), most, 7, time.Minute, true},
		{"last", Exponential(time.Second, time.Minute, 12), most, 11, time.Minute, true},
		{"exhausted", Exponential(time.Second, time.Minute, 12), most, 12, 0, false},
		{"beyond", Exponential(time.Second, time.Minute, 12), most, 13, 0, false},
		{"half", Exponential(time.Second, time.Minute, 12), half, 3, 2 * time.Second, true},
		{"never zero", Exponential(1, time.Minute, 12), tiny, 1, 1, true},
		{"almost nothing", Exponential(time.Second, time.Minute, 12), tiny, 1, 1, true},
		{"base is the cap", Exponential(time.Minute, time.Minute, 3), most, 2, time.Minute, true},
		{"cap is not passed by rounding", Exponential(year-1, year-1, 3), most, 1, year - 1, true},
		{"no overflow", Exponential(1, year, 10_000), most, 9_999, year, true},
		{"used below one", Exponential(time.Second, time.Minute, 2), most, -5, time.Second, true},
		{"least int", Exponential(time.Second, time.Minute, 2), most, math.MinInt, time.Second, true},
		{"largest int", Exponential(time.Second, time.Minute, 2), most, math.MaxInt, 0, false},
		{"fixed, first", Fixed(5*ms, 3), tiny, 1, 5 * ms, true},
		{"fixed, second", Fixed(5*ms, 3), tiny, 2, 5 * ms, true},
		{"fixed, exhausted", Fixed(5*ms, 3), tiny, 3, 0, false},
		{"fixed, no wait", Fixed(0, 2), most, 1, 0, true},
		{"delays, first", Delays(3*ms, 1*ms), tiny, 1, 3 * ms, true},
		{"delays, second", Delays(3*ms, 1*ms), tiny, 2, 1 * ms, true},
		{"delays, exhausted", Delays(3*ms, 1*ms), tiny, 3, 0, false},
		{"no delays", Delays(), most, 1, 0, false},
		{"out of bounds, base zero", Exponential(0, time.Minute, 10_000), most, 9_000, 0, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			wait, more := test.s.next(test.used, func() float64 { return test.random })
			if wait != test.want || more != test.more {
				t.Errorf("next(%d) = %v, %v; want %v, %v", test.used, wait, more, test.want, test.more)
			}
		})
	}
}

func TestDelaysKeepsItsOwnList(t *testing.T) {
	t.Parallel()
	list := []time.Duration{time.Second, time.Minute}
	s := Delays(list...)
	list[0] = time.Hour
	if wait, _ := s.Next(1); wait != time.Second {
		t.Errorf("first wait %v, want 1s", wait)
	}
}
