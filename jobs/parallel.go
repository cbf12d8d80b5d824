package jobs

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// Branch is one of the things that [Parallel] runs side by side. Make one with
// [Go] or [Line].
type Branch struct {
	name string
	run  func(ctx context.Context) error
}

// Go returns a branch: a step of that name whose output goes to where into points,
// once it has one. into may be nil when nobody needs the output.
func Go[T any](name string, into *T, fn func(ctx context.Context) (T, error), options ...StepOption) Branch {
	return Branch{name: name, run: func(ctx context.Context) error {
		value, err := Step(ctx, name, fn, options...)
		if err == nil && into != nil {
			*into = value
		}
		return err
	}}
}

// Line returns a branch of several steps and waits, whose names differ from those
// of the other branches.
func Line(run func(ctx context.Context) error) Branch { return Branch{run: run} }

// ParallelOption changes how branches run side by side.
type ParallelOption func(*parallelSettings)

type parallelSettings struct {
	limit      int
	collectAll bool
}

// AtMost runs no more than n branches at a time; n under 1 is no bound.
func AtMost(n int) ParallelOption { return func(s *parallelSettings) { s.limit = n } }

// CollectAll lets every branch run to its end although another one has failed.
// Without it the first failure ends the context of the others.
func CollectAll() ParallelOption { return func(s *parallelSettings) { s.collectAll = true } }

// Parallel runs branches side by side within this execution and returns when all
// have returned. Each branch made with [Go] is a step with a record of its own:
// when the job is run again, branches that have ended are not repeated and keep their output,
// whatever became of the others. A panic in a branch is that branch's failure. A
// branch that waits ([Sleep], [Await]) lets the others go on; when all of them have
// ended or wait, and none has failed, Parallel returns [ErrParked].
//
// The error is that of the branch that failed first, and with [CollectAll] all of
// them joined, in the order of the branches.
func Parallel(ctx context.Context, branches []Branch, options ...ParallelOption) error {
	var settings parallelSettings
	for _, option := range options {
		option(&settings)
	}
	if settings.limit < 1 || settings.limit > len(branches) {
		settings.limit = len(branches)
	}
	outer := flowOf(ctx)
	if outer.isParked() {
		return ErrParked
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p := &parallel{settings: settings, cancel: cancel, errs: make([]error, len(branches))}
	next := make(chan int)
	var running sync.WaitGroup
	for range settings.limit {
		running.Go(func() {
			for i := range next {
				p.ended(i, runBranch(withFlow(ctx), branches[i]))
			}
		})
	}
	for i := range branches {
		next <- i
	}
	close(next)
	running.Wait()
	err := p.err()
	if err == nil && p.parked {
		outer.park()
		err = ErrParked
	}
	return err
}

type parallel struct {
	settings parallelSettings
	cancel   context.CancelCauseFunc

	mu     sync.Mutex
	parked bool // a branch has come to a wait that is not over
	first  error
	errs   []error
}

// ended notes how a branch has ended. What ends the whole execution ends the
// other branches whatever the settings say; a stop of the worker, or that the job is
// being undone, only keeps further ones from beginning.
func (p *parallel) ended(i int, err error) {
	if err == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(err, ErrParked) {
		p.parked = true
		return
	}
	p.errs[i] = err
	if p.first == nil {
		p.first = err
	}
	if errors.Is(err, ErrShutdown) || errors.Is(err, ErrUndoing) {
		return
	}
	if !p.settings.collectAll || endsAll(err) {
		p.cancel(fmt.Errorf("another branch has failed: %w", err))
	}
}

// endsAll reports that an error is about the whole execution.
func endsAll(err error) bool {
	return errors.Is(err, ErrLost) || errors.Is(err, ErrCancelled) || errors.Is(err, ErrPaused)
}

func (p *parallel) err() error {
	if p.settings.collectAll {
		return errors.Join(p.errs...)
	}
	return p.first
}

func runBranch(ctx context.Context, b Branch) (err error) {
	defer func() {
		if v := recover(); v != nil {
			p := &PanicError{Value: v, Stack: string(debug.Stack())}
			if b.name != "" {
				p.step = &b.name
			}
			err = p
		}
	}()
	if b.run == nil {
		return Permanent(&InvalidError{Field: "branch", Value: "the zero value", Bound: "made with Go or Line"})
	}
	return b.run(ctx)
}

// Map runs fn for each item as a step of its own, side by side, and returns the
// outputs in the order of the items. The step of an item is named name/key(item):
// keys must differ, and be the same for the same item whenever the job is run,
// whatever the order of the items. Errors and options are those of [Parallel]; the
// outputs of items without an error are there in either case.
func Map[Item, T any](ctx context.Context, name string, items []Item, key func(Item) string, fn func(ctx context.Context, item Item) (T, error), options ...ParallelOption) ([]T, error) {
	outputs := make([]T, len(items))
	branches := make([]Branch, len(items))
	for i, item := range items {
		branches[i] = Go(name+"/"+key(item), &outputs[i], func(ctx context.Context) (T, error) { return fn(ctx, item) })
	}
	return outputs, Parallel(ctx, branches, options...)
}
