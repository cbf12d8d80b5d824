package history

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/worker"
)

func TestMain(m *testing.M) { redistest.Main(m) }

func open(t *testing.T) (*File, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "history.jsonl")
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, path
}

func read(t *testing.T, path string) []Event {
	t.Helper()
	events, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func TestAHalfWrittenLineSpoilsNoOther(t *testing.T) {
	t.Parallel()
	f, path := open(t)
	if _, err := f.Call(Event{Op: Claim}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.file.WriteString("\n" + `{"id":"killed-1","op":"cla`); err != nil {
		t.Fatal(err)
	}
	other, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Call(Event{Op: Settle}); err != nil {
		t.Fatal(err)
	}
	events := read(t, path)
	if len(events) != 2 || events[0].Op != Claim || events[1].Op != Settle || events[0].ID == events[1].ID {
		t.Errorf("%+v", events)
	}
}

func TestWithoutAHistoryNothingIsDone(t *testing.T) {
	t.Parallel()
	f, _ := open(t)
	f.Close()
	w := f.Watch(&fixed{})
	if _, err := w.Claim(t.Context(), "q", "o", 1); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	if err := w.Settle(t.Context(), delivery.Delivery{}, delivery.Verdict{}); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

// fixed is a store whose writes come to a given end.
type fixed struct {
	worker.Store
	err error
}

func (s *fixed) Claim(context.Context, string, string, int) (delivery.Batch, error) {
	d := delivery.Delivery{Hold: delivery.Hold{Key: "k", Token: "1-o-1"}, Run: 2, Steps: map[string][]byte{"charge": []byte("x")}}
	return delivery.Batch{Deliveries: []delivery.Delivery{d}}, s.err
}

func (s *fixed) Checkpoint(context.Context, delivery.Hold, delivery.Checkpoint) error { return s.err }

func (s *fixed) Settle(context.Context, delivery.Delivery, delivery.Verdict) error { return s.err }

func TestAWatchedWorkerIsRecorded(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{OK: nil, Refused: jobs.ErrLost, Gone: jobs.ErrNotFound, Unknown: jobs.ErrUnavailable} {
		f, path := open(t)
		w := f.Watch(&fixed{err: err})
		if got := w.Checkpoint(t.Context(), delivery.Hold{Key: "k", Token: "t"}, delivery.Checkpoint{Step: "charge", Run: 3}); !errors.Is(got, err) {
			t.Error(got)
		}
		if got := w.Settle(t.Context(), delivery.Delivery{}, delivery.Verdict{Outcome: delivery.Retry}); !errors.Is(got, err) {
			t.Error(got)
		}
		events := read(t, path)
		if len(events) != 4 || events[0].ID != events[1].ID || events[0].Outcome != "" || events[1].Outcome != want ||
			events[1].What != "charge" || events[1].Run != 3 || events[3].Outcome != want || events[3].What != "retry" {
			t.Errorf("%s: %+v", want, events)
		}
	}
}

func TestAClaimIsRecordedByJob(t *testing.T) {
	t.Parallel()
	f, path := open(t)
	if _, err := f.Watch(&fixed{}).Claim(t.Context(), "q", "o", 1); err != nil {
		t.Fatal(err)
	}
	events := read(t, path)
	if len(events) != 2 || events[1].Key != "k" || events[1].Run != 2 || events[1].Steps["charge"] != Digest([]byte("x")) {
		t.Errorf("%+v", events)
	}
}

func TestAWithheldAnswerIsOfACommandThatRan(t *testing.T) {
	t.Parallel()
	f, path := open(t)
	o := redistest.Options(t)
	o.MaxRetries = -1
	rdb := redis.NewClient(o)
	defer rdb.Close()
	rdb.AddHook(f.Withhold(1, 0.5))
	made, failed := int64(0), 0
	for range 200 {
		made++
		var timeout interface{ Timeout() bool }
		if err := rdb.Incr(t.Context(), "n").Err(); errors.As(err, &timeout) && timeout.Timeout() {
			failed++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	plain := redis.NewClient(o)
	defer plain.Close()
	if n, err := plain.Get(t.Context(), "n").Int64(); n != made || err != nil {
		t.Errorf("%d of %d ran: %v", n, made, err)
	}
	events := read(t, path)
	if failed < 60 || failed > 140 || len(events) != failed || slices.ContainsFunc(events, func(e Event) bool { return e.Op != Unanswered || e.What != "incr" }) {
		t.Errorf("%d failed, %d recorded", failed, len(events))
	}
}
