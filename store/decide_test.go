package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Settle's errors, over what TestScripts shows of its scripts.
func TestSettle(t *testing.T) {
	t.Parallel()
	for _, outcome := range outcomes() {
		t.Run(string(outcome), func(t *testing.T) {
			t.Parallel()
			f := open(t)
			d := f.running("k")
			f.ok(f.Settle(f.ctx, d, verdicts[outcome]))
			before := f.dump()
			f.ok(f.Settle(f.ctx, d, verdicts[outcome]))
			f.same(before, "a verdict sent twice")
			other := d
			other.Token = "1-o-2"
			if err := f.Settle(f.ctx, other, verdicts[outcome]); !errors.Is(err, jobs.ErrLost) {
				t.Errorf("another token: %v", err)
			}
			other.Key = "gone"
			if err := f.Settle(f.ctx, other, verdicts[outcome]); !errors.Is(err, jobs.ErrNotFound) {
				t.Errorf("no job: %v", err)
			}
			f.same(before, "verdicts that were refused")
		})
	}
	f := open(t)
	if err := f.Settle(f.ctx, f.running("k"), delivery.Verdict{Outcome: "?"}); err == nil {
		t.Error("an unknown outcome was taken")
	}
}

func TestVerdictsAsSeen(t *testing.T) {
	t.Parallel()
	f := open(t)
	states := map[delivery.Outcome]jobs.State{
		delivery.Complete: jobs.StateCompleted, delivery.Retry: jobs.StateRetrying, delivery.Pause: jobs.StatePaused,
		delivery.Quarantine: jobs.StateQuarantined, delivery.Cancel: jobs.StateCancelled, delivery.HandBack: jobs.StatePending,
	}
	for outcome, state := range states {
		key := string(outcome)
		f.settle(f.running(key), outcome)
		info, err := f.Get(f.ctx, "q", key)
		f.ok(err)
		if info.State != state || info.Runs != 1 {
			t.Errorf("%s: %+v", key, info)
		}
		if used := info.Attempts == 1; used != (outcome == delivery.Retry || outcome == delivery.Quarantine) {
			t.Errorf("%s uses %d attempts", key, info.Attempts)
		}
		if ends := !info.ExpiresAt.IsZero(); ends != (outcome == delivery.Complete || outcome == delivery.Cancel) {
			t.Errorf("%s expires %v", key, info.ExpiresAt)
		}
		if failed := len(info.Failures) == 1; failed != slices.Contains([]delivery.Outcome{delivery.Retry, delivery.Pause, delivery.Quarantine}, outcome) {
			t.Errorf("%s: failures %v", key, info.Failures)
		}
		if outcome == delivery.HandBack {
			f.settle(f.take(), delivery.Complete)
		}
	}
	info, _ := f.Get(f.ctx, "q", "complete")
	if string(info.Result) != `"done"` {
		t.Errorf("result %s", info.Result)
	}
	info, _ = f.Get(f.ctx, "q", "pause")
	if w := info.WaitingOn; w == nil || w.Type != "kind" || w.Name != "pay ments" || w.Since.IsZero() || !w.Until.Equal(info.DueAt) {
		t.Errorf("waiting on %+v", w)
	}
	entry, err := f.Entry(f.ctx, "q", "quarantine")
	want := verdicts[delivery.Quarantine].Entry
	want.Kind, want.Version = "kind.a", 1
	if err != nil || !reflect.DeepEqual(entry, want.Signed()) {
		t.Errorf("entry %+v, %v", entry, err)
	}
}

func TestFailuresKept(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.enqueue("k")
	for i := range keptFailures + 3 {
		d := f.take()
		failure := failed
		failure.Attempt = i + 1
		f.ok(f.Settle(f.ctx, d, delivery.Verdict{Outcome: delivery.Retry, Failure: &failure}))
		f.due("k")
		f.promote()
	}
	info, _ := f.Get(f.ctx, "q", "k")
	if len(info.Failures) != keptFailures+1 || info.Failures[0].Attempt != 1 || info.Failures[1].Attempt != 4 || info.LastFailure().Attempt != keptFailures+3 {
		t.Errorf("failures %+v", info.Failures)
	}
	fields := slices.Collect(maps.Keys(f.rdb.HGetAll(f.ctx, taskKey("q", "k")).Val()))
	if n := len(slices.DeleteFunc(fields, func(s string) bool { return !strings.HasPrefix(s, "f:") })); n != keptFailures+1 {
		t.Errorf("%d failures are stored", n)
	}
}

// TestVersionIsPinnedOnce: by the first verdict that knows it, for good.
func TestVersionIsPinnedOnce(t *testing.T) {
	t.Parallel()
	for _, outcome := range []delivery.Outcome{delivery.Pause, delivery.Quarantine} {
		f := open(t)
		f.enqueue("k")
		for _, step := range []struct{ says, want int }{{0, 0}, {3, 3}, {4, 3}, {0, 3}} {
			d := f.take()
			d.Version = step.says
			f.ok(f.Settle(f.ctx, d, verdicts[outcome]))
			if info, _ := f.Get(f.ctx, "q", "k"); info.Version != step.want {
				t.Errorf("%s of version %d: pinned %d", outcome, step.says, info.Version)
			}
			runNow(f, nil)
		}
	}
}

func TestSteps(t *testing.T) {
	t.Parallel()
	f := open(t)
	d := f.running("k")
	f.ok(f.SaveProgress(f.ctx, d.Hold, "b", []byte("7")))
	f.ok(f.SaveProgress(f.ctx, d.Hold, "", []byte("all")))
	f.ok(f.SaveProgress(f.ctx, d.Hold, "a", []byte("x")))
	f.ok(f.Checkpoint(f.ctx, d.Hold, delivery.Checkpoint{Step: "a", Output: []byte("with a \x00 b"), Run: 1}))
	f.ok(f.Checkpoint(f.ctx, d.Hold, delivery.Checkpoint{Step: "a", Output: []byte("other"), Run: 1}))
	if err := f.Checkpoint(f.ctx, d.Hold, delivery.Checkpoint{Step: "a", Output: []byte("other"), Run: 2}); !errors.Is(err, jobs.ErrLost) {
		t.Errorf("recorded by another execution: %v", err)
	}
	info, _ := f.Get(f.ctx, "q", "k")
	if len(info.Steps) != 2 || info.Steps[0].Name != "a" || info.Steps[0].State != "done" || info.Steps[1].State != "in progress" {
		t.Errorf("steps %+v", info.Steps)
	}
	f.settle(d, delivery.HandBack)
	d = f.take()
	if string(d.Steps["a"]) != "with a \x00 b" || len(d.Steps) != 1 || string(d.Progress["b"]) != "7" || string(d.Progress[""]) != "all" || len(d.Progress) != 2 {
		t.Errorf("steps %q, progress %q", d.Steps, d.Progress)
	}
	full := map[string]any{}
	for i := range maxFields {
		full[fmt.Sprintf("s:%d", i)] = "1 1 1 "
	}
	f.rdb.HSet(f.ctx, taskKey("q", "k"), full)
	if err := f.Checkpoint(f.ctx, d.Hold, delivery.Checkpoint{Step: "more", Run: 2}); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("too many steps: %v", err)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	waiting := map[string]func(f *fixture){
		"pending":   func(f *fixture) { f.enqueue("k") },
		"scheduled": func(f *fixture) { f.enqueue("k", jobs.Delay(3600e9)) },
		"retrying":  func(f *fixture) { ended(delivery.Retry)(f) },
		"paused":    func(f *fixture) { ended(delivery.Pause)(f) },
	}
	for name, arrange := range waiting {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			arrange(f)
			for range 2 {
				info, err := f.Cancel(f.ctx, "q", "k", why)
				if err != nil || info.State != jobs.StateCancelled || info.ExpiresAt.IsZero() {
					t.Errorf("%+v, %v", info, err)
				}
			}
			f.wantDecisions("cancel k by ada: because")
			if n := f.rdb.Exists(f.ctx, pendingKey("q"), scheduledKey("q"), retryKey("q"), parkedKey("q")).Val(); n != 0 {
				t.Errorf("left: %v", f.dump())
			}
			m, _ := decodeMessage([]byte(f.field("k", "msg")))
			if m.ErrorMsg != "cancelled: because" || m.CompletedAt == 0 {
				t.Errorf("message %+v", m)
			}
		})
	}
	t.Run("running", func(t *testing.T) {
		t.Parallel()
		f := open(t)
		d := f.running("k")
		for range 2 {
			if info, err := f.Cancel(f.ctx, "q", "k", why); err != nil || info.State != jobs.StateRunning || !info.CancelAsked {
				t.Errorf("%+v, %v", info, err)
			}
		}
		for range 2 {
			if err := f.Checkpoint(f.ctx, d.Hold, delivery.Checkpoint{Step: "s", Run: 1}); !errors.Is(err, jobs.ErrCancelled) {
				t.Errorf("checkpoint: %v", err)
			}
		}
		if err := f.SaveProgress(f.ctx, d.Hold, "s", nil); !errors.Is(err, jobs.ErrCancelled) {
			t.Errorf("progress: %v", err)
		}
		f.settle(d, delivery.HandBack)
		if d = f.take(); d.CancelAsked != "ada: because" {
			t.Errorf("the next execution is told %q", d.CancelAsked)
		}
		f.ok(f.Settle(f.ctx, d, verdicts[delivery.Cancel]))
		f.wantDecisions("cancel k by ada: because")
		if info, _ := f.Get(f.ctx, "q", "k"); info.State != jobs.StateCancelled || info.CancelAsked || len(info.Steps) == 0 {
			t.Errorf("%+v", info)
		}
	})
	for name, arrange := range map[string]func(f *fixture) any{"completed": ended(delivery.Complete), "quarantined": deadJob} {
		f := open(t)
		arrange(f)
		if info, err := f.Cancel(f.ctx, "q", "k", why); !errors.Is(err, jobs.ErrConflict) || info.Key != "k" {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
	f := open(t)
	if _, err := f.Cancel(f.ctx, "q", "k", why); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("no job: %v", err)
	}
	f.same(keyspace{}, "cancelling no job")
}

// TestCancelThenQuarantine: the request does not stay to cancel a later replay.
func TestCancelThenQuarantine(t *testing.T) {
	t.Parallel()
	f := open(t)
	d := f.running("k")
	_, err := f.Cancel(f.ctx, "q", "k", why)
	f.ok(err)
	f.settle(d, delivery.Quarantine)
	if _, err := f.Cancel(f.ctx, "q", "k", why); !errors.Is(err, jobs.ErrConflict) {
		t.Errorf("cancelling it again: %v", err)
	}
	_, err = f.Replay(f.ctx, "q", "k", false, why)
	f.ok(err)
	if d := f.take(); d.CancelAsked != "" {
		t.Errorf("the replay is told to stop: %q", d.CancelAsked)
	}
}

func TestReplay(t *testing.T) {
	t.Parallel()
	for _, fromStart := range []bool{false, true} {
		f := open(t)
		first := deadJob(f).(delivery.Delivery)
		info, err := f.Replay(f.ctx, "q", "k", fromStart, why)
		if err != nil || info.State != jobs.StatePending || info.Attempts != 0 || info.Incarnation != first.Incarnation || len(info.Failures) != 1 {
			t.Errorf("%+v, %v", info, err)
		}
		f.wantDecisions("quarantine k by perdure: exhausted", "replay k by ada: because")
		before := f.dump()
		if _, err := f.Replay(f.ctx, "q", "k", fromStart, why); !errors.Is(err, jobs.ErrConflict) {
			t.Errorf("twice: %v", err)
		}
		f.same(before, "a replay that was refused")
		batch, err := f.Claim(f.ctx, "q", "o", 1)
		f.ok(err)
		d := batch.Deliveries[0]
		if len(d.Steps) == 0 != fromStart || d.Version == 0 != fromStart || d.Incarnation != first.Incarnation || d.Token == first.Token {
			t.Errorf("from start %v: %+v", fromStart, d)
		}
		f.wantDecisions("quarantine k by perdure: exhausted", "replay k by ada: because")
		m, _ := decodeMessage(d.Message)
		if m.Retried != 0 || m.ErrorMsg != "" {
			t.Errorf("message %+v", m)
		}
	}
	f := open(t)
	if _, err := f.Replay(f.ctx, "q", "k", false, why); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("no job: %v", err)
	}
}

func TestDiscard(t *testing.T) {
	t.Parallel()
	f := open(t)
	deadJob(f)
	before, err := f.Discard(f.ctx, "q", "k", why)
	if err != nil || before.State != jobs.StateQuarantined || len(before.Steps) != 1 {
		t.Errorf("%+v, %v", before, err)
	}
	if _, err := f.Discard(f.ctx, "q", "k", why); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("twice: %v", err)
	}
	f.wantDecisions("quarantine k by perdure: exhausted", "discard k by ada: because")
	if h := f.enqueue("k"); h.Duplicate {
		t.Error("the key is not free again")
	}
	if _, err := f.Discard(f.ctx, "q", "k", why); !errors.Is(err, jobs.ErrConflict) {
		t.Errorf("pending: %v", err)
	}
}

func TestDecisionsNeedAReason(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.quarantined("k")
	before := f.dump()
	by := jobs.Decision{Actor: "ada"}
	_, a := f.Cancel(f.ctx, "q", "k", by)
	_, b := f.Replay(f.ctx, "q", "k", false, by)
	_, c := f.Discard(f.ctx, "q", "k", by)
	_, d := f.ResumeQueue(f.ctx, "q", by)
	for i, err := range []error{a, b, c, d, f.PauseQueue(f.ctx, "q", by)} {
		if !errors.Is(err, jobs.ErrInvalid) {
			t.Errorf("%d: %v", i, err)
		}
	}
	f.same(before, "decisions without a reason")
}

func TestPauseAndResumeQueue(t *testing.T) {
	t.Parallel()
	f := open(t)
	if err := f.PauseQueue(f.ctx, "q", why); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("no queue: %v", err)
	}
	f.ok(f.Register(f.ctx, "q"))
	paused := func(want bool, reasons ...string) {
		t.Helper()
		info, err := f.QueueInfo(f.ctx, "q")
		f.ok(err)
		if info.Paused != want || !slices.Equal(slices.Sorted(maps.Keys(info.Reasons)), reasons) {
			t.Errorf("paused %v for %v", info.Paused, info.Reasons)
		}
	}
	resume := func(want bool) {
		t.Helper()
		if all, err := f.ResumeQueue(f.ctx, "q", why); all != want || err != nil {
			t.Errorf("resume: %v, %v", all, err)
		}
	}
	f.ok(f.PauseQueue(f.ctx, "q", why))
	f.ok(f.PauseQueue(f.ctx, "q", why))
	paused(true, "operator")
	hold("pause", "payments")(f, nil)
	resume(false)
	paused(true, "payments")
	hold("resume", "payments")(f, nil)
	paused(false)
	resume(true)
	f.wantDecisions("pause queue  by ada: because", "pause queue  by ada: because", "resume queue  by ada: because", "resume queue  by ada: because")
	f.ok(f.inspector().PauseQueue("q"))
	paused(true, "asynq")
	resume(true)
	paused(false)
}

func TestEventsAreTheNewest(t *testing.T) {
	t.Parallel()
	f := open(t)
	for i := range 5 {
		f.enqueue(fmt.Sprint("k", i))
		_, err := f.Cancel(f.ctx, "q", fmt.Sprint("k", i), why)
		f.ok(err)
	}
	events, err := f.Events(f.ctx, "q", 2)
	f.ok(err)
	if len(events) != 2 || events[0].Key != "k4" || events[1].Key != "k3" || events[0].At.IsZero() || events[0].Queue != "q" {
		t.Errorf("events %+v", events)
	}
	text, _ := json.Marshal(events[0])
	if !strings.Contains(string(text), `"what":"cancel"`) {
		t.Errorf("as JSON: %s", text)
	}
	if events, err := f.Events(f.ctx, "none", -1); err != nil || events == nil || len(events) != 0 {
		t.Errorf("no events: %v, %v", events, err)
	}
}
