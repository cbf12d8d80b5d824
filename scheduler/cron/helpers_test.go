package cron

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

func TestMain(m *testing.M) { redistest.Main(m) }

var by = jobs.Decision{Actor: "ada", Reason: "because"}

// clock is the time of a test: Redis' time when it began, and as it was moved since.
type clock struct{ ms atomic.Int64 }

func (c *clock) now() time.Time          { return time.UnixMilli(c.ms.Load()).UTC() }
func (c *clock) forward(d time.Duration) { c.ms.Add(d.Milliseconds()) }

// bench is a Redis with runners on a clock that the test moves.
type bench struct {
	t       testing.TB
	ctx     context.Context
	options *redis.Options
	rdb     *redis.Client
	store   *store.Store
	clock   clock
}

func newBench(t testing.TB) *bench {
	options := redistest.Options(t)
	rdb := redis.NewClient(options)
	t.Cleanup(func() { _ = rdb.Close() })
	b := &bench{t: t, ctx: context.Background(), options: options, rdb: rdb, store: store.New(rdb, rdb)}
	_, now, err := b.store.ScheduleChanges(b.ctx)
	b.ok(err)
	b.clock.ms.Store(now.Add(time.Minute).Truncate(time.Minute).UnixMilli())
	b.publish("work")
	return b
}

func (b *bench) ok(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) publish(kinds ...string) {
	b.t.Helper()
	for _, kind := range kinds {
		d := jobs.Define[int, int](kind, jobs.Queue("q")).Definition()
		b.ok(b.store.Publish(b.ctx, []delivery.PublishedKind{{
			Name: d.Name, Queue: d.Queue, Version: 1, Timeout: d.Timeout, Retention: d.Retention, MaxPayload: d.MaxPayload,
		}}))
	}
}

// add defines a schedule of the API on the test's clock.
func (b *bench) add(t jobs.Timetable) {
	b.t.Helper()
	_, err := Parse(t)
	b.ok(err)
	_, err = b.store.DefineSchedule(b.ctx, t, delivery.FromAPI, b.clock.now(), by)
	b.ok(err)
}

func (b *bench) runner(code ...jobs.Timetable) *Runner {
	b.t.Helper()
	r, err := New(b.store, Options{Code: code, Clock: b.clock.now})
	b.ok(err)
	return r
}

func (b *bench) turn(r *Runner) {
	b.t.Helper()
	_, err := r.Turn(b.ctx)
	b.ok(err)
}

// pass moves the clock on in seconds, with a turn at each.
func (b *bench) pass(r *Runner, d time.Duration) {
	b.t.Helper()
	for range d / time.Second {
		b.clock.forward(time.Second)
		b.turn(r)
	}
}

// take takes all pending jobs off the queue, as if each had run, ended and been
// forgotten.
func (b *bench) take() (keys []string) {
	b.t.Helper()
	for {
		key, err := b.rdb.RPop(b.ctx, "asynq:{q}:pending").Result()
		if errors.Is(err, redis.Nil) {
			return keys
		}
		b.ok(err)
		b.ok(b.rdb.Del(b.ctx, "asynq:{q}:t:"+key).Err())
		keys = append(keys, key)
	}
}

func (b *bench) schedule(name string) delivery.Scheduled {
	b.t.Helper()
	s, err := b.store.Schedule(b.ctx, name)
	b.ok(err)
	return s
}

func (b *bench) ticks(name string) []delivery.TickRecord {
	b.t.Helper()
	ticks, err := b.store.ScheduleTicks(b.ctx, name, 1000)
	b.ok(err)
	return ticks
}

// mortal kills the process that uses a connection: from one call on, none is
// answered, and that one is executed or not.
type mortal struct {
	mu    sync.Mutex
	left  int  // calls until then
	after bool // the last one is executed
}

// errKilled is no error of a connection, so that nobody takes time to try again: the
// process is gone.
var errKilled = errors.New("killed")

func (m *mortal) DialHook(next redis.DialHook) redis.DialHook { return next }

func (m *mortal) call() (send, answer bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left--
	return m.left > 0 || m.left == 0 && m.after, m.left > 0
}

func (m *mortal) dead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.left <= 0
}

func (m *mortal) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		send, answer := m.call()
		if !send {
			cmd.SetErr(errKilled)
			return errKilled
		}
		if err := next(ctx, cmd); answer {
			return err
		}
		cmd.SetErr(errKilled)
		return errKilled
	}
}

func (m *mortal) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if send, _ := m.call(); !send {
			return errKilled
		}
		return next(ctx, cmds)
	}
}

func contextWithCancel(b *bench) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(b.ctx)
	b.t.Cleanup(cancel)
	return ctx, cancel
}
