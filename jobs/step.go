package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// About says what is being run.
type About struct {
	Queue       string
	Key         string
	Kind        string
	Incarnation string // tells a reused key's new job from the old one; kept through replay
	Tenant      string
	Headers     map[string]string // the producer's own
	Attempt     int               // this execution, from 1
	Round       int               // how often the job has continued with another payload ([ContinueAs])
	Step        string            // inside a step: its name

	PayloadVersion int // of the kind that its payload was made for; 0: not known
}

// Attempt is what steps and the other verbs need from whoever runs the job: the
// worker, or a test kit. Application code does not call it. All methods are safe
// for concurrent use.
type Attempt interface {
	// About says what is being run.
	About() About
	// Definition is the kind's.
	Definition() Definition
	// Enter reserves a step's name for this execution and returns the recorded
	// output of an earlier one. A second Enter of a name is an error.
	Enter(step string) (output []byte, recorded bool, err error)
	// Commit records a step's output; once it has returned nil the step never
	// runs again. undoable: it has a way to be undone. ErrLost: another attempt owns
	// the job by now.
	Commit(ctx context.Context, step string, output []byte, started time.Time, undoable bool) error
	// Undoing says whether the job is being undone in this execution, and which steps
	// are to be, in that order. Else all that it returns is false.
	Undoing() (steps []string, undoing bool)
	// Undone returns how often a step was undone and then begun anew by a replay.
	Undone(step string) int
	// Unmet returns the recorded steps and waits that this execution has not come to,
	// sorted.
	Unmet() []string
	// Progress returns what an earlier execution saved inside a step, or nil.
	Progress(step string) []byte
	// SaveProgress records progress inside a step.
	SaveProgress(ctx context.Context, step string, data []byte) error
	// Await returns what a wait has come to, recorded like a step's output: "t" when
	// its time is up, "d" and the data when its signal is there. Not ready: the job
	// is to be parked until then when the handler has returned.
	Await(ctx context.Context, w Wait) (output []byte, ready bool, err error)
	// Call begins a call of services within a step; done ends it with its error. An error
	// matching [ErrHeld]: it must not be made now.
	Call(ctx context.Context, step string, services []string) (done func(error), err error)
	// Children makes the children of a group that are not made yet, and returns how
	// they have ended, in the group's order, once all have. Not ready: some have not;
	// when wait is set, the job is to be parked until then when the handler has
	// returned. Without wait it only makes them.
	Children(ctx context.Context, g Group, wait bool) (ended []Ended, ready bool, err error)
}

type contextKey int

const (
	attemptKey contextKey = iota
	stepKey
	panickedKey // *atomic.Pointer[string], the step that a panic came out of
	flowKey     // *flow
	undosKey    // *undos
)

// WithAttempt returns a context in which the verbs of this package work on a.
// Workers and test kits call it.
func WithAttempt(ctx context.Context, a Attempt) context.Context {
	return context.WithValue(ctx, attemptKey, a)
}

func attemptFrom(ctx context.Context, verb string) (Attempt, error) {
	a, ok := ctx.Value(attemptKey).(Attempt)
	if !ok {
		return nil, fmt.Errorf("%s: %w", verb, ErrNoJob)
	}
	return a, nil
}

// AttemptOf returns what the verbs of this package work on, for middleware that puts
// another one before it with [WithAttempt]; false outside of a job.
func AttemptOf(ctx context.Context) (Attempt, bool) {
	a, ok := ctx.Value(attemptKey).(Attempt)
	return a, ok
}

// Current says what is being run, and false outside of a job.
func Current(ctx context.Context) (About, bool) {
	a, ok := ctx.Value(attemptKey).(Attempt)
	if !ok {
		return About{}, false
	}
	about := a.About()
	about.Step, _ = ctx.Value(stepKey).(string)
	return about, true
}

// StepOption changes one step.
type StepOption func(*stepSettings)

type stepSettings struct {
	timeout time.Duration
	bounded bool
	undo    any // func(context.Context, T) error, T being the step's

	needs    []string // services
	fallback any      // func(context.Context, error) (T, error)
}

// of returns the settings that steps of a have before their options.
func (s stepSettings) of(a Attempt) stepSettings {
	s.timeout, s.bounded = a.Definition().StepTimeout, a.Definition().StepTimeout > 0
	return s
}

// Within bounds one step; its context ends after d, at once when d is not over 0.
func Within(d time.Duration) StepOption {
	return func(s *stepSettings) { s.timeout, s.bounded = d, true }
}

// Step runs fn once in the life of the job and remembers its output: when the
// job is run again, for whatever reason, the output is returned and fn is not
// called. The output is recorded before Step returns.
//
// A crash after fn's effect and before the record makes fn run again, so give
// the outside world the [IdempotencyKey] of the step's context.
//
// fn's own error is returned wrapped in a *[StepError]. Other errors match
// [ErrLost] when another attempt owns the job by now, [ErrCancelled] when the
// job was cancelled meanwhile, [ErrPaused] when it was paused, [ErrShutdown] when the worker stops and the job
// goes on elsewhere from this step, [ErrDuplicateStep] when the name was used
// before in this execution, [ErrParked] when the job is to be parked, [ErrUndoing] when it is being undone, [ErrInvalid]
// for a bad name, [ErrNoJob] outside of a job: return them.
func Step[T any](ctx context.Context, name string, fn func(ctx context.Context) (T, error), options ...StepOption) (T, error) {
	var zero T
	a, err := attemptFrom(ctx, "step "+name)
	if err != nil {
		return zero, err
	}
	if err := CheckStep(name); err != nil {
		return zero, Permanent(err)
	}
	if flowOf(ctx).isParked() {
		return zero, fmt.Errorf("step %q: %w", name, ErrParked)
	}
	settings := stepSettings{}.of(a)
	for _, option := range options {
		option(&settings)
	}
	undo, err := compensation[T](name, settings.undo)
	if err != nil {
		return zero, err
	}
	output, recorded, err := enter(a, name)
	if err != nil {
		return zero, fmt.Errorf("step %q: %w", name, err)
	}
	value, err := zero, error(nil)
	if recorded {
		passed(a, settings.needs)
		value, err = decodeRecorded[T](a, name, output)
	} else {
		value, err = runStep(ctx, a, name, fn, settings)
	}
	if err == nil {
		noteUndo(ctx, name, undo, value)
	}
	return value, err
}

// enter is Enter, but for what may not begin in a job that is being undone.
func enter(a Attempt, name string) (output []byte, recorded bool, err error) {
	output, recorded, err = a.Enter(name)
	if _, undoing := a.Undoing(); err == nil && !recorded && undoing {
		err = ErrUndoing
	}
	return output, recorded, err
}

func runStep[T any](ctx context.Context, a Attempt, name string, fn func(ctx context.Context) (T, error), settings stepSettings) (T, error) {
	var zero T
	stepCtx := context.WithValue(ctx, stepKey, name)
	if settings.bounded {
		var cancel context.CancelFunc
		stepCtx, cancel = context.WithTimeout(stepCtx, settings.timeout)
		defer cancel()
	}
	if err := context.Cause(stepCtx); err != nil {
		return zero, &StepError{Step: name, Err: err}
	}
	started := time.Now()
	if len(settings.needs) > 0 {
		call := fn
		fn = func(ctx context.Context) (T, error) { return callServices(ctx, a, name, call, settings) }
	}
	value, err := callStep(stepCtx, name, fn)
	if errors.Is(err, ErrParked) && flowOf(ctx).isParked() {
		return zero, fmt.Errorf("step %q: %w", name, err)
	}
	if err != nil {
		return zero, &StepError{Step: name, Err: err}
	}
	output, err := encodeOutput(a.Definition(), "output of step "+name, value)
	if err != nil {
		return zero, err
	}
	if err := a.Commit(ctx, name, output, started, settings.undo != nil); err != nil {
		return zero, fmt.Errorf("record step %q: %w", name, err)
	}
	return value, nil
}

// callStep leaves the step's name for Handler.Run when fn panics; the panic
// itself goes on untouched.
func callStep[T any](ctx context.Context, name string, fn func(ctx context.Context) (T, error)) (T, error) {
	returned := false
	defer func() {
		if panicked, ok := ctx.Value(panickedKey).(*atomic.Pointer[string]); ok && !returned {
			panicked.Store(&name)
		}
	}()
	value, err := fn(ctx)
	returned = true
	return value, err
}

func decodeRecorded[T any](a Attempt, name string, output []byte) (T, error) {
	var value T
	if err := a.Definition().Codec.Decode(output, &value); err != nil {
		return value, Permanent(fmt.Errorf("recorded output of step %q does not decode as %T (has its type changed? raise the kind's version): %w", name, value, err))
	}
	return value, nil
}

// StepError is an error that came out of a step's function.
type StepError struct {
	Step string
	Err  error
}

// Error names the step.
func (e *StepError) Error() string { return fmt.Sprintf("step %q: %v", e.Step, e.Err) }

// Unwrap returns the function's error.
func (e *StepError) Unwrap() error { return e.Err }

// Heartbeat saves progress inside a step (or inside the handler outside of any
// step), so that the next execution can continue from it with [Progress]. The
// record of a step's progress goes when the step ends. Call it as often as the
// work is worth keeping; each call is one round trip.
//
// It returns an error matching [ErrLost] or [ErrCancelled] when the work is no
// longer wanted, [ErrPaused] when it is not wanted now, and [ErrShutdown] when the progress is saved and the worker
// stops, so that the job goes on elsewhere from there: return it.
func Heartbeat(ctx context.Context, progress any) error {
	a, err := attemptFrom(ctx, "heartbeat")
	if err != nil {
		return err
	}
	step, _ := ctx.Value(stepKey).(string)
	data, err := encodeOutput(a.Definition(), "progress", progress)
	if err != nil {
		return err
	}
	if err := a.SaveProgress(ctx, step, data); err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	return nil
}

// Progress returns what an earlier execution of this step (or of the handler,
// outside of any step) saved with [Heartbeat], and false when there is nothing.
func Progress[T any](ctx context.Context) (T, bool, error) {
	var value T
	a, err := attemptFrom(ctx, "progress")
	if err != nil {
		return value, false, err
	}
	step, _ := ctx.Value(stepKey).(string)
	data := a.Progress(step)
	if data == nil {
		return value, false, nil
	}
	if err := a.Definition().Codec.Decode(data, &value); err != nil {
		return value, false, fmt.Errorf("progress does not decode as %T: %w", value, err)
	}
	return value, true, nil
}

// IdempotencyKey returns a text of 43 characters that is the same whenever this
// step of this job is run, and different for every other step, key and
// incarnation, and once the step was undone ([Compensate]) or the job continued ([ContinueAs]). Give it to the service a step calls, so that a step that runs
// again has no second effect. Outside of a job it is empty.
func IdempotencyKey(ctx context.Context) string {
	about, ok := Current(ctx)
	if !ok {
		return ""
	}
	h := sha256.New()
	for _, part := range []string{about.Queue, about.Key, about.Incarnation, about.Step} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	if about.Round > 0 {
		fmt.Fprintf(h, "round %d", about.Round)
	}
	if a, ok := ctx.Value(attemptKey).(Attempt); ok && undone(a, about.Step) > 0 {
		fmt.Fprintf(h, "undone %d", undone(a, about.Step))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// stepOf returns the outermost step that an error came out of, or "".
func stepOf(err error) string {
	var step *StepError
	if errors.As(err, &step) {
		return step.Step
	}
	var p *PanicError
	if errors.As(err, &p) && p.step != nil {
		return *p.step
	}
	return ""
}
