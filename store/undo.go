package store

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// counts reads the numbers in the fields of a prefix, by what follows it.
func (h hash) counts(prefix string) map[string]int {
	counts := map[string]int{}
	for field, value := range h {
		if name, ok := strings.CutPrefix(field, prefix); ok {
			counts[name], _ = strconv.Atoi(value)
		}
	}
	return counts
}

// undo reads what is to become of a job that is being undone; nil: it is not.
func (h hash) undo() *delivery.Undo {
	outcome, text, _ := strings.Cut(h["p:undo"], " ")
	if outcome == "" {
		return nil
	}
	u := &delivery.Undo{}
	if json.Unmarshal([]byte(text), u) != nil {
		u = &delivery.Undo{Reason: "it is not recorded why"}
	}
	u.Outcome = delivery.Outcome(outcome)
	return u
}

// undoInfo is nil of a job that has nothing undone, and nothing to be undone.
func (h hash) undoInfo() *jobs.UndoInfo {
	d := delivery.Delivery{Undoable: h.counts("u:"), Steps: map[string][]byte{}}
	info := &jobs.UndoInfo{Outcome: h.state(), Undone: []string{}}
	for step := range d.Undoable {
		if _, ok := h["s:undo/"+step]; ok {
			d.Steps["undo/"+step] = nil
			info.Undone = append(info.Undone, step)
		}
	}
	sortStrings(info.Undone)
	info.Left = d.ToUndo()
	ended := info.Outcome == jobs.StateCancelled || info.Outcome == jobs.StateQuarantined
	switch u := h.undo(); {
	case u != nil:
		info.Reason, info.Since, info.Outcome = u.Reason, u.Since, jobs.StateQuarantined
		if u.Outcome == delivery.Cancel {
			info.Outcome = jobs.StateCancelled
		}
	case len(d.Undoable) == 0 || !ended:
		return nil
	}
	return info
}
