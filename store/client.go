package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"go.opentelemetry.io/otel/propagation"

	"github.com/perdure/perdure/jobs"
)

// Headers that travel in asynq's message.
const (
	headerIncarnation = jobs.HeaderPrefix + "incarnation"
	headerNonce       = jobs.HeaderPrefix + "nonce" // tells a re-sent call from a duplicate
	headerDigest      = jobs.HeaderPrefix + "digest"
	headerTenant      = jobs.HeaderPrefix + "tenant"
	headerEnqueued    = jobs.HeaderPrefix + "enqueued" // ms
	headerVersion     = jobs.HeaderPrefix + "version"  // of the kind that the payload was made for; none of a job of perdure's: 1
	headerParent      = jobs.HeaderPrefix + "parent"   // of a child: as p:parent
)

var _ jobs.Client = (*Store)(nil)

// Enqueue implements [jobs.Client].
func (s *Store) Enqueue(ctx context.Context, job jobs.Job) (jobs.Handle, error) {
	if err := job.Err(); err != nil {
		return jobs.Handle{}, fmt.Errorf("enqueue: %w", err)
	}
	if err := errors.Join(s.register(ctx, job.Queue), s.registerTenant(ctx, job.Queue, job.Tenant)); err != nil {
		return jobs.Handle{}, err
	}
	c := s.newCall(ctx, job)
	var last error
	for try := range 1 + len(betweenTries) {
		if try > 0 && !sleep(ctx, betweenTries[try-1]) {
			break
		}
		_, err := s.asynq.EnqueueContext(ctx, c.task, c.options...)
		if err == nil {
			return s.handle(c, c.firstState(), false), nil
		}
		if last = err; unconfirmed(err) {
			continue // it is there, and may be gone with the next fail-over
		}
		handle, known, found := s.resolve(ctx, c)
		if known {
			return handle, found
		}
		if last = found; found == nil {
			last = err
		}
	}
	if ctx.Err() != nil {
		last = errors.Join(context.Cause(ctx), last)
	}
	if !refused(last) && !errors.Is(last, jobs.ErrUnavailable) && ctx.Err() == nil {
		last = fmt.Errorf("%w: %w", jobs.ErrUnavailable, last)
	}
	return jobs.Handle{}, fmt.Errorf("enqueue %s/%s: %w", job.Queue, job.Key, last)
}

// refused reports that Redis answered and said no: it is full, or read-only, or
// the user may not. asynq passes such answers on as text.
func refused(err error) bool {
	for _, code := range []string{"OOM ", "NOAUTH ", "NOPERM ", "WRONGPASS ", "MISCONF ", "NOREPLICAS "} {
		if err != nil && strings.Contains(err.Error(), code) {
			return true
		}
	}
	return false
}

// call is one Enqueue with the identity that lets its outcome be found out.
type call struct {
	job         jobs.Job
	task        *asynq.Task
	options     []asynq.Option
	incarnation string
	nonce       string
	delayed     bool
}

func (s *Store) newCall(ctx context.Context, job jobs.Job) call {
	headers := s.headers(job)
	propagation.TraceContext{}.Inject(ctx, propagation.MapCarrier(headers))
	c := call{job: job, incarnation: headers[headerIncarnation], nonce: headers[headerNonce]}
	c.task = asynq.NewTaskWithHeaders(job.Kind, job.Payload, headers)
	c.options = []asynq.Option{
		asynq.TaskID(job.Key), asynq.Queue(job.Queue), asynq.MaxRetry(maxRetryField),
		asynq.Timeout(job.Timeout), asynq.Retention(job.Retention),
	}
	if !job.Deadline.IsZero() {
		c.options = append(c.options, asynq.Deadline(job.Deadline))
	}
	due := job.At
	if job.Delay > 0 {
		due = time.Now().Add(job.Delay)
	}
	if due.After(time.Now()) {
		// asynq keeps whole seconds and cuts the rest: round up, never start early.
		c.delayed = true
		c.options = append(c.options, asynq.ProcessAt(due.Add(time.Second-time.Nanosecond).Truncate(time.Second)))
	}
	return c
}

// headers are those of a new job's message, with a fresh incarnation and nonce.
func (s *Store) headers(job jobs.Job) map[string]string {
	headers := maps.Clone(job.Headers)
	if headers == nil {
		headers = map[string]string{}
	}
	headers[headerIncarnation], headers[headerNonce], headers[headerDigest] = rand.Text()[:20], rand.Text()[:16], job.Digest
	headers[headerEnqueued] = strconv.FormatInt(s.now().UnixMilli(), 10)
	if job.Tenant != "" {
		headers[headerTenant] = job.Tenant
	}
	setVersion(headers, job.Version)
	return headers
}

// setVersion keeps the version of the kind that a payload was made for.
func setVersion(headers map[string]string, version int) {
	if delete(headers, headerVersion); version > 1 {
		headers[headerVersion] = strconv.Itoa(version)
	}
}

// payloadVersion is 0 when it is not known.
func payloadVersion(headers map[string]string) int {
	version, err := strconv.Atoi(headers[headerVersion])
	if err != nil && headers[headerIncarnation] != "" {
		return 1
	}
	return max(version, 0)
}

func (c call) firstState() jobs.State {
	if c.delayed {
		return jobs.StateScheduled
	}
	return jobs.StatePending
}

func (s *Store) handle(c call, state jobs.State, duplicate bool) jobs.Handle {
	return jobs.NewHandle(s, jobs.Handle{
		Queue: c.job.Queue, Key: c.job.Key, Kind: c.job.Kind, Incarnation: c.incarnation, State: state, Duplicate: duplicate,
	})
}

// resolve finds out what a call that came back with an error did: known is false
// when the job is not there, so that the call can be made again.
func (s *Store) resolve(ctx context.Context, c call) (handle jobs.Handle, known bool, err error) {
	flat, err := s.rdb.HGetAll(ctx, taskKey(c.job.Queue, c.job.Key)).Result()
	if err != nil {
		return handle, false, unreachable(err)
	}
	h := hash(flat)
	if _, there := h["msg"]; !there {
		return handle, false, nil
	}
	m, err := readMessage(c.job.Key, []byte(h["msg"]))
	if err != nil {
		return handle, true, fmt.Errorf("enqueue %s/%s: %w", c.job.Queue, c.job.Key, errors.Join(jobs.ErrOtherPayload, err))
	}
	if m.Headers[headerNonce] == c.nonce {
		return s.handle(c, c.firstState(), false), true, nil
	}
	digest := m.Headers[headerDigest]
	if digest == "" {
		digest = jobs.Digest(m.Type, m.Payload)
	}
	if m.Type != c.job.Kind || digest != c.job.Digest {
		return handle, true, fmt.Errorf("enqueue %s/%s, first accepted as kind %s: %w", c.job.Queue, c.job.Key, m.Type, jobs.ErrOtherPayload)
	}
	c.incarnation = incarnation(m, h)
	return s.handle(c, h.state(), true), true, nil
}

// EnqueueMany implements [jobs.Client], 64 at a time.
func (s *Store) EnqueueMany(ctx context.Context, many []jobs.Job) []jobs.Enqueued {
	results := make([]jobs.Enqueued, len(many))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(64, len(many)) {
		workers.Go(func() {
			for i := range next {
				results[i].Handle, results[i].Err = s.Enqueue(ctx, many[i])
			}
		})
	}
	for i := range many {
		next <- i
	}
	close(next)
	workers.Wait()
	return results
}

// sleep waits unless the context ends first; it reports whether it waited.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
