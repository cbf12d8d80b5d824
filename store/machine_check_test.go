package store

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/perdure/perdure/jobs"
)

// seen is the database as one round trip shows it.
type seen struct {
	lists, sets map[string][]string
	own, hashes map[string]map[string]string
	events      int64
	paused      bool
	total       map[string]int
}

func (m *machine) read() seen {
	f, s := m.f, seen{map[string][]string{}, map[string][]string{}, map[string]map[string]string{}, map[string]map[string]string{}, 0, false, map[string]int{}}
	pipe := f.rdb.Pipeline()
	lists, sets, hashes := map[string]*redis.StringSliceCmd{}, map[string]*redis.StringSliceCmd{}, map[string]*redis.MapStringStringCmd{}
	for _, name := range []string{"pending", "active"} {
		lists[name] = pipe.LRange(f.ctx, asynqKey("q", name), 0, -1)
	}
	for _, name := range []string{"scheduled", "retry", "archived", "completed", "lease"} {
		sets[name] = pipe.ZRange(f.ctx, asynqKey("q", name), 0, -1)
	}
	for _, name := range []string{"parked", "dead", "suspects", "queued"} {
		sets[name] = pipe.ZRange(f.ctx, ownKey("q", name), 0, -1)
	}
	sets["group"] = pipe.ZRange(f.ctx, groupKeysKey("q", sigK), 0, -1)
	for _, o := range m.owners {
		hashes["own "+o.id] = pipe.HGetAll(f.ctx, ownerKey("q", o.id))
	}
	for _, key := range machineKeys {
		hashes[key] = pipe.HGetAll(f.ctx, taskKey("q", key))
	}
	events, paused := pipe.XLen(f.ctx, eventsKey("q")), pipe.Exists(f.ctx, pausedKey("q"))
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
	s.events, s.paused = events.Val(), paused.Val() == 1
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
	turns := m.checkTurns(t, s)
	expect("pending", append(turns, s.lists["pending"]...), m.in(jobs.StatePending))
	expect("active", s.lists["active"], running)
	expect("lease", s.sets["lease"], running)
	expect("scheduled", s.sets["scheduled"], m.in(jobs.StateScheduled))
	expect("retry", s.sets["retry"], slices.Sorted(slices.Values(append(turns, m.in(jobs.StateRetrying, jobs.StatePaused)...))))
	expect("parked", s.sets["parked"], m.in(jobs.StatePaused))
	expect("archived", s.sets["archived"], m.in(jobs.StateQuarantined))
	expect("dead", s.sets["dead"], m.in(jobs.StateQuarantined))
	expect("the group", s.sets["group"], m.in(jobs.StateQuarantined))
	expect("completed", s.sets["completed"], m.in(jobs.StateCompleted, jobs.StateCancelled))
	for _, key := range m.in(jobs.StatePaused) {
		if m.jobs[key].isolated && !slices.Contains(s.sets["suspects"], key) {
			t.Fatalf("%s is not among the suspects %v", key, s.sets["suspects"])
		}
	}
	for _, o := range m.owners {
		own := s.hashes["own "+o.id]
		if o.fenced {
			expect("a dead owner's list", slices.Collect(maps.Keys(own)), []string{"!fenced"})
			continue
		}
		expect("the list of "+o.id, slices.Collect(maps.Keys(own)), m.heldBy(o))
		for key, token := range own {
			if token != m.jobs[key].held.Token {
				t.Fatalf("%s is owned by %s, want %s", key, token, m.jobs[key].held.Token)
			}
		}
	}
	if s.paused != m.paused {
		t.Fatalf("the queue is paused: %v, want %v", s.paused, m.paused)
	}
	m.checkPlan(t)
	for _, key := range machineKeys {
		m.checkHash(t, key, s.hashes[key])
	}
	m.checkEvents(t, s)
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
		i.CancelAsked != j.asked || (h["p:hold"] != "") != j.halt || i.PauseAsked != (j.halt && !j.halted) || i.Incarnation != j.incarnation || len(i.Failures) != min(j.failures, keptFailures+1) {
		t.Fatalf("%s is %+v, want %+v", key, i, j)
	}
	if (h["p:tok"] != "") != (j.held != nil) || (h["p:dead"] != "") != (j.state == jobs.StateQuarantined) || (h["p:sig"] != "") != (j.state == jobs.StateQuarantined) || (h["p:wait"] != "" && !j.mayWait(h)) != (j.state == jobs.StatePaused) ||
		(h["p:exp"] != "") != (j.state == jobs.StateCompleted || j.state == jobs.StateCancelled) || (h["p:due"] != "" && !j.mayWait(h)) != (j.state == jobs.StateRetrying || j.state == jobs.StatePaused) {
		t.Fatalf("%s, which is %s, has %v", key, j.state, h)
	}
	if j.held != nil && h["p:tok"] != j.held.Token || h["p:ltok"] != j.last || h["p:blame"] != j.blamed() {
		t.Fatalf("%s has the tokens %s, %s, %s, want %+v", key, h["p:tok"], h["p:ltok"], h["p:blame"], j)
	}
	j.checkSteps(t, key, h)
	m.checkUndo(t, key, h)
	m.checkFamily(t, key, h)
}

// blamed is the last crash as the record has it.
func (j *modelJob) blamed() string {
	switch {
	case j.blame == "":
		return ""
	case j.blamedAlone:
		return "1 " + j.blame
	}
	return "0 " + j.blame
}

// checkSteps compares what is recorded of steps: what was committed stays as it is.
func (j *modelJob) checkSteps(t *rapid.T, key string, h hash) {
	steps, progress := map[string]string{}, map[string]string{}
	for field, value := range h {
		if step, ok := strings.CutPrefix(field, "s:"); ok {
			info, output := stepRecord(value)
			if steps[step] = string(output); step != "go" && !j.erased && steps[step] != strconv.Itoa(info.Attempt) {
				t.Fatalf("step %s of %s says %q", step, key, value)
			}
		}
		if step, ok := strings.CutPrefix(field, "h:"); ok {
			progress[step] = value
		}
	}
	if given := h["i:go"]; given != j.signal || (h["g:go"] != "") != j.kept || (h["w:go"] != "") != j.armed {
		t.Fatalf("%s waits with %v, want %+v", key, h, j)
	}
	if !maps.Equal(steps, j.steps) || !maps.Equal(progress, j.progress) {
		t.Fatalf("%s has the steps %v and progress %v, want %v and %v", key, steps, progress, j.steps, j.progress)
	}
}
