package worker

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// awaitLimit is how long one wait at the server lasts. It bounds how long a stop
// takes.
const awaitLimit = time.Second

// pausedAgain is how long a queue that is paused is not looked at. A probe may be let
// through.
const pausedAgain = 250 * time.Millisecond

// queue is one queue as the worker sees it: either ready, there may be work, or
// not, and then its waiter looks for some.
type queue struct {
	name     string
	priority int
	ready    atomic.Bool
	needs    []string      // what all kinds need that the worker has for it
	suspects atomic.Bool   // jobs wait to be run isolated
	empty    chan struct{} // told when the queue has stopped being ready
}

// await makes a queue ready as soon as it has work.
func (w *Worker) await(ctx context.Context, q *queue) {
	for ctx.Err() == nil {
		work, err := w.store.AwaitWork(ctx, q.name, awaitLimit)
		if err != nil {
			if ctx.Err() == nil {
				w.log.Warn("cannot look for work", "queue", q.name, "error", err)
			}
			pause(ctx, 500*time.Millisecond+time.Duration(rand.Int64N(int64(500*time.Millisecond))))
			continue
		}
		if !work {
			continue
		}
		q.ready.Store(true)
		w.signal()
		select {
		case <-q.empty:
		case <-ctx.Done():
		}
	}
}

func (w *Worker) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// dispatch claims jobs for free slots until ctx ends.
func (w *Worker) dispatch(ctx context.Context) {
	for ctx.Err() == nil {
		if free := cap(w.slots) - len(w.slots); free > 0 && !w.alone.Load() && w.claimOnce(ctx, free) {
			continue
		}
		select {
		case <-ctx.Done():
		case <-w.wake:
		}
	}
}

// claimOnce claims from the first ready queue, in order of priority, and reports
// whether it is worth trying again at once.
func (w *Worker) claimOnce(ctx context.Context, free int) bool {
	for _, q := range w.ordered() {
		most := free
		if len(q.needs) > 0 {
			most = w.reach(q, free)
		}
		if most == 0 {
			w.rest(ctx, q, pausedAgain)
			continue
		}
		batch, err := w.claim(ctx, q, most)
		switch {
		case err != nil:
			if ctx.Err() == nil {
				w.log.Warn("cannot claim", "queue", q.name, "error", err)
			}
			w.rest(ctx, q, 200*time.Millisecond)
			continue
		case batch.fenced:
			w.fenced(batch.owner)
		case batch.paused:
			w.rest(ctx, q, pausedAgain)
			continue
		case batch.emptied:
			w.rest(ctx, q, 0)
			if batch.claimed == 0 {
				continue
			}
		}
		return true
	}
	return false
}

type claimed struct {
	owner                   string
	claimed, dropped        int
	paused, fenced, emptied bool
}

func (w *Worker) claim(ctx context.Context, q *queue, free int) (claimed, error) {
	w.claims.RLock()
	defer w.claims.RUnlock()
	if w.alone.Load() {
		return claimed{paused: true}, nil
	}
	owner, err := w.claimant(ctx)
	if err != nil {
		return claimed{}, err
	}
	batch, err := w.store.Claim(context.WithoutCancel(ctx), q.name, owner, min(free, 64))
	if err != nil {
		return claimed{}, err
	}
	if batch.Dropped > 0 {
		w.log.Warn("dropped queue entries that stood for no claimable job", "queue", q.name, "entries", batch.Dropped)
	}
	if batch.Suspects > 0 {
		w.suspects(q)
	}
	for _, d := range batch.Deliveries {
		w.begin(d)
	}
	return claimed{owner, len(batch.Deliveries), batch.Dropped, batch.Paused, batch.Fenced, batch.Emptied}, nil
}

// claimant returns the identity to claim under: who holds jobs must be among
// those whose silence is noticed.
func (w *Worker) claimant(ctx context.Context) (string, error) {
	owner := w.ownerID()
	if owner == *w.listed.Load() {
		return owner, nil
	}
	return owner, w.enter(ctx, owner)
}

// rest makes a queue not ready and lets its waiter look again after a while.
func (w *Worker) rest(ctx context.Context, q *queue, after time.Duration) {
	q.ready.Store(false)
	if after == 0 {
		q.empty <- struct{}{}
		return
	}
	w.work.Go(func() {
		pause(ctx, after)
		q.empty <- struct{}{}
	})
}

// ordered returns the ready queues in the order in which to claim: by priority
// when it is strict, else at random with the priority as weight.
func (w *Worker) ordered() []*queue {
	var ready []*queue
	for _, q := range w.queues {
		if q.ready.Load() {
			ready = append(ready, q)
		}
	}
	if len(ready) < 2 {
		return ready
	}
	if w.options.StrictPriority {
		slices.SortStableFunc(ready, func(a, b *queue) int { return b.priority - a.priority })
		return ready
	}
	keyed := map[*queue]float64{}
	for _, q := range ready {
		keyed[q] = rand.ExpFloat64() / float64(q.priority)
	}
	slices.SortFunc(ready, func(a, b *queue) int {
		if keyed[a] < keyed[b] {
			return -1
		}
		return 1
	})
	return ready
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
