package scheduler

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Redrive is what the scheduler needs of the store to send jobs back that wait for a
// dependency or a limit.
type Redrive interface {
	Lanes(ctx context.Context) ([]delivery.Lane, error)
	Board(ctx context.Context) (map[string]jobs.Standing, error)
	Grant(ctx context.Context, name string, waiting int64, checker bool) (delivery.Grant, error)
	Drive(ctx context.Context, lane delivery.Lane, n int, g delivery.Grant, first int) (sent int, left int64, err error)
	Probed(ctx context.Context, name, probe string, found delivery.Probed, reason string) (bool, error)
}

// Hold is what the scheduler needs of the store to pause queues for a dependency.
type Hold interface {
	Held(ctx context.Context) (delivery.Held, error)
	QueuesNeeding(ctx context.Context, name string) ([]string, error)
	HoldQueue(ctx context.Context, queue, name, why string) error
	UnholdQueue(ctx context.Context, queue, name, why string) error
	Shelve(ctx context.Context, queue, name string) (moved int, over bool, err error)
	LetThrough(ctx context.Context, queue, name string, g delivery.Grant) error
}

const (
	redriveTick = 20 * time.Millisecond  // while jobs go; the rate allows for a tenth of a second
	lanesEvery  = 100 * time.Millisecond // how old what is known of the lanes may be meanwhile
	redriveOpen = 200 * time.Millisecond // while a breaker is open
	redriveFail = 500 * time.Millisecond
	redriveIdle = 30 * time.Second // unless it is heard that jobs wait
	holdEvery   = 500 * time.Millisecond
)

// redriver sends jobs back. Each of its looks is at what there is, not at what has
// happened, so any number may run, one may begin where another has died, and none has
// to be told anything. What it keeps is for its speed only.
type redriver struct {
	s      *Scheduler
	board  map[string]jobs.Standing
	held   delivery.Held
	looked time.Time // at the queues
	lanes  []delivery.Lane
	listed time.Time // the lanes
}

func (s *Scheduler) redrive(ctx context.Context) {
	r := &redriver{s: s}
	for ctx.Err() == nil {
		again, err := r.look(ctx)
		s.complain(ctx, "cannot send jobs back that wait for a dependency", err)
		if again < redriveIdle {
			pause(ctx, again)
			continue
		}
		timer := time.NewTimer(again)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.waits:
		}
		timer.Stop()
	}
}

// lookAtLanes has the redriver look, if it does not.
func (s *Scheduler) lookAtLanes() {
	select {
	case s.waits <- struct{}{}:
	default:
	}
}

// look sends back what may go, and says after how long to look again.
func (r *redriver) look(ctx context.Context) (again time.Duration, err error) {
	if time.Since(r.listed) >= lanesEvery {
		if err = r.list(ctx); err != nil {
			return redriveFail, err
		}
	}
	if time.Since(r.looked) >= holdEvery {
		if r.board, err = r.s.store.Board(ctx); err != nil {
			return redriveFail, err
		}
		if err = r.hold(ctx); err != nil {
			return redriveFail, err
		}
		r.looked = time.Now()
	}
	again = redriveIdle
	if len(r.held.For) > 0 {
		again = redriveOpen
	}
	for _, name := range r.names() {
		state, err := r.send(ctx, name)
		if err != nil {
			return redriveFail, fmt.Errorf("%s: %w", name, err)
		}
		if again = min(again, redriveOpen); state != jobs.DependencyOpen {
			again = redriveTick
		}
	}
	return again, nil
}

// list lists the lanes.
func (r *redriver) list(ctx context.Context) (err error) {
	r.lanes, err = r.s.store.Lanes(ctx)
	r.listed = time.Now()
	return err
}

// names returns what jobs wait for, and what is not closed.
func (r *redriver) names() []string {
	names := map[string]bool{}
	for i := range r.lanes {
		if r.serves(&r.lanes[i]) {
			names[r.lanes[i].Name] = true
		}
	}
	for name, standing := range r.board {
		if standing.State != jobs.DependencyClosed {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// waiting returns the lanes of a name.
func (r *redriver) waiting(name string) (lanes []*delivery.Lane) {
	for i := range r.lanes {
		if lane := &r.lanes[i]; lane.Name == name && r.serves(lane) {
			lanes = append(lanes, lane)
		}
	}
	return lanes
}

// behind returns the lanes of other names in queues that are paused for a name: their jobs
// wait for it as well, and one of them may have to find out whether it is back.
func (r *redriver) behind(name string) (lanes []*delivery.Lane) {
	for i := range r.lanes {
		if lane := &r.lanes[i]; slices.Contains(r.held.For[lane.Queue], name) && !r.held.Resting[lane.Queue] {
			lanes = append(lanes, lane)
		}
	}
	return lanes
}

// serves reports whether somebody claims what is sent to a lane's queue. While that is paused
// for dependencies nothing is claimed but probes of what is open.
func (r *redriver) serves(lane *delivery.Lane) bool {
	if r.held.Resting[lane.Queue] {
		return false
	}
	other := func(name string) bool { return name != lane.Name }
	return r.board[lane.Name].State == jobs.DependencyOpen || !slices.ContainsFunc(r.held.For[lane.Queue], other)
}

// send sends back what may go of those who wait for a name: lanes share it, so that no kind
// has to wait for another, and within one the longest waiting goes first.
func (r *redriver) send(ctx context.Context, name string) (jobs.DependencyState, error) {
	lanes, queue := r.waiting(name), r.heldFor(name)
	if len(lanes) == 0 && queue == "" {
		lanes = r.behind(name)
	}
	var waiting int64
	for _, lane := range lanes {
		waiting += lane.Jobs
	}
	if queue != "" {
		waiting += r.held.Pending[queue]
	}
	g, err := r.s.store.Grant(ctx, name, waiting, false)
	if err != nil || g.Jobs == 0 {
		return g.State, err
	}
	if s, known := r.board[name]; known && s.State != g.State { // it is newer
		s.State = g.State
		r.board[name] = s
		lanes = r.waiting(name)
	}
	if g.State != jobs.DependencyOpen {
		released, err := r.release(ctx, name)
		if err == nil && released { // those who came meanwhile wait now, too
			err = r.list(ctx)
			lanes = r.waiting(name)
		}
		if err != nil {
			return g.State, err
		}
	}
	sent, err := r.drive(ctx, lanes, g)
	r.s.redriven.Add(float64(sent))
	if g.Probe && err == nil {
		r.s.log.Info("a job probes a dependency", "dependency", name, "parked", sent > 0)
		err = r.probe(ctx, name, queue, sent, g)
	}
	return g.State, err
}

// drive sends back as many as were granted, which lane is first by chance: a turn that goes
// round could keep step with others'. What has moved on takes nobody's place.
func (r *redriver) drive(ctx context.Context, lanes []*delivery.Lane, g delivery.Grant) (sent int, err error) {
	first := rand.N(max(len(lanes), 1))
	for sent < g.Jobs {
		all := shares(lanes, g.Jobs-sent, first)
		if len(all) == 0 {
			return sent, nil
		}
		for _, share := range all {
			n, left, err := r.s.store.Drive(ctx, *share.lane, share.jobs, g, sent+1)
			if err != nil {
				return sent, err
			}
			share.lane.Jobs = left
			sent += n
		}
	}
	return sent, nil
}

// probe has a job of a queue that is paused probe, when none was sent to; with no such queue
// nobody does, and that is told, so that the next one need not wait.
func (r *redriver) probe(ctx context.Context, name, queue string, sent int, g delivery.Grant) error {
	switch {
	case sent > 0:
		return nil
	case queue != "":
		return r.s.store.LetThrough(ctx, queue, name, g)
	}
	_, err := r.s.store.Probed(ctx, name, delivery.Pass{Turn: g.Turn, ID: g.ID + ":1"}.Made(), delivery.ProbeNothing, "")
	return err
}

// release ends the pauses for a name, so that those who are sent back are claimed.
func (r *redriver) release(ctx context.Context, name string) (released bool, err error) {
	for queue, names := range r.held.For {
		if !slices.Contains(names, name) {
			continue
		}
		if err := r.shelve(ctx, queue, name); err != nil {
			return released, err
		}
		r.held.For[queue] = slices.DeleteFunc(names, func(n string) bool { return n == name })
		released = true
	}
	return released, nil
}

// heldFor returns a queue with pending jobs that is paused for a name and nothing but
// dependencies, or "": any of them, as one may have no workers.
func (r *redriver) heldFor(name string) string {
	var queues []string
	for _, queue := range slices.Sorted(maps.Keys(r.held.For)) {
		if slices.Contains(r.held.For[queue], name) && r.held.Pending[queue] > 0 && !r.held.Resting[queue] {
			queues = append(queues, queue)
		}
	}
	if len(queues) == 0 {
		return ""
	}
	return queues[rand.N(len(queues))]
}

type share struct {
	lane *delivery.Lane
	jobs int
}

// shares divides n among lanes: equally, what one does not need to the others, and what
// cannot be divided from a first one on.
func shares(lanes []*delivery.Lane, n, first int) []share {
	all := make([]share, len(lanes))
	for i := range lanes {
		all[i].lane = lanes[(i+first)%len(lanes)]
	}
	for more := true; n > 0 && more; {
		more = false
		open := 0
		for _, s := range all {
			if int64(s.jobs) < s.lane.Jobs {
				open++
			}
		}
		each := max(n/max(open, 1), 1)
		for i := range all {
			s := &all[i]
			if left := s.lane.Jobs - int64(s.jobs); left > 0 && n > 0 {
				some := int(min(int64(each), left, int64(n)))
				s.jobs, n, more = s.jobs+some, n-some, true
			}
		}
	}
	return slices.DeleteFunc(all, func(s share) bool { return s.jobs == 0 })
}

// hold pauses queues all of whose kinds need a dependency that is open, and ends that where
// it is not any more, or a kind has come that does not need it.
func (r *redriver) hold(ctx context.Context) error {
	var err error
	if r.held, err = r.s.store.Held(ctx); err != nil {
		return err
	}
	changed := false
	for name, standing := range r.board {
		if standing.State != jobs.DependencyOpen {
			continue
		}
		queues, err := r.s.store.QueuesNeeding(ctx, name)
		if err != nil {
			return err
		}
		for queue, names := range r.held.For {
			if !slices.Contains(names, name) || slices.Contains(queues, queue) {
				continue
			}
			if err := r.s.store.UnholdQueue(ctx, queue, name, "not all of its kinds need "+name+" any more"); err != nil {
				return err
			}
			changed = true
		}
		for _, queue := range queues {
			if slices.Contains(r.held.For[queue], name) {
				continue
			}
			why := name + " is not available: " + standing.Reason
			if err := r.s.store.HoldQueue(ctx, queue, name, why); err != nil {
				return err
			}
			changed = true
			r.s.log.Warn("a queue is paused until a dependency is back", "queue", queue, "dependency", name, "reason", standing.Reason)
		}
	}
	if changed {
		if r.held, err = r.s.store.Held(ctx); err != nil {
			return err
		}
	}
	for queue, names := range r.held.For {
		for _, name := range names {
			if r.board[name].State == jobs.DependencyOpen {
				continue
			}
			if err := r.shelve(ctx, queue, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// shelve ends the pause of a queue, after the jobs that came meanwhile have taken their
// place among those that wait.
func (r *redriver) shelve(ctx context.Context, queue, name string) error {
	for over := false; !over && ctx.Err() == nil; {
		var err error
		if _, over, err = r.s.store.Shelve(ctx, queue, name); err != nil {
			return err
		}
	}
	r.s.log.Info("a queue is not paused for a dependency any more", "queue", queue, "dependency", name)
	return nil
}
