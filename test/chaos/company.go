package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/jobs"
)

// Beside the orders of five steps there are workflows of other shapes: one in twenty
// is a delivery, which waits for signals and has branches, one in fifty a delivery that
// its carrier loses, which is undone, and one in a hundred a batch of orders, each a
// child. The model knows the plain orders only; of the others
// the end and the effects are judged.

const (
	deliveries = "deliver:"
	returns    = "return:"
	batches    = "dispatch:"
	batchLines = 10
)

// company returns what is enqueued beside the i-th order.
func (f *feed) company(i int) []jobs.Job {
	var beside []jobs.Job
	if i%20 == 10 {
		o := f.sample[i%len(f.sample)]
		o.ID = fmt.Sprintf("order:%d", 5_000_000+i)
		beside = append(beside, orders.Deliver.New(deliveries+o.ID, orders.Delivery{Order: o, Within: jobs.Span(time.Hour)}))
	}
	if i%50 == 25 {
		o := f.sample[i%len(f.sample)]
		o.ID = fmt.Sprintf("order:%d", 6_000_000+i)
		beside = append(beside, orders.Deliver.New(returns+o.ID, orders.Delivery{Order: o, Within: jobs.Span(time.Second)}))
	}
	if first := 1 + i/100*batchLines; i%100 == 50 && first+batchLines <= len(f.sample) {
		beside = append(beside, orders.Dispatch.New(fmt.Sprint(batches, first), orders.Batch{First: first, Lines: batchLines}))
	}
	return beside
}

// signal gives a delivery all that it waits for, before it does or after; one that
// is to be lost only its approval. Sent again it changes nothing, and a job that has
// ended needs it no more.
func (f *feed) signal(ctx context.Context, key string) error {
	delivered, err := orders.Deliver.Signal("delivered", "the customer")
	if err != nil {
		return err
	}
	approved, err := jobs.Approve("amount", true, jobs.Decision{Actor: "chaos", Reason: "all are approved"})
	if err != nil {
		return err
	}
	for _, s := range []jobs.Signal{approved, delivered} {
		if strings.HasPrefix(key, returns) && s.Name == delivered.Name || plain(key) || strings.HasPrefix(key, batches) {
			continue
		}
		s.ID = s.Name
		call, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := f.store.Signal(call, queue, key, s)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			err = errors.Join(jobs.ErrUnavailable, err)
		}
		if err != nil && !errors.Is(err, jobs.ErrConflict) {
			return err
		}
	}
	return nil
}

// ending is the state that a job is to end in.
func ending(key string) jobs.State {
	if strings.HasPrefix(key, returns) {
		return jobs.StateQuarantined
	}
	return jobs.StateCompleted
}

// effectsOf says which effects a job that has ended so has had: the orders that it
// is about, and the paths of each.
func (f *feed) effectsOf(key string) (ids, paths []string) {
	paths = []string{"/charge", "/reserve", "/label", "/send"}
	if id, ok := strings.CutPrefix(key, deliveries); ok {
		return []string{id}, append(paths, "/invoice")
	}
	if id, ok := strings.CutPrefix(key, returns); ok {
		return []string{id}, append(paths, "/invoice", "/release", "/refund")
	}
	if text, ok := strings.CutPrefix(key, batches); ok {
		var first int
		fmt.Sscan(text, &first)
		for _, o := range f.sample[first-1:][:batchLines] {
			ids = append(ids, o.ID)
		}
		return ids, paths
	}
	return []string{key}, paths
}

// plain says whether a job is one that the model knows.
func plain(key string) bool { return strings.HasPrefix(key, "order:") }
