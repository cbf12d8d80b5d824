package worker

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/perdure/perdure/internal/delivery"
)

// Undoing implements [jobs.Attempt].
func (a *attempt) Undoing() ([]string, bool) {
	if a.d.Undo == nil {
		return nil, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.d.ToUndo(), true
}

// Undone implements [jobs.Attempt].
func (a *attempt) Undone(step string) int { return a.d.Undone[step] }

// noteRecorded keeps what a recorded step means to the undoing of the job.
func (a *attempt) noteRecorded(c delivery.Checkpoint) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.Undoable {
		a.d.Undoable[c.Step] = len(a.d.Undoable)
	}
	if a.d.Undo != nil {
		a.d.Steps[c.Step] = c.Output
	}
}

// undoFirst puts the undoing of a job's steps before a verdict that ends it for good,
// when it has such steps.
func (a *attempt) undoFirst(v delivery.Verdict) delivery.Verdict {
	if v.Outcome != delivery.Cancel && v.Outcome != delivery.Quarantine || a.d.Undo != nil || a.d.Undecodable != nil {
		return v
	}
	a.mu.Lock()
	steps := a.d.ToUndo()
	a.mu.Unlock()
	if len(steps) == 0 {
		return v
	}
	u := delivery.Undo{Outcome: v.Outcome, Reason: v.Reason, Actor: v.Actor, Since: a.now().UTC(), Attempts: a.d.Attempts}
	if v.Outcome == delivery.Quarantine {
		u.Entry, u.Reason = v.Entry, v.Entry.Reason
	}
	return delivery.Verdict{Outcome: delivery.Takeback, Failure: v.Failure, Undo: &u, Reason: u.Reason, Actor: u.Actor}
}

// undid is the verdict on a job whose steps are undone: the one that it was to have.
func (a *attempt) undid() delivery.Verdict {
	u := a.d.Undo
	return delivery.Verdict{Outcome: u.Outcome, Reason: u.Reason, Actor: u.Actor, Entry: u.Entry, Undid: true}
}

// attemptsUsed are those that count now, with this one: of an undo only its own.
func (a *attempt) attemptsUsed() int {
	if u := a.d.Undo; u != nil && a.d.Attempts >= u.Attempts {
		return a.d.Attempts - u.Attempts + 1
	}
	return a.d.Attempts + 1 // also of an undo that was replayed, which began to count anew
}

// notUndone says why a job is quarantined that could not be undone whole.
func (a *attempt) notUndone(reason string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	left := a.d.ToUndo()
	done := []string{}
	for _, step := range slices.Sorted(maps.Keys(a.d.Undoable)) {
		if _, ok := a.d.Steps["undo/"+step]; ok {
			done = append(done, step)
		}
	}
	ends := map[delivery.Outcome]string{delivery.Cancel: "cancelled", delivery.Quarantine: "quarantined"}[a.d.Undo.Outcome]
	return fmt.Sprintf("it was to be %s (%s), and cannot be undone: %s; undone: %s; not undone: %s", ends, a.d.Undo.Reason, reason, few(done), few(left))
}

// few names steps in a text, the first ten of them.
func few(steps []string) string {
	switch n := len(steps); {
	case n == 0:
		return "nothing"
	case n > 10:
		return fmt.Sprintf("%s and %d more", strings.Join(steps[:10], ", "), n-10)
	}
	return strings.Join(steps, ", ")
}
