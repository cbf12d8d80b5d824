package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/perdure/perdure/deadletter"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// selecting are the parameters that select entries.
var selecting = []string{"queue", "key", "kind", "class", "signature", "version", "tenant", "text", "since", "before"}

// filterOf reads what entries are selected by.
func filterOf(values url.Values) (delivery.DeadFilter, error) {
	f := delivery.DeadFilter{
		Key: values.Get("key"), Kind: values.Get("kind"), Class: jobs.Class(values.Get("class")), Signature: values.Get("signature"),
		Tenant: values.Get("tenant"), Text: values.Get("text"),
	}
	var err error
	if text := values.Get("version"); text != "" {
		if f.Version, err = strconv.Atoi(text); err != nil {
			return f, &jobs.InvalidError{Field: "version", Value: text, Bound: "a whole number"}
		}
	}
	if f.Since, err = timeOf(values, "since"); err != nil {
		return f, err
	}
	if f.Before, err = timeOf(values, "before"); err != nil {
		return f, err
	}
	return f, f.Check()
}

func timeOf(values url.Values, name string) (time.Time, error) {
	text := values.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, &jobs.InvalidError{Field: name, Value: text, Bound: "a time such as 2026-01-31T09:00:00Z"}
	}
	return at, nil
}

// strictFilter is a filter in a body. A member that it does not know is refused: left
// out, it would select more than was meant.
type strictFilter struct{ delivery.DeadFilter }

// UnmarshalJSON implements [json.Unmarshaler].
func (f *strictFilter) UnmarshalJSON(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	return decoder.Decode(&f.DeadFilter)
}

func (f *strictFilter) member() member {
	return member{"filter", f, "an object of key, kind, class, signature, version, tenant, text, since, before"}
}

// listDead answers with a page of entries. It may be short, or empty, and have a
// next: then there is more to look at.
func (s *service) listDead(w http.ResponseWriter, r *http.Request) error {
	values, err := params(r, append([]string{"order", "limit", "cursor"}, selecting...)...)
	if err != nil {
		return err
	}
	q := deadletter.Query{Queue: values.Get("queue"), Cursor: values.Get("cursor"), Newest: values.Get("order") == "newest"}
	if order := values.Get("order"); order != "" && order != "newest" && order != "oldest" {
		return &jobs.InvalidError{Field: "order", Value: order, Bound: `"oldest" or "newest"`}
	}
	if q.Limit, err = limitOf(values); err != nil {
		return err
	}
	if q.Filter, err = filterOf(values); err != nil {
		return err
	}
	page, err := s.quarantine().List(r.Context(), q)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, page)
}

func (s *service) quarantine() *deadletter.Quarantine { return deadletter.New(s.store) }

// getDead answers with all that is known of an entry; what the job works on is for
// those who may decide about it.
func (s *service) getDead(w http.ResponseWriter, r *http.Request) error {
	queue, key, err := place(r)
	if err != nil {
		return err
	}
	entry, err := s.quarantine().Show(r.Context(), queue, key)
	var state *deadletter.StateError
	if errors.As(err, &state) {
		return fmt.Errorf("%v: %w", state, jobs.ErrNotFound)
	}
	if err != nil {
		return err
	}
	if !visitOf(r).who.role.may(Operator) {
		entry.Payload, entry.PayloadBytes, entry.Headers, entry.Raw = nil, nil, nil, nil
		for i := range entry.Edits {
			entry.Edits[i].Changes = nil
		}
	}
	return writeJSON(w, http.StatusOK, entry)
}

func (s *service) replay(w http.ResponseWriter, r *http.Request) error {
	queue, key, err := place(r)
	if err != nil {
		return err
	}
	from := "failed"
	var payload json.RawMessage
	by, err := decisionOf(w, r, text("from", &from), member{"payload", &payload, "JSON"})
	if err != nil {
		return err
	}
	fromStart, err := startOf(from)
	if err != nil {
		return err
	}
	var info jobs.Info
	if payload == nil {
		info, err = s.store.Replay(r.Context(), queue, key, fromStart, by)
	} else {
		info, err = s.store.ReplayEdited(r.Context(), queue, key, payload, fromStart, by)
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, info)
}

// startOf reads where a replay begins.
func startOf(from string) (start bool, err error) {
	if from != "failed" && from != "start" {
		return false, &jobs.InvalidError{Field: "from", Value: from, Bound: `"failed" or "start"`}
	}
	return from == "start", nil
}

// discardMany forgets entries that a filter selects, a page at a time: who asks
// repeats it with the next until there is none.
func (s *service) discardMany(w http.ResponseWriter, r *http.Request) error {
	q := deadletter.Query{Limit: maxListed}
	var filter strictFilter
	by, err := decisionOf(w, r, text("queue", &q.Queue), filter.member(), text("cursor", &q.Cursor))
	if err != nil {
		return err
	}
	q.Filter = filter.DeadFilter
	if q.Queue == "" || q.Filter == (delivery.DeadFilter{}) {
		return &jobs.InvalidError{Field: "filter", Value: "of everything", Bound: "given, with a queue: the API discards what is named"}
	}
	page, err := s.quarantine().List(r.Context(), q)
	if err != nil {
		return err
	}
	discarded, err := s.quarantine().DiscardListed(r.Context(), page.Entries, by)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{"discarded": discarded, "next": page.Next})
}

// listGroups answers with a page of groups, last seen first.
func (s *service) listGroups(w http.ResponseWriter, r *http.Request) error {
	values, err := params(r, "queue", "state", "limit", "cursor")
	if err != nil {
		return err
	}
	limit, err := limitOf(values)
	if err != nil {
		return err
	}
	state := delivery.GroupState(values.Get("state"))
	if state != "" && verbOf(state) == "" {
		return &jobs.InvalidError{Field: "state", Value: string(state), Bound: "open, resolved or ignored"}
	}
	groups, next, err := s.store.DeadGroups(r.Context(), values.Get("queue"), state, limit, values.Get("cursor"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{"groups": groups, "next": next})
}

func verbOf(state delivery.GroupState) string {
	return map[delivery.GroupState]string{delivery.GroupOpen: "open", delivery.GroupResolved: "resolve", delivery.GroupIgnored: "ignore"}[state]
}

func (s *service) getGroup(w http.ResponseWriter, r *http.Request) error {
	group, err := s.store.DeadGroup(r.Context(), r.PathValue("queue"), r.PathValue("signature"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, group)
}

// judge returns what sets a group's state.
func judge(state delivery.GroupState) func(*service, http.ResponseWriter, *http.Request) error {
	return func(s *service, w http.ResponseWriter, r *http.Request) error {
		queue, signature := r.PathValue("queue"), r.PathValue("signature")
		by, err := decisionOf(w, r)
		if err == nil {
			err = jobs.CheckQueue(queue)
		}
		if err != nil {
			return err
		}
		group, err := s.store.JudgeGroup(r.Context(), queue, signature, state, by)
		if err != nil {
			return err
		}
		return writeJSON(w, http.StatusOK, group)
	}
}

// Groups looks at groups of entries that failed in the same way.
type Groups interface {
	DeadGroups(ctx context.Context, queue string, state delivery.GroupState, limit int, from string) (groups []delivery.DeadGroup, next string, err error)
	// DeadGroup returns jobs.ErrNotFound for a signature that was never seen.
	DeadGroup(ctx context.Context, queue, signature string) (delivery.DeadGroup, error)
	JudgeGroup(ctx context.Context, queue, signature string, state delivery.GroupState, by jobs.Decision) (delivery.DeadGroup, error)
}
