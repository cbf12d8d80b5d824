package worker_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/worker"
)

// versioned is a version of a kind whose jobs wait for a signal and then say what
// they are.
func versioned(n int) jobs.Handler {
	kind := jobs.Define[order, int]("order.versioned", append(fast(3), jobs.Version(n))...)
	return kind.Do(func(ctx context.Context, _ order) (int, error) {
		_, err := jobs.Await[bool](ctx, "go", 0)
		return n, err
	})
}

func versionOf(t *testing.T, b *bundle, key string) int {
	t.Helper()
	info := inState(t, b.store, "default", key, jobs.StateCompleted)
	n, err := jobs.Define[order, int]("order.versioned").Result(info)
	if err != nil || info.Attempts != 0 {
		t.Fatalf("%+v, %v", info, err)
	}
	return n
}

func TestAJobGoesOnInTheVersionItBeganIn(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[order, int]("order.versioned")
	b := start(t, worker.Options{Handlers: []jobs.Handler{versioned(1)}})
	enqueue(t, b, kind.New("old", order{}))
	inState(t, b.store, "default", "old", jobs.StatePaused)
	b.stop()

	// Only the new version is there.
	next := &bundle{store: b.store}
	next.run(t, worker.Options{Handlers: []jobs.Handler{versioned(2)}})
	signal, err := jobs.NewSignal("go", true)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"old", "new"} {
		if key == "new" {
			enqueue(t, next, kind.New("new", order{}))
		}
		if err := b.store.Signal(t.Context(), "default", key, signal); err != nil {
			t.Fatal(err)
		}
	}
	if n := versionOf(t, next, "new"); n != 2 {
		t.Errorf("the new one ran in version %d", n)
	}
	eventually(t, "the old one waits for its version", func() bool {
		info, err := b.store.Get(t.Context(), "default", "old")
		return err == nil && info.WaitingOn != nil && info.WaitingOn.Type == "version" && info.Version == 1
	})
	next.stop()

	// Both are there.
	last := &bundle{store: b.store}
	last.run(t, worker.Options{Handlers: []jobs.Handler{versioned(2), versioned(1)}})
	b.store.Redis().ZAdd(t.Context(), "asynq:{default}:retry", dueNow("old"))
	b.store.Redis().HSet(t.Context(), "asynq:{default}:t:old", "p:due", time.Now().Add(-time.Second).UnixMilli())
	if n := versionOf(t, last, "old"); n != 1 {
		t.Errorf("the old one ended in version %d", n)
	}
	if kinds, err := b.store.Kinds(t.Context()); err != nil || kinds["order.versioned"].Version != 2 {
		t.Errorf("published %+v, %v", kinds, err)
	}
}

func TestAVersionIsGivenOnce(t *testing.T) {
	t.Parallel()
	if _, err := worker.New(newFaulty(t), worker.Options{Handlers: []jobs.Handler{versioned(1), versioned(2), versioned(1)}}); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("%v", err)
	}
}
