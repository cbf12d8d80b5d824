package store

import (
	"pgregory.net/rapid"

	"github.com/perdure/perdure/jobs"
)

// wanted is what a write of a running job is answered besides.
func (j *modelJob) wanted() error {
	switch {
	case j.asked && j.undo.open == "":
		return jobs.ErrCancelled
	case j.halt:
		return jobs.ErrPaused
	}
	return nil
}

// pause has an operator pause a job.
func (m *machine) pause(t *rapid.T) {
	key := rapid.SampledFrom(machineKeys).Draw(t, "key")
	_, err := m.through(t, "suspend", func() error { _, err := m.f.Pause(m.f.ctx, "q", key, why); return err })
	j := m.jobs[key]
	switch {
	case j == nil:
		want(t, "pause", err, jobs.ErrNotFound)
	case j.halt:
		want(t, "pause again", err, nil)
	case j.state.Ended(), j.asked:
		want(t, "pause", err, jobs.ErrConflict)
	default:
		want(t, "pause", err, nil)
		j.halt = true
		m.decisions++
		if j.state != jobs.StateRunning {
			j.halted, j.isolated, j.waiting, j.lane, j.back = true, false, false, false, ""
			if j.state == jobs.StateScheduled || j.state == jobs.StateRetrying {
				j.back = j.state
			}
			j.state = jobs.StatePaused
		}
	}
}

// resume takes that back; whatever waited for a time waits on.
func (m *machine) resume(t *rapid.T) {
	key := rapid.SampledFrom(machineKeys).Draw(t, "key")
	_, err := m.through(t, "resume", func() error { _, err := m.f.Resume(m.f.ctx, "q", key, why); return err })
	j := m.jobs[key]
	switch {
	case j == nil:
		want(t, "resume", err, jobs.ErrNotFound)
	case !j.halt:
		want(t, "resume", err, jobs.ErrConflict)
	default:
		want(t, "resume", err, nil)
		m.decisions++
		if j.halted {
			j.state = jobs.StatePending
			if j.back != "" {
				j.state = j.back
			}
		}
		j.halt, j.halted, j.back = false, false, ""
	}
}
