package jobstest

import (
	"context"
	"fmt"
	"time"

	"github.com/perdure/perdure/jobs"
)

// Outage takes a service away for d from now on: steps that need it ([jobs.StepNeeds])
// are held until then, or go their other way ([jobs.Fallback]).
func (j *Job) Outage(service string, d time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.outages == nil {
		j.outages = map[string]time.Time{}
	}
	j.outages[service] = j.now.Add(d)
}

// Call implements [jobs.Attempt].
func (e *execution) Call(_ context.Context, _ string, services []string) (func(error), error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, service := range services {
		if until := e.outages[service]; e.now.Before(until) {
			if e.held.IsZero() || until.Before(e.held) {
				e.held = until
			}
			return nil, fmt.Errorf("%s is not available: %w", service, jobs.ErrHeld)
		}
	}
	return func(error) {}, nil
}
