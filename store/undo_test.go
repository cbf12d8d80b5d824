package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// did records a step that can be undone, or an undo.
func (f *fixture) did(d delivery.Delivery, step string) {
	f.t.Helper()
	f.ok(f.Checkpoint(f.ctx, d.Hold, delivery.Checkpoint{Step: step, Run: d.Run, Output: []byte(`1`), Undoable: step[0] != 'u'}))
}

// undoing arranges a job whose two steps are being undone, to end in an outcome.
func undoing(outcome delivery.Outcome, done ...string) func(f *fixture) any {
	return func(f *fixture) any {
		d := f.running("k")
		f.did(d, "s1")
		f.did(d, "s2")
		v := verdicts[delivery.Takeback]
		u := *v.Undo
		u.Outcome, v.Undo = outcome, &u
		f.ok(f.Settle(f.ctx, d, v))
		d = f.take()
		for _, step := range done {
			f.did(d, "undo/"+step)
		}
		return d
	}
}

// undone arranges a job that is in quarantine, its steps undone.
func undone(f *fixture) any {
	d := undoing(delivery.Quarantine, "s2", "s1")(f).(delivery.Delivery)
	quarantineUndone(f, d)
	return d
}

func quarantineUndone(f *fixture, from any) any {
	v := verdicts[delivery.Quarantine]
	v.Undid, v.Failure = true, nil
	code, err := f.quarantine(f.ctx, held(f, from), v)
	f.ok(err)
	return code
}

func undoCases() []scriptCase {
	settle := func(outcome delivery.Outcome) func(f *fixture, from any) any {
		return func(f *fixture, from any) any { return f.settle(held(f, from), outcome) }
	}
	did := func(outcome delivery.Outcome) func(f *fixture) any {
		return func(f *fixture) any {
			d := f.running("k")
			f.did(d, "s1")
			f.settle(d, outcome)
			return d
		}
	}
	undoable := func(f *fixture, from any) any {
		d := held(f, from)
		reply, err := f.run(f.ctx, "checkpoint", []string{taskKey("q", "k")}, d.Token, "s1", 1, 5, `{"x":1}`, maxFields, 1)
		f.ok(err)
		return reply
	}
	stuck := after(undoing(delivery.Cancel, "s2"), settle(delivery.Quarantine))
	return []scriptCase{
		{"checkpoint 1 undoable", run, undoable},
		{"checkpoint 2 undoable", after(run, undoable), undoable},
		{"checkpoint 1 asked to be cancelled and being undone", after(run, undoable, cancel, settle(delivery.Takeback), func(f *fixture, _ any) any {
			return f.take()
		}), func(f *fixture, _ any) any {
			reply, err := f.run(f.ctx, "checkpoint", []string{taskKey("q", "k")}, f.field("k", "p:tok"), "undo/s1", 2, 5, `1`, maxFields, 0)
			f.ok(err)
			return reply
		}},
		{"cancel 2 pending, to be undone first", did(delivery.HandBack), cancel},
		{"cancel 2 retrying, to be undone first", did(delivery.Retry), cancel},
		{"cancel 2 paused, to be undone first", did(delivery.Pause), cancel},
		{"cancel 2 paused by an operator, to be undone first", after(did(delivery.Retry), suspend), cancel},
		{"cancel 3 about to be undone", after(did(delivery.Retry), cancel), cancel},
		{"cancel 3 being undone", undoing(delivery.Cancel), cancel},
		{"cancel -3 being undone, to be quarantined", undoing(delivery.Quarantine), cancel},
		{"cancel 1 undone before", after(undone, replay("failed")), cancel},
		{"cancelled 1 undone", undoing(delivery.Cancel, "s2", "s1"), settle(delivery.Cancel)},
		{"quarantine 1 undone", undoing(delivery.Quarantine, "s2", "s1"), quarantineUndone},
		{"quarantine 1 an undo has failed", undoing(delivery.Cancel, "s2"), settle(delivery.Quarantine)},
		{"continue 1 with all that may be recorded", after(undoing(delivery.Cancel), func(f *fixture, from any) any {
			d := held(f, from)
			f.ok(f.SaveProgress(f.ctx, d.Hold, "s3", []byte("half")))
			for _, name := range []string{"go", "later"} {
				f.ok(f.Signal(f.ctx, "q", "k", jobs.Signal{Name: name, ID: "x", Data: []byte(`1`)}))
			}
			_, _, err := f.Await(f.ctx, d.Hold, d.Run, forGo)
			f.ok(err)
			_, _, err = f.Await(f.ctx, d.Hold, d.Run, jobs.Wait{Name: "never", Type: "signal"})
			f.ok(err)
			_, _, err = f.Children(f.ctx, d, kids("k", "x"), false)
			f.ok(err)
			return nil
		}), settle(delivery.Continue)},
		{"replay 1 undone", undone, replay("failed")},
		{"replay 1 undone, from the start", undone, replay("start")},
		{"replay 1 of an undo that has failed", stuck, replay("failed")},
		{"replay 1 of an undo that has failed, from the start", stuck, replay("start")},
	}
}

func TestAnUndoneJobAsPeopleSeeIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		arrange      func(f *fixture) any
		outcome      jobs.State
		undone, left []string
	}{
		{"under way", undoing(delivery.Cancel, "s2"), jobs.StateCancelled, []string{"s2"}, []string{"s1"}},
		{"begun", undoing(delivery.Quarantine), jobs.StateQuarantined, nil, []string{"s2", "s1"}},
		{"over", undone, jobs.StateQuarantined, []string{"s1", "s2"}, nil},
	} {
		f := open(t)
		c.arrange(f)
		info, err := f.Get(f.ctx, "q", "k")
		f.ok(err)
		if u := info.Undo; u == nil || u.Outcome != c.outcome || !slices.Equal(u.Undone, c.undone) || !slices.Equal(u.Left, c.left) {
			t.Errorf("%s: %+v", c.name, info.Undo)
		}
	}
	f := open(t)
	f.did(f.running("k"), "s1")
	if info, err := f.Get(f.ctx, "q", "k"); err != nil || info.Undo != nil {
		t.Errorf("a running job with a step that can be undone: %+v, %v", info.Undo, err)
	}
}

// TestUndoneStepsAreBegunAnewByARunNow: asynq's button is a replay like any other.
func TestUndoneStepsAreBegunAnewByARunNow(t *testing.T) {
	t.Parallel()
	f := open(t)
	undone(f)
	runNow(f, nil)
	d := f.take()
	if len(d.Steps) != 0 || len(d.Undoable) != 0 || d.Undo != nil || !maps.Equal(d.Undone, map[string]int{"s1": 1, "s2": 1}) {
		t.Errorf("%+v", d)
	}
}

// TestADeliverySaysWhatIsToBeUndone: in reverse, what is undone left out.
func TestADeliverySaysWhatIsToBeUndone(t *testing.T) {
	t.Parallel()
	f := open(t)
	d := f.running("k")
	var want []string
	for i := range 12 {
		f.did(d, fmt.Sprint("s", i))
		want = append([]string{fmt.Sprint("s", i)}, want...)
	}
	v := verdicts[delivery.Takeback]
	f.ok(f.Settle(f.ctx, d, v))
	d = f.take()
	if got := d.ToUndo(); !slices.Equal(got, want) || d.Undo == nil || d.Undo.Outcome != delivery.Quarantine || d.Undo.Entry.Message != "boom" || d.Undo.Reason != "exhausted" {
		t.Errorf("%v of %+v", got, d.Undo)
	}
	f.did(d, "undo/s11")
	f.settle(d, delivery.Retry)
	f.due("k")
	_, err := f.Promote(f.ctx, "q")
	f.ok(err)
	if d = f.take(); !slices.Equal(d.ToUndo(), want[1:]) {
		t.Errorf("%v", d.ToUndo())
	}
	if _, err := f.Cancel(f.ctx, "q", "k", why); !errors.Is(err, jobs.ErrConflict) {
		t.Errorf("cancelled while it is undone: %v", err)
	}
}
