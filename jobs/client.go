package jobs

import (
	"context"
	"time"
)

// Client enqueues jobs and looks at them. All methods are safe for concurrent
// use. Errors match [ErrUnavailable] when Redis cannot be reached.
type Client interface {
	// Enqueue accepts a job, atomically and at most once per queue and key. A job
	// whose key is taken by the same kind and payload is a duplicate: no error,
	// and the handle is the first one's, with Duplicate set. ErrOtherPayload: the
	// key is taken by something else. ErrInvalid: the job is out of bounds;
	// nothing was accepted. A call whose reply was lost is safe to repeat.
	Enqueue(ctx context.Context, job Job) (Handle, error)
	// EnqueueMany enqueues each job on its own, many at a time, and says of each
	// in order what Enqueue would have said.
	EnqueueMany(ctx context.Context, jobs []Job) []Enqueued
	// Get returns a job as it stands, or ErrNotFound.
	Get(ctx context.Context, queue, key string) (Info, error)
	// List returns a page of jobs.
	List(ctx context.Context, query Query) (Page, error)
	// Wait returns the job once it has ended (completed, cancelled or
	// quarantined), or the context's error with the job as it stands then. It goes
	// on while Redis is away for less than half a minute.
	Wait(ctx context.Context, queue, key string) (Info, error)
	// Cancel ends a job that has not ended: at once when it is not running, else
	// at its next step. ErrConflict: it has ended in another way. ErrUnavailable:
	// the outcome is not known; it is safe to repeat. StateUnknown: decided, and the
	// job could not be read after it.
	Cancel(ctx context.Context, queue, key string, decision Decision) (Info, error)
	// Pause keeps a job that has not ended from running until it is resumed: at once
	// when it is not running, else its context ends and it stops at its next step.
	// Time that it waits for goes on. Nothing but Resume, Cancel and "run now" in
	// asynq's tools ends it. ErrConflict: it has ended. Otherwise as Cancel.
	Pause(ctx context.Context, queue, key string, decision Decision) (Info, error)
	// Resume takes a Pause back. The job goes on when it would have: at its due time
	// when that is still to come. ErrConflict: no operator has paused it. Otherwise as
	// Cancel.
	Resume(ctx context.Context, queue, key string, decision Decision) (Info, error)
	// Signal hands a signal to a job, which keeps it until it waits for it
	// ([Await]). Sending one of the same id again changes nothing. ErrConflict: the
	// job has ended, or another signal of the name was given before.
	Signal(ctx context.Context, queue, key string, signal Signal) error
}

// Handle is an accepted job.
type Handle struct {
	Queue       string `json:"queue"`
	Key         string `json:"key"`
	Kind        string `json:"kind"`
	Incarnation string `json:"incarnation"`
	State       State  `json:"state"`
	Duplicate   bool   `json:"duplicate"` // the key had been accepted before, with the same payload

	client Client
}

// NewHandle returns h bound to a client, for [Handle.Wait]. Client
// implementations call it.
func NewHandle(c Client, h Handle) Handle {
	h.client = c
	return h
}

// Wait is [Client.Wait] for this job.
func (h Handle) Wait(ctx context.Context) (Info, error) {
	if h.client == nil {
		return Info{}, ErrNotFound
	}
	return h.client.Wait(ctx, h.Queue, h.Key)
}

// Enqueued is what became of one job of [Client.EnqueueMany].
type Enqueued struct {
	Handle Handle
	Err    error
}

// Query selects jobs. The zero value selects all, 50 a page.
type Query struct {
	Queue  string // one queue; empty: all
	State  State  // one state; empty: all
	Kind   string // one kind; empty: all
	Limit  int    // jobs a page, 1 to 500; 0: 50
	Cursor string // Next of the page before
}

// Page is a part of a list. A page may hold fewer jobs than the limit and still
// have a Next.
type Page struct {
	Jobs []Info `json:"jobs"`
	Next string `json:"next"` // empty: this was the last page
}

// Decision is who decided something, and why. It is recorded.
type Decision struct {
	Actor  string    `json:"actor"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at,omitzero"` // set by perdure
}

// Check returns an error unless actor and reason are given and within 200 and
// 1000 bytes.
func (d Decision) Check() error {
	if d.Actor == "" || len(d.Actor) > 200 {
		return &InvalidError{Field: "actor", Value: d.Actor, Bound: "1 to 200 bytes"}
	}
	if d.Reason == "" || len(d.Reason) > 1000 {
		return &InvalidError{Field: "reason", Value: d.Reason, Bound: "1 to 1000 bytes"}
	}
	return nil
}
