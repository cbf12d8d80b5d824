// Package conformance holds perdure's worker to what asynq's own server leaves
// behind: both are given the same input, each on a database of its own, and what
// is under asynq's keys afterwards must be the same.
package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/hibiken/asynqmon"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/scheduler"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/worker"
)

func TestMain(m *testing.M) { redistest.Main(m) }

// side is one of the two that are compared.
type side struct {
	rdb       *redis.Client
	client    *asynq.Client
	inspector *asynq.Inspector
	stop      func()
}

func newSide(t *testing.T) *side { return sideOn(redistest.Client(t)) }

func sideOn(rdb *redis.Client) *side {
	return &side{
		rdb: rdb, client: asynq.NewClientFromRedisClient(rdb), inspector: asynq.NewInspectorFromRedisClient(rdb), stop: func() {},
	}
}

const retryDelay = time.Hour

// stock runs asynq's own server.
func (s *side) stock(t *testing.T, h asynq.Handler, changes ...func(*asynq.Config)) {
	t.Helper()
	config := asynq.Config{
		Concurrency: 4, Queues: map[string]int{"default": 1}, TaskCheckInterval: 50 * time.Millisecond, LogLevel: asynq.FatalLevel,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return retryDelay },
	}
	for _, change := range changes {
		change(&config)
	}
	server := asynq.NewServerFromRedisClient(s.rdb, config)
	if err := server.Start(h); err != nil {
		t.Fatal(err)
	}
	s.stop = sync.OnceFunc(server.Shutdown)
	t.Cleanup(s.stop)
}

// ours runs perdure's worker and scheduler.
func (s *side) ours(t *testing.T, o worker.Options) *store.Store {
	t.Helper()
	st := store.New(s.rdb, s.rdb)
	w, err := worker.New(st, o)
	if err != nil {
		t.Fatal(err)
	}
	k, err := scheduler.New(st, scheduler.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = k.Run(ctx) })
	running.Go(func() {
		if err := w.Run(ctx); err != nil {
			t.Errorf("worker: %v", err)
		}
	})
	s.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(s.stop)
	return st
}

func fallback(h asynq.Handler) worker.Options {
	f := perdure.FromAsynq(h, jobs.Retry(jobs.Fixed(retryDelay, 100)))
	return worker.Options{Fallback: &f, Queues: map[string]int{"default": 1}, Log: slog.New(slog.DiscardHandler)}
}

// enqueue adds the same task to both.
func enqueue(t *testing.T, sides []*side, kind string, options ...asynq.Option) {
	t.Helper()
	for _, s := range sides {
		task := asynq.NewTaskWithHeaders(kind, []byte(`{"n":1}`), map[string]string{"from": "here"})
		if _, err := s.client.Enqueue(task, append([]asynq.Option{asynq.TaskID("id")}, options...)...); err != nil {
			t.Fatal(err)
		}
	}
}

// reach waits until a task is in a state, or gone when state is 0.
func reach(t *testing.T, s *side, id string, state asynq.TaskState) {
	t.Helper()
	var info *asynq.TaskInfo
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		info, err = s.inspector.GetTaskInfo("default", id)
		if errors.Is(err, asynq.ErrTaskNotFound) && state == 0 || err == nil && info.State == state {
			return
		}
	}
	t.Fatalf("never %v: %+v, %v", state, info, err)
}

var day = regexp.MustCompile(`\d{4}-\d{2}-\d{2}$`)

// dump is everything under asynq's keys, times as their distance from now.
func dump(t *testing.T, rdb *redis.Client) map[string]string {
	t.Helper()
	ctx := t.Context()
	keys, err := rdb.Keys(ctx, "asynq:*").Result()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, key := range keys {
		if strings.HasPrefix(key, "asynq:servers") || strings.HasPrefix(key, "asynq:workers") {
			continue // named after the process; the Inspector's view is tested on its own
		}
		name := day.ReplaceAllString(key, "<today>")
		kind, err := rdb.Type(ctx, key).Result()
		if err != nil {
			t.Fatal(err)
		}
		ttl := ""
		if left, _ := rdb.TTL(ctx, key).Result(); left > 0 {
			ttl = " for " + left.Round(time.Hour).String()
		}
		switch kind {
		case "string":
			value, _ := rdb.Get(ctx, key).Result()
			if strings.HasSuffix(key, ":paused") {
				value = "<time>"
			}
			found[name] = value + ttl
		case "list":
			values, _ := rdb.LRange(ctx, key, 0, -1).Result()
			found[name] = strings.Join(values, " ") + ttl
		case "set":
			values, _ := rdb.SMembers(ctx, key).Result()
			sort.Strings(values)
			found[name] = strings.Join(values, " ") + ttl
		case "zset":
			values, _ := rdb.ZRangeWithScores(ctx, key, 0, -1).Result()
			var parts []string
			for _, z := range values {
				parts = append(parts, fmt.Sprintf("%v at %s", z.Member, distance(int64(z.Score))))
			}
			found[name] = strings.Join(parts, " ") + ttl
		case "hash":
			fields, _ := rdb.HGetAll(ctx, key).Result()
			found[name] = hash(t, fields) + ttl
		}
	}
	return found
}

// distance is a time in unix seconds, to the next ten.
func distance(seconds int64) string {
	if seconds == 0 {
		return "never"
	}
	return "now+" + time.Until(time.Unix(seconds, 0)).Round(10*time.Second).String()
}

// hash shows a task's hash without perdure's own fields.
func hash(t *testing.T, fields map[string]string) string {
	t.Helper()
	var parts []string
	for field, value := range fields {
		switch {
		case len(field) > 1 && field[1] == ':' && strings.Contains("psfh", field[:1]):
			continue
		case field == "msg":
			value = message(t, []byte(value))
		case field == "pending_since":
			value = "<time>"
		case field == "result" && value == "":
			continue // the Inspector cannot tell it from none
		}
		parts = append(parts, field+"="+value)
	}
	sort.Strings(parts)
	return strings.Join(parts, "\n    ")
}

// message shows each field of a stored message by its number; 11 and 13 are times.
func message(t *testing.T, data []byte) string {
	t.Helper()
	var parts []string
	for len(data) > 0 {
		field, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			t.Fatalf("message: %v", protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(field, kind, data[n:])
		if size < 0 {
			t.Fatalf("message: %v", protowire.ParseError(size))
		}
		value := data[n : n+size]
		switch kind {
		case protowire.VarintType:
			v, _ := protowire.ConsumeVarint(value)
			if field == 11 || field == 13 {
				parts = append(parts, fmt.Sprintf("%d:%s", field, distance(int64(v))))
			} else {
				parts = append(parts, fmt.Sprintf("%d:%d", field, v))
			}
		default:
			v, _ := protowire.ConsumeBytes(value)
			parts = append(parts, fmt.Sprintf("%d:%q", field, v))
		}
		data = data[n+size:]
	}
	return strings.Join(parts, " ")
}

func same(t *testing.T, stock, ours map[string]string) {
	t.Helper()
	for key, want := range stock {
		if got, ok := ours[key]; !ok {
			t.Errorf("%s is missing; asynq has\n    %s", key, want)
		} else if got != want {
			t.Errorf("%s is\n    %s\nasynq has\n    %s", key, got, want)
		}
	}
	for key, got := range ours {
		if _, ok := stock[key]; !ok {
			t.Errorf("%s is there and asynq leaves none:\n    %s", key, got)
		}
	}
}

func TestBothLeaveTheSameBehind(t *testing.T) {
	t.Parallel()
	ok := func(context.Context, *asynq.Task) error { return nil }
	failing := func(context.Context, *asynq.Task) error { return errors.New("no such luck") }
	skipping := func(context.Context, *asynq.Task) error { return fmt.Errorf("give up: %w", asynq.SkipRetry) }
	for name, c := range map[string]struct {
		handler func(context.Context, *asynq.Task) error
		options []asynq.Option
		end     asynq.TaskState // 0: gone
	}{
		"success":                        {ok, nil, 0},
		"success with retention":         {ok, []asynq.Option{asynq.Retention(time.Hour)}, asynq.TaskStateCompleted},
		"success of a unique task":       {ok, []asynq.Option{asynq.Unique(time.Hour)}, 0},
		"success of a unique one, kept":  {ok, []asynq.Option{asynq.Unique(time.Hour), asynq.Retention(time.Hour)}, asynq.TaskStateCompleted},
		"success with timeout, deadline": {ok, []asynq.Option{asynq.Timeout(time.Minute), asynq.Deadline(time.Unix(4e9, 0)), asynq.Retention(time.Hour)}, asynq.TaskStateCompleted},
		"failure":                        {failing, []asynq.Option{asynq.MaxRetry(3)}, asynq.TaskStateRetry},
		"failure of a unique task":       {failing, []asynq.Option{asynq.MaxRetry(3), asynq.Unique(time.Hour)}, asynq.TaskStateRetry},
		"no retry allowed":               {failing, []asynq.Option{asynq.MaxRetry(0)}, asynq.TaskStateArchived},
		"skip retry":                     {skipping, nil, asynq.TaskStateArchived},
		"skip retry of a unique task":    {skipping, []asynq.Option{asynq.Unique(time.Hour)}, asynq.TaskStateArchived},
		"a task for later":               {ok, []asynq.Option{asynq.ProcessIn(time.Hour)}, asynq.TaskStateScheduled},
		"a unique task for later":        {ok, []asynq.Option{asynq.ProcessIn(time.Hour), asynq.Unique(2 * time.Hour)}, asynq.TaskStateScheduled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stock, ours := newSide(t), newSide(t)
			stock.stock(t, asynq.HandlerFunc(c.handler))
			ours.ours(t, fallback(asynq.HandlerFunc(c.handler)))
			sides := []*side{stock, ours}
			enqueue(t, sides, "kind.a", c.options...)
			for _, s := range sides {
				reach(t, s, "id", c.end)
				s.stop()
			}
			same(t, dump(t, stock.rdb), dump(t, ours.rdb))
		})
	}
}

func TestAResultIsKeptWhereAsynqKeepsIt(t *testing.T) {
	t.Parallel()
	stock, ours := newSide(t), newSide(t)
	stock.stock(t, asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		_, err := task.ResultWriter().Write([]byte(`"done"`))
		return err
	}))
	kind := jobs.Define[any, string]("kind.a")
	ours.ours(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(context.Context, any) (string, error) { return "done", nil })}})
	sides := []*side{stock, ours}
	enqueue(t, sides, "kind.a", asynq.Retention(time.Hour))
	for _, s := range sides {
		reach(t, s, "id", asynq.TaskStateCompleted)
		s.stop()
	}
	same(t, dump(t, stock.rdb), dump(t, ours.rdb))
	info, err := ours.inspector.GetTaskInfo("default", "id")
	if err != nil || string(info.Result) != `"done"` || info.CompletedAt.IsZero() {
		t.Fatalf("%+v, %v", info, err)
	}
}

func TestAPausedQueueIsLeftAlone(t *testing.T) {
	t.Parallel()
	ran := make(chan struct{}, 2)
	handler := asynq.HandlerFunc(func(context.Context, *asynq.Task) error { ran <- struct{}{}; return nil })
	stock, ours := newSide(t), newSide(t)
	sides := []*side{stock, ours}
	enqueue(t, sides, "kind.a", asynq.Retention(time.Hour))
	if err := stock.inspector.PauseQueue("default"); err != nil {
		t.Fatal(err)
	}
	by := jobs.Decision{Actor: "test", Reason: "because"}
	if err := store.New(ours.rdb, ours.rdb).PauseQueue(t.Context(), "default", by); err != nil {
		t.Fatal(err)
	}
	stock.stock(t, handler)
	st := ours.ours(t, fallback(handler))
	time.Sleep(500 * time.Millisecond)
	same(t, dump(t, stock.rdb), dump(t, ours.rdb))
	if len(ran) != 0 {
		t.Fatalf("%d tasks ran", len(ran))
	}
	if err := stock.inspector.UnpauseQueue("default"); err != nil {
		t.Fatal(err)
	}
	if _, err := st.ResumeQueue(t.Context(), "default", by); err != nil {
		t.Fatal(err)
	}
	for _, s := range sides {
		reach(t, s, "id", asynq.TaskStateCompleted)
		s.stop()
	}
	same(t, dump(t, stock.rdb), dump(t, ours.rdb))
}

// Both run a task while the other sides look: what is there in the middle.
func TestARunningTaskLooksTheSame(t *testing.T) {
	t.Parallel()
	running, release := make(chan struct{}, 2), make(chan struct{})
	handler := asynq.HandlerFunc(func(context.Context, *asynq.Task) error { running <- struct{}{}; <-release; return nil })
	stock, ours := newSide(t), newSide(t)
	stock.stock(t, handler)
	ours.ours(t, fallback(handler))
	t.Cleanup(sync.OnceFunc(func() { close(release) }))
	enqueue(t, []*side{stock, ours}, "kind.a")
	<-running
	<-running
	same(t, dump(t, stock.rdb), dump(t, ours.rdb))
}

func TestTheInspectorWorksOnOurJobs(t *testing.T) {
	t.Parallel()
	s := newSide(t)
	in := s.inspector
	running, release := make(chan struct{}), make(chan struct{})
	slow := jobs.Define[string, string]("slow")
	bad := jobs.Define[string, string]("bad")
	later := jobs.Define[string, string]("later", jobs.Retry(jobs.Fixed(time.Hour, 5)))
	absent := jobs.Define[string, string]("absent")
	st := s.ours(t, worker.Options{Concurrency: 4, Handlers: []jobs.Handler{
		slow.Do(func(context.Context, string) (string, error) { close(running); <-release; return "ok", nil }),
		bad.Do(func(context.Context, string) (string, error) { return "", jobs.Permanent(errors.New("bad")) }),
		later.Do(func(ctx context.Context, _ string) (string, error) {
			if about, _ := jobs.Current(ctx); about.Attempt > 1 {
				return "at last", nil
			}
			return "", errors.New("later")
		}),
	}})
	for _, job := range []jobs.Job{
		slow.New("slow", "p"), bad.New("bad", "p"), later.New("later", "p"), absent.New("absent", "p"), slow.New("scheduled", "p", jobs.Delay(time.Hour)),
	} {
		if _, err := st.Enqueue(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
	<-running
	reach(t, s, "bad", asynq.TaskStateArchived)
	reach(t, s, "later", asynq.TaskStateRetry)
	reach(t, s, "absent", asynq.TaskStateRetry)

	queues, err := in.Queues()
	if err != nil || len(queues) != 1 || queues[0] != "default" {
		t.Fatalf("queues %v, %v", queues, err)
	}
	q, err := in.GetQueueInfo("default")
	if err != nil || q.Active != 1 || q.Archived != 1 || q.Retry != 2 || q.Scheduled != 1 || q.Processed != 2 || q.Failed != 2 || q.Size != 5 {
		t.Fatalf("queue %+v, %v", q, err)
	}
	for name, list := range map[string]func(string, ...asynq.ListOption) ([]*asynq.TaskInfo, error){
		"slow": in.ListActiveTasks, "bad": in.ListArchivedTasks, "scheduled": in.ListScheduledTasks,
	} {
		tasks, err := list("default")
		if err != nil || len(tasks) != 1 || tasks[0].ID != name || string(tasks[0].Payload) != `"p"` {
			t.Errorf("%s: %v, %v", name, tasks, err)
		}
	}
	retrying, err := in.ListRetryTasks("default")
	if err != nil || len(retrying) != 2 {
		t.Fatalf("retrying %v, %v", retrying, err)
	}
	info, err := in.GetTaskInfo("default", "later")
	if err != nil || info.Retried != 1 || info.LastErr != "later" || time.Since(info.LastFailedAt) > time.Minute || time.Until(info.NextProcessAt) < 50*time.Minute {
		t.Fatalf("%+v, %v", info, err)
	}
	if info, err = in.GetTaskInfo("default", "absent"); err != nil || !strings.HasPrefix(info.LastErr, "paused: ") || info.Retried != 0 {
		t.Fatalf("%+v, %v", info, err)
	}
	history, err := in.History("default", 2)
	if err != nil || len(history) != 2 || history[0].Processed != 2 || history[0].Failed != 2 {
		t.Fatalf("history %+v, %v", history, err)
	}
	checkServers(t, in)

	if err := in.RunTask("default", "later"); err != nil {
		t.Fatal(err)
	}
	reach(t, s, "later", asynq.TaskStateCompleted)
	if done, err := in.ListCompletedTasks("default"); err != nil || len(done) != 1 || string(done[0].Result) != `"at last"` {
		t.Fatalf("completed %v, %v", done, err)
	}
	if err := in.PauseQueue("default"); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Enqueue(t.Context(), later.New("waits", "p")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	if pending, err := in.ListPendingTasks("default"); err != nil || len(pending) != 1 || pending[0].ID != "waits" {
		t.Fatalf("pending %v, %v", pending, err)
	}
	if q, err := in.GetQueueInfo("default"); err != nil || !q.Paused || q.Pending != 1 || q.Latency <= 0 {
		t.Fatalf("queue %+v, %v", q, err)
	}
	if err := in.UnpauseQueue("default"); err != nil {
		t.Fatal(err)
	}
	reach(t, s, "waits", asynq.TaskStateRetry)
	if err := in.RunTask("default", "bad"); err != nil { // a replay that fails again
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if job, err := st.Get(t.Context(), "default", "bad"); err == nil && job.State == jobs.StateQuarantined && job.Runs == 2 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the archived job was not run again")
		}
	}
	close(release)
	reach(t, s, "slow", asynq.TaskStateCompleted)
	s.stop()
	if servers, err := in.Servers(); err != nil || len(servers) != 0 {
		t.Fatalf("servers after the stop: %v, %v", servers, err)
	}
}

// checkServers waits for a beat of the presence that has the running job.
func checkServers(t *testing.T, in *asynq.Inspector) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		servers, err := in.Servers()
		if err != nil || len(servers) != 1 || servers[0].Status != "active" || servers[0].Concurrency != 4 || servers[0].Queues["default"] != 1 {
			t.Fatalf("servers %+v, %v", servers, err)
		}
		if active := servers[0].ActiveWorkers; len(active) == 1 {
			if active[0].TaskID != "slow" || active[0].TaskType != "slow" || active[0].Queue != "default" || time.Since(active[0].Started) > time.Minute {
				t.Fatalf("active %+v", active[0])
			}
			return
		}
		if time.Now().After(end) {
			t.Fatalf("never showed the running job: %+v", servers[0])
		}
	}
}

// kept hands asynqmon a client that others close.
type kept struct{ client redis.UniversalClient }

func (k kept) MakeRedisClient() any { return k.client }

func TestAsynqsWebUIShowsOurJobs(t *testing.T) {
	t.Parallel()
	s := newSide(t)
	kind := jobs.Define[string, string]("kind.a")
	bad := jobs.Define[string, string]("kind.bad")
	st := s.ours(t, worker.Options{Handlers: []jobs.Handler{
		kind.Do(func(context.Context, string) (string, error) { return "fine", nil }),
		bad.Do(func(context.Context, string) (string, error) { return "", jobs.Permanent(errors.New("beyond repair")) }),
	}})
	for _, job := range []jobs.Job{kind.New("order:1", "p"), bad.New("order:2", "p"), kind.New("order:3", "p", jobs.Delay(time.Hour))} {
		if _, err := st.Enqueue(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
	reach(t, s, "order:1", asynq.TaskStateCompleted)
	reach(t, s, "order:2", asynq.TaskStateArchived)
	ui := asynqmon.New(asynqmon.Options{RootPath: "/asynq", RedisConnOpt: kept{s.rdb}})
	server := httptest.NewServer(ui)
	defer server.Close()
	for path, want := range map[string]string{
		"/asynq/":                                   "<html",
		"/asynq/queues/default":                     "<html",
		"/asynq/api/queues":                         `"queue":"default"`,
		"/asynq/api/queues/default":                 `"completed":1`,
		"/asynq/api/queues/default/completed_tasks": "order:1",
		"/asynq/api/queues/default/archived_tasks":  "beyond repair",
		"/asynq/api/queues/default/scheduled_tasks": "order:3",
		"/asynq/api/queues/default/pending_tasks":   "tasks",
		"/asynq/api/queues/default/active_tasks":    "tasks",
		"/asynq/api/queues/default/retry_tasks":     "tasks",
		"/asynq/api/queues/default/tasks/order:1":   "fine",
		"/asynq/api/queue_stats":                    "default",
		"/asynq/api/servers":                        `"queue_priorities":{"default":1}`,
		"/asynq/api/redis_info":                     "redis_version",
	} {
		status, body := get(t, server.URL+path)
		if status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.300s", path, status, body)
		}
		if strings.Contains(path, "/api/") && !json.Valid([]byte(body)) {
			t.Errorf("%s is no JSON: %.300s", path, body)
		}
	}
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func TestAStockProducersTasksRun(t *testing.T) {
	t.Parallel()
	s := newSide(t)
	kind := jobs.Define[map[string]int, int]("kind.ours")
	mux := asynq.NewServeMux()
	seen := make(chan string, 1)
	mux.HandleFunc("legacy:", func(_ context.Context, task *asynq.Task) error {
		seen <- fmt.Sprintf("%s %s %s", task.Type(), task.Payload(), task.Headers()["from"])
		return nil
	})
	o := fallback(mux)
	o.Handlers = []jobs.Handler{kind.Do(func(_ context.Context, p map[string]int) (int, error) { return p["n"] + 1, nil })}
	o.Queues = nil // those of the handlers
	st := s.ours(t, o)
	enqueue(t, []*side{s}, "kind.ours", asynq.Retention(time.Hour))
	reach(t, s, "id", asynq.TaskStateCompleted)
	info, err := st.Get(t.Context(), "default", "id")
	if n, resultErr := kind.Result(info); err != nil || resultErr != nil || n != 2 || info.Incarnation == "" {
		t.Fatalf("result %d, %v; %+v, %v", n, resultErr, info, err)
	}
	enqueue(t, []*side{s}, "legacy:mail", asynq.TaskID("other"))
	reach(t, s, "other", 0)
	if got := <-seen; got != `legacy:mail {"n":1} here` {
		t.Fatalf("the mux saw %q", got)
	}
}

func TestRevokeTaskCancels(t *testing.T) {
	t.Parallel()
	s := newSide(t)
	st := s.ours(t, fallback(asynq.HandlerFunc(func(context.Context, *asynq.Task) error { return fmt.Errorf("not needed: %w", asynq.RevokeTask) })))
	enqueue(t, []*side{s}, "kind.a")
	reach(t, s, "id", asynq.TaskStateCompleted)
	if info, err := st.Get(t.Context(), "default", "id"); err != nil || info.State != jobs.StateCancelled {
		t.Fatalf("%+v, %v", info, err)
	}
}
