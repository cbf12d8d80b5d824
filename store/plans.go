package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// planBatch is how many entries one step of a plan replays at most, and planLook how
// many of those under way it looks at: some milliseconds of Redis' time.
const planBatch, planLook = 100, 300

// planKept is how long a plan is known after its end, unless it was asked otherwise.
const planKept = 90 * 24 * time.Hour

// MakePlan makes a replay plan, which runs by itself from then on. Asked for an ID
// that there is, it returns that plan and changes nothing. ErrNotFound: nobody knows the queue.
func (s *Store) MakePlan(ctx context.Context, r delivery.PlanRequest, by jobs.Decision) (delivery.Plan, error) {
	if err := errors.Join(r.Check(), by.Check()); err != nil {
		return delivery.Plan{}, err
	}
	if err := s.CheckQueueKnown(ctx, r.Queue); err != nil {
		return delivery.Plan{}, err
	}
	if r.ID == "" {
		r.ID = strings.ToLower(rand.Text()[:12])
	}
	if r.Rate == 0 {
		r.Rate = delivery.DefaultPlanRate
	}
	if r.Kept == 0 {
		r.Kept = planKept
	}
	from, stage, on := "failed", "1", "0"
	if r.FromStart {
		from = "start"
	}
	if r.NoCanary {
		stage = "all"
	}
	if r.KeepGoing {
		on = "1"
	}
	keys := []string{planKey(r.Queue, r.ID), plansKey(r.Queue), planningKey(r.Queue), eventsKey(r.Queue)}
	_, err := surely(ctx, func() (int64, error) {
		rate := strconv.FormatFloat(r.Rate, 'f', -1, 64)
		return s.runCode(ctx, "plan", keys, r.ID, mustJSON(r), rate, from, stage, on, by.Actor, by.Reason+" ("+r.Filter.String()+")",
			r.Most, int64(r.Kept.Seconds()))
	})
	if err != nil {
		return delivery.Plan{}, fmt.Errorf("plan a replay in queue %s: %w", r.Queue, err)
	}
	return s.Plan(ctx, r.Queue, r.ID)
}

// Plan returns a replay plan. ErrNotFound: there is none, or it ended too long
// ago, which is 90 days unless it was made otherwise.
func (s *Store) Plan(ctx context.Context, queue, id string) (delivery.Plan, error) {
	if err := errors.Join(jobs.CheckQueue(queue), delivery.CheckPlanID(id)); err != nil {
		return delivery.Plan{}, err
	}
	plans, err := surely(ctx, func() ([]delivery.Plan, error) { return s.planHashes(ctx, queue, []string{id}) })
	if err == nil && len(plans) == 0 {
		err = errUnknownPlan
	}
	if err != nil {
		return delivery.Plan{}, fmt.Errorf("plan %s of queue %s: %w", id, queue, err)
	}
	return plans[0], nil
}

// Plans returns the replay plans of a queue, or of all, latest first in each: the last
// 500 of a queue, and older ones that have not ended.
func (s *Store) Plans(ctx context.Context, queue string) ([]delivery.Plan, error) {
	walk, err := s.newWalk(ctx, queue, "", 0, true)
	if err != nil {
		return nil, err
	}
	all := []delivery.Plan{}
	for _, queue := range walk.queues {
		ids, err := s.rdb.ZRevRange(ctx, plansKey(queue), 0, maxBatch-1).Result()
		if err != nil {
			return nil, fmt.Errorf("plans of queue %s: %w", queue, unreachable(err))
		}
		open, err := s.rdb.SMembers(ctx, planningKey(queue)).Result()
		if err != nil {
			return nil, fmt.Errorf("plans of queue %s: %w", queue, unreachable(err))
		}
		open = slices.DeleteFunc(open, func(id string) bool { return slices.Contains(ids, id) })
		plans, err := s.planHashes(ctx, queue, append(ids, open...))
		if err != nil {
			return nil, fmt.Errorf("plans of queue %s: %w", queue, err)
		}
		slices.SortStableFunc(plans, func(a, b delivery.Plan) int { return b.Created.Compare(a.Created) })
		all = append(all, plans...)
	}
	return all, nil
}

// OpenPlans returns the plans of all queues that have not ended.
func (s *Store) OpenPlans(ctx context.Context) ([]delivery.Plan, error) {
	queues, err := s.Queues(ctx)
	if err != nil || len(queues) == 0 {
		return nil, err
	}
	pipe := s.rdb.Pipeline()
	ids := make([]*redis.StringSliceCmd, len(queues))
	for i, queue := range queues {
		ids[i] = pipe.SMembers(ctx, planningKey(queue))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("open plans: %w", unreachable(err))
	}
	var open []delivery.Plan
	for i, queue := range queues {
		plans, err := s.planHashes(ctx, queue, slices.Sorted(slices.Values(ids[i].Val())))
		if err != nil {
			return open, fmt.Errorf("open plans of queue %s: %w", queue, err)
		}
		open = append(open, plans...)
	}
	return open, nil
}

// planHashes reads the plans that exist among ids.
func (s *Store) planHashes(ctx context.Context, queue string, ids []string) ([]delivery.Plan, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	pipe := s.rdb.Pipeline()
	hashes, left, out := make([]*redis.MapStringStringCmd, len(ids)), make([]*redis.IntCmd, len(ids)), make([]*redis.IntCmd, len(ids))
	for i, id := range ids {
		hashes[i] = pipe.HGetAll(ctx, planKey(queue, id))
		left[i], out[i] = pipe.ZCard(ctx, planKey(queue, id)+":left"), pipe.ZCard(ctx, planKey(queue, id)+":out")
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, unreachable(err)
	}
	var plans []delivery.Plan
	for i := range ids {
		if h := hash(hashes[i].Val()); h["asked"] != "" {
			plans = append(plans, planOf(h, left[i].Val(), out[i].Val()))
		}
	}
	return plans, nil
}

func planOf(h hash, left, out int64) delivery.Plan {
	count := func(field string) int64 { return int64(h.int(field)) }
	p := delivery.Plan{
		State: delivery.PlanState(h["state"]), Why: h["why"], By: h["by"], Created: h.ms("at"), Ended: h.ms("ended"), Stage: h["stage"],
		Selected: count("selected"), Skipped: count("skipped"), Left: left + count("unsent"), Replayed: count("replayed"), UnderWay: out + count("unended"),
		Completed: count("completed"), Cancelled: count("cancelled"), Returned: count("returned"), Failed: count("failed"), Gone: count("gone"),
		Cursor: h["cursor"],
	}
	_ = json.Unmarshal([]byte(h["asked"]), &p.PlanRequest) // written by MakePlan
	return p
}

// SelectFor adds a page of entries to a plan that selects, once, whoever does so. The
// page is what [Store.Dead] returned from the plan's cursor. False: another has gone
// on from there, or the plan has all its entries.
func (s *Store) SelectFor(ctx context.Context, p delivery.Plan, page delivery.DeadPage) (bool, error) {
	skipped := 0
	var entries []any
	for _, d := range page.Entries {
		if d.Unreadable || d.Erased != "" {
			skipped++
			continue
		}
		entries = append(entries, d.At.UnixMilli(), d.Key)
	}
	args := append([]any{p.Cursor, page.Next, skipped, len(entries) / 2}, entries...)
	code, err := s.runCode(ctx, "select", []string{planKey(p.Queue, p.ID), planKey(p.Queue, p.ID) + ":left"}, args...)
	return code == 1, err
}

// Advance takes a plan one step further: it replays up to 100 entries whose turn it
// is, by Redis' clock, and sees what became of others; of a plan that is paused or has
// stopped only that.
func (s *Store) Advance(ctx context.Context, queue, id string) (delivery.PlanStep, error) {
	name := planKey(queue, id)
	reply, err := s.run(ctx, "advance", []string{
		name, name + ":left", name + ":out", planningKey(queue), taskKey(queue, ""), pendingKey(queue), archivedKey(queue), deadKey(queue),
		groupsKey(queue), eventsKey(queue),
	}, id, planBatch, planLook)
	if err != nil {
		return delivery.PlanStep{}, err
	}
	parts, _ := reply.([]any)
	if len(parts) != 3 {
		return delivery.PlanStep{}, fmt.Errorf("advance plan %s: unexpected answer %v", id, reply)
	}
	replayed, _ := parts[1].(int64)
	return delivery.PlanStep{State: delivery.PlanState(text(parts[0])), Replayed: int(replayed), More: parts[2] == int64(1)}, nil
}

// PausePlan stops a plan until it is resumed.
func (s *Store) PausePlan(ctx context.Context, queue, id string, by jobs.Decision) (delivery.Plan, error) {
	return s.steer(ctx, "pause", queue, id, by)
}

// ResumePlan lets a plan go on that was paused, or that has stopped because the
// failure was back: then it begins with its canary again.
func (s *Store) ResumePlan(ctx context.Context, queue, id string, by jobs.Decision) (delivery.Plan, error) {
	return s.steer(ctx, "resume", queue, id, by)
}

// AbortPlan ends a plan. What it has not replayed stays in quarantine.
func (s *Store) AbortPlan(ctx context.Context, queue, id string, by jobs.Decision) (delivery.Plan, error) {
	return s.steer(ctx, "abort", queue, id, by)
}

// planEnded is a jobs.ErrConflict.
type planEnded struct{}

func (planEnded) Error() string        { return "it has ended; make another plan" }
func (planEnded) Is(target error) bool { return target == jobs.ErrConflict }

// steer returns ErrConflict for a plan that has ended.
func (s *Store) steer(ctx context.Context, verb, queue, id string, by jobs.Decision) (delivery.Plan, error) {
	if err := errors.Join(by.Check(), jobs.CheckQueue(queue), delivery.CheckPlanID(id)); err != nil {
		return delivery.Plan{}, err
	}
	name := planKey(queue, id)
	keys := []string{name, planningKey(queue), eventsKey(queue), name + ":left", name + ":out", decidedKey(queue, rand.Text())}
	code, err := surely(ctx, func() (int64, error) { return s.runCode(ctx, "steer", keys, id, verb, by.Actor, by.Reason) })
	switch {
	case err != nil:
	case code == -1:
		err = errUnknownPlan
	case code == -3:
		err = planEnded{}
	}
	if err != nil {
		return delivery.Plan{}, fmt.Errorf("%s plan %s of queue %s: %w", verb, id, queue, err)
	}
	return s.Plan(ctx, queue, id)
}
