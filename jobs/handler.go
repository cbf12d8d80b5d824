package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
)

// Next runs the rest of an attempt: further middleware and then the handler.
// What is being run is found with [Current].
type Next func(ctx context.Context) error

// Middleware wraps an attempt: it may change the context, look at the error,
// measure, or refuse to go on. It runs inside the attempt, so a panic in it is a
// failure of the job.
type Middleware func(next Next) Next

// Handler is a kind bound to the function that runs it. Make one with [Kind.Do]
// and give it to a worker.
type Handler struct {
	Definition Definition

	err        error
	run        func(ctx context.Context, payload []byte) ([]byte, error)
	check      func(payload []byte) error
	middleware []Middleware
	timetables []Timetable
}

// NewHandler binds a definition to a function on bytes, for adapters of other
// handler types. check may be nil. A codec and bounds that d leaves at zero take
// their defaults.
func NewHandler(d Definition, run func(ctx context.Context, payload []byte) ([]byte, error), check func(payload []byte) error) Handler {
	if d.Codec == nil {
		d.Codec = JSON
	}
	d.MaxPayload = cmp.Or(d.MaxPayload, DefaultMaxPayload)
	d.MaxOutput = cmp.Or(d.MaxOutput, DefaultMaxOutput)
	checked := func(ctx context.Context, payload []byte) ([]byte, error) {
		result, err := run(ctx, payload)
		if err != nil {
			return nil, err
		}
		return result, checkOutput(d, "result", result)
	}
	return Handler{Definition: d, err: CheckKind(d.Name), run: checked, check: check}
}

// Err returns what is wrong with the kind's definition, or nil.
func (h Handler) Err() error { return h.err }

// Use returns the handler wrapped in further middleware, the first outermost.
func (h Handler) Use(middleware ...Middleware) Handler {
	h.middleware = append(append([]Middleware(nil), middleware...), h.middleware...)
	return h
}

// Check decodes and validates a payload without running anything. The error
// matches [ErrInvalid]; so does a panic in the payload's own methods.
func (h Handler) Check(payload []byte) (err error) {
	if h.check == nil {
		return nil
	}
	defer func() {
		if v := recover(); v != nil {
			err = invalidPayload(&PanicError{Value: v, Stack: string(debug.Stack())})
		}
	}()
	return h.check(payload)
}

// Run executes one attempt and returns the encoded result. A panic comes back as
// a *[PanicError]. An error that matches [ErrParked] says that the handler has come
// to a wait that is not over, also when it returned something else. In a job that is
// being undone it runs the undos, and the result is nil. Success without coming to all
// that is recorded of the job is an error. See [Continuation] for another one.
func (h Handler) Run(ctx context.Context, payload []byte) (result []byte, err error) {
	var panicked atomic.Pointer[string]
	defer func() {
		if v := recover(); v != nil {
			result, err = nil, &PanicError{Value: v, Stack: string(debug.Stack()), step: panicked.Load()}
		}
	}()
	ctx = withFlow(context.WithValue(ctx, panickedKey, &panicked))
	next := Next(func(ctx context.Context) error {
		if a, ok := ctx.Value(attemptKey).(Attempt); ok {
			if steps, undoing := a.Undoing(); undoing {
				return h.undo(ctx, a, payload, steps)
			}
		}
		if result, err = h.run(ctx, payload); err == nil {
			err = h.checkMet(ctx)
		}
		return h.continued(err)
	})
	for i := len(h.middleware) - 1; i >= 0; i-- {
		next = h.middleware[i](next)
	}
	err = next(ctx)
	if flowOf(ctx).isParked() && !errors.Is(err, ErrParked) {
		err = ErrParked // whatever the handler has made of it
	}
	if err != nil {
		return nil, err
	}
	return result, nil
}

// PanicError is a panic in a handler, with its stack.
type PanicError struct {
	Value any
	Stack string

	step *string // the outermost step it came out of
}

// Error says what was panicked with.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the panic's value when it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
