package dependency

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

const (
	syncEvery = 5 * time.Second        // the board is read, should news be lost
	voteAfter = 50 * time.Millisecond  // failures of the same moment make one vote
	voteEvery = 5 * time.Second        // a worker that calls a service has a vote
	askEvery  = 500 * time.Millisecond // whether a health check is due
	declares  = time.Minute
)

// Run keeps the view and votes until ctx ends. Calls that end after that have no vote.
func (g *Guard) Run(ctx context.Context) {
	if g == nil {
		return
	}
	var loops sync.WaitGroup
	loops.Go(func() { g.listen(ctx) })
	loops.Go(func() { g.sync(ctx) })
	loops.Go(func() { g.vote(ctx) })
	loops.Go(func() { g.leave(ctx) })
	loops.Go(func() { g.keep(ctx) })
	for _, name := range slices.Sorted(maps.Keys(g.known)) {
		if check := g.known[name].Health; check != nil {
			loops.Go(func() { g.check(ctx, name, check) })
		}
	}
	loops.Wait()
}

// Start says what the programs say of dependencies and limits, and reads the board. A
// worker does so before its first claim: its own limits bound it from the beginning.
func (g *Guard) Start(ctx context.Context) error {
	if g == nil {
		return nil
	}
	if err := g.declare(ctx); err != nil {
		return err
	}
	return g.Sync(ctx)
}

// Sync reads the board. What is known here not to
// be closed and the board says nothing of may have been lost: it is held until the record
// has been asked, so that nothing is let through at once.
func (g *Guard) Sync(ctx context.Context) error {
	if g == nil {
		return nil
	}
	missing, err := g.read(ctx, nil)
	if err != nil || len(missing) == 0 {
		return err
	}
	asked := map[string]bool{}
	for _, s := range missing {
		if failed := g.store.Remember(ctx, s.Name, s.Turn); failed != nil {
			err = errors.Join(err, failed)
			continue // it is held, and the others need not be
		}
		asked[s.Name] = true
	}
	_, again := g.read(ctx, asked)
	return errors.Join(err, again)
}

// read takes over what is on the board, and that is closed what is not. It leaves alone
// and returns what is known not to be closed, unless the record has been asked.
func (g *Guard) read(ctx context.Context, asked map[string]bool) (missing []jobs.Standing, err error) {
	var board map[string]jobs.Standing
	for heard := -1; ; { // news that come meanwhile are newer
		g.mu.Lock()
		same := heard == g.heard
		heard = g.heard
		if same {
			break // with the lock
		}
		g.mu.Unlock()
		if board, err = g.store.Board(ctx); err != nil {
			return nil, err
		}
	}
	defer g.mu.Unlock()
	for name, known := range g.view {
		if _, there := board[name]; there {
			continue
		}
		if known.State != jobs.DependencyClosed && !asked[name] {
			missing = append(missing, known)
			continue
		}
		g.learn(jobs.Standing{Name: name, State: jobs.DependencyClosed})
	}
	for _, standing := range board {
		g.learn(standing)
	}
	return missing, nil
}

// learn takes note of where a dependency stands; what was seen of it before is of
// another time. The lock is held.
func (g *Guard) learn(s jobs.Standing) {
	before := g.view[s.Name]
	if before.State == "" {
		before.State = jobs.DependencyClosed
	}
	if before.State != s.State || before.Turn != s.Turn && s.State != jobs.DependencyClosed {
		service := g.service(s.Name)
		service.window.reset()
		service.heldUntil, service.tries, service.refused, service.dirty = 0, 0, 0, false
		g.log.Info("a dependency has changed", "dependency", s.Name, "state", s.State, "was", before.State, "reason", s.Reason)
	}
	if s.State == jobs.DependencyClosed && s.Limit.None() {
		delete(g.view, s.Name)
	} else {
		g.view[s.Name] = s
	}
}

// listen follows the news. When the connection is lost the board tells, within a second.
func (g *Guard) listen(ctx context.Context) {
	for ctx.Err() == nil {
		err := g.store.Listen(ctx, func() { g.complain(ctx, "cannot read the board of dependencies", g.Sync(ctx)) }, func(s jobs.Standing) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.heard++
			g.learn(s)
		})
		g.complain(ctx, "cannot follow what becomes of dependencies", err)
		pause(ctx, 200*time.Millisecond)
	}
}

func (g *Guard) sync(ctx context.Context) {
	declared := time.Time{}
	for ctx.Err() == nil {
		if time.Since(declared) > declares {
			err := g.declare(ctx)
			if g.complain(ctx, "cannot declare dependencies", err); err == nil {
				declared = time.Now()
			}
		}
		g.complain(ctx, "cannot read the board of dependencies", g.Sync(ctx))
		pause(ctx, syncEvery)
	}
}

// declare says what the programs say of dependencies and limits.
func (g *Guard) declare(ctx context.Context) error {
	for _, d := range g.options.Dependencies {
		if err := g.store.Declare(ctx, d); err != nil {
			return err
		}
	}
	for name, limit := range g.options.Limits {
		if err := g.store.Declare(ctx, jobs.Dependency{Name: name, Limit: limit}); err != nil {
			return err
		}
	}
	return nil
}

// keep keeps the places that are taken here.
func (g *Guard) keep(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, lasts/5)
		g.mu.Lock()
		leases := slices.Collect(maps.Keys(g.leases))
		g.mu.Unlock()
		for len(leases) > 0 {
			some := leases[:min(len(leases), 500)]
			leases = leases[len(some):]
			g.complain(ctx, "cannot keep places", g.store.Keep(ctx, some, lasts))
		}
	}
}

// vote reports what is seen: failures and the first call at once, the rest now and then.
func (g *Guard) vote(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for first := true; ; first = false {
		if !first {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			case <-g.urgent:
				pause(ctx, voteAfter)
			}
		}
		for _, v := range g.due() {
			opened, err := g.store.Vote(ctx, g.options.Owner(), v)
			g.complain(ctx, "cannot vote on a dependency", err)
			if opened {
				g.log.Warn("the breaker of a dependency has opened", "dependency", v.Name, "reason", v.Reason)
			}
		}
	}
}

// votesAtOnce is how many votes on services that come along with jobs, hosts of
// http.request, a worker casts at once: there may be any number of those.
const votesAtOnce = 100

// due returns the votes that are to be cast now: those on services that somebody has
// named, those that something has failed for, and then of the others those that have
// waited longest.
func (g *Guard) due() []delivery.Vote {
	g.mu.Lock()
	defer g.mu.Unlock()
	var first, rest []string
	for name := range g.services {
		switch _, ours := g.known[name]; {
		case !g.isDue(name):
		case ours:
			first = append(first, name)
		default:
			rest = append(rest, name)
		}
	}
	if len(rest) > votesAtOnce {
		slices.SortFunc(rest, func(a, b string) int {
			x, y := g.services[a], g.services[b]
			if x.dirty != y.dirty {
				return map[bool]int{true: -1, false: 1}[x.dirty]
			}
			return cmp.Compare(x.voted, y.voted)
		})
		rest = rest[:votesAtOnce]
	}
	var votes []delivery.Vote
	for _, name := range append(first, rest...) {
		votes = append(votes, g.voteOn(name))
	}
	return votes
}

// isDue reports whether a vote is to be cast, and forgets a service that is not called any
// more. The lock is held.
func (g *Guard) isDue(name string) bool {
	if delivery.IsLimit(name) {
		return false
	}
	s, now := g.services[name], g.now()
	_, ours := g.known[name]
	recent := s.used > 0 && now-s.used < delivery.LongWhile
	if !ours && !recent && now-s.used > 10*time.Minute && s.heldUntil == 0 {
		delete(g.services, name) // one of http.request's hosts, most likely
		return false
	}
	state, every := g.view[name].State, voteEvery
	if state == jobs.DependencyRecovering || s.heldUntil > 0 {
		every = time.Second
	}
	return state != jobs.DependencyOpen && (s.dirty || (recent || ours) && now-s.voted >= every)
}

// voteOn returns a vote, which is cast. The lock is held.
func (g *Guard) voteOn(name string) delivery.Vote {
	s, now := g.services[name], g.now()
	s.voted, s.dirty = now, false
	v := delivery.Vote{Name: name, Turn: g.view[name].Turn, Reason: s.reason}
	v.Calls, v.Failed = s.window.count(now, short)
	v.LongCalls, v.LongFailed = s.window.count(now, buckets)
	return v
}

// leave gives places back as soon as they are free.
func (g *Guard) leave(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.leaving:
		}
		g.mu.Lock()
		left := g.left
		g.left = nil
		g.mu.Unlock()
		for len(left) > 0 {
			some := left[:min(len(left), 500)]
			left = left[len(some):]
			g.complain(ctx, "cannot give places back; they end by themselves", g.store.Leave(ctx, some))
		}
	}
}

// check asks a service how it is, while its breaker is open: one process of the fleet at
// a time.
func (g *Guard) check(ctx context.Context, name string, ask func(context.Context) error) {
	for ctx.Err() == nil {
		pause(ctx, askEvery)
		if g.Standing(name).State != jobs.DependencyOpen {
			continue
		}
		grant, err := g.store.Grant(ctx, name, -1, true)
		if g.complain(ctx, "cannot ask whether a health check is due", err); err != nil || !grant.Health {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, 4*time.Second)
		err = asked(limited, ask)
		cancel()
		found, reason := Answered, ""
		if err != nil {
			f, _ := jobs.NewFailure(err, time.Time{}, "", 0)
			found, reason = Failed, "health check: "+f.Message
		}
		g.probed(&delivery.Pass{Name: name, Turn: grant.Turn, ID: grant.ID + ":1", Probe: true}, found, reason)
	}
}

// asked calls a health check, whose panic is a failure.
func asked(ctx context.Context, ask func(context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &jobs.PanicError{Value: v}
		}
	}()
	return ask(ctx)
}

func (g *Guard) complain(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		g.log.Warn(what, "error", err)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
