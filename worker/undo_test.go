package worker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/worker"
)

// books is a world that keeps what was done and undone, each with its idempotency key.
type books struct {
	mu     sync.Mutex
	lines  []string
	keys   map[string]bool
	refuse map[string]error
}

func newBooks() *books { return &books{keys: map[string]bool{}, refuse: map[string]error{}} }

func (b *books) write(ctx context.Context, line string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.refuse[line]; err != nil {
		return err
	}
	if key := jobs.IdempotencyKey(ctx); !b.keys[key] {
		b.keys[key] = true
		b.lines = append(b.lines, line)
	}
	return nil
}

func (b *books) set(line string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuse[line] = err
}

func (b *books) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.lines, " ")
}

// step is one that is undone by its name with a minus.
func (b *books) step(ctx context.Context, name string) error {
	_, err := jobs.Step(ctx, name, func(ctx context.Context) (string, error) { return "-" + name, b.write(ctx, name) },
		jobs.Compensate(func(ctx context.Context, undo string) error { return b.write(ctx, undo) }))
	return err
}

// run does a and b, waits for "go" when the order says so, and does c.
func (b *books) run(ctx context.Context, o order) (string, error) {
	for _, name := range []string{"a", "b"} {
		if err := b.step(ctx, name); err != nil {
			return "", err
		}
	}
	if o.ID > 1 {
		if _, err := jobs.Await[bool](ctx, "go", 0); err != nil {
			return "", err
		}
	}
	return "done", b.step(ctx, "c")
}

var undoable = jobs.Define[order, string]("order.undo", fast(3)...)

func (b *books) start(t *testing.T) *bundle {
	t.Helper()
	s := start(t, worker.Options{Handlers: []jobs.Handler{undoable.Do(b.run)}})
	promote(t, s.store, "default")
	return s
}

func TestAJobThatFailsForGoodIsUndoneAndReplayedAnew(t *testing.T) {
	t.Parallel()
	b := newBooks()
	b.set("c", jobs.Permanent(errors.New("sold out")))
	s := b.start(t)
	h := enqueue(t, s, undoable.New("k", order{ID: 1}))
	info := wait(t, h)
	if u := info.Undo; info.State != jobs.StateQuarantined || b.text() != "a b -b -a" || u == nil || !slices.Equal(u.Undone, []string{"a", "b"}) || len(u.Left) != 0 || info.Attempts != 1 {
		t.Fatalf("%s: %+v %+v", b.text(), u, info)
	}
	if f := info.LastFailure(); len(info.Failures) != 1 || f.Step != "c" {
		t.Errorf("failures %+v", info.Failures)
	}
	b.set("c", nil)
	if _, err := s.store.Replay(t.Context(), "default", "k", false, by); err != nil {
		t.Fatal(err)
	}
	info = inState(t, s.store, "default", "k", jobs.StateCompleted)
	if b.text() != "a b -b -a a b c" || info.Undo != nil {
		t.Errorf("replayed: %s; %+v", b.text(), info.Undo)
	}
}

func TestACancelledJobIsUndone(t *testing.T) {
	t.Parallel()
	b := newBooks()
	s := b.start(t)
	h := enqueue(t, s, undoable.New("k", order{ID: 2}))
	inState(t, s.store, "default", "k", jobs.StatePaused)
	info, err := s.store.Cancel(t.Context(), "default", "k", by)
	if err != nil || info.State != jobs.StatePending && info.State != jobs.StateRunning && info.State != jobs.StateCancelled {
		t.Fatalf("%+v, %v", info, err)
	}
	info = wait(t, h)
	if u := info.Undo; info.State != jobs.StateCancelled || b.text() != "a b -b -a" || u == nil || len(u.Left) != 0 || info.Attempts != 0 {
		t.Errorf("%s: %+v %+v", b.text(), u, info)
	}
}

func TestAnUndoThatFailsForGoodSaysWhatIsUndone(t *testing.T) {
	t.Parallel()
	b := newBooks()
	b.set("-a", errors.New("no such booking"))
	s := b.start(t)
	h := enqueue(t, s, undoable.New("k", order{ID: 2}))
	inState(t, s.store, "default", "k", jobs.StatePaused)
	if _, err := s.store.Cancel(t.Context(), "default", "k", by); err != nil {
		t.Fatal(err)
	}
	info := wait(t, h)
	entry, err := s.store.Entry(t.Context(), "default", "k")
	if err != nil || info.State != jobs.StateQuarantined || info.Attempts != 3 || !strings.HasPrefix(entry.Reason, "it was to be cancelled (test: because), and cannot be undone: ") ||
		!strings.HasSuffix(entry.Reason, "; undone: b; not undone: a") || entry.Step != "undo/a" {
		t.Fatalf("%v: %+v of %+v", err, entry, info)
	}
	b.set("-a", nil)
	if _, err := s.store.Replay(t.Context(), "default", "k", false, by); err != nil {
		t.Fatal(err)
	}
	inState(t, s.store, "default", "k", jobs.StateCancelled)
	if b.text() != "a b -b -a" {
		t.Error(b.text())
	}
}

func TestAJobWhoseDeadlinePassesIsUndone(t *testing.T) {
	t.Parallel()
	b := newBooks()
	b.set("c", jobs.RetryAfter(1500*time.Millisecond, errors.New("busy")))
	s := b.start(t)
	info := wait(t, enqueue(t, s, undoable.New("k", order{ID: 1}, jobs.Deadline(time.Now().Add(time.Second)))))
	if info.State != jobs.StateQuarantined || info.LastFailure().Class != jobs.ClassExpired || b.text() != "a b -b -a" {
		t.Errorf("%s: %+v", b.text(), info)
	}
}

// marks names the file that tells what undos have done in other processes.
const marks = "PERDURE_TEST_MARKS"

// undoInFile undoes by a line in the file; the first one ends its process before that
// is recorded.
func undoInFile(ctx context.Context, name string) error {
	before, _ := os.ReadFile(os.Getenv(marks))
	if !strings.Contains(string(before), jobs.IdempotencyKey(ctx)) {
		f, err := os.OpenFile(os.Getenv(marks), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(f, name, jobs.IdempotencyKey(ctx)); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	if len(before) == 0 {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return nil
}

// undone is a deadly job that fails once two steps are done.
func undone(ctx context.Context) (string, error) {
	for _, name := range []string{"a", "b"} {
		_, err := jobs.Step(ctx, name, func(context.Context) (string, error) { return name, nil },
			jobs.Compensate(undoInFile))
		if err != nil {
			return "", err
		}
	}
	return "", jobs.Permanent(errors.New("it cannot work"))
}

func wantMarks(t *testing.T, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if lines := strings.Fields(string(data)); err != nil || len(lines) != 4 || lines[0] != "b" || lines[2] != "a" {
		t.Errorf("undos %q, %v", data, err)
	}
}

func TestAWorkerDiesInTheMiddleOfAnUndo(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	s := connect(t, url)
	file := filepath.Join(t.TempDir(), "marks")
	enqueueAll(t, s, []jobs.Job{deadly.New("k", "undo")})
	f := startFleet(t, url, 2, marks+"="+file)
	info := inState(t, s, "default", "k", jobs.StateQuarantined)
	f.stop()
	if u := info.Undo; f.deaths.Load() != 1 || info.Crashes != 1 || u == nil || !slices.Equal(u.Undone, []string{"a", "b"}) {
		t.Errorf("%d deaths: %+v of %+v", f.deaths.Load(), info.Undo, info)
	}
	wantMarks(t, file)
}

func TestASuspectIsUndoneInItsProcess(t *testing.T) {
	t.Setenv(marks, filepath.Join(t.TempDir(), "marks"))
	s := connect(t, redistest.URL(t))
	job := deadly.New("k", "undo")
	enqueueAll(t, s, []jobs.Job{job})
	batch, err := s.Claim(t.Context(), "default", "first", 1)
	if err != nil || len(batch.Deliveries) != 1 {
		t.Fatalf("%+v, %v", batch, err)
	}
	d := batch.Deliveries[0]
	for _, c := range []delivery.Checkpoint{{Step: "first", Output: []byte("1")}, {Step: "a", Output: []byte(`"a"`), Undoable: true}, {Step: "b", Output: []byte(`"b"`), Undoable: true}} {
		c.Run = 1
		if err := s.Checkpoint(t.Context(), d.Hold, c); err != nil {
			t.Fatal(err)
		}
	}
	u := delivery.Undo{Outcome: delivery.Quarantine, Reason: "it cannot work", Entry: delivery.Entry{Class: jobs.ClassInvalid, Reason: "it cannot work"}}
	if err := s.Settle(t.Context(), d, delivery.Verdict{Outcome: delivery.Takeback, Undo: &u}); err != nil {
		t.Fatal(err)
	}
	dieOf(t, s, job)
	o := deadlyOptions()
	o.Child = []string{os.Args[0]}
	runScheduler(t, s)
	runWorker(t, s, o)
	info := inState(t, s, "default", "k", jobs.StateQuarantined)
	if u := info.Undo; u == nil || !slices.Equal(u.Undone, []string{"a", "b"}) || info.LastFailure().Rule != "isolated process ended" {
		t.Errorf("%+v of %+v", info.Undo, info)
	}
	wantMarks(t, os.Getenv(marks))
}
