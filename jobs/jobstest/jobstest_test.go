package jobstest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/jobs/jobstest"
)

type order struct {
	ID     string `json:"id"`
	Amount int    `json:"amount"`
}

var fulfil = jobs.Define[order, string]("order.fulfil", jobs.Retry(jobs.Fixed(time.Minute, 3)))

// shop is the outside world. Its bank knows idempotency keys, and its post office
// does only when it is told to.
type shop struct {
	charged map[string]int // by idempotency key
	sent    []string
	careful bool
	bySend  map[string]bool
}

func newShop(careful bool) *shop {
	return &shop{charged: map[string]int{}, careful: careful, bySend: map[string]bool{}}
}

func (s *shop) handler() jobs.Handler {
	return fulfil.Do(func(ctx context.Context, o order) (string, error) {
		if _, err := jobs.Step(ctx, "charge", func(ctx context.Context) (int, error) {
			s.charged[jobs.IdempotencyKey(ctx)] = o.Amount
			return o.Amount, nil
		}); err != nil {
			return "", err
		}
		if o.Amount > 1000 {
			approval, err := jobs.AwaitApproval(ctx, "large", time.Hour)
			if errors.Is(err, jobs.ErrTimedOut) {
				return "nobody answered", nil
			}
			if err != nil || !approval.Approved {
				return "denied", err
			}
		}
		if err := jobs.Sleep(ctx, "pack", 24*time.Hour); err != nil {
			return "", err
		}
		return jobs.Step(ctx, "send", func(ctx context.Context) (string, error) {
			if key := jobs.IdempotencyKey(ctx); !s.careful || !s.bySend[key] {
				s.sent = append(s.sent, o.ID)
				s.bySend[key] = true
			}
			return "sent " + o.ID, nil
		})
	})
}

func (s *shop) effects() any { return fmt.Sprint(len(s.charged), s.sent) }

func TestAJobRunsToItsEndWithoutWaiting(t *testing.T) {
	t.Parallel()
	job := jobstest.New(t, newShop(true).handler(), order{"a", 7})
	outcome := job.Run()
	var result string
	if err := outcome.Result(&result); err != nil || result != "sent a" || outcome.Runs != 2 || outcome.Attempts != 0 {
		t.Fatalf("%q, %v: %+v", result, err, outcome)
	}
	if got := job.Steps(); !slices.Equal(got, []string{"charge", "pack", "send"}) || job.Elapsed() != 24*time.Hour {
		t.Errorf("steps %v in %v", got, job.Elapsed())
	}
	var amount int
	if job.Output("charge", &amount); amount != 7 {
		t.Errorf("charged %d", amount)
	}
}

func TestFailuresFollowTheKindsPolicy(t *testing.T) {
	t.Parallel()
	s := newShop(true)
	job := jobstest.New(t, s.handler(), order{"a", 7})
	job.Fail("send", errors.New("try later"), 2)
	if outcome := job.Run(); outcome.State != jobs.StateCompleted || outcome.Attempts != 2 || len(outcome.Failures) != 2 || outcome.Failures[0].Step != "send" {
		t.Errorf("%+v", outcome)
	}
	if job.Elapsed() != 24*time.Hour+2*time.Minute || len(s.charged) != 1 || len(s.sent) != 1 {
		t.Errorf("took %v; %v", job.Elapsed(), s.effects())
	}
	job = jobstest.New(t, newShop(true).handler(), order{"a", 7})
	job.Fail("send", errors.New("never"), -1)
	if outcome := job.Run(); outcome.State != jobs.StateQuarantined || outcome.Attempts != 3 || !strings.Contains(outcome.Reason, "exhausted") {
		t.Errorf("%+v", outcome)
	}
	job = jobstest.New(t, newShop(true).handler(), order{"a", 7})
	job.Fail("send", jobs.Permanent(errors.New("no such address")), 1)
	outcome := job.Run()
	if outcome.State != jobs.StateQuarantined || outcome.Runs != 2 || outcome.Result(new(string)) == nil {
		t.Errorf("%+v", outcome)
	}
	job = jobstest.New(t, newShop(true).handler(), order{"a", 7})
	job.Fail("send", jobs.Pause("post", errors.New("closed")), 50)
	if outcome := job.Run(); outcome.State != jobs.StateCompleted || outcome.Attempts != 0 {
		t.Errorf("%+v", outcome)
	}
}

func TestStartAfterAStep(t *testing.T) {
	t.Parallel()
	s := newShop(true)
	job := jobstest.New(t, s.handler(), order{"a", 7})
	job.Recorded("charge", 7)
	if outcome := job.Run(); outcome.State != jobs.StateCompleted || len(s.charged) != 0 || len(s.sent) != 1 {
		t.Errorf("%+v, %v", outcome, s.effects())
	}
}

func TestAJobThatWaitsForAPerson(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer func(*jobstest.Job)
		want   string
	}{
		"approved": {func(j *jobstest.Job) { j.Signal("large", jobs.Approval{Approved: true, Actor: "ada"}) }, "sent a"},
		"denied":   {func(j *jobstest.Job) { j.Signal("large", jobs.Approval{}) }, "denied"},
		"nobody":   {func(j *jobstest.Job) { j.TimeOut() }, "nobody answered"},
	} {
		job := jobstest.New(t, newShop(true).handler(), order{"a", 2000})
		if outcome := job.Run(); outcome.State != jobs.StatePaused || !slices.Equal(outcome.Waits, []string{"large"}) {
			t.Fatalf("%s: %+v", name, outcome)
		}
		c.answer(job)
		var result string
		if outcome := job.Run(); outcome.Result(&result) != nil || result != c.want {
			t.Errorf("%s: %q, %+v", name, result, outcome)
		}
	}
}

func TestProgressAndCancelling(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[int, int]("count", jobs.Retry(jobs.Fixed(time.Second, 10)))
	calls := 0
	job := jobstest.New(t, kind.Do(func(ctx context.Context, n int) (int, error) {
		return jobs.Step(ctx, "count", func(ctx context.Context) (int, error) {
			done, _, err := jobs.Progress[int](ctx)
			if err != nil {
				return 0, err
			}
			for ; done < n; done++ {
				if calls++; calls == 4 {
					return 0, errors.New("cut off")
				}
				if err := jobs.Heartbeat(ctx, done+1); err != nil {
					return 0, err
				}
			}
			return done, nil
		})
	}), 5)
	if outcome := job.Run(); outcome.State != jobs.StateCompleted || calls != 6 {
		t.Errorf("%d calls: %+v", calls, outcome)
	}
	job = jobstest.New(t, kind.Do(func(context.Context, int) (int, error) { return 0, jobs.CancelJob("not wanted") }), 1)
	if outcome := job.Run(); outcome.State != jobs.StateCancelled || !strings.Contains(outcome.Reason, "not wanted") {
		t.Errorf("%+v", outcome)
	}
}

func TestAWorkflowThatSurvivesACrashAnywhere(t *testing.T) {
	t.Parallel()
	jobstest.CrashEverywhere(t, func() jobstest.World {
		s := newShop(true)
		return jobstest.World{
			Handler: s.handler(), Payload: order{"a", 2000}, Effects: s.effects,
			Prepare: func(j *jobstest.Job) { j.Signal("large", jobs.Approval{Approved: true}) },
		}
	})
}

// recorder is a test that notes what it would fail with.
type recorder struct {
	testing.TB
	errors []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func TestThePlantedBugIsFound(t *testing.T) {
	t.Parallel()
	r := &recorder{TB: t}
	jobstest.CrashEverywhere(r, func() jobstest.World {
		s := newShop(false)
		return jobstest.World{Handler: s.handler(), Payload: order{"a", 7}, Effects: s.effects}
	})
	if len(r.errors) != 1 || !strings.Contains(r.errors[0], `step "send" after its effect and before its record`) {
		t.Errorf("found %q", r.errors)
	}
}

func TestBranchesThatCrash(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[int, int]("branches")
	jobstest.CrashEverywhere(t, func() jobstest.World {
		done := map[string]bool{}
		write := make(chan string, 10)
		return jobstest.World{
			Payload: 1,
			Handler: kind.Do(func(ctx context.Context, _ int) (int, error) {
				branch := func(name string) jobs.Branch {
					return jobs.Go[int](name, nil, func(ctx context.Context) (int, error) { write <- name; return 1, nil })
				}
				return 2, jobs.Parallel(ctx, []jobs.Branch{branch("a"), branch("b"), branch("c")})
			}),
			Effects: func() any {
				for len(write) > 0 {
					done[<-write] = true
				}
				return done
			},
		}
	})
}

func ExampleCrashEverywhere() {
	// In a test: func TestFulfil(t *testing.T) { jobstest.CrashEverywhere(t, …) }
	t := &recorder{TB: &testing.T{}}
	jobstest.CrashEverywhere(t, func() jobstest.World {
		s := newShop(false)
		return jobstest.World{Handler: s.handler(), Payload: order{"order:1", 7}, Effects: s.effects}
	})
	fmt.Println(t.errors[0])
	// Output:
	// jobstest: after a crash in step "send" after its effect and before its record the job ends otherwise
	// effects: 1 [order:1 order:1]
	// without the crash: 1 [order:1]
}
