package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// modelJob is what a job must be, by what was done to it.
type modelJob struct {
	state                                    jobs.State
	runs, attempts, waits, crashes, failures int
	steps                                    map[string]string // to the execution that recorded it
	asked                                    bool
	row, alone                               int    // crashes in a row, and of a process that ran nothing else
	isolated                                 bool   // paused, to be run by itself
	runsAlone                                bool   // this execution
	blame                                    string // token of the last crash
	blamedAlone                              bool
	armed, waiting                           bool   // a wait is armed; it is paused for that
	signal                                   string // id of the one that was given
	kept                                     bool   // and was not waited for yet
	last                                     string // token of the last verdict
	incarnation                              string
	held                                     *delivery.Delivery // of the attempt that owns it
}

// machine drives a store and the model side by side.
type machine struct {
	f         *fixture
	jobs      map[string]*modelJob
	old       []delivery.Delivery // of attempts that own nothing any more
	owners    []string
	tokens    map[string]bool
	decisions int
	total     map[string]int // processed, failed
}

var machineKeys = []string{"a", "b", "c"}

func (m *machine) owner() string { return m.owners[len(m.owners)-1] }

// in returns the keys whose job is in one of the states, sorted.
func (m *machine) in(states ...jobs.State) (keys []string) {
	for _, key := range machineKeys {
		if j := m.jobs[key]; j != nil && slices.Contains(states, j.state) {
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

func want(t *rapid.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) || target == nil && err != nil {
		t.Fatalf("%s: error %v, want %v", what, err, target)
	}
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
	h, err := m.f.Enqueue(m.f.ctx, jobs.Raw(kindA, key, payload, options...))
	switch {
	case j == nil:
		want(t, "enqueue", err, nil)
		if h.Duplicate || h.State != state {
			t.Fatalf("new job: %+v", h)
		}
		m.jobs[key] = &modelJob{state: state, steps: map[string]string{}, incarnation: h.Incarnation}
	case other:
		want(t, "other payload", err, jobs.ErrOtherPayload)
	default:
		want(t, "duplicate", err, nil)
		if !h.Duplicate || h.State != j.state || h.Incarnation != j.incarnation {
			t.Fatalf("duplicate: %+v, want %+v", h, j)
		}
	}
}

func (m *machine) claim(t *rapid.T) {
	batch, err := m.f.Claim(m.f.ctx, "q", m.owner(), rapid.IntRange(1, 3).Draw(t, "most"))
	want(t, "claim", err, nil)
	met, others := m.park()
	if len(batch.Deliveries) == 0 && others > 0 || batch.Dropped > 0 || batch.Suspects != met {
		t.Fatalf("claimed none of %v, met %d suspects: %+v", m.in(jobs.StatePending), met, batch)
	}
	for _, d := range batch.Deliveries {
		j := m.jobs[d.Key]
		if j == nil || j.state != jobs.StatePending || j.suspect() || m.tokens[d.Token] {
			t.Fatalf("claimed %+v, which is %+v", d, j)
		}
		m.begun(t, d, j)
	}
}

func (j *modelJob) suspect() bool { return j.row >= 2 || j.alone > 0 }

// park follows the suspects that a claim has met; others counts what else was
// pending.
func (m *machine) park() (met, others int) {
	for _, key := range m.in(jobs.StatePending) {
		j := m.jobs[key]
		switch {
		case !j.suspect():
			others++
		case m.f.state(key) == jobs.StatePaused:
			j.state, j.isolated = jobs.StatePaused, true
			met++
		}
	}
	return met, others
}

// isolate takes a suspect, alone or not.
func (m *machine) isolate(t *rapid.T) {
	alone, fit := rapid.Bool().Draw(t, "alone"), 0
	for _, key := range m.in(jobs.StatePaused) {
		if j := m.jobs[key]; j.isolated && (alone || j.row < 4) {
			fit++
		}
	}
	batch, err := m.f.Isolate(m.f.ctx, "q", m.owner(), alone)
	want(t, "isolate", err, nil)
	if len(batch.Deliveries) != min(fit, 1) {
		t.Fatalf("took %+v of %d suspects", batch, fit)
	}
	for _, d := range batch.Deliveries {
		j := m.jobs[d.Key]
		if !j.isolated || !alone && j.row >= 4 || d.CrashedAlone != j.alone || m.tokens[d.Token] {
			t.Fatalf("took %+v, which is %+v", d, j)
		}
		m.begun(t, d, j)
		j.isolated, j.runsAlone = false, alone
	}
}

// absolve takes the last crash back, or one that is not the last.
func (m *machine) absolve(t *rapid.T) {
	if len(m.old) == 0 {
		t.Skip("no token is stale")
	}
	d := rapid.SampledFrom(m.old).Draw(t, "reclaimed")
	want(t, "absolve", m.f.Absolve(m.f.ctx, d.Hold), nil)
	if j := m.jobs[d.Key]; j != nil && j.blame == d.Token {
		j.crashes, j.row = max(0, j.crashes-1), max(0, j.row-1)
		if j.blamedAlone {
			j.alone = max(0, j.alone-1)
		}
		j.blame = ""
	}
}

// begun follows the start of an execution.
func (m *machine) begun(t *rapid.T, d delivery.Delivery, j *modelJob) {
	m.tokens[d.Token] = true
	j.runs++
	if d.Run != j.runs || d.Attempts != j.attempts || d.Waits != j.waits || d.Crashes != j.crashes || d.Incarnation != j.incarnation ||
		len(d.Steps) != len(j.steps) || len(d.Failures) != min(j.failures, keptFailures) || (d.CancelAsked != "") != j.asked {
		t.Fatalf("claimed %+v, want %+v", d, j)
	}
	for step, by := range j.steps {
		if string(d.Steps[step]) != by {
			t.Fatalf("step %s is %q, want %q", step, d.Steps[step], by)
		}
	}
	d.Version = 1
	j.state, j.held = jobs.StateRunning, &d
}

func (m *machine) checkpoint(t *rapid.T) {
	_, j := m.one(t, jobs.StateRunning)
	step, run := rapid.SampledFrom([]string{"s1", "s2"}).Draw(t, "step"), strconv.Itoa(j.runs)
	err := m.f.Checkpoint(m.f.ctx, j.held.Hold, delivery.Checkpoint{Step: step, Run: j.runs, Output: []byte(run)})
	switch by := j.steps[step]; {
	case by != "" && by != run:
		want(t, "recorded before", err, jobs.ErrLost)
		return
	case j.asked:
		want(t, "asked to cancel", err, jobs.ErrCancelled)
	default:
		want(t, "checkpoint", err, nil)
	}
	if j.steps[step] == "" {
		j.steps[step], j.waits, j.row = run, 0, 0
	}
}

func (m *machine) settle(t *rapid.T) {
	_, j := m.one(t, jobs.StateRunning)
	outcome := rapid.SampledFrom(outcomes()).Draw(t, "outcome")
	want(t, string(outcome), m.f.Settle(m.f.ctx, *j.held, verdicts[outcome]), nil)
	m.old = append(m.old, *j.held)
	j.last, j.held, j.runsAlone = j.held.Token, nil, false
	switch outcome {
	case delivery.Complete:
		j.state, j.asked, j.waits = jobs.StateCompleted, false, 0
		m.total["processed"]++
	case delivery.Retry:
		j.state, j.waits = jobs.StateRetrying, 0
		j.attempts++
		j.failures++
		m.total["processed"]++
		m.total["failed"]++
	case delivery.Pause:
		j.state = jobs.StatePaused
		j.waits++
		j.failures++
	case delivery.Quarantine:
		j.state, j.waits, j.asked = jobs.StateQuarantined, 0, false
		j.attempts++
		j.failures++
		m.decisions++
		m.total["processed"]++
		m.total["failed"]++
	case delivery.Cancel:
		if !j.asked {
			m.decisions++
		}
		j.state, j.waits, j.asked = jobs.StateCancelled, 0, false
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
	output, ready, err := m.f.Await(m.f.ctx, j.held.Hold, j.runs, forGo)
	if j.asked {
		want(t, "asked to cancel", err, jobs.ErrCancelled)
	} else {
		want(t, "await", err, nil)
	}
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
	err := m.f.Signal(m.f.ctx, "q", key, jobs.Signal{Name: "go", ID: id, Data: []byte(id)})
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
		if j.waiting {
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
	j := m.jobs[d.Key]
	target := jobs.ErrLost
	if j == nil {
		target = jobs.ErrNotFound
	}
	if rapid.Bool().Draw(t, "checkpoint") {
		err := m.f.Checkpoint(m.f.ctx, d.Hold, delivery.Checkpoint{Step: "s1", Run: d.Run, Output: []byte("stale")})
		want(t, "stale checkpoint", err, jobs.ErrLost)
		want(t, "stale progress", m.f.SaveProgress(m.f.ctx, d.Hold, "s1", []byte("stale")), jobs.ErrLost)
	} else {
		if j != nil && j.last == d.Token {
			target = nil // a verdict sent twice
		}
		outcome := rapid.SampledFrom(outcomes()).Draw(t, "outcome")
		want(t, "stale "+string(outcome), m.f.Settle(m.f.ctx, d, verdicts[outcome]), target)
	}
	if after := m.read(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Fatalf("a stale token wrote: %v, before %v", after, before)
	}
}

func (m *machine) promote(t *rapid.T) {
	key, j := m.one(t, jobs.StateScheduled, jobs.StateRetrying, jobs.StatePaused)
	m.f.due(key)
	moved, _, err := m.f.Promote(m.f.ctx, "q")
	want(t, "promote", err, nil)
	if moved != 1 {
		t.Fatalf("promoted %d", moved)
	}
	j.state, j.isolated, j.waiting = jobs.StatePending, false, false
}

func (m *machine) cancel(t *rapid.T) {
	key := rapid.SampledFrom(machineKeys).Draw(t, "key")
	info, err := m.f.Cancel(m.f.ctx, "q", key, why)
	j := m.jobs[key]
	switch {
	case j == nil:
		want(t, "cancel", err, jobs.ErrNotFound)
		return
	case j.state == jobs.StateCompleted, j.state == jobs.StateQuarantined:
		want(t, "cancel", err, jobs.ErrConflict)
		return
	case j.state == jobs.StateCancelled:
	case j.asked && j.state == jobs.StateRunning:
	default:
		if !j.asked {
			m.decisions++
		}
		if j.asked = j.state == jobs.StateRunning; !j.asked {
			j.state, j.waits, j.isolated, j.waiting = jobs.StateCancelled, 0, false, false
		}
	}
	want(t, "cancel", err, nil)
	if info.State != j.state || info.CancelAsked != j.asked {
		t.Fatalf("cancelled %+v, want %+v", info, j)
	}
}

func (m *machine) replay(t *rapid.T) {
	key, fromStart := rapid.SampledFrom(machineKeys).Draw(t, "key"), rapid.Bool().Draw(t, "from start")
	_, err := m.f.Replay(m.f.ctx, "q", key, fromStart, why)
	j := m.jobs[key]
	switch {
	case j == nil:
		want(t, "replay", err, jobs.ErrNotFound)
	case j.state != jobs.StateQuarantined:
		want(t, "replay", err, jobs.ErrConflict)
	default:
		want(t, "replay", err, nil)
		j.state, j.attempts, j.waits, j.crashes, j.alone, j.blame = jobs.StatePending, 0, 0, 0, 0, ""
		m.decisions++
		if fromStart {
			clear(j.steps)
			j.armed, j.signal, j.kept = false, "", false
		}
	}
}

func (m *machine) discard(t *rapid.T) {
	key := rapid.SampledFrom(machineKeys).Draw(t, "key")
	_, err := m.f.Discard(m.f.ctx, "q", key, why)
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

func (m *machine) expire(t *rapid.T) {
	key, _ := m.one(t, jobs.StateCompleted, jobs.StateCancelled)
	m.f.rdb.ZAdd(m.f.ctx, completedKey("q"), redis.Z{Score: 1, Member: key})
	n, err := m.f.Expire(m.f.ctx, "q")
	want(t, "expire", err, nil)
	if n != 1 {
		t.Fatalf("forgot %d", n)
	}
	delete(m.jobs, key)
}

func (m *machine) reclaim(t *rapid.T) {
	running := m.in(jobs.StateRunning)
	n, err := m.f.Reclaim(m.f.ctx, "q", m.owner())
	want(t, "reclaim", err, nil)
	if n != len(running) {
		t.Fatalf("reclaimed %d of %v", n, running)
	}
	for _, key := range running {
		j := m.jobs[key]
		m.old = append(m.old, *j.held)
		j.blame, j.blamedAlone = j.held.Token, j.runsAlone
		if j.runsAlone {
			j.alone++
		}
		j.state, j.held, j.runsAlone = jobs.StatePending, nil, false
		j.crashes++
		j.row++
		j.failures++
	}
	if batch, err := m.f.Claim(m.f.ctx, "q", m.owner(), 1); err != nil || !batch.Fenced {
		t.Fatalf("a dead owner claims %+v, %v", batch, err)
	}
	m.owners = append(m.owners, fmt.Sprint("o", len(m.owners)))
}

// seen is the database as one round trip shows it.
type seen struct {
	lists, sets map[string][]string
	own, hashes map[string]map[string]string
	events      int64
	total       map[string]int
}

func (m *machine) read() seen {
	f, s := m.f, seen{map[string][]string{}, map[string][]string{}, map[string]map[string]string{}, map[string]map[string]string{}, 0, map[string]int{}}
	pipe := f.rdb.Pipeline()
	lists, sets, hashes := map[string]*redis.StringSliceCmd{}, map[string]*redis.StringSliceCmd{}, map[string]*redis.MapStringStringCmd{}
	for _, name := range []string{"pending", "active"} {
		lists[name] = pipe.LRange(f.ctx, asynqKey("q", name), 0, -1)
	}
	for _, name := range []string{"scheduled", "retry", "archived", "completed", "lease"} {
		sets[name] = pipe.ZRange(f.ctx, asynqKey("q", name), 0, -1)
	}
	for _, name := range []string{"parked", "dead", "suspects"} {
		sets[name] = pipe.ZRange(f.ctx, ownKey("q", name), 0, -1)
	}
	for _, owner := range m.owners {
		hashes["own "+owner] = pipe.HGetAll(f.ctx, ownerKey("q", owner))
	}
	for _, key := range machineKeys {
		hashes[key] = pipe.HGetAll(f.ctx, taskKey("q", key))
	}
	events := pipe.XLen(f.ctx, eventsKey("q"))
	processed, failed := pipe.Get(f.ctx, processedKey("q")), pipe.Get(f.ctx, failedKey("q"))
	if _, err := pipe.Exec(f.ctx); err != nil && err != redis.Nil {
		f.t.Error(err)
	}
	for name, list := range lists {
		s.lists[name] = list.Val()
	}
	for name, set := range sets {
		s.sets[name] = slices.Sorted(slices.Values(set.Val()))
	}
	for name, h := range hashes {
		s.hashes[name] = h.Val()
	}
	s.events = events.Val()
	s.total["processed"], _ = processed.Int()
	s.total["failed"], _ = failed.Int()
	return s
}

func (m *machine) check(t *rapid.T) {
	s := m.read()
	expect := func(name string, got, keys []string) {
		t.Helper()
		if got = slices.Sorted(slices.Values(got)); !slices.Equal(got, keys) {
			t.Fatalf("%s has %v, want %v", name, got, keys)
		}
	}
	running := m.in(jobs.StateRunning)
	expect("pending", s.lists["pending"], m.in(jobs.StatePending))
	expect("active", s.lists["active"], running)
	expect("lease", s.sets["lease"], running)
	expect("scheduled", s.sets["scheduled"], m.in(jobs.StateScheduled))
	expect("retry", s.sets["retry"], m.in(jobs.StateRetrying, jobs.StatePaused))
	expect("parked", s.sets["parked"], m.in(jobs.StatePaused))
	expect("archived", s.sets["archived"], m.in(jobs.StateQuarantined))
	expect("dead", s.sets["dead"], m.in(jobs.StateQuarantined))
	expect("completed", s.sets["completed"], m.in(jobs.StateCompleted, jobs.StateCancelled))
	for _, key := range m.in(jobs.StatePaused) {
		if m.jobs[key].isolated && !slices.Contains(s.sets["suspects"], key) {
			t.Fatalf("%s is not among the suspects %v", key, s.sets["suspects"])
		}
	}
	for _, owner := range m.owners {
		own := s.hashes["own "+owner]
		if owner != m.owner() {
			expect("a dead owner's list", slices.Collect(maps.Keys(own)), []string{"!fenced"})
			continue
		}
		expect("the owner's list", slices.Collect(maps.Keys(own)), running)
		for key, token := range own {
			if token != m.jobs[key].held.Token {
				t.Fatalf("%s is owned by %s, want %s", key, token, m.jobs[key].held.Token)
			}
		}
	}
	for _, key := range machineKeys {
		m.checkHash(t, key, s.hashes[key])
	}
	if s.events != int64(m.decisions) || !maps.Equal(s.total, m.total) {
		t.Fatalf("%d decisions and %v, want %d and %v", s.events, s.total, m.decisions, m.total)
	}
}

func (m *machine) checkHash(t *rapid.T, key string, h hash) {
	j := m.jobs[key]
	if j == nil {
		if len(h) > 0 {
			t.Fatalf("%s is gone, but %v", key, h)
		}
		return
	}
	i := h.info("q", key)
	if i.State != j.state || i.Runs != j.runs || i.Attempts != j.attempts || i.Crashes != j.crashes || h.int("p:waits") != j.waits ||
		h.int("p:row") != j.row || h.int("p:icr") != j.alone || (h["p:alone"] != "") != j.runsAlone ||
		i.CancelAsked != j.asked || i.Incarnation != j.incarnation || len(i.Failures) != min(j.failures, keptFailures) || len(i.Steps) != len(j.steps) {
		t.Fatalf("%s is %+v, want %+v", key, i, j)
	}
	if (h["p:tok"] != "") != (j.held != nil) || (h["p:dead"] != "") != (j.state == jobs.StateQuarantined) || (h["p:wait"] != "") != (j.state == jobs.StatePaused) ||
		(h["p:exp"] != "") != (j.state == jobs.StateCompleted || j.state == jobs.StateCancelled) || (h["p:due"] != "") != (j.state == jobs.StateRetrying || j.state == jobs.StatePaused) {
		t.Fatalf("%s, which is %s, has %v", key, j.state, h)
	}
}

// TestStore does anything in any order, with tokens that hold and tokens that do
// not, and compares the database with the model after each action.
func TestStore(t *testing.T) {
	t.Parallel()
	f := open(t)
	rapid.Check(t, func(t *rapid.T) {
		f.rdb.FlushDB(f.ctx)
		m := &machine{f: f, jobs: map[string]*modelJob{}, owners: []string{"o"}, tokens: map[string]bool{}, total: map[string]int{"processed": 0, "failed": 0}}
		t.Repeat(map[string]func(*rapid.T){
			"":        m.check,
			"enqueue": m.enqueue, "claim": m.claim, "claim again": m.claim, "checkpoint": m.checkpoint, "settle": m.settle, "settle again": m.settle,
			"stale": m.stale, "await": m.await, "signal": m.send, "isolate": m.isolate, "absolve": m.absolve, "reclaim again": m.reclaim, "promote": m.promote, "cancel": m.cancel, "replay": m.replay, "discard": m.discard, "expire": m.expire, "reclaim": m.reclaim,
		})
	})
}
