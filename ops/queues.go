package ops

import (
	"context"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// queueInfos returns every queue in numbers.
func (s *service) queueInfos(ctx context.Context) ([]store.QueueInfo, error) {
	queues, err := s.store.Queues(ctx)
	if err != nil {
		return nil, err
	}
	infos := make([]store.QueueInfo, 0, len(queues))
	for _, queue := range queues {
		info, err := s.store.QueueInfo(ctx, queue)
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func (s *service) listQueues(w http.ResponseWriter, r *http.Request) error {
	if _, err := params(r); err != nil {
		return err
	}
	infos, err := s.queueInfos(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{"queues": infos})
}

func (s *service) pauseQueue(w http.ResponseWriter, r *http.Request) error {
	return s.holdQueue(w, r, s.store.PauseQueue)
}

// resumeQueue answers with the queue: paused with its reasons while others still
// hold it.
func (s *service) resumeQueue(w http.ResponseWriter, r *http.Request) error {
	return s.holdQueue(w, r, func(ctx context.Context, queue string, by jobs.Decision) error {
		_, err := s.store.ResumeQueue(ctx, queue, by)
		return err
	})
}

func (s *service) holdQueue(w http.ResponseWriter, r *http.Request, hold func(context.Context, string, jobs.Decision) error) error {
	queue := r.PathValue("queue")
	if err := jobs.CheckQueue(queue); err != nil {
		return err
	}
	by, err := decisionOf(w, r)
	if err != nil {
		return err
	}
	if err := hold(r.Context(), queue, by); err != nil {
		return err
	}
	info, err := s.store.QueueInfo(r.Context(), queue)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, info)
}

// kindInfo is a kind as the API shows it.
type kindInfo struct {
	Name       string    `json:"name"`
	Queue      string    `json:"queue"`
	Version    int       `json:"version"`
	Schema     string    `json:"schema"`
	Timeout    string    `json:"timeout"`
	Retention  string    `json:"retention"`
	MaxPayload int       `json:"max_payload"`
	Checked    bool      `json:"checked"`               // this service checks its payloads
	Published  time.Time `json:"published_at,omitzero"` // when a worker last said that it runs it
}

func (s *service) listKinds(w http.ResponseWriter, r *http.Request) error {
	if _, err := params(r); err != nil {
		return err
	}
	published, err := s.store.Kinds(r.Context())
	if err != nil {
		return err
	}
	all := map[string]kindInfo{}
	for name, k := range published {
		all[name] = kindInfo{
			Name: k.Name, Queue: k.Queue, Version: k.Version, Schema: k.Schema, Timeout: k.Timeout.String(), Retention: k.Retention.String(),
			MaxPayload: k.MaxPayload, Published: k.At,
		}
	}
	for name, h := range s.kinds {
		d := h.Definition
		all[name] = kindInfo{
			Name: d.Name, Queue: d.Queue, Version: d.Version, Schema: d.Schema, Timeout: d.Timeout.String(), Retention: d.Retention.String(),
			MaxPayload: d.MaxPayload, Checked: true, Published: all[name].Published,
		}
	}
	kinds := make([]kindInfo, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		kinds = append(kinds, all[name])
	}
	return writeJSON(w, http.StatusOK, map[string]any{"kinds": kinds})
}

// listEvents shows the last decisions, newest first, of one queue, of those about
// dependencies and limits ("@dep"), or of all.
func (s *service) listEvents(w http.ResponseWriter, r *http.Request) error {
	values, err := params(r, "queue", "limit")
	if err != nil {
		return err
	}
	limit, err := limitOf(values)
	if err != nil {
		return err
	}
	streams := []string{values.Get("queue")}
	if streams[0] == "" {
		if streams, err = s.store.Queues(r.Context()); err != nil {
			return err
		}
		streams = append(streams, delivery.Dependencies)
	}
	events := []store.Event{}
	for _, stream := range streams {
		some, err := s.eventsOf(r.Context(), stream, limit)
		if err != nil {
			return err
		}
		events = append(events, some...)
	}
	slices.SortStableFunc(events, func(a, b store.Event) int { return b.At.Compare(a.At) })
	return writeJSON(w, http.StatusOK, map[string]any{"events": events[:min(len(events), limit)]})
}

func (s *service) eventsOf(ctx context.Context, stream string, limit int) ([]store.Event, error) {
	if stream == delivery.Dependencies {
		return s.store.DependencyEvents(ctx, limit)
	}
	if err := jobs.CheckQueue(stream); err != nil {
		return nil, err
	}
	return s.store.Events(ctx, stream, limit)
}

func (s *service) showVersion(w http.ResponseWriter, r *http.Request) error {
	return writeJSON(w, http.StatusOK, map[string]string{"version": s.version, "go": runtime.Version()})
}
