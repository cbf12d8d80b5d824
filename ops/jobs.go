package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/perdure/perdure/jobs"
)

const (
	maxWaits      = 1000 // requests that wait for a job at the same time
	maxKindsNamed = 50
)

// enqueueRequest is the body of POST /api/v1/jobs.
type enqueueRequest struct {
	kind, key, queue, tenant string
	delay, at                string
	payload                  json.RawMessage
	headers                  map[string]string
}

func (s *service) enqueue(w http.ResponseWriter, r *http.Request) error {
	limit, err := s.bodyLimit(r)
	if err != nil {
		return err
	}
	var q enqueueRequest
	if err := readBody(w, r, limit,
		text("kind", &q.kind), text("key", &q.key), member{"payload", &q.payload, "JSON"}, text("queue", &q.queue), text("tenant", &q.tenant),
		text("delay", &q.delay), text("at", &q.at), member{"headers", &q.headers, "an object of texts"},
	); err != nil {
		return err
	}
	job, err := s.makeJob(r.Context(), q)
	if err != nil {
		return err
	}
	handle, err := s.store.Enqueue(r.Context(), job)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/api/v1/jobs/"+url.PathEscape(handle.Queue)+"/"+url.PathEscape(handle.Key))
	if handle.Duplicate {
		return writeJSON(w, http.StatusOK, handle)
	}
	return writeJSON(w, http.StatusCreated, handle)
}

// bodyLimit is how long a body may be: the largest payload of any known kind, and
// as much as the rest may need. Published kinds are asked for only when the body
// could need it.
func (s *service) bodyLimit(r *http.Request) (int64, error) {
	largest := jobs.DefaultMaxPayload
	for _, h := range s.kinds {
		largest = max(largest, h.Definition.MaxPayload)
	}
	if r.ContentLength >= 0 && r.ContentLength <= maxBody+int64(largest) {
		return maxBody + int64(largest), nil
	}
	published, err := s.store.Kinds(r.Context())
	if err != nil {
		return 0, err
	}
	for _, kind := range published {
		largest = max(largest, kind.MaxPayload)
	}
	return maxBody + int64(largest), nil
}

// makeJob builds the job within its kind's bounds.
func (s *service) makeJob(ctx context.Context, q enqueueRequest) (jobs.Job, error) {
	if err := jobs.CheckKind(q.kind); err != nil {
		return jobs.Job{}, err
	}
	options, err := q.options()
	if err != nil {
		return jobs.Job{}, err
	}
	h, here := s.kinds[q.kind]
	if !here {
		d, err := s.store.KindDefinition(ctx, q.kind)
		if errors.Is(err, jobs.ErrUnknownKind) {
			return jobs.Job{}, &unknownKind{q.kind, s.knownKinds(ctx)}
		}
		if err != nil {
			return jobs.Job{}, err
		}
		h.Definition = withDefaults(d)
	}
	job := jobs.Raw(h.Definition, q.key, q.payload, options...)
	if err := job.Err(); err != nil {
		return jobs.Job{}, err
	}
	if err := h.Check(job.Payload); err != nil {
		return jobs.Job{}, badPayload(q.kind, len(job.Payload), err)
	}
	return job, nil
}

func (q enqueueRequest) options() ([]jobs.JobOption, error) {
	var options []jobs.JobOption
	if q.queue != "" {
		options = append(options, jobs.Queue(q.queue))
	}
	if q.tenant != "" {
		options = append(options, jobs.Tenant(q.tenant))
	}
	if q.delay != "" {
		d, err := time.ParseDuration(q.delay)
		if err != nil {
			return nil, &jobs.InvalidError{Field: "delay", Value: q.delay, Bound: `a duration such as "90s" or "2h30m"`}
		}
		options = append(options, jobs.Delay(d))
	}
	if q.at != "" {
		t, err := time.Parse(time.RFC3339, q.at)
		if err != nil {
			return nil, &jobs.InvalidError{Field: "at", Value: q.at, Bound: `a time such as "2006-01-02T15:04:05Z"`}
		}
		options = append(options, jobs.At(t))
	}
	for _, name := range slices.Sorted(maps.Keys(q.headers)) {
		options = append(options, jobs.Header(name, q.headers[name]))
	}
	return options, nil
}

// badPayload says what the kind's own checks found. A panic's text is not for
// callers.
func badPayload(kind string, size int, err error) error {
	bound := "a payload of kind " + kind
	var panicked *jobs.PanicError
	if !errors.As(err, &panicked) {
		bound += ": " + err.Error()
	}
	return &jobs.InvalidError{Field: "payload", Value: fmt.Sprintf("of %d bytes", size), Bound: bound}
}

// knownKinds names the kinds that can be enqueued, for a caller that named
// another.
func (s *service) knownKinds(ctx context.Context) []string {
	known := map[string]bool{}
	for name := range s.kinds {
		known[name] = true
	}
	published, _ := s.store.Kinds(ctx) // what is known without it helps as well
	for name := range published {
		known[name] = true
	}
	all := slices.Sorted(maps.Keys(known))
	return all[:min(len(all), maxKindsNamed)]
}

func (s *service) getJob(w http.ResponseWriter, r *http.Request) error {
	queue, key, err := place(r)
	if err != nil {
		return err
	}
	values, err := params(r, "wait")
	if err != nil {
		return err
	}
	wait := time.Duration(0)
	if given := values.Get("wait"); given != "" {
		if wait, err = time.ParseDuration(given); err != nil || wait < 0 || wait > maxWait {
			return &jobs.InvalidError{Field: "wait", Value: given, Bound: "a duration from 0s to 60s"}
		}
	}
	info, err := s.await(r.Context(), queue, key, wait)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, info)
}

// await returns the job once it has ended or the wait is over, whichever is
// first.
func (s *service) await(ctx context.Context, queue, key string, wait time.Duration) (jobs.Info, error) {
	if wait == 0 {
		return s.store.Get(ctx, queue, key)
	}
	select {
	case s.waits <- struct{}{}:
		defer func() { <-s.waits }()
	default:
		return jobs.Info{}, errTooManyWaits
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	info, err := s.store.Wait(waiting, queue, key)
	if err != nil && waiting.Err() != nil && info.Key != "" {
		return info, nil // as it stands
	}
	return info, err
}

func (s *service) listJobs(w http.ResponseWriter, r *http.Request) error {
	q, err := queryOf(r, "queue", "state", "kind", "limit", "cursor")
	if err != nil {
		return err
	}
	page, err := s.store.List(r.Context(), q)
	if err != nil {
		return err
	}
	listed := make([]jobs.Info, 0, len(page.Jobs))
	for _, info := range page.Jobs {
		listed = append(listed, summary(info))
	}
	return writeJSON(w, http.StatusOK, jobs.Page{Jobs: listed, Next: page.Next})
}

// summary is a job as lists show it: without its result and its stacks, which may
// be large. The job by itself has them.
func summary(info jobs.Info) jobs.Info {
	info.Result = nil
	info.Failures = slices.Clone(info.Failures)
	for i := range info.Failures {
		info.Failures[i].Stack = ""
	}
	return info
}

// decide answers a decision about one job with the job as it then is.
func decide(verb func(Store, context.Context, string, string, jobs.Decision) (jobs.Info, error)) func(*service, http.ResponseWriter, *http.Request) error {
	return func(s *service, w http.ResponseWriter, r *http.Request) error {
		queue, key, err := place(r)
		if err != nil {
			return err
		}
		by, err := decisionOf(w, r)
		if err != nil {
			return err
		}
		info, err := verb(s.store, r.Context(), queue, key, by)
		if err != nil {
			return err
		}
		return writeJSON(w, http.StatusOK, info)
	}
}
