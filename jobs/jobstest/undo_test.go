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

// agency is a world with effects that are taken back by their keys.
type agency struct {
	done   []string
	keys   map[string]bool
	refuse map[string]error // by effect
}

func newAgency() *agency { return &agency{keys: map[string]bool{}, refuse: map[string]error{}} }

// do has an effect once per idempotency key.
func (s *agency) do(ctx context.Context, effect string) error {
	if err := s.refuse[effect]; err != nil {
		return err
	}
	if key := jobs.IdempotencyKey(ctx); !s.keys[key] {
		s.keys[key] = true
		s.done = append(s.done, effect)
	}
	return nil
}

var trip = jobs.Define[string, string]("trip", jobs.Retry(jobs.Fixed(time.Second, 3)))

// handler books three things; each is taken back with what its step has given.
func (s *agency) handler() jobs.Handler {
	book := func(ctx context.Context, what string) error {
		_, err := jobs.Step(ctx, what, func(ctx context.Context) (string, error) { return what + "-1", s.do(ctx, what) },
			jobs.Compensate(func(ctx context.Context, booking string) error { return s.do(ctx, "cancel "+booking) }))
		return err
	}
	return trip.Do(func(ctx context.Context, payload string) (string, error) {
		if err := book(ctx, "flight"); err != nil {
			return "", err
		}
		if err := jobs.Parallel(ctx, []jobs.Branch{
			jobs.Line(func(ctx context.Context) error { return book(ctx, "hotel") }),
			jobs.Go[string]("weather", nil, func(ctx context.Context) (string, error) { return "sun", s.do(ctx, "weather") }),
		}, jobs.AtMost(1)); err != nil {
			return "", err
		}
		if err := book(ctx, "car"); err != nil {
			return "", err
		}
		if payload == "cancel" {
			return "", jobs.CancelJob("changed my mind")
		}
		return "booked", nil
	})
}

func TestWhatAJobHasDoneIsUndoneInReverse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		payload string
		refuse  string
		state   jobs.State
		effects string
		undone  string
	}{
		{"it completes", "go", "", jobs.StateCompleted, "flight hotel weather car", ""},
		{"it fails for good", "go", "car", jobs.StateQuarantined, "flight hotel weather cancel hotel-1 cancel flight-1", "hotel flight"},
		{"it is cancelled", "cancel", "", jobs.StateCancelled, "flight hotel weather car cancel car-1 cancel hotel-1 cancel flight-1", "car hotel flight"},
		{"an undo fails for good", "cancel", "cancel hotel-1", jobs.StateQuarantined, "flight hotel weather car cancel car-1", "car"},
		{"nothing was done", "go", "flight", jobs.StateQuarantined, "", ""},
	} {
		s := newAgency()
		s.refuse[c.refuse] = jobs.Permanent(errors.New("no"))
		job := jobstest.New(t, s.handler(), c.payload)
		o := job.Run()
		if effects := strings.Join(s.done, " "); o.State != c.state || effects != c.effects || strings.Join(job.Undone(), " ") != c.undone {
			t.Errorf("%s: %s (%s, %v), effects %s, undone %v", c.name, o.State, o.Reason, o.Err, effects, job.Undone())
		}
	}
}

func TestAnUndoIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := newAgency()
	job := jobstest.New(t, s.handler(), "cancel")
	job.Fail("undo/hotel", errors.New("connection reset"), 2)
	if o := job.Run(); o.State != jobs.StateCancelled || len(o.Failures) != 2 || o.Failures[0].Step != "undo/hotel" || !slices.Equal(job.Undone(), []string{"car", "hotel", "flight"}) {
		t.Errorf("%s after %+v, undone %v", o.State, o.Failures, job.Undone())
	}
}

func TestCrashesWhileItIsUndone(t *testing.T) {
	t.Parallel()
	for _, refuse := range []string{"", "car"} {
		jobstest.CrashEverywhere(t, func() jobstest.World {
			s := newAgency()
			s.refuse[refuse] = jobs.Permanent(errors.New("no"))
			return jobstest.World{Handler: s.handler(), Payload: "cancel", Effects: func() any { return slices.Sorted(slices.Values(s.done)) }}
		})
	}
}

// TestUndoDoesNotNeedTheHandlerToGetFar: what it returns, and a panic of its own, do
// not matter, and nothing new is begun.
func TestUndoDoesNotNeedTheHandlerToGetFar(t *testing.T) {
	t.Parallel()
	s := newAgency()
	job := jobstest.New(t, trip.Do(func(ctx context.Context, _ string) (string, error) {
		_, err := jobs.Step(ctx, "a", func(ctx context.Context) (int, error) { return 7, s.do(ctx, "a") },
			jobs.Compensate(func(ctx context.Context, n int) error { return s.do(ctx, fmt.Sprint("undo ", n)) }))
		if err != nil {
			return "", err
		}
		_, refused := jobs.Step(ctx, "b", func(context.Context) (int, error) { return 0, jobs.Permanent(errors.New("no")) })
		if !errors.Is(refused, jobs.ErrUndoing) {
			return "", refused
		}
		if err := jobs.Sleep(ctx, "nap", 1); !errors.Is(err, jobs.ErrUndoing) {
			t.Errorf("a sleep while it is undone: %v", err)
		}
		panic("what it does does not matter")
	}), "")
	if o := job.Run(); o.State != jobs.StateQuarantined || strings.Join(s.done, " ") != "a undo 7" {
		t.Errorf("%+v, effects %v", o, s.done)
	}
}

// What keeps the handler from coming to a step may be over the next time.
func TestAnUndoWaitsForTheHandlerToGetFar(t *testing.T) {
	t.Parallel()
	s, reads := newAgency(), 0
	job := jobstest.New(t, trip.Do(func(ctx context.Context, _ string) (string, error) {
		if reads++; reads == 2 {
			return "", errors.New("the database is away")
		}
		_, err := jobs.Step(ctx, "a", func(ctx context.Context) (int, error) { return 7, s.do(ctx, "a") },
			jobs.Compensate(func(ctx context.Context, n int) error { return s.do(ctx, fmt.Sprint("undo ", n)) }))
		return "", errors.Join(err, jobs.CancelJob("no"))
	}), "")
	if o := job.Run(); o.State != jobs.StateCancelled || strings.Join(s.done, " ") != "a undo 7" || reads != 3 || len(o.Failures) != 1 {
		t.Errorf("%+v, effects %v", o, s.done)
	}
}

func TestAnUndoThatCannotBe(t *testing.T) {
	t.Parallel()
	step := func(ctx context.Context, options ...jobs.StepOption) error {
		_, err := jobs.Step(ctx, "a", func(context.Context) (int, error) { return 7, nil }, options...)
		return err
	}
	undo := jobs.Compensate(func(context.Context, int) error { return nil })
	for _, c := range []struct {
		name, reason string
		handler      func(runs int) func(ctx context.Context, _ string) (string, error)
	}{
		{"of another type", "takes a func(context.Context, string) error; it must be a func(context.Context, int) error", func(int) func(context.Context, string) (string, error) {
			return func(ctx context.Context, _ string) (string, error) {
				return "", step(ctx, jobs.Compensate(func(context.Context, string) error { return nil }))
			}
		}},
		{"gone from the code", `cannot undo step "a"`, func(int) func(context.Context, string) (string, error) {
			runs := 0
			return func(ctx context.Context, _ string) (string, error) {
				if runs++; runs > 1 {
					return "", step(ctx)
				}
				return "", errors.Join(step(ctx, undo), jobs.CancelJob("no"))
			}
		}},
		{"a reserved name", "step", func(int) func(context.Context, string) (string, error) {
			return func(ctx context.Context, _ string) (string, error) {
				_, err := jobs.Step(ctx, "undo/a", func(context.Context) (int, error) { return 7, nil })
				return "", err
			}
		}},
	} {
		o := jobstest.New(t, trip.Do(c.handler(0)), "").Run()
		if o.State != jobs.StateQuarantined || !strings.Contains(o.Err.Error(), c.reason) {
			t.Errorf("%s: %s: %v", c.name, o.State, o.Err)
		}
	}
}
