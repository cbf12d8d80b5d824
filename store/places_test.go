package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
)

// sentBack has k wait for pay, be sent back with a pass, and be claimed.
func sentBack(f *fixture) any {
	parkedIn("k")(f)
	driveRaw(1)(f, nil)
	return f.take()
}

// placeCases end executions of a job that was sent back from a lane, in each way: what is
// left of its pass goes with the execution, unless the job is only put back.
func placeCases() []scriptCase {
	var cases []scriptCase
	for _, outcome := range outcomes() {
		name := string(outcome)
		if outcome == delivery.Cancel {
			name = "cancelled"
		}
		cases = append(cases, scriptCase{name + " 1 sent from a lane", sentBack, func(f *fixture, from any) any {
			if outcome == delivery.Park {
				f.await(held(f, from), jobs.Wait{Name: "go", Type: "signal"}, maxFields)
			}
			return f.settle(held(f, from), outcome)
		}})
	}
	return cases
}

// putBack are the ways in which a job that was claimed comes back to its queue although it
// has not begun.
var putBack = map[string]func(f *fixture, d delivery.Delivery){
	"its claim was lost": func(f *fixture, d delivery.Delivery) {
		found, err := f.Holdings(f.ctx, "q", "o")
		f.ok(err)
		for _, h := range found.Held {
			f.ok(f.HandBack(f.ctx, h.Hold))
		}
	},
	"its worker stops": func(f *fixture, d delivery.Delivery) { f.ok(f.Settle(f.ctx, d, verdicts[delivery.HandBack])) },
	"its worker dies":  func(f *fixture, _ delivery.Delivery) { f.reclaim("o") },
	"its owner's list is lost": func(f *fixture, _ delivery.Delivery) {
		f.rdb.Del(f.ctx, ownerKey("q", "o"))
		f.ok(f.rdb.LRem(f.ctx, activeKey("q"), 1, "a").Err())
		if _, err := f.Mend(f.ctx, "q", "a"); err != nil {
			f.t.Fatal(err)
		}
	},
}

// A job that was put back before it began keeps its place in the line, and nothing but
// that: what let it begin is of the execution that was lost.
func TestWhatIsPutBackKeepsItsPlace(t *testing.T) {
	t.Parallel()
	for way, put := range putBack {
		for _, ran := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, ran before %v", way, ran), func(t *testing.T) {
				t.Parallel()
				f := open(t)
				parkedIn("a", "b", "c")(f)
				since := int64(f.rdb.ZScore(f.ctx, laneOfPay, "a").Val())
				f.driveN(1, granted, 1)
				if !ran { // as a job that shelving has put into the lane
					f.rdb.HDel(f.ctx, taskKey("q", "a"), "p:run")
				}
				first := f.takeAs("p0")
				f.ok(f.HandBack(f.ctx, first.Hold))
				for range 2 { // as often as it happens
					put(f, f.take())
					if way == "its worker dies" {
						f.rdb.Del(f.ctx, ownerKey("q", "o")) // the fence, and a suspect is no part of this
						f.rdb.HDel(f.ctx, taskKey("q", "a"), "p:row")
					}
				}
				d := f.take()
				if p := d.Pass; first.Pass.ID != "g:1" || p == nil || d.Key != "a" || p.Since != since || p.Probe || p.Name != "pay" || !p.Issued.Equal(time.UnixMilli(0)) {
					t.Fatalf("%s: %+v, its first pass was %+v", d.Key, p, first.Pass)
				}
				v := inPay
				v.Since = d.Pass.Since
				f.nextMilli()
				f.ok(f.Settle(f.ctx, d, v))
				if lane := f.lane(); !slices.Equal(lane, []string{"a", "b", "c"}) || f.field("a", "p:pass") != "" {
					t.Errorf("wait: %v, with %q", lane, f.field("a", "p:pass"))
				}
				f.driveN(1, delivery.Grant{Turn: 3, ID: "h"}, 1)
				if d := f.take(); d.Key != "a" || d.Pass.ID != "h:1" {
					t.Errorf("%s is next, with %+v", d.Key, d.Pass)
				}
			})
		}
	}
}

// One that is let through a queue that is paused has the place that shelving would give it.
func TestOneThatIsLetThroughHasItsPlace(t *testing.T) {
	t.Parallel()
	for name, had := range map[string]bool{"it has waited in the lane": true, "it is pending": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			since := f.redisMilli()
			if f.enqueue("a"); had {
				f.ok(f.Settle(f.ctx, f.take(), inPay))
				since = int64(f.rdb.ZScore(f.ctx, laneOfPay, "a").Val())
				f.driveN(1, granted, 1)
			}
			f.nextMilli()
			came := f.redisMilli()
			f.nextMilli()
			holdFor("pay")(f, nil)
			letThrough(f, nil)
			put, d := f.field("a", "p:pass"), f.take()
			if p := d.Pass; p == nil || !p.Probe || p.ID != "g:1" || p.Since < since || p.Since > came || had && p.Since != since {
				t.Fatalf("%+v, was %q", p, put)
			}
			f.ok(f.HandBack(f.ctx, d.Hold))
			if got, want := f.field("a", "p:pass"), fmt.Sprintf("%d 0 pass 0 - pay", d.Pass.Since); got != want {
				t.Errorf("when it is handed back it has %q, want %q", got, want)
			}
			if moved, over, err := f.Shelve(f.ctx, "q", "pay"); moved != 1 || !over || err != nil {
				t.Errorf("moved %d, %v, %v", moved, over, err)
			}
			if got := int64(f.rdb.ZScore(f.ctx, laneOfPay, "a").Val()); got != d.Pass.Since {
				t.Errorf("it waits since %d, was %d", got, d.Pass.Since)
			}
		})
	}
}

// A claim changes of a pass what lets something begin, and touches nothing of a job that
// has none.
func TestWhatAClaimLeavesOfAPass(t *testing.T) {
	t.Parallel()
	claim := func(f *fixture) []string {
		before := f.dump()
		f.take()
		return slices.DeleteFunc(changes(before, f.dump()), func(change string) bool { return !strings.Contains(change, "p:pass") })
	}
	for name, c := range map[string]struct{ pass, left string }{
		"of a lane":            {"77 1700000000000 pass 3 g:1 pay", "77 0 pass 0 - pay"},
		"of a probe":           {"77 1700000000000 probe 3 g:1 pay", "77 0 pass 0 - pay"},
		"of a limit":           {"77 1700000000000 pass 0 g:12 kind/kind.a", "77 0 pass 0 - kind/kind.a"},
		"of a place":           {"77 0 pass 0 - pay", ""},
		"that nobody can read": {"seven", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			f.enqueue("k")
			f.rdb.HSet(f.ctx, taskKey("q", "k"), "p:pass", c.pass)
			want := []string{}
			if c.left != "" {
				want = []string{"~asynq:{q}:t:k p:pass=" + c.left}
			}
			if got := claim(f); !slices.Equal(got, want) {
				t.Errorf("changed %q, want %q", got, want)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		f := open(t)
		f.enqueue("k")
		if got := claim(f); len(got) > 0 {
			t.Errorf("changed %q", got)
		}
	})
}

// placeChanges continues scriptChanges.
const placeChanges = `
cancelled 1 sent from a lane
+asynq:{q}:completed k=<time>
+asynq:{q}:t:k p:end=cancelled
+asynq:{q}:t:k p:exp=<time>
+perdure:{q}:events 0=cancel k by ada: not wanted (running -> cancelled)
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:pass
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k p:ltok=2-o-2
~asynq:{q}:t:k state=completed

complete 1 sent from a lane
+asynq:{q}:completed k=<time>
+asynq:{q}:processed:<day> ttl=set
+asynq:{q}:processed:<day>=1
+asynq:{q}:processed=1
+asynq:{q}:t:k p:exp=<time>
+asynq:{q}:t:k result="done"
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:pass
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k p:ltok=2-o-2
~asynq:{q}:t:k state=completed

continue 1 sent from a lane
+asynq:{q}:pending=k
+asynq:{q}:t:k p:round=1
+asynq:{q}:t:k pending_since=<time>
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:pass
-asynq:{q}:t:k p:tok
-asynq:{q}:t:k p:ver
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k p:ltok=2-o-2
~asynq:{q}:t:k state=pending

handback 1 sent from a lane
+asynq:{q}:pending=k
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k p:ltok=2-o-2
~asynq:{q}:t:k state=pending

park 1 sent from a lane
+asynq:{q}:retry k=<time>
+asynq:{q}:t:k p:due=<time>
+asynq:{q}:t:k p:wait=2 <time> signal go
+asynq:{q}:t:k w:go=0 <time> signal
+perdure:{q}:parked k=<time>
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:pass
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k p:ltok=2-o-2
~asynq:{q}:t:k p:pn=2
~asynq:{q}:t:k state=retry

pause 1 sent from a lane
+asynq:{q}:retry k=<time>
+asynq:{q}:t:k f:1
+asynq:{q}:t:k p:due=<time>
+asynq:{q}:t:k p:fn=1
+asynq:{q}:t:k p:wait=2 <time> kind pay ments
+asynq:{q}:t:k p:waits=1
+perdure:{q}:parked k=<time>
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:pass
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k p:ltok=2-o-2
~asynq:{q}:t:k p:pn=2
~asynq:{q}:t:k state=retry

quarantine 1 sent from a lane
+asynq:{q}:archived k=<time>
+asynq:{q}:failed:<day> ttl=set
+asynq:{q}:failed:<day>=1
+asynq:{q}:failed=1
+asynq:{q}:processed:<day> ttl=set
+asynq:{q}:processed:<day>=1
+asynq:{q}:processed=1
+asynq:{q}:t:k f:1
+asynq:{q}:t:k p:att=1
+asynq:{q}:t:k p:dead
+asynq:{q}:t:k p:fn=1
+asynq:{q}:t:k p:sig=<signature>
+perdure:{q}:dead k=<time>
+perdure:{q}:events 0=quarantine k by perdure: exhausted (running -> quarantined)
+perdure:{q}:groups <signature>=<time>
+perdure:{q}:groups:<signature> about
+perdure:{q}:groups:<signature> first=<time>
+perdure:{q}:groups:<signature> seen=1
+perdure:{q}:groups:<signature> v:1=1
+perdure:{q}:groups:<signature>:keys k=<time>
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:pass
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k p:ltok=2-o-2
~asynq:{q}:t:k state=archived

retry 1 sent from a lane
+asynq:{q}:failed:<day> ttl=set
+asynq:{q}:failed:<day>=1
+asynq:{q}:failed=1
+asynq:{q}:processed:<day> ttl=set
+asynq:{q}:processed:<day>=1
+asynq:{q}:processed=1
+asynq:{q}:retry k=<time>
+asynq:{q}:t:k f:1
+asynq:{q}:t:k p:att=1
+asynq:{q}:t:k p:due=<time>
+asynq:{q}:t:k p:fn=1
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:pass
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k p:ltok=2-o-2
~asynq:{q}:t:k state=retry

suspect 1 sent from a lane
+asynq:{q}:retry k=<time>
+asynq:{q}:t:k f:1
+asynq:{q}:t:k p:cra=1
+asynq:{q}:t:k p:due=<time>
+asynq:{q}:t:k p:fn=1
+asynq:{q}:t:k p:icr=1
+asynq:{q}:t:k p:wait=2 <time> isolation a process of its own
+perdure:{q}:parked k=<time>
+perdure:{q}:suspects k=<time>
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k p:ltok=2-o-2
~asynq:{q}:t:k p:pn=2
~asynq:{q}:t:k state=retry

takeback 1 sent from a lane
+asynq:{q}:pending=k
+asynq:{q}:t:k f:1
+asynq:{q}:t:k p:fn=1
+asynq:{q}:t:k p:undo=quarantine {"outcome":"quarantine","reason":"exhausted","entry":{"class":"transient","rule":"","reason":"exhausted","kind":"","message":"boom","signature":"","worker":""},"since":"<day>T22:13:20Z","attempts":0}
+asynq:{q}:t:k pending_since=<time>
+perdure:{q}:events 0=undo k by perdure: exhausted (running -> pending, to be undone)
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:pass
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k p:ltok=2-o-2
~asynq:{q}:t:k state=pending
`

// TestPutBackKeepsTheTurns: who comes from a lane and is put back before it began goes first
// of its tenant's, and not before those of others.
func TestPutBackKeepsTheTurns(t *testing.T) {
	t.Parallel()
	f := open(t)
	for i := range 6 {
		f.ofNumber("a", i)
		f.ok(f.Settle(f.ctx, f.take(), inPay))
	}
	f.driveN(6, granted, 1)
	for range 6 {
		f.take()
	}
	f.of("b", 6)
	found, err := f.Holdings(f.ctx, "q", "o")
	f.ok(err)
	for _, h := range found.Held {
		f.ok(f.HandBack(f.ctx, h.Hold))
	}
	var tenants string
	for range 12 {
		tenants += f.takeAs("p").Key[:1]
	}
	if tenants != "abababababab" {
		t.Errorf("jobs were taken in the order %s", tenants)
	}
}

// TestReplayedAnewInLine: a job that was quarantined while its place was kept stands in no
// line any more, whoever sends it back.
func TestReplayedAnewInLine(t *testing.T) {
	t.Parallel()
	redistest.Foreign(t)
	for name, again := range map[string]func(f *fixture){
		"run now": func(f *fixture) { f.ok(f.inspector().RunTask("q", "k")) },
		"replay":  func(f *fixture) { _, err := f.Replay(f.ctx, "q", "k", false, why); f.ok(err) },
	} {
		f := open(t)
		f.enqueue("k")
		f.settle(f.take(), delivery.Quarantine)
		f.rdb.HSet(f.ctx, taskKey("q", "k"), "p:pass", "1 0 pass 0 - pay") // as when asynq's tools archive one that was put back
		again(f)
		if d := f.take(); d.Pass != nil {
			t.Errorf("%s: it has %+v", name, d.Pass)
		}
	}
}
