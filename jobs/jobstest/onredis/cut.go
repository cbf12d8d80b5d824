package onredis

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/jobs/jobstest"
)

// cut is where an execution is cut off, once, and what is to fail before.
type cut struct {
	play *play

	mu sync.Mutex
	at jobstest.Point // zero: nowhere, or it was
}

// middleware puts the attempt behind one that can be cut off.
func (c *cut) middleware(next jobs.Next) jobs.Next {
	return func(ctx context.Context) error {
		a, ok := jobs.AttemptOf(ctx)
		if !ok {
			return jobs.ErrNoJob
		}
		return next(jobs.WithAttempt(ctx, &attempt{Attempt: a, cut: c}))
	}
}

// fault returns the next error that a step is to fail with.
func (c *cut) fault(key, step string) error {
	if key != c.play.script.Key {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	faults := c.play.script.Faults[step]
	if len(faults) == 0 {
		return nil
	}
	c.play.script.Faults[step] = faults[1:]
	return &jobs.StepError{Step: step, Err: faults[0]}
}

// attempt is one execution that can be cut off.
type attempt struct {
	jobs.Attempt
	cut  *cut
	dead atomic.Bool
}

// About implements [jobs.Attempt]. The incarnation is the same in each play, so that
// what a service makes of an idempotency key is too.
func (a *attempt) About() jobs.About {
	about := a.Attempt.About()
	about.Incarnation = "jobstest"
	return about
}

// crash cuts the execution off when it has come to the point where it is to be: its
// owner is declared dead before it goes on.
func (a *attempt) crash(step string, when jobstest.When) error {
	if a.dead.Load() {
		return jobs.ErrLost
	}
	child := a.About().Key
	if child == a.cut.play.script.Key {
		child = ""
	}
	a.cut.mu.Lock()
	defer a.cut.mu.Unlock()
	if a.cut.at != (jobstest.Point{Step: step, When: when, Child: child}) {
		return nil
	}
	a.cut.at = jobstest.Point{}
	a.dead.Store(true)
	return errors.Join(jobs.ErrLost, a.cut.play.takeOver())
}

// Enter implements [jobs.Attempt].
func (a *attempt) Enter(step string) ([]byte, bool, error) {
	output, recorded, err := a.Attempt.Enter(step)
	if err != nil || recorded {
		return output, recorded, err
	}
	if err := a.crash(step, jobstest.BeforeEffect); err != nil {
		return nil, false, err
	}
	return nil, false, a.cut.fault(a.About().Key, step)
}

// Commit implements [jobs.Attempt].
func (a *attempt) Commit(ctx context.Context, step string, output []byte, started time.Time, undoable bool) error {
	if err := a.crash(step, jobstest.AfterEffect); err != nil {
		return err
	}
	if err := a.Attempt.Commit(ctx, step, output, started, undoable); err != nil {
		return err
	}
	return a.crash(step, jobstest.AfterRecord)
}

// Await implements [jobs.Attempt].
func (a *attempt) Await(ctx context.Context, w jobs.Wait) ([]byte, bool, error) {
	if a.dead.Load() {
		return nil, false, jobs.ErrLost
	}
	output, ready, err := a.Attempt.Await(ctx, w)
	if err != nil || !ready {
		return output, ready, err
	}
	return output, ready, a.crash(w.Name, jobstest.AfterRecord)
}

// Children implements [jobs.Attempt].
func (a *attempt) Children(ctx context.Context, g jobs.Group, wait bool) ([]jobs.Ended, bool, error) {
	if a.dead.Load() {
		return nil, false, jobs.ErrLost
	}
	ended, ready, err := a.Attempt.Children(ctx, g, wait)
	if err != nil {
		return ended, ready, err
	}
	if err := a.crash(g.Name, jobstest.AfterMaking); err != nil {
		return nil, false, err
	}
	return ended, ready, nil
}
