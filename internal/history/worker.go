package history

import (
	"context"
	"errors"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/worker"
)

// Watch returns a store for a worker that records claims, steps and verdicts in
// the file.
func (f *File) Watch(s worker.Store) worker.Store { return &watched{s, f} }

type watched struct {
	worker.Store
	file *File
}

// Claim implements [worker.Queue].
func (w *watched) Claim(ctx context.Context, queue, owner string, most int) (delivery.Batch, error) {
	return w.claim(func() (delivery.Batch, error) { return w.Store.Claim(ctx, queue, owner, most) })
}

// Isolate implements [worker.Isolation]; it claims too.
func (w *watched) Isolate(ctx context.Context, queue, owner string, alone bool) (delivery.Batch, error) {
	return w.claim(func() (delivery.Batch, error) { return w.Store.Isolate(ctx, queue, owner, alone) })
}

// claim records a call and one return for each job that it took.
func (w *watched) claim(do func() (delivery.Batch, error)) (delivery.Batch, error) {
	call, err := w.file.Call(Event{Op: Claim})
	if err != nil {
		return delivery.Batch{}, err
	}
	batch, err := do()
	for _, d := range batch.Deliveries {
		e := Event{ID: call.ID, Op: Claim, Key: d.Key, Token: d.Token, Run: d.Run, Steps: map[string]string{}, Outcome: OK}
		for step, output := range d.Steps {
			e.Steps[step] = Digest(output)
		}
		err = errors.Join(err, w.file.Add(e))
	}
	return batch, err
}

// Checkpoint implements [worker.Steps].
func (w *watched) Checkpoint(ctx context.Context, hold delivery.Hold, c delivery.Checkpoint) error {
	e := Event{Op: Commit, Key: hold.Key, Token: hold.Token, Run: c.Run, What: c.Step, Value: Digest(c.Output)}
	return w.around(e, func() error { return w.Store.Checkpoint(ctx, hold, c) })
}

// Settle implements [worker.Queue].
func (w *watched) Settle(ctx context.Context, d delivery.Delivery, v delivery.Verdict) error {
	e := Event{Op: Settle, Key: d.Key, Token: d.Token, Run: d.Run, What: string(v.Outcome)}
	return w.around(e, func() error { return w.Store.Settle(ctx, d, v) })
}

// around records a call, makes it, and records what became of it. A return that
// cannot be written leaves the outcome open, which is true.
func (w *watched) around(e Event, do func() error) error {
	e, err := w.file.Call(e)
	if err != nil {
		return err
	}
	err = do()
	e.Outcome = outcome(err)
	_ = w.file.Add(e)
	return err
}

func outcome(err error) string {
	switch {
	case err == nil, errors.Is(err, jobs.ErrCancelled), errors.Is(err, jobs.ErrPaused):
		return OK
	case errors.Is(err, jobs.ErrLost):
		return Refused
	case errors.Is(err, jobs.ErrNotFound):
		return Gone
	}
	return Unknown
}
