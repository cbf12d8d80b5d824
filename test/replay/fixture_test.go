package replay_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/perdure/perdure/jobs"
)

// The kinds of the recorded jobs. Their code is part of the records: it must go on
// resuming them, so it is added to and never changed.
var (
	fulfil = jobs.Define[order, string]("replay.fulfil", jobs.Retry(jobs.Fixed(10*time.Millisecond, 3)))
	label  = jobs.Define[string, string]("replay.label", jobs.Queue("labels"))
)

type order struct {
	ID   string `json:"id"`
	What string `json:"what"` // it comes to
}

// shop is what the jobs work on. While it is closed, nothing that they come to goes on.
type shop struct {
	closed bool

	mu  sync.Mutex
	ran map[string][]string // names of steps whose function ran, by job
}

var errClosed = errors.New("the shop is closed")

func (s *shop) did(ctx context.Context) {
	about, _ := jobs.Current(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ran[about.Key] = append(s.ran[about.Key], about.Step)
}

func (s *shop) step(ctx context.Context, name string, options ...jobs.StepOption) (string, error) {
	return jobs.Step(ctx, name, func(ctx context.Context) (string, error) { s.did(ctx); return "ok " + name, nil }, options...)
}

func (s *shop) handlers() []jobs.Handler {
	return []jobs.Handler{
		fulfil.Do(s.fulfil),
		label.Do(func(ctx context.Context, text string) (string, error) {
			if _, err := jobs.Await[bool](ctx, "paper", 0); err != nil {
				return "", err
			}
			return "label " + text, nil
		}),
	}
}

func (s *shop) fulfil(ctx context.Context, o order) (string, error) {
	undo := jobs.Compensate(func(ctx context.Context, output string) error {
		if s.closed {
			return errClosed
		}
		s.did(ctx)
		return nil
	})
	charge, err := s.step(ctx, "charge", undo)
	if err != nil {
		return "", err
	}
	if err := jobs.Parallel(ctx, []jobs.Branch{
		jobs.Line(func(ctx context.Context) error { _, err := s.step(ctx, "pack", undo); return err }),
		jobs.Line(func(ctx context.Context) error { _, err := s.step(ctx, "invoice"); return err }),
	}); err != nil {
		return "", err
	}
	text, err := s.comeTo(ctx, o)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, %s, %s", o.ID, charge, text), nil
}

// comeTo is what the records differ in.
func (s *shop) comeTo(ctx context.Context, o order) (string, error) {
	switch o.What {
	case "sleep":
		return "slept", jobs.Sleep(ctx, "nap", time.Second)
	case "signal":
		return jobs.Await[string](ctx, "paid", 0)
	case "kept signal":
		if _, err := jobs.Await[string](ctx, "first", 0); err != nil {
			return "", err
		}
		return jobs.Await[string](ctx, "paid", 0)
	case "child":
		return jobs.Call(ctx, "label", label, o.ID)
	case "progress":
		return jobs.Step(ctx, "count", s.count)
	case "refused":
		if s.closed {
			return "", jobs.Permanent(errClosed)
		}
		return s.step(ctx, "send")
	case "rounds":
		if about, _ := jobs.Current(ctx); about.Round == 0 {
			return "", jobs.ContinueAs(order{ID: o.ID + "+", What: o.What})
		}
		return jobs.Await[string](ctx, "paid", 0)
	}
	return "", fmt.Errorf("it is not known how to come to %q", o.What)
}

// count fails half way while the shop is closed.
func (s *shop) count(ctx context.Context) (string, error) {
	from, _, err := jobs.Progress[int](ctx)
	if err != nil {
		return "", err
	}
	if !s.closed {
		return fmt.Sprint("counted on from ", from), nil
	}
	if err := jobs.Heartbeat(ctx, 7); err != nil {
		return "", err
	}
	return "", jobs.RetryAfter(time.Second, errClosed)
}
