package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// kids is a group of children in queue c.
func kids(parent string, items ...string) jobs.Group {
	child := jobs.Define[map[string]any, string]("kind.child", jobs.Queue("c")).Definition()
	g := jobs.Group{Name: "kids", Kind: child.Name, Queue: "c", Items: items}
	for _, item := range items {
		g.Jobs = append(g.Jobs, jobs.Raw(child, jobs.ChildKey(parent, "kids", item), json.RawMessage(`{"n":1}`)))
	}
	return g
}

// spawned makes children a and b of running job k and returns the parent's delivery.
func spawned(f *fixture) any {
	d := f.running("k")
	f.children(d)
	return d
}

// children makes children a and b, or asks what they have come to.
func (f *fixture) children(d delivery.Delivery) ([]jobs.Ended, bool) {
	f.t.Helper()
	found, ready, err := f.Children(f.ctx, d, kids("k", "a", "b"), true)
	f.ok(err)
	return found, ready
}

// parkForKids ends the parent's execution: it waits for its children.
func parkForKids(f *fixture, from any) any {
	f.ok(f.Settle(f.ctx, held(f, from), delivery.Verdict{Outcome: delivery.Park, Waiting: jobs.Waiting{Type: "children", Name: "kids"}, Waits: []string{"kids"}}))
	return nil
}

// end runs the next child of queue c to an end.
func (f *fixture) end(v delivery.Verdict) string {
	f.t.Helper()
	batch, err := f.Claim(f.ctx, "c", "o", 1)
	f.ok(err)
	if len(batch.Deliveries) != 1 {
		f.t.Fatalf("claimed %+v", batch)
	}
	d := batch.Deliveries[0]
	d.Version = 1
	f.ok(f.Settle(f.ctx, d, v))
	return d.Key
}

func (f *fixture) relay(queue string) {
	f.t.Helper()
	for {
		more, err := f.Relay(f.ctx, queue)
		f.ok(err)
		if !more {
			return
		}
	}
}

func (f *fixture) exists(queue, key string) bool {
	return f.rdb.Exists(f.ctx, taskKey(queue, key)).Val() == 1
}

func askKids(made, wait string, most int) func(f *fixture, from any) any {
	return func(f *fixture, from any) any {
		reply, err := f.run(f.ctx, "children", []string{taskKey("q", "k")}, held(f, from).Token, "kids", `{"items":["a","b"]}`, 2, "inc", made, wait, most)
		f.ok(err)
		return reply
	}
}

func spawnKid(until, delay, at int64, key string) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		reply, err := f.run(f.ctx, "spawn", []string{pendingKey("c"), scheduledKey("c"), taskKey("c", key)}, until, key, "message", "q k inc kids 0", delay, at)
		f.ok(err)
		return reply
	}
}

func reportKids(incarnation, mark string, at ...any) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		code, err := f.runCode(f.ctx, "report", []string{taskKey("q", "k"), retryKey("q"), parkedKey("q"), pendingKey("q")},
			append([]any{"k", incarnation, "kids", mark}, at...)...)
		f.ok(err)
		return code
	}
}

const farOff = 1 << 50 // ms

// childCases are the answers of the scripts about children.
func childCases() []scriptCase {
	ask, made := askKids("", "0", maxFields), askKids("2", "1", maxFields)
	spawn := spawnKid(farOff, 0, 0, "kid")
	parked := after(run, ask, made, parkForKids)
	both := reportKids("inc", "1", 0, 1)
	return []scriptCase{
		{"children 1", run, ask},
		{"children 1 half of them are made", after(run, ask), askKids("1", "1", maxFields)},
		{"children 1 made and waited for", after(run, ask), made},
		{"children 1 again", after(run, ask, made), askKids("", "1", maxFields)},
		{"children 1 all have ended", after(run, ask, made, both), askKids("", "1", maxFields)},
		{"children 1 to be cancelled", after(run, cancel), ask},
		{"children -1", gone, ask},
		{"children -2", stale, ask},
		{"children -2 after the verdict", ended(delivery.Retry), ask},
		{"children -4", run, askKids("", "0", 5)},
		{"spawn 1", nil, spawn},
		{"spawn 1 later", nil, spawnKid(farOff, int64(time.Hour/time.Millisecond), 0, "kid")},
		{"spawn 1 at a time", nil, spawnKid(farOff, 0, 1<<33, "kid")},
		{"spawn 1 at a time that has passed", nil, spawnKid(farOff, 0, 1, "kid")},
		{"spawn 2", after(nil, spawn), spawn},
		{"spawn -4", func(f *fixture) any { f.rdb.HSet(f.ctx, taskKey("c", "kid"), "msg", "other"); return nil }, spawn},
		{"spawn -4 another parent's", func(f *fixture) any {
			f.rdb.HSet(f.ctx, taskKey("c", "kid"), "msg", "other", "p:parent", "q k inc2 kids 0")
			return nil
		}, spawn},
		{"spawn -5", nil, spawnKid(1, 0, 0, "kid")},
		{"report 1", after(run, ask, made), reportKids("inc", "1", 1)},
		{"report 1 twice", after(run, ask, made, reportKids("inc", "1", 1)), reportKids("inc", "1", 1)},
		{"report 1 of a parked parent", parked, reportKids("inc", "1", 0)},
		{"report 1 open again", after(run, ask, made, both), reportKids("inc", "0", 0)},
		{"report 1 out of bounds", after(run, ask, made), reportKids("inc", "1", 7)},
		{"report 1 of all", after(run, ask, made), both},
		{"report 2", parked, both},
		{"report 0", nil, both},
		{"report 0 no such group", run, both},
		{"report 0 another job of the key", after(run, ask, made), reportKids("inc2", "1", 0)},
		{"park 3 its children came first", after(run, ask, made, both), func(f *fixture, from any) any {
			code, err := f.park(f.ctx, held(f, from), delivery.Verdict{Waiting: jobs.Waiting{Type: "children", Name: "kids"}, Waits: []string{"kids"}})
			f.ok(err)
			return code
		}},
	}
}

// childChanges is to childCases what scriptChanges is to the others.
const childChanges = `
park 3 its children came first
+asynq:{q}:pending=k
+asynq:{q}:t:k p:ltok=1-o-1
+asynq:{q}:t:k p:ver=1
+asynq:{q}:t:k pending_since=<time>
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=pending

report 2
+asynq:{q}:pending=k
+asynq:{q}:t:k pending_since=<time>
-asynq:{q}:retry k
-asynq:{q}:t:k p:due
-asynq:{q}:t:k p:wait
-perdure:{q}:parked k
~asynq:{q}:t:k b:kids=11
~asynq:{q}:t:k state=pending

report 1 of all
~asynq:{q}:t:k b:kids=11

report 1 open again
~asynq:{q}:t:k b:kids=01

report 1 of a parked parent
~asynq:{q}:t:k b:kids=10

report 1
~asynq:{q}:t:k b:kids=01

spawn 1 at a time that has passed
+asynq:{c}:pending=kid
+asynq:{c}:t:kid msg
+asynq:{c}:t:kid p:parent=q k inc kids 0
+asynq:{c}:t:kid pending_since=<time>
+asynq:{c}:t:kid state=pending

spawn 1 at a time
+asynq:{c}:scheduled kid=<time>
+asynq:{c}:t:kid msg
+asynq:{c}:t:kid p:parent=q k inc kids 0
+asynq:{c}:t:kid state=scheduled

spawn 1 later
+asynq:{c}:scheduled kid=<time>
+asynq:{c}:t:kid msg
+asynq:{c}:t:kid p:parent=q k inc kids 0
+asynq:{c}:t:kid state=scheduled

spawn 1
+asynq:{c}:pending=kid
+asynq:{c}:t:kid msg
+asynq:{c}:t:kid p:parent=q k inc kids 0
+asynq:{c}:t:kid pending_since=<time>
+asynq:{c}:t:kid state=pending

children 1 made and waited for
+asynq:{q}:t:k w:kids=0 <time> children
~asynq:{q}:t:k b:kids=00

children 1
+asynq:{q}:t:k b:kids=--
+asynq:{q}:t:k c:kids={"items":["a","b"]}
+asynq:{q}:t:k p:kids=inc

children 1 half of them are made
~asynq:{q}:t:k b:kids=0-
`

// childFaults are the calls about children.
func childFaults() []faultCase {
	children := func(f *fixture, d delivery.Delivery) error {
		_, _, err := f.Children(f.ctx, d, kids(d.Key, "a", "b"), true)
		return err
	}
	ofHeld := func(f *fixture, from any) error { return children(f, held(f, from)) }
	endedKids := after(spawned, parkForKids, func(f *fixture, _ any) any {
		f.end(verdicts[delivery.Complete])
		f.end(verdicts[delivery.Quarantine])
		return nil
	})
	relay := func(f *fixture, _ any) error { _, err := f.Relay(f.ctx, "c"); return err }
	return []faultCase{
		{script: "children", arrange: run, call: ofHeld, stale: children, staleErr: jobs.ErrLost},
		{script: "children", name: "once they are made", nth: 2, arrange: run, call: ofHeld},
		{script: "spawn", nth: 1, arrange: run, call: ofHeld},
		{script: "report", nth: 1, arrange: endedKids, call: relay},
		{script: "relayed", nth: 1, arrange: endedKids, call: relay},
		{script: "relayed", name: "of orphans", nth: 1, call: func(f *fixture, _ any) error { _, err := f.Relay(f.ctx, "q"); return err },
			arrange: after(func(f *fixture) any { // of one child, since they are cancelled in no order
				d := f.running("k")
				_, _, err := f.Children(f.ctx, d, kids("k", "a"), true)
				f.ok(err)
				return d
			}, parkForKids, cancel)},
		{script: "report", name: "of children that were deleted", call: ofHeld, arrange: after(spawned, func(f *fixture, _ any) any {
			return f.rdb.Del(f.ctx, taskKey("c", "k~kids~~a"), taskKey("c", "k~kids~~b")).Val()
		})},
		{script: "expire", name: "of children", arrange: after(spawned, func(f *fixture, from any) any {
			f.end(verdicts[delivery.Complete])
			f.settle(held(f, from), delivery.Complete)
			return nil
		}), call: func(f *fixture, _ any) error {
			for range 2 { // when an answer is lost it stays another while
				f.rdb.ZAddXX(f.ctx, completedKey("c"), redis.Z{Score: 1, Member: "k~kids~~a"})
				if _, err := f.Expire(f.ctx, "c"); err != nil {
					return err
				}
			}
			return nil
		}},
	}
}

func TestAResumedParentMakesNoSecondChild(t *testing.T) {
	t.Parallel()
	for gap, crash := range map[string]func(f *fixture, d delivery.Delivery){
		"before the group is written down": func(*fixture, delivery.Delivery) {},
		"before a child is made": func(f *fixture, d delivery.Delivery) {
			f.ok((&family{s: f.Store, d: d, g: kids("k", "a", "b")}).ask(f.ctx, "", true))
		},
		"when one is made": func(f *fixture, d delivery.Delivery) {
			fam := &family{s: f.Store, d: d, g: kids("k", "a", "b")}
			f.ok(fam.ask(f.ctx, "", true))
			fam.mine = fam.mine[:1]
			if n, fresh, err := fam.spawn(f.ctx, 0); n != 1 || fresh != 1 || err != nil {
				f.t.Fatal(n, fresh, err)
			}
		},
		"when all are made": func(f *fixture, d delivery.Delivery) {
			fam := &family{s: f.Store, d: d, g: kids("k", "a", "b")}
			f.ok(fam.ask(f.ctx, "", true))
			_, _, err := fam.spawn(f.ctx, 0)
			f.ok(err)
		},
		"when it waits": func(f *fixture, d delivery.Delivery) { f.children(d) },
	} {
		t.Run(gap, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			crash(f, f.running("k"))
			f.reclaim("o")
			d := f.takeAs("p")
			f.children(d)
			if all := f.rdb.LRange(f.ctx, pendingKey("c"), 0, -1).Val(); !slices.Equal(all, []string{"k~kids~~b", "k~kids~~a"}) {
				t.Fatalf("children %v", all)
			}
			parkForKids(f, d)
			f.end(verdicts[delivery.Complete])
			f.relay("c")
			if state := f.state("k"); state != jobs.StatePaused {
				t.Fatalf("one is open, and the parent is %s", state)
			}
			f.end(verdicts[delivery.Complete])
			f.relay("c")
			d = f.takeAs("p")
			found, ready := f.children(d)
			if !ready || len(found) != 2 || string(found[1].Result) != `"done"` || found[0].State != jobs.StateCompleted {
				t.Fatalf("%+v, %v", found, ready)
			}
			if n := f.rdb.ZCard(f.ctx, reportsKey("c")).Val(); n != 0 {
				t.Errorf("%d reports are left", n)
			}
		})
	}
}

// A worker is frozen between the look at its claim and making the children. Meanwhile
// others have gone through with the job, and its children are forgotten.
func TestAFrozenParentMakesNothing(t *testing.T) {
	t.Parallel()
	f := open(t)
	d := f.running("k")
	frozen := &family{s: f.Store, d: d, g: kids("k", "a", "b")}
	f.ok(frozen.ask(f.ctx, "", true))
	f.reclaim("o")
	d = f.takeAs("p")
	f.children(d)
	f.end(verdicts[delivery.Complete])
	f.end(verdicts[delivery.Complete])
	f.settle(d, delivery.Complete)
	f.rdb.Del(f.ctx, taskKey("c", "k~kids~~a"), taskKey("c", "k~kids~~b"))
	frozen.now -= spawnWithin.Milliseconds() + 1 // as long ago it was
	if _, err := frozen.make(f.ctx, true); !errors.Is(err, jobs.ErrLost) || f.exists("c", "k~kids~~a") {
		t.Fatalf("%v; made: %v", err, f.exists("c", "k~kids~~a"))
	}
}

func TestAChildsKeyThatIsTaken(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, err := f.Enqueue(f.ctx, kids("k", "b").Jobs[0])
	f.ok(err)
	_, _, err = f.Children(f.ctx, f.running("k"), kids("k", "a", "b"), true)
	if !errors.Is(err, jobs.ErrConflict) || !strings.Contains(err.Error(), "c/k~kids~~b") || jobs.Classify(err).Class != jobs.ClassInvalid {
		t.Fatalf("%v", err)
	}
	if f.exists("c", "k~kids~~a") {
		t.Error("the other child was made")
	}
}

func TestTheSameChildrenInAnotherOrder(t *testing.T) {
	t.Parallel()
	f := open(t)
	d := held(f, spawned(f))
	f.end(delivery.Verdict{Outcome: delivery.Complete, Result: []byte(`"a's"`)})
	f.end(delivery.Verdict{Outcome: delivery.Complete, Result: []byte(`"b's"`)})
	found, ready, err := f.Children(f.ctx, d, kids("k", "b", "a"), true)
	if err != nil || !ready || string(found[0].Result) != `"b's"` {
		t.Fatalf("%+v %v %v", found, ready, err)
	}
	for _, other := range [][]string{{"a"}, {"a", "c"}, {"a", "b", "c"}} {
		if _, _, err := f.Children(f.ctx, d, kids("k", other...), true); err == nil || jobs.Classify(err).Rule != "permanent" {
			t.Errorf("%v: %v", other, err)
		}
	}
}

// What the parent's record says of its children may be late or wrong: it looks at
// them itself.
func TestAParentLooksForItself(t *testing.T) {
	t.Parallel()
	f := open(t)
	d := held(f, spawned(f))
	parkForKids(f, d)
	f.end(verdicts[delivery.Complete]) // and nobody relays
	f.ok(f.inspector().DeleteTask("c", "k~kids~~b"))
	f.due("k")
	f.promote()
	d = f.take()
	found, ready := f.children(d)
	if !ready || found[0].State != jobs.StateCompleted || found[1].State != jobs.StateGone {
		t.Fatalf("%+v, %v", found, ready)
	}
	if b := f.field("k", "b:kids"); b != "11" {
		t.Errorf("standing %q", b)
	}
}

func TestAChildThatIsReplayedIsWaitedFor(t *testing.T) {
	t.Parallel()
	f := open(t)
	d := held(f, spawned(f))
	parkForKids(f, d)
	f.end(verdicts[delivery.Quarantine])
	f.end(verdicts[delivery.Complete])
	f.relay("c")
	d = f.take()
	found, ready := f.children(d)
	if !ready || found[0].State != jobs.StateQuarantined || found[0].Class != failed.Class || found[0].Message != "boom" {
		t.Fatalf("%+v, %v", found, ready)
	}
	// It is recorded, and the parent fails of it.
	f.ok(f.Checkpoint(f.ctx, d.Hold, delivery.Checkpoint{Step: "kids", Output: []byte(`f[{"item":"a","state":"quarantined"}]`), Run: d.Run}))
	if info, err := f.Get(f.ctx, "q", "k"); err != nil || fmt.Sprint(info.Children) != "[{kids c kind.child 2 0 1}]" {
		t.Errorf("%+v, %v", info.Children, err)
	}
	f.settle(d, delivery.Quarantine)
	for _, job := range [][2]string{{"c", "k~kids~~a"}, {"q", "k"}} {
		_, err := f.Replay(f.ctx, job[0], job[1], false, why)
		f.ok(err)
	}
	d = f.take()
	if len(d.Steps) != 0 {
		t.Fatalf("the failure is still recorded: %q", d.Steps)
	}
	if _, ready := f.children(d); ready {
		t.Fatal("the child runs again, and its parent does not wait")
	}
	parkForKids(f, d)
	if state := f.state("k"); state != jobs.StatePaused {
		t.Fatalf("the parent is %s", state)
	}
	f.end(verdicts[delivery.Complete])
	f.relay("c")
	if found, ready := f.children(f.take()); !ready || found[0].State != jobs.StateCompleted {
		t.Fatalf("%+v, %v", found, ready)
	}
}

// A report that is put into the outbox again while an earlier one is on its way stays.
func TestAReportThatIsMadeAgainStays(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.rdb.ZAdd(f.ctx, reportsKey("c"), redis.Z{Score: 2000000000001, Member: "x"}, redis.Z{Score: 2000000000002, Member: "y"})
	read := []redis.Z{{Score: 2000000000001, Member: "x"}, {Score: 2000000000001, Member: "y"}, {Score: 1, Member: "z"}}
	f.ok(f.relayed(f.ctx, reportsKey("c"), read))
	if left := f.rdb.ZRange(f.ctx, reportsKey("c"), 0, -1).Val(); !slices.Equal(left, []string{"y"}) {
		t.Errorf("left %v", left)
	}
}

func TestCancellingAParentCancelsItsChildren(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprint("running ", running), func(t *testing.T) {
			t.Parallel()
			f := open(t)
			d := held(f, spawned(f))
			alone := kids("k", "x")
			alone.Name, alone.Detached, alone.Jobs[0].Key = "alone", true, jobs.ChildKey("k", "alone", "x")
			_, _, err := f.Children(f.ctx, d, alone, false)
			f.ok(err)
			f.end(verdicts[delivery.Complete]) // one has ended
			if running {
				f.settle(d, delivery.Cancel)
			} else {
				parkForKids(f, d)
				_, err := f.Cancel(f.ctx, "q", "k", why)
				f.ok(err)
			}
			f.rdb.ZAdd(f.ctx, completedKey("q"), redis.Z{Score: 1, Member: "k"})
			if n, err := f.Expire(f.ctx, "q"); n != 0 || err != nil {
				t.Errorf("forgotten before its children were told: %d, %v", n, err)
			}
			f.relay("q")
			for key, want := range map[string]jobs.State{
				"k~kids~~a": jobs.StateCompleted, "k~kids~~b": jobs.StateCancelled, "k~alone~~x": jobs.StatePending,
			} {
				if info, err := f.Get(f.ctx, "c", key); err != nil || info.State != want {
					t.Errorf("%s: %+v, %v", key, info, err)
				}
			}
			if n := f.rdb.ZCard(f.ctx, orphansKey("q")).Val(); n != 0 {
				t.Errorf("%d orphans are left", n)
			}
			events, err := f.Events(f.ctx, "c", 10)
			if err != nil || len(events) == 0 || events[0].Actor != "perdure" || events[0].Reason != "its parent q/k was cancelled" {
				t.Errorf("%+v, %v", events, err)
			}
		})
	}
}

// A child that a frozen process makes after its parent was cancelled is cancelled too.
func TestAnOrphanThatIsMadeLate(t *testing.T) {
	t.Parallel()
	f := open(t)
	d := f.running("k")
	frozen := &family{s: f.Store, d: d, g: kids("k", "a", "b")}
	f.ok(frozen.ask(f.ctx, "", true))
	f.settle(d, delivery.Cancel)
	f.relay("q")
	if _, _, err := frozen.spawn(f.ctx, 0); err != nil || !f.exists("c", "k~kids~~a") {
		t.Fatalf("%v", err)
	}
	f.relay("q")
	if info, err := f.Get(f.ctx, "c", "k~kids~~a"); err != nil || info.State != jobs.StateCancelled {
		t.Fatalf("%+v, %v", info, err)
	}
	f.rdb.HDel(f.ctx, taskKey("q", "k"), "c:kids")
	f.relay("q")
	if n := f.rdb.ZCard(f.ctx, orphansKey("q")).Val(); n != 0 {
		t.Errorf("%d orphans are left", n)
	}
}

func TestAChildIsKeptWhileItsParentMayAskForIt(t *testing.T) {
	t.Parallel()
	f := open(t)
	d := held(f, spawned(f))
	f.end(verdicts[delivery.Complete])
	over := func() { f.rdb.ZAdd(f.ctx, completedKey("c"), redis.Z{Score: 1, Member: "k~kids~~a"}) }
	for _, still := range []func(){func() {}, func() { parkForKids(f, d) }} {
		still()
		over()
		if n, err := f.Expire(f.ctx, "c"); n != 0 || err != nil || !f.exists("c", "k~kids~~a") {
			t.Fatalf("forgotten: %d, %v", n, err)
		}
		if info, err := f.Get(f.ctx, "c", "k~kids~~a"); err != nil || time.Until(info.ExpiresAt) < 9*time.Minute {
			t.Fatalf("%+v, %v", info, err)
		}
	}
	_, err := f.Cancel(f.ctx, "q", "k", why)
	f.ok(err)
	over()
	if n, err := f.Expire(f.ctx, "c"); n != 1 || err != nil || f.exists("c", "k~kids~~a") {
		t.Fatalf("kept for a parent that has ended: %d, %v", n, err)
	}
}

func TestAParentThatIsGoneHoldsNothingUp(t *testing.T) {
	t.Parallel()
	f := open(t)
	d := held(f, spawned(f))
	parkForKids(f, d)
	f.ok(f.inspector().DeleteTask("q", "k"))
	f.end(verdicts[delivery.Complete])
	f.end(verdicts[delivery.Complete])
	f.enqueue("k") // another job of the key
	f.relay("c")
	if n := f.rdb.Exists(f.ctx, reportsKey("c")).Val(); n != 0 || f.field("k", "b:kids") != "" {
		t.Errorf("reports are left: %d; %v", n, f.dump())
	}
	f.rdb.ZAdd(f.ctx, completedKey("c"), redis.Z{Score: 1, Member: "k~kids~~a"}, redis.Z{Score: 1, Member: "k~kids~~b"})
	if n, err := f.Expire(f.ctx, "c"); n != 2 || err != nil {
		t.Errorf("forgot %d, %v", n, err)
	}
}

// What asynq's tools do to a child is an end that its parent is told of, too.
func TestAChildThatIsArchivedElsewhere(t *testing.T) {
	t.Parallel()
	f := open(t)
	d := held(f, spawned(f))
	parkForKids(f, d)
	f.end(verdicts[delivery.Complete])
	f.ok(f.inspector().ArchiveTask("c", "k~kids~~b"))
	_, err := f.Mend(f.ctx, "c", "k~kids~~b")
	f.ok(err)
	f.relay("c")
	if found, ready := f.children(f.take()); !ready || found[1].State != jobs.StateQuarantined {
		t.Fatalf("%+v, %v", found, ready)
	}
}

func TestManyChildren(t *testing.T) {
	t.Parallel()
	f := open(t)
	var items []string
	for i := range 2*maxBatch + 7 {
		items = append(items, fmt.Sprint("n", i))
	}
	d := f.running("k")
	_, ready, err := f.Children(f.ctx, d, kids("k", items...), true)
	if ready || err != nil {
		t.Fatalf("%v, %v", ready, err)
	}
	f.ok(f.Settle(f.ctx, d, delivery.Verdict{Outcome: delivery.Park, Waiting: jobs.Waiting{Type: "children", Name: "kids"}, Waits: []string{"kids"}}))
	for range items {
		f.end(verdicts[delivery.Complete])
	}
	woken := 0
	for more := true; more; {
		if f.state("k") == jobs.StatePending {
			woken++
		}
		more, err = f.Relay(f.ctx, "c")
		f.ok(err)
	}
	if woken != 0 || f.state("k") != jobs.StatePending {
		t.Errorf("woken before the last report: %d; now %s", woken, f.state("k"))
	}
	if found, ready, err := f.Children(f.ctx, f.take(), kids("k", items...), true); !ready || err != nil || len(found) != len(items) {
		t.Errorf("%d, %v, %v", len(found), ready, err)
	}
}
