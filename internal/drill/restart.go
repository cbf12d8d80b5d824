package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/perdure/perdure/examples/orders"
)

// redisDown is longer than a worker may be silent: when Redis is back, everybody
// looks dead.
const redisDown = 2 * time.Second

func redisRestart(ctx context.Context, s *stage) (string, string, error) {
	switch {
	case s.redis == nil:
		return "", "", cannotRun("would have to kill a server that is not ours")
	case !s.redis.Durable():
		return "", "", cannotRun("needs redis-server on PATH: miniredis forgets everything when it ends")
	}
	return withCrew(2, loseRedis)(ctx, s)
}

func loseRedis(ctx context.Context, c *crew) (string, string, error) {
	// With everysec a write may be held back for two seconds while the disk is slow, and
	// a kill takes it.
	if err := c.store.Redis().ConfigSet(ctx, "appendfsync", "always").Err(); err != nil {
		return "", "", fmt.Errorf("have redis sync every write: %w", err)
	}
	slow := orders.Fault{Mode: "slow", DelayMS: 100, Path: "/reserve"}
	if err := orders.SetFault(ctx, c.services.URL("warehouse"), slow); err != nil {
		return "", "", err
	}
	var l load
	batches := []orders.Batch{{First: 301, Lines: 60}, {First: 361, Lines: 60}, {First: 421, Lines: 60}}
	for _, b := range batches {
		if err := l.addBatch(ctx, c, b); err != nil {
			return "", "", err
		}
	}
	if _, err := c.awaitCalls(ctx, 5, "/reserve", c.lines(batches[2])...); err != nil {
		return "", "", err
	}
	for _, o := range c.orders[500:520] {
		if err := l.add(ctx, c, o); err != nil {
			return "", "", err
		}
	}
	at, err := c.store.QueueInfo(ctx, c.queue)
	if err != nil {
		return "", "", err
	}
	if err := c.redis.Crash(ctx, redisDown); err != nil {
		return "", "", err
	}
	back := time.Now()
	total, err := l.end(ctx, c)
	observed := fmt.Sprintf("redis-server killed while %d jobs ran and %d waited, and away for %v; %s", at.Running, at.Pending, redisDown, total)
	evidence := fmt.Sprintf("%s; all ended %v after it was back", total.ledgers(), since(back, time.Now()))
	return observed, evidence, errors.Join(err, total.kept(), must(map[string]bool{"jobs ran when it was killed": at.Running > 0}))
}

// handOver is how long a running job may stand still when its worker stops.
const handOver = 2 * time.Second

// busy is how many calls a worker makes before the next one is replaced.
const busy = 40

// replaced is a worker that was told to stop.
type replaced struct {
	caller string // as the ledgers know it
	at     time.Time
	took   time.Duration // until it had ended
}

func rollingDeploy(ctx context.Context, c *crew) (string, string, error) {
	slow := orders.Fault{Mode: "slow", DelayMS: 150, Path: "/reserve"}
	if err := orders.SetFault(ctx, c.services.URL("warehouse"), slow); err != nil {
		return "", "", err
	}
	var l load
	for _, first := range []int{601, 661, 721} {
		b := orders.Batch{First: first, Lines: 60}
		if err := l.addBatch(ctx, c, b); err != nil {
			return "", "", err
		}
		if _, err := c.awaitCalls(ctx, 1, "/reserve", c.lines(b)...); err != nil {
			return "", "", err
		}
	}
	over, traffic := make(chan struct{}), make(chan error, 1)
	go func() { traffic <- l.flow(ctx, c, c.orders[800:], 20*time.Millisecond, over) }()
	gone, err := c.replaceAll(ctx)
	close(over)
	if err = errors.Join(err, <-traffic); err != nil {
		return "", "", err
	}
	total, err := l.end(ctx, c)
	if err != nil {
		return total.String(), "", err
	}
	handed, slowest, err := l.handedOver(c, gone)
	var longest time.Duration
	for _, r := range gone {
		longest = max(longest, r.took)
	}
	observed := fmt.Sprintf("%d workers replaced, each gone within %v; %s", len(gone), longest.Round(10*time.Millisecond), total)
	evidence := fmt.Sprintf("%d running jobs handed over, the slowest ran elsewhere %v after SIGTERM; %s", handed, slowest.Round(10*time.Millisecond), total.ledgers())
	return observed, evidence, errors.Join(err, total.kept(), must(map[string]bool{
		"jobs are handed over":          handed > 0,
		"no call is made a second time": total.repeated == 0,
		"three workers are replaced":    len(gone) == 3,
	}), inTime(map[string]bool{
		"they run elsewhere within 2 s": slowest <= handOver,
	}))
}

// flow enqueues an order at each interval, until over or until there are no more.
func (l *load) flow(ctx context.Context, c *crew, list []orders.Order, interval time.Duration, over <-chan struct{}) error {
	every := time.NewTicker(interval)
	defer every.Stop()
	for _, o := range list {
		select {
		case <-over:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-every.C:
		}
		if err := l.add(ctx, c, o); err != nil {
			return err
		}
	}
	return nil
}

// replaceAll stops the workers one after the other, each as SIGTERM does, and
// starts another one in the place of each once it has been at work.
func (c *crew) replaceAll(ctx context.Context) ([]replaced, error) {
	var gone []replaced
	for _, w := range slices.Clone(c.workers) {
		if err := c.atWork(ctx, w, busy); err != nil {
			return gone, err
		}
		r := replaced{caller: w.caller(), at: time.Now()}
		if err := w.stop(); err != nil {
			return gone, err
		}
		r.took = time.Since(r.at)
		gone = append(gone, r)
		next, err := c.hire(ctx)
		if err != nil {
			return gone, err
		}
		if err := c.atWork(ctx, next, busy); err != nil {
			return gone, err
		}
	}
	return gone, nil
}

// handedOver counts how often a job went on in another process after its own was
// told to stop, and how long the slowest one took from there.
func (l *load) handedOver(c *crew, gone []replaced) (n int, slowest time.Duration, err error) {
	entries, err := c.ledger()
	if err != nil {
		return 0, 0, err
	}
	calls := map[string][]orders.Entry{} // by order
	for _, e := range entries {
		if e.Event == "received" {
			calls[e.Order] = append(calls[e.Order], e)
		}
	}
	for _, work := range l.works {
		var made []orders.Entry
		for _, o := range work {
			made = append(made, calls[o.ID]...)
		}
		slices.SortFunc(made, func(a, b orders.Entry) int { return a.At.Compare(b.At) })
		for i := 1; i < len(made); i++ {
			if made[i].Caller == made[i-1].Caller {
				continue
			}
			for _, r := range gone {
				if r.caller == made[i-1].Caller {
					n, slowest = n+1, max(slowest, made[i].At.Sub(r.at))
				}
			}
		}
	}
	return n, slowest, nil
}
