package store

import (
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/perdure/perdure/jobs"
)

// mayWait reports that a pending job says that it waits its turn, or that it has done
// so until "run now" or the end of a day sent it back.
func (j *modelJob) mayWait(h hash) bool {
	return j.state == jobs.StatePending && strings.Contains(h["p:wait"], " turn ")
}

// checkTurns returns the pending jobs that wait their turn. Each is on the list of its
// tenant, whose turn comes, and on the index; the index may have a job that was sent
// back to the queue since.
func (m *machine) checkTurns(t *rapid.T, s seen) (keys []string) {
	for _, key := range m.in(jobs.StatePending) {
		h := hash(s.hashes[key])
		if h["state"] != "retry" {
			continue
		}
		keys = append(keys, key)
		since, tenant, _ := strings.Cut(h["p:wait"], " turn ")
		list := m.f.rdb.LRange(m.f.ctx, turnKey("q", tenant), 0, -1).Val()
		if !slices.Contains(list, since+" "+key) || m.f.rdb.ZScore(m.f.ctx, turnsKey("q"), tenant).Err() != nil || !slices.Contains(s.sets["queued"], key) {
			t.Fatalf("%s waits its turn, %s has %v", key, tenant, list)
		}
	}
	for _, key := range s.sets["queued"] {
		if j := m.jobs[key]; j == nil || !j.mayWait(s.hashes[key]) {
			t.Fatalf("%s does not wait its turn: %+v", key, j)
		}
	}
	return keys
}

// sort is what a scheduler does about a shared queue while all workers are busy.
func (m *machine) sort(t *rapid.T) {
	_, err := m.through(t, "claim", func() error {
		_, err := m.f.claim(m.f.ctx, "q", "", 0, 1)
		return err
	})
	want(t, "sort", err, nil)
	if !m.paused {
		m.park()
	}
}

// oneThatWaits draws a job that waits its turn.
func (m *machine) oneThatWaits(t *rapid.T) string {
	keys := slices.DeleteFunc(m.in(jobs.StatePending), func(key string) bool { return m.f.field(key, "state") != "retry" })
	if len(keys) == 0 {
		t.Skip("no job waits its turn")
	}
	return rapid.SampledFrom(keys).Draw(t, "key")
}

func (m *machine) turnIsDue(t *rapid.T) {
	m.f.due(m.oneThatWaits(t))
	_, err := m.through(t, "promote", func() error { _, err := m.f.Promote(m.f.ctx, "q"); return err })
	want(t, "promote", err, nil)
}

func (m *machine) runTurnNow(t *rapid.T) {
	want(t, "run now", m.f.inspector().RunTask("q", m.oneThatWaits(t)), nil)
}
