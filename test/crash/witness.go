package main

import (
	"fmt"
	"sync"
	"time"
)

// witness knows what the handlers have told.
type witness struct {
	mu         sync.Mutex
	jobs       map[string]*story
	changed    chan struct{} // closed and made anew at each event
	violations []string
}

// story is what was told of one job.
type story struct {
	pid      int // who runs it, or ran it last
	run      int
	at       time.Time // when that began
	within   string    // the step under way
	recorded map[string]bool
	ended    bool
}

func newWitness() *witness {
	return &witness{jobs: map[string]*story{}, changed: make(chan struct{})}
}

// tell takes an event in. Events of one process come in order; those of a killed
// process are all in before its jobs are looked at.
func (w *witness) tell(e event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.jobs[e.Job]
	if s == nil {
		s = &story{recorded: map[string]bool{}}
		w.jobs[e.Job] = s
	}
	switch e.What {
	case begun:
		s.pid, s.run, s.at, s.within = e.PID, e.Run, e.At, ""
	case entered:
		if s.recorded[e.Step] {
			w.violations = append(w.violations, fmt.Sprintf("job %s repeats %s, which had ended, in execution %d", e.Job, e.Step, e.Run))
		}
		s.within = e.Step
	case recorded:
		s.recorded[e.Step], s.within = true, ""
	case ended:
		s.ended = true
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *witness) violated(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violations = append(w.violations, fmt.Sprintf(format, args...))
}

// running returns the jobs that each process runs, by its ID, as they stand.
func (w *witness) running() map[int]map[string]story {
	w.mu.Lock()
	defer w.mu.Unlock()
	by := map[int]map[string]story{}
	for key, s := range w.jobs {
		if s.ended {
			continue
		}
		if by[s.pid] == nil {
			by[s.pid] = map[string]story{}
		}
		by[s.pid][key] = *s
	}
	return by
}

// story returns a copy of what is known of a job, and what is closed when more is.
func (w *witness) story(key string) (story, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.jobs[key]; s != nil {
		return *s, w.changed
	}
	return story{}, w.changed
}

// ended counts the jobs that have ended.
func (w *witness) ended() (n int, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.jobs {
		if s.ended {
			n++
		}
	}
	return n, w.changed
}
