package dependency

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

func leaseID(owner string) string { return owner + "/" + rand.Text()[:12] }

// Call is a call of services that was begun, or an execution that a limit bounds. A nil
// Call is one that nobody asks about.
type Call struct {
	g       *Guard
	began   map[string]jobs.Standing
	trying  map[string]bool // this worker finds out by it whether it reaches the service again
	covered map[string]bool // its execution has asked for them
	leases  []delivery.Lease
	probe   *delivery.Pass // it finds out whether the service is back
}

// Names returns what it is a call of, sorted.
func (c *Call) Names() []string {
	if c == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(c.began))
}

// Finding is what a call tells of a service.
type Finding int

// The findings.
const (
	Nothing  Finding = iota // it was not called, or it is not known which one has failed
	Answered                // it has answered, whatever it said
	Failed                  // it did not answer
)

// End ends a call: its places are free, and what it tells of each service counts.
// reason says what failed, if anything did.
func (c *Call) End(finding func(name string) Finding, reason string) {
	if c == nil {
		return
	}
	if probe := c.takeProbe(); probe != nil {
		c.g.probed(probe, finding(probe.Name), reason)
	}
	for _, name := range c.Names() {
		if !delivery.IsLimit(name) {
			c.count(name, finding(name), reason)
		}
	}
	c.release()
}

func (c *Call) count(name string, found Finding, reason string) {
	g := c.g
	g.mu.Lock()
	defer g.mu.Unlock()
	s, now := g.service(name), g.now()
	began, stands := c.began[name], g.view[name]
	trying := c.trying[name]
	if delete(c.trying, name); trying {
		s.trying = false
	}
	if found == Nothing {
		return
	}
	g.metrics.called(g.label(name), found)
	if began.Turn != stands.Turn || began.State != stands.State {
		return // a call that was begun in another turn tells nothing of this one
	}
	failed := found == Failed
	before, _ := s.window.count(now, buckets)
	s.window.add(now, failed)
	if _, ours := g.known[name]; failed || ours && before == 0 { // the first call for long: from now on it has a say
		g.tellSoon(s)
	}
	switch {
	case !failed && trying:
		g.log.Info("a service is reached again from this worker", "dependency", name)
		s.heldUntil, s.tries = 0, 0
		s.window.reset()
	case failed:
		s.reason = reason
		g.judge(name, s, now, trying)
	}
}

// tellSoon has what is known of a service told in a moment. The lock is held.
func (g *Guard) tellSoon(s *service) {
	s.dirty = true
	select {
	case g.urgent <- struct{}{}:
	default:
	}
}

// judge decides whether this worker holds its own jobs of a service whose breaker is
// closed. The lock is held.
func (g *Guard) judge(name string, s *service, now time.Duration, tried bool) {
	if state := g.view[name].State; state != "" && state != jobs.DependencyClosed {
		return
	}
	d := g.known[name]
	least, ratio := d.MinCalls, d.Ratio
	if least == 0 {
		least = 5
	}
	if ratio == 0 {
		ratio = 0.5
	}
	bad := func(n int) bool {
		calls, failed := s.window.count(now, n)
		return calls >= least && float64(failed) >= ratio*float64(calls)
	}
	shortCalls, _ := s.window.count(now, short)
	if !tried && (s.heldUntil > 0 || !bad(short) && (shortCalls >= least || !bad(buckets))) {
		return
	}
	if s.tries == 0 {
		g.log.Warn("calls of a service fail; this worker holds its jobs unless the fleet does", "dependency", name, "reason", s.reason)
	}
	s.heldUntil = now + min(time.Second<<min(s.tries, 5), 30*time.Second)
	s.tries++
}

// release gives back what a call that does not begin, or has ended, has taken.
func (c *Call) release() {
	if c == nil {
		return
	}
	if probe := c.takeProbe(); probe != nil {
		c.g.probed(probe, Nothing, "")
	}
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	for name := range c.trying {
		c.g.service(name).trying = false
	}
	if len(c.leases) == 0 {
		return
	}
	for _, lease := range c.leases {
		delete(c.g.leases, lease)
	}
	c.g.left = append(c.g.left, c.leases...)
	c.leases = nil
	select {
	case c.g.leaving <- struct{}{}:
	default:
	}
}

// Answered tells what a probe has found before its execution is over.
func (c *Call) Answered() {
	if probe := c.takeProbe(); probe != nil {
		c.g.probed(probe, Answered, "")
	}
}

// takeProbe returns the probe that the call is, once.
func (c *Call) takeProbe() *delivery.Pass {
	if c == nil {
		return nil
	}
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	probe := c.probe
	c.probe = nil
	return probe
}

// Unprobed gives up a probe that an execution was sent back for, and has not come to.
func (g *Guard) Unprobed(pass *delivery.Pass) {
	if g != nil && pass != nil && pass.Probe {
		g.probed(pass, Nothing, "")
	}
}

// probed says what a probe has found. Should that be lost, the probe ends by itself.
func (g *Guard) probed(pass *delivery.Pass, found Finding, reason string) {
	g.mu.Lock()
	delete(g.probes, pass.ID)
	g.mu.Unlock()
	said := map[Finding]delivery.Probed{Nothing: delivery.ProbeNothing, Answered: delivery.ProbeWell, Failed: delivery.ProbeFailed}[found]
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	g.metrics.probes.WithLabelValues(g.label(pass.Name), string(said)).Inc()
	if _, err := g.store.Probed(ctx, pass.Name, pass.Made(), said, reason); err != nil && !errors.Is(err, context.Canceled) {
		g.log.Warn("cannot tell what a probe has found", "dependency", pass.Name, "error", err)
	}
}
