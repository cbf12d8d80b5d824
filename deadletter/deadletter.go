// Package deadletter is the quarantine: jobs that cannot work, isolated with
// their whole story. An entry stays until someone replays or discards it, with a
// reason that is recorded; nothing expires it and nothing trims it.
package deadletter

import (
	"context"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Store is what the quarantine needs of the store.
type Store interface {
	List(ctx context.Context, query jobs.Query) (jobs.Page, error)
	Get(ctx context.Context, queue, key string) (jobs.Info, error)
	Entry(ctx context.Context, queue, key string) (delivery.Entry, error)
	Unreadable(ctx context.Context, queue, key string) ([]byte, error)
	Replay(ctx context.Context, queue, key string, fromStart bool, by jobs.Decision) (jobs.Info, error)
	Discard(ctx context.Context, queue, key string, by jobs.Decision) (jobs.Info, error)
}

// Entry is a quarantined job with why it is there.
type Entry struct {
	jobs.Info
	Class     jobs.Class `json:"class"`
	Rule      string     `json:"rule"`
	Reason    string     `json:"reason"` // why it was not tried again
	Step      string     `json:"step,omitempty"`
	Message   string     `json:"message"`
	Signature string     `json:"signature"` // equal for failures of the same sort
	// Raw is the job's message as stored, when it cannot be read; only Show fills
	// it in. Such an entry can be discarded, and not replayed.
	Raw []byte `json:"raw,omitempty"`
}

// Quarantine looks at entries and decides about them. Make one with [New].
type Quarantine struct{ store Store }

// New returns the quarantine of a store.
func New(store Store) *Quarantine { return &Quarantine{store: store} }

// List returns a page of entries; query.State is ignored.
func (q *Quarantine) List(ctx context.Context, query jobs.Query) (entries []Entry, next string, err error) {
	query.State = jobs.StateQuarantined
	page, err := q.store.List(ctx, query)
	if err != nil {
		return nil, "", err
	}
	entries = []Entry{}
	for _, info := range page.Jobs {
		entry, err := q.entry(ctx, info)
		if err != nil {
			return nil, "", err
		}
		entries = append(entries, entry)
	}
	return entries, page.Next, nil
}

// Show returns one entry. ErrConflict: the job is not quarantined.
func (q *Quarantine) Show(ctx context.Context, queue, key string) (Entry, error) {
	info, err := q.store.Get(ctx, queue, key)
	if err != nil {
		return Entry{}, err
	}
	if info.State != jobs.StateQuarantined {
		return Entry{Info: info}, &StateError{Info: info}
	}
	entry, err := q.entry(ctx, info)
	if err != nil || info.Kind != "" {
		return entry, err
	}
	entry.Raw, err = q.store.Unreadable(ctx, queue, key)
	return entry, err
}

// Replay returns an entry to its queue with fresh attempts: from the failed step,
// or from the start with every recorded step forgotten. ErrConflict: it is not
// quarantined, or its message cannot be read.
func (q *Quarantine) Replay(ctx context.Context, queue, key string, fromStart bool, by jobs.Decision) (jobs.Info, error) {
	return q.store.Replay(ctx, queue, key, fromStart, by)
}

// Discard forgets an entry; its key is free again.
func (q *Quarantine) Discard(ctx context.Context, queue, key string, by jobs.Decision) (jobs.Info, error) {
	return q.store.Discard(ctx, queue, key, by)
}

// entry joins the job with its entry. A job that asynq's own tools archived has
// none; it is shown with what is known.
func (q *Quarantine) entry(ctx context.Context, info jobs.Info) (Entry, error) {
	kept, err := q.store.Entry(ctx, info.Queue, info.Key)
	if err != nil {
		if !isNotFound(err) {
			return Entry{}, err
		}
		kept = delivery.Entry{Class: jobs.ClassUnknown, Reason: "archived by asynq's own tools"}
	}
	return Entry{
		Info: info, Class: kept.Class, Rule: kept.Rule, Reason: kept.Reason, Step: kept.Step, Message: kept.Message, Signature: kept.Signature,
	}, nil
}
