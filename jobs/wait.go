package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// ErrParked is returned by the verbs that wait ([Sleep], [Await]) when what they
// wait for is not there yet: return it. The execution ends, the job is parked and
// holds no slot, and when the wait is over the job is run again and the verb
// returns what it waited for. A handler that does not return it parks all the
// same; its further steps are refused with it.
var ErrParked = errors.New("the job is parked until what it waits for is there; return this error")

// ErrTimedOut is returned by [Await] when no signal came in time.
var ErrTimedOut = errors.New("no signal came in time")

// Wait is what an execution waits for, as an [Attempt] is asked.
type Wait struct {
	Name  string        // unique among the job's steps and waits
	Type  string        // "timer", "signal" or "children"
	For   time.Duration // at most, from when the job first came here; 0: see Until
	Until time.Time     // at most; zero: for ever
}

// What a wait's record begins with.
const (
	timeUp    = 't'
	delivered = 'd' // and then the signal's data
)

// Sleep returns once d has passed since the job first came here, by Redis' clock.
// Meanwhile the job is parked: it holds no slot, and it may sleep for years and
// survive restarts. Errors: [ErrParked], and those of [Step].
func Sleep(ctx context.Context, name string, d time.Duration) error {
	_, err := await(ctx, Wait{Name: name, Type: "timer", For: max(d, time.Millisecond)})
	return err
}

// SleepUntil returns once it is t by Redis' clock; see [Sleep]. A zero t is over.
func SleepUntil(ctx context.Context, name string, t time.Time) error {
	if t.Before(time.UnixMilli(1)) {
		t = time.UnixMilli(1)
	}
	_, err := await(ctx, Wait{Name: name, Type: "timer", Until: t})
	return err
}

// Await returns the signal of that name once somebody has sent it
// ([Client.Signal]); one that was sent before is there at once. It is delivered
// once and remembered like a step's output. Meanwhile the job is parked. When no
// signal comes within the timeout, Await returns [ErrTimedOut] then and whenever
// the job is run again; a timeout of 0 is none. Other errors: [ErrParked], and
// those of [Step].
func Await[T any](ctx context.Context, name string, timeout time.Duration) (T, error) {
	var value T
	output, err := await(ctx, Wait{Name: name, Type: "signal", For: max(timeout, 0)})
	if err != nil {
		return value, err
	}
	if output[0] == timeUp {
		return value, fmt.Errorf("await %q: %w", name, WithClass(ClassTimeout, ErrTimedOut))
	}
	a, err := attemptFrom(ctx, "await "+name)
	if err != nil {
		return value, err
	}
	if err := a.Definition().Codec.Decode(output[1:], &value); err != nil {
		return value, Permanent(fmt.Errorf("signal %q does not decode as %T: %w", name, value, err))
	}
	return value, nil
}

// Approval is what somebody decided about a job; see [AwaitApproval].
type Approval struct {
	Approved bool   `json:"approved"`
	Actor    string `json:"actor"`
	Reason   string `json:"reason"`
}

// AwaitApproval is [Await] for a person's decision: `perdure job approve` or deny,
// or [Approve] with [Client.Signal].
func AwaitApproval(ctx context.Context, name string, timeout time.Duration) (Approval, error) {
	return Await[Approval](ctx, name, timeout)
}

func await(ctx context.Context, w Wait) ([]byte, error) {
	a, err := attemptFrom(ctx, "await "+w.Name)
	if err != nil {
		return nil, err
	}
	if err := CheckStep(w.Name); err != nil {
		return nil, Permanent(err)
	}
	if flowOf(ctx).isParked() {
		return nil, ErrParked
	}
	output, recorded, err := enter(a, w.Name)
	if err != nil {
		return nil, fmt.Errorf("await %q: %w", w.Name, err)
	}
	if !recorded {
		if output, recorded, err = a.Await(ctx, w); err != nil {
			return nil, fmt.Errorf("await %q: %w", w.Name, err)
		}
	}
	if !recorded {
		flowOf(ctx).park()
		return nil, fmt.Errorf("await %q: %w", w.Name, ErrParked)
	}
	if len(output) == 0 || output[0] != timeUp && output[0] != delivered {
		return nil, Permanent(fmt.Errorf("%q is recorded as a step, not as a wait (has the handler changed? raise the kind's version)", w.Name))
	}
	return output, nil
}

// flow is one line of a handler's control: the handler's own, or a branch of
// [Parallel]. Once it has come to a wait that is not over, it must not go on.
type flow struct {
	parent *flow
	parked atomic.Bool
}

func withFlow(ctx context.Context) context.Context {
	return context.WithValue(ctx, flowKey, &flow{parent: flowOf(ctx)})
}

func flowOf(ctx context.Context) *flow {
	f, _ := ctx.Value(flowKey).(*flow)
	return f
}

func (f *flow) park() {
	if f != nil {
		f.parked.Store(true)
	}
}

func (f *flow) isParked() bool {
	for ; f != nil; f = f.parent {
		if f.parked.Load() {
			return true
		}
	}
	return false
}

// Signal is a message to one job. Make one with [NewSignal], [Kind.Signal] or
// [Approve].
type Signal struct {
	Name string // of the wait
	ID   string // a signal of the same id is delivered once; empty: each call is one of its own
	Data []byte // encoded by the kind's codec
	// Actor and Reason say who sends it, and why, for the record; they may be empty.
	Actor, Reason string
}

// NewSignal returns a signal with a value encoded as JSON, for kinds that have no
// codec of their own.
func NewSignal(name string, value any) (Signal, error) { return newSignal(JSON, name, value) }

// Signal returns a signal with a value encoded as this kind's jobs expect it.
func (k Kind[P, R]) Signal(name string, value any) (Signal, error) {
	return newSignal(k.definition.Codec, name, value)
}

func newSignal(c Codec, name string, value any) (Signal, error) {
	data, err := c.Encode(value)
	if err != nil {
		return Signal{}, invalidPayload(fmt.Errorf("signal %q: %w", name, err))
	}
	return Signal{Name: name, Data: data}, nil
}

// Approve returns the signal that [AwaitApproval] waits for, as JSON.
func Approve(name string, approved bool, by Decision) (Signal, error) {
	if err := by.Check(); err != nil {
		return Signal{}, err
	}
	s, err := NewSignal(name, Approval{Approved: approved, Actor: by.Actor, Reason: by.Reason})
	s.Actor, s.Reason = by.Actor, by.Reason
	return s, err
}

// Check returns an error matching [ErrInvalid] unless name, id and data are within
// their bounds.
func (s Signal) Check() error {
	if err := CheckStep(s.Name); err != nil {
		return err
	}
	if len(s.ID) > 200 {
		return &InvalidError{Field: "signal id", Value: fmt.Sprintf("%d bytes", len(s.ID)), Bound: "at most 200 bytes"}
	}
	if len(s.Data) > DefaultMaxPayload {
		return &InvalidError{Field: "signal data", Value: fmt.Sprintf("%d bytes", len(s.Data)), Bound: fmt.Sprintf("at most %d bytes", DefaultMaxPayload)}
	}
	if len(s.Actor) > 200 || len(s.Reason) > 1000 {
		return &InvalidError{Field: "signal actor and reason", Value: fmt.Sprintf("%d and %d bytes", len(s.Actor), len(s.Reason)), Bound: "at most 200 and 1000 bytes"}
	}
	return nil
}
