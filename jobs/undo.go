package jobs

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
)

// ErrUndoing is returned by a step or wait that has no record while the job is being
// undone: nothing new is begun then. Return it.
var ErrUndoing = errors.New("the job is being undone; nothing new is begun")

// undoPrefix is in front of a step's name in the name of the step that undoes it.
const undoPrefix = "undo/"

// Compensate says how the effect of a step is taken back. When the job is cancelled
// or fails for good, the recorded steps that have such an undo are undone in the
// reverse order of their records before the job ends so. Each undo is a step of its
// own, named undo/ and the step: recorded once, tried again by the kind's policy
// with attempts of its own, and given the step's output and an [IdempotencyKey]. One
// that fails for good stops there: the job is quarantined and tells what is undone
// and what is not, and a replay goes on with it.
//
// To learn what to undo, the handler is run once more: recorded steps and waits
// answer as ever, others are refused with [ErrUndoing], and what the handler returns
// does not matter. A replay of a job that was undone runs the undone steps anew.
//
// A job that ends its workers or whose message cannot be read is quarantined without
// an undo. The type of output is that of the step's: anything else is a permanent
// failure before the step has run.
func Compensate[T any](undo func(ctx context.Context, output T) error) StepOption {
	return func(s *stepSettings) { s.undo = undo }
}

type undoFunc func(ctx context.Context) error

// undos are the ways to take back the steps that this execution has come to.
type undos struct {
	mu     sync.Mutex
	byStep map[string]undoFunc
}

func withUndos(ctx context.Context) (context.Context, *undos) {
	u := &undos{byStep: map[string]undoFunc{}}
	return context.WithValue(ctx, undosKey, u), u
}

// compensation returns how a step of outputs T is undone, nil when it is not.
func compensation[T any](step string, undo any) (func(context.Context, T) error, error) {
	fn, ok := undo.(func(context.Context, T) error)
	if undo != nil && !ok {
		var want func(context.Context, T) error
		return nil, Permanent(fmt.Errorf("step %q: its Compensate takes a %T; it must be a %T", step, undo, want))
	}
	return fn, nil
}

// noteUndo keeps how a recorded step is undone.
func noteUndo[T any](ctx context.Context, step string, undo func(context.Context, T) error, output T) {
	u, ok := ctx.Value(undosKey).(*undos)
	if !ok || undo == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.byStep[step] = func(ctx context.Context) error { return undo(ctx, output) }
}

// undo runs the handler for its undos, and then those.
func (h Handler) undo(ctx context.Context, a Attempt, payload []byte, steps []string) error {
	ctx, found := withUndos(ctx)
	err := h.recall(ctx, payload)
	if ctx.Err() != nil || errors.Is(err, ErrLost) || errors.Is(err, ErrShutdown) || errors.Is(err, ErrPaused) {
		return err
	}
	for _, step := range steps {
		if !found.has(step) {
			return unmet(step, err)
		}
		if err := found.take(withFlow(ctx), a, step); err != nil {
			return err
		}
	}
	return nil
}

// recall runs the handler, whose panic counts as little as its error.
func (h Handler) recall(ctx context.Context, payload []byte) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: string(debug.Stack())}
		}
	}()
	_, err = h.run(ctx, payload)
	return err
}

func (u *undos) has(step string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.byStep[step] != nil
}

// unmet is why a step cannot be undone that the handler did not come to. When
// something of its own kept it from that, the next execution may get further.
func unmet(step string, err error) error {
	if err != nil && !errors.Is(err, ErrUndoing) {
		return fmt.Errorf("cannot undo step %q: the handler did not come to it again: %w", step, err)
	}
	return Permanent(fmt.Errorf("cannot undo step %q: the handler did not come to it again, or gives it no Compensate any more; put it back and replay the job", step))
}

func (u *undos) take(ctx context.Context, a Attempt, step string) error {
	u.mu.Lock()
	undo := u.byStep[step]
	u.mu.Unlock()
	name := undoPrefix + step
	_, recorded, err := a.Enter(name)
	if err != nil {
		return fmt.Errorf("step %q: %w", name, err)
	}
	if recorded {
		return nil
	}
	_, err = runStep(ctx, a, name, func(ctx context.Context) (bool, error) { return true, undo(ctx) }, stepSettings{}.of(a))
	return err
}

// undone returns how often the step, or the one that it undoes, was undone and begun
// anew.
func undone(a Attempt, step string) int { return a.Undone(strings.TrimPrefix(step, undoPrefix)) }
