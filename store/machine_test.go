package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/fault"
	"github.com/perdure/perdure/jobs"
)

// modelJob is what a job must be, by what was done to it.
type modelJob struct {
	state                                    jobs.State
	runs, attempts, waits, crashes, failures int
	steps                                    map[string]string // to the execution that recorded it
	progress                                 map[string]string // saved inside a step
	asked                                    bool
	halt, halted                             bool       // an operator has paused it, and it is parked for that
	back                                     jobs.State // where it goes when it is resumed: scheduled, retrying or ""
	row, alone                               int        // crashes in a row, and of a process that ran nothing else
	isolated                                 bool       // paused, to be run by itself
	runsAlone                                bool       // this execution
	blame                                    string     // token of the last crash
	blamedAlone                              bool
	armed, waiting                           bool   // a wait is armed; it is paused for that
	signal                                   string // id of the one that was given
	kept                                     bool   // and was not waited for yet
	family                                   modelFamily
	undo                                     modelUndo
	lane, pass, spent                        bool   // it waits in the lane; it was sent back from there, and no execution has ended since; but one was claimed
	place                                    int64  // since when it stands in the line, ms
	last                                     string // token of the last verdict
	incarnation                              string // "" until the first claim of a stock producer's job
	forget                                   bool   // when it completes: a stock producer wants no result
	quarantines                              int    // ever
	erased                                   bool
	plan                                     string             // that has replayed it last
	held                                     *delivery.Delivery // of the attempt that owns it
	owner                                    *modelOwner        // of held
}

// modelOwner is a worker.
type modelOwner struct {
	id     string
	known  bool // it has heard that its beat went in
	listed bool // among the living
	silent bool // it does not beat any more
	fenced bool // its jobs were taken from it
}

// machine drives a store and the model side by side, at times over a network that
// loses or repeats what is sent.
type machine struct {
	f         *fixture
	hook      *fault.Hook
	stock     *asynq.Client
	jobs      map[string]*modelJob
	kids      map[string]*modelKid // by their parent's key
	old       []delivery.Delivery  // of attempts that own nothing any more
	owners    []*modelOwner
	tokens    map[string]bool
	paused    bool
	away      bool // pay, for which the queue is held
	decisions int
	last      delivery.Link     // the last decision that was checked
	was       map[string]string // each job's state at the last check
	plan      *modelPlan
	plans     int            // made
	total     map[string]int // processed, failed
}

var machineKeys = []string{"a", "b", "c", "d"}

// in returns the keys whose job is in one of the states, sorted.
func (m *machine) in(states ...jobs.State) (keys []string) {
	for _, key := range machineKeys {
		if j := m.jobs[key]; j != nil && slices.Contains(states, j.state) {
			keys = append(keys, key)
		}
	}
	return keys
}

// heldBy returns the keys of an owner's jobs, sorted.
func (m *machine) heldBy(o *modelOwner) (keys []string) {
	for _, key := range m.in(jobs.StateRunning) {
		if m.jobs[key].owner == o {
			keys = append(keys, key)
		}
	}
	return keys
}

// one draws a key in one of the states; it skips the action where there is none.
func (m *machine) one(t *rapid.T, states ...jobs.State) (string, *modelJob) {
	keys := m.in(states...)
	if len(keys) == 0 {
		t.Skip("no job is so")
	}
	key := rapid.SampledFrom(keys).Draw(t, "key")
	return key, m.jobs[key]
}

// owner draws one of the owners that are of a kind.
func (m *machine) owner(t *rapid.T, is func(*modelOwner) bool) *modelOwner {
	var fit []*modelOwner
	for _, o := range m.owners {
		if is(o) {
			fit = append(fit, o)
		}
	}
	if len(fit) == 0 {
		t.Skip("no owner is so")
	}
	return rapid.SampledFrom(fit).Draw(t, "owner")
}

func living(o *modelOwner) bool { return !o.fenced }

func want(t *rapid.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) || target == nil && err != nil {
		t.Fatalf("%s: error %v, want %v", what, err, target)
	}
}

// fates are what becomes of a call; most go well.
var fates = []fault.When{"", "", "", "", fault.Before, fault.After, fault.Twice}

// through makes a call, at times over a bad network, and returns the error that its
// caller ends with: one that does not know the outcome calls again. lost says that
// an answer was lost on the way.
func (m *machine) through(t *rapid.T, script string, call func() error) (lost bool, err error) {
	t.Helper()
	when := rapid.SampledFrom(fates).Draw(t, "network")
	if when == "" {
		return false, call()
	}
	m.hook.Fail(script, 1, when)
	before := m.hook.Counts()[script]
	err = call()
	m.hook.Forget()
	after := m.hook.Counts()[script]
	if after.Before+after.After+after.Twice == before.Before+before.After+before.Twice {
		return false, err // it did not come to the script
	}
	itself := slices.Contains([]string{"cancel", "suspend", "resume", "replay", "discard", "erase", "plan", "hold", "signal", asynqScript}, script)
	if unknown := errors.Is(err, jobs.ErrUnavailable); unknown == (itself || when == fault.Twice) {
		t.Fatalf("%s %s it ran: its caller hears %v", script, when, err)
	} else if unknown {
		err = call()
	}
	return when != fault.Before, err
}

func (m *machine) enqueue(t *rapid.T) {
	key := rapid.SampledFrom(machineKeys).Draw(t, "key")
	other, delayed := rapid.Bool().Draw(t, "other"), rapid.Bool().Draw(t, "delayed")
	payload := json.RawMessage(`{"a":1}`)
	j := m.jobs[key]
	if other && j != nil {
		payload = json.RawMessage(`{"a":2}`)
	}
	var options []jobs.JobOption
	state := jobs.StatePending
	if delayed {
		options, state = append(options, jobs.Delay(time.Hour)), jobs.StateScheduled
	}
	if tenant := rapid.SampledFrom([]string{"", "acme", "zeta"}).Draw(t, "tenant"); tenant != "" {
		options = append(options, jobs.Tenant(tenant))
	}
	var h jobs.Handle
	_, err := m.through(t, asynqScript, func() (err error) {
		h, err = m.f.Enqueue(m.f.ctx, jobs.Raw(kindA, key, payload, options...))
		return err
	})
	switch {
	case j == nil:
		want(t, "enqueue", err, nil)
		if h.Duplicate || h.State != state {
			t.Fatalf("new job: %+v", h)
		}
		m.jobs[key] = newModelJob(state, h.Incarnation)
	case other:
		want(t, "other payload", err, jobs.ErrOtherPayload)
	default:
		want(t, "duplicate", err, nil)
		if !h.Duplicate || h.State != j.state || h.Incarnation != j.incarnation {
			t.Fatalf("duplicate: %+v, want %+v", h, j)
		}
	}
}

func newModelJob(state jobs.State, incarnation string) *modelJob {
	return &modelJob{state: state, incarnation: incarnation, steps: map[string]string{}, progress: map[string]string{}, undo: modelUndo{undoable: map[string]bool{}, undone: map[string]int{}}}
}

// adopt enqueues as a stock producer does, without our headers.
func (m *machine) adopt(t *rapid.T) {
	key, forget := rapid.SampledFrom(machineKeys).Draw(t, "key"), rapid.Bool().Draw(t, "forget")
	options := []asynq.Option{asynq.TaskID(key), asynq.Queue("q")}
	if !forget {
		options = append(options, asynq.Retention(time.Hour))
	}
	_, err := m.stock.EnqueueContext(m.f.ctx, asynq.NewTask("kind.a", []byte(`{"a":1}`)), options...)
	if m.jobs[key] != nil {
		want(t, "a taken key", err, asynq.ErrTaskIDConflict)
		return
	}
	want(t, "stock enqueue", err, nil)
	m.jobs[key] = newModelJob(jobs.StatePending, "")
	m.jobs[key].forget = forget
}

func (m *machine) claim(t *rapid.T) {
	o, most := m.owner(t, living), rapid.IntRange(1, 3).Draw(t, "most")
	var batch delivery.Batch
	lost, err := m.through(t, "claim", func() (err error) {
		batch, err = m.f.Claim(m.f.ctx, "q", o.id, most)
		return err
	})
	want(t, "claim", err, nil)
	if m.resting() {
		if !batch.Paused || len(batch.Deliveries) > 0 {
			t.Fatalf("claimed from a paused queue: %+v", batch)
		}
		return
	}
	met, others := m.park()
	if len(batch.Deliveries) == 0 && others > 0 && !lost || batch.Dropped > 0 || batch.Suspects != met && !lost {
		t.Fatalf("claimed none of %v, met %d suspects: %+v", m.in(jobs.StatePending), met, batch)
	}
	for _, d := range batch.Deliveries {
		j := m.jobs[d.Key]
		if j == nil || j.state != jobs.StatePending || j.suspect() || j.halt {
			t.Fatalf("claimed %+v, which is %+v", d, j)
		}
		m.begun(t, d, j, o)
	}
	if lost {
		m.handBackUnknown(t, o)
	}
}

func (j *modelJob) suspect() bool { return j.row >= 2 || j.alone > 0 }

// park follows the suspects that a claim has met, and what an operator has paused;
// others counts what else was pending.
func (m *machine) park() (met, others int) {
	for _, key := range m.in(jobs.StatePending) {
		j := m.jobs[key]
		switch {
		case j.halt && m.f.state(key) == jobs.StatePaused:
			j.state, j.halted, j.back = jobs.StatePaused, true, ""
		case j.halt:
		case !j.suspect():
			others++
		case m.f.state(key) == jobs.StatePaused:
			j.state, j.isolated = jobs.StatePaused, true
			met++
		}
	}
	return met, others
}

// handBackUnknown does what a worker does about a claim without an answer: what it
// holds and does not know goes back.
func (m *machine) handBackUnknown(t *rapid.T, o *modelOwner) {
	h, err := m.f.Holdings(m.f.ctx, "q", o.id)
	want(t, "holdings", err, nil)
	for _, one := range h.Held {
		j := m.jobs[one.Key]
		if j == nil || j.held != nil && j.held.Token == one.Token {
			continue
		}
		if m.tokens[one.Token] || j.held != nil || j.state != jobs.StatePending && !j.isolated {
			t.Fatalf("%s holds %+v, which is %+v", o.id, one, j)
		}
		d := delivery.Delivery{Hold: one.Hold, Message: []byte(m.f.field(one.Key, "msg")), Run: j.runs + 1, Retention: time.Hour, Version: 1}
		_, err := m.through(t, "handback", func() error { return m.f.HandBack(m.f.ctx, one.Hold) })
		want(t, "hand back", err, nil)
		m.tokens[one.Token] = true
		m.old = append(m.old, d)
		j.runs++
		j.spent = true
		j.state, j.isolated, j.last = jobs.StatePending, false, one.Token
		if j.incarnation == "" {
			j.incarnation = one.Token
		}
	}
}

// isolate takes a suspect, alone or not.
func (m *machine) isolate(t *rapid.T) {
	o, alone, fit := m.owner(t, living), rapid.Bool().Draw(t, "alone"), 0
	for _, key := range m.in(jobs.StatePaused) {
		if j := m.jobs[key]; j.isolated && (alone || j.row < 4) {
			fit++
		}
	}
	var batch delivery.Batch
	lost, err := m.through(t, "isolate", func() (err error) {
		batch, err = m.f.Isolate(m.f.ctx, "q", o.id, alone)
		return err
	})
	want(t, "isolate", err, nil)
	if m.paused { // one that is paused for a service only lets them run
		fit = 0
	}
	if len(batch.Deliveries) != min(fit, 1) && !lost || len(batch.Deliveries) > fit {
		t.Fatalf("took %+v of %d suspects", batch, fit)
	}
	for _, d := range batch.Deliveries {
		j := m.jobs[d.Key]
		if j == nil || !j.isolated || !alone && j.row >= 4 || d.CrashedAlone != j.alone {
			t.Fatalf("took %+v, which is %+v", d, j)
		}
		m.begun(t, d, j, o)
		j.isolated, j.runsAlone = false, alone
	}
	if lost {
		m.handBackUnknown(t, o)
	}
}

// absolve takes the last crash back, or one that is not the last.
func (m *machine) absolve(t *rapid.T) {
	if len(m.old) == 0 {
		t.Skip("no token is stale")
	}
	d := rapid.SampledFrom(m.old).Draw(t, "reclaimed")
	_, err := m.through(t, "absolve", func() error { return m.f.Absolve(m.f.ctx, d.Hold) })
	want(t, "absolve", err, nil)
	if j := m.jobs[d.Key]; j != nil && j.blame == d.Token {
		j.crashes, j.row = max(0, j.crashes-1), max(0, j.row-1)
		if j.blamedAlone {
			j.alone = max(0, j.alone-1)
		}
		j.blame = ""
	}
}

// begun follows the start of an execution.
func (m *machine) begun(t *rapid.T, d delivery.Delivery, j *modelJob, o *modelOwner) {
	if m.tokens[d.Token] {
		t.Fatalf("token %s is not new", d.Token)
	}
	m.tokens[d.Token] = true
	j.runs++
	if p := d.Pass; (p != nil) != j.pass || p != nil && (p.Since != j.place || (p.ID == "-") != j.spent) {
		t.Fatalf("claimed with the pass %+v, want one: %v, spent %v, of since %d", p, j.pass, j.spent, j.place)
	}
	j.spent = true
	if j.incarnation == "" {
		j.incarnation = d.Token
	}
	if d.Run != j.runs || d.Attempts != j.attempts || d.Waits != j.waits || d.Crashes != j.crashes || d.Incarnation != j.incarnation ||
		len(d.Steps) != len(j.steps) || len(d.Failures) != min(j.failures, keptFailures) || (d.CancelAsked != "") != j.asked {
		t.Fatalf("claimed %+v, want %+v", d, j)
	}
	for step, by := range j.steps {
		if string(d.Steps[step]) != by {
			t.Fatalf("step %s is %q, want %q", step, d.Steps[step], by)
		}
	}
	for step, text := range j.progress {
		if string(d.Progress[step]) != text {
			t.Fatalf("progress of %q is %q, want %q", step, d.Progress[step], text)
		}
	}
	d.Version = 1
	j.state, j.held, j.owner = jobs.StateRunning, &d, o
}

func (m *machine) checkpoint(t *rapid.T) {
	_, j := m.one(t, jobs.StateRunning)
	step, run := rapid.SampledFrom([]string{"s1", "s2", "undo/s1"}).Draw(t, "step"), strconv.Itoa(j.runs)
	undoable := rapid.Bool().Draw(t, "undoable") && step == "s1"
	_, err := m.through(t, "checkpoint", func() error {
		return m.f.Checkpoint(m.f.ctx, j.held.Hold, delivery.Checkpoint{Step: step, Run: j.runs, Output: []byte(run), Undoable: undoable})
	})
	switch by := j.steps[step]; {
	case by != "" && by != run:
		want(t, "recorded before", err, jobs.ErrLost)
		return
	default:
		want(t, "checkpoint", err, j.wanted())
	}
	if j.steps[step] == "" {
		j.steps[step], j.waits, j.row = run, 0, 0
		delete(j.progress, step)
		if undoable {
			j.undo.undoable[step] = true
		}
	}
}

func (m *machine) saveProgress(t *rapid.T) {
	_, j := m.one(t, jobs.StateRunning)
	step, text := rapid.SampledFrom([]string{"", "s1", "s2"}).Draw(t, "step"), fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "done"))
	_, err := m.through(t, "progress", func() error { return m.f.SaveProgress(m.f.ctx, j.held.Hold, step, []byte(text)) })
	want(t, "progress", err, j.wanted())
	j.progress[step] = text
}

// scriptOf is the script that settles an outcome.
func scriptOf(outcome delivery.Outcome) string {
	if outcome == delivery.Cancel {
		return "cancelled"
	}
	return string(outcome)
}

func (m *machine) settle(t *rapid.T) {
	key, j := m.one(t, jobs.StateRunning)
	outcome := rapid.SampledFrom(outcomes()).Draw(t, "outcome")
	lost, err := m.through(t, scriptOf(outcome), func() error { return m.f.Settle(m.f.ctx, *j.held, verdicts[outcome]) })
	gone := j.forget && outcome == delivery.Complete
	if gone && lost {
		want(t, "completed and forgotten, sent twice", err, jobs.ErrNotFound)
	} else {
		want(t, string(outcome), err, nil)
	}
	m.ended(j, outcome)
	if gone {
		delete(m.jobs, key)
	}
}

// ended follows an execution's verdict.
func (m *machine) ended(j *modelJob, outcome delivery.Outcome) {
	m.old = append(m.old, *j.held)
	j.last, j.held, j.owner, j.runsAlone = j.held.Token, nil, nil, false
	m.count(outcome)
	j.settled(m, outcome)
}

// count follows asynq's counters and the decisions on record.
func (m *machine) count(outcome delivery.Outcome) {
	switch outcome {
	case delivery.Complete:
		m.total["processed"]++
	case delivery.Retry, delivery.Quarantine:
		m.total["processed"]++
		m.total["failed"]++
	}
	if outcome == delivery.Quarantine || outcome == delivery.Takeback {
		m.decisions++
	}
}

// settled follows what a verdict makes of the job.
func (j *modelJob) settled(m *machine, outcome delivery.Outcome) {
	j.pass = j.pass && (outcome == delivery.HandBack || outcome == delivery.Suspect) // it keeps its place
	switch outcome {
	case delivery.Complete:
		j.state, j.asked, j.halt, j.waits = jobs.StateCompleted, false, false, 0
		delete(j.progress, "")
	case delivery.Retry:
		j.state, j.waits = jobs.StateRetrying, 0
		j.attempts++
		j.failures++
	case delivery.Pause:
		j.state = jobs.StatePaused
		j.waits++
		j.failures++
	case delivery.Quarantine:
		j.state, j.waits, j.asked, j.halt = jobs.StateQuarantined, 0, false, false
		j.quarantines++
		j.attempts++
		j.failures++
	case delivery.Cancel:
		if !j.asked {
			m.decisions++
		}
		j.state, j.waits, j.asked, j.halt, j.undo.open = jobs.StateCancelled, 0, false, false, ""
		j.family.orphaned = j.family.ever
	case delivery.Continue:
		j.state, j.waits, j.attempts, j.row, j.alone, j.armed = jobs.StatePending, 0, 0, 0, 0, false
		clear(j.steps)
		clear(j.progress)
		j.undo.undoable, j.undo.undone, j.family = map[string]bool{}, map[string]int{}, modelFamily{}
		if !j.kept {
			j.signal = ""
		}
	case delivery.Takeback:
		j.state, j.waits, j.halt, j.undo.open = jobs.StatePending, 0, false, delivery.Quarantine
		j.failures++
	case delivery.HandBack:
		j.state = jobs.StatePending
	case delivery.Park:
		j.state, j.waits = jobs.StatePending, 0
		if j.waiting = j.armed && !j.kept; j.waiting {
			j.state = jobs.StatePaused
		}
	case delivery.Suspect:
		j.state, j.isolated = jobs.StatePaused, true
		j.crashes++
		j.alone++
		j.failures++
	}
}

// await asks whether a signal is there.
func (m *machine) await(t *rapid.T) {
	_, j := m.one(t, jobs.StateRunning)
	var output []byte
	var ready bool
	_, err := m.through(t, "await", func() (err error) {
		output, ready, err = m.f.Await(m.f.ctx, j.held.Hold, j.runs, forGo)
		return err
	})
	want(t, "await", err, j.wanted())
	if was := j.steps["go"]; was == "" && j.kept {
		j.steps["go"], j.waits, j.row = "d"+j.signal, 0, 0
		j.kept, j.armed = false, false
	} else if was == "" {
		j.armed = true
	}
	if by := j.steps["go"]; err == nil && (ready != (by != "") || string(output) != by) {
		t.Fatalf("the wait has come to %q (%v), want %q", output, ready, by)
	}
}

// send sends a signal, the same one or another.
func (m *machine) send(t *rapid.T) {
	key, id := rapid.SampledFrom(machineKeys).Draw(t, "key"), rapid.SampledFrom([]string{"x", "y"}).Draw(t, "id")
	_, err := m.through(t, "signal", func() error {
		return m.f.Signal(m.f.ctx, "q", key, jobs.Signal{Name: "go", ID: id, Data: []byte(id)})
	})
	j := m.jobs[key]
	switch {
	case j == nil:
		want(t, "signal", err, jobs.ErrNotFound)
	case j.signal == id:
		want(t, "the same signal", err, nil)
	case j.signal != "":
		want(t, "another signal", err, jobs.ErrConflict)
	case j.state.Ended():
		want(t, "signal to one that has ended", err, jobs.ErrConflict)
	default:
		want(t, "signal", err, nil)
		j.signal, j.kept = id, true
		m.decisions++
		if j.waiting && j.armed {
			j.state, j.waiting = jobs.StatePending, false
		}
	}
}

// stale sends something with a token that owns nothing any more.
func (m *machine) stale(t *rapid.T) {
	if len(m.old) == 0 {
		t.Skip("no token is stale")
	}
	d := rapid.SampledFrom(m.old).Draw(t, "stale")
	before := m.read()
	what := rapid.SampledFrom([]string{"checkpoint", "progress", "await", "children", "verdict"}).Draw(t, "what")
	target := jobs.ErrLost
	var err error
	switch what {
	case "checkpoint":
		_, err = m.through(t, what, func() error {
			return m.f.Checkpoint(m.f.ctx, d.Hold, delivery.Checkpoint{Step: "s1", Run: d.Run, Output: []byte("stale")})
		})
	case "progress":
		_, err = m.through(t, what, func() error { return m.f.SaveProgress(m.f.ctx, d.Hold, "s1", []byte("stale")) })
	case "await":
		_, err = m.through(t, what, func() error {
			_, _, err := m.f.Await(m.f.ctx, d.Hold, d.Run, forGo)
			return err
		})
	case "children":
		_, err = m.through(t, what, func() error {
			_, _, err := m.f.Children(m.f.ctx, d, kids(d.Key, "x"), true)
			return err
		})
	case "verdict":
		if j := m.jobs[d.Key]; j == nil {
			target = jobs.ErrNotFound
		} else if j.last == d.Token {
			target = nil // a verdict sent twice
		}
		outcome := rapid.SampledFrom(outcomes()).Draw(t, "outcome")
		_, err = m.through(t, scriptOf(outcome), func() error { return m.f.Settle(m.f.ctx, d, verdicts[outcome]) })
	}
	want(t, "stale "+what, err, target)
	m.unchanged(t, before, "a stale token")
}

func (m *machine) unchanged(t *rapid.T, before seen, who string) {
	t.Helper()
	if after := m.read(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Fatalf("%s wrote: %v, before %v", who, after, before)
	}
}

// fenced has an owner that was declared dead go on.
func (m *machine) fenced(t *rapid.T) {
	o := m.owner(t, func(o *modelOwner) bool { return o.fenced })
	before, told := m.read(), false
	script := rapid.SampledFrom([]string{"claim", "isolate", "holdings"}).Draw(t, "what")
	_, err := m.through(t, script, func() error {
		switch script {
		case "claim":
			batch, err := m.f.Claim(m.f.ctx, "q", o.id, 3)
			told = batch.Fenced
			return err
		case "isolate":
			batch, err := m.f.Isolate(m.f.ctx, "q", o.id, true)
			told = batch.Fenced
			return err
		}
		h, err := m.f.Holdings(m.f.ctx, "q", o.id)
		told = h.Fenced
		return err
	})
	want(t, script, err, nil)
	if !told {
		t.Fatalf("%s does not tell %s that it is dead", script, o.id)
	}
	m.unchanged(t, before, "a dead owner")
}

// holdings compares what Redis says that an owner holds.
func (m *machine) holdings(t *rapid.T) {
	o := m.owner(t, living)
	var h delivery.Holdings
	_, err := m.through(t, "holdings", func() (err error) { h, err = m.f.Holdings(m.f.ctx, "q", o.id); return err })
	want(t, "holdings", err, nil)
	var keys []string
	for _, one := range h.Held {
		keys = append(keys, one.Key)
		if j := m.jobs[one.Key]; j == nil || j.held == nil || one.Token != j.held.Token || one.Asked != j.wanted() {
			t.Fatalf("%s holds %+v, which is %+v", o.id, one, j)
		}
	}
	if slices.Sort(keys); h.Fenced || !slices.Equal(keys, m.heldBy(o)) {
		t.Fatalf("%s holds %+v, want %v", o.id, h, m.heldBy(o))
	}
}

// beat has an owner say that it lives. One that was taken off the list hears so.
func (m *machine) beat(t *rapid.T) {
	o := m.owner(t, func(*modelOwner) bool { return true })
	var alive bool
	_, err := m.through(t, "beat", func() (err error) { alive, err = m.f.Beat(m.f.ctx, o.id, !o.known); return err })
	want(t, "beat", err, nil)
	if alive != (o.listed || !o.known) {
		t.Fatalf("%+v lives: %v", o, alive)
	}
	if alive {
		o.known, o.listed, o.silent = true, true, false
	}
}

// fallSilent has an owner beat no more.
func (m *machine) fallSilent(t *rapid.T) {
	o := m.owner(t, func(o *modelOwner) bool { return o.listed && !o.silent })
	m.f.rdb.ZAddXX(m.f.ctx, ownersKey, redis.Z{Score: 1, Member: o.id})
	o.silent = true
}

// reclaim takes over from a silent owner; the one that does so may die half way,
// and the owner may beat again meanwhile.
func (m *machine) reclaim(t *rapid.T) {
	var named, silent []string
	_, err := m.through(t, "silent", func() (err error) { named, err = m.f.Silent(m.f.ctx, time.Hour); return err })
	want(t, "silent", err, nil)
	for _, o := range m.owners {
		if o.silent && o.listed {
			silent = append(silent, o.id)
		}
	}
	slices.Sort(named)
	if slices.Sort(silent); !slices.Equal(named, silent) {
		t.Fatalf("silent are %v, want %v", named, silent)
	}
	o := m.owner(t, func(o *modelOwner) bool { return o.silent && o.listed })
	m.takeOver(t, o)
	if rapid.Bool().Draw(t, "to the end") {
		want(t, "retire", m.f.Retire(m.f.ctx, o.id), nil)
		o.listed = false
	}
}

// crash is an owner's end with all it holds; another owner takes its place.
func (m *machine) crash(t *rapid.T) {
	m.takeOver(t, m.owner(t, func(o *modelOwner) bool { return len(m.heldBy(o)) > 0 }))
}

func (m *machine) takeOver(t *rapid.T, o *modelOwner) {
	held := m.heldBy(o)
	var n int
	lost, err := m.through(t, "reclaim", func() (err error) { n, err = m.f.Reclaim(m.f.ctx, "q", o.id); return err })
	want(t, "reclaim", err, nil)
	if n != len(held) && !(lost && n == 0) {
		t.Fatalf("reclaimed %d of %v", n, held)
	}
	for _, key := range held {
		j := m.jobs[key]
		m.old = append(m.old, *j.held)
		j.blame, j.blamedAlone = j.held.Token, j.runsAlone
		if j.runsAlone {
			j.alone++
		}
		j.state, j.held, j.owner, j.runsAlone = jobs.StatePending, nil, nil, false
		j.crashes++
		j.row++
		j.failures++
	}
	o.fenced = true
	if !slices.ContainsFunc(m.owners, living) || len(m.owners) < 3 {
		m.owners = append(m.owners, &modelOwner{id: fmt.Sprint("o", len(m.owners))})
	}
}

func (m *machine) promote(t *rapid.T) {
	key, j := m.one(t, jobs.StateScheduled, jobs.StateRetrying, jobs.StatePaused)
	m.f.due(key)
	var moved int
	lost, err := m.through(t, "promote", func() error { p, err := m.f.Promote(m.f.ctx, "q"); moved = p.Moved; return err })
	want(t, "promote", err, nil)
	if moved != 1 && !(lost && moved == 0) {
		t.Fatalf("promoted %d", moved)
	}
	j.state, j.isolated, j.waiting, j.halted = jobs.StatePending, false, false, false
	j.pass, j.spent, j.lane = j.pass || j.lane, j.spent || j.lane, false
}

func (m *machine) cancel(t *rapid.T) {
	key := rapid.SampledFrom(machineKeys).Draw(t, "key")
	var info jobs.Info
	_, err := m.through(t, "cancel", func() (err error) { info, err = m.f.Cancel(m.f.ctx, "q", key, why); return err })
	j := m.jobs[key]
	switch {
	case j == nil:
		want(t, "cancel", err, jobs.ErrNotFound)
		return
	case j.state == jobs.StateCompleted, j.state == jobs.StateQuarantined:
		want(t, "cancel", err, jobs.ErrConflict)
		return
	case j.state == jobs.StateCancelled:
	case j.undo.open != "":
		want(t, "cancel", err, jobs.ErrConflict)
		return
	case j.asked && j.state == jobs.StatePending && j.left():
	case j.asked && j.state == jobs.StateRunning:
	default:
		if j.lane = false; !j.asked {
			m.decisions++
		}
		if j.asked = j.state == jobs.StateRunning || j.left(); j.asked && j.state != jobs.StateRunning {
			j.state, j.waits, j.isolated, j.waiting, j.halt, j.halted = jobs.StatePending, 0, false, false, false, false
		} else if !j.asked {
			j.state, j.waits, j.isolated, j.waiting, j.halt, j.halted = jobs.StateCancelled, 0, false, false, false, false
			j.family.orphaned = j.family.ever
		}
	}
	want(t, "cancel", err, nil)
	if info.State != j.state || info.CancelAsked != j.asked {
		t.Fatalf("cancelled %+v, want %+v", info, j)
	}
}

func (m *machine) replay(t *rapid.T) {
	key, fromStart := rapid.SampledFrom(machineKeys).Draw(t, "key"), rapid.Bool().Draw(t, "from start")
	_, err := m.through(t, "replay", func() error { _, err := m.f.Replay(m.f.ctx, "q", key, fromStart, why); return err })
	j := m.jobs[key]
	switch {
	case j == nil:
		want(t, "replay", err, jobs.ErrNotFound)
	case j.state != jobs.StateQuarantined, j.erased:
		want(t, "replay", err, jobs.ErrConflict)
	default:
		want(t, "replay", err, nil)
		m.decisions++
		j.revived(fromStart)
	}
}

func (m *machine) discard(t *rapid.T) {
	key := rapid.SampledFrom(machineKeys).Draw(t, "key")
	_, err := m.through(t, "discard", func() error { _, err := m.f.Discard(m.f.ctx, "q", key, why); return err })
	j := m.jobs[key]
	switch {
	case j == nil:
		want(t, "discard", err, jobs.ErrNotFound)
	case j.state != jobs.StateQuarantined:
		want(t, "discard", err, jobs.ErrConflict)
	default:
		want(t, "discard", err, nil)
		delete(m.jobs, key)
		m.decisions++
	}
}

// hold pauses the queue, or takes that back.
func (m *machine) hold(t *rapid.T) {
	pause := rapid.Bool().Draw(t, "pause")
	_, err := m.through(t, "hold", func() error {
		if pause {
			return m.f.PauseQueue(m.f.ctx, "q", why)
		}
		_, err := m.f.ResumeQueue(m.f.ctx, "q", why)
		return err
	})
	want(t, "hold", err, nil)
	if pause != m.paused {
		m.decisions++
	}
	m.paused = pause
}

func (m *machine) expire(t *rapid.T) {
	key, j := m.one(t, jobs.StateCompleted, jobs.StateCancelled)
	m.f.rdb.ZAdd(m.f.ctx, completedKey("q"), redis.Z{Score: 1, Member: key})
	var n int
	lost, err := m.through(t, "expire", func() (err error) { n, err = m.f.Expire(m.f.ctx, "q"); return err })
	want(t, "expire", err, nil)
	if j.family.orphaned {
		if n != 0 {
			t.Fatalf("forgot %s before its child was told", key)
		}
		return
	}
	if n != 1 && !(lost && n == 0) {
		t.Fatalf("forgot %d", n)
	}
	delete(m.jobs, key)
}

// announce shows a worker to asynq's tools; nothing of the jobs may change by it.
func (m *machine) announce(t *rapid.T) {
	before := m.read()
	_, err := m.through(t, "presence", func() error {
		return m.f.Announce(m.f.ctx, delivery.Presence{Host: "h", PID: 1, ID: "i"}, time.Minute)
	})
	want(t, "announce", err, nil)
	m.unchanged(t, before, "a worker that shows itself")
}

// reset begins a history on an empty database.
func (m *machine) reset(t *rapid.T) {
	m.hook.Forget()
	m.f.rdb.FlushDB(m.f.ctx)
	m.f.tenants.Clear()
	want(t, "register", m.f.Register(m.f.ctx, "q"), nil)
	m.jobs, m.tokens, m.total = map[string]*modelJob{}, map[string]bool{}, map[string]int{"processed": 0, "failed": 0}
	m.kids = map[string]*modelKid{}
	m.away = false
	m.old, m.owners, m.paused, m.decisions, m.plan, m.plans = nil, []*modelOwner{{id: "o"}}, false, 0, nil, 0
	m.last, m.was = delivery.Link{}, nil
}

func (m *machine) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"":        m.check,
		"enqueue": m.enqueue, "adopt": m.adopt, "claim": m.claim, "claim again": m.claim, "claim once more": m.claim,
		"checkpoint": m.checkpoint, "progress": m.saveProgress, "settle": m.settle, "settle again": m.settle,
		"stale": m.stale, "stale again": m.stale, "fenced": m.fenced, "isolate": m.isolate, "absolve": m.absolve,
		"spawn": m.spawn, "spawn again": m.spawn, "park for children": m.parkForKids, "child ends": m.kidEnds, "report": m.relayReports, "orphans": m.relayOrphans,
		"await": m.await, "signal": m.send, "undid": m.undid, "undid again": m.undid, "holdings": m.holdings, "beat": m.beat, "silent": m.fallSilent, "reclaim": m.reclaim, "crash": m.crash, "crash again": m.crash,
		"sort": m.sort, "wait is over": m.turnIsDue, "run now": m.runTurnNow,
		"wait in a lane": m.waitInLane, "drive": m.drive, "hold for": m.holdForPay, "shelve": m.shelve, "back": m.payIsBack,
		"promote": m.promote, "expire": m.expire, "announce": m.announce,
		"cancel": m.cancel, "pause": m.pause, "resume": m.resume, "replay": m.replay, "replay edited": m.replayEdited, "erase": m.erase, "plan": m.planReplay, "plan again": m.planReplay, "discard": m.discard, "hold": m.hold,
	}
}

// TestStore does anything in any order, with tokens that hold and tokens that do
// not, over a network that loses and repeats calls, and compares the database with
// the model after each action. -rapid.checks=1000 looks longer.
func TestStore(t *testing.T) {
	t.Parallel()
	for part := range 3 {
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			t.Parallel()
			f, hook := hooked(t)
			m := &machine{f: f, hook: hook, stock: asynq.NewClientFromRedisClient(f.rdb)}
			rapid.Check(t, func(t *rapid.T) {
				m.reset(t)
				t.Repeat(m.actions())
				t.Repeat(m.actions()) // a long history, for what comes of crashes that follow each other
			})
		})
	}
}
