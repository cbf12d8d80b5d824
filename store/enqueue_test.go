package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
)

func TestEnqueueNew(t *testing.T) {
	t.Parallel()
	f := open(t)
	h := f.enqueue("k")
	if h.Duplicate || h.State != jobs.StatePending || h.Incarnation == "" || h.Kind != "kind.a" || h.Queue != "q" || h.Key != "k" {
		t.Errorf("handle %+v", h)
	}
	want := []string{
		"+asynq:queues=q", "+asynq:{q}:pending=k", "+asynq:{q}:t:k msg", "+asynq:{q}:t:k pending_since=<time>", "+asynq:{q}:t:k state=pending",
		"+perdure:{q}:tenants=-",
	}
	if got := changes(nil, f.dump()); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("wrote %q", got)
	}
	info, err := f.Get(f.ctx, "q", "k")
	f.ok(err)
	if info.Incarnation != h.Incarnation || time.Since(info.EnqueuedAt).Abs() > time.Minute {
		t.Errorf("info %+v", info)
	}
}

func TestEnqueueOnATakenKey(t *testing.T) {
	t.Parallel()
	same := json.RawMessage(` { "b":2.0, "a":1 } `)
	for _, c := range []struct {
		name    string
		arrange func(f *fixture)
		job     jobs.Job
		state   jobs.State // of the duplicate; empty: ErrOtherPayload
	}{
		{"members reordered", func(f *fixture) { f.enqueue("k") }, jobs.Raw(kindA, "k", same), jobs.StatePending},
		{"other payload", func(f *fixture) { f.enqueue("k") }, jobs.Raw(kindA, "k", json.RawMessage(`{"a":1}`)), ""},
		{"other kind", func(f *fixture) { f.enqueue("k") }, jobs.Raw(kindB, "k", same), ""},
		{"running", func(f *fixture) { f.running("k") }, jobs.Raw(kindA, "k", same), jobs.StateRunning},
		{"quarantined", func(f *fixture) { f.quarantined("k") }, jobs.Raw(kindA, "k", same), jobs.StateQuarantined},
		{"completed", func(f *fixture) { f.settle(f.running("k"), delivery.Complete) }, jobs.Raw(kindA, "k", same), jobs.StateCompleted},
		{"cancelled", func(f *fixture) { f.settle(f.running("k"), delivery.Cancel) }, jobs.Raw(kindA, "k", same), jobs.StateCancelled},
		{"paused", func(f *fixture) { f.settle(f.running("k"), delivery.Pause) }, jobs.Raw(kindA, "k", same), jobs.StatePaused},
		{"stock task", func(f *fixture) { f.stock("k", "kind.a", `{"a":1,"b":2}`) }, jobs.Raw(kindA, "k", same), jobs.StatePending},
		{"stock task of another type", func(f *fixture) { f.stock("k", "kind.b", `{"a":1,"b":2}`) }, jobs.Raw(kindA, "k", same), ""},
		{"undecodable", func(f *fixture) { f.enqueue("k"); f.rdb.HSet(f.ctx, taskKey("q", "k"), "msg", "\xff") }, jobs.Raw(kindA, "k", same), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			c.arrange(f)
			f.ok(f.registerTenant(f.ctx, "q", "")) // a stock producer has not
			before := f.dump()
			first, _ := f.Get(f.ctx, "q", "k")
			h, err := f.Enqueue(f.ctx, c.job)
			f.same(before, "the second call")
			if c.state == "" {
				if !errors.Is(err, jobs.ErrOtherPayload) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || !h.Duplicate || h.State != c.state || h.Incarnation != first.Incarnation {
				t.Errorf("handle %+v, error %v", h, err)
			}
		})
	}
}

// stock enqueues a task as a producer that does not know perdure.
func (f *fixture) stock(key, kind, payload string, options ...asynq.Option) {
	f.t.Helper()
	client := asynq.NewClientFromRedisClient(f.rdb)
	_, err := client.Enqueue(asynq.NewTask(kind, []byte(payload)), append(options, asynq.TaskID(key), asynq.Queue("q"))...)
	f.ok(err)
}

// lostReply lets one enqueue script run, and then reports an error instead of its
// answer.
type lostReply struct{ left atomic.Int32 }

var errCut = errors.New("connection cut")

func (l *lostReply) DialHook(next redis.DialHook) redis.DialHook { return next }

func (l *lostReply) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (l *lostReply) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		sent := strings.HasPrefix(cmd.Name(), "eval") && strings.Contains(fmt.Sprint(cmd.Args()...), "asynq:{q}:t:")
		if sent && err == nil && l.left.Add(-1) >= 0 {
			cmd.SetErr(errCut)
			return errCut
		}
		return err
	}
}

func TestEnqueueWhoseReplyIsLost(t *testing.T) {
	t.Parallel()
	for _, state := range []jobs.State{jobs.StatePending, jobs.StateScheduled} {
		f := open(t)
		hook := &lostReply{}
		hook.left.Store(1)
		f.rdb.(*redis.Client).AddHook(hook)
		var options []jobs.JobOption
		if state == jobs.StateScheduled {
			options = append(options, jobs.Delay(time.Hour))
		}
		h := f.enqueue("k", options...)
		if hook.left.Load() > 0 {
			t.Fatal("no reply was lost")
		}
		if h.Duplicate || h.State != state {
			t.Errorf("handle %+v", h)
		}
		info, err := f.Get(f.ctx, "q", "k")
		f.ok(err)
		queue, err := f.QueueInfo(f.ctx, "q")
		f.ok(err)
		if info.Incarnation != h.Incarnation || queue.Pending+queue.Scheduled != 1 {
			t.Errorf("job %+v, queue %+v", info, queue)
		}
	}
}

func TestEnqueueGivesUp(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.rdb.(*redis.Client).AddHook(failing{errCut})
	_, err := f.Enqueue(f.ctx, jobs.Raw(kindA, "k", nil))
	if !errors.Is(err, jobs.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
}

// failing refuses every script.
type failing struct{ err error }

func (h failing) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h failing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h failing) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if strings.HasPrefix(cmd.Name(), "eval") {
			cmd.SetErr(h.err)
			return h.err
		}
		return next(ctx, cmd)
	}
}

func TestEnqueueMany(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.enqueue("taken")
	f.enqueue("other")
	var many []jobs.Job
	for i := range 100 {
		many = append(many, jobs.Raw(kindA, fmt.Sprintf("new:%d", i), nil))
	}
	many[10] = jobs.Raw(kindA, "taken", json.RawMessage(`{"b":2,"a":1}`))
	many[20] = jobs.Raw(kindA, "other", json.RawMessage(`{}`))
	many[30] = jobs.Raw(kindA, "bad key", nil)
	for i, got := range f.EnqueueMany(f.ctx, many) {
		switch i {
		case 10:
			if got.Err != nil || !got.Handle.Duplicate || got.Handle.Key != "taken" {
				t.Errorf("taken: %+v", got)
			}
		case 20:
			if !errors.Is(got.Err, jobs.ErrOtherPayload) {
				t.Errorf("other: %+v", got)
			}
		case 30:
			if !errors.Is(got.Err, jobs.ErrInvalid) {
				t.Errorf("bad: %+v", got)
			}
		default:
			if got.Err != nil || got.Handle.Duplicate || got.Handle.Key != fmt.Sprintf("new:%d", i) {
				t.Errorf("%d: %+v", i, got)
			}
		}
	}
	if n := f.rdb.LLen(f.ctx, pendingKey("q")).Val(); n != 99 {
		t.Errorf("%d jobs", n)
	}
	if got := f.EnqueueMany(f.ctx, nil); len(got) != 0 {
		t.Errorf("of none: %v", got)
	}
}

func TestEnqueueLater(t *testing.T) {
	t.Parallel()
	f := open(t)
	at := time.Now().Add(time.Hour).Truncate(time.Second)
	for _, c := range []struct {
		key    string
		option jobs.JobOption
		due    time.Time
	}{
		{"at", jobs.At(at), at},
		{"at:fraction", jobs.At(at.Add(time.Nanosecond)), at.Add(time.Second)},
	} {
		if h := f.enqueue(c.key, c.option); h.State != jobs.StateScheduled {
			t.Errorf("%s: %+v", c.key, h)
		}
		if info, _ := f.Get(f.ctx, "q", c.key); !info.DueAt.Equal(c.due) || info.State != jobs.StateScheduled {
			t.Errorf("%s is due %v, want %v", c.key, info.DueAt, c.due)
		}
	}
	before := time.Now()
	f.enqueue("delay", jobs.Delay(1500*time.Millisecond))
	if info, _ := f.Get(f.ctx, "q", "delay"); info.DueAt.Before(before.Add(1500*time.Millisecond)) || info.DueAt.After(time.Now().Add(2500*time.Millisecond)) {
		t.Errorf("delayed until %v, from %v", info.DueAt, before)
	}
	if h := f.enqueue("past", jobs.At(time.Unix(1, 0))); h.State != jobs.StatePending {
		t.Errorf("in the past: %+v", h)
	}
}

func TestEnqueueCarriesEverything(t *testing.T) {
	t.Parallel()
	f := open(t)
	deadline := time.Now().Add(time.Hour).Truncate(time.Second)
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, 2, 3}, SpanID: trace.SpanID{4, 5}, TraceFlags: trace.FlagsSampled})
	ctx := trace.ContextWithSpanContext(f.ctx, parent)
	h, err := f.Enqueue(ctx, jobs.Raw(kindA, "k", json.RawMessage(`[1]`), jobs.Header("X-Shop", "7"), jobs.Tenant("acme"),
		jobs.Deadline(deadline), jobs.Retention(time.Hour)))
	f.ok(err)
	d := f.take()
	want := map[string]string{"X-Shop": "7", "traceparent": "00-01020300000000000000000000000000-0405000000000000-01"}
	if !maps.Equal(d.Headers, want) {
		t.Errorf("headers %v", d.Headers)
	}
	if d.Tenant != "acme" || !d.Deadline.Equal(deadline) || d.Retention != time.Hour || d.Timeout != jobs.DefaultTimeout || string(d.Payload) != "[1]" ||
		d.Incarnation != h.Incarnation || d.Kind != "kind.a" || d.MaxAttempts != 0 {
		t.Errorf("delivery %+v", d)
	}
	if info, _ := f.Get(f.ctx, "q", "k"); info.Tenant != "acme" {
		t.Errorf("info %+v", info)
	}
}

func TestEnqueueRefusesBadJobs(t *testing.T) {
	t.Parallel()
	f := open(t)
	for _, job := range []jobs.Job{
		jobs.Raw(kindA, "", nil), jobs.Raw(kindA, "k", nil, jobs.Queue("Q")), jobs.Raw(kindA, "k", json.RawMessage(`{`)), jobs.Raw(jobs.Definition{}, "k", nil),
	} {
		if _, err := f.Enqueue(f.ctx, job); !errors.Is(err, jobs.ErrInvalid) {
			t.Errorf("%+v: error %v", job, err)
		}
	}
	f.same(keyspace{}, "refused jobs")
}

func TestEnqueueOneKeyAHundredTimes(t *testing.T) {
	t.Parallel()
	f := open(t)
	var first atomic.Int32
	incarnations := sync.Map{}
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			h, err := f.Enqueue(f.ctx, jobs.Raw(kindA, "k", json.RawMessage(`{"a":1}`)))
			if err != nil {
				t.Error(err)
				return
			}
			incarnations.Store(h.Incarnation, true)
			if !h.Duplicate {
				first.Add(1)
			}
		})
	}
	all.Wait()
	n := 0
	incarnations.Range(func(_, _ any) bool { n++; return true })
	if first.Load() != 1 || n != 1 || f.rdb.LLen(f.ctx, pendingKey("q")).Val() != 1 {
		t.Errorf("%d firsts, %d incarnations", first.Load(), n)
	}
}

func TestConnect(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s, err := Connect(ctx, redistest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Ping(ctx), s.Register(ctx, "b", "a")); err != nil {
		t.Error(err)
	}
	if queues, err := s.Queues(ctx); err != nil || fmt.Sprint(queues) != "[a b]" {
		t.Errorf("queues %v, %v", queues, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Ping(ctx); !errors.Is(err, jobs.ErrUnavailable) {
		t.Errorf("closed: %v", err)
	}
	_, err = Connect(ctx, "redis://user:hunter2@127.0.0.1:1/0")
	if !errors.Is(err, jobs.ErrUnavailable) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("nobody there: %v", err)
	}
}

func TestARefusalOfRedisIsNoUnreachableRedis(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.rdb.(*redis.Client).AddHook(failing{errors.New("OOM command not allowed when used memory > 'maxmemory'.")})
	_, err := f.Enqueue(f.ctx, jobs.Raw(kindA, "k", nil))
	if err == nil || errors.Is(err, jobs.ErrUnavailable) || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("error %v", err)
	}
}
