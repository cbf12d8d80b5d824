package store

import (
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// resting reports whether the queue is paused, for whatever reason.
func (m *machine) resting() bool { return m.paused || m.away }

// waitInLane is the verdict on a job that has to wait for pay.
func (m *machine) waitInLane(t *rapid.T) {
	key, j := m.one(t, jobs.StateRunning)
	v := inPay
	if p := j.held.Pass; p != nil {
		v.Since = p.Since
	}
	_, err := m.through(t, "pause", func() error { return m.f.Settle(m.f.ctx, *j.held, v) })
	want(t, "wait in a lane", err, nil)
	m.old = append(m.old, *j.held)
	j.last, j.held, j.owner, j.runsAlone = j.held.Token, nil, nil, false
	m.inLine(t, key, j)
}

// inLine follows that a job waits in the lane: where it stood, if it has been there before.
func (m *machine) inLine(t *rapid.T, key string, j *modelJob) {
	since := int64(m.f.rdb.ZScore(m.f.ctx, laneOfPay, key).Val())
	if j.pass && since != j.place {
		t.Fatalf("%s stands in line since %d, was %d", key, since, j.place)
	}
	j.state, j.lane, j.pass, j.place = jobs.StatePaused, true, false, since
}

// inLane returns the keys of those who wait in the lane, as they are to be sent back.
func (m *machine) inLane() (keys []string) {
	for _, key := range m.f.rdb.ZRange(m.f.ctx, laneOfPay, 0, -1).Val() {
		if j := m.jobs[key]; j != nil && j.lane {
			keys = append(keys, key)
		}
	}
	return keys
}

func (m *machine) drive(t *rapid.T) { m.driveUpTo(t, rapid.IntRange(1, 2).Draw(t, "most")) }

func (m *machine) driveUpTo(t *rapid.T, most int) {
	due, g := m.inLane(), delivery.Grant{Turn: 1, ID: rapid.StringMatching("[a-z]{12}").Draw(t, "grant")}
	due = due[:min(most, len(due))]
	var sent int
	_, err := m.through(t, "drive", func() (err error) { sent, _, err = m.f.Drive(m.f.ctx, pay, most, g, 1); return err })
	want(t, "drive", err, nil)
	if sent != len(due) {
		t.Fatalf("sent %d, want %v", sent, due)
	}
	for _, key := range due {
		j := m.jobs[key]
		j.state, j.lane, j.pass, j.spent = jobs.StatePending, false, true, false
	}
}

// holdForPay pauses the queue because pay is away.
func (m *machine) holdForPay(t *rapid.T) {
	_, err := m.through(t, "hold", func() error { return m.f.HoldQueue(m.f.ctx, "q", "pay", "it is away") })
	if want(t, "hold", err, nil); !m.away {
		m.decisions++
	}
	m.away = true
}

// shelve ends that pause.
func (m *machine) shelve(t *rapid.T) {
	var over bool
	turns := map[string]bool{} // jobs that wait their turn go on doing so
	for _, key := range m.in(jobs.StatePending) {
		turns[key] = strings.Contains(m.f.field(key, "p:wait"), " turn ")
	}
	_, err := m.through(t, "shelve", func() (err error) { _, over, err = m.f.Shelve(m.f.ctx, "q", "pay"); return err })
	if want(t, "shelve", err, nil); !over {
		t.Fatal("the pause has not ended")
	}
	if !m.away {
		return
	}
	m.away = false
	m.decisions++
	for _, key := range m.in(jobs.StatePending) {
		j := m.jobs[key]
		stays := j.asked || j.halt || j.undo.open != "" || turns[key]
		if j.pass && !j.spent && !stays { // it depends on how long ago it was sent back
			stays = m.f.state(key) == jobs.StatePending
		}
		if !stays {
			m.inLine(t, key, j)
		}
	}
}

// payIsBack makes the calls that follow when pay is back: nothing waits for it then.
func (m *machine) payIsBack(t *rapid.T) {
	m.shelve(t)
	m.driveUpTo(t, maxBatch)
	if left := m.f.rdb.ZCard(m.f.ctx, laneOfPay).Val() + m.f.rdb.SCard(m.f.ctx, lanesKey("q")).Val(); left != 0 {
		t.Fatalf("%d entries are left", left)
	}
	for _, key := range m.in(jobs.StatePaused) {
		if m.jobs[key].lane {
			t.Fatalf("%s is forgotten", key)
		}
	}
}

// checkLane compares who waits in the lane: each has an entry of just this wait, and is
// found by those who look there.
func (m *machine) checkLane(t *rapid.T, s seen) {
	for _, key := range machineKeys {
		h, j := hash(s.hashes[key]), m.jobs[key]
		if lane := laneOf(h["p:wait"]); (lane != "") != (j != nil && j.lane) {
			t.Fatalf("%s waits for %q, want %+v", key, h["p:wait"], j)
		} else if lane == "" {
			continue
		}
		since := m.f.rdb.ZScore(m.f.ctx, laneOfPay, key).Val()
		if w := h.waiting(); w == nil || w.Name != "pay" || w.Since.UnixMilli() != int64(since) {
			t.Fatalf("%s waits for %+v, its entry is of %v", key, w, since)
		}
		if lanes := m.f.rdb.SMembers(m.f.ctx, lanesKey("q")).Val(); !slices.Contains(lanes, "pay kind.a") {
			t.Fatalf("%s waits in a lane that is none of %v", key, lanes)
		}
	}
}
