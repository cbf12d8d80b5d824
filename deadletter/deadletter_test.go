package deadletter_test

import (
	"errors"
	"testing"
	"time"

	"github.com/perdure/perdure/deadletter"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

func TestMain(m *testing.M) { redistest.Main(m) }

var kind = jobs.Define[int, int]("sum")

var why = jobs.Decision{Actor: "ada", Reason: "mended"}

// isolate enqueues a job, records a step of it and quarantines it.
func isolate(t *testing.T, s *store.Store, key, message string) {
	t.Helper()
	if _, err := s.Enqueue(t.Context(), kind.New(key, 1)); err != nil {
		t.Fatal(err)
	}
	fail(t, s, message)
}

// fail quarantines the job that is next.
func fail(t *testing.T, s *store.Store, message string) {
	t.Helper()
	batch, err := s.Claim(t.Context(), "default", "owner", 1)
	if err != nil || len(batch.Deliveries) != 1 {
		t.Fatalf("claim: %v %+v", err, batch)
	}
	d := batch.Deliveries[0]
	err = s.Checkpoint(t.Context(), d.Hold, delivery.Checkpoint{Step: "first", Output: []byte("1"), Run: d.Run})
	if err != nil && d.Steps["first"] == nil { // a replayed job has it recorded
		t.Fatal(err)
	}
	f, _ := jobs.NewFailure(jobs.Permanent(errors.New(message)), time.Now(), "w", d.Run)
	entry := delivery.Entry{Class: f.Class, Rule: f.Rule, Reason: "no use", Message: f.Message}
	if err := s.Settle(t.Context(), d, delivery.Verdict{Outcome: delivery.Quarantine, Failure: &f, Entry: entry}); err != nil {
		t.Fatal(err)
	}
}

func TestAnEntryKeepsItsStoryUntilSomeoneDecides(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	s := store.New(client, client)
	q := deadletter.New(s)
	isolate(t, s, "a", "row 17 is bad")
	isolate(t, s, "b", "row 18 is bad")
	found, err := q.List(t.Context(), deadletter.Query{})
	if err != nil || found.Next != "" || len(found.Entries) != 2 || found.Entries[0].Signature != found.Entries[1].Signature {
		t.Fatalf("%v %+v", err, found)
	}
	e, err := q.Show(t.Context(), "default", "a")
	if err != nil || e.Class != jobs.ClassInvalid || e.Message != "row 17 is bad" || len(e.Steps) != 1 || len(e.Failures) != 1 {
		t.Fatalf("%v %+v", err, e)
	}
	info, err := q.Replay(t.Context(), "default", "a", false, why)
	if err != nil || info.State != jobs.StatePending || len(info.Steps) != 1 || info.Attempts != 0 || info.Incarnation != e.Incarnation {
		t.Fatalf("%v %+v", err, info)
	}
	if _, err := q.Show(t.Context(), "default", "a"); !errors.Is(err, jobs.ErrConflict) {
		t.Fatalf("show of a replayed job: %v", err)
	}
	if info, err = q.Replay(t.Context(), "default", "b", true, why); err != nil || len(info.Steps) != 0 {
		t.Fatalf("from the start: %v %+v", err, info)
	}
	if _, err := q.Discard(t.Context(), "default", "b", why); !errors.Is(err, jobs.ErrConflict) {
		t.Fatalf("discard of a replayed job: %v", err)
	}
	isolate(t, s, "c", "bad") // claims a or b, which wait: whichever it is, it is isolated again
	found, err = q.List(t.Context(), deadletter.Query{Queue: "default"})
	if err != nil || len(found.Entries) != 1 {
		t.Fatalf("%v %+v", err, found)
	}
	entries := found.Entries
	if _, err := q.Discard(t.Context(), "default", entries[0].Key, jobs.Decision{Actor: "ada"}); !errors.Is(err, jobs.ErrInvalid) {
		t.Fatalf("discard without a reason: %v", err)
	}
	if _, err := q.Discard(t.Context(), "default", entries[0].Key, why); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Show(t.Context(), "default", entries[0].Key); !errors.Is(err, jobs.ErrNotFound) {
		t.Fatalf("show of a discarded job: %v", err)
	}
}
