package drill

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// ownOrder is the example's order as a kind of the drill's queue alone, all of whose
// kinds so need payments. Workers run it that are told the queue.
var ownOrder = jobs.Define[orders.Order, orders.Shipment]("drill.order", jobs.Queue("orders"))

const queueVariable = "DRILL_QUEUE"

// ownOrders returns the handler of ownOrder: the example's, by another name.
func ownOrders() []jobs.Handler {
	queue := os.Getenv(queueVariable)
	if queue == "" {
		return nil
	}
	h := orders.ServicesFromEnv().Handler()
	h.Definition.Name, h.Definition.Queue, h.Definition.Dependencies = ownOrder.Definition().Name, queue, nil
	return []jobs.Handler{h}
}

// payments is the service under its name as a dependency of the crew's workers.
func (c *crew) payments() string { return orders.Services{Prefix: c.queue}.DependencyName("payments") }

// newOrders are n orders that no other scenario has had.
func (s *stage) newOrders(n int) []orders.Order {
	list := make([]orders.Order, n)
	for i := range list {
		list[i] = s.orders[i%len(s.orders)]
		s.made++
		list[i].ID = fmt.Sprintf("order:%d", 1_000_000+s.made)
	}
	return list
}

// takeAway makes payments refuse every connection, and returns since when.
func (c *crew) takeAway(ctx context.Context) (time.Time, error) {
	gone := time.Now()
	return gone, orders.SetFault(ctx, c.services.URL("payments"), orders.Fault{Mode: "refuse"})
}

// bringBack ends that, and returns when it had.
func (c *crew) bringBack(ctx context.Context) (time.Time, error) {
	err := orders.ClearFaults(ctx, c.services.URL("payments"))
	return time.Now(), err
}

// charges are the times of what payments has written down since a moment.
func (c *crew) charges(event string, since time.Time) ([]time.Time, error) {
	entries, err := orders.ReadLedger(c.services.Ledger("payments"))
	var times []time.Time
	for _, e := range entries {
		if e.Event == event && e.Path == "/charge" && e.At.After(since) {
			times = append(times, e.At)
		}
	}
	return times, err
}

// awaitCharges waits until there are n of them.
func (c *crew) awaitCharges(ctx context.Context, n int, event string, since time.Time) (times []time.Time, err error) {
	err = await(ctx, fmt.Sprintf("%d entries %s of payments", n, event), func() (bool, error) {
		times, err = c.charges(event, since)
		return len(times) >= n, err
	})
	return times, err
}

// holding waits until every worker of the crew knows that payments is gone, and returns
// when that was.
func (c *crew) holding(ctx context.Context) (time.Time, error) {
	err := await(ctx, "all workers hold calls of payments", func() (bool, error) {
		for _, w := range c.workers {
			if state, err := w.metric(ctx, "perdure_dependency_state", fmt.Sprintf("dependency=%q", c.payments())); err != nil || state != 2 {
				return false, err
			}
		}
		return true, nil
	})
	return time.Now(), err
}

// dependency is what is known of payments; nothing, when it is not known at all.
func (c *crew) dependency(ctx context.Context) (delivery.DependencyInfo, error) {
	info, err := c.store.Dependency(ctx, c.payments())
	if errors.Is(err, jobs.ErrNotFound) {
		err = nil
	}
	return info, err
}

// awaitPaused waits until so many jobs wait for payments.
func (c *crew) awaitPaused(ctx context.Context, n int) error {
	return await(ctx, fmt.Sprintf("%d jobs wait for payments", n), func() (bool, error) {
		info, err := c.dependency(ctx)
		return info.Waiting >= int64(n), err
	})
}

// until waits for a moment.
func until(ctx context.Context, at time.Time) error {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

const (
	holdsWithin   = 2 * time.Second // from the first call that is refused
	resumesWithin = 3 * time.Second // from when the service is back
	paymentsGone  = 20 * time.Second
)

// strayed counts the times after a moment.
func strayed(times []time.Time, after time.Time) (n int) {
	for _, at := range times {
		if at.After(after) {
			n++
		}
	}
	return n
}

func serviceUnavailable(ctx context.Context, c *crew) (string, string, error) {
	c.variables = append(slices.Clip(c.variables), queueVariable+"="+c.queue)
	defer func() { c.variables = c.variables[:len(c.variables)-1] }()
	for range 3 {
		if _, err := c.hire(ctx); err != nil {
			return "", "", err
		}
	}
	c.orderOf = func(o orders.Order) jobs.Job { return ownOrder.New(o.ID, o, jobs.Queue(c.queue)) }
	var l load
	began, over, traffic := time.Now(), make(chan struct{}), make(chan error, 1)
	list := c.newOrders(500)
	go func() { traffic <- l.flow(ctx, c, list, 100*time.Millisecond, over) }()
	o, err := c.outage(ctx)
	close(over)
	if err = errors.Join(err, <-traffic); err != nil {
		return "", "", err
	}
	total, err := l.end(ctx, c)
	if err != nil {
		return total.String(), "", err
	}
	info, err := c.dependency(ctx)
	calls, callsErr := c.charges("received", began)
	probes := strayed(o.refused, o.held)
	observed := fmt.Sprintf("payments gone for %v: the fleet held %v after the first refused call, the queue was paused whole with %d orders waiting and %d jobs running, the first order resumed %v after it was back; %s",
		since(o.gone, o.back), since(o.refused[0], o.held), o.waiting, o.running, since(o.back, o.resumed), total)
	evidence := fmt.Sprintf("payments' ledger: %d calls refused until the fleet held, %d in the %v after that; %d calls for %d orders in all; %s",
		len(o.refused)-probes, probes, since(o.held, o.back), len(calls), total.jobs, total.ledgers())
	return observed, evidence, errors.Join(err, callsErr, total.once(), must(map[string]bool{
		"few calls are refused until then":      len(o.refused)-probes <= 50,
		"after that at most a probe a second":   probes <= int(o.back.Sub(o.held)/time.Second)+1,
		"the queue is paused whole":             o.whole,
		"no job runs but a probe":               o.running <= 1,
		"the breaker opens once":                info.Turn == 1,
		"the orders of the outage have to wait": o.waiting > 100,
	}), inTime(map[string]bool{
		"the fleet holds within 2 s":      o.held.Sub(o.refused[0]) <= holdsWithin,
		"it resumes by itself within 3 s": o.resumed.Sub(o.back) <= resumesWithin,
	}))
}

// outage is what was seen of one.
type outage struct {
	gone, held, back, resumed time.Time
	refused                   []time.Time // calls of payments
	whole                     bool        // its queue was paused for it
	waiting, running          int64       // at the end of it
}

// outage takes payments away under load and brings it back.
func (c *crew) outage(ctx context.Context) (o outage, err error) {
	if _, err = c.awaitCharges(ctx, 10, "effect", time.Now()); err != nil {
		return o, err
	}
	if o.gone, err = c.takeAway(ctx); err != nil {
		return o, err
	}
	if o.held, err = c.holding(ctx); err != nil {
		return o, err
	}
	err = await(ctx, "the queue is paused whole", func() (bool, error) {
		q, err := c.store.QueueInfo(ctx, c.queue)
		_, o.whole = q.Reasons["dependency:"+c.payments()]
		return o.whole, err
	})
	if err = errors.Join(err, until(ctx, o.gone.Add(paymentsGone))); err != nil {
		return o, err
	}
	info, err := c.dependency(ctx)
	q, queueErr := c.store.QueueInfo(ctx, c.queue)
	if err = errors.Join(err, queueErr); err != nil {
		return o, err
	}
	o.waiting, o.running = info.Waiting+q.Pending, q.Running
	if o.refused, err = c.awaitCharges(ctx, 1, "fault:refuse", o.gone); err != nil {
		return o, err
	}
	if o.back, err = c.bringBack(ctx); err != nil {
		return o, err
	}
	first, err := c.awaitCharges(ctx, 1, "effect", o.back)
	if err == nil {
		o.resumed = first[0]
	}
	return o, err
}

// away enqueues orders while payments is away, and returns once the fleet holds and they
// wait, all but one that may be finding out.
func (c *crew) away(ctx context.Context, l *load, list []orders.Order) (gone time.Time, err error) {
	if gone, err = c.takeAway(ctx); err != nil {
		return gone, err
	}
	for _, o := range list {
		if err := l.add(ctx, c, o); err != nil {
			return gone, err
		}
	}
	if _, err = c.holding(ctx); err != nil {
		return gone, err
	}
	return gone, c.awaitPaused(ctx, len(list)-1)
}

func recoveryRamp(ctx context.Context, c *crew) (string, string, error) {
	var l load
	list := c.newOrders(300)
	if _, err := c.away(ctx, &l, list); err != nil {
		return "", "", err
	}
	back, err := c.bringBack(ctx)
	if err != nil {
		return "", "", err
	}
	total, err := l.end(ctx, c)
	if err != nil {
		return total.String(), "", err
	}
	info, err := c.dependency(ctx)
	calls, callsErr := c.charges("effect", back)
	if err = errors.Join(err, callsErr); err != nil || len(calls) == 0 {
		return total.String(), "", errors.Join(err, must(map[string]bool{"orders are charged": len(calls) > 0}))
	}
	seconds, one := windows(calls, info.Resume, time.Second)
	_, three := windows(calls, info.Resume, 3*time.Second)
	observed := fmt.Sprintf("%d orders waited; the first came back %v after payments did, the last %v after that, with up to %g a second; %s",
		len(list), since(back, calls[0]), since(calls[0], calls[len(calls)-1]), info.Resume, total)
	evidence := fmt.Sprintf("payments' ledger, second by second: %v; the worst second of any has %.2f of what the ramp allows, the worst three %.2f; %s", seconds, one, three, total.ledgers())
	return observed, evidence, errors.Join(total.once(), must(map[string]bool{
		"the breaker opens once": info.Turn == 1,
	}), inTime(map[string]bool{
		"it resumes by itself within 3 s":                       calls[0].Sub(back) <= resumesWithin,
		"no second, and no three, see more than 1.1 x the ramp": one <= 1 && three <= 1,
		"they come back as fast as they may":                    calls[len(calls)-1].Sub(calls[0]) < 20*time.Second,
	}))
}

// windows counts calls in each second from the first one, and compares every window of a
// width that begins with a call with what a ramp allows there: 1.1 times the rate, and
// one. The first call is the probe; the ramp begins when it has found the service well.
func windows(calls []time.Time, resume float64, width time.Duration) (seconds []int, worst float64) {
	slices.SortFunc(calls, time.Time.Compare)
	probe, calls := calls[0], calls[1:]
	seconds = append(seconds, 1)
	for i, at := range calls {
		n := int(at.Sub(probe) / time.Second)
		for len(seconds) <= n {
			seconds = append(seconds, 0)
		}
		seconds[n]++
		end := i
		for end < len(calls) && calls[end].Before(at.Add(width)) {
			end++
		}
		allowed := 1.1*(ramped(at.Add(width).Sub(probe), resume)-ramped(at.Sub(probe), resume)) + 1
		worst = max(worst, float64(end-i)/allowed)
	}
	return seconds, worst
}

// ramped is how many may have begun so long after the beginning of a ramp: 1 in the first
// second, twice as many in each that follows, at most the rate.
func ramped(after time.Duration, resume float64) (sum float64) {
	for n := 0; after > 0; n, after = n+1, after-time.Second {
		sum += min(resume, math.Exp2(float64(n))) * min(after, time.Second).Seconds()
	}
	return sum
}

func relapse(ctx context.Context, c *crew) (string, string, error) {
	var l load
	list := c.newOrders(200)
	if _, err := c.away(ctx, &l, list); err != nil {
		return "", "", err
	}
	back, err := c.bringBack(ctx)
	if err != nil {
		return "", "", err
	}
	if _, err := c.awaitCharges(ctx, len(list)/5, "effect", back); err != nil {
		return "", "", err
	}
	gone, err := c.takeAway(ctx)
	if err != nil {
		return "", "", err
	}
	held, err := c.holding(ctx)
	if err != nil {
		return "", "", err
	}
	charged, err := c.charges("effect", back)
	if err != nil {
		return "", "", err
	}
	err = errors.Join(c.awaitPaused(ctx, len(list)-len(charged)-1), until(ctx, held.Add(4*time.Second)))
	if err != nil {
		return "", "", err
	}
	info, err := c.dependency(ctx)
	refused, refusedErr := c.charges("fault:refuse", gone)
	if err = errors.Join(err, refusedErr); err != nil || len(refused) == 0 {
		return "", "", errors.Join(err, must(map[string]bool{"calls are refused again": len(refused) > 0}))
	}
	again, err := c.bringBack(ctx)
	if err != nil {
		return "", "", err
	}
	total, err := l.end(ctx, c)
	resumed, resumedErr := c.charges("effect", again)
	if err = errors.Join(err, resumedErr); err != nil || len(resumed) == 0 {
		return total.String(), "", errors.Join(err, must(map[string]bool{"it resumes": len(resumed) > 0}))
	}
	probes := strayed(refused, held)
	observed := fmt.Sprintf("payments went away again with %d of %d orders charged: the fleet held %v after the first refused call, and %d waited; the first came back %v after payments did; %s",
		len(charged), len(list), since(refused[0], held), info.Waiting, since(again, resumed[0]), total)
	evidence := fmt.Sprintf("payments' ledger: %d calls refused until the fleet held, %d in the %v after that; opened %d times; %s",
		len(refused)-probes, probes, since(held, again), info.Turn, total.ledgers())
	return observed, evidence, errors.Join(total.once(), must(map[string]bool{
		"after that at most a probe a second": probes <= int(again.Sub(held)/time.Second)+1,
		"the rest stays paused":               info.State == jobs.DependencyOpen && info.Waiting >= int64(len(list)-len(charged)-1),
	}), inTime(map[string]bool{
		"the fleet holds within 2 s":      refused[0].Add(holdsWithin).After(held),
		"it resumes by itself within 3 s": resumed[0].Sub(again) <= resumesWithin,
	}))
}

// nowhere is an address that refuses connections.
const nowhere = "http://127.0.0.1:1"

func oneBadNode(ctx context.Context, c *crew) (string, string, error) {
	c.variables = append(slices.Clip(c.variables), "ORDERS_PAYMENTS_URL="+nowhere)
	bad, err := c.hire(ctx)
	c.variables = c.variables[:len(c.variables)-1]
	if err != nil {
		return "", "", err
	}
	var l load
	list := c.newOrders(200)
	if err := l.flow(ctx, c, list, 20*time.Millisecond, nil); err != nil {
		return "", "", err
	}
	total, err := l.end(ctx, c)
	if err != nil {
		return total.String(), "", err
	}
	info, err := c.dependency(ctx)
	failed, failedErr := bad.metric(ctx, "perdure_dependency_calls_total", fmt.Sprintf("dependency=%q,ended=%q", c.payments(), "failed"))
	held, heldErr := bad.metric(ctx, "perdure_held_total", fmt.Sprintf("dependency=%q", c.payments()))
	calls, callsErr := c.calls("/charge", list...)
	callers := map[string]int{}
	for _, call := range calls {
		callers[call.Caller]++
	}
	observed := fmt.Sprintf("one of three workers cannot reach payments: it made %g calls and held back %g times, and the breaker has opened %d times; %s", failed, held, info.Turn, total)
	evidence := fmt.Sprintf("payments' ledger: orders charged by %v, none by %s; %s", callers, bad.caller(), total.ledgers())
	return observed, evidence, errors.Join(err, failedErr, heldErr, callsErr, total.once(), must(map[string]bool{
		"the breaker stays closed":         info.Turn == 0,
		"it finds out and stops calling":   failed >= 1 && failed <= 30 && held >= 1,
		"the others do its work":           len(callers) == 2 && callers[bad.caller()] == 0,
		"each order is asked for but once": len(calls) == len(l.handles),
	}))
}
