package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/deadletter"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

func TestMain(m *testing.M) { redistest.Main(m) }

// fakeStore keeps jobs in memory, in one queue's order.
type fakeStore struct {
	mu       sync.Mutex
	jobs     map[string]jobs.Info
	digests  map[string]string
	seen     []jobs.Job
	events   []store.Event
	signals  []jobs.Signal
	paused   map[string]bool
	kinds    map[string]delivery.PublishedKind
	services []delivery.DependencyInfo
	fail     error // returned by everything when set
	panics   any
	redisOnly
}

// redisOnly is what only tests on Redis use.
type redisOnly struct {
	deadletter.Entries
	deadletter.Decisions
	Groups
	ReplayPlans
	editing
	DependencyViews
	Breakers
}

type editing interface {
	ReplayEdited(ctx context.Context, queue, key string, payload []byte, fromStart bool, by jobs.Decision) (jobs.Info, error)
}

func newFake() *fakeStore {
	return &fakeStore{
		jobs: map[string]jobs.Info{}, digests: map[string]string{}, paused: map[string]bool{},
		kinds: map[string]delivery.PublishedKind{
			"remote": {Name: "remote", Queue: "default", Version: 1, Timeout: time.Minute, Retention: time.Hour, MaxPayload: 100},
		},
	}
}

func (f *fakeStore) lock() func() {
	f.mu.Lock()
	if f.panics != nil {
		f.mu.Unlock()
		panic(f.panics)
	}
	return f.mu.Unlock
}

func (f *fakeStore) Enqueue(_ context.Context, job jobs.Job) (jobs.Handle, error) {
	defer f.lock()()
	if f.fail != nil {
		return jobs.Handle{}, f.fail
	}
	if err := job.Err(); err != nil {
		return jobs.Handle{}, err
	}
	at := job.Queue + "/" + job.Key
	h := jobs.Handle{Queue: job.Queue, Key: job.Key, Kind: job.Kind, Incarnation: "i", State: jobs.StatePending}
	if digest, taken := f.digests[at]; taken {
		if digest != job.Digest {
			return h, fmt.Errorf("enqueue %s: %w", at, jobs.ErrOtherPayload)
		}
		h.Duplicate, h.State = true, f.jobs[at].State
		return h, nil
	}
	f.seen = append(f.seen, job)
	f.digests[at] = job.Digest
	f.jobs[at] = jobs.Info{Queue: job.Queue, Key: job.Key, Kind: job.Kind, State: jobs.StatePending, Steps: []jobs.StepInfo{}, Failures: []jobs.Failure{}}
	return h, nil
}

func (f *fakeStore) EnqueueMany(context.Context, []jobs.Job) []jobs.Enqueued { return nil }

func (f *fakeStore) Get(_ context.Context, queue, key string) (jobs.Info, error) {
	defer f.lock()()
	info, ok := f.jobs[queue+"/"+key]
	if f.fail == nil && !ok {
		return info, fmt.Errorf("get %s/%s: %w", queue, key, jobs.ErrNotFound)
	}
	return info, f.fail
}

func (f *fakeStore) List(_ context.Context, q jobs.Query) (jobs.Page, error) {
	defer f.lock()()
	page := jobs.Page{}
	for _, at := range sortedKeys(f.jobs) {
		info := f.jobs[at]
		if at <= q.Cursor || q.State != "" && q.State != info.State || q.Queue != "" && q.Queue != info.Queue || q.Kind != "" && q.Kind != info.Kind {
			continue
		}
		if len(page.Jobs) == q.Limit {
			page.Next = page.Jobs[q.Limit-1].Queue + "/" + page.Jobs[q.Limit-1].Key
			break
		}
		page.Jobs = append(page.Jobs, info)
	}
	return page, f.fail
}

func (f *fakeStore) Wait(ctx context.Context, queue, key string) (jobs.Info, error) {
	info, err := f.Get(ctx, queue, key)
	if err != nil || info.State.Ended() {
		return info, err
	}
	<-ctx.Done()
	return info, ctx.Err()
}

func (f *fakeStore) change(queue, key, what string, by jobs.Decision, from, to jobs.State) (jobs.Info, error) {
	defer f.lock()()
	info, ok := f.jobs[queue+"/"+key]
	switch {
	case f.fail != nil:
		return info, f.fail
	case !ok:
		return info, jobs.ErrNotFound
	case from != "" && info.State != from:
		return info, jobs.ErrConflict
	}
	info.State = to
	f.jobs[queue+"/"+key] = info
	f.events = append(f.events, store.Event{Queue: queue, Key: key, What: what, Actor: by.Actor, Reason: by.Reason})
	return info, nil
}

func (f *fakeStore) Signal(_ context.Context, queue, key string, signal jobs.Signal) error {
	if err := signal.Check(); err != nil {
		return err
	}
	defer f.lock()()
	info, known := f.jobs[queue+"/"+key]
	switch {
	case f.fail != nil:
		return f.fail
	case !known:
		return jobs.ErrNotFound
	case info.State.Ended():
		return jobs.ErrConflict
	}
	f.signals = append(f.signals, signal)
	return nil
}

func (f *fakeStore) Cancel(_ context.Context, queue, key string, by jobs.Decision) (jobs.Info, error) {
	return f.change(queue, key, "cancel", by, "", jobs.StateCancelled)
}

func (f *fakeStore) Pause(_ context.Context, queue, key string, by jobs.Decision) (jobs.Info, error) {
	return f.change(queue, key, "pause", by, "", jobs.StatePaused)
}

func (f *fakeStore) Resume(_ context.Context, queue, key string, by jobs.Decision) (jobs.Info, error) {
	return f.change(queue, key, "resume", by, jobs.StatePaused, jobs.StatePending)
}

func (f *fakeStore) Replay(_ context.Context, queue, key string, fromStart bool, by jobs.Decision) (jobs.Info, error) {
	return f.change(queue, key, fmt.Sprintf("replay from start %v", fromStart), by, jobs.StateQuarantined, jobs.StatePending)
}

func (f *fakeStore) Discard(_ context.Context, queue, key string, by jobs.Decision) (jobs.Info, error) {
	return f.change(queue, key, "discard", by, jobs.StateQuarantined, jobs.StateCancelled)
}

func (f *fakeStore) Erase(_ context.Context, queue, key string, by jobs.Decision) (jobs.Info, error) {
	return f.change(queue, key, "erase", by, jobs.StateQuarantined, jobs.StateQuarantined)
}

func (f *fakeStore) DeadRecord(ctx context.Context, queue, key string) (delivery.DeadRecord, error) {
	info, err := f.Get(ctx, queue, key)
	r := delivery.DeadRecord{Job: info, Payload: []byte(`{"secret":1}`), Headers: map[string]string{"secret": "x"}, Edits: []delivery.Edit{}}
	r.Reason = "of " + key
	return r, err
}

func (f *fakeStore) Dead(ctx context.Context, q delivery.DeadQuery) (delivery.DeadPage, error) {
	found, err := f.List(ctx, jobs.Query{Queue: q.Queue, Kind: q.Filter.Kind, State: jobs.StateQuarantined, Limit: q.Limit, Cursor: q.Cursor})
	page := delivery.DeadPage{Entries: []delivery.Dead{}, Next: found.Next}
	for _, info := range found.Jobs {
		page.Entries = append(page.Entries, delivery.Dead{Queue: info.Queue, Key: info.Key, Entry: delivery.Entry{Kind: info.Kind, Reason: "of " + info.Key}})
	}
	return page, err
}

func (f *fakeStore) Queues(context.Context) ([]string, error) { return []string{"default"}, f.fail }

func (f *fakeStore) QueueInfo(_ context.Context, queue string) (store.QueueInfo, error) {
	defer f.lock()()
	return store.QueueInfo{Queue: queue, Paused: f.paused[queue], Reasons: map[string]string{"operator": "<b>ann</b>: why"}}, f.fail
}

func (f *fakeStore) PauseQueue(_ context.Context, queue string, by jobs.Decision) error {
	defer f.lock()()
	if queue != "default" {
		return jobs.ErrNotFound
	}
	f.paused[queue] = true
	f.events = append(f.events, store.Event{Queue: queue, What: "pause queue", Actor: by.Actor, Reason: by.Reason})
	return f.fail
}

func (f *fakeStore) ResumeQueue(_ context.Context, queue string, by jobs.Decision) (bool, error) {
	defer f.lock()()
	f.paused[queue] = false
	return true, f.fail
}

func (f *fakeStore) Events(_ context.Context, queue string, limit int) ([]store.Event, error) {
	defer f.lock()()
	return f.events[:min(len(f.events), limit)], f.fail
}

func (f *fakeStore) DependenciesInUse(context.Context) ([]delivery.DependencyInfo, error) {
	defer f.lock()()
	return f.services, f.fail
}

func (f *fakeStore) DependencyEvents(context.Context, int) ([]store.Event, error) { return nil, f.fail }

func (f *fakeStore) Kinds(context.Context) (map[string]delivery.PublishedKind, error) {
	return f.kinds, f.fail
}

func (f *fakeStore) KindDefinition(_ context.Context, name string) (jobs.Definition, error) {
	kind, ok := f.kinds[name]
	if f.fail == nil && !ok {
		return jobs.Definition{}, jobs.ErrUnknownKind
	}
	return jobs.Definition{Name: kind.Name, Queue: kind.Queue, Retention: kind.Retention, Timeout: kind.Timeout, MaxPayload: kind.MaxPayload}, f.fail
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// order is a payload that checks itself.
type order struct {
	Amount int    `json:"amount"`
	Note   string `json:"note"`
}

func (o order) Validate() error {
	if o.Note == "panic" {
		panic("the note: " + o.Note)
	}
	if o.Amount < 0 {
		return fmt.Errorf("amount %d is below 0", o.Amount)
	}
	return nil
}

var fulfil = jobs.Define[order, string]("order.fulfil", jobs.Queue("orders"), jobs.MaxPayload(1000))

func fulfilHandler() jobs.Handler {
	return fulfil.Do(func(context.Context, order) (string, error) { return "", nil })
}

// logBuffer is a log that tests read.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func newAPI(t testing.TB, o Options) http.Handler {
	t.Helper()
	if o.Store == nil {
		o.Store = newFake()
	}
	if o.Handlers == nil {
		o.Handlers = []jobs.Handler{fulfilHandler()}
	}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// request makes one as curl would: addressed to this machine, with JSON.
func request(method, target, body string) *http.Request {
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, reader)
	r.Host = "127.0.0.1:8080"
	if method == http.MethodPost || method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

type reply struct {
	*httptest.ResponseRecorder
	text string
}

func do(h http.Handler, r *http.Request) reply {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return reply{w, w.Body.String()}
}

func call(h http.Handler, method, target, body string) reply {
	return do(h, request(method, target, body))
}

func (r reply) decode(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.text), v); err != nil {
		t.Fatalf("answer %d %q: %v", r.Code, r.text, err)
	}
}

func (r reply) problem(t testing.TB) problem {
	t.Helper()
	var p problem
	r.decode(t, &p)
	if kind := r.Header().Get("Content-Type"); kind != "application/problem+json" || p.Status != r.Code || p.Type == "" || p.Title == "" {
		t.Errorf("answer %d with Content-Type %q is no problem: %s", r.Code, kind, r.text)
	}
	return p
}
