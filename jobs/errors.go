package jobs

import (
	"errors"
	"fmt"
	"time"
)

// Sentinels; match them with errors.Is.
var (
	// ErrNotFound is returned when no job of that queue and key is known: it was
	// never accepted, or its retention has ended.
	ErrNotFound = errors.New("job not found")
	// ErrOtherPayload is returned when the key is taken by a job of another kind
	// or payload. The first job is untouched.
	ErrOtherPayload = errors.New("key is taken by a job with another payload")
	// ErrNotCompleted is returned when a result is asked of a job that has none.
	ErrNotCompleted = errors.New("job has not completed")
	// ErrConflict is returned when a decision does not fit the job's state, for
	// example replaying a job that is not quarantined.
	ErrConflict = errors.New("job is in another state")
	// ErrUnknownKind is returned when no worker has published the kind.
	ErrUnknownKind = errors.New("unknown kind")
	// ErrUnavailable is returned when Redis cannot be reached; whether the call
	// took effect may be unknown, and it is safe to repeat it.
	ErrUnavailable = errors.New("redis cannot be reached")

	// ErrLost is returned to a handler whose job is owned by another attempt by
	// now. Nothing it writes is accepted.
	ErrLost = errors.New("another attempt owns this job")
	// ErrCancelled is returned to a handler whose job was cancelled.
	ErrCancelled = errors.New("job was cancelled")
	// ErrPaused is returned to a handler whose job an operator has paused, and is the
	// cause of its context. The job goes on from there when it is resumed and uses no
	// attempt.
	ErrPaused = errors.New("job was paused by an operator")
	// ErrShutdown is returned to a handler that begins a step, or has saved
	// progress, while its worker stops, and is the cause of its context when it does
	// neither for too long. The job goes on elsewhere from there and uses no attempt.
	ErrShutdown = errors.New("worker is shutting down")
	// ErrDuplicateStep is returned when one execution uses a step's name twice.
	ErrDuplicateStep = errors.New("step name was used before in this execution")
	// ErrNoJob is returned by verbs called outside of a job's context.
	ErrNoJob = errors.New("not inside a job: use the context that the handler was given")
)

// overrideError carries what an author says of an error; see Permanent,
// RetryAfter, Pause and WithClass.
type overrideError struct {
	err   error
	class Class
	rule  string
	delay time.Duration
	on    string
}

func (e *overrideError) Error() string {
	if e.err == nil {
		return e.rule
	}
	return e.err.Error()
}

func (e *overrideError) Unwrap() error { return e.err }

// Permanent says that trying again cannot help: the job is quarantined at once.
func Permanent(err error) error {
	return &overrideError{err: err, class: ClassInvalid, rule: "permanent"}
}

// RetryAfter asks for the next attempt after d. It uses no attempt.
func RetryAfter(d time.Duration, err error) error {
	return &overrideError{err: err, class: ClassThrottled, rule: "retry after", delay: d}
}

// Pause parks the job because the named service is unavailable. It uses no
// attempt and resumes by itself.
func Pause(service string, err error) error {
	return &overrideError{err: err, class: ClassUnavailable, rule: "pause on " + service, on: service}
}

// WithClass overrides the class of an error.
func WithClass(c Class, err error) error {
	return &overrideError{err: err, class: c, rule: "class given by the handler"}
}

// CancelJob ends the job as cancelled, for a handler that finds its work no
// longer wanted.
func CancelJob(reason string) error { return fmt.Errorf("%w: %s", ErrCancelled, reason) }

func invalidPayload(err error) error {
	return &overrideError{err: &payloadError{err}, class: ClassInvalid, rule: "payload"}
}

// payloadError makes an encoding, decoding or validation error match ErrInvalid.
type payloadError struct{ err error }

func (e *payloadError) Error() string        { return e.err.Error() }
func (e *payloadError) Unwrap() error        { return e.err }
func (e *payloadError) Is(target error) bool { return target == ErrInvalid }
