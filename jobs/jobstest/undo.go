package jobstest

import (
	"cmp"
	"slices"
	"strings"

	"github.com/perdure/perdure/jobs"
)

// ending is what becomes of a job once its steps are undone.
type ending struct {
	state    jobs.State
	reason   string
	attempts int // used before
	failures int
}

// Undoing implements [jobs.Attempt].
func (e *execution) Undoing() ([]string, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.undo == nil {
		return nil, false
	}
	return e.toUndo(), true
}

// Undone implements [jobs.Attempt]: nothing is replayed here.
func (e *execution) Undone(string) int { return 0 }

// toUndo returns the steps that are to be undone, the last one first.
func (j *Job) toUndo() []string {
	steps := []string{}
	for step := range j.undoable {
		if _, done := j.steps["undo/"+step]; !done {
			steps = append(steps, step)
		}
	}
	slices.SortFunc(steps, func(a, b string) int { return cmp.Compare(j.undoable[b], j.undoable[a]) })
	return steps
}

// end ends the job for good, once its steps are undone.
func (j *Job) end(state jobs.State, reason string) {
	if j.undo == nil && len(j.toUndo()) > 0 {
		j.undo = &ending{state: state, reason: reason, attempts: j.outcome.Attempts, failures: len(j.outcome.Failures)}
		j.outcome.State = jobs.StateRetrying
		return
	}
	j.outcome.State, j.outcome.Reason = state, reason
}

// Undone returns the steps that were undone, the first one first.
func (j *Job) Undone() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	undone := []string{}
	for _, step := range j.order {
		if name, ok := strings.CutPrefix(step, "undo/"); ok {
			undone = append(undone, name)
		}
	}
	return undone
}
