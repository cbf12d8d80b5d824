package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// refuse returns the verdict of a job that must not run here.
func (a *attempt) refuse() (delivery.Verdict, bool) {
	undoing := a.d.Undo != nil
	switch {
	case a.d.CancelAsked != "" && !undoing:
		return a.undoFirst(delivery.Verdict{Outcome: delivery.Cancel, Reason: a.d.CancelAsked}), true
	case a.d.Undecodable != nil:
		return a.quarantine(jobs.WithClass(jobs.ClassInvalid, a.d.Undecodable), "the message cannot be read"), true
	case !a.d.Deadline.IsZero() && !a.now().Before(a.d.Deadline) && !undoing:
		err := fmt.Errorf("deadline %s has passed", a.d.Deadline.UTC().Format(time.RFC3339))
		return a.undoFirst(a.quarantine(jobs.WithClass(jobs.ClassExpired, err), "expired before it began")), true
	}
	newest, other := a.w.newest[a.d.Kind]
	tooNew := other && a.d.Version == 0 && a.d.Encoded > newest
	if _, known := a.w.handlerOf(a.d.Kind, a.d.Version); known && !tooNew {
		return a.admit()
	}
	return a.elsewhere(), true
}

// elsewhere is the verdict on a job that this worker cannot run, and another may.
func (a *attempt) elsewhere() delivery.Verdict {
	waiting := jobs.Waiting{Type: "kind", Name: "no worker here runs kind " + a.d.Kind}
	newest, other := a.w.newest[a.d.Kind]
	switch {
	case other && a.d.Version == 0:
		waiting = jobs.Waiting{Type: "version", Name: fmt.Sprintf("it was enqueued for version %d of kind %s, and the newest here is %d", a.d.Encoded, a.d.Kind, newest)}
	case other:
		waiting = jobs.Waiting{Type: "version", Name: fmt.Sprintf("it began in version %d of kind %s, which no worker here has", a.d.Version, a.d.Kind)}
	}
	return delivery.Verdict{Outcome: delivery.Pause, Delay: jitter(unknownAgain), Waiting: waiting}
}

// unknownAgain is how long a job waits, on average, that this worker cannot run.
const unknownAgain = 15 * time.Second

// verdict is what becomes of the job after the handler has returned.
func (a *attempt) verdict(o outcome) delivery.Verdict { return a.undoFirst(a.judge(o)) }

func (a *attempt) judge(o outcome) delivery.Verdict {
	cause, undoing := context.Cause(a.ctx), a.d.Undo != nil
	payload, goesOn := jobs.Continuation(o.err)
	switch {
	case o.err == nil && undoing:
		return a.undid()
	case o.err == nil:
		return delivery.Verdict{Outcome: delivery.Complete, Result: o.result}
	case goesOn && cause == nil:
		return delivery.Verdict{Outcome: delivery.Continue, Payload: payload}
	case !undoing && (errors.Is(cause, jobs.ErrCancelled) || errors.Is(o.err, jobs.ErrCancelled)):
		return delivery.Verdict{Outcome: delivery.Cancel, Reason: cancelReason(o.err)}
	case errors.Is(cause, jobs.ErrShutdown), errors.Is(cause, jobs.ErrPaused), errors.Is(cause, jobs.ErrLost), a.leaving.Load():
		return delivery.Verdict{Outcome: delivery.HandBack}
	case errors.Is(o.err, jobs.ErrParked):
		if v, held := a.heldAtStep(); held {
			return v
		}
		if v, waits := a.park(); waits {
			return v
		}
	}
	return a.failed(o.err)
}

// park is the verdict on a job that has come to waits that are not over.
func (a *attempt) park() (delivery.Verdict, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	waiting := jobs.Waiting{Type: "timer"}
	names := slices.Sorted(maps.Keys(a.waits))
	for _, w := range a.waits {
		if w.Type == "children" || w.Type == "signal" && waiting.Type == "timer" {
			waiting.Type = w.Type
		}
	}
	waiting.Name = strings.Join(names[:min(len(names), 5)], ", ")
	if len(names) > 5 {
		waiting.Name += fmt.Sprintf(" and %d more", len(names)-5)
	}
	return delivery.Verdict{Outcome: delivery.Park, Waiting: waiting, Waits: names}, len(names) > 0
}

func cancelReason(err error) string {
	text := err.Error()
	if _, reason, ok := strings.Cut(text, jobs.ErrCancelled.Error()+": "); ok {
		return reason
	}
	return "cancelled"
}

// failed applies the kind's policy to an error.
func (a *attempt) failed(err error) delivery.Verdict {
	failure, c := jobs.NewFailure(err, a.now(), a.w.name, a.d.Run)
	if v, held := a.heldByFailure(failure, c); held {
		return v
	}
	used := a.attemptsUsed()
	ruling := a.handler.Definition.Rule(c, used, a.failuresOf(failure.Class, used), a.d.Waits)
	if ruling.Action == jobs.ActionRetry && a.d.MaxAttempts > 0 && used >= a.d.MaxAttempts {
		ruling = jobs.Ruling{Action: jobs.ActionQuarantine, Reason: fmt.Sprintf("the producer allowed no more attempts than %d", a.d.MaxAttempts)}
	}
	switch ruling.Action {
	case jobs.ActionRetry:
		return delivery.Verdict{Outcome: delivery.Retry, Failure: &failure, Delay: ruling.Wait}
	case jobs.ActionPause:
		return delivery.Verdict{
			Outcome: delivery.Pause, Failure: &failure, Delay: ruling.Wait,
			Waiting: jobs.Waiting{Type: "timer", Name: string(failure.Class) + ": " + failure.Rule},
		}
	}
	if a.d.Undo != nil {
		return a.quarantine(err, a.notUndone(ruling.Reason))
	}
	return a.quarantine(err, ruling.Reason)
}

// failuresOf counts the failures of a class since the first attempt or the last
// replay, this one included. Only the last failures are on record: while those
// are all of this class, the forgotten ones are taken to be so too.
func (a *attempt) failuresOf(class jobs.Class, used int) int {
	same, other := 1, 0
	for _, before := range a.d.Failures {
		switch before.Class {
		case class:
			same++
		case jobs.ClassUnavailable, jobs.ClassThrottled, jobs.ClassCrash: // they use no attempt
		default:
			other++
		}
	}
	if other == 0 {
		return used
	}
	return min(same, used)
}

func (a *attempt) quarantine(err error, reason string) delivery.Verdict {
	f, _ := jobs.NewFailure(err, a.now(), a.w.name, a.d.Run)
	return delivery.Verdict{Outcome: delivery.Quarantine, Failure: &f, Entry: a.entry(f, reason)}
}

// entry is what the quarantine keeps of the failure; what it says of the job itself
// the store fills in.
func (a *attempt) entry(f jobs.Failure, reason string) delivery.Entry {
	return delivery.Entry{
		Dependencies: a.standings(), Class: f.Class, Rule: f.Rule, Reason: reason, Step: f.Step, Message: f.Message, Worker: a.w.name, Trace: a.d.Headers["traceparent"],
	}
}

func jitter(d time.Duration) time.Duration {
	return d/2 + time.Duration(rand.Int64N(int64(d)))
}
