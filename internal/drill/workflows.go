package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/jobs"
)

// deliveryOf is a job that sees an order to its customer, within a time.
func deliveryOf(queue string, o orders.Order, within time.Duration) jobs.Job {
	return orders.Deliver.New("deliver:"+o.ID, orders.Delivery{Order: o, Within: jobs.Span(within)}, jobs.Queue(queue))
}

// give sends a signal of the drill's to a delivery.
func (s *stage) give(ctx context.Context, o orders.Order, name string, value any) error {
	signal, err := orders.Deliver.Signal(name, value)
	if err != nil {
		return err
	}
	return s.store.Signal(ctx, s.queue, "deliver:"+o.ID, signal)
}

// deliver enqueues a delivery whose customer signs for it at once, and waits for its
// end.
func (s *stage) deliver(ctx context.Context, o orders.Order) (jobs.Info, error) {
	h, err := s.store.Enqueue(ctx, deliveryOf(s.queue, o, time.Hour))
	if err == nil {
		err = s.give(ctx, o, "delivered", o.Customer)
	}
	if err != nil {
		return jobs.Info{}, err
	}
	return h.Wait(ctx)
}

// effectsOf counts what services have done for an order, by path, and lists it.
func (s *stage) effectsOf(o orders.Order) (effects map[string]int, text string, err error) {
	t, err := s.tally(o.ID)
	for _, path := range slices.Sorted(maps.Keys(t.effects)) {
		text += fmt.Sprintf(" %s %d", path, t.effects[path])
	}
	return t.effects, "effects:" + text, err
}

// paused waits until a job is parked for something.
func paused(ctx context.Context, s *stage, queue, key, name string) (info jobs.Info, err error) {
	err = await(ctx, key+" waits for "+name, func() (bool, error) {
		info, err = s.store.Get(ctx, queue, key)
		return info.State == jobs.StatePaused && info.WaitingOn != nil && info.WaitingOn.Name == name, err
	})
	return info, err
}

func parallelPartialFailure(ctx context.Context, s *stage) (string, string, error) {
	o := s.orders[2500]
	if err := orders.SetFault(ctx, s.services.URL("warehouse"), orders.Fault{Mode: "500", Count: 2, Path: "/label", Match: o.ID}); err != nil {
		return "", "", err
	}
	info, err := s.deliver(ctx, o)
	if err != nil {
		return told(info), "", err
	}
	t, err := s.tally(o.ID)
	_, text, effectsErr := s.effectsOf(o)
	evidence := fmt.Sprintf("ledgers: the label was asked for %d times, the invoice beside it %d times; %s", t.received["/label"], t.received["/invoice"], text)
	return told(info), evidence, errors.Join(err, effectsErr, must(map[string]bool{
		"the job completes":             info.State == jobs.StateCompleted,
		"two attempts were used":        info.Attempts == 2,
		"the invoice is not repeated":   t.received["/invoice"] == 1 && t.effects["/invoice"] == 1,
		"the label is":                  t.received["/label"] == 3 && t.effects["/label"] == 1,
		"what was before is not either": t.received["/charge"] == 1 && t.received["/reserve"] == 1,
		"nothing is taken back":         t.effects["/refund"]+t.effects["/release"] == 0,
	}))
}

// large is an order that somebody has to approve of.
func large(o orders.Order) orders.Order {
	o.Items = []orders.Item{{SKU: "PIANO-001", Name: "Grand piano", Quantity: 1, PriceCents: orders.ApproveAbove + 1}}
	o.TotalCents = orders.ApproveAbove + 1
	return o
}

func approval(ctx context.Context, s *stage) (string, string, error) {
	yes, no := large(s.orders[2501]), large(s.orders[2502])
	ended := map[string]jobs.Info{}
	for _, o := range []orders.Order{yes, no} {
		job := deliveryOf(s.queue, o, time.Hour)
		if _, err := s.store.Enqueue(ctx, job); err != nil {
			return "", "", err
		}
		if _, err := paused(ctx, s, s.queue, job.Key, "amount"); err != nil {
			return "", "", err
		}
	}
	running, err := s.worker.metric(ctx, "perdure_running", "")
	early, effectsErr := s.calls("/charge", yes, no)
	if err := errors.Join(err, effectsErr); err != nil {
		return "", "", err
	}
	for o, approved := range map[string]bool{yes.ID: true, no.ID: false} {
		signal, err := jobs.Approve("amount", approved, jobs.Decision{Actor: "ada", Reason: "her word on " + o})
		if err == nil {
			err = s.store.Signal(ctx, s.queue, "deliver:"+o, signal)
		}
		if err == nil && approved {
			err = s.give(ctx, yes, "delivered", yes.Customer)
		}
		if err == nil {
			ended[o], err = s.store.Wait(ctx, s.queue, "deliver:"+o)
		}
		if err != nil {
			return "", "", err
		}
	}
	effects, text, err := s.effectsOf(yes)
	denied, deniedText, deniedErr := s.effectsOf(no)
	observed := fmt.Sprintf("both waited, with %v jobs running; approved: %s; denied: %s", running, told(ended[yes.ID]), told(ended[no.ID]))
	return observed, "approved, " + text + "; denied, " + deniedText + " none", errors.Join(err, deniedErr, must(map[string]bool{
		"nobody is charged before":                      len(early) == 0,
		"those that wait use a slot":                    running == 0,
		"the approved one completes":                    ended[yes.ID].State == jobs.StateCompleted && effects["/charge"] == 1,
		"the denied one is cancelled, and does nothing": ended[no.ID].State == jobs.StateCancelled && len(denied) == 0,
		"no attempt was used":                           ended[yes.ID].Attempts+ended[no.ID].Attempts == 0,
	}))
}

func compensation(ctx context.Context, s *stage) (string, string, error) {
	o := s.orders[2503]
	if err := orders.SetFault(ctx, s.services.URL("warehouse"), orders.Fault{Mode: "4xx", Path: "/label", Match: o.ID}); err != nil {
		return "", "", err
	}
	info, err := s.deliver(ctx, o)
	if err != nil || info.State != jobs.StateQuarantined || info.Undo == nil {
		return told(info), "", errors.Join(err, errors.New("broken: a delivery without a label is undone and quarantined"))
	}
	before, _, err := s.effectsOf(o)
	release, releaseErr := s.calls("/release", o)
	refund, refundErr := s.calls("/refund", o)
	if err := errors.Join(err, releaseErr, refundErr, orders.ClearFaults(ctx, s.services.URL("warehouse"))); err != nil {
		return "", "", err
	}
	if _, err := s.store.Replay(ctx, s.queue, info.Key, false, byDrill); err != nil {
		return "", "", err
	}
	again, err := s.store.Wait(ctx, s.queue, info.Key)
	if err != nil {
		return told(again), "", err
	}
	after, text, err := s.effectsOf(o)
	observed := fmt.Sprintf("%s, undone: %s; mended and replayed: %s", told(info), strings.Join(info.Undo.Undone, ", "), again.State)
	return observed, "ledgers at the end: " + text, errors.Join(err, must(map[string]bool{
		"both are undone once":               len(info.Undo.Left) == 0 && before["/refund"] == 1 && before["/release"] == 1,
		"the last one first":                 len(release) == 1 && len(refund) == 1 && release[0].At.Before(refund[0].At),
		"replayed, it completes":             again.State == jobs.StateCompleted,
		"what was undone is done anew, once": after["/charge"] == 2 && after["/reserve"] == 2 && after["/refund"] == 1 && after["/release"] == 1,
		"what was not is not repeated":       after["/invoice"] == 1 && after["/label"] == 1 && after["/send"] == 1,
	}))
}

// timer is how long the carrier of durableSleep may take.
const timer = 6 * time.Second

func durableSleep(ctx context.Context, c *crew) (string, string, error) {
	o := c.orders[2504]
	job := deliveryOf(c.queue, o, timer)
	h, err := c.store.Enqueue(ctx, job)
	if err != nil {
		return "", "", err
	}
	waiting, err := paused(ctx, c.stage, c.queue, job.Key, "delivered")
	if err != nil {
		return "", "", err
	}
	for _, w := range c.workers {
		if _, err := w.kill(); err != nil {
			return "", "", err
		}
	}
	if _, err := c.hire(ctx); err != nil {
		return "", "", err
	}
	info, err := h.Wait(ctx)
	if err != nil {
		return told(info), "", err
	}
	var late time.Duration
	for _, step := range info.Steps {
		if step.Name == "delivered" {
			late = step.Ended.Sub(waiting.WaitingOn.Until)
		}
	}
	effects, text, err := c.effectsOf(o)
	observed := fmt.Sprintf("its workers were killed while it waited; the timer of %v ended %v late in another one; %s", timer, late, told(info))
	return observed, text, errors.Join(err, must(map[string]bool{
		"not delivered, it is quarantined": info.State == jobs.StateQuarantined,
		"the timer does not end early":     late >= 0,
		"no crash is counted":              info.Crashes == 0,
		"nothing is repeated":              effects["/charge"] == 1 && effects["/send"] == 1,
		"the customer is refunded":         effects["/refund"] == 1 && effects["/release"] == 1,
	}), inTime(map[string]bool{
		"the timer ends in time": late < time.Second,
	}))
}

func fanOut(ctx context.Context, c *crew) (string, string, error) {
	b := orders.Batch{First: 2511, Lines: 80}
	list := c.lines(b)
	slow := orders.Fault{Mode: "slow", DelayMS: 200, Path: "/reserve"}
	if err := errors.Join(orders.SetFault(ctx, c.services.URL("warehouse"), slow), c.settle(ctx)); err != nil {
		return "", "", err
	}
	h, err := c.store.Enqueue(ctx, orders.Dispatch.New("dispatch:1", b, jobs.Queue(c.queue)))
	if err != nil {
		return "", "", err
	}
	if _, err := c.awaitCalls(ctx, b.Lines/4, "/reserve", list...); err != nil {
		return "", "", err
	}
	if _, err := c.workers[0].kill(); err != nil {
		return "", "", err
	}
	info, err := h.Wait(ctx)
	if err != nil {
		return told(info), "", err
	}
	total, doubled := 0, 0
	for _, path := range []string{"/charge", "/reserve", "/label", "/send"} {
		n, again, err := c.effects(path, list)
		if err != nil {
			return told(info), "", err
		}
		total, doubled = total+n, doubled+again
	}
	result, err := orders.Dispatch.Result(info)
	observed := fmt.Sprintf("%d children, a worker killed among them; the parent: %s, woken %d times", result.Lines, told(info), info.Runs-info.Crashes-1)
	evidence := fmt.Sprintf("ledgers: %d effects of %d orders, %d doubled", total, b.Lines, doubled)
	return observed, evidence, errors.Join(err, must(map[string]bool{
		"the parent completes":            info.State == jobs.StateCompleted && result.Lines == b.Lines,
		"it is woken once":                info.Runs-info.Crashes <= 2,
		"each child does each thing once": total == 4*b.Lines && doubled == 0,
	}))
}
