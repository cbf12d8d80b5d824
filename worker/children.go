package worker

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// relayAfter is how long what a job's end has to tell waits for that of others.
const relayAfter = 5 * time.Millisecond

// Children implements [jobs.Attempt].
func (a *attempt) Children(ctx context.Context, g jobs.Group, wait bool) (ended []jobs.Ended, ready bool, err error) {
	limit := 5*time.Second + time.Duration(len(g.Items))*10*time.Millisecond
	err = a.writeWithin(ctx, limit, func(ctx context.Context) (err error) {
		ended, ready, err = a.w.store.Children(ctx, a.d, g, wait)
		return err
	})
	if err == nil && wait && !ready {
		a.mu.Lock()
		a.waits[g.Name] = jobs.Wait{Name: g.Name, Type: "children"}
		a.mu.Unlock()
	}
	return ended, ready, err
}

// tell has what a job's end means to other jobs relayed at once: a child's to its
// parent, a cancelled parent's to its children. Should this process die first, a
// scheduler does so within a second.
func (a *attempt) tell(v delivery.Verdict) {
	switch v.Outcome {
	case delivery.Complete, delivery.Quarantine:
		if !a.d.Child {
			return
		}
	case delivery.Cancel:
	default:
		return
	}
	a.w.post(a.d.Queue)
}

// post asks for what jobs of a queue have to tell to be relayed.
func (w *Worker) post(queue string) {
	w.mu.Lock()
	w.posted[queue] = true
	w.mu.Unlock()
	select {
	case w.mail <- struct{}{}:
	default:
	}
}

// takePosted returns the queues that were asked for, and forgets them.
func (w *Worker) takePosted() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	queues := slices.Sorted(maps.Keys(w.posted))
	clear(w.posted)
	return queues
}

// relay delivers what the jobs that end here have to tell. Of jobs that end
// together it is done at once.
func (w *Worker) relay(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.mail:
		}
		pause(ctx, relayAfter)
		for _, queue := range w.takePosted() {
			for more := true; more && ctx.Err() == nil; {
				var err error
				if more, err = w.store.Relay(ctx, queue); err != nil && ctx.Err() == nil {
					w.log.Warn("cannot tell parents and children about each other", "queue", queue, "error", err)
				}
			}
		}
	}
}
