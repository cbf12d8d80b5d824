package worker_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/worker"
)

func TestRetriesFollowTheSchedule(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	began := time.Now()
	schedule := jobs.Retry(jobs.Delays(50*time.Millisecond, 300*time.Millisecond))
	info, _ := one(t, []jobs.Option{schedule}, func(context.Context, order) (string, error) {
		if runs.Add(1) < 3 {
			return "", errors.New("not yet")
		}
		return "ok", nil
	})
	if info.State != jobs.StateCompleted || info.Attempts != 2 || info.Runs != 3 || len(info.Failures) != 2 || runs.Load() != 3 {
		t.Fatalf("ran %d times: %+v", runs.Load(), info)
	}
	if took := time.Since(began); took < 350*time.Millisecond {
		t.Fatalf("over after %v: the waits were not kept", took)
	}
	if gap := info.Failures[1].At.Sub(info.Failures[0].At); gap < 50*time.Millisecond {
		t.Fatalf("second attempt after %v", gap)
	}
	if info.Failures[0].Attempt != 1 || info.Failures[1].Attempt != 2 || info.Failures[0].Class != jobs.ClassUnknown {
		t.Fatalf("failures %+v", info.Failures)
	}
}

func TestExhaustedIsQuarantinedWithItsStory(t *testing.T) {
	t.Parallel()
	info, b := one(t, fast(3), func(ctx context.Context, _ order) (string, error) {
		if _, err := jobs.Step(ctx, "charge", func(context.Context) (int, error) { return 1, nil }); err != nil {
			return "", err
		}
		_, err := jobs.Step(ctx, "ship", func(context.Context) (int, error) { return 0, errors.New("no lorry") })
		return "", err
	})
	if info.State != jobs.StateQuarantined || info.Attempts != 3 || info.Runs != 3 || len(info.Failures) != 3 {
		t.Fatalf("%+v", info)
	}
	if len(info.Steps) != 1 || info.Steps[0].Name != "charge" || info.Steps[0].Attempt != 1 {
		t.Fatalf("steps %+v", info.Steps)
	}
	if f := info.LastFailure(); f.Step != "ship" || !strings.Contains(f.Message, "no lorry") || f.Worker == "" {
		t.Fatalf("failure %+v", f)
	}
	entry, err := b.store.Entry(t.Context(), "default", "k")
	if err != nil || entry.Reason != "attempts exhausted (3 of 3)" || entry.Step != "ship" || entry.Kind != "order.one" || entry.Signature == "" {
		t.Fatalf("entry %+v, %v", entry, err)
	}
}

func TestPermanentIsQuarantinedAtOnce(t *testing.T) {
	t.Parallel()
	info, b := one(t, fast(5), func(context.Context, order) (string, error) {
		return "", jobs.Permanent(errors.New("no such customer"))
	})
	if info.State != jobs.StateQuarantined || info.Runs != 1 || info.Failures[0].Class != jobs.ClassInvalid {
		t.Fatalf("%+v", info)
	}
	if entry, err := b.store.Entry(t.Context(), "default", "k"); err != nil || entry.Rule != "permanent" {
		t.Fatalf("entry %+v, %v", entry, err)
	}
}

func TestAPayloadThatDoesNotDecodeIsQuarantined(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[order, string]("order.one")
	b := start(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(context.Context, order) (string, error) { return "", nil })}})
	info := wait(t, enqueue(t, b, jobs.Raw(kind.Definition(), "k", []byte(`{"id":"seven"}`))))
	if info.State != jobs.StateQuarantined || info.Runs != 1 || info.Failures[0].Class != jobs.ClassInvalid {
		t.Fatalf("%+v", info)
	}
}

func TestUnavailablePausesAndUsesNoAttempt(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	kind := jobs.Define[order, string]("order.one", jobs.Retry(jobs.Fixed(0, 1)), jobs.RetryClass(jobs.ClassUnavailable, jobs.Fixed(400*time.Millisecond, 10)))
	b := start(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(context.Context, order) (string, error) {
		if runs.Add(1) < 4 {
			return "", fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
		}
		return "ok", nil
	})}})
	h := enqueue(t, b, kind.New("k", order{ID: 1}))
	paused := inState(t, b.store, "default", "k", jobs.StatePaused)
	if paused.WaitingOn == nil || !strings.HasPrefix(paused.WaitingOn.Name, "unavailable: ") || paused.DueAt.IsZero() {
		t.Fatalf("paused %+v, on %+v", paused, paused.WaitingOn)
	}
	info := wait(t, h)
	if info.State != jobs.StateCompleted || info.Attempts != 0 || info.Runs != 4 {
		t.Fatalf("%+v", info)
	}
}

func TestWaitsAreBoundedToo(t *testing.T) {
	t.Parallel()
	info, _ := one(t, fast(3), func(context.Context, order) (string, error) {
		return "", &jobs.HTTPError{Status: http.StatusBadGateway}
	})
	if info.State != jobs.StateQuarantined || info.Runs != 3 {
		t.Fatalf("%+v", info)
	}
}

func TestThrottledWaitsAsTold(t *testing.T) {
	t.Parallel()
	var first, second time.Time
	info, _ := one(t, []jobs.Option{jobs.Retry(jobs.Fixed(0, 1))}, func(context.Context, order) (string, error) {
		if first.IsZero() {
			first = time.Now()
			return "", jobs.RetryAfter(300*time.Millisecond, errors.New("busy"))
		}
		second = time.Now()
		return "ok", nil
	})
	if info.State != jobs.StateCompleted || info.Attempts != 0 || info.Failures[0].Class != jobs.ClassThrottled {
		t.Fatalf("%+v", info)
	}
	if waited := second.Sub(first); waited < 299*time.Millisecond || waited > 20*time.Second {
		t.Fatalf("waited %v", waited)
	}
}

func TestAPanicKeepsItsStackAndIsQuarantined(t *testing.T) {
	t.Parallel()
	info, b := one(t, fast(3), func(ctx context.Context, _ order) (string, error) {
		_, err := jobs.Step(ctx, "boom", func(context.Context) (int, error) { panic("kaboom") })
		return "", err
	})
	if info.State != jobs.StateQuarantined || info.Runs != 3 || len(info.Failures) != 3 {
		t.Fatalf("%+v", info)
	}
	f := info.LastFailure()
	if f.Class != jobs.ClassPanic || f.Step != "boom" || !strings.Contains(f.Stack, "verdict_test.go") || f.Message != "panic: kaboom" {
		t.Fatalf("%+v", f)
	}
	if _, err := b.store.Replay(t.Context(), "default", "k", false, by); err != nil {
		t.Fatal(err)
	}
	eventually(t, "three more runs after a replay", func() bool {
		info, _ = b.store.Get(t.Context(), "default", "k")
		return info.State == jobs.StateQuarantined && info.Runs == 6
	})
}

func TestAClassScheduleLongerThanTheStoryEnds(t *testing.T) {
	t.Parallel()
	s := jobs.RetryClass(jobs.ClassTransient, jobs.Fixed(time.Millisecond, 54))
	info, _ := one(t, []jobs.Option{s, jobs.Retry(jobs.Fixed(0, 1))}, func(context.Context, order) (string, error) {
		return "", jobs.WithClass(jobs.ClassTransient, errors.New("again"))
	})
	if info.State != jobs.StateQuarantined || info.Runs != 54 || info.Attempts != 54 || len(info.Failures) != 51 {
		t.Fatalf("%+v", info)
	}
}

// The first failure stays on record, and is not taken for one of the last ones.
func TestAClassScheduleEndsAfterAnotherFirstFailure(t *testing.T) {
	t.Parallel()
	s := jobs.RetryClass(jobs.ClassTransient, jobs.Fixed(time.Millisecond, 54))
	var runs atomic.Int32
	info, _ := one(t, []jobs.Option{s, jobs.Retry(jobs.Fixed(time.Millisecond, 60))}, func(context.Context, order) (string, error) {
		if runs.Add(1) == 1 {
			return "", jobs.WithClass(jobs.ClassTimeout, errors.New("slow"))
		}
		return "", jobs.WithClass(jobs.ClassTransient, errors.New("again"))
	})
	if info.State != jobs.StateQuarantined || info.Runs > 56 || len(info.Failures) != 51 || info.Failures[0].Class != jobs.ClassTimeout || info.Failures[1].Class != jobs.ClassTransient {
		t.Fatalf("%+v", info)
	}
}

func TestAnUnknownKindIsPaused(t *testing.T) {
	t.Parallel()
	known := jobs.Define[order, string]("order.known")
	unknown := jobs.Define[order, string]("order.unknown")
	b := start(t, worker.Options{Handlers: []jobs.Handler{known.Do(func(context.Context, order) (string, error) { return "", nil })}})
	enqueue(t, b, unknown.New("k", order{ID: 1}))
	info := inState(t, b.store, "default", "k", jobs.StatePaused)
	if info.Attempts != 0 || info.WaitingOn.Type != "kind" || info.WaitingOn.Name != "no worker here runs kind order.unknown" || info.Version != 0 {
		t.Fatalf("%+v on %+v", info, info.WaitingOn)
	}
	if wait := time.Until(info.DueAt); info.DueAt.IsZero() || wait > 25*time.Second {
		t.Fatalf("looks again in %v", wait)
	}
}

func TestPastItsDeadlineItIsExpired(t *testing.T) {
	t.Parallel()
	ran := false
	info, _ := one(t, fast(5), func(context.Context, order) (string, error) { ran = true; return "", nil }, jobs.Deadline(time.Now().Add(-time.Minute)))
	if info.State != jobs.StateQuarantined || ran || info.Failures[0].Class != jobs.ClassExpired {
		t.Fatalf("ran %v: %+v", ran, info)
	}
}

func TestTheDeadlineEndsARunningAttempt(t *testing.T) {
	t.Parallel()
	info, _ := one(t, fast(5), func(ctx context.Context, _ order) (string, error) { <-ctx.Done(); return "", ctx.Err() },
		jobs.Deadline(time.Now().Add(1500*time.Millisecond)))
	if info.State != jobs.StateQuarantined || info.Runs > 3 || info.LastFailure().Class != jobs.ClassExpired || info.Failures[0].Class != jobs.ClassTimeout {
		t.Fatalf("%+v", info)
	}
}

func TestTimeoutIsRetried(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	info, _ := one(t, append(fast(3), jobs.Timeout(time.Second)), func(ctx context.Context, _ order) (string, error) {
		if runs.Add(1) == 1 {
			<-ctx.Done()
			return "", ctx.Err()
		}
		return "ok", nil
	})
	if info.State != jobs.StateCompleted || info.Attempts != 1 || info.Failures[0].Class != jobs.ClassTimeout {
		t.Fatalf("%+v", info)
	}
}

func TestCancelWhileRunningEndsTheContext(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[order, string]("order.one", fast(3)...)
	running, causes := make(chan struct{}), make(chan error, 1)
	b := start(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		close(running)
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return "", ctx.Err()
	})}})
	h := enqueue(t, b, kind.New("k", order{ID: 1}))
	<-running
	info, err := b.store.Cancel(t.Context(), "default", "k", by)
	if err != nil || info.State != jobs.StateRunning || !info.CancelAsked {
		t.Fatalf("%+v, %v", info, err)
	}
	info = wait(t, h)
	if info.State != jobs.StateCancelled || info.Runs != 1 || info.Attempts != 0 {
		t.Fatalf("%+v", info)
	}
	if cause := <-causes; !errors.Is(cause, jobs.ErrCancelled) {
		t.Fatalf("cause %v", cause)
	}
}

func TestCancelIsSeenAtTheNextStep(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[order, string]("order.one", fast(3)...)
	running, asked := make(chan struct{}), make(chan struct{})
	var later atomic.Int64
	b := start(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		_, err := jobs.Step(ctx, "first", func(context.Context) (int, error) { close(running); <-asked; return 1, nil })
		if err != nil {
			return "", err
		}
		_, err = jobs.Step(ctx, "second", func(context.Context) (int64, error) { return later.Add(1), nil })
		return "", err
	})}})
	h := enqueue(t, b, kind.New("k", order{ID: 1}))
	<-running
	if _, err := b.store.Cancel(t.Context(), "default", "k", by); err != nil {
		t.Fatal(err)
	}
	close(asked)
	info := wait(t, h)
	if info.State != jobs.StateCancelled || later.Load() != 0 || len(info.Steps) != 1 {
		t.Fatalf("second step ran %d times: %+v", later.Load(), info)
	}
}

func TestCancelWhilePendingEndsItAtOnce(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[order, string]("order.one")
	var runs atomic.Int64
	b := start(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(context.Context, order) (string, error) { runs.Add(1); return "", nil })}})
	if err := b.store.Register(t.Context(), "default"); err != nil {
		t.Fatal(err)
	}
	if err := b.store.PauseQueue(t.Context(), "default", by); err != nil {
		t.Fatal(err)
	}
	enqueue(t, b, kind.New("k", order{ID: 1}))
	info, err := b.store.Cancel(t.Context(), "default", "k", by)
	if err != nil || info.State != jobs.StateCancelled {
		t.Fatalf("%+v, %v", info, err)
	}
	if _, err := b.store.ResumeQueue(t.Context(), "default", by); err != nil {
		t.Fatal(err)
	}
	if info := wait(t, enqueue(t, b, kind.New("k2", order{ID: 1}))); info.State != jobs.StateCompleted || runs.Load() != 1 {
		t.Fatalf("ran %d times; %+v", runs.Load(), info)
	}
}

func TestAHandlerMayCancelItsJob(t *testing.T) {
	t.Parallel()
	info, b := one(t, fast(3), func(context.Context, order) (string, error) { return "", jobs.CancelJob("customer left") })
	events, err := b.store.Events(t.Context(), "default", 1)
	if info.State != jobs.StateCancelled || err != nil || len(events) != 1 || events[0].Reason != "customer left" {
		t.Fatalf("%+v; events %+v, %v", info, events, err)
	}
}

func TestAHandlerThatIgnoresItsContextIsAbandoned(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[order, string]("order.one", append(fast(3), jobs.Timeout(time.Second))...)
	var runs atomic.Int64
	release, late := make(chan struct{}), make(chan error, 1)
	registry := prometheus.NewRegistry()
	b := start(t, worker.Options{Grace: 50 * time.Millisecond, Registerer: registry, Handlers: []jobs.Handler{
		kind.Do(func(ctx context.Context, _ order) (string, error) {
			if runs.Add(1) > 1 {
				return "ok", nil
			}
			<-release
			_, err := jobs.Step(context.WithoutCancel(ctx), "late", func(context.Context) (int, error) { return 1, nil })
			late <- err
			return "", err
		}),
	}})
	info := wait(t, enqueue(t, b, kind.New("k", order{ID: 1})))
	if info.State != jobs.StateCompleted || info.Runs != 2 || info.Attempts != 1 || info.Failures[0].Class != jobs.ClassTimeout {
		t.Fatalf("%+v", info)
	}
	if stuck, running := metric(t, registry, "perdure_stuck_handlers"), metric(t, registry, "perdure_running"); stuck != 1 || running != 1 {
		t.Fatalf("stuck %v, running %v", stuck, running)
	}
	close(release)
	if err := <-late; !errors.Is(err, jobs.ErrLost) {
		t.Fatalf("late step: %v", err)
	}
	eventually(t, "the slot is free", func() bool {
		return metric(t, registry, "perdure_stuck_handlers") == 0 && metric(t, registry, "perdure_running") == 0
	})
	if stale := metric(t, registry, "perdure_stale_writes_total"); stale < 1 {
		t.Fatalf("stale writes %v", stale)
	}
	if info, _ := b.store.Get(t.Context(), "default", "k"); len(info.Steps) != 0 || info.State != jobs.StateCompleted {
		t.Fatalf("%+v", info)
	}
}

func TestProgressIsReadByTheNextAttempt(t *testing.T) {
	t.Parallel()
	var began []int
	info, _ := one(t, fast(4), func(ctx context.Context, _ order) (string, error) {
		return jobs.Step(ctx, "rows", func(ctx context.Context) (string, error) {
			from, _, err := jobs.Progress[int](ctx)
			if err != nil {
				return "", err
			}
			began = append(began, from)
			for row := from; row < 30; row++ {
				if row == from+10 {
					return "", errors.New("stumbled")
				}
				if err := jobs.Heartbeat(ctx, row+1); err != nil {
					return "", err
				}
			}
			return "done", nil
		})
	})
	if info.State != jobs.StateCompleted || fmt.Sprint(began) != "[0 10 20]" || len(info.Steps) != 1 || info.Steps[0].State != "done" {
		t.Fatalf("began at %v: %+v", began, info)
	}
}

func TestMiddlewareWrapsTheAttempt(t *testing.T) {
	t.Parallel()
	var order []string
	type key struct{}
	note := func(name string) jobs.Middleware {
		return func(next jobs.Next) jobs.Next {
			return func(ctx context.Context) error {
				order = append(order, name)
				about, _ := jobs.Current(ctx)
				err := next(context.WithValue(ctx, key{}, about.Key))
				order = append(order, name+" after")
				return err
			}
		}
	}
	kind := jobs.Define[struct{}, string]("order.one")
	b := start(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ struct{}) (string, error) {
		order = append(order, "handler")
		return fmt.Sprint(ctx.Value(key{})), nil
	}, note("inner")).Use(note("outer"))}})
	info := wait(t, enqueue(t, b, kind.New("k", struct{}{})))
	if got, _ := kind.Result(info); got != "k" || fmt.Sprint(order) != "[outer inner handler inner after outer after]" {
		t.Fatalf("result %q, order %v", got, order)
	}
}

func TestAnAttemptMayBeRefusedByMiddleware(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[order, string]("order.one", fast(1)...)
	ran := false
	refuse := func(jobs.Next) jobs.Next { return func(context.Context) error { return errors.New("not today") } }
	b := start(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(context.Context, order) (string, error) { ran = true; return "", nil }, refuse)}})
	if info := wait(t, enqueue(t, b, kind.New("k", order{ID: 1}))); info.State != jobs.StateQuarantined || ran {
		t.Fatalf("ran %v: %+v", ran, info)
	}
}
