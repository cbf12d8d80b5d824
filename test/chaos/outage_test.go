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
	for duration, want := range map[time.Duration]time.Duration{28 * time.Second: 10 * time.Second, 2 * time.Minute: 20 * time.Second, 10 * time.Minute: 25 * time.Second} {
		if got := outageEvery(Options{Duration: duration}); got != want {
			t.Errorf("of %v: every %v, want %v", duration, got, want)
		}
	}
}
