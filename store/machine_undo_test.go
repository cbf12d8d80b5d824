package store

import (
	"maps"
	"strings"

	"pgregory.net/rapid"

	"github.com/perdure/perdure/internal/delivery"
)

// modelUndo is what can be, is to be and was undone of a job.
type modelUndo struct {
	open     delivery.Outcome // what it ends as that is being undone; "": it is not
	undoable map[string]bool
	undone   map[string]int // how often a step was undone and forgotten
}

// left reports whether something is to be undone.
func (j *modelJob) left() bool {
	for step := range j.undo.undoable {
		if _, done := j.steps["undo/"+step]; !done {
			return true
		}
	}
	return false
}

// renewed follows a replay, which begins undone steps anew.
func (j *modelJob) renewed() {
	if j.undo.open != "" {
		return
	}
	for step := range j.undo.undoable {
		if _, done := j.steps["undo/"+step]; done {
			delete(j.steps, step)
			delete(j.steps, "undo/"+step)
			delete(j.undo.undoable, step)
			j.undo.undone[step]++
		}
	}
}

// undid has the last undo recorded, and the job end as it was to.
func (m *machine) undid(t *rapid.T) {
	var fit []string
	for _, key := range m.in("running") {
		if m.jobs[key].undo.open != "" {
			fit = append(fit, key)
		}
	}
	if len(fit) == 0 {
		t.Skip("nothing is being undone")
	}
	j := m.jobs[rapid.SampledFrom(fit).Draw(t, "key")]
	v := verdicts[delivery.Quarantine]
	v.Undid = true
	_, err := m.through(t, "quarantine", func() error { return m.f.Settle(m.f.ctx, *j.held, v) })
	want(t, "undone", err, nil)
	j.undo.open = ""
	m.ended(j, delivery.Quarantine)
}

func (m *machine) checkUndo(t *rapid.T, key string, h hash) {
	j := m.jobs[key]
	undoable := map[string]bool{}
	for step := range h.counts("u:") {
		undoable[step] = true
	}
	outcome, _, _ := strings.Cut(h["p:undo"], " ")
	if !maps.Equal(undoable, j.undo.undoable) || !maps.Equal(h.counts("r:"), j.undo.undone) || outcome != string(j.undo.open) {
		t.Fatalf("%s can be undone with %v, want %+v", key, h, j.undo)
	}
}
