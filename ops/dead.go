package ops

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

const readers = 16 // entries that one list reads at the same time

// deadJob is a quarantined job with what the quarantine keeps of it. Entry is nil
// for a job that asynq's own tools archived.
type deadJob struct {
	Job   jobs.Info       `json:"job"`
	Entry *delivery.Entry `json:"entry"`
}

type deadPage struct {
	Entries []deadJob `json:"entries"`
	Next    string    `json:"next"`
}

func (s *service) listDead(w http.ResponseWriter, r *http.Request) error {
	q, err := queryOf(r, "queue", "kind", "limit", "cursor")
	if err != nil {
		return err
	}
	q.State = jobs.StateQuarantined
	page, err := s.store.List(r.Context(), q)
	if err != nil {
		return err
	}
	dead := deadPage{Entries: make([]deadJob, len(page.Jobs)), Next: page.Next}
	failed := make([]error, len(page.Jobs))
	next := make(chan int)
	var reading sync.WaitGroup
	for range min(readers, len(page.Jobs)) {
		reading.Go(func() {
			for i := range next {
				dead.Entries[i].Job = summary(page.Jobs[i])
				dead.Entries[i].Entry, failed[i] = s.entry(r.Context(), page.Jobs[i])
			}
		})
	}
	for i := range page.Jobs {
		next <- i
	}
	close(next)
	reading.Wait()
	if err := errors.Join(failed...); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, dead)
}

func (s *service) entry(ctx context.Context, info jobs.Info) (*delivery.Entry, error) {
	entry, err := s.store.Entry(ctx, info.Queue, info.Key)
	if errors.Is(err, jobs.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &entry, nil
}

func (s *service) getDead(w http.ResponseWriter, r *http.Request) error {
	queue, key, err := place(r)
	if err != nil {
		return err
	}
	info, err := s.store.Get(r.Context(), queue, key)
	if err != nil {
		return err
	}
	if info.State != jobs.StateQuarantined {
		return fmt.Errorf("%s/%s is %s, not quarantined: %w", queue, key, info.State, jobs.ErrNotFound)
	}
	entry, err := s.entry(r.Context(), info)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, deadJob{Job: info, Entry: entry})
}

func (s *service) replay(w http.ResponseWriter, r *http.Request) error {
	queue, key, err := place(r)
	if err != nil {
		return err
	}
	from := "failed"
	by, err := decisionOf(w, r, text("from", &from))
	if err != nil {
		return err
	}
	if from != "failed" && from != "start" {
		return &jobs.InvalidError{Field: "from", Value: from, Bound: `"failed" or "start"`}
	}
	info, err := s.store.Replay(r.Context(), queue, key, from == "start", by)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, info)
}

func (s *service) discard(w http.ResponseWriter, r *http.Request) error {
	queue, key, err := place(r)
	if err != nil {
		return err
	}
	by, err := decisionOf(w, r)
	if err != nil {
		return err
	}
	info, err := s.store.Discard(r.Context(), queue, key, by)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, info)
}
