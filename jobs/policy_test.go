package jobs_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/perdure/perdure/jobs"
)

func TestPolicyByClass(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[string, string]("p", jobs.Retry(jobs.Fixed(time.Second, 3))).Definition()
	own := jobs.Define[string, string]("p", jobs.RetryClass(jobs.ClassInvalid, jobs.Fixed(time.Second, 2))).Definition()
	for _, row := range []struct {
		name                string
		d                   jobs.Definition
		class               jobs.Class
		used, ofClass, wait int
		want                jobs.Action
	}{
		{"timeout", kind, jobs.ClassTimeout, 1, 1, 0, jobs.ActionRetry},
		{"transient, last", kind, jobs.ClassTransient, 3, 1, 0, jobs.ActionQuarantine},
		{"unknown", kind, jobs.ClassUnknown, 2, 2, 0, jobs.ActionRetry},
		{"of a later version", kind, "brand new", 2, 2, 0, jobs.ActionRetry},
		{"unavailable", kind, jobs.ClassUnavailable, 99, 99, 99, jobs.ActionPause},
		{"throttled", kind, jobs.ClassThrottled, 99, 99, 99, jobs.ActionPause},
		{"panic, third", kind, jobs.ClassPanic, 3, 3, 0, jobs.ActionRetry},
		{"panic, fourth", kind, jobs.ClassPanic, 4, 4, 0, jobs.ActionQuarantine},
		{"denied", kind, jobs.ClassDenied, 1, 1, 0, jobs.ActionRetry},
		{"denied, fifth", kind, jobs.ClassDenied, 5, 5, 0, jobs.ActionQuarantine},
		{"invalid", kind, jobs.ClassInvalid, 1, 1, 0, jobs.ActionQuarantine},
		{"expired", kind, jobs.ClassExpired, 1, 1, 0, jobs.ActionQuarantine},
		{"invalid, by the kind", own, jobs.ClassInvalid, 1, 1, 0, jobs.ActionRetry},
		{"invalid, by the kind, last", own, jobs.ClassInvalid, 2, 2, 0, jobs.ActionQuarantine},
	} {
		got := row.d.Rule(jobs.Classification{Class: row.class}, row.used, row.ofClass, row.wait)
		if got.Action != row.want {
			t.Errorf("%s: %+v", row.name, got)
		}
	}
}

func TestWaitsAreAsTold(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		told := time.Duration(rapid.IntRange(1, 1_000_000).Draw(t, "ms")) * time.Millisecond
		waits := rapid.IntRange(0, 9000).Draw(t, "waits")
		class := rapid.SampledFrom([]jobs.Class{jobs.ClassUnavailable, jobs.ClassThrottled}).Draw(t, "class")
		got := plain.Definition().Rule(jobs.Classification{Class: class, Wait: told}, 1, 1, waits)
		if got.Action != jobs.ActionPause || got.Wait != told {
			t.Fatalf("%+v", got)
		}
	})
}
