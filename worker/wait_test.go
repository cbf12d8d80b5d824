package worker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/worker"
)

func TestASleeperHoldsNoSlotAndWakesInTime(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[order, string]("order.sleep")
	var before atomic.Int64
	b := start(t, worker.Options{Concurrency: 1, Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, o order) (string, error) {
		if _, err := jobs.Step(ctx, "before", func(context.Context) (int64, error) { return before.Add(1), nil }); err != nil {
			return "", err
		}
		if o.ID > 0 {
			return "ok", jobs.Sleep(ctx, "nap", time.Duration(o.ID)*time.Second)
		}
		return "ok", nil
	})}})
	sleeper := enqueue(t, b, kind.New("sleeper", order{ID: 2}))
	info := inState(t, b.store, "default", "sleeper", jobs.StatePaused)
	if info.WaitingOn.Type != "timer" || info.WaitingOn.Name != "nap" || info.Attempts != 0 {
		t.Fatalf("%+v", info)
	}
	wait(t, enqueue(t, b, kind.New("other", order{}))) // the one slot is free
	due := info.DueAt
	info = wait(t, sleeper)
	ended := info.Steps[len(info.Steps)-1].Ended
	if late := ended.Sub(due); info.State != jobs.StateCompleted || info.Runs != 2 || info.Attempts != 0 || late < 0 || before.Load() != 2 {
		t.Fatalf("%v late; %+v", late, info)
	}
}

func TestASignalWakesTheJobOnce(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[order, string]("order.approve")
	b := start(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		approval, err := jobs.AwaitApproval(ctx, "amount", time.Hour)
		return fmt.Sprint(approval.Approved, " by ", approval.Actor), err
	})}})
	approve, err := jobs.Approve("amount", true, by)
	if err != nil {
		t.Fatal(err)
	}
	for _, early := range []bool{true, false} {
		job := kind.New(fmt.Sprint("early-", early), order{}, jobs.Delay(map[bool]time.Duration{true: time.Second, false: 0}[early]))
		h := enqueue(t, b, job)
		if !early {
			inState(t, b.store, "default", job.Key, jobs.StatePaused)
			task, err := asynq.NewInspectorFromRedisClient(b.store.Redis()).GetTaskInfo("default", job.Key)
			if err != nil || task.LastErr != "paused: waits for amount; resumes by itself" {
				t.Errorf("asynq shows %+v, %v", task, err)
			}
		}
		if err := b.store.Signal(t.Context(), "default", job.Key, approve); err != nil {
			t.Fatal(err)
		}
		info := wait(t, h)
		result, err := kind.Result(info)
		if wantRuns := map[bool]int{true: 1, false: 2}[early]; err != nil || result != "true by test" || info.Runs != wantRuns || info.Attempts != 0 {
			t.Errorf("%q, %v: %+v", result, err, info)
		}
		if err := b.store.Signal(t.Context(), "default", job.Key, approve); !errors.Is(err, jobs.ErrConflict) {
			t.Errorf("after its end: %v", err)
		}
	}
}

// A worker dies between the wait's record and what follows; the signal is not lost
// and not waited for again.
func TestACrashAfterASignal(t *testing.T) {
	t.Parallel()
	s := newFaulty(t)
	runScheduler(t, s.Store)
	kind := jobs.Define[order, string]("order.signal", fast(3)...)
	running, release := make(chan struct{}, 2), make(chan struct{})
	var runs atomic.Int64
	o := worker.Options{Beat: 50 * time.Millisecond, ShutdownTimeout: time.Millisecond, Grace: time.Millisecond, Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		text, err := jobs.Await[string](ctx, "go", 0)
		if err == nil && runs.Add(1) == 1 {
			running <- struct{}{}
			<-release
		}
		return text, err
	})}}
	doomed := &faulty{Store: s.Store}
	runWorker(t, doomed, o)
	add(t, s, kind, 1)
	inState(t, s.Store, "default", "k0", jobs.StatePaused)
	signal, _ := kind.Signal("go", "now")
	signal.ID = "once"
	for range 2 {
		if err := s.Signal(t.Context(), "default", "k0", signal); err != nil {
			t.Fatal(err)
		}
	}
	<-running
	doomed.dead.Store(true)
	defer close(release)
	runWorker(t, s, o)
	info := inState(t, s.Store, "default", "k0", jobs.StateCompleted)
	if result, err := kind.Result(info); err != nil || result != "now" || info.Attempts != 0 || info.Crashes != 1 || len(info.Steps) != 1 {
		t.Errorf("%q, %v: %+v", result, err, info)
	}
}

func TestCancellingAWaitingJob(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[order, string]("order.wait")
	b := start(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		return jobs.Await[string](ctx, "go", 0)
	})}})
	enqueue(t, b, kind.New("k", order{}))
	inState(t, b.store, "default", "k", jobs.StatePaused)
	if info, err := b.store.Cancel(t.Context(), "default", "k", by); err != nil || info.State != jobs.StateCancelled {
		t.Fatalf("%+v, %v", info, err)
	}
}

func TestASuspectWaits(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.URL(t))
	suspect(t, s, deadly.New("sleep", "sleep"))
	o := deadlyOptions()
	o.Child = []string{os.Args[0]}
	runScheduler(t, s)
	runWorker(t, s, o)
	info := inState(t, s, "default", "sleep", jobs.StateCompleted)
	if len(info.Steps) != 2 || info.Attempts != 0 {
		t.Errorf("%+v", info)
	}
}
