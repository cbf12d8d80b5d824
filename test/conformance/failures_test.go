package conformance

// The tests in failures_*_test.go put stock asynq v0.26 and perdure into the same
// trouble, side by side, with the same handler wherever that is possible: each
// half asserts what really happens there. docs/asynq-failures.md is their table.
//
// Where asynq needs more than a minute to go wrong (its lease of 30 s, another
// 30 s of patience, a look every 60 s), the wait is left out by setting the
// lease's score into the past: that is what Redis would hold by then. See lapse.

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/scheduler"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/worker"
)

// The calls that tests meddle with: perdure's by their script's name, asynq's by
// the names of their keys.
const (
	stockDequeue = "pending paused active lease"
	stockDone    = "active lease t processed processed"
	stockRetry   = "t active lease retry processed failed processed failed"
	stockExpired = "lease" // what the recoverer looks for
	stockForward = "retry pending"
	stockJanitor = "completed"
)

// errLink is what go-redis says when the link breaks.
var errLink = &net.OpError{Op: "read", Net: "tcp", Err: errors.New("i/o timeout")}

// link is the way of one process to Redis.
type link struct {
	cut   atomic.Bool  // nothing goes through
	ahead atomic.Int64 // how far the process's clock is ahead, in ns

	mu     sync.Mutex
	faults map[string]fault
	made   map[string][]made
}

// made is a call that Redis was sent, and its answer.
type made struct {
	answer any
	err    error
}

// fault decides about one call: send makes it. It is used up once done is true.
type fault func(ctx context.Context, send func(context.Context) (any, error)) (err error, done bool)

func (l *link) on(call string, f fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults[call] = f
}

func (l *link) take(call string) fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.faults[call]
	delete(l.faults, call)
	return f
}

// calls returns those that Redis was sent so far.
func (l *link) calls(call string) []made {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]made(nil), l.made[call]...)
}

// answered waits until n calls have been answered and returns the last of them.
func (l *link) answered(t *testing.T, call string, n int) made {
	t.Helper()
	eventually(t, fmt.Sprintf("%q is answered %d times", call, n), func() bool { return len(l.calls(call)) >= n })
	return l.calls(call)[n-1]
}

// fail makes the next call fail before it reaches Redis.
func (l *link) fail(call string) {
	l.on(call, func(context.Context, func(context.Context) (any, error)) (error, bool) { return errLink, true })
}

// lose makes the next call that brings a job run, and its answer get lost.
func (l *link) lose(call string) {
	l.on(call, func(ctx context.Context, send func(context.Context) (any, error)) (error, bool) {
		switch answer, err := send(ctx); v := answer.(type) {
		case string: // asynq's: the message
			return errors.Join(err, errLink), true
		case []any: // perdure's: some numbers, then the jobs
			if _, job := v[len(v)-1].([]any); job {
				return errLink, true
			}
			return err, false
		default:
			return err, false
		}
	})
}

// hold keeps the bytes of the next call on the wire, and returns a channel that
// is closed when they are there, and what lets them arrive at last. Nobody's
// deadline calls them back. At the test's end they arrive in any case.
func (l *link) hold(t *testing.T, call string) (onTheWire <-chan struct{}, deliver func()) {
	there, release := make(chan struct{}), make(chan struct{})
	arrive := sync.OnceFunc(func() { close(there) })
	l.on(call, func(ctx context.Context, send func(context.Context) (any, error)) (error, bool) {
		arrive()
		untilOver(t, release)
		_, err := send(context.WithoutCancel(ctx))
		return err, true
	})
	return there, sync.OnceFunc(func() { close(release) })
}

// again makes the next call run, and be sent once more, as go-redis does when it
// did not see the answer, after the time that the channel says.
func (l *link) again(t *testing.T, call string, after <-chan struct{}) {
	l.on(call, func(ctx context.Context, send func(context.Context) (any, error)) (error, bool) {
		if _, err := send(ctx); err != nil {
			return err, false
		}
		untilOver(t, after)
		_, err := send(context.WithoutCancel(ctx))
		return err, true
	})
}

// untilOver waits for a signal, and no longer than the test lasts.
func untilOver(t *testing.T, signal <-chan struct{}) {
	select {
	case <-signal:
	case <-t.Context().Done():
	}
}

func (l *link) DialHook(next redis.DialHook) redis.DialHook { return next }

func (l *link) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		call := callOf(cmd)
		l.shift(cmd)
		send := func(ctx context.Context) (any, error) {
			err := next(ctx, cmd)
			answer := any(nil)
			if c, ok := cmd.(*redis.Cmd); ok && err == nil {
				answer = c.Val()
			}
			if call != "" && !redis.HasErrorPrefix(err, "NOSCRIPT") {
				l.mu.Lock()
				l.made[call] = append(l.made[call], made{answer, err})
				l.mu.Unlock()
			}
			return answer, err
		}
		if f := l.take(call); f != nil {
			err, done := f(ctx, send)
			if !done || redis.HasErrorPrefix(err, "NOSCRIPT") { // then the script itself follows
				l.on(call, f)
			}
			return err
		}
		if l.cut.Load() {
			return errLink
		}
		_, err := send(ctx)
		return err
	}
}

func (l *link) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !l.cut.Load() {
			return next(ctx, cmds)
		}
		for _, cmd := range cmds {
			cmd.SetErr(errLink)
		}
		return errLink
	}
}

// shift makes every time that a script is told one of the process's own clock.
func (l *link) shift(cmd redis.Cmder) {
	ahead := l.ahead.Load()
	name := strings.ToLower(cmd.Name())
	if ahead == 0 || name != "evalsha" && name != "eval" {
		return
	}
	for i, arg := range cmd.Args() {
		n, ok := arg.(int64)
		for _, unit := range []time.Duration{time.Second, time.Millisecond, time.Nanosecond} {
			if now := time.Now().UnixNano() / int64(unit); ok && n > now/10*9 && n < now/10*11 {
				cmd.Args()[i] = n + ahead/int64(unit)
			}
		}
	}
}

// callOf names a script.
func callOf(cmd redis.Cmder) string {
	args := cmd.Args()
	name := strings.ToLower(cmd.Name())
	if name != "evalsha" && name != "eval" || len(args) < 3 {
		return ""
	}
	sha, _ := args[1].(string)
	if name == "eval" {
		sum := sha1.Sum([]byte(sha))
		sha = hex.EncodeToString(sum[:])
	}
	if script := store.ScriptName(sha); script != "" {
		return script
	}
	count, _ := args[2].(int)
	var keys []string
	for _, arg := range args[3 : 3+count] {
		key, _ := arg.(string)
		_, key, _ = strings.Cut(key, "}:")
		key, _, _ = strings.Cut(key, ":")
		keys = append(keys, key)
	}
	return strings.Join(keys, " ")
}

// process is one of several processes on a side's database.
type process struct {
	*side
	link *link
}

// process returns one more process, with connections of its own: asynq's as
// asynq makes them, perdure's as store.Connect does.
func (s *side) process(t *testing.T, options ...func(*redis.Options)) process {
	t.Helper()
	o := &redis.Options{Addr: s.rdb.Options().Addr, DB: s.rdb.Options().DB}
	for _, option := range options {
		option(o)
	}
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	l := &link{faults: map[string]fault{}, made: map[string][]made{}}
	rdb.AddHook(l)
	return process{sideOn(rdb), l}
}

func asConnect(o *redis.Options) { o.MaxRetries, o.ContextTimeoutEnabled = -1, true }

// quick are settings of asynq's server with which what can be quick is quick.
func quick(c *asynq.Config) {
	c.RetryDelayFunc = func(int, error, *asynq.Task) time.Duration { return 0 }
	c.DelayedTaskCheckInterval, c.JanitorInterval = 100*time.Millisecond, 200*time.Millisecond
	c.ShutdownTimeout = 100 * time.Millisecond
}

// quickly runs the same asynq handler in perdure's worker, as quick does.
func quickly(h asynq.Handler) worker.Options {
	f := perdure.FromAsynq(h, jobs.Retry(jobs.Fixed(10*time.Millisecond, 100)))
	return worker.Options{
		Fallback: &f, Queues: map[string]int{"default": 1}, Concurrency: 4, Log: slog.New(slog.DiscardHandler),
		ShutdownTimeout: 100 * time.Millisecond, Grace: 50 * time.Millisecond,
	}
}

// keeper runs a scheduler alone. It takes over from dead workers only after a
// while of contact of its own, so tests that need it start it first.
func (s *side) keeper(t *testing.T) {
	t.Helper()
	k, err := scheduler.New(store.New(s.rdb, s.rdb), scheduler.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = k.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
}

// add enqueues a task as a stock producer does, to be forgotten when it is done.
func (s *side) add(t *testing.T, id, payload string, options ...asynq.Option) {
	t.Helper()
	if _, err := s.client.Enqueue(asynq.NewTask("kind.a", []byte(payload)), append([]asynq.Option{asynq.TaskID(id)}, options...)...); err != nil {
		t.Fatal(err)
	}
}

// lapse makes a task's lease one that ended long ago.
func (s *side) lapse(t *testing.T, id string) {
	t.Helper()
	old := redis.Z{Member: id, Score: float64(time.Now().Add(-61 * time.Second).Unix())}
	if n, err := s.rdb.ZAddArgs(t.Context(), "asynq:{default}:lease", redis.ZAddArgs{XX: true, Ch: true, Members: []redis.Z{old}}).Result(); err != nil || n != 1 {
		t.Fatalf("lapse the lease of %s: %d, %v", id, n, err)
	}
}

// places names every list and set of the queue that a task is in.
func (s *side) places(t *testing.T, id string) []string {
	t.Helper()
	found := []string{}
	for _, list := range []string{"pending", "active"} {
		members, err := s.rdb.LRange(t.Context(), "asynq:{default}:"+list, 0, -1).Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, member := range members {
			if member == id {
				found = append(found, list)
			}
		}
	}
	for _, set := range []string{"lease", "scheduled", "retry", "archived", "completed"} {
		if s.rdb.ZScore(t.Context(), "asynq:{default}:"+set, id).Err() == nil {
			found = append(found, set)
		}
	}
	return found
}

func (s *side) stateOf(t *testing.T, id string) asynq.TaskState {
	t.Helper()
	info, err := s.inspector.GetTaskInfo("default", id)
	if err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	return info.State
}

func (s *side) gone(id string) bool {
	_, err := s.inspector.GetTaskInfo("default", id)
	return errors.Is(err, asynq.ErrTaskNotFound)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

func await(t *testing.T, what string, signal <-chan struct{}) {
	t.Helper()
	select {
	case <-signal:
	case <-time.After(time.Minute):
		t.Fatalf("never: %s", what)
	}
}

// never fails when something happens within a while that should not. The while is
// many times what it would take.
func never(t *testing.T, what string, for_ time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(for_); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			t.Fatalf("happened: %s", what)
		}
	}
}

// held is a handler whose first execution waits, deaf to its context, until it is
// released; later ones return at once.
type held struct {
	t              *testing.T
	began, release chan struct{}
	free           func()
	runs           atomic.Int64
}

// newHeld releases at the test's end what is not released by then.
func newHeld(t *testing.T) *held {
	h := &held{t: t, began: make(chan struct{}), release: make(chan struct{})}
	h.free = sync.OnceFunc(func() { close(h.release) })
	return h
}

// ProcessTask implements [asynq.Handler].
func (h *held) ProcessTask(context.Context, *asynq.Task) error {
	if h.runs.Add(1) == 1 {
		close(h.began)
		untilOver(h.t, h.release)
	}
	return nil
}
