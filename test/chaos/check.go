package chaos

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/perdure/perdure/internal/history"
	"github.com/perdure/perdure/jobs"
)

// stepNames are the steps of an order, in order.
var stepNames = []string{"validate", "charge", "reserve", "label", "send"}

// stepOf returns the number of a step; one that is none of an order's counts as
// the last, and will not fit.
func stepOf(name string) int {
	if i := slices.Index(stepNames, name); i >= 0 {
		return i
	}
	return len(stepNames) - 1
}

// life is what the model knows of one job.
type life struct {
	accepted bool
	owner    string // token of the execution that may write
	run      int
	steps    [5]string // "<execution> <digest>" once recorded
	done     bool
}

// act is one operation on one job.
type act struct {
	op    string
	token string
	run   int
	what  string // verdict
	step  int
	value string
	steps [5]string // claim: digests found recorded; look: executions that recorded them
}

// look is the operation that reads the job at the end.
const look = "look"

// maybe is the outcome of a call that may have had its effect at any time since,
// or never.
const maybe = "maybe"

// model is a job as it should be: accepted once, written only by the execution
// that claimed it last, each step recorded once and never changed, completed once
// and last. What the history does not show (take-overs, claims without an answer)
// only ever takes ownership away, so that it needs no place here.
var model = porcupine.Model{
	Init: func() any { return life{} },
	Step: func(state, input, output any) (bool, any) {
		l, a, outcome := state.(life), input.(act), output.(string)
		next, ok := l.after(a, outcome)
		if outcome == maybe && !ok {
			return true, l // it had no effect
		}
		return ok, next
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v: %v", input, output) },
	DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
}

// after returns the job after an operation, and whether that can be.
func (l life) after(a act, outcome string) (life, bool) {
	switch a.op {
	case history.Enqueue:
		if outcome == history.Duplicate {
			return l, l.accepted
		}
		ok := !l.accepted
		l.accepted = true
		return l, ok
	case history.Claim:
		ok := l.accepted && !l.done && a.run > l.run && l.digests() == a.steps
		l.owner, l.run = a.token, a.run
		return l, ok
	case history.Commit:
		ok := l.owner == a.token && l.steps[a.step] == ""
		l.steps[a.step] = fmt.Sprintf("%d %s", a.run, a.value)
		return l, ok
	case history.Settle:
		ok := l.owner == a.token
		l.owner, l.done = "", a.what == "complete"
		return l, ok
	default: // look
		return l, l.executions() == a.steps && l.done == (a.what == string(jobs.StateCompleted))
	}
}

func (l life) digests() [5]string    { return l.parts(1) }
func (l life) executions() [5]string { return l.parts(0) }

func (l life) parts(n int) [5]string {
	var parts [5]string
	for i, step := range l.steps {
		if step != "" {
			parts[i] = strings.Fields(step)[n]
		}
	}
	return parts
}

// checkHistory judges what was recorded while the run went on.
func (s *stage) checkHistory(ctx context.Context, r *Report, events []history.Event, infos map[string]jobs.Info) {
	t := trace(events)
	s.counters.add(unanswered, t.unanswered)
	s.counters.add(staleRefused, len(t.refused))
	r.found("calls recorded", t.calls)
	r.found("calls whose outcome was open", t.open)
	r.mustNot("verdicts for jobs that were not there", t.gone)
	r.mustNot("tokens given twice", t.repeated)
	r.mustNot("steps committed twice", t.doubled)
	for key, info := range infos {
		if !plain(key) {
			continue
		}
		t.add(key, final(info), history.OK, int64(len(events))+1, int64(len(events))+2)
	}
	var illegal, undecided []string
	maps.DeleteFunc(t.histories, func(key string, _ []porcupine.Operation) bool { return !plain(key) })
	for _, key := range slices.Sorted(maps.Keys(t.histories)) {
		switch porcupine.CheckOperationsTimeout(model, t.histories[key], 20*time.Second) {
		case porcupine.Illegal:
			illegal = append(illegal, key)
			s.show(key, t.histories[key])
		case porcupine.Unknown:
			undecided = append(undecided, key)
		}
		if ctx.Err() != nil {
			return
		}
	}
	r.found("histories checked by porcupine", len(t.histories))
	r.mustNot("histories that cannot be", illegal)
	r.mustNot("histories too long to decide", undecided)
}

// show draws a history that cannot be, for a browser.
func (s *stage) show(key string, operations []porcupine.Operation) {
	_, info := porcupine.CheckOperationsVerbose(model, operations, 20*time.Second)
	path := filepath.Join(s.dir, strings.ReplaceAll(key, ":", "-")+".html")
	if err := porcupine.VisualizePath(model, info, path); err != nil {
		s.logf("cannot draw the history of %s: %v", key, err)
	}
}

// final is the look at a job at the end.
func final(info jobs.Info) act {
	a := act{op: look, what: string(info.State)}
	for _, step := range info.Steps {
		if i := slices.Index(stepNames, step.Name); i >= 0 && step.State == "done" {
			a.steps[i] = fmt.Sprint(step.Attempt)
		}
	}
	return a
}
