package store

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
)

func (f *fixture) inspector() *asynq.Inspector { return asynq.NewInspectorFromRedisClient(f.rdb) }

// TestAsynqReadsEveryState: what asynq's own tools make of each state we leave.
func TestAsynqReadsEveryState(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.everyState()
	i := f.inspector()
	now := time.Now()
	views := map[jobs.State]struct {
		state asynq.TaskState
		list  func(string, ...asynq.ListOption) ([]*asynq.TaskInfo, error)
		err   string
	}{
		jobs.StatePending:     {asynq.TaskStatePending, i.ListPendingTasks, ""},
		jobs.StateRunning:     {asynq.TaskStateActive, i.ListActiveTasks, ""},
		jobs.StateScheduled:   {asynq.TaskStateScheduled, i.ListScheduledTasks, ""},
		jobs.StateRetrying:    {asynq.TaskStateRetry, i.ListRetryTasks, "boom"},
		jobs.StatePaused:      {asynq.TaskStateRetry, i.ListRetryTasks, "paused: pay ments; resumes by itself"},
		jobs.StateQuarantined: {asynq.TaskStateArchived, i.ListArchivedTasks, "boom"},
		jobs.StateCompleted:   {asynq.TaskStateCompleted, i.ListCompletedTasks, ""},
		jobs.StateCancelled:   {asynq.TaskStateCompleted, i.ListCompletedTasks, "cancelled: not wanted"},
	}
	for _, state := range jobs.States() {
		view := views[state]
		info, err := i.GetTaskInfo("q", string(state))
		f.ok(err)
		if info.State != view.state || info.LastErr != view.err || info.Type != "kind.a" || string(info.Payload) != `{"a":1,"b":2}` ||
			info.ID != string(state) || info.Queue != "q" || info.Retention != 24*time.Hour || info.Timeout != 30*time.Minute {
			t.Errorf("%s: %+v", state, info)
		}
		listed, err := view.list("q")
		f.ok(err)
		if !slices.ContainsFunc(listed, func(task *asynq.TaskInfo) bool { return task.ID == string(state) }) {
			t.Errorf("%s is not listed: %v", state, listed)
		}
		failedAt, completedAt := !info.LastFailedAt.IsZero(), !info.CompletedAt.IsZero()
		if failedAt != (state == jobs.StateRetrying || state == jobs.StatePaused || state == jobs.StateQuarantined) || completedAt != (view.state == asynq.TaskStateCompleted) {
			t.Errorf("%s: failed at %v, completed at %v", state, info.LastFailedAt, info.CompletedAt)
		}
		if (info.Retried == 1) != (state == jobs.StateRetrying) {
			t.Errorf("%s: retried %d", state, info.Retried)
		}
		if view.state == asynq.TaskStateRetry && info.NextProcessAt.Sub(now.Add(time.Hour)).Abs() > time.Minute {
			t.Errorf("%s: next at %v", state, info.NextProcessAt)
		}
	}
	if info, _ := i.GetTaskInfo("q", "completed"); string(info.Result) != `"done"` {
		t.Errorf("result %s", info.Result)
	}
	q, err := i.GetQueueInfo("q")
	f.ok(err)
	if q.Size != 8 || q.Pending != 1 || q.Active != 1 || q.Scheduled != 1 || q.Retry != 2 || q.Archived != 1 || q.Completed != 2 ||
		q.Processed != 3 || q.Failed != 2 || q.ProcessedTotal != 3 || q.FailedTotal != 2 || q.Paused {
		t.Errorf("queue %+v", q)
	}
	if days, err := i.History("q", 1); err != nil || days[0].Processed != 3 || days[0].Failed != 2 {
		t.Errorf("history %+v, %v", days, err)
	}
}

// TestAsynqDeletes: a job that asynq's tools delete is gone, and what is left in
// our indexes is not taken for a job.
func TestAsynqDeletes(t *testing.T) {
	t.Parallel()
	redistest.Foreign(t)
	f := open(t)
	f.everyState()
	for _, state := range jobs.States() {
		if state == jobs.StateRunning {
			continue // asynq refuses
		}
		f.ok(f.inspector().DeleteTask("q", string(state)))
	}
	if got := f.pages(jobs.Query{}, nil); !slices.Equal(got, []string{"running"}) {
		t.Errorf("left %v", got)
	}
	for _, state := range []jobs.State{jobs.StatePaused, jobs.StateQuarantined} {
		f.enqueue(string(state))
		if d := f.take(); d.Run != 1 || d.Waits != 0 {
			t.Errorf("the key's new job: %+v", d)
		}
	}
}

func TestAnnounce(t *testing.T) {
	t.Parallel()
	f := open(t)
	started := time.Now().Add(-time.Hour).Truncate(time.Nanosecond)
	p := delivery.Presence{
		Host: "host", PID: 42, ID: "owner", Concurrency: 7, Queues: map[string]int{"q": 3, "r": 1}, StrictPriority: true, Status: "active", Started: started,
		Active: []delivery.ActiveJob{
			{Queue: "q", Key: "a", Kind: "kind.a", Started: started, Deadline: started.Add(time.Minute)}, {Queue: "r", Key: "b", Kind: "kind.b", Started: started},
		},
	}
	f.ok(f.Announce(f.ctx, p, time.Minute))
	servers, err := f.inspector().Servers()
	f.ok(err)
	if len(servers) != 1 {
		t.Fatalf("servers %v", servers)
	}
	s := servers[0]
	if s.ID != "owner" || s.Host != "host" || s.PID != 42 || s.Concurrency != 7 || !maps.Equal(s.Queues, p.Queues) || !s.StrictPriority ||
		s.Status != "active" || !s.Started.Equal(started) || len(s.ActiveWorkers) != 2 {
		t.Errorf("server %+v", s)
	}
	slices.SortFunc(s.ActiveWorkers, func(a, b *asynq.WorkerInfo) int { return int(a.TaskID[0]) - int(b.TaskID[0]) })
	if w := s.ActiveWorkers[0]; w.TaskID != "a" || w.TaskType != "kind.a" || w.Queue != "q" || !w.Started.Equal(started) ||
		!w.Deadline.Equal(started.Add(time.Minute)) || len(w.TaskPayload) != 0 {
		t.Errorf("worker %+v", w)
	}
	p.Active, p.Status = nil, "stopped"
	f.ok(f.Announce(f.ctx, p, time.Minute))
	servers, _ = f.inspector().Servers()
	if len(servers) != 1 || len(servers[0].ActiveWorkers) != 0 || servers[0].Status != "stopped" {
		t.Errorf("without jobs: %+v", servers)
	}
	for path := range f.dump() {
		if path == serverKey("host", 42, "owner") && f.rdb.TTL(f.ctx, path).Val() <= 0 {
			t.Errorf("%s stands for ever", path)
		}
	}
	f.ok(f.Withdraw(f.ctx, p))
	f.same(keyspace{}, "a worker that has come and gone")
}

func TestPublishedKinds(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.ok(f.Publish(f.ctx, nil))
	f.ok(f.Publish(f.ctx, []delivery.PublishedKind{{Name: "a", Queue: "q", Version: 2, Timeout: time.Minute, Retention: time.Hour, MaxPayload: 10}}))
	d, err := f.KindDefinition(f.ctx, "a")
	f.ok(err)
	if d.Name != "a" || d.Queue != "q" || d.Version != 2 || d.Timeout != time.Minute || d.Retention != time.Hour || d.MaxPayload != 10 {
		t.Errorf("definition %+v", d)
	}
	if _, err := f.Enqueue(f.ctx, jobs.Raw(d, "k", []byte(`{}`))); err != nil {
		t.Error(err)
	}
	f.ok(f.Unpublish(f.ctx, "a"))
	if kinds, err := f.Kinds(f.ctx); err != nil || len(kinds) != 0 {
		t.Errorf("kinds %v, %v", kinds, err)
	}
	if _, err := f.KindDefinition(f.ctx, "a"); err == nil {
		t.Error("a kind that nobody publishes")
	}
}
