package worker

import (
	"context"
	"maps"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// beat says again and again that the worker lives.
func (w *Worker) beat(ctx context.Context) {
	for ctx.Err() == nil {
		owner := w.ownerID()
		call, cancel := context.WithTimeout(ctx, 2*time.Second)
		alive, err := w.store.Beat(call, owner, owner != *w.listed.Load())
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			w.log.Warn("cannot beat", "error", err)
		case !alive:
			w.fenced(owner)
			continue
		default:
			w.listed.Store(&owner)
			w.reached()
		}
		pause(ctx, w.options.Beat)
	}
}

// fenced ends everything that runs under an identity that was declared dead,
// because others own it by now, and takes a new identity.
func (w *Worker) fenced(owner string) {
	w.claims.Lock()
	defer w.claims.Unlock()
	if w.ownerID() != owner {
		return
	}
	w.newOwner()
	w.log.Error("this worker was taken for dead; its jobs run elsewhere", "was", owner, "now", w.ownerID())
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.running {
		a.end(jobs.ErrLost)
	}
}

// compare looks every second at what Redis says the worker holds: a job it does
// not know comes from a claim whose reply was lost and is handed back, one that
// it should know and that is owned by someone else is ended, one that is to be
// cancelled is told.
func (w *Worker) compare(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, time.Second)
		for _, q := range w.queues {
			if ctx.Err() == nil {
				w.compareQueue(ctx, q)
			}
		}
	}
}

func (w *Worker) compareQueue(ctx context.Context, q *queue) {
	// No claim is under way while the list is read, so that what it shows and the
	// worker does not know was really lost.
	w.claims.Lock()
	owner := w.ownerID()
	before := w.snapshot() // a job that ends from here on is no lost claim
	found, err := w.store.Holdings(ctx, q.name, owner)
	w.claims.Unlock()
	if err != nil {
		if ctx.Err() == nil {
			w.log.Warn("cannot compare holdings", "queue", q.name, "error", err)
		}
		return
	}
	if found.Fenced {
		w.fenced(owner)
		return
	}
	if found.Suspects > 0 {
		w.suspects(q)
	}
	for _, h := range found.Held {
		a := before[h.Hold]
		switch {
		case a == nil:
			w.returnUnknown(ctx, h.Hold)
		case h.Asked != nil:
			a.end(h.Asked)
		}
	}
}

func (w *Worker) snapshot() map[delivery.Hold]*attempt {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.running)
}

// returnUnknown hands back what the worker holds and does not run.
func (w *Worker) returnUnknown(ctx context.Context, h delivery.Hold) {
	if err := w.store.HandBack(ctx, h); err == nil {
		w.log.Warn("handed back a job whose claim was not answered", "queue", h.Queue, "job", h.Key)
	}
}

// announce shows the worker to asynq's tools and keeps queues and kinds known.
func (w *Worker) announce(ctx context.Context) {
	const every = 5 * time.Second
	for round := 0; ctx.Err() == nil; round++ {
		p := w.presence
		p.Active = w.active()
		err := w.store.Announce(ctx, p, 2*every)
		if err == nil && round%12 == 1 {
			if err = w.store.Register(ctx, w.queueNames()...); err == nil {
				err = w.store.Publish(ctx, w.published())
			}
		}
		if err != nil && ctx.Err() == nil {
			w.log.Warn("cannot announce the worker", "error", err)
		}
		pause(ctx, every)
	}
}

func (w *Worker) active() []delivery.ActiveJob {
	w.mu.Lock()
	defer w.mu.Unlock()
	var active []delivery.ActiveJob
	for _, a := range w.running {
		active = append(active, delivery.ActiveJob{
			Queue: a.d.Queue, Key: a.d.Key, Kind: a.d.Kind, Started: a.begun, Deadline: a.begun.Add(a.timeout()),
		})
	}
	return active
}
