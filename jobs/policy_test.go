package jobs_test

import (
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
	"pgregory.net/rapid"
)

var classes = []jobs.Class{
	jobs.ClassUnknown, jobs.ClassUnavailable, jobs.ClassThrottled, jobs.ClassTimeout, jobs.ClassTransient,
	jobs.ClassPanic, jobs.ClassDenied, jobs.ClassInvalid, jobs.ClassExpired, jobs.ClassCrash,
}

func TestRule(t *testing.T) {
	t.Parallel()
	const (
		quarantine = jobs.ActionQuarantine
		retry      = jobs.ActionRetry
		pause      = jobs.ActionPause
	)
	plain := jobs.Define[int, int]("k", jobs.Retry(jobs.Fixed(time.Second, 3))).Definition()
	var options []jobs.Option
	for _, class := range classes {
		options = append(options, jobs.RetryClass(class, jobs.Delays(time.Minute)))
	}
	own := jobs.Define[int, int]("k", options...).Definition() // one more try, for every class
	type counts struct{ used, ofClass, waits int }
	tests := []struct {
		name   string
		d      jobs.Definition
		class  jobs.Class
		counts counts
		told   time.Duration
		action jobs.Action
		most   time.Duration // the longest wait; the exact one for fixed schedules
		reason string
	}{
		{"unknown", plain, jobs.ClassUnknown, counts{1, 1, 0}, 0, retry, time.Second, ""},
		{"unknown, last", plain, jobs.ClassUnknown, counts{2, 2, 0}, 0, retry, time.Second, ""},
		{"unknown, exhausted", plain, jobs.ClassUnknown, counts{3, 1, 0}, 0, quarantine, 0, "attempts exhausted (3 of 3)"},
		{"timeout", plain, jobs.ClassTimeout, counts{2, 1, 0}, 0, retry, time.Second, ""},
		{"timeout, exhausted", plain, jobs.ClassTimeout, counts{3, 1, 0}, 0, quarantine, 0, "attempts exhausted (3 of 3)"},
		{"transient", plain, jobs.ClassTransient, counts{2, 1, 0}, 0, retry, time.Second, ""},
		{"transient, exhausted", plain, jobs.ClassTransient, counts{4, 1, 0}, 0, quarantine, 0, "attempts exhausted (4 of 3)"},
		{"crash", plain, jobs.ClassCrash, counts{2, 1, 0}, 0, retry, time.Second, ""},
		{"of a later version", plain, "melted", counts{2, 1, 0}, 0, retry, time.Second, ""},
		{"empty", plain, "", counts{3, 1, 0}, 0, quarantine, 0, "attempts exhausted (3 of 3)"},
		{"waits longer when told so", plain, jobs.ClassTransient, counts{1, 1, 0}, time.Hour, retry, time.Hour, ""},
		{"never shorter than the schedule", plain, jobs.ClassTransient, counts{1, 1, 0}, time.Millisecond, retry, time.Second, ""},

		{"panic, third retry", plain, jobs.ClassPanic, counts{9, 3, 0}, 0, retry, 4 * time.Second, ""},
		{"panic, exhausted", plain, jobs.ClassPanic, counts{4, 4, 0}, 0, quarantine, 0, "attempts for class panic exhausted (4 of 4)"},
		{"denied", plain, jobs.ClassDenied, counts{9, 4, 0}, 0, retry, 8 * time.Minute, ""},
		{"denied, exhausted", plain, jobs.ClassDenied, counts{5, 5, 0}, 0, quarantine, 0, "attempts for class denied exhausted (5 of 5)"},
		{"invalid", plain, jobs.ClassInvalid, counts{1, 1, 0}, time.Second, quarantine, 0, "invalid: trying again cannot help"},
		{"expired", plain, jobs.ClassExpired, counts{1, 1, 0}, 0, quarantine, 0, "expired: trying again cannot help"},

		{"unavailable", plain, jobs.ClassUnavailable, counts{99, 99, 0}, 0, pause, 2 * time.Second, ""},
		{"unavailable, long", plain, jobs.ClassUnavailable, counts{99, 99, 9_998}, 0, pause, time.Minute, ""},
		{"unavailable, exhausted", plain, jobs.ClassUnavailable, counts{1, 1, 9_999}, 0, quarantine, 0, "waits for class unavailable exhausted (9999 of 9999)"},
		{"throttled", plain, jobs.ClassThrottled, counts{99, 99, 1}, 0, pause, 4 * time.Second, ""},
		{"throttled, as told", plain, jobs.ClassThrottled, counts{99, 99, 0}, time.Hour, pause, time.Hour, ""},
		{"throttled, exhausted though told", plain, jobs.ClassThrottled, counts{1, 1, 9_999}, time.Hour, quarantine, 0, "waits for class throttled exhausted (9999 of 9999)"},
		{"throttled, told nonsense", plain, jobs.ClassThrottled, counts{1, 1, 0}, -time.Hour, pause, 2 * time.Second, ""},

		{"own unknown", own, jobs.ClassUnknown, counts{9, 1, 0}, 0, retry, time.Minute, ""},
		{"own unknown, exhausted", own, jobs.ClassUnknown, counts{1, 2, 0}, 0, quarantine, 0, "attempts for class unknown exhausted (2 of 2)"},
		{"own, of a later version", own, "melted", counts{9, 1, 0}, 0, retry, time.Minute, ""},
		{"own, of a later version, exhausted", own, "melted", counts{1, 2, 0}, 0, quarantine, 0, "attempts for class unknown exhausted (2 of 2)"},
		{"own timeout", own, jobs.ClassTimeout, counts{9, 1, 0}, 0, retry, time.Minute, ""},
		{"own timeout, exhausted", own, jobs.ClassTimeout, counts{1, 2, 0}, 0, quarantine, 0, "attempts for class timeout exhausted (2 of 2)"},
		{"own transient", own, jobs.ClassTransient, counts{9, 1, 0}, 0, retry, time.Minute, ""},
		{"own transient, exhausted", own, jobs.ClassTransient, counts{1, 2, 0}, 0, quarantine, 0, "attempts for class transient exhausted (2 of 2)"},
		{"own panic", own, jobs.ClassPanic, counts{9, 1, 0}, 0, retry, time.Minute, ""},
		{"own panic, exhausted", own, jobs.ClassPanic, counts{1, 2, 0}, 0, quarantine, 0, "attempts for class panic exhausted (2 of 2)"},
		{"own denied", own, jobs.ClassDenied, counts{9, 1, 0}, 0, retry, time.Minute, ""},
		{"own denied, exhausted", own, jobs.ClassDenied, counts{1, 2, 0}, 0, quarantine, 0, "attempts for class denied exhausted (2 of 2)"},
		{"own invalid", own, jobs.ClassInvalid, counts{9, 1, 0}, 0, retry, time.Minute, ""},
		{"own invalid, exhausted", own, jobs.ClassInvalid, counts{1, 2, 0}, 0, quarantine, 0, "attempts for class invalid exhausted (2 of 2)"},
		{"own expired", own, jobs.ClassExpired, counts{9, 1, 0}, 0, retry, time.Minute, ""},
		{"own expired, exhausted", own, jobs.ClassExpired, counts{1, 2, 0}, 0, quarantine, 0, "attempts for class expired exhausted (2 of 2)"},
		{"own crash", own, jobs.ClassCrash, counts{9, 1, 0}, 0, retry, time.Minute, ""},
		{"own crash, exhausted", own, jobs.ClassCrash, counts{1, 2, 0}, 0, quarantine, 0, "attempts for class crash exhausted (2 of 2)"},
		{"own unavailable", own, jobs.ClassUnavailable, counts{9, 9, 0}, 0, pause, time.Minute, ""},
		{"own unavailable, exhausted", own, jobs.ClassUnavailable, counts{1, 1, 1}, 0, quarantine, 0, "waits for class unavailable exhausted (1 of 1)"},
		{"own throttled, as told", own, jobs.ClassThrottled, counts{9, 9, 0}, time.Second, pause, time.Second, ""},
		{"own throttled, exhausted", own, jobs.ClassThrottled, counts{1, 1, 1}, time.Second, quarantine, 0, "waits for class throttled exhausted (1 of 1)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := jobs.Classification{Class: test.class, Wait: test.told}
			got := test.d.Rule(c, test.counts.used, test.counts.ofClass, test.counts.waits)
			if got.Action != test.action || got.Reason != test.reason {
				t.Errorf("got %+v, want action %d, reason %q", got, test.action, test.reason)
			}
			jittered := !strings.HasPrefix(test.name, "own") && (test.action == pause && test.told <= 0 || test.class == jobs.ClassPanic || test.class == jobs.ClassDenied)
			if got.Wait > test.most || got.Wait < test.most && !jittered || test.action != quarantine && got.Wait <= 0 {
				t.Errorf("wait %v, want %v (at most: %v)", got.Wait, test.most, jittered)
			}
		})
	}
}

// TestWaitingUsesNoAttempt: whatever the counts, unavailable and throttled pause
// until their own schedule of waits is exhausted and never use an attempt.
func TestWaitingUsesNoAttempt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		class := rapid.SampledFrom([]jobs.Class{jobs.ClassUnavailable, jobs.ClassThrottled}).Draw(t, "class")
		limit := rapid.IntRange(1, 10_000).Draw(t, "limit")
		options := []jobs.Option{jobs.Retry(jobs.Fixed(time.Second, 1))}
		if rapid.Bool().Draw(t, "own") {
			options = append(options, jobs.RetryClass(class, jobs.Exponential(time.Second, time.Hour, limit)))
		} else {
			limit = 10_000
		}
		d := jobs.Define[int, int]("k", options...).Definition()
		counts := rapid.IntRange(0, 20_000)
		c := jobs.Classification{Class: class, Wait: time.Duration(rapid.Int64().Draw(t, "told"))}
		waits := counts.Draw(t, "waits")
		got := d.Rule(c, counts.Draw(t, "used"), counts.Draw(t, "of class"), waits)
		want := jobs.ActionPause
		if waits+1 >= limit {
			want = jobs.ActionQuarantine
		}
		if got.Action != want {
			t.Fatalf("%d waits of %d: got %+v", waits, limit-1, got)
		}
		if want == jobs.ActionPause && got.Wait <= 0 {
			t.Fatalf("a pause of %v", got.Wait)
		}
		if want == jobs.ActionPause && c.Wait > 0 && got.Wait != c.Wait {
			t.Fatalf("told to wait %v, waits %v", c.Wait, got.Wait)
		}
	})
}

// TestEveryJobEnds: for every class there is a count after which the job is
// quarantined, so none is tried for ever.
func TestEveryJobEnds(t *testing.T) {
	t.Parallel()
	d := jobs.Define[int, int]("k").Definition()
	for _, class := range append(classes, "melted", "") {
		if got := d.Rule(jobs.Classification{Class: class, Wait: time.Hour}, 10_000, 10_000, 10_000); got.Action != jobs.ActionQuarantine || got.Reason == "" {
			t.Errorf("%s: got %+v", class, got)
		}
	}
}
