package worker

import (
	"slices"
	"strings"

	"github.com/perdure/perdure/internal/delivery"
)

// room is how much is recorded of a job.
type room struct {
	steps, bytes int
	progress     map[string]int // bytes by step
}

func roomOf(d delivery.Delivery) room {
	r := room{steps: len(d.Steps), progress: map[string]int{}}
	for _, output := range d.Steps {
		r.bytes += len(output)
	}
	for step, data := range d.Progress {
		r.progress[step] = len(data)
		r.bytes += len(data)
	}
	return r
}

// roomFor counts what is about to be recorded, or refuses it: an output, which takes
// the place of the step's progress, or progress. What undoes the job has room.
func (a *attempt) roomFor(step string, data []byte, output bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	steps, bytes := a.room.steps, a.room.bytes-a.room.progress[step]+len(data)
	if output {
		steps++
	}
	if a.d.Undo == nil {
		if err := a.handler.Definition.CheckRecord(steps, bytes); err != nil {
			return err
		}
	}
	a.room.steps, a.room.bytes, a.room.progress[step] = steps, bytes, len(data)
	if output {
		delete(a.room.progress, step)
	}
	return nil
}

// Unmet implements [jobs.Attempt].
func (a *attempt) Unmet() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var unmet []string
	for step := range a.steps {
		if !a.entered[step] && !strings.HasPrefix(step, "undo/") {
			unmet = append(unmet, step)
		}
	}
	slices.Sort(unmet)
	return unmet
}
