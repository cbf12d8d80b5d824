package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// member is a process that is started again whenever it ends: a worker or a
// scheduler, behind a proxy of its own.
type member struct {
	name    string
	args    []string
	environ []string
	proxy   *proxy
	jumps   bool // its clock may jump

	mu      sync.Mutex
	child   *child
	stopped bool // by SIGSTOP
	bad     []error
}

// exitUnreachable is how a process ends that cannot reach Redis when it starts.
const exitUnreachable = 5

// run keeps the process running until ctx ends. The seed decides what each start
// is told.
func (m *member) run(ctx context.Context, s *stage, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 2))
	for ctx.Err() == nil {
		environ := append(m.environ[:len(m.environ):len(m.environ)], "CHAOS_SEED="+strconv.FormatUint(r.Uint64(), 10))
		if skewed := r.IntN(3) == 0; skewed && m.jumps {
			environ = append(environ, "CHAOS_CLOCK="+strconv.Itoa(60+r.IntN(25*3600)))
			s.counters.add(clockJumps, 1)
		}
		c, err := launch(s.dir, m.name, environ, s.binary, m.args...)
		if err != nil {
			m.fault(err)
			return
		}
		m.mu.Lock()
		m.child = c
		m.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-c.ended:
		}
		if code := c.cmd.ProcessState.ExitCode(); !c.killed() && code != exitUnreachable {
			m.fault(fmt.Errorf("%s ended by itself: %v; see %s", m.name, c.cmd.ProcessState, logOf(s.dir, m.name)))
		}
		sleep(ctx, 100*time.Millisecond)
	}
}

func (m *member) fault(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bad = append(m.bad, err)
}

// kill reports whether it ended a process that ran.
func (m *member) kill() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.child != nil && !m.stopped && m.child.kill()
}

// freeze stops the process for a while and lets it go on. It returns false when
// it did not run or did not live to go on.
func (m *member) freeze(ctx context.Context, d time.Duration) bool {
	m.mu.Lock()
	c := m.child
	frozen := c != nil && !m.stopped && c.signal(syscall.SIGSTOP)
	m.stopped = m.stopped || frozen
	m.mu.Unlock()
	if !frozen {
		return false
	}
	sleep(ctx, d)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopped = false
	return c.signal(syscall.SIGCONT)
}

// end stops the process, gently when asked, and returns all that was wrong with
// it.
func (m *member) end(gently bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := errors.Join(m.bad...)
	switch {
	case m.child == nil:
	case gently:
		err = errors.Join(err, m.child.stop(40*time.Second))
	default:
		m.child.kill()
	}
	m.proxy.close()
	return err
}
