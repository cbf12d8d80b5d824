package worker_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/worker"
)

// twoSteps runs a job of two steps and stops in the first until told to go on.
func twoSteps(t *testing.T, inFirst func(ctx context.Context) error) (b *bundle, h jobs.Handle, ran *[2]atomic.Int64) {
	t.Helper()
	ran = new([2]atomic.Int64)
	kind := jobs.Define[order, string]("order.one", fast(3)...)
	b = start(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		_, err := jobs.Step(ctx, "first", func(ctx context.Context) (int64, error) { return ran[0].Add(1), inFirst(ctx) })
		if err != nil {
			return "", err
		}
		_, err = jobs.Step(ctx, "second", func(context.Context) (int64, error) { return ran[1].Add(1), nil })
		return "done", err
	})}})
	return b, enqueue(t, b, kind.New("k", order{ID: 1})), ran
}

func pauseJob(t *testing.T, b *bundle) jobs.Info {
	t.Helper()
	info, err := b.store.Pause(t.Context(), "default", "k", by)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func resumeJob(t *testing.T, b *bundle) {
	t.Helper()
	if _, err := b.store.Resume(t.Context(), "default", "k", by); err != nil {
		t.Fatal(err)
	}
}

// wantPaused waits until the job is parked for its operator.
func wantPaused(t *testing.T, b *bundle) jobs.Info {
	t.Helper()
	info := inState(t, b.store, "default", "k", jobs.StatePaused)
	if info.WaitingOn == nil || info.WaitingOn.Type != "operator" || info.WaitingOn.Name != "test: because" || info.PauseAsked || info.Attempts != 0 {
		t.Fatalf("%+v, waits for %+v", info, info.WaitingOn)
	}
	return info
}

func TestAPausedJobStopsAtItsNextStepAndGoesOnFromThere(t *testing.T) {
	t.Parallel()
	running, asked := make(chan struct{}), make(chan struct{})
	b, h, ran := twoSteps(t, func(context.Context) error { close(running); <-asked; return nil })
	<-running
	if info := pauseJob(t, b); info.State != jobs.StateRunning || !info.PauseAsked {
		t.Fatalf("%+v", info)
	}
	close(asked)
	if info := wantPaused(t, b); len(info.Steps) != 1 || ran[1].Load() != 0 {
		t.Fatalf("%+v", info)
	}
	resumeJob(t, b)
	if info := wait(t, h); info.State != jobs.StateCompleted || info.Attempts != 0 || info.Runs != 2 || ran[0].Load() != 1 || ran[1].Load() != 1 {
		t.Fatalf("%+v; first ran %d, second %d times", info, ran[0].Load(), ran[1].Load())
	}
}

func TestPausingEndsTheContextOfAStepUnderWay(t *testing.T) {
	t.Parallel()
	causes, running := make(chan error, 2), make(chan struct{}, 2)
	var resumed atomic.Bool
	b, h, ran := twoSteps(t, func(ctx context.Context) error {
		running <- struct{}{}
		if resumed.Load() {
			return nil
		}
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return ctx.Err()
	})
	<-running
	pauseJob(t, b)
	if cause := <-causes; !errors.Is(cause, jobs.ErrPaused) {
		t.Fatalf("cause %v", cause)
	}
	wantPaused(t, b)
	resumed.Store(true)
	resumeJob(t, b)
	if info := wait(t, h); info.State != jobs.StateCompleted || info.Attempts != 0 || len(info.Failures) != 0 || ran[0].Load() != 2 {
		t.Fatalf("%+v", info)
	}
}

func TestAJobThatCompletesFirstIsNotPaused(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[order, string]("order.one")
	running, asked := make(chan struct{}), make(chan struct{})
	b := start(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(context.Context, order) (string, error) {
		close(running)
		<-asked
		return "done", nil
	})}})
	h := enqueue(t, b, kind.New("k", order{ID: 1}))
	<-running
	pauseJob(t, b)
	close(asked)
	if info := wait(t, h); info.State != jobs.StateCompleted || info.PauseAsked {
		t.Fatalf("%+v", info)
	}
	if _, err := b.store.Pause(t.Context(), "default", "k", by); !errors.Is(err, jobs.ErrConflict) {
		t.Fatalf("pausing it now: %v", err)
	}
	if _, err := b.store.Resume(t.Context(), "default", "k", by); !errors.Is(err, jobs.ErrConflict) {
		t.Fatalf("resuming it now: %v", err)
	}
}

// A signal that comes meanwhile is kept, and does not wake the job.
func TestAPausedJobIsNotWokenByWhatItWaitedFor(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[order, string]("order.one")
	b := start(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		return jobs.Await[string](ctx, "go", 0)
	})}})
	h := enqueue(t, b, kind.New("k", order{ID: 1}))
	inState(t, b.store, "default", "k", jobs.StatePaused)
	pauseJob(t, b)
	if err := b.store.Signal(t.Context(), "default", "k", jobs.Signal{Name: "go", ID: "1", Data: []byte(`"now"`)}); err != nil {
		t.Fatal(err)
	}
	wantPaused(t, b)
	resumeJob(t, b)
	if info := wait(t, h); info.State != jobs.StateCompleted || string(info.Result) != `"now"` {
		t.Fatalf("%+v", info)
	}
}

func TestRunNowResumesAJobThatAnOperatorHasPaused(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[order, string]("order.one")
	b := start(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(context.Context, order) (string, error) { return "ran", nil })}})
	h := enqueue(t, b, kind.New("k", order{ID: 1}, jobs.Delay(time.Hour)))
	pauseJob(t, b)
	wantPaused(t, b)
	if err := asynq.NewInspectorFromRedisClient(b.store.Redis()).RunTask("default", "k"); err != nil {
		t.Fatal(err)
	}
	if info := wait(t, h); info.State != jobs.StateCompleted || info.PauseAsked {
		t.Fatalf("%+v", info)
	}
}

func TestPausingASuspectReachesItsProcess(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.URL(t))
	suspect(t, s, deadly.New("wait", "wait"))
	o := deadlyOptions()
	o.Child = []string{os.Args[0]}
	runWorker(t, s, o)
	inState(t, s, "default", "wait", jobs.StateRunning)
	if _, err := s.Pause(t.Context(), "default", "wait", by); err != nil {
		t.Fatal(err)
	}
	if info := inState(t, s, "default", "wait", jobs.StatePaused); info.WaitingOn.Type != "operator" {
		t.Fatalf("%+v", info.WaitingOn)
	}
	if _, err := s.Resume(t.Context(), "default", "wait", by); err != nil {
		t.Fatal(err)
	}
	inState(t, s, "default", "wait", jobs.StateRunning)
}

// What was asked of a job whose worker dies before it has heard of it is done by the
// next one.
func TestAWorkerDiesOfAJobThatWasAskedToStop(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.URL(t))
	enqueueAll(t, s, []jobs.Job{deadly.New("pause", "work"), deadly.New("cancel", "work")})
	batch, err := s.Claim(t.Context(), "default", "dead", 2)
	if err != nil || len(batch.Deliveries) != 2 {
		t.Fatalf("%+v, %v", batch, err)
	}
	for _, d := range batch.Deliveries {
		if err := s.Checkpoint(t.Context(), d.Hold, delivery.Checkpoint{Step: "first", Run: 1, Output: []byte("7")}); err != nil {
			t.Fatal(err)
		}
	}
	_, pauseErr := s.Pause(t.Context(), "default", "pause", by)
	_, cancelErr := s.Cancel(t.Context(), "default", "cancel", by)
	_, reclaimErr := s.Reclaim(t.Context(), "default", "dead")
	if err := errors.Join(pauseErr, cancelErr, reclaimErr); err != nil {
		t.Fatal(err)
	}
	runWorker(t, s, deadlyOptions())
	if info := inState(t, s, "default", "cancel", jobs.StateCancelled); info.Crashes != 1 || info.Attempts != 0 {
		t.Errorf("%+v", info)
	}
	if info := inState(t, s, "default", "pause", jobs.StatePaused); info.WaitingOn.Type != "operator" {
		t.Errorf("%+v", info)
	}
	if _, err := s.Resume(t.Context(), "default", "pause", by); err != nil {
		t.Fatal(err)
	}
	info := inState(t, s, "default", "pause", jobs.StateCompleted)
	if result, err := deadly.Result(info); err != nil || !strings.HasPrefix(result, "first in 7,") || info.Crashes != 1 {
		t.Errorf("%q, %v: %+v", result, err, info)
	}
}
