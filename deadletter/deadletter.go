// Package deadletter is the quarantine: jobs that cannot work, isolated with
// their whole story. An entry stays until someone replays it, discards it or moves
// it out to a file, with a reason that is recorded; nothing expires it and nothing
// trims it.
package deadletter

import (
	"context"
	"encoding/json"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Store is what the quarantine needs of the store.
type Store interface {
	Entries
	Decisions
}

// Entries looks at quarantined jobs.
type Entries interface {
	Dead(ctx context.Context, query delivery.DeadQuery) (delivery.DeadPage, error)
	DeadRecord(ctx context.Context, queue, key string) (delivery.DeadRecord, error)
	DeadRecords(ctx context.Context, queue string, keys []string) ([]delivery.DeadRecord, error)
}

// Decisions takes jobs out of quarantine, and back into it.
type Decisions interface {
	Replay(ctx context.Context, queue, key string, fromStart bool, by jobs.Decision) (jobs.Info, error)
	Discard(ctx context.Context, queue, key string, by jobs.Decision) (jobs.Info, error)
	DiscardEntry(ctx context.Context, d delivery.Dead, by jobs.Decision) error
	MoveOut(ctx context.Context, r delivery.DeadRecord, by jobs.Decision) error
	Restore(ctx context.Context, r delivery.DeadRecord, by jobs.Decision) (bool, error)
}

// Filter selects entries of one queue; the zero value of a field selects all.
type Filter = delivery.DeadFilter

// Query asks for a page of entries, of one queue or of all.
type Query = delivery.DeadQuery

// Page is a page of entries.
type Page = delivery.DeadPage

// Entry is a quarantined job with all that is known of it.
type Entry struct {
	jobs.Info
	At           time.Time         `json:"quarantined_at"`
	Class        jobs.Class        `json:"class"`
	Rule         string            `json:"rule"`
	Reason       string            `json:"reason"` // why it was not tried again
	Step         string            `json:"step,omitempty"`
	Message      string            `json:"message"`
	Signature    string            `json:"signature"` // equal for failures of the same sort
	Worker       string            `json:"worker,omitempty"`
	Trace        string            `json:"trace,omitempty"`
	Dependencies map[string]string `json:"dependencies,omitempty"` // how each stood at the time
	Headers      map[string]string `json:"headers"`
	Payload      json.RawMessage   `json:"payload,omitempty"` // where it is JSON
	PayloadBytes []byte            `json:"payload_base64,omitempty"`
	Edits        []delivery.Edit   `json:"edits"`            // of the payload, by people
	Erased       string            `json:"erased,omitempty"` // who erased payload and outputs, and why
	// Raw is the job's message as stored, when it cannot be read. Such an entry can be
	// discarded, and not replayed.
	Raw []byte `json:"raw,omitempty"`
}

// Quarantine looks at entries and decides about them. Make one with [New].
type Quarantine struct{ store Store }

// New returns the quarantine of a store.
func New(store Store) *Quarantine { return &Quarantine{store: store} }

// List returns a page of entries, longest there first unless asked otherwise. A page
// may be short, or empty, and have a Next: then there is more to look at.
func (q *Quarantine) List(ctx context.Context, query Query) (Page, error) {
	return q.store.Dead(ctx, query)
}

// Show returns one entry. ErrConflict: the job is not quarantined.
func (q *Quarantine) Show(ctx context.Context, queue, key string) (Entry, error) {
	r, err := q.store.DeadRecord(ctx, queue, key)
	if err != nil {
		return Entry{}, err
	}
	if r.Job.State != jobs.StateQuarantined {
		return Entry{Info: r.Job}, &StateError{Info: r.Job}
	}
	return entryOf(r), nil
}

func entryOf(r delivery.DeadRecord) Entry {
	e := Entry{
		Info: r.Job, At: r.At, Class: r.Class, Rule: r.Rule, Reason: r.Reason, Step: r.Step, Message: r.Message, Signature: r.Signature,
		Worker: r.Worker, Trace: r.Trace, Dependencies: r.Dependencies, Headers: r.Headers, Edits: r.Edits, Erased: r.Erased, Raw: r.Raw,
	}
	if json.Valid(r.Payload) {
		e.Payload = r.Payload
	} else {
		e.PayloadBytes = r.Payload
	}
	return e
}

// Replay returns an entry to its queue with fresh attempts: from the failed step,
// or from the start with every recorded step forgotten. ErrConflict: it is not
// quarantined, its message cannot be read, or its payload was erased.
func (q *Quarantine) Replay(ctx context.Context, queue, key string, fromStart bool, by jobs.Decision) (jobs.Info, error) {
	return q.store.Replay(ctx, queue, key, fromStart, by)
}

// Discard forgets an entry; its key is free again.
func (q *Quarantine) Discard(ctx context.Context, queue, key string, by jobs.Decision) (jobs.Info, error) {
	return q.store.Discard(ctx, queue, key, by)
}
