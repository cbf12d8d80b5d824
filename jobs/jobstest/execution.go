package jobstest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/jobs"
)

// execution is one execution of a job. It implements [jobs.Attempt].
type execution struct {
	*Job
	begun   time.Time
	entered map[string]bool
	waiting map[string]bool // for waits that are not over
	held    time.Time       // until when a step is held; zero: none is
	dead    atomic.Bool     // it was cut off: nothing is recorded any more
}

var _ jobs.Attempt = (*execution)(nil)

func (e *execution) isCut() bool { return e.dead.Load() }

// crash cuts the execution off when it has come to the point where it is to be.
func (e *execution) crash(step string, when When) error {
	if e.dead.Load() {
		return jobs.ErrLost
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cut != (Point{Step: step, When: when}) {
		return nil
	}
	e.cut = Point{}
	e.dead.Store(true)
	return jobs.ErrLost
}

// About implements [jobs.Attempt].
func (e *execution) About() jobs.About {
	d := e.handler.Definition
	return jobs.About{Queue: d.Queue, Key: e.key, Kind: d.Name, Incarnation: "jobstest", Attempt: e.outcome.Runs, Round: e.round, PayloadVersion: e.version}
}

// Definition implements [jobs.Attempt].
func (e *execution) Definition() jobs.Definition { return e.handler.Definition }

// Enter implements [jobs.Attempt].
func (e *execution) Enter(step string) (output []byte, recorded bool, err error) {
	e.mu.Lock()
	again := e.entered[step]
	e.entered[step] = true
	output, recorded = e.steps[step]
	faults := e.faults[step]
	if !recorded && len(faults) > 0 {
		e.faults[step], err = faults[1:], &jobs.StepError{Step: step, Err: faults[0]}
	}
	if !recorded && !again && err == nil {
		err = e.delay(step)
	}
	e.mu.Unlock()
	switch {
	case again:
		return nil, false, jobs.ErrDuplicateStep
	case recorded:
		return output, true, nil
	}
	if cut := e.crash(step, BeforeEffect); cut != nil {
		return nil, false, cut
	}
	return nil, false, err
}

// delay lets a slow step take its time.
func (e *execution) delay(step string) error {
	d, definition := e.slow[step], e.handler.Definition
	if d <= 0 {
		return nil
	}
	limit := definition.Timeout - e.now.Sub(e.begun)
	if definition.StepTimeout > 0 {
		limit = min(limit, definition.StepTimeout)
	}
	e.skip(min(d, limit))
	if d > limit {
		return &jobs.StepError{Step: step, Err: context.DeadlineExceeded}
	}
	return nil
}

// Commit implements [jobs.Attempt].
func (e *execution) Commit(_ context.Context, step string, output []byte, _ time.Time, undoable bool) error {
	if err := e.crash(step, AfterEffect); err != nil {
		return err
	}
	if err := e.roomFor(step, output, 1); err != nil {
		return err
	}
	e.record(step, output)
	if undoable {
		e.mu.Lock()
		e.undoable[step] = len(e.undoable)
		e.mu.Unlock()
	}
	return e.crash(step, AfterRecord)
}

// Unmet implements [jobs.Attempt].
func (e *execution) Unmet() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var unmet []string
	for step := range e.steps {
		if !e.entered[step] && !strings.HasPrefix(step, "undo/") {
			unmet = append(unmet, step)
		}
	}
	slices.Sort(unmet)
	return unmet
}

// roomFor refuses what is beyond the kind's bounds; the undoing of a job has room.
func (e *execution) roomFor(step string, data []byte, outputs int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.undo != nil {
		return nil
	}
	bytes := len(data)
	for _, output := range e.steps {
		bytes += len(output)
	}
	for other, saved := range e.progress {
		if other != step {
			bytes += len(saved)
		}
	}
	return e.handler.Definition.CheckRecord(len(e.steps)+outputs, bytes)
}

// Progress implements [jobs.Attempt].
func (e *execution) Progress(step string) []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.progress[step]
}

// SaveProgress implements [jobs.Attempt].
func (e *execution) SaveProgress(_ context.Context, step string, data []byte) error {
	if e.dead.Load() {
		return jobs.ErrLost
	}
	if err := e.roomFor(step, data, 0); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.progress[step] = data
	return nil
}

// Await implements [jobs.Attempt].
func (e *execution) Await(_ context.Context, w jobs.Wait) (output []byte, ready bool, err error) {
	if e.dead.Load() {
		return nil, false, jobs.ErrLost
	}
	e.mu.Lock()
	armed, ok := e.waits[w.Name]
	if !ok {
		armed = wait{Wait: w, till: w.Until}
		if w.For > 0 {
			armed.till = e.now.Add(w.For)
		}
		e.waits[w.Name] = armed
	}
	signal, signalled := e.signals[w.Name]
	over := !armed.till.IsZero() && !e.now.Before(armed.till)
	e.waiting[w.Name] = !signalled && !over
	if !e.waiting[w.Name] {
		delete(e.waiting, w.Name)
	}
	e.mu.Unlock()
	switch {
	case signalled:
		output = append([]byte("d"), signal...)
	case over:
		output = []byte("t")
	default:
		return nil, false, nil
	}
	e.record(w.Name, output)
	return output, true, e.crash(w.Name, AfterRecord)
}

// When is a moment in a step.
type When int

// The moments at which a crash leaves something different behind.
const (
	BeforeEffect When = iota + 1 // nothing has happened
	AfterEffect                  // the step's function has returned, and its output is not recorded
	AfterRecord                  // the output is recorded
	AfterMaking                  // of children: they are made, and nobody knows
)

// String says it to people.
func (w When) String() string {
	switch w {
	case BeforeEffect:
		return "before its effect"
	case AfterEffect:
		return "after its effect and before its record"
	case AfterRecord:
		return "after its record"
	case AfterMaking:
		return "after its children are made"
	}
	return fmt.Sprintf("When(%d)", int(w))
}

// Point is where an execution is cut off.
type Point struct {
	Step  string
	When  When
	Child string // the key of the child whose step it is; empty: the job's own
}

// String says it to people.
func (p Point) String() string {
	if p.Child != "" {
		return fmt.Sprintf("step %q of child %s %v", p.Step, p.Child, p.When)
	}
	return fmt.Sprintf("step %q %v", p.Step, p.When)
}

// CrashAt cuts the next execution off that comes to a point, as a crash of its worker
// would: nothing that it still does is recorded, and [Job.Run] goes on with another
// execution.
func (j *Job) CrashAt(p Point) { j.cut = p }

// inherit gives a child what it needs of its parent: the handlers, and where it or a
// child of its own is to be cut off.
func (j *Job) inherit(child *Job) {
	child.served, child.cut = j.served, j.cut
	if j.cut.Child == child.key {
		child.cut.Child, j.cut = "", Point{}
	}
}
