package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/jobs"
)

// outageEvery leaves orders time to come back between two outages, also when Redis is
// frozen meanwhile; a run of [leastDuration] has one.
func outageEvery(o Options) time.Duration {
	return min(max(o.Duration/6, 10*time.Second), 20*time.Second+o.Freeze)
}

// unmet is for how much longer a service stays away that nobody has called: its jobs may
// still be coming back from the outage before, or Redis is frozen and nobody works.
func unmet(o Options) time.Duration { return 6*time.Second + o.Freeze }

// outage takes one of the services away for a while. It has happened when somebody met
// it.
func (s *stage) outage(ctx context.Context, f fault) (bool, error) {
	names := slices.Sorted(maps.Keys(s.urls))
	name, mode := names[f.Pick%len(names)], []string{"refuse", "503"}[f.Pick/len(names)%2]
	before, err := s.refused(name)
	if err != nil {
		return false, err
	}
	if err := s.tell(ctx, name, orders.Fault{Mode: mode}); err != nil {
		return false, err
	}
	sleep(ctx, f.Hold)
	after, err := s.refused(name)
	for began := time.Now(); err == nil && after == before && time.Since(began) < unmet(s.options); {
		if !sleep(ctx, 100*time.Millisecond) {
			break
		}
		after, err = s.refused(name)
	}
	return after > before, errors.Join(err, s.tell(context.WithoutCancel(ctx), name, slowness(name)))
}

// tell has a service behave in one way and no other.
func (s *stage) tell(ctx context.Context, name string, f orders.Fault) error {
	if err := orders.ClearFaults(ctx, s.urls[name]); err != nil {
		return err
	}
	return orders.SetFault(ctx, s.urls[name], f)
}

// slowness is how a service behaves that is there.
func slowness(name string) orders.Fault {
	return orders.Fault{Mode: "slow", DelayMS: int(slow[name].Milliseconds())}
}

// refused counts the calls that met an outage of a service.
func (s *stage) refused(name string) (n int, err error) {
	entries, err := orders.ReadLedger(s.effects(name))
	for _, e := range entries {
		if e.Event == "fault:refuse" || e.Event == "fault:503" {
			n++
		}
	}
	return n, err
}

// awaitLanes waits until nothing is left of the jobs that waited for a service: entries
// whose job has moved on are dropped when their turn comes.
func (s *stage) awaitLanes(ctx context.Context) {
	for {
		lanes, err := s.store.Lanes(ctx)
		if err == nil && len(lanes) == 0 || !sleep(ctx, 100*time.Millisecond) {
			return
		}
	}
}

// checkOutages judges what outages have left behind.
func (s *stage) checkOutages(ctx context.Context, r *Report, infos map[string]jobs.Info) error {
	calls := 0
	for name := range s.urls {
		n, err := s.refused(name)
		if err != nil {
			return err
		}
		calls += n
		d, err := s.store.Dependency(ctx, name)
		if err == nil {
			s.counters.add(opened, int(d.Turn))
		}
	}
	r.found("calls that outages refused", calls)
	lanes, err := s.store.Lanes(ctx)
	if err != nil {
		return err
	}
	var left []string
	for _, lane := range lanes {
		left = append(left, fmt.Sprintf("%d %s for %s", lane.Jobs, lane.Kind, lane.Name))
	}
	r.mustNot("entries left where jobs wait for a service", left)
	q, err := s.store.QueueInfo(ctx, queue)
	if err != nil {
		return err
	}
	if q.Paused || q.Parked > 0 {
		r.problem("the queue is left paused (%v), with %d paused jobs", q.Reasons, q.Parked)
	}
	var used []string
	for key, info := range infos {
		if tried, known := attemptsOf(info); known && info.Attempts > tried {
			used = append(used, fmt.Sprintf("%s used %d attempts, and %d of its failures cost one", key, info.Attempts, tried))
		}
	}
	r.mustNot("attempts used by outages", used)
	return nil
}

// keptFailures is how many failures of a job are on record; of those with more, the
// first ones are not known.
const keptFailures = 50

// attemptsOf counts the failures of a job that cost an attempt.
func attemptsOf(info jobs.Info) (n int, known bool) {
	for _, f := range info.Failures {
		switch f.Class {
		case jobs.ClassUnavailable, jobs.ClassThrottled, jobs.ClassCrash:
		default:
			n++
		}
	}
	return n, len(info.Failures) < keptFailures
}
