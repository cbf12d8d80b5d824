package drill

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/jobs"
)

// soon is "within seconds". It takes two on a machine that is not busy; `make
// crash` measures it.
const soon = 10 * time.Second

func since(from, to time.Time) time.Duration { return to.Sub(from).Round(10 * time.Millisecond) }

func workerCrash(ctx context.Context, c *crew) (string, string, error) {
	o := c.orders[5]
	slow := orders.Fault{Mode: "slow", DelayMS: 1500, Count: 1, Path: "/reserve", Match: o.ID}
	if err := errors.Join(orders.SetFault(ctx, c.services.URL("warehouse"), slow), c.settle(ctx)); err != nil {
		return "", "", err
	}
	h, err := c.enqueue(ctx, o)
	if err != nil {
		return "", "", err
	}
	first, err := c.awaitCalls(ctx, 1, "/reserve", o)
	if err != nil {
		return "", "", err
	}
	victim, err := c.by(first[0])
	if err != nil {
		return "", "", err
	}
	killed, err := victim.kill()
	if err != nil {
		return "", "", err
	}
	info, err := h.Wait(ctx)
	if err != nil {
		return told(info), "", err
	}
	calls, err := c.calls("/reserve", o)
	if err != nil || len(calls) < 2 {
		return told(info), "", errors.Join(err, must(map[string]bool{"the step runs again": len(calls) > 1}))
	}
	t, err := c.tally(o.ID)
	took := since(killed, calls[1].At)
	observed := fmt.Sprintf("running elsewhere %v after kill -9; %s, %d crash counted", took, told(info), info.Crashes)
	evidence := fmt.Sprintf("step 3 was called by %s and then by %s; %s", calls[0].Caller, calls[1].Caller, t)
	return observed, evidence, errors.Join(err, t.once(), must(map[string]bool{
		"the job completes":           info.State == jobs.StateCompleted,
		"no attempt was used":         info.Attempts == 0,
		"one crash is counted":        info.Crashes == 1,
		"another process runs it":     calls[0].Caller != calls[1].Caller,
		"the step before it ran once": t.received["/charge"] == 1,
		"the step cut off ran twice":  t.received["/reserve"] == 2,
		"the steps after it ran once": t.received["/label"] == 1 && t.received["/send"] == 1,
	}), inTime(map[string]bool{
		"it runs elsewhere within seconds": took < soon,
	}))
}

func heartbeatResume(ctx context.Context, c *crew) (string, string, error) {
	b := orders.Batch{First: 101, Lines: 60}
	list := c.lines(b)
	slow := orders.Fault{Mode: "slow", DelayMS: 50, Path: "/reserve"}
	if err := errors.Join(orders.SetFault(ctx, c.services.URL("warehouse"), slow), c.settle(ctx)); err != nil {
		return "", "", err
	}
	h, err := c.batch(ctx, b)
	if err != nil {
		return "", "", err
	}
	before, err := c.awaitCalls(ctx, b.Lines/3, "/reserve", list...)
	if err != nil {
		return "", "", err
	}
	victim, err := c.by(before[0])
	if err != nil {
		return "", "", err
	}
	if _, err := victim.kill(); err != nil {
		return "", "", err
	}
	info, err := h.Wait(ctx)
	if err != nil {
		return told(info), "", err
	}
	calls, err := c.calls("/reserve", list...)
	if err != nil {
		return told(info), "", err
	}
	last, next := switched(calls)
	effects, doubled, err := c.effects("/reserve", list)
	observed := fmt.Sprintf("killed in line %d of %d, went on at line %d; %s", position(list, last), b.Lines, position(list, next), told(info))
	evidence := fmt.Sprintf("ledger: %d lines, %d calls, %d effects; by %s and then by %s", b.Lines, len(calls), effects, last.Caller, next.Caller)
	return observed, evidence, errors.Join(err, must(map[string]bool{
		"the job completes":                    info.State == jobs.StateCompleted,
		"no attempt was used":                  info.Attempts == 0,
		"one crash is counted":                 info.Crashes == 1,
		"another process went on":              next.Caller != "",
		"it went on where the first one was":   position(list, next)-position(list, last) == 0 || position(list, next)-position(list, last) == 1,
		"at most the line under way is redone": len(calls) <= b.Lines+1,
		"each line took effect once":           effects == b.Lines && doubled == 0,
	}))
}

// switched returns the last call of the process that called first, and the first
// call of another one.
func switched(calls []orders.Entry) (last, next orders.Entry) {
	for _, e := range calls {
		if e.Caller != calls[0].Caller {
			return last, e
		}
		last = e
	}
	return last, next
}

// position is where in a list a call's order is, from 1; 0: nowhere.
func position(list []orders.Order, e orders.Entry) int {
	for i, o := range list {
		if o.ID == e.Order {
			return i + 1
		}
	}
	return 0
}

// effects counts what a service did for some orders, and for how many of them it
// did so more than once.
func (s *stage) effects(path string, list []orders.Order) (effects, doubled int, err error) {
	entries, err := s.ledger()
	counts := map[string]int{}
	for _, e := range entries {
		if e.Event == "effect" && e.Path == path {
			counts[e.Order]++
		}
	}
	for _, o := range list {
		effects += counts[o.ID]
		if counts[o.ID] > 1 {
			doubled++
		}
	}
	return effects, doubled, err
}

// staleWorker stops a worker in a call that would hang for 30 s, so that only the
// end of its context can end it.
func staleWorker(ctx context.Context, c *crew) (string, string, error) {
	b := orders.Batch{First: 201, Lines: 10}
	list := c.lines(b)
	hang := orders.Fault{Mode: "hang", Count: 1, Path: "/reserve", Match: list[4].ID}
	if err := errors.Join(orders.SetFault(ctx, c.services.URL("warehouse"), hang), c.settle(ctx)); err != nil {
		return "", "", err
	}
	h, err := c.batch(ctx, b)
	if err != nil {
		return "", "", err
	}
	first, err := c.awaitCalls(ctx, 1, "/reserve", list[4])
	if err != nil {
		return "", "", err
	}
	stale, err := c.by(first[0])
	if err != nil {
		return "", "", err
	}
	stopped, err := stale.signal(syscall.SIGSTOP)
	if err != nil {
		return "", "", err
	}
	info, err := h.Wait(ctx)
	if err != nil {
		return told(info), "", err
	}
	away := since(stopped, time.Now())
	calls, err := c.calls("/reserve", list...)
	if err != nil {
		return told(info), "", err
	}
	awake, err := stale.signal(syscall.SIGCONT)
	if err != nil {
		return told(info), "", err
	}
	return c.refused(ctx, stale, awake, info, fmt.Sprintf("stood still for %v, in which the job ended elsewhere", away), calls, list)
}

// refused sees a stale worker find out, and that nothing has come of it.
func (c *crew) refused(ctx context.Context, stale *hand, awake time.Time, before jobs.Info, observed string, calls []orders.Entry, list []orders.Order) (string, string, error) {
	var verdicts, writes, running float64
	var after jobs.Info
	err := await(ctx, "the stale worker's verdict is refused, and its crash taken back", func() (bool, error) {
		var err [4]error
		verdicts, err[0] = stale.metric(ctx, "perdure_jobs_total", `outcome="stale"`)
		writes, err[1] = stale.metric(ctx, "perdure_stale_writes_total", "")
		running, err[2] = stale.metric(ctx, "perdure_running", "")
		after, err[3] = c.store.Get(ctx, c.queue, before.Key)
		return verdicts >= 1 && running == 0 && after.Crashes == 0, errors.Join(err[:]...)
	})
	took := since(awake, time.Now())
	if err != nil {
		return observed, fmt.Sprintf("%g stale verdicts, %g jobs still running, %d crashes", verdicts, running, after.Crashes), err
	}
	later, err := c.calls("/reserve", list...)
	if err != nil {
		return observed, "", err
	}
	effects, doubled, err := c.effects("/reserve", list)
	last, next := switched(later)
	observed += fmt.Sprintf("; awake, its call was ended after %v and its verdict refused; %s", took, told(after))
	evidence := fmt.Sprintf("its metrics: %g stale writes, %g stale verdict; the job: %d crash counted meanwhile, %d now; ledger: %d lines, %d effects, by %s and then by %s",
		writes, verdicts, before.Crashes, after.Crashes, len(list), effects, last.Caller, next.Caller)
	return observed, evidence, errors.Join(err, must(map[string]bool{
		"the job completed elsewhere":            before.State == jobs.StateCompleted && before.Runs == 2 && next.Caller != "",
		"the result is that of the other worker": after.State == jobs.StateCompleted && string(after.Result) == string(before.Result),
		"no attempt was used":                    after.Attempts == 0,
		"it calls nothing any more":              len(later) == len(calls),
		"each line took effect once":             effects == len(list) && doubled == 0,
	}), inTime(map[string]bool{
		"its call was ended": took < soon,
	}))
}
