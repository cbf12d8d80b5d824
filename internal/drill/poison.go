package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/jobs"
)

// poison is a kind whose jobs end the process that they run in.
var poison = jobs.Define[int, int]("drill.poison", jobs.Queue("orders"))

// Handlers are the kinds that only drills run, besides those of the order example.
func Handlers() []jobs.Handler {
	return append(ownOrders(), poison.Do(func(context.Context, int) (int, error) {
		time.Sleep(100 * time.Millisecond)
		return 0, syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}), tick.Do(func(context.Context, int) (int, error) { return 0, nil }))
}

// poisonJob runs a job that kills workers among orders that are all under way when
// it does.
func poisonJob(ctx context.Context, c *crew) (string, string, error) {
	var l load
	slow := orders.Fault{Mode: "slow", DelayMS: 300, Path: "/reserve"}
	errs := []error{orders.SetFault(ctx, c.services.URL("warehouse"), slow), c.settle(ctx)}
	for _, o := range c.orders[2900:2930] {
		errs = append(errs, l.add(ctx, c, o))
	}
	h, err := c.store.Enqueue(ctx, poison.New("poison:1", 1, jobs.Queue(c.queue)))
	if err := errors.Join(append(errs, err)...); err != nil {
		return "", "", err
	}
	info, err := h.Wait(ctx)
	if err != nil {
		return told(info), "", err
	}
	total, err := l.end(ctx, c)
	if err != nil {
		return told(info), "", err
	}
	entry, err := c.store.Entry(ctx, c.queue, info.Key)
	workers, processes := 0, 0
	for _, f := range info.Failures {
		switch f.Rule {
		case "owner silent":
			workers++
		case "isolated process ended":
			processes++
		}
	}
	died := c.bury(ctx)
	observed := fmt.Sprintf("%s; %d of %d orders beside it completed, %d attempts used", told(info), total.completed, total.jobs, total.attempts)
	evidence := fmt.Sprintf("it cost %d workers and %d isolated processes; entry: %s; ledgers: each of %d effects once, %d doubled", died, processes, entry.Reason, total.effects, total.doubled)
	return observed, evidence, errors.Join(err, must(map[string]bool{
		"the poison is quarantined":         info.State == jobs.StateQuarantined && entry.Class == jobs.ClassCrash,
		"it cost two workers":               died == 2 && workers == 2,
		"and two isolated processes":        processes == 2,
		"every other job completes":         total.completed == total.jobs,
		"no attempt was used":               total.attempts == 0 && info.Attempts == 0,
		"each effect happened, and no more": total.effects == total.wanted && total.doubled == 0,
	}))
}

// bury counts the workers that have died by themselves.
func (c *crew) bury(ctx context.Context) (died int) {
	for _, w := range c.workers {
		if _, err := w.metric(ctx, "perdure_running", ""); err != nil && !w.gone {
			w.gone = true
			_ = w.cmd.Wait() // it says only that it was killed
			died++
		}
	}
	return died
}
