package drill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/jobs"
)

const (
	noise     = 5_000           // orders of the noisy tenant
	promptly  = 2 * time.Second // within which another tenant's orders start
	quietOnes = 20
)

// noisyTenant has one tenant fill a queue, and another one order now and then.
func noisyTenant(ctx context.Context, c *crew) (string, string, error) {
	slow := orders.Fault{Mode: "slow", DelayMS: 100, Path: "/charge"}
	if err := orders.SetFault(ctx, c.services.URL("payments"), slow); err != nil {
		return "", "", err
	}
	many := make([]jobs.Job, noise)
	for i := range many {
		o := c.orders[i%len(c.orders)]
		o.ID = fmt.Sprintf("order:%d", 1_000_000+i)
		many[i] = orders.Fulfil.New(o.ID, o, jobs.Queue(c.queue), jobs.Tenant("noisy"))
	}
	for _, e := range c.store.EnqueueMany(ctx, many) {
		if e.Err != nil {
			return "", "", e.Err
		}
	}
	list := c.orders[200:][:quietOnes]
	asked, handles := map[string]time.Time{}, make([]jobs.Handle, len(list))
	for i, o := range list {
		asked[o.ID] = time.Now()
		var err error
		if handles[i], err = c.store.Enqueue(ctx, orders.Fulfil.New(o.ID, o, jobs.Queue(c.queue), jobs.Tenant("quiet"))); err != nil {
			return "", "", err
		}
		select {
		case <-time.After(100 * time.Millisecond): // the next order
		case <-ctx.Done():
			return "", "", context.Cause(ctx)
		}
	}
	completed := 0
	for _, h := range handles {
		info, err := h.Wait(ctx)
		if err != nil {
			return told(info), "", err
		}
		if info.State == jobs.StateCompleted && info.Runs == 1 {
			completed++
		}
	}
	return c.judgeNoise(ctx, list, asked, completed)
}

func (c *crew) judgeNoise(ctx context.Context, list []orders.Order, asked map[string]time.Time, completed int) (string, string, error) {
	calls, err := c.calls("/charge", list...)
	if err != nil {
		return "", "", err
	}
	longest := time.Duration(0)
	for _, call := range calls {
		longest = max(longest, since(asked[call.Order], call.At))
	}
	left, err := c.store.QueueInfo(ctx, c.queue)
	observed := fmt.Sprintf("behind %d orders of one tenant, the other's %d started within %v and %d completed; %d are still queued",
		noise, len(calls), longest, completed, left.Pending)
	return observed, fmt.Sprintf("ledger: %d calls of /charge for the other tenant's orders", len(calls)), errors.Join(err, must(map[string]bool{
		"each order starts once":               len(calls) == len(list),
		"each completes":                       completed == len(list),
		"the noisy tenant's orders are queued": left.Pending > noise/10,
		"no job of theirs is taken for paused": left.Parked == 0 && left.Retrying == 0,
	}), inTime(map[string]bool{
		"they start promptly": longest < promptly,
	}))
}
