package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/worker"
)

var label = jobs.Define[order, string]("order.label", jobs.Queue("labels"), jobs.Retry(jobs.Fixed(10*time.Millisecond, 2)))

// served runs labels: those of a negative order fail for good.
func labels(made *atomic.Int64) jobs.Handler {
	return label.Do(func(_ context.Context, o order) (string, error) {
		made.Add(1)
		if o.ID < 0 {
			return "", jobs.Permanent(errors.New("no such order"))
		}
		return fmt.Sprint("label ", o.ID), nil
	})
}

func TestAParentIsCalledBack(t *testing.T) {
	t.Parallel()
	parent := jobs.Define[order, string]("order.ship")
	var made, runs atomic.Int64
	b := start(t, worker.Options{Handlers: []jobs.Handler{labels(&made), parent.Do(func(ctx context.Context, o order) (string, error) {
		runs.Add(1)
		text, err := jobs.Call(ctx, "label", label, o)
		return "with " + text, err
	})}})
	begun := time.Now()
	info := wait(t, enqueue(t, b, parent.New("p", order{ID: 7})))
	took := time.Since(begun)
	if result, err := parent.Result(info); err != nil || result != "with label 7" || info.Runs > 2 || info.Attempts != 0 || made.Load() != 1 || took > time.Second {
		t.Fatalf("%q, %v after %v: %+v", result, err, took, info)
	}
	child, err := b.store.Get(t.Context(), "labels", "p~label")
	if err != nil || child.State != jobs.StateCompleted {
		t.Fatalf("%+v, %v", child, err)
	}
}

func TestAChildThatFails(t *testing.T) {
	t.Parallel()
	parent := jobs.Define[order, string]("order.ship")
	var made atomic.Int64
	b := start(t, worker.Options{Handlers: []jobs.Handler{labels(&made), parent.Do(func(ctx context.Context, o order) (string, error) {
		return jobs.Call(ctx, "label", label, o)
	})}})
	info := wait(t, enqueue(t, b, parent.New("p", order{ID: -1})))
	last := info.LastFailure()
	if info.State != jobs.StateQuarantined || last.Class != jobs.ClassInvalid || last.Rule != "child quarantined" || last.Step != "label" ||
		!strings.Contains(last.Message, "child labels/p~label is quarantined: no such order") {
		t.Fatalf("%+v", info)
	}
}

func TestFanOut(t *testing.T) {
	t.Parallel()
	parent := jobs.Define[[]int, []string]("order.parcels")
	var made, runs atomic.Int64
	b := start(t, worker.Options{Concurrency: 32, Handlers: []jobs.Handler{labels(&made), parent.Do(func(ctx context.Context, ids []int) ([]string, error) {
		runs.Add(1)
		return jobs.CallEach(ctx, "parcels", ids, func(id int) string { return fmt.Sprint("n", id) }, label, func(id int) order { return order{ID: id} })
	})}})
	ids := make([]int, 1200)
	for i := range ids {
		ids[i] = i
	}
	info := wait(t, enqueue(t, b, parent.New("p", ids)))
	labels, err := parent.Result(info)
	if err != nil || len(labels) != len(ids) || labels[1199] != "label 1199" || info.Runs != 2 || made.Load() != int64(len(ids)) {
		t.Fatalf("%d labels, %d made, %v: %+v", len(labels), made.Load(), err, info)
	}
	if slices.Contains(labels, "") {
		t.Error("a label is missing")
	}
}
