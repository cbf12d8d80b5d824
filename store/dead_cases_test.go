package store

import (
	"crypto/rand"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
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

func deadCases() []scriptCase {
	again := func(f *fixture, _ any) any { return f.settle(f.take(), delivery.Quarantine) }
	return []scriptCase{
		{"quarantine 1 again, when it was resolved", after(deadJob, judge("resolved"), replay("failed")), again},
		{"quarantine 1 again, when it was ignored", after(deadJob, judge("ignored"), replay("failed")), again},
		{"judge 1 resolved", deadJob, judge("resolved")},
		{"judge 1 open", after(deadJob, judge("ignored")), judge("open")},
		{"judge 2", deadJob, judge("open")},
		{"judge -1", nil, judge("resolved")},
		{"ungroup 1", strayInGroup, ungroup},
		{"ungroup 0", deadJob, ungroup},
		{"ungroup 0 run now", after(deadJob, runNow), ungroup},
		{"forgetgroup 1", after(deadJob, discard), forgetGroup},
		{"forgetgroup 0", deadJob, forgetGroup},
	}
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
		{script: "forgetgroup", arrange: after(deadJob, discard), call: func(f *fixture, _ any) error { return f.forgetGroup(f.ctx, "q", sigK, 0) }},
	}
}
