package cron

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// What the replay plan of a tick is, unless its schedule says: made for a time when
// nobody looks. It sends a canary ahead and stops when the same failure is back.
const (
	replayRate = 10   // entries a second
	replayMost = 1000 // entries
	replayKept = 7 * 24 * time.Hour
)

// replay makes the replay plan of an open tick, in each queue that has something for
// it, and returns where it is; nil: nothing is to be replayed. It may be called by
// several and again: an ID is one plan.
func replay(ctx context.Context, store Store, s delivery.Scheduled) (*delivery.JobPlace, error) {
	run := &delivery.JobPlace{Queue: cmp.Or(s.Open.Queue, s.Replay.Queue), Plan: delivery.PlanID(s.Name, s.Open.At)}
	queues, err := planQueues(ctx, store, *run)
	if err != nil {
		return nil, err
	}
	made := false
	for _, queue := range queues {
		request := planRequest(s, queue, run.Plan)
		wanted, err := wants(ctx, store, request)
		if err != nil {
			return nil, err
		}
		if !wanted {
			continue
		}
		if _, err := store.MakePlan(ctx, request, plannedBy(s)); err != nil {
			return nil, err
		}
		made = true
	}
	if !made {
		return nil, nil
	}
	return run, nil
}

// planRequest is what the plan of an open tick is asked for. What is dead since the
// tick waits for the next one.
func planRequest(s delivery.Scheduled, queue, id string) delivery.PlanRequest {
	f, at := s.Replay, s.Open.At
	which := delivery.DeadFilter{
		Kind: f.Kind, Class: f.Class, Signature: f.Signature, Version: f.Version, Tenant: f.Tenant, Text: f.Text,
		Before: at.Add(-time.Duration(f.Older)),
	}
	if f.Newer > 0 {
		which.Since = at.Add(-time.Duration(f.Newer))
	}
	return delivery.PlanRequest{
		ID: id, Queue: queue, Filter: which, FromStart: f.FromStart, NoCanary: f.NoCanary,
		Rate: float64(cmp.Or(f.Rate, replayRate)), Most: cmp.Or(f.Most, replayMost), Kept: replayKept,
	}
}

func plannedBy(s delivery.Scheduled) jobs.Decision {
	reason := cmp.Or(s.Replay.Reason, "it replays dead letters")
	if s.Open.Trigger {
		reason += ", triggered by " + s.Open.Actor
	}
	return jobs.Decision{Actor: "schedule " + s.Name, Reason: reason}
}

// wants reports whether a plan is to be made: it is there already, or what it selects
// is not known to be nothing. One page is looked at; a plan reads them all.
func wants(ctx context.Context, store Store, r delivery.PlanRequest) (bool, error) {
	_, err := store.Plan(ctx, r.Queue, r.ID)
	if !errors.Is(err, jobs.ErrNotFound) {
		return err == nil, err
	}
	found, err := store.Dead(ctx, delivery.DeadQuery{Queue: r.Queue, Filter: r.Filter, Limit: 1})
	return len(found.Entries) > 0 || found.Next != "", err
}

// planQueues are the queues that a plan of a tick may be in.
func planQueues(ctx context.Context, store Store, run delivery.JobPlace) ([]string, error) {
	if run.Queue == "" {
		return store.Queues(ctx)
	}
	return []string{run.Queue}, nil
}

// standing says where a run stands, as people would: empty when it is over. A plan
// that has stopped by itself does so only where none goes on.
func standing(ctx context.Context, store Store, run delivery.JobPlace) (string, error) {
	if run.Plan == "" {
		info, err := store.Get(ctx, run.Queue, run.Key)
		if errors.Is(err, jobs.ErrNotFound) || err == nil && info.State.Ended() {
			return "", nil
		}
		return string(info.State), err
	}
	plans, err := plansOf(ctx, store, run)
	state := ""
	for _, p := range plans {
		switch {
		case p.State.Ended():
		case p.State == delivery.PlanStopped:
			state = string(delivery.PlanStopped)
		default:
			return string(p.State), err
		}
	}
	return state, err
}

// plansOf returns the plans of a tick, in whichever queue.
func plansOf(ctx context.Context, store Store, run delivery.JobPlace) ([]delivery.Plan, error) {
	queues, err := planQueues(ctx, store, run)
	if err != nil {
		return nil, err
	}
	var plans []delivery.Plan
	for _, queue := range queues {
		p, err := store.Plan(ctx, queue, run.Plan)
		switch {
		case err == nil:
			plans = append(plans, p)
		case !errors.Is(err, jobs.ErrNotFound):
			return nil, err
		}
	}
	return plans, nil
}

// cancel ends a run that its schedule's next tick is to replace.
func cancel(ctx context.Context, store Store, run delivery.JobPlace, s delivery.Scheduled) error {
	by := jobs.Decision{Actor: "schedule " + s.Name, Reason: "the tick of " + s.Open.At.UTC().Format(time.RFC3339) + " has come, and its schedule cancels the run before"}
	over := func(err error) bool {
		return err == nil || errors.Is(err, jobs.ErrNotFound) || errors.Is(err, jobs.ErrConflict)
	}
	if run.Plan == "" {
		if _, err := store.Cancel(ctx, run.Queue, run.Key, by); !over(err) {
			return err
		}
		return nil
	}
	queues, err := planQueues(ctx, store, run)
	for _, queue := range queues {
		if _, err := store.AbortPlan(ctx, queue, run.Plan, by); !over(err) {
			return err
		}
	}
	return err
}

// named is what people call a run.
func named(run delivery.JobPlace) string {
	switch {
	case run.Plan == "":
		return run.Queue + "/" + run.Key
	case run.Queue == "":
		return "plan " + run.Plan
	}
	return fmt.Sprintf("plan %s of queue %s", run.Plan, run.Queue)
}
