package ops

import (
	"context"
	"net/http"

	"github.com/perdure/perdure/deadletter"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// ReplayPlans makes replay plans and steers them. Those that name a plan return
// jobs.ErrNotFound when there is none, and jobs.ErrConflict when it has ended.
type ReplayPlans interface {
	MakePlan(ctx context.Context, r delivery.PlanRequest, by jobs.Decision) (delivery.Plan, error)
	Plan(ctx context.Context, queue, id string) (delivery.Plan, error)
	Plans(ctx context.Context, queue string) ([]delivery.Plan, error)
	PausePlan(ctx context.Context, queue, id string, by jobs.Decision) (delivery.Plan, error)
	ResumePlan(ctx context.Context, queue, id string, by jobs.Decision) (delivery.Plan, error)
	AbortPlan(ctx context.Context, queue, id string, by jobs.Decision) (delivery.Plan, error)
}

// makePlan makes a plan. With dry_run, which needs no reason, it answers with a page of what the plan would
// select instead: who asks sums up over the next ones.
func (s *service) makePlan(w http.ResponseWriter, r *http.Request) error {
	var p delivery.PlanRequest
	from, canary, dry, all, cursor := "failed", true, false, false, ""
	var filter strictFilter
	by, err := askedBy(w, r, text("id", &p.ID), text("queue", &p.Queue), filter.member(), member{"all", &all, "true or false"},
		text("from", &from), member{"rate", &p.Rate, "a number"}, member{"most", &p.Most, "a whole number"}, member{"canary", &canary, "true or false"},
		member{"keep_going", &p.KeepGoing, "true or false"}, member{"dry_run", &dry, "true or false"}, text("cursor", &cursor))
	if err != nil {
		return err
	}
	p.NoCanary, p.Filter = !canary, filter.DeadFilter
	if p.Filter == (delivery.DeadFilter{}) && !all {
		return &jobs.InvalidError{Field: "filter", Value: "of everything", Bound: "given; say all where everything in the queue is meant"}
	}
	if p.FromStart, err = startOf(from); err != nil {
		return err
	}
	if err := p.Check(); err != nil {
		return err
	}
	if dry {
		return s.dryRun(w, r, deadletter.Query{Queue: p.Queue, Filter: p.Filter, Limit: maxListed, Cursor: cursor})
	}
	plan, err := s.store.MakePlan(r.Context(), p, by)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, plan)
}

func (s *service) dryRun(w http.ResponseWriter, r *http.Request, q deadletter.Query) error {
	page, err := s.quarantine().List(r.Context(), q)
	if err != nil {
		return err
	}
	signatures, replayable := map[string]int{}, 0
	for _, d := range page.Entries {
		signatures[d.Signature]++
		if !d.Unreadable && d.Erased == "" {
			replayable++
		}
	}
	return writeJSON(w, http.StatusOK, map[string]any{
		"entries": len(page.Entries), "replayable": replayable, "signatures": signatures, "next": page.Next,
	})
}

func (s *service) listPlans(w http.ResponseWriter, r *http.Request) error {
	values, err := params(r, "queue")
	if err != nil {
		return err
	}
	plans, err := s.store.Plans(r.Context(), values.Get("queue"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{"plans": plans})
}

func (s *service) getPlan(w http.ResponseWriter, r *http.Request) error {
	plan, err := s.store.Plan(r.Context(), r.PathValue("queue"), r.PathValue("plan"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, plan)
}

// steerPlan returns what decides about a plan.
func steerPlan(steer func(s Store, ctx context.Context, queue, id string, by jobs.Decision) (delivery.Plan, error)) func(*service, http.ResponseWriter, *http.Request) error {
	return func(s *service, w http.ResponseWriter, r *http.Request) error {
		by, err := decisionOf(w, r)
		if err != nil {
			return err
		}
		plan, err := steer(s.store, r.Context(), r.PathValue("queue"), r.PathValue("plan"), by)
		if err != nil {
			return err
		}
		return writeJSON(w, http.StatusOK, plan)
	}
}
