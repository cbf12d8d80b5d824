package store

import (
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// modelKid is the child that a job of the machine may make, in queue c. It outlives
// its parent, and then stands in the way of another one of the key.
type modelKid struct {
	of             string // its parent's incarnation
	over, reported bool
	state          jobs.State // once it is over
}

// modelFamily is what a job must know of its child.
type modelFamily struct {
	ever     bool // it has had a group
	written  bool // the group is written down
	armed    bool // it was waited for
	told     bool // that it has ended is noted
	orphaned bool // the job was cancelled, and its child is to be
}

// kidOf is a job's own child, if there is one.
func (m *machine) kidOf(key string) *modelKid {
	if kid := m.kids[key]; kid != nil && m.jobs[key] != nil && kid.of == m.jobs[key].incarnation {
		return kid
	}
	return nil
}

// spawn makes a running job's child, or asks what it has come to.
func (m *machine) spawn(t *rapid.T) {
	key, j := m.one(t, jobs.StateRunning)
	script := rapid.SampledFrom([]string{"children", "spawn", "report"}).Draw(t, "script")
	var found []jobs.Ended
	var ready bool
	_, err := m.through(t, script, func() (err error) {
		found, ready, err = m.f.Children(m.f.ctx, *j.held, kids(key, "x"), true)
		return err
	})
	if unwanted := j.wanted(); unwanted != nil {
		want(t, "spawn", err, unwanted)
		return
	}
	j.family.ever, j.family.written = true, true
	if other := m.kids[key]; other != nil && other.of != j.incarnation {
		want(t, "spawn where another's child is", err, jobs.ErrConflict)
		return
	}
	want(t, "spawn", err, nil)
	kid := m.kidOf(key)
	if kid == nil {
		kid = &modelKid{of: j.incarnation}
		m.kids[key] = kid
	}
	j.family.armed = j.family.armed || !j.family.told
	j.family.told = kid.over
	if ready != kid.over || ready && (len(found) != 1 || found[0].State != kid.state) {
		t.Fatalf("the child of %s is %+v (%v), want %+v", key, found, ready, kid)
	}
	if !ready && rapid.Bool().Draw(t, "park") {
		m.endForKids(t, key)
	}
}

// parkForKids ends the execution of any job as one that waits for its child.
func (m *machine) parkForKids(t *rapid.T) {
	key, _ := m.one(t, jobs.StateRunning)
	m.endForKids(t, key)
}

func (m *machine) endForKids(t *rapid.T, key string) {
	j := m.jobs[key]
	v := delivery.Verdict{Outcome: delivery.Park, Waiting: jobs.Waiting{Type: "children", Name: "kids"}, Waits: []string{"kids"}}
	_, err := m.through(t, "park", func() error { return m.f.Settle(m.f.ctx, *j.held, v) })
	want(t, "park for children of "+key, err, nil)
	m.old = append(m.old, *j.held)
	j.last, j.held, j.owner, j.runsAlone, j.pass = j.held.Token, nil, nil, false, false
	j.state, j.waits = jobs.StatePending, 0
	if j.waiting = j.family.armed && !j.family.told; j.waiting {
		j.state = jobs.StatePaused
	}
}

// kidEnds runs the next child, if there is one.
func (m *machine) kidEnds(t *rapid.T) {
	batch, err := m.f.Claim(m.f.ctx, "c", "co", 1)
	want(t, "claim of a child", err, nil)
	if len(batch.Deliveries) == 0 {
		t.Skip("no child is open")
	}
	d := batch.Deliveries[0]
	outcome := rapid.SampledFrom([]delivery.Outcome{delivery.Complete, delivery.Quarantine, delivery.Cancel}).Draw(t, "outcome")
	_, err = m.through(t, scriptOf(outcome), func() error { return m.f.Settle(m.f.ctx, d, verdicts[outcome]) })
	want(t, "end of a child", err, nil)
	kid := m.kids[strings.TrimSuffix(d.Key, "~kids~~x")]
	kid.over = true
	kid.state = map[delivery.Outcome]jobs.State{
		delivery.Complete: jobs.StateCompleted, delivery.Quarantine: jobs.StateQuarantined, delivery.Cancel: jobs.StateCancelled,
	}[outcome]
	if rapid.Bool().Draw(t, "relay") {
		m.relayReports(t)
	}
}

// relayReports tells the parents.
func (m *machine) relayReports(t *rapid.T) {
	script := rapid.SampledFrom([]string{"report", "relayed"}).Draw(t, "script")
	_, err := m.through(t, script, func() error { _, err := m.f.Relay(m.f.ctx, "c"); return err })
	want(t, "relay", err, nil)
	for _, key := range machineKeys {
		kid := m.kids[key]
		if kid == nil || !kid.over || kid.reported {
			continue
		}
		kid.reported = true
		j := m.jobs[key]
		if m.kidOf(key) == nil || !j.family.written {
			continue
		}
		j.family.told = true
		if j.waiting && j.family.armed {
			j.state, j.waiting = jobs.StatePending, false
		}
	}
	if n := m.f.rdb.ZCard(m.f.ctx, reportsKey("c")).Val(); n != 0 {
		t.Fatalf("%d reports are left", n)
	}
}

// relayOrphans cancels the children of cancelled jobs.
func (m *machine) relayOrphans(t *rapid.T) {
	_, err := m.through(t, "relayed", func() error { _, err := m.f.Relay(m.f.ctx, "q"); return err })
	want(t, "relay orphans", err, nil)
	var left []string
	for _, key := range machineKeys {
		j := m.jobs[key]
		if j == nil || !j.family.orphaned {
			continue
		}
		kid := m.kidOf(key)
		if j.family.written && kid == nil { // it may be made yet
			left = append(left, key)
			continue
		}
		j.family.orphaned = false
		if j.family.written && !kid.over {
			kid.over, kid.state = true, jobs.StateCancelled
		}
	}
	got := m.f.rdb.ZRange(m.f.ctx, orphansKey("q"), 0, -1).Val()
	if slices.Sort(got); !slices.Equal(got, left) {
		t.Fatalf("orphans %v are left, want %v", got, left)
	}
}

// checkFamily compares what a job knows of its child.
func (m *machine) checkFamily(t *rapid.T, key string, h hash) {
	j, standing := m.jobs[key], ""
	if j.family.written {
		switch standing = "-"; {
		case j.family.told:
			standing = "1"
		case m.kidOf(key) != nil:
			standing = "0"
		}
	}
	if h["b:kids"] != standing || (h["c:kids"] != "") != j.family.written || (h["w:kids"] != "") != j.family.armed || (h["p:kids"] != "") != j.family.ever {
		t.Fatalf("%s knows of its child %q %q %q, want %q, %+v", key, h["b:kids"], h["c:kids"], h["w:kids"], standing, j.family)
	}
}
