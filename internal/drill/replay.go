package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// refused has the warehouse refuse orders, and returns the group that they make in
// quarantine.
func (s *stage) refused(ctx context.Context, list []orders.Order) (delivery.DeadGroup, error) {
	if err := orders.SetFault(ctx, s.services.URL("warehouse"), orders.Fault{Mode: "4xx", Path: "/reserve"}); err != nil {
		return delivery.DeadGroup{}, err
	}
	var handles []jobs.Handle
	for _, o := range list {
		h, err := s.store.Enqueue(ctx, s.job(o))
		if err != nil {
			return delivery.DeadGroup{}, err
		}
		handles = append(handles, h)
	}
	for _, h := range handles {
		if info, err := h.Wait(ctx); err != nil || info.State != jobs.StateQuarantined {
			return delivery.DeadGroup{}, errors.Join(fmt.Errorf("%s is %s, not quarantined", h.Key, info.State), err)
		}
	}
	entry, err := s.store.Entry(ctx, s.queue, list[0].ID)
	if err != nil {
		return delivery.DeadGroup{}, err
	}
	return s.store.DeadGroup(ctx, s.queue, entry.Signature)
}

// replayGroup makes a plan over a group.
func (s *stage) replayGroup(ctx context.Context, g delivery.DeadGroup, id string) (delivery.Plan, error) {
	return s.store.MakePlan(ctx, delivery.PlanRequest{ID: id, Queue: s.queue, Filter: delivery.DeadFilter{Signature: g.Signature}, Rate: 50}, drillDecides)
}

var drillDecides = jobs.Decision{Actor: "drill", Reason: "the warehouse takes orders again"}

// settledPlan waits until a plan does not go on by itself.
func (s *stage) settledPlan(ctx context.Context, id string) (delivery.Plan, error) {
	for {
		p, err := s.store.Plan(ctx, s.queue, id)
		if err != nil || p.State.Ended() || p.State == delivery.PlanStopped {
			return p, err
		}
		select {
		case <-ctx.Done():
			return p, fmt.Errorf("plan %s is %s: %w", id, p.State, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ahead tells from the decisions on record whether 1 and then 10 of a plan's entries
// went ahead, and the next ones followed when those had ended.
func (s *stage) ahead(ctx context.Context, id string) (bool, error) {
	events, err := s.store.Events(ctx, s.queue, 500)
	if err != nil {
		return false, err
	}
	events = slices.DeleteFunc(events, func(e store.Event) bool { return e.What != "replay" || e.Actor != "plan "+id })
	slices.Reverse(events)
	for _, canary := range []int{1, 11} {
		for i, e := range events {
			info, err := s.store.Get(ctx, s.queue, e.Key)
			if err != nil || len(info.Steps) == 0 {
				return false, errors.Join(err, fmt.Errorf("%s has no steps", e.Key))
			}
			if last := info.Steps[len(info.Steps)-1].Ended; i < canary && len(events) > canary && last.After(events[canary].At) {
				return false, nil
			}
		}
	}
	return len(events) > 11, nil
}

// asked sums up what the ledgers say of some orders.
func (s *stage) asked(list []orders.Order) (charges, reservations, effects int, err error) {
	for _, o := range list {
		t, err := s.tally(o.ID)
		if err != nil {
			return 0, 0, 0, err
		}
		charges += t.received["/charge"]
		reservations += t.received["/reserve"]
		for _, n := range t.effects {
			effects += n
		}
	}
	return charges, reservations, effects, nil
}

func deadLetterReplay(ctx context.Context, s *stage) (string, string, error) {
	list := s.orders[2700:2730]
	group, err := s.refused(ctx, list)
	if err != nil {
		return "", "", err
	}
	if err := orders.ClearFaults(ctx, s.services.URL("warehouse")); err != nil {
		return "", "", err
	}
	began := time.Now()
	if _, err := s.replayGroup(ctx, group, "drill-replay"); err != nil {
		return "", "", err
	}
	p, err := s.settledPlan(ctx, "drill-replay")
	if err != nil {
		return "", "", err
	}
	canary, err := s.ahead(ctx, p.ID)
	if err != nil {
		return "", "", err
	}
	charges, reservations, effects, err := s.asked(list)
	observed := fmt.Sprintf("group of %d; plan %s in %v: %d replayed, %d completed, %d back", group.Entries, p.State,
		time.Since(began).Round(100*time.Millisecond), p.Replayed, p.Completed, p.Returned+p.Failed)
	evidence := fmt.Sprintf("ledgers of %d orders: %d charges and %d reservations asked for, %d effects", len(list), charges, reservations, effects)
	return observed, evidence, errors.Join(err, must(map[string]bool{
		"they are one group":                  group.Entries == int64(len(list)),
		"the plan comes to its end":           p.State == delivery.PlanDone,
		"each is replayed once and completes": p.Replayed == int64(len(list)) && p.Completed == p.Replayed,
		"1, then 10 go ahead":                 canary,
		"the charge is not repeated":          charges == len(list),
		"the failed step is":                  reservations == 2*len(list),
		"each effect happens once":            effects == 4*len(list),
	}))
}

func replayStops(ctx context.Context, s *stage) (string, string, error) {
	list := s.orders[2740:2760]
	group, err := s.refused(ctx, list)
	if err != nil {
		return "", "", err
	}
	if _, err := s.replayGroup(ctx, group, "drill-stops"); err != nil {
		return "", "", err
	}
	stopped, err := s.settledPlan(ctx, "drill-stops")
	if err != nil {
		return "", "", err
	}
	_, early, _, err := s.asked(list)
	if err == nil {
		err = orders.ClearFaults(ctx, s.services.URL("warehouse"))
	}
	if err == nil {
		_, err = s.store.ResumePlan(ctx, s.queue, stopped.ID, drillDecides)
	}
	if err != nil {
		return "", "", err
	}
	done, err := s.settledPlan(ctx, stopped.ID)
	if err != nil {
		return "", "", err
	}
	observed := fmt.Sprintf("the plan %s after %d of %d (%s); resumed once the warehouse was mended: %s, %d completed", stopped.State,
		stopped.Replayed, len(list), stopped.Why, done.State, done.Completed)
	evidence := fmt.Sprintf("ledgers: %d reservations asked for when it stopped, %d of them by the plan; %d left in quarantine at the end", early, early-len(list), len(list)-int(done.Completed))
	return observed, evidence, must(map[string]bool{
		"it stops":                           stopped.State == delivery.PlanStopped,
		"one order went ahead":               stopped.Replayed == 1 && stopped.Returned == 1 && early == len(list)+1,
		"the others stay in quarantine":      stopped.Left == int64(len(list)-1),
		"resumed, it comes to its end":       done.State == delivery.PlanDone,
		"each of the others completes":       done.Completed == int64(len(list)-1),
		"none is replayed twice by one plan": done.Replayed == int64(len(list)),
	})
}
