package jobstest_test

import (
	"context"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/jobs/jobstest"
)

// TestOutage: a step waits until its service is back, and what was recorded stays.
func TestOutage(t *testing.T) {
	t.Parallel()
	reserved := 0
	kind := jobs.Define[int, string]("pay", jobs.Needs("payments"))
	job := jobstest.New(t, kind.Do(func(ctx context.Context, _ int) (string, error) {
		if _, err := jobs.Step(ctx, "reserve", func(context.Context) (int, error) { reserved++; return 1, nil }); err != nil {
			return "", err
		}
		return jobs.Step(ctx, "charge", func(context.Context) (string, error) { return "charged", nil }, jobs.StepNeeds("payments"))
	}), 1)
	job.Outage("payments", 10*time.Minute)
	outcome := job.Run()
	if outcome.State != jobs.StateCompleted || outcome.Attempts != 0 || reserved != 1 || job.Elapsed() != 10*time.Minute {
		t.Errorf("%+v after %v, reserved %d times", outcome, job.Elapsed(), reserved)
	}
}
