package dependency

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Board is what a guard needs of the store to know where dependencies stand.
type Board interface {
	Board(ctx context.Context) (map[string]jobs.Standing, error)
	Listen(ctx context.Context, begun func(), tell func(jobs.Standing)) error
	Remember(ctx context.Context, name string, turn int64) error
	Declare(ctx context.Context, d jobs.Dependency) error
	Now() time.Time
}

// Calls is what a guard needs of the store about calls.
type Calls interface {
	Vote(ctx context.Context, owner string, v delivery.Vote) (opened bool, err error)
	Admit(ctx context.Context, id string, lasts time.Duration, asks []delivery.Ask) (delivery.Refusal, error)
	Leave(ctx context.Context, leases []delivery.Lease) error
	Keep(ctx context.Context, leases []delivery.Lease, lasts time.Duration) error
	Throttle(ctx context.Context, name string, wait time.Duration, reason string) error
	Grant(ctx context.Context, name string, waiting int64, checker bool) (delivery.Grant, error)
	Probed(ctx context.Context, name, id string, found delivery.Probed, reason string) (bool, error)
}

// Store is both of them, as *store.Store is.
type Store interface {
	Board
	Calls
}

// Options say what a guard guards. The zero value of each field has a default.
type Options struct {
	Owner        func() string         // who votes: the worker's identity now
	Needs        []string              // that the worker's kinds declare
	Dependencies []jobs.Dependency     // what its programs say of them
	Limits       map[string]jobs.Limit // of kinds, by their name in the store
	Log          *slog.Logger          // default: none
	Registerer   prometheus.Registerer // default: none
}

// Guard stands between a worker's jobs and the services they call. Make one with [New]
// and run it with [Guard.Run]. All methods are safe for concurrent use; a nil Guard lets
// everything through and counts nothing.
type Guard struct {
	store   Store
	options Options
	log     *slog.Logger
	metrics *metrics
	start   time.Time
	known   map[string]jobs.Dependency // by name, of those that the worker's kinds name

	mu       sync.Mutex
	view     map[string]jobs.Standing // of those that are not closed, or bound something
	services map[string]*service
	leases   map[delivery.Lease]bool
	left     []delivery.Lease   // to be given back
	probes   map[string]probing // under way here, by id
	heard    int                // news so far
	urgent   chan struct{}      // a call has failed
	leaving  chan struct{}      // places are to be given back
}

// service is what this worker knows of a service by its own calls.
type service struct {
	window  window
	budget  budget
	reason  string        // of the last failure
	voted   time.Duration // when it was last reported
	dirty   bool          // something failed since
	used    time.Duration // when it was last called
	refused time.Duration // until when those without a pass need not ask

	// When its calls fail here and elsewhere they do not, this worker holds its own jobs.
	heldUntil time.Duration
	tries     int  // that failed, in a row, while it held
	trying    bool // one call is under way that finds out
}

// probing is a probe that is under way here.
type probing struct {
	name  string
	began time.Duration
}

// New returns a guard on a store.
func New(store Store, options Options) (*Guard, error) {
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	g := &Guard{
		store: store, options: options, log: options.Log, start: time.Now(), known: map[string]jobs.Dependency{}, view: map[string]jobs.Standing{},
		services: map[string]*service{}, leases: map[delivery.Lease]bool{}, probes: map[string]probing{},
		urgent: make(chan struct{}, 1), leaving: make(chan struct{}, 1),
	}
	for _, name := range options.Needs {
		g.known[name] = jobs.Dependency{Name: name}
	}
	described := map[string]jobs.Dependency{}
	for _, d := range options.Dependencies {
		if err := d.Check(); err != nil {
			return nil, err
		}
		said := d
		said.Health = nil
		if before, again := described[d.Name]; again && !reflect.DeepEqual(before, said) {
			return nil, &jobs.InvalidError{Field: "dependency", Value: d.Name, Bound: "described in one way"}
		}
		if described[d.Name] = said; d.Health == nil {
			d.Health = g.known[d.Name].Health
		}
		g.known[d.Name] = d
	}
	for name := range g.known {
		g.service(name)
	}
	g.metrics = newMetrics(options.Registerer, g)
	return g, nil
}

func (g *Guard) now() time.Duration { return time.Since(g.start) }

// service returns what is known of one; the lock is held.
func (g *Guard) service(name string) *service {
	s := g.services[name]
	if s == nil {
		s = &service{budget: budget{tokens: budgetFull, at: g.now()}, voted: -voteEvery}
		g.services[name] = s
	}
	return s
}

// Held says what an execution or a step has to wait for.
type Held struct {
	Name    string        // of the dependency or limit
	Waiting jobs.Waiting  // Type and Name
	Lane    bool          // to be sent back from the lane of that name
	Said    string        // what people read
	Delay   time.Duration // after which it looks for itself
}

// Error implements error.
func (h *Held) Error() string { return h.Said }

// Is matches [jobs.ErrHeld].
func (h *Held) Is(target error) bool { return target == jobs.ErrHeld }

// Question is what an execution, or a step of it, asks before it begins.
type Question struct {
	Names []string       // of services and limits
	Pass  *delivery.Pass // that the execution was sent back with; nil: none
	Retry bool           // they were made before, and an attempt was used in vain
	Of    *Call          // the execution, when a step of it asks: what let it through lets its steps through; nil: none
}

// Begin asks whether calls of services may be made, and what a limit bounds may begin.
// The error is a *[Held] when it must not; then nothing is to be ended. It is a round
// trip only where there is a limit, or where a dependency recovers and there is no pass.
func (g *Guard) Begin(ctx context.Context, q Question) (*Call, error) {
	if g == nil || len(q.Names) == 0 {
		return nil, nil
	}
	c, asks, held := g.look(q)
	if held == nil && len(asks) > 0 {
		held = g.ask(ctx, c, asks)
	}
	if held != nil {
		if p := q.Pass; p != nil && (delivery.IsLimit(p.Name) || c.began[p.Name].Limit.Concurrency > 0) {
			c.leases = append(c.leases, delivery.Lease{Name: p.Name, ID: p.ID}) // the place that was kept for it
		}
		c.release()
		g.metrics.held.WithLabelValues(g.label(held.Name), held.Waiting.Type).Inc()
		return nil, held
	}
	g.began(q)
	return c, nil
}

// look answers from what is known here; what it cannot answer is to be asked.
func (g *Guard) look(q Question) (*Call, []delivery.Ask, *Held) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := &Call{g: g, began: map[string]jobs.Standing{}, trying: map[string]bool{}, covered: map[string]bool{}}
	var asks, spare []delivery.Ask
	for _, name := range q.Names {
		var pass *delivery.Pass
		if q.Pass != nil && q.Pass.Name == name {
			pass = q.Pass
		}
		standing := g.view[name]
		c.began[name] = standing
		if g.covers(q.Of, c, name) {
			c.covered[name] = true
			continue
		}
		if g.besideProbe(q, name, standing) {
			continue
		}
		ask, held := g.lookAt(c, name, standing, pass, q.Pass != nil)
		if held != nil {
			return c, nil, held
		}
		switch {
		case ask != nil:
			asks = append(asks, *ask)
		case pass != nil && !pass.Probe:
			spare = append(spare, *asking(name, pass, true))
		}
	}
	if len(asks) > 0 {
		asks = append(asks, spare...) // a pass is given back when another name refuses
	}
	if c.probe != nil {
		for i := range asks {
			if asks[i].Pass == delivery.SentBack {
				asks[i].Pass = delivery.Probing
			}
		}
	}
	return c, asks, g.afford(c, q)
}

// afford takes what the calls cost of the budget for retries, or says that there is not
// enough. Calls that are no retries fill it. Where a service recovers the ramp bounds all
// of its calls.
func (g *Guard) afford(c *Call, q Question) *Held {
	now := g.now()
	var services []*service
	for name, standing := range c.began {
		if c.covered[name] || delivery.IsLimit(name) || standing.State != "" && standing.State != jobs.DependencyClosed {
			continue
		}
		s := g.service(name)
		if services = append(services, s); q.Retry && !s.budget.has(now) {
			return &Held{
				Name: name, Waiting: jobs.Waiting{Type: "timer", Name: name + ": retries are at most a fifth of its calls"},
				Said: "retries of calls to " + name + " are at most a fifth of all; this one waits", Delay: time.Second + rand.N(2*time.Second),
			}
		}
	}
	for _, s := range services {
		if q.Retry {
			s.budget.tokens--
		} else {
			s.budget.fill(now, budgetShare)
		}
	}
	return nil
}

// besideProbe reports whether a service need not be asked about, because what begins is
// to find out about another one that it needs too: when both are gone, each would have
// to wait for the other. The lock is held.
func (g *Guard) besideProbe(q Question, name string, standing jobs.Standing) bool {
	p := q.Pass
	if p == nil || !p.Probe || p.Name == name || delivery.IsLimit(name) || !slices.Contains(q.Names, p.Name) || standing.State != jobs.DependencyOpen && standing.State != jobs.DependencyRecovering {
		return false
	}
	probed := g.view[p.Name]
	return probed.State == jobs.DependencyOpen && probed.Turn == p.Turn && !standing.Throttled.After(g.store.Now())
}

func (g *Guard) lookAt(c *Call, name string, standing jobs.Standing, pass *delivery.Pass, sent bool) (*delivery.Ask, *Held) {
	s, now := g.service(name), g.now()
	s.used = now
	switch standing.State {
	case jobs.DependencyOpen:
		switch {
		case pass != nil && pass.Probe && pass.Turn == standing.Turn && !g.hanging(name):
			c.probe, g.probes[pass.ID] = pass, probing{name, now}
			return nil, nil
		case pass != nil && !pass.Probe && pass.Turn >= standing.Turn: // what is known here is older than the pass
			c.began[name] = jobs.Standing{State: jobs.DependencyRecovering, Turn: pass.Turn}
		default:
			return nil, unavailable(standing)
		}
	case jobs.DependencyRecovering:
		if pass != nil && pass.Turn != standing.Turn {
			pass = nil
		}
		if wait := standing.Throttled.Sub(g.store.Now()); wait > 0 {
			return nil, throttled(standing)
		}
		if pass == nil && !sent && s.refused > now {
			return nil, unavailable(standing)
		}
		if pass == nil {
			return asking(name, nil, sent), nil
		}
	default:
		if !delivery.IsLimit(name) {
			if held := g.own(c, name, s); held != nil {
				return nil, held
			}
		}
	}
	if standing.Limit.None() {
		return nil, nil
	}
	if pass == nil && !sent && s.refused > now {
		return nil, atLimit(name, standing)
	}
	return asking(name, pass, sent), nil
}

// hanging reports whether so many probes of a service hang here that another one has to
// wait: each holds a slot, so after the first it is ten seconds, and then twice as long each
// time. The lock is held.
func (g *Guard) hanging(name string) bool {
	n, last := 0, time.Duration(0)
	for _, p := range g.probes {
		if p.name == name {
			n, last = n+1, max(last, p.began)
		}
	}
	return n > 0 && g.now()-last < 5*time.Second<<min(n, 20)
}

func asking(name string, pass *delivery.Pass, sent bool) *delivery.Ask {
	switch {
	case pass != nil:
		return &delivery.Ask{Name: name, Pass: pass.ID}
	case sent:
		return &delivery.Ask{Name: name, Pass: delivery.SentBack}
	}
	return &delivery.Ask{Name: name}
}

// covers reports whether a step need not ask, because its execution was let through for
// the same service and nothing has changed for the worse since. The step then finds out
// what the execution was to find out. The lock is held.
func (g *Guard) covers(execution, step *Call, name string) bool {
	if execution == nil {
		return false
	}
	began, ours := execution.began[name]
	s, stands := g.service(name), g.view[name]
	switch {
	case !ours:
		return false
	case stands.State == jobs.DependencyOpen && execution.probe != nil && execution.probe.Name == name && execution.probe.Turn == stands.Turn:
		step.probe, execution.probe = execution.probe, nil
	case stands.State == jobs.DependencyOpen:
		return began.State == jobs.DependencyRecovering && began.Turn >= stands.Turn // what is known here is older than its pass
	case stands.State == jobs.DependencyRecovering:
		return began.State != "" && began.State != jobs.DependencyClosed && began.Turn == stands.Turn && !stands.Throttled.After(g.store.Now())
	case execution.trying[name]:
		delete(execution.trying, name)
		step.trying[name] = true
	default:
		return s.heldUntil == 0
	}
	s.used = g.now()
	return true
}

// own answers by what this worker has seen itself of a service whose breaker is closed.
func (g *Guard) own(c *Call, name string, s *service) *Held {
	now := g.now()
	if s.heldUntil > 0 {
		if now < s.heldUntil || s.trying {
			return &Held{
				Name: name, Waiting: jobs.Waiting{Type: "timer", Name: name + ": this worker cannot reach it"}, Said: name + " cannot be reached from this worker; others may: " + s.reason,
				Delay: time.Second + rand.N(time.Second),
			}
		}
		s.trying, c.trying[name] = true, true
	}
	return nil
}

// Reaches reports whether this worker reaches a service as far as it knows, or is to find
// out by one call.
func (g *Guard) Reaches(name string) (reaches, tries bool) {
	if g == nil {
		return true, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.services[name]
	if s == nil || s.heldUntil == 0 {
		return true, false
	}
	tries = !s.trying && g.now() >= s.heldUntil
	return tries, tries
}

// lasts is how long a place lasts that is not kept: after this a dead worker's are free.
const lasts = 5 * time.Second

// refusedFor is for how long those that come after one that was refused need not ask.
const refusedFor = 50 * time.Millisecond

// ask asks the store. While it cannot be reached nothing that is bounded begins.
func (g *Guard) ask(ctx context.Context, c *Call, asks []delivery.Ask) *Held {
	id := leaseID(g.options.Owner())
	refusal, err := g.store.Admit(ctx, id, lasts, asks)
	if err != nil {
		name := asks[0].Name
		return &Held{
			Name: name, Waiting: jobs.Waiting{Type: "timer", Name: name + ": it cannot be asked whether this may begin"},
			Said: fmt.Sprintf("it cannot be asked whether %s lets this begin: %v", name, err), Delay: time.Second + rand.N(time.Second),
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if refusal.Name == "" {
		for _, ask := range asks {
			if g.view[ask.Name].Limit.Concurrency > 0 || delivery.IsLimit(ask.Name) {
				lease := delivery.Lease{Name: ask.Name, ID: id}
				g.leases[lease] = true
				c.leases = append(c.leases, lease)
			}
		}
		return nil
	}
	// What other names were asked for was not counted, and a pass that was shown for a limit
	// was given back: the script counts for all or none.
	g.service(refusal.Name).refused = g.now() + max(min(refusal.Wait, refusedFor*2), refusedFor/5)
	standing := c.began[refusal.Name]
	standing.Name = refusal.Name
	switch refusal.Why {
	case "open", "recovering":
		if standing.State != jobs.DependencyOpen {
			standing.State = jobs.DependencyRecovering
		}
		return unavailable(standing)
	case "throttled":
		standing.Throttled = g.store.Now().Add(refusal.Wait)
		return throttled(standing)
	}
	if standing.State == jobs.DependencyRecovering {
		return unavailable(standing)
	}
	return atLimit(refusal.Name, standing)
}

// fallback is after how long a job in a lane looks for itself, should nobody send it
// back. It differs from job to job, so that they do not do so all at once.
func fallback() time.Duration { return 10*time.Minute + rand.N(10*time.Minute) }

func unavailable(s jobs.Standing) *Held {
	said := s.Name + " is not available"
	if s.State == jobs.DependencyRecovering {
		said = s.Name + " recovers; its jobs begin a few at a time"
	} else if !s.Since.IsZero() {
		said += " since " + s.Since.UTC().Format("15:04:05Z")
	}
	if s.State == jobs.DependencyOpen && s.Reason != "" {
		said += " (" + s.Reason + ")"
	}
	return inLane("dependency", s.Name, said)
}

func throttled(s jobs.Standing) *Held {
	return inLane("dependency", s.Name, s.Name+" wants no calls until "+s.Throttled.UTC().Format("15:04:05Z"))
}

func atLimit(name string, s jobs.Standing) *Held {
	return inLane("limit", name, fmt.Sprintf("%s is at its limit (%s)", name, s.Limit))
}

func inLane(sort, name, said string) *Held {
	if delivery.IsLimit(name) {
		sort = "limit"
	}
	return &Held{Name: name, Waiting: jobs.Waiting{Type: sort, Name: name}, Lane: true, Said: said, Delay: fallback()}
}

// Standing returns where a dependency stands, as this worker knows it.
func (g *Guard) Standing(name string) jobs.Standing {
	if g == nil {
		return jobs.Standing{Name: name, State: jobs.DependencyClosed}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s, ok := g.view[name]
	if !ok {
		s = jobs.Standing{State: jobs.DependencyClosed}
	}
	s.Name = name
	return s
}

// Limited returns those of the names that bound something.
func (g *Guard) Limited(names ...string) []string {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var limited []string
	for _, name := range names {
		if !g.view[name].Limit.None() {
			limited = append(limited, name)
		}
	}
	return limited
}

// HeldBy returns what a job has to wait for whose call of a service has just failed:
// nil while its breaker is closed, and then the kind's schedule says when to try again.
func (g *Guard) HeldBy(name string) *Held {
	if s := g.Standing(name); s.State != jobs.DependencyClosed && s.State != "" {
		if s.Throttled.After(g.store.Now()) {
			return throttled(s)
		}
		return unavailable(s)
	}
	return nil
}

// Throttled says that a service wants no calls for a while, and returns what the job
// that was told so has to wait for; nil when that cannot be kept for all.
func (g *Guard) Throttled(name string, wait time.Duration, reason string) *Held {
	if g == nil || delivery.IsLimit(name) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := g.store.Throttle(ctx, name, wait, reason); err != nil {
		g.log.Warn("cannot tell others that a service throttles", "dependency", name, "error", err)
		return nil
	}
	return throttled(jobs.Standing{Name: name, Throttled: g.store.Now().Add(wait)})
}

// Note counts what was seen of a service that the job did not say it needs.
func (g *Guard) Note(name string, found Finding, reason string) {
	if g == nil {
		return
	}
	g.mu.Lock()
	c := &Call{g: g, began: map[string]jobs.Standing{name: g.view[name]}, trying: map[string]bool{}, covered: map[string]bool{}}
	g.service(name).used = g.now()
	g.mu.Unlock()
	c.End(func(string) Finding { return found }, reason)
}
