package store

import (
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// waitsTurn makes k wait its turn: another job of its tenant runs, and one of another
// tenant stands in the queue.
func waitsTurn(f *fixture) any {
	f.enqueue("first", jobs.Tenant("a"))
	f.enqueue("k", jobs.Tenant("a"))
	f.enqueue("other", jobs.Tenant("b"))
	return f.take()
}

// waitsTurnAfter has k wait its turn after an execution that was handed back.
func waitsTurnAfter(during ...func(f *fixture, from any) any) func(f *fixture) any {
	return func(f *fixture) any {
		f.enqueue("k", jobs.Tenant("a"))
		d := f.take()
		for _, act := range during {
			act(f, d)
		}
		f.enqueue("first", jobs.Tenant("a"))
		f.enqueue("other", jobs.Tenant("b"))
		f.settle(d, delivery.HandBack)
		_, err := f.claim(f.ctx, "q", "", 0, 1)
		f.ok(err)
		if f.field("k", "state") != "retry" {
			f.t.Fatalf("k is %s", f.field("k", "state"))
		}
		return d
	}
}

func turnCases() []scriptCase {
	undoable := func(f *fixture, from any) any { f.did(held(f, from), "s1"); return nil }
	return []scriptCase{
		{"cancel 1 waiting its turn", waitsTurn, cancel},
		{"cancel 2 waiting its turn, to be undone first", waitsTurnAfter(undoable), cancel},
		{"cancel 3 waiting its turn, asked before", waitsTurnAfter(undoable, cancel), cancel},
		{"suspend 1 waiting its turn", waitsTurn, suspend},
		{"resume 1 that waited its turn", after(waitsTurn, suspend), resume},
		{"signal 1 waiting its turn", waitsTurn, func(f *fixture, _ any) any { return f.signal("x", maxFields) }},
	}
}

func turnFaults() []faultCase {
	claim := func(f *fixture, owner string) error { _, err := f.Claim(f.ctx, "q", owner, 2); return err }
	promote := func(f *fixture, _ any) error { _, err := f.Promote(f.ctx, "q"); return err }
	unsorted := func(f *fixture) any {
		f.enqueue("other", jobs.Tenant("b"))
		f.take()
		f.of("a", maxBatch+1)
		return nil
	}
	day := func(f *fixture, from any) any { f.due("k"); return from }
	lose := func(f *fixture, from any) any { f.rdb.Del(f.ctx, turnsKey("q"), turnKey("q", "a")); return from }
	loseJob := func(f *fixture, from any) any { f.rdb.Del(f.ctx, taskKey("q", "k")); return from }
	return []faultCase{
		{
			script: "claim", name: "of a job that waits its turn", again: lostClaim(claim), call: func(f *fixture, _ any) error { return claim(f, "o") },
			arrange: func(f *fixture) any { f.settle(held(f, waitsTurn(f)), delivery.Complete); return nil },
			differs: []string{
				"+asynq:{q}:t:k p:ltok=3-o", "+asynq:{q}:t:other p:ltok=2-o", "~asynq:{q}:t:k p:run=2", "~asynq:{q}:t:k p:tok=4-o", "~asynq:{q}:t:other p:run=2",
				"~asynq:{q}:t:other p:tok=5-o", "~perdure:{q}:own:o k=4-o", "~perdure:{q}:own:o other=5-o", "~perdure:{q}:tokens=5",
			},
		},
		{script: "claim", name: "that sorts", arrange: unsorted, call: promote},
		{script: "promote", name: "of a job that has waited its turn for a day", nth: 2, arrange: after(waitsTurn, day), call: promote},
		{script: "promote", name: "of a turn that nobody keeps", nth: 2, arrange: after(waitsTurn, lose), call: promote},
		{script: "census", name: "of a lost job that waited its turn", arrange: after(waitsTurn, loseJob), call: func(f *fixture, _ any) error {
			_, err := f.Mend(f.ctx, "q", "k")
			return err
		}},
		{script: "cancel", name: "of a job that waits its turn", arrange: waitsTurn, itself: true, call: func(f *fixture, _ any) error {
			_, err := f.Cancel(f.ctx, "q", "k", why)
			return err
		}},
		{script: "suspend", name: "of a job that waits its turn", arrange: waitsTurn, itself: true, call: func(f *fixture, _ any) error {
			_, err := f.Pause(f.ctx, "q", "k", why)
			return err
		}},
	}
}

// turnChanges is as scriptChanges.
const turnChanges = `
cancel 1 waiting its turn
+asynq:{q}:completed k=<time>
+asynq:{q}:t:k p:end=cancelled
+asynq:{q}:t:k p:exp=<time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 0=cancel k by ada: because
-asynq:{q}:retry k
-asynq:{q}:t:k p:due
-asynq:{q}:t:k p:wait
-asynq:{q}:t:k pending_since
-perdure:{q}:queued k
~asynq:{q}:t:k state=completed

cancel 2 waiting its turn, to be undone first
+asynq:{q}:t:k p:can=ada: because
+asynq:{q}:t:k pending_since=<time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=2
+perdure:{q}:events 0=cancel k by ada: because
-asynq:{q}:retry k
-asynq:{q}:t:k p:due
-asynq:{q}:t:k p:wait
-perdure:{q}:queued k
~asynq:{q}:pending=k,other,first
~asynq:{q}:t:k state=pending

resume 1 that waited its turn
+asynq:{q}:t:k pending_since=<time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 1=resume k by ada: because
-asynq:{q}:retry k
-asynq:{q}:t:k p:due
-asynq:{q}:t:k p:hold
-asynq:{q}:t:k p:wait
-perdure:{q}:parked k
~asynq:{q}:pending=k,other
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=pending

signal 1 waiting its turn
+asynq:{q}:t:k g:go={"n":1}
+asynq:{q}:t:k i:go=x
+perdure:{q}:events 0=signal go k by ada: because

suspend 1 waiting its turn
+asynq:{q}:t:k p:hold=ada: because
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 0=pause k by ada: because
+perdure:{q}:parked k=<time>
-asynq:{q}:t:k pending_since
-perdure:{q}:queued k
~asynq:{q}:retry k=<time>
~asynq:{q}:t:k msg
~asynq:{q}:t:k p:due=<time>
~asynq:{q}:t:k p:pn=2
~asynq:{q}:t:k p:wait=2 <time> operator ada: because
`
