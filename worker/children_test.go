package worker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/worker"
)

var label = jobs.Define[order, string]("order.label", jobs.Queue("labels"), jobs.Retry(jobs.Fixed(10*time.Millisecond, 2)))

// labels runs them: those of a negative order fail for good.
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
	info := wait(t, enqueue(t, b, parent.New("p", order{ID: 7}))) // a parent looks by itself only each hour
	if result, err := parent.Result(info); err != nil || result != "with label 7" || info.Runs > 2 || info.Attempts != 0 || made.Load() != 1 {
		t.Fatalf("%q, %v: %+v", result, err, info)
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

// muted is a store whose worker relays nothing, as one that dies when a child has ended.
type muted struct{ *faulty }

func (muted) Relay(context.Context, string) (bool, error) { return false, nil }

func TestACourierThatDiesIsFollowedByAnother(t *testing.T) {
	t.Parallel()
	s := newFaulty(t)
	parent := jobs.Define[order, string]("order.one")
	var made atomic.Int64
	runWorker(t, muted{s}, worker.Options{Handlers: []jobs.Handler{labels(&made), parent.Do(func(ctx context.Context, o order) (string, error) {
		if _, err := jobs.Spawn(ctx, "label", label, o, jobs.Delay(time.Second)); err != nil {
			return "", err
		}
		return jobs.Call(ctx, "other", label, o, jobs.Delay(time.Second))
	})}})
	add(t, s, parent, 1)
	inState(t, s.Store, "default", "k0", jobs.StatePaused)
	runScheduler(t, s.Store)
	info := inState(t, s.Store, "default", "k0", jobs.StateCompleted)
	if result, err := parent.Result(info); err != nil || result != "label 0" || info.Runs != 2 {
		t.Errorf("%q, %v: %+v", result, err, info)
	}
	inState(t, s.Store, "labels", "k0~label", jobs.StateCompleted)
}

// A worker dies when the parent has read its child; the next finds the same.
func TestACrashAfterAChildHasEnded(t *testing.T) {
	t.Parallel()
	s := newFaulty(t)
	runScheduler(t, s.Store)
	parent := jobs.Define[order, string]("order.one")
	var made, runs atomic.Int64
	running, release := make(chan struct{}, 2), make(chan struct{})
	o := worker.Options{Beat: 50 * time.Millisecond, ShutdownTimeout: time.Millisecond, Grace: time.Millisecond, Handlers: []jobs.Handler{
		labels(&made), parent.Do(func(ctx context.Context, o order) (string, error) {
			text, err := jobs.Call(ctx, "label", label, o)
			if err == nil && runs.Add(1) == 1 {
				running <- struct{}{}
				<-release
			}
			return text, err
		})}}
	doomed := &faulty{Store: s.Store}
	runWorker(t, doomed, o)
	add(t, s, parent, 1)
	<-running
	doomed.dead.Store(true)
	defer close(release)
	runWorker(t, s, o)
	info := inState(t, s.Store, "default", "k0", jobs.StateCompleted)
	if result, err := parent.Result(info); err != nil || result != "label 0" || info.Crashes != 1 || made.Load() != 1 {
		t.Errorf("%q, %v, %d made: %+v", result, err, made.Load(), info)
	}
}

func TestCancellingAParentStopsItsChildren(t *testing.T) {
	t.Parallel()
	parent := jobs.Define[[]int, []string]("order.parcels")
	endless := jobs.Define[order, string]("order.endless", jobs.Queue("labels"))
	told := make(chan struct{}, 1)
	b := start(t, worker.Options{Concurrency: 4, Handlers: []jobs.Handler{
		endless.Do(func(ctx context.Context, _ order) (string, error) {
			<-ctx.Done()
			select {
			case told <- struct{}{}:
			default:
			}
			return "", context.Cause(ctx)
		}),
		parent.Do(func(ctx context.Context, ids []int) ([]string, error) {
			return jobs.CallEach(ctx, "parcels", ids, func(id int) string { return fmt.Sprint("n", id) }, endless, func(id int) order { return order{ID: id} })
		})}})
	enqueue(t, b, parent.New("p", []int{1, 2, 3, 4, 5, 6}))
	inState(t, b.store, "default", "p", jobs.StatePaused)
	inState(t, b.store, "labels", "p~parcels~~n1", jobs.StateRunning)
	if _, err := b.store.Cancel(t.Context(), "default", "p", by); err != nil {
		t.Fatal(err)
	}
	<-told
	for id := range 6 {
		inState(t, b.store, "labels", fmt.Sprint("p~parcels~~n", id+1), jobs.StateCancelled)
	}
}

func TestASuspectCallsAChild(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.URL(t))
	suspect(t, s, deadly.New("call", "call"))
	o := deadlyOptions()
	o.Child = []string{os.Args[0]}
	runScheduler(t, s)
	runWorker(t, s, o)
	info := inState(t, s, "default", "call", jobs.StateCompleted)
	if result, err := deadly.Result(info); err != nil || result != "7" || len(info.Children) != 1 {
		t.Errorf("%q, %v: %+v", result, err, info)
	}
}

// chick is a child of a brood. What it does it does once in its life.
var chick = jobs.Define[int, string]("chick", append(fast(3), jobs.Queue("chicks"))...)

func chickHandler() jobs.Handler {
	return chick.Do(func(ctx context.Context, n int) (string, error) {
		return jobs.Step(ctx, "hatch", func(context.Context) (string, error) { return fmt.Sprint(n), nil })
	})
}

// broodSize is the environment variable that says how many children a brood has.
const broodSize = "PERDURE_TEST_BROOD"

func brood(ctx context.Context) (string, error) {
	size, err := strconv.Atoi(os.Getenv(broodSize))
	if err != nil {
		return "", jobs.Permanent(err)
	}
	eggs := make([]int, size)
	for i := range eggs {
		eggs[i] = i
	}
	hatched, err := jobs.CallEach(ctx, "eggs", eggs, strconv.Itoa, chick, func(n int) int { return n })
	for i, text := range hatched {
		if text != strconv.Itoa(i) {
			return "", jobs.Permanent(fmt.Errorf("child %d is %q", i, text))
		}
	}
	return fmt.Sprint(len(hatched)), err
}

func TestFanOutUnderWorkerKills(t *testing.T) {
	t.Parallel()
	fanOutUnderKills(t, 10_000, 6, 2*time.Minute)
}

// fanOutUnderKills runs a brood on three worker processes; among it are jobs that kill
// two of them each.
func fanOutUnderKills(t *testing.T, size, killers int, limit time.Duration) {
	t.Helper()
	url := redistest.URL(t)
	s := connect(t, url)
	parent := deadly.New("brood", "brood")
	enqueueAll(t, s, []jobs.Job{parent})
	began := time.Now()
	f := startFleet(t, url, 3, fmt.Sprint(broodSize, "=", size))
	eventually(t, "the children are made", func() bool {
		q, err := s.QueueInfo(t.Context(), "chicks")
		return err == nil && q.Ended > 0
	})
	for i := range killers {
		enqueueAll(t, s, []jobs.Job{deadly.New(fmt.Sprint("kill:", i), "kill")})
		time.Sleep(500 * time.Millisecond)
	}
	info := ended(t, s, []jobs.Job{parent}, limit)[parent.Key]
	took := time.Since(began)
	f.stop()
	q, err := s.QueueInfo(t.Context(), "chicks")
	if err != nil || q.Ended != int64(size) || q.Processed != int64(size) {
		t.Errorf("%d children, %d times processed, want %d: %+v, %v", q.Ended, q.Processed, size, q, err)
	}
	if result, err := deadly.Result(info); err != nil || result != strconv.Itoa(size) || info.Runs-info.Crashes > 2 {
		t.Errorf("%q, %v: %+v", result, err, info)
	}
	t.Logf("%d children in %v; %d workers died, the parent ran %d times, %d of them for crashes", size, took.Round(time.Millisecond), f.deaths.Load(), info.Runs, info.Crashes)
}
