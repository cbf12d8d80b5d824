package drill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// tick is a kind whose jobs are done at once.
var tick = jobs.Define[int, int]("drill.tick", jobs.Queue("orders"))

var byDrill = jobs.Decision{Actor: "drill", Reason: "a scenario of perdure drill"}

// cronTime is how long ticks of a second are watched.
const cronTime = 20 * time.Second

// cronHA has three schedulers carry out ticks of a second, and kills one every two
// seconds, at any moment of a tick.
func cronHA(ctx context.Context, c *crew) (string, string, error) {
	name := c.queue
	table := jobs.Timetable{Name: name, When: "@every 1s", Kind: tick.Definition().Name, Queue: c.queue, Payload: []byte("1"), CatchUp: &jobs.CatchUp{Most: 100}}
	if _, err := c.store.DefineSchedule(ctx, table, delivery.FromAPI, time.Time{}, byDrill); err != nil {
		return "", "", err
	}
	began, err := c.store.Schedule(ctx, name)
	if err != nil {
		return "", "", err
	}
	killed, err := c.killInTurn(ctx, cronTime, 2*time.Second+137*time.Millisecond)
	if err != nil {
		return "", "", err
	}
	ended, err := c.endSchedule(ctx, name)
	if err != nil {
		return "", "", err
	}
	fired, doubled, missing, err := c.instants(ctx, name, began.Last, ended.Last)
	observed := fmt.Sprintf("%d ticks of a second: %d fired, %d missing, %d more than once; %d schedulers killed", fired+missing, fired, missing, doubled, killed)
	evidence := fmt.Sprintf("on record: %d fired, %d skipped; a job for each instant from %s to %s", ended.Fired, ended.Left,
		began.Last.Add(time.Second).Format("15:04:05"), ended.Last.Format("15:04:05"))
	return observed, evidence, errors.Join(err, must(map[string]bool{
		"ticks went on all the time": fired >= int(cronTime/time.Second)-2,
		"every tick fired":           missing == 0 && ended.Left == 0,
		"none fired twice":           doubled == 0 && int(ended.Fired) == fired,
		"schedulers were killed":     killed >= 5,
	}))
}

// killInTurn kills the longest serving worker again and again, and hires another one.
func (c *crew) killInTurn(ctx context.Context, during, every time.Duration) (killed int, err error) {
	end := time.After(during)
	next := time.NewTicker(every)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return killed, context.Cause(ctx)
		case <-end:
			return killed, nil
		case <-next.C:
		}
		if _, err := c.workers[killed].kill(); err != nil {
			return killed, err
		}
		killed++
		if _, err := c.hire(ctx); err != nil {
			return killed, err
		}
	}
}

// endSchedule pauses a schedule, waits until no tick is under way, removes it, and
// returns it as it was.
func (s *stage) endSchedule(ctx context.Context, name string) (ended delivery.Scheduled, err error) {
	if err := s.store.PauseSchedule(ctx, name, time.Time{}, byDrill); err != nil {
		return ended, err
	}
	err = await(ctx, "the last tick", func() (bool, error) {
		ended, err = s.store.Schedule(ctx, name)
		return ended.Open == nil, err
	})
	return ended, errors.Join(err, s.store.RemoveSchedule(ctx, name, time.Time{}, byDrill))
}

// instants counts the jobs of a schedule's seconds.
func (c *crew) instants(ctx context.Context, name string, after, until time.Time) (fired, doubled, missing int, err error) {
	keys := map[string]int{}
	q := jobs.Query{Queue: c.queue, Limit: 500}
	for more := true; more; more = q.Cursor != "" {
		page, err := c.store.List(ctx, q)
		if err != nil {
			return 0, 0, 0, err
		}
		for _, info := range page.Jobs {
			if strings.HasPrefix(info.Key, name+"@") {
				keys[info.Key] += max(1, info.Runs-info.Crashes)
			}
		}
		q.Cursor = page.Next
	}
	for at := after.Truncate(time.Second).Add(time.Second); !at.After(until); at = at.Add(time.Second) {
		switch n := keys[delivery.TickKey(name, at)]; {
		case n == 0:
			missing++
		case n > 1:
			doubled++
			fallthrough
		default:
			fired++
		}
	}
	return fired, doubled + len(keys) - fired, missing, nil
}

// cronReplay has a service refuse orders, mends it, and lets a schedule replay what
// is dead.
func cronReplay(ctx context.Context, s *stage) (string, string, error) {
	list := s.orders[10:13]
	fault := orders.Fault{Mode: "4xx", Path: "/reserve", Count: len(list)}
	if err := orders.SetFault(ctx, s.services.URL("warehouse"), fault); err != nil {
		return "", "", err
	}
	for _, o := range list {
		info, err := s.finish(ctx, o)
		if err != nil || info.State != jobs.StateQuarantined {
			return told(info), "", errors.Join(err, errors.New("broken: a refused order is quarantined"))
		}
	}
	if err := orders.ClearFaults(ctx, s.services.URL("warehouse")); err != nil {
		return "", "", err
	}
	name := s.queue + "-replay"
	filter := jobs.DeadFilter{Queue: s.queue, Kind: orders.Fulfil.Definition().Name, Class: jobs.ClassInvalid, Newer: jobs.Span(time.Minute), Rate: 100}
	if _, err := s.store.DefineSchedule(ctx, jobs.Timetable{Name: name, When: "@every 1s", Replay: &filter}, delivery.FromAPI, time.Time{}, byDrill); err != nil {
		return "", "", err
	}
	err := await(ctx, "the replay of every order", func() (bool, error) {
		done := 0
		for _, o := range list {
			info, err := s.store.Get(ctx, s.queue, o.ID)
			if err != nil {
				return false, err
			}
			if info.State == jobs.StateCompleted {
				done++
			}
		}
		return done == len(list), nil
	})
	ended, endErr := s.endSchedule(ctx, name)
	if err := errors.Join(err, endErr); err != nil {
		return "", "", err
	}
	plan, err := s.planOf(ctx, ended)
	if err != nil {
		return "", "", err
	}
	charges, err := s.calls("/charge", list...)
	observed := fmt.Sprintf("%d orders refused and quarantined, all completed after the schedule's tick", len(list))
	evidence := fmt.Sprintf("plan %s, by %q: %d replayed, %d back; ledgers: %d charges for %d orders, so each went on at its failed step",
		plan.ID, plan.By, plan.Replayed, plan.Returned+plan.Failed, len(charges), len(list))
	return observed, evidence, errors.Join(err, must(map[string]bool{
		"the payments were asked once": len(charges) == len(list),
		// What other scenarios have left in the quarantine within the minute goes along.
		"the schedule's plan replayed each":  plan.Replayed >= int64(len(list)) && plan.Completed >= int64(len(list)),
		"the schedule is on record for that": strings.HasPrefix(plan.By, "schedule "+name+":"),
	}))
}

// planOf is the replay plan of a schedule's last tick that had something to do, at its
// end.
func (s *stage) planOf(ctx context.Context, scheduled delivery.Scheduled) (plan delivery.Plan, err error) {
	if scheduled.Run == nil || scheduled.Run.Plan == "" {
		return plan, errors.New("broken: a tick that replays makes a plan")
	}
	err = await(ctx, "the end of the plan", func() (bool, error) {
		plan, err = s.store.Plan(ctx, s.queue, scheduled.Run.Plan)
		return plan.State.Ended(), err
	})
	return plan, err
}
