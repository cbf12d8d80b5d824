package chaos

import (
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
)

func TestAttemptsAreToldFromOutages(t *testing.T) {
	t.Parallel()
	failures := func(classes ...jobs.Class) (info jobs.Info) {
		for _, class := range classes {
			info.Failures = append(info.Failures, jobs.Failure{Class: class})
		}
		return info
	}
	if n, known := attemptsOf(failures(jobs.ClassUnavailable, jobs.ClassTimeout, jobs.ClassCrash, jobs.ClassThrottled, jobs.ClassTransient)); n != 2 || !known {
		t.Errorf("%d of 5 failures cost an attempt, known: %v", n, known)
	}
	if _, known := attemptsOf(failures(make([]jobs.Class, keptFailures)...)); known {
		t.Error("the first failures of a job are taken to be known although they may be forgotten")
	}
}

func TestOutagesLeaveTimeToComeBack(t *testing.T) {
	t.Parallel()
	for o, want := range map[Options]time.Duration{
		{Duration: 28 * time.Second, Freeze: 2 * time.Second}:  10 * time.Second,
		{Duration: 2 * time.Minute, Freeze: 10 * time.Second}:  20 * time.Second,
		{Duration: 10 * time.Minute, Freeze: 10 * time.Second}: 30 * time.Second,
		{Duration: 10 * time.Minute, Freeze: 40 * time.Second}: time.Minute,
	} {
		if got := outageEvery(o); got != want {
			t.Errorf("of %v with freezes of %v: every %v, want %v", o.Duration, o.Freeze, got, want)
		}
	}
}
