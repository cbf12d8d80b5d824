package store

import (
	"crypto/rand"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// sigK is the signature that verdicts[delivery.Quarantine] has.
var sigK = entryOf(delivery.Delivery{Kind: "kind.a"}, verdicts[delivery.Quarantine].Entry).Signature

func judge(state string) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		code, err := f.runCode(f.ctx, "judge", []string{groupsKey("q"), groupKey("q", sigK), eventsKey("q"), decidedKey("q", rand.Text())},
			sigK, state, state+" group", "ada", "because")
		f.ok(err)
		return code
	}
}

func ungroup(f *fixture, _ any) any {
	code, err := f.runCode(f.ctx, "ungroup", []string{taskKey("q", "k"), groupKeysKey("q", sigK)}, "k", sigK)
	f.ok(err)
	return code
}

func forgetGroup(f *fixture, _ any) any {
	code, err := f.runCode(f.ctx, "forgetgroup", []string{groupsKey("q"), groupKey("q", sigK), groupKeysKey("q", sigK)}, sigK, 0)
	f.ok(err)
	return code
}

func strayInGroup(f *fixture) any {
	f.enqueue("k")
	return f.rdb.ZAdd(f.ctx, groupKeysKey("q", sigK), redis.Z{Score: 1, Member: "k"}).Val()
}

// planOfK is a plan over the entry of k, which selects.
func planOfK(f *fixture, _ any) any { return f.plan(delivery.PlanRequest{ID: "p1", Queue: "q"}) }

// planOfOne takes one entry.
func planOfOne(f *fixture, _ any) any {
	return f.plan(delivery.PlanRequest{ID: "p1", Queue: "q", Most: 1})
}

func (f *fixture) plan(r delivery.PlanRequest) delivery.Plan {
	f.t.Helper()
	p, err := f.MakePlan(f.ctx, r, why)
	f.ok(err)
	return p
}

func makePlan(f *fixture, _ any) any {
	code, err := f.runCode(f.ctx, "plan", []string{planKey("q", "p1"), plansKey("q"), planningKey("q"), eventsKey("q")},
		"p1", "{}", "20", "failed", "1", "0", "ada", "because", 0, 3600)
	f.ok(err)
	return code
}

// choose has a plan select what there is.
func choose(f *fixture, _ any) any {
	page, err := f.Dead(f.ctx, delivery.DeadQuery{Queue: "q"})
	f.ok(err)
	p, err := f.Plan(f.ctx, "q", "p1")
	f.ok(err)
	_, err = f.SelectFor(f.ctx, p, page)
	f.ok(err)
	return nil
}

func selectCode(cursor string) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		code, err := f.runCode(f.ctx, "select", []string{planKey("q", "p1"), planKey("q", "p1") + ":left"}, cursor, "next", 1, 1, 1000, "k")
		f.ok(err)
		return code
	}
}

func steer(verb string) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		name := planKey("q", "p1")
		code, err := f.runCode(f.ctx, "steer", []string{name, planningKey("q"), eventsKey("q"), name + ":left", name + ":out", decidedKey("q", rand.Text())},
			"p1", verb, "ada", "because")
		f.ok(err)
		return code
	}
}

func erase(f *fixture, _ any) any { return eraseCode(f, f.field("k", "msg")) }

func eraseCode(f *fixture, message string) any {
	code, err := f.runCode(f.ctx, "erase", []string{taskKey("q", "k"), eventsKey("q"), decidedKey("q", rand.Text())}, "k", message, "empty", "ada", "because")
	f.ok(err)
	return code
}

// exported is the record of the entry of k, which is then discarded.
func exported(f *fixture) any {
	deadJob(f)
	return exportedNow(f)
}

// exportedBare is exported where what is said of the quarantined job was lost.
func exportedBare(f *fixture) any {
	deadJob(f)
	f.rdb.HDel(f.ctx, taskKey("q", "k"), "p:dead")
	return exportedNow(f)
}

func exportedNow(f *fixture) any {
	r, err := f.DeadRecord(f.ctx, "q", "k")
	f.ok(err)
	discard(f, nil)
	return r
}

func restore(f *fixture, from any) any {
	r := from.(delivery.DeadRecord)
	restored, err := f.Restore(f.ctx, r, why)
	switch {
	case errors.Is(err, jobs.ErrConflict):
		return int64(-3)
	case err != nil:
		f.t.Error(err)
	case !restored:
		return int64(2)
	}
	return int64(1)
}

func deadCases() []scriptCase {
	withEdit := func(f *fixture, _ any) any {
		_, err := f.ReplayEdited(f.ctx, "q", "k", []byte(`{"a":2}`), true, why)
		f.ok(err)
		return int64(1)
	}
	wrongTime := func(f *fixture, _ any) any {
		code, err := f.runCode(f.ctx, "discard", []string{taskKey("q", "k"), archivedKey("q"), deadKey("q"), eventsKey("q"), taskKey("q", "k"), forgottenKey("q"),
			decidedKey("q", rand.Text()), groupsKey("q")}, "k", "ada", "because", "move out", "1000")
		f.ok(err)
		return code
	}
	again := func(f *fixture, _ any) any { return f.settle(f.take(), delivery.Quarantine) }
	return []scriptCase{
		{"quarantine 1 again, when it was resolved", after(deadJob, judge("resolved"), replay("failed"), longAgo), again},
		{"quarantine 1 again, when it was ignored", after(deadJob, judge("ignored"), replay("failed"), longAgo), again},
		{"judge 1 resolved", deadJob, judge("resolved")},
		{"judge 1 open", after(deadJob, judge("ignored")), judge("open")},
		{"judge 2", deadJob, judge("open")},
		{"judge -1", nil, judge("resolved")},
		{"ungroup 1", strayInGroup, ungroup},
		{"ungroup 0", deadJob, ungroup},
		{"ungroup 0 run now", after(deadJob, runNow), ungroup},
		{"forgetgroup 1", after(deadJob, discard), forgetGroup},
		{"forgetgroup 0", deadJob, forgetGroup},
		{"replay 1 edited", deadJob, withEdit},
		{"replay 1 edited after erase", after(deadJob, erase2), withEdit},
		{"replay -4", after(deadJob, erase2), replay("failed")},
		{"discard -3 since", deadJob, wrongTime},
		{"erase 1", after(deadJob, func(f *fixture, _ any) any {
			return f.rdb.HSet(f.ctx, taskKey("q", "k"), "h:x", "1", "g:y", "2", "e:1", "3", "result", "4").Val()
		}), erase},
		{"erase 2", after(deadJob, erase), erase},
		{"erase 0", deadJob, func(f *fixture, _ any) any { return eraseCode(f, "other") }},
		{"erase -1", nil, erase},
		{"erase -3", pendingJob, erase},
		{"restore 1", exported, restore},
		{"restore 1 in another database", func(f *fixture) any { r := exported(f); f.rdb.FlushDB(f.ctx); f.known.Clear(); return r }, restore},
		{"restore 2", after(exported, restore), restore},
		{"restore 2 without an entry", after(exportedBare, restore), restore},
		{"restore -3", after(exported, func(f *fixture, _ any) any { return deadJob(f) }), restore},
		{"plan 1", nil, makePlan},
		{"plan 2", after(nil, makePlan), makePlan},
		{"select 1", after(deadJob, planOfK), selectCode("")},
		{"select 1 the last", after(deadJob, planOfK), func(f *fixture, _ any) any { choose(f, nil); return int64(1) }},
		{"select 2", after(deadJob, planOfOne), selectCode("")},
		{"select 0 elsewhere", after(deadJob, planOfK), selectCode("other")},
		{"select 0 running", after(deadJob, planOfK, choose), selectCode("")},
		{"select -1", nil, selectCode("")},
		{"steer 1 pause", after(deadJob, planOfK), steer("pause")},
		{"steer 1 resume", after(deadJob, planOfK, steer("pause")), steer("resume")},
		{"steer 1 abort", after(deadJob, planOfK, choose), steer("abort")},
		{"steer 2 pause", after(deadJob, planOfK, steer("pause")), steer("pause")},
		{"steer 2 resume", after(deadJob, planOfK), steer("resume")},
		{"steer -1", nil, steer("pause")},
		{"steer -3", after(deadJob, planOfK, steer("abort")), steer("resume")},
	}
}

// erase2 erases as the store does.
func erase2(f *fixture, _ any) any {
	_, err := f.Erase(f.ctx, "q", "k", why)
	f.ok(err)
	return nil
}

// deadFaults are the calls of the quarantine.
func deadFaults() []faultCase {
	return []faultCase{
		{script: "judge", arrange: deadJob, itself: true, call: func(f *fixture, _ any) error {
			_, err := f.JudgeGroup(f.ctx, "q", sigK, delivery.GroupResolved, why)
			return err
		}},
		{script: "ungroup", arrange: strayInGroup, call: func(f *fixture, _ any) error {
			_, err := f.runCode(f.ctx, "ungroup", []string{taskKey("q", "k"), groupKeysKey("q", sigK)}, "k", sigK)
			return err
		}},
		{script: "erase", arrange: deadJob, itself: true, call: func(f *fixture, _ any) error { _, err := f.Erase(f.ctx, "q", "k", why); return err }},
		{script: "restore", arrange: exported, itself: true, call: func(f *fixture, from any) error {
			_, err := f.Restore(f.ctx, from.(delivery.DeadRecord), why)
			return err
		}},
		{script: "replay", name: "with another payload", arrange: deadJob, itself: true, call: func(f *fixture, _ any) error {
			_, err := f.ReplayEdited(f.ctx, "q", "k", []byte(`{}`), false, why)
			return err
		}},
		{script: "plan", arrange: deadJob, itself: true, call: func(f *fixture, _ any) error {
			_, err := f.MakePlan(f.ctx, delivery.PlanRequest{ID: "p1", Queue: "q"}, why)
			return err
		}},
		{script: "select", arrange: after(deadJob, planOfK), call: func(f *fixture, _ any) error {
			_, err := f.SelectFor(f.ctx, delivery.Plan{PlanRequest: delivery.PlanRequest{ID: "p1", Queue: "q"}}, delivery.DeadPage{
				Entries: []delivery.Dead{{Key: "k", At: time.UnixMilli(1000)}}, Next: "more",
			})
			return err
		}},
		{script: "advance", arrange: after(deadJob, planOfK, choose), call: func(f *fixture, _ any) error { _, err := f.Advance(f.ctx, "q", "p1"); return err }},
		{script: "steer", name: "pause", arrange: after(deadJob, planOfK), itself: true, call: func(f *fixture, _ any) error { _, err := f.PausePlan(f.ctx, "q", "p1", why); return err }},
		{script: "steer", name: "abort", arrange: after(deadJob, planOfK), itself: true, call: func(f *fixture, _ any) error { _, err := f.AbortPlan(f.ctx, "q", "p1", why); return err }},
		{script: "forgetgroup", arrange: after(deadJob, discard), call: func(f *fixture, _ any) error { return f.forgetGroup(f.ctx, "q", sigK, 0) }},
	}
}

// longAgo makes the job one that has failed long ago, so that its message changes when
// it fails again: that has whole seconds.
func longAgo(f *fixture, _ any) any {
	_, msg := revised([]byte(f.field("k", "msg")), func(m *message) { m.LastFailedAt = 1 })
	return f.rdb.HSet(f.ctx, taskKey("q", "k"), "msg", msg).Val()
}
