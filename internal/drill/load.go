package drill

import (
	"context"
	"errors"
	"fmt"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/jobs"
)

// load is jobs of both kinds that run side by side.
type load struct {
	handles []jobs.Handle
	works   [][]orders.Order // of each job: the order, or the lines of the batch
}

// add enqueues an order.
func (l *load) add(ctx context.Context, c *crew, o orders.Order) error {
	h, err := c.enqueue(ctx, o)
	l.handles, l.works = append(l.handles, h), append(l.works, []orders.Order{o})
	return err
}

// addBatch enqueues an import.
func (l *load) addBatch(ctx context.Context, c *crew, b orders.Batch) error {
	h, err := c.batch(ctx, b)
	l.handles, l.works = append(l.handles, h), append(l.works, c.lines(b))
	return err
}

// sum is what became of a load, by perdure's account and by the ledgers'.
type sum struct {
	jobs, completed, attempts, crashes, failures int

	wanted, effects   int // of all steps and lines
	doubled, repeated int // effects that happened again; calls that were made again
}

// end waits for the end of all jobs and sums up.
func (l *load) end(ctx context.Context, c *crew) (sum, error) {
	total := sum{jobs: len(l.handles)}
	for _, h := range l.handles {
		info, err := h.Wait(ctx)
		if err != nil {
			return total, fmt.Errorf("%s: %w", h.Key, err)
		}
		if info.State == jobs.StateCompleted {
			total.completed++
		}
		total.attempts += info.Attempts
		total.crashes += info.Crashes
		total.failures += len(info.Failures)
	}
	entries, err := c.ledger()
	if err != nil {
		return total, err
	}
	counts := map[[3]string]int{}
	for _, e := range entries {
		counts[[3]string{e.Event, e.Path, e.Order}]++
	}
	for i, work := range l.works {
		for _, o := range work {
			for _, path := range paths(l.handles[i].Kind) {
				effects, calls := counts[[3]string{"effect", path, o.ID}], counts[[3]string{"received", path, o.ID}]
				total.wanted++
				total.effects += min(effects, 1)
				total.doubled += max(effects-1, 0)
				total.repeated += max(calls-1, 0)
			}
		}
	}
	return total, nil
}

// paths are what a kind calls for each of its orders.
func paths(kind string) []string {
	if kind == orders.Import.Definition().Name {
		return []string{"/reserve"}
	}
	return []string{"/charge", "/reserve", "/label", "/send"}
}

func (t sum) String() string {
	return fmt.Sprintf("%d of %d jobs completed; %d attempts used, %d failures, %d crashes counted", t.completed, t.jobs, t.attempts, t.failures, t.crashes)
}

func (t sum) ledgers() string {
	return fmt.Sprintf("ledgers: %d of %d effects, %d doubled, %d calls repeated", t.effects, t.wanted, t.doubled, t.repeated)
}

// kept returns an error unless everything happened once and nothing failed.
func (t sum) kept() error {
	return errors.Join(t.once(), must(map[string]bool{"nothing fails": t.failures == 0}))
}

// once returns an error unless everything happened, and once, whatever failed on the way.
func (t sum) once() error {
	return must(map[string]bool{
		"every job completes":          t.completed == t.jobs,
		"no attempt is used":           t.attempts == 0,
		"nobody's work is taken away":  t.crashes == 0,
		"every effect happens":         t.effects == t.wanted,
		"no effect happens a 2nd time": t.doubled == 0,
	})
}
