package store

import (
	"fmt"
	"slices"

	"pgregory.net/rapid"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// modelPlan is the replay plan that is open.
type modelPlan struct {
	id   string
	left map[string]int  // to how often the job had been quarantined then
	out  map[string]bool // replayed, and not known to have ended
}

// revived is a job that was replayed.
func (j *modelJob) revived(fromStart bool) {
	j.state, j.attempts, j.waits, j.crashes, j.alone, j.blame, j.plan = jobs.StatePending, 0, 0, 0, 0, "", ""
	if fromStart {
		j.undo.open = ""
	}
	j.renewed()
	if fromStart {
		clear(j.undo.undoable)
		clear(j.steps)
		clear(j.progress)
		j.armed, j.signal, j.kept = false, "", false
		j.family = modelFamily{ever: j.family.ever}
	}
}

// replayEdited replays with another payload, which is all that an erased job can be
// replayed with.
func (m *machine) replayEdited(t *rapid.T) {
	key, fromStart := rapid.SampledFrom(machineKeys).Draw(t, "key"), rapid.Bool().Draw(t, "from start")
	_, err := m.through(t, "replay", func() error {
		_, err := m.f.ReplayEdited(m.f.ctx, "q", key, []byte(`{"a":3}`), fromStart, why)
		return err
	})
	j := m.jobs[key]
	switch {
	case j == nil:
		want(t, "replay", err, jobs.ErrNotFound)
	case j.state != jobs.StateQuarantined, j.erased && !fromStart:
		want(t, "replay", err, jobs.ErrConflict)
	default:
		want(t, "replay", err, nil)
		m.decisions++
		j.erased = false
		j.revived(fromStart)
	}
}

func (m *machine) erase(t *rapid.T) {
	key := rapid.SampledFrom(machineKeys).Draw(t, "key")
	_, err := m.through(t, "erase", func() error { _, err := m.f.Erase(m.f.ctx, "q", key, why); return err })
	j := m.jobs[key]
	switch {
	case j == nil:
		want(t, "erase", err, jobs.ErrNotFound)
	case j.state != jobs.StateQuarantined:
		want(t, "erase", err, jobs.ErrConflict)
	default:
		want(t, "erase", err, nil)
		if !j.erased {
			m.decisions++
		}
		j.erased, j.kept = true, false
		clear(j.progress)
		for step := range j.steps {
			j.steps[step] = ""
		}
	}
}

// planReplay makes a plan over all that is in quarantine, or takes the open one
// further.
func (m *machine) planReplay(t *rapid.T) {
	if m.plan != nil {
		m.advance(t)
		return
	}
	m.plans++
	p := &modelPlan{id: fmt.Sprint("p", m.plans), left: map[string]int{}, out: map[string]bool{}}
	request := delivery.PlanRequest{ID: p.id, Queue: "q", Rate: delivery.MaxPlanRate, NoCanary: true, KeepGoing: true}
	_, err := m.through(t, "plan", func() error { _, err := m.f.MakePlan(m.f.ctx, request, why); return err })
	want(t, "plan", err, nil)
	m.decisions++
	page, err := m.f.Dead(m.f.ctx, delivery.DeadQuery{Queue: "q"})
	want(t, "list", err, nil)
	_, err = m.through(t, "select", func() error {
		_, err := m.f.SelectFor(m.f.ctx, delivery.Plan{PlanRequest: request}, page)
		return err
	})
	want(t, "select", err, nil)
	for _, key := range m.in(jobs.StateQuarantined) {
		if j := m.jobs[key]; !j.erased {
			p.left[key] = j.quarantines
		}
	}
	m.plan = p
}

func (m *machine) advance(t *rapid.T) {
	name := planKey("q", m.plan.id)
	m.f.rdb.HDel(m.f.ctx, name, "looked")
	m.f.rdb.HSet(m.f.ctx, name, "next", 0)
	m.f.nextMilli() // so that no two quarantines of a job are at the same time
	twice, err := m.through(t, "advance", func() error { _, err := m.f.Advance(m.f.ctx, "q", m.plan.id); return err })
	want(t, "advance", err, nil)
	for key := range m.plan.out {
		j := m.jobs[key]
		if j == nil || j.plan != m.plan.id || j.state.Ended() {
			delete(m.plan.out, key)
		}
	}
	m.advanced()
	if twice && m.plan != nil {
		m.advanced()
	}
}

// advanced is one step of the open plan.
func (m *machine) advanced() {
	p := m.plan
	if len(p.left)+len(p.out) == 0 {
		m.decisions++
		m.plan = nil
		return
	}
	for key, quarantines := range p.left {
		j := m.jobs[key]
		if j != nil && j.state == jobs.StateQuarantined && j.quarantines == quarantines && !j.erased {
			m.decisions++
			j.revived(false)
			j.plan, p.out[key] = p.id, true
		}
	}
	clear(p.left)
}

// checkPlan compares the open plan with the model.
func (m *machine) checkPlan(t *rapid.T) {
	if m.plan == nil {
		return
	}
	name := planKey("q", m.plan.id)
	for set, want := range map[string]int{"left": len(m.plan.left), "out": len(m.plan.out)} {
		got := m.f.rdb.ZRange(m.f.ctx, name+":"+set, 0, -1).Val()
		if len(got) != want {
			t.Fatalf("the plan's %s has %v, want %d", set, slices.Sorted(slices.Values(got)), want)
		}
	}
}
