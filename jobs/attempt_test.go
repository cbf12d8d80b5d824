package jobs_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/perdure/perdure/jobs"
)

// memory is an attempt without Redis: what it records outlives an execution when
// the same memory is given to the next.
type memory struct {
	about      jobs.About
	definition jobs.Definition
	commitErr  error

	mu       sync.Mutex
	entered  map[string]bool
	steps    map[string][]byte
	progress map[string][]byte
	signals  map[string][]byte
	waits    map[string]time.Time
	made     map[string]jobs.Job   // children by key
	ended    map[string]jobs.Ended // those that have ended
	away     map[string]bool       // services that are held
	called   []error               // how calls of services have ended
}

func newMemory(d jobs.Definition) *memory {
	return &memory{
		about:      jobs.About{Queue: "orders", Key: "order:1", Kind: d.Name, Incarnation: "inc", Attempt: 1},
		definition: d, entered: map[string]bool{}, steps: map[string][]byte{}, progress: map[string][]byte{},
		signals: map[string][]byte{}, waits: map[string]time.Time{}, made: map[string]jobs.Job{}, ended: map[string]jobs.Ended{},
	}
}

// again begins another execution on what was recorded.
func (m *memory) again() { m.entered = map[string]bool{} }

func (m *memory) About() jobs.About           { return m.about }
func (m *memory) Definition() jobs.Definition { return m.definition }

func (m *memory) Enter(step string) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.entered[step] {
		return nil, false, jobs.ErrDuplicateStep
	}
	m.entered[step] = true
	output, ok := m.steps[step]
	return output, ok, nil
}

func (m *memory) Commit(_ context.Context, step string, output []byte, _ time.Time, _ bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.commitErr != nil {
		return m.commitErr
	}
	m.steps[step] = output
	return nil
}

func (m *memory) Progress(step string) []byte { return m.progress[step] }

// Await knows the signals that a test has put into m.signals, and what time it is.
func (m *memory) Await(_ context.Context, w jobs.Wait) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waits[w.Name].IsZero() {
		m.waits[w.Name] = w.Until
		if w.For > 0 {
			m.waits[w.Name] = time.Now().Add(w.For)
		}
	}
	till := m.waits[w.Name]
	switch signal, there := m.signals[w.Name]; {
	case there:
		m.steps[w.Name] = append([]byte("d"), signal...)
	case !till.IsZero() && !time.Now().Before(till):
		m.steps[w.Name] = []byte("t")
	default:
		return nil, false, m.commitErr
	}
	return m.steps[w.Name], true, m.commitErr
}

func (m *memory) SaveProgress(_ context.Context, step string, data []byte) error {
	if m.commitErr != nil {
		return m.commitErr
	}
	m.progress[step] = data
	return nil
}

// Children makes what is not made yet; the test says in m.ended how it has ended.
func (m *memory) Children(_ context.Context, g jobs.Group, wait bool) ([]jobs.Ended, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ended []jobs.Ended
	for _, job := range g.Jobs {
		if _, there := m.made[job.Key]; !there {
			m.made[job.Key] = job
		}
		if e, over := m.ended[job.Key]; over {
			ended = append(ended, e)
		}
	}
	return ended, wait && len(ended) == len(g.Jobs), m.commitErr
}

func (m *memory) Call(_ context.Context, _ string, services []string) (func(error), error) {
	for _, service := range services {
		if m.away[service] {
			return nil, fmt.Errorf("%s: %w", service, jobs.ErrHeld)
		}
	}
	return func(err error) { m.called = append(m.called, err) }, nil
}

func (m *memory) Undoing() ([]string, bool) { return nil, false }

func (m *memory) Undone(string) int { return 0 }

func (m *memory) Unmet() []string { return nil }
