package jobs_test

import (
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
	"pgregory.net/rapid"
)

const longestWait = 365 * 24 * time.Hour

// TestExponentialBounds: every wait is over 0 and at most both the cap and the
// doubled base; the schedule ends exactly at its attempts.
func TestExponentialBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		base := time.Duration(rapid.Int64Range(1, int64(longestWait)).Draw(t, "base"))
		longest := time.Duration(rapid.Int64Range(int64(base), int64(longestWait)).Draw(t, "longest"))
		attempts := rapid.IntRange(1, 10_000).Draw(t, "attempts")
		used := rapid.IntRange(1, 20_000).Draw(t, "used")
		s := jobs.Exponential(base, longest, attempts)
		if err := jobs.Define[int, int]("k", jobs.Retry(s)).Err(); err != nil {
			t.Fatal(err)
		}
		wait, more := s.Next(used)
		if more != (used < attempts) {
			t.Fatalf("%d used of %d: more is %v", used, attempts, more)
		}
		if !more {
			return
		}
		if wait <= 0 || wait > longest {
			t.Fatalf("wait %v is not in (0, %v]", wait, longest)
		}
		if used <= 20 && base < longestWait>>20 && wait > base<<(used-1) {
			t.Fatalf("wait %v is over base %v doubled %d times", wait, base, used-1)
		}
	})
}

func TestExponentialSpreads(t *testing.T) {
	t.Parallel()
	s := jobs.Exponential(time.Second, time.Second, 2)
	var low, high int
	for range 1000 {
		if wait, _ := s.Next(1); wait < time.Second/2 {
			low++
		} else {
			high++
		}
	}
	if low < 350 || high < 350 { // 150 off the mean is more than 9 standard deviations
		t.Errorf("%d waits in the lower half, %d in the upper: that is not full jitter", low, high)
	}
}

func TestListedWaits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		waits := rapid.SliceOfN(rapid.Int64Range(0, int64(longestWait)), 0, 50).Draw(t, "waits")
		var list []time.Duration
		for _, wait := range waits {
			list = append(list, time.Duration(wait))
		}
		s := jobs.Delays(list...)
		if s.Attempts() != len(list)+1 {
			t.Fatalf("%d attempts of %d waits", s.Attempts(), len(list))
		}
		for i, want := range list {
			if wait, more := s.Next(i + 1); wait != want || !more {
				t.Fatalf("wait %d is %v, %v; want %v", i+1, wait, more, want)
			}
		}
		if wait, more := s.Next(len(list) + 1); wait != 0 || more {
			t.Fatalf("after the last: %v, %v", wait, more)
		}
	})
}

func TestScheduleRules(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		s     jobs.Schedule
		field string // after "retry "; empty: accepted
	}{
		{"zero value", jobs.Schedule{}, ""},
		{"default", jobs.DefaultRetry, ""},
		{"one attempt", jobs.Fixed(0, 1), ""},
		{"no delays", jobs.Delays(), ""},
		{"most attempts", jobs.Fixed(time.Second, 10_000), ""},
		{"longest wait", jobs.Fixed(longestWait, 2), ""},
		{"least base", jobs.Exponential(1, 1, 2), ""},
		{"fixed, no attempts", jobs.Fixed(time.Second, 0), "attempts"},
		{"exponential, no attempts", jobs.Exponential(time.Second, time.Minute, 0), "attempts"},
		{"attempts below zero", jobs.Exponential(time.Second, time.Minute, -1), "attempts"},
		{"too many attempts", jobs.Fixed(time.Second, 10_001), "attempts"},
		{"too many delays", jobs.Delays(make([]time.Duration, 10_000)...), "attempts"},
		{"wait below zero", jobs.Fixed(-1, 2), "wait"},
		{"a delay below zero", jobs.Delays(0, time.Second, -time.Second), "wait"},
		{"wait too long", jobs.Fixed(longestWait+1, 2), "wait"},
		{"base below zero", jobs.Exponential(-1, time.Second, 2), "wait"},
		{"cap too long", jobs.Exponential(1, longestWait+1, 2), "wait"},
		{"base zero", jobs.Exponential(0, time.Second, 2), "first wait"},
		{"cap below base", jobs.Exponential(time.Minute, time.Second, 2), "longest wait"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for prefix, option := range map[string]jobs.Option{
				"retry ":         jobs.Retry(test.s),
				"retry timeout ": jobs.RetryClass(jobs.ClassTimeout, test.s),
			} {
				err := jobs.Define[int, int]("k", option).Err()
				switch {
				case test.field == "" && err != nil:
					t.Errorf("refused: %v", err)
				case test.field != "":
					requireInvalid(t, err, prefix+test.field)
				}
			}
		})
	}
}
