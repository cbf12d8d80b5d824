package jobstest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
)

// maxRuns bounds the executions of one [Job.Run]: one that needs more never ends.
const maxRuns = 1000

// Job is one job, and what its executions have recorded. Make one with [New]. It is
// not safe for concurrent use, but its handler may do things side by side.
type Job struct {
	t       testing.TB
	handler jobs.Handler
	key     string
	payload []byte
	version int // of the kind that the payload was made for
	round   int

	mu       sync.Mutex
	now      time.Time
	began    time.Time
	order    []string // of the recorded steps
	steps    map[string][]byte
	progress map[string][]byte
	signals  map[string][]byte
	outages  map[string]time.Time // until when a service is away
	waits    map[string]wait
	faults   map[string][]error
	slow     map[string]time.Duration
	served   map[string]jobs.Handler // kinds that children may be of
	children map[string]*Job         // by key
	groups   map[string]bool         // names that children were made under
	faked    map[string]jobs.Ended   // how children end that are not run
	undoable map[string]int          // recorded steps with a way to be undone, by their order
	undo     *ending                 // it is being undone; nil: it is not
	outcome  Outcome
	paused   int // in a row

	run *execution
	cut Point // where the next execution that gets there is cut off; zero: nowhere
}

type wait struct {
	jobs.Wait
	till time.Time // zero: for ever
}

// Outcome is what became of a job.
type Outcome struct {
	State    jobs.State // completed, quarantined, cancelled, or paused: it waits for a signal
	Attempts int        // used
	Runs     int        // executions
	Failures []jobs.Failure
	Reason   string   // why it was quarantined or cancelled
	Waits    []string // paused: for these
	Err      error    // of the last execution; nil when it completed

	result []byte
	codec  jobs.Codec
}

// Result decodes the result of a completed job into the value that to points at.
func (o Outcome) Result(to any) error {
	if o.State != jobs.StateCompleted {
		return fmt.Errorf("job is %s: %w", o.State, jobs.ErrNotCompleted)
	}
	return o.codec.Decode(o.result, to)
}

// New returns a job of the handler's kind that has not begun. The payload is
// encoded as a client would; one that the kind refuses fails the test.
func New(t testing.TB, handler jobs.Handler, payload any) *Job {
	t.Helper()
	data, err := handler.Definition.Codec.Encode(payload)
	if err := errors.Join(handler.Err(), err, check(handler, data, err)); err != nil {
		t.Fatalf("jobstest: new job of kind %q: %v", handler.Definition.Name, err)
	}
	return newJob(t, handler, "jobstest", data, handler.Definition.Version, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
}

// NewOld returns a job that a producer has enqueued that knew an older version of the
// kind; see [jobs.Migrate]. A payload that cannot be encoded fails the test.
func NewOld(t testing.TB, handler jobs.Handler, version int, payload any) *Job {
	t.Helper()
	data, err := handler.Definition.Codec.Encode(payload)
	if err := errors.Join(handler.Err(), err); err != nil {
		t.Fatalf("jobstest: new job of kind %q: %v", handler.Definition.Name, err)
	}
	return newJob(t, handler, "jobstest", data, version, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
}

func newJob(t testing.TB, handler jobs.Handler, key string, payload []byte, version int, now time.Time) *Job {
	return &Job{
		t: t, handler: handler, key: key, payload: payload, version: version, now: now, began: now,
		steps: map[string][]byte{}, progress: map[string][]byte{}, signals: map[string][]byte{}, waits: map[string]wait{}, faults: map[string][]error{},
		served: map[string]jobs.Handler{}, children: map[string]*Job{}, groups: map[string]bool{}, faked: map[string]jobs.Ended{}, undoable: map[string]int{}, slow: map[string]time.Duration{},
		outcome: Outcome{State: jobs.StatePending, codec: handler.Definition.Codec},
	}
}

func check(handler jobs.Handler, data []byte, err error) error {
	if err != nil {
		return nil
	}
	return handler.Check(data)
}

// Recorded makes a step one that an earlier execution has ended with that output,
// so that a test can start after it.
func (j *Job) Recorded(step string, output any) {
	j.t.Helper()
	data, err := j.handler.Definition.Codec.Encode(output)
	if err != nil {
		j.t.Fatalf("jobstest: output of step %q: %v", step, err)
	}
	j.record(step, data)
}

// Fail makes the next executions of a step fail with that error instead of doing
// anything, so many times; negative: always.
func (j *Job) Fail(step string, err error, times int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if times < 0 {
		times = maxRuns
	}
	j.faults[step] = slices.Repeat([]error{err}, times)
}

// Slow makes each execution of a step take so long, in the job's time. One that takes
// longer than the kind's step timeout, or the rest of its timeout, fails as it would
// then, without having done anything; bounds set with [jobs.Within] are not seen here.
func (j *Job) Slow(step string, d time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.slow[step] = d
}

// Signal hands a signal to the job; see [jobs.Await]. A value that cannot be encoded
// fails the test.
func (j *Job) Signal(name string, value any) {
	j.t.Helper()
	data, err := j.handler.Definition.Codec.Encode(value)
	if err != nil {
		j.t.Fatalf("jobstest: signal %q: %v", name, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.signals[name] = data
}

// Steps returns the recorded steps and waits, in the order of their records.
func (j *Job) Steps() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.order)
}

// Elapsed returns how much time the job would have taken so far but for its own
// work: what it slept, and waited to be tried again.
func (j *Job) Elapsed() time.Duration { return j.now.Sub(j.began) }

// Run executes the job until it ends or waits for a signal, and may be called again
// after that signal. Policy, schedules and time-outs are those of the kind.
func (j *Job) Run() Outcome {
	j.t.Helper()
	for range maxRuns {
		j.runChildren()
		if j.execute(); j.outcome.State != jobs.StateRetrying {
			return j.outcome
		}
	}
	j.t.Fatalf("jobstest: the job has not ended after %d executions; the last error is: %v", maxRuns, j.outcome.Err)
	return j.outcome
}

// execute runs the job once and decides what becomes of it, as a worker would.
func (j *Job) execute() {
	j.outcome.Runs++
	j.run = &execution{Job: j, begun: j.now, entered: map[string]bool{}, waiting: map[string]bool{}}
	ctx := jobs.WithAttempt(context.Background(), j.run)
	result, err := j.handler.Run(ctx, j.payload)
	j.outcome.Err, j.outcome.Waits = err, nil
	payload, goesOn := jobs.Continuation(err)
	switch {
	case j.run.isCut():
		j.outcome.State = jobs.StateRetrying // by another worker
	case err == nil && j.undo != nil:
		j.end(j.undo.state, j.undo.reason)
	case err == nil:
		j.outcome.State, j.outcome.result = jobs.StateCompleted, result
	case goesOn:
		j.begin(payload)
	case errors.Is(err, jobs.ErrCancelled) && j.undo == nil:
		j.end(jobs.StateCancelled, err.Error())
	case errors.Is(err, jobs.ErrParked) && !j.run.held.IsZero():
		j.outcome.State = jobs.StateRetrying
		j.skip(j.run.held.Sub(j.now))
	case errors.Is(err, jobs.ErrParked) && len(j.run.waiting) > 0:
		j.park()
	default:
		j.fail(err)
	}
}

// begin is the start of another round.
func (j *Job) begin(payload []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for name := range j.waits {
		if _, met := j.steps[name]; met {
			delete(j.signals, name)
		}
	}
	clear(j.steps)
	clear(j.progress)
	clear(j.waits)
	clear(j.groups)
	clear(j.undoable)
	j.order, j.paused = nil, 0
	j.payload, j.version = payload, j.handler.Definition.Version
	j.round++
	j.outcome.Attempts, j.outcome.State = 0, jobs.StateRetrying
}

// Rounds returns how often the job has continued with another payload
// ([jobs.ContinueAs]).
func (j *Job) Rounds() int { return j.round }

// park skips to the time at which the first of the waits is over.
func (j *Job) park() {
	var first time.Time
	for name := range j.run.waiting {
		w := j.waits[name]
		if w.Type == "children" && j.childrenCanGoOn() {
			j.outcome.State = jobs.StateRetrying
			return
		}
		_, signalled := j.signals[name]
		if signalled {
			j.outcome.State = jobs.StateRetrying
			return
		}
		if w.Type == "timer" && (first.IsZero() || w.till.Before(first)) {
			first = w.till
		}
		j.outcome.Waits = append(j.outcome.Waits, name)
	}
	slices.Sort(j.outcome.Waits)
	if j.outcome.State = jobs.StatePaused; !first.IsZero() {
		j.outcome.State = jobs.StateRetrying
		j.skip(first.Sub(j.now))
	}
}

// TimeOut skips to the time at which the first of the signals that the job waits for
// has not come in time. It fails the test when there is none with a time-out.
func (j *Job) TimeOut() {
	j.t.Helper()
	var first time.Time
	for _, name := range j.outcome.Waits {
		if w := j.waits[name]; !w.till.IsZero() && (first.IsZero() || w.till.Before(first)) {
			first = w.till
		}
	}
	if first.IsZero() {
		j.t.Fatalf("jobstest: the job waits for nothing that times out: %v", j.outcome.Waits)
	}
	j.skip(first.Sub(j.now))
}

func (j *Job) skip(d time.Duration) { j.now = j.now.Add(max(d, 0)) }

// fail applies the kind's policy.
func (j *Job) fail(err error) {
	failure, c := jobs.NewFailure(err, j.now, "jobstest", j.outcome.Runs)
	j.outcome.Failures = append(j.outcome.Failures, failure)
	ofClass, base := 0, ending{}
	if j.undo != nil {
		base = *j.undo
	}
	for _, f := range j.outcome.Failures[base.failures:] {
		if f.Class == failure.Class {
			ofClass++
		}
	}
	ruling := j.handler.Definition.Rule(c, j.outcome.Attempts-base.attempts+1, ofClass, j.paused)
	switch ruling.Action {
	case jobs.ActionPause:
		j.paused++
	default:
		j.paused = 0
		j.outcome.Attempts++
	}
	if ruling.Action == jobs.ActionQuarantine {
		j.end(jobs.StateQuarantined, ruling.Reason)
		return
	}
	j.outcome.State = jobs.StateRetrying
	j.skip(ruling.Wait)
}

func (j *Job) record(step string, output []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, again := j.steps[step]; !again {
		j.order = append(j.order, step)
	}
	j.steps[step] = output
	delete(j.progress, step)
}

// Output decodes the recorded output of a step into the value that to points at. A
// step without a record fails the test.
func (j *Job) Output(step string, to any) {
	j.t.Helper()
	j.mu.Lock()
	data, ok := j.steps[step]
	j.mu.Unlock()
	if !ok {
		j.t.Fatalf("jobstest: step %q has no record; there are %v", step, j.Steps())
	}
	if err := json.Unmarshal(data, to); err != nil && j.handler.Definition.Codec.Decode(data, to) != nil {
		j.t.Fatalf("jobstest: output of step %q: %v", step, err)
	}
}
