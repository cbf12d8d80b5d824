package deadletter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/perdure/perdure/internal/delivery"
)

// Plans is what a runner needs of the store.
type Plans interface {
	OpenPlans(ctx context.Context) ([]delivery.Plan, error)
	Dead(ctx context.Context, query delivery.DeadQuery) (delivery.DeadPage, error)
	SelectFor(ctx context.Context, p delivery.Plan, page delivery.DeadPage) (bool, error)
	Advance(ctx context.Context, queue, id string) (delivery.PlanStep, error)
}

// steps is how often one turn takes a plan further at most, so that others have
// their turn too.
const steps = 20

// Advance takes every replay plan that has not ended as far as it may go now. Any
// number of processes may do so at the same time: a plan is all in Redis, and each of
// its entries is replayed once. It returns how many plans go on by themselves, and how
// many entries it has replayed.
func Advance(ctx context.Context, plans Plans) (open, replayed int, err error) {
	all, err := plans.OpenPlans(ctx)
	errs := []error{err}
	for _, p := range all {
		var n int
		switch p.State {
		case delivery.PlanSelecting:
			open++
			err = choose(ctx, plans, p)
		case delivery.PlanRunning:
			open++
			n, err = advance(ctx, plans, p)
		default: // it replays nothing, and sees what has become of what it has replayed
			_, err = advance(ctx, plans, p)
		}
		replayed += n
		if err != nil {
			errs = append(errs, fmt.Errorf("replay plan %s of queue %s: %w", p.ID, p.Queue, err))
		}
	}
	return open, replayed, errors.Join(errs...)
}

// choose goes on choosing the entries of a plan: those that were in quarantine when
// it was made.
func choose(ctx context.Context, plans Plans, p delivery.Plan) error {
	query := Query{Queue: p.Queue, Filter: p.Filter, Limit: page}
	if made := p.Created.Add(time.Millisecond); query.Filter.Before.IsZero() || made.Before(query.Filter.Before) {
		query.Filter.Before = made
	}
	if since := query.Filter.Since; !since.IsZero() && !since.Before(query.Filter.Before) {
		_, err := plans.SelectFor(ctx, p, Page{}) // nothing is that new
		return err
	}
	for range steps {
		query.Cursor = p.Cursor
		found, err := plans.Dead(ctx, query)
		if err != nil {
			return err
		}
		mine, err := plans.SelectFor(ctx, p, found)
		if err != nil || !mine || found.Next == "" {
			return err
		}
		p.Cursor = found.Next
	}
	return nil
}

func advance(ctx context.Context, plans Plans, p delivery.Plan) (replayed int, err error) {
	for range steps {
		step, err := plans.Advance(ctx, p.Queue, p.ID)
		replayed += step.Replayed
		if err != nil || !step.More {
			return replayed, err
		}
	}
	return replayed, nil
}
