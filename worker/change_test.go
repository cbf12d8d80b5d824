package worker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/worker"
)

func TestARecordedStepThatIsGoneFromTheCode(t *testing.T) {
	t.Parallel()
	var code atomic.Value
	code.Store([]string{"reserve"})
	info, b := one(t, fast(3), func(ctx context.Context, _ order) (string, error) {
		for _, name := range code.Load().([]string) {
			if _, err := jobs.Step(ctx, name, func(context.Context) (string, error) { return name, nil }); err != nil {
				return "", err
			}
		}
		if about, _ := jobs.Current(ctx); about.Attempt == 1 {
			code.Store([]string{"book"})
			return "", errors.New("try again, after a deployment")
		}
		return "done", nil
	})
	f := info.LastFailure()
	if info.State != jobs.StateQuarantined || f.Class != jobs.ClassInvalid || !strings.Contains(f.Message, "recorded steps: reserve. Were they renamed") || info.Attempts != 2 {
		t.Fatalf("%+v", info)
	}
	code.Store([]string{"reserve", "book"}) // put back, as the message says
	if _, err := b.store.Replay(t.Context(), "default", "k", false, by); err != nil {
		t.Fatal(err)
	}
	inState(t, b.store, "default", "k", jobs.StateCompleted)
}

type (
	orderV1 struct{ Total string }
	orderV2 struct{ Cents int }
)

func TestAPayloadIsMigratedToTheVersionThatRuns(t *testing.T) {
	t.Parallel()
	old := jobs.Define[orderV1, string]("order.bill", fast(3)...)
	next := jobs.Define[orderV2, string]("order.bill", append(fast(3), jobs.Version(2), jobs.Migrate(1, func(o orderV1) (orderV2, error) {
		var cents int
		_, err := fmt.Sscanf(o.Total, "%d ct", &cents)
		return orderV2{cents}, err
	}))...)
	last := jobs.Define[orderV2, string]("order.bill", append(fast(3), jobs.Version(3))...)
	b := start(t, worker.Options{Handlers: []jobs.Handler{next.Do(func(_ context.Context, o orderV2) (string, error) { return fmt.Sprint(o.Cents), nil })}})
	for _, c := range []struct {
		job    jobs.Job
		state  jobs.State
		result string
	}{
		{old.New("old", orderV1{"40 ct"}), jobs.StateCompleted, "40"},
		{old.New("bad", orderV1{"much"}), jobs.StateQuarantined, "on its way from version 1 to 2"},
		{next.New("new", orderV2{41}), jobs.StateCompleted, "41"},
	} {
		info := wait(t, enqueue(t, b, c.job))
		if result, err := next.Result(info); info.State != c.state || err == nil && result != c.result || err != nil && (!strings.Contains(info.LastFailure().Message, c.result) || info.Version != 2) {
			t.Errorf("%s: %q, %v, %+v", c.job.Key, result, err, info)
		}
	}
	enqueue(t, b, last.New("too-new", orderV2{42}))
	info := inState(t, b.store, "default", "too-new", jobs.StatePaused)
	if w := info.WaitingOn; w.Type != "version" || w.Name != "it was enqueued for version 3 of kind order.bill, and the newest here is 2" || info.Attempts != 0 {
		t.Errorf("%+v", info)
	}
}

func TestAJobWithoutAnEndBeginsAnew(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[order, string]("order.endless", fast(3)...)
	label := jobs.Define[int, string]("label", fast(3)...)
	var tried atomic.Bool
	b := start(t, worker.Options{Handlers: []jobs.Handler{
		label.Do(func(_ context.Context, n int) (string, error) { return fmt.Sprint("label ", n), nil }),
		kind.Do(func(ctx context.Context, o order) (string, error) {
			n, err := jobs.Step(ctx, "next", func(context.Context) (int, error) { return o.ID + 1, nil },
				jobs.Compensate(func(context.Context, int) error { return nil }))
			if err != nil {
				return "", err
			}
			if !tried.Swap(true) {
				return "", errors.New("once more")
			}
			text, err := jobs.Call(ctx, "label", label, n)
			if err != nil || n == 4 {
				return text, err
			}
			return "", jobs.ContinueAs(order{ID: n})
		}),
	}})
	promote(t, b.store, "default")
	h := enqueue(t, b, kind.New("k", order{ID: 1}))
	info := wait(t, h)
	result, err := kind.Result(info)
	if err != nil || result != "label 4" || info.Round != 2 || info.Runs < 4 || info.Runs > 7 || info.Attempts != 0 || len(info.Steps) != 2 || info.Incarnation != h.Incarnation || info.Undo != nil {
		t.Errorf("%q, %v: %+v", result, err, info)
	}
	for i, key := range []string{"k~label", jobs.ChildKey("k", "label~1", ""), jobs.ChildKey("k", "label~2", "")} {
		child := inState(t, b.store, "default", key, jobs.StateCompleted)
		if result, _ := label.Result(child); result != fmt.Sprint("label ", i+2) {
			t.Errorf("%s is %q", key, result)
		}
	}
	if again := enqueue(t, b, kind.New("k", order{ID: 1})); !again.Duplicate {
		t.Errorf("the first request again: %+v", again)
	}
}

func TestMoreThanAJobMayRecord(t *testing.T) {
	t.Parallel()
	info, _ := one(t, append(fast(3), jobs.MaxSteps(2)), func(ctx context.Context, _ order) (string, error) {
		for i := range 3 {
			if _, err := jobs.Step(ctx, fmt.Sprint("s", i), func(context.Context) (int, error) { return i, nil }); err != nil {
				return "", err
			}
		}
		return "done", nil
	})
	if f := info.LastFailure(); info.State != jobs.StateQuarantined || len(info.Steps) != 2 || !strings.Contains(f.Message, "recorded steps of the job 3: must be at most 2") {
		t.Errorf("%+v", info)
	}
}
