package store

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// seenBy is a vote about pay: calls of both whiles, and those of them that failed.
func seenBy(owner string, turn, calls, failed, long, longFailed int) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		f.t.Helper()
		code, err := f.runCode(f.ctx, "vote", dependencyKeys("pay"), "pay", owner, turn, calls, failed, long, longFailed, "refused", delivery.VoteStands.Milliseconds())
		f.ok(err)
		return code
	}
}

// alone has fewer than a quorum have said, so many ms ago, that pay is gone.
func alone(ago int64) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		return f.rdb.HSet(f.ctx, dependencyKeys("pay")[4], "!alone", f.redisMilli()-ago).Val()
	}
}

// opensPay has pay opened by the only worker's vote, in its first turn.
func opensPay(f *fixture) any {
	f.t.Helper()
	if code := seenBy("o", 0, 5, 5, 5, 5)(f, nil); code != int64(1) {
		f.t.Fatalf("five of five calls failed: %v", code)
	}
	return nil
}

func fields(pairs ...any) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any { return f.rdb.HSet(f.ctx, dependencyKey("pay"), pairs...).Val() }
}

// ago is a field of pay's record that lies back.
func ago(field string, ms int64) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		return f.rdb.HSet(f.ctx, dependencyKey("pay"), field, f.redisMilli()-ms).Val()
	}
}

func grantRaw(id string, waiting, most int, checker bool) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		f.t.Helper()
		reply, err := f.run(f.ctx, "grant", append(dependencyKeys("pay"), leasesKey("pay")), "pay", waiting, most, id, flag(checker))
		f.ok(err)
		return reply
	}
}

func probedRaw(probe string, found delivery.Probed) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		f.t.Helper()
		code, err := f.runCode(f.ctx, "probed", dependencyKeys("pay"), "pay", probe, string(found), "refused")
		f.ok(err)
		return code
	}
}

// probeDue lets the next probe be made now.
func probeDue(f *fixture, _ any) any { return f.rdb.HSet(f.ctx, dependencyKey("pay"), "next", 1).Val() }

var (
	probing   = after(opensPay, probeDue, grantRaw("g", 3, 1, false))
	recovered = after(probing, probedRaw("1 g:1", delivery.ProbeWell))                // it recovers
	hung      = after(probing, ago("lasts", 0), probeDue, grantRaw("h", 3, 1, false)) // and another one was made
)

func forceRaw(verb string) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		f.t.Helper()
		code, err := f.runCode(f.ctx, "force", append(dependencyKeys("pay"), dependencyDecidedKey("n")), "pay", verb, "ada", "because")
		f.ok(err)
		f.rdb.Rename(f.ctx, dependencyDecidedKey("n"), dependencyDecidedKey("m")) // a decision of its own
		return code
	}
}

func tuneRaw(origin string, pairs ...any) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		f.t.Helper()
		keys := append(dependencyKeys("pay")[:4:4], dependencyDecidedKey("n"))
		code, err := f.runCode(f.ctx, "tune", keys, append([]any{"pay", origin, "ada", "because"}, pairs...)...)
		f.ok(err)
		f.rdb.Rename(f.ctx, dependencyDecidedKey("n"), dependencyDecidedKey("m"))
		return code
	}
}

func throttleRaw(ms int) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		f.t.Helper()
		code, err := f.runCode(f.ctx, "throttle", dependencyKeys("pay"), "pay", ms, "429", delivery.VoteStands.Milliseconds())
		f.ok(err)
		return code
	}
}

func rememberRaw(turn int) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		f.t.Helper()
		code, err := f.runCode(f.ctx, "remember", dependencyKeys("pay"), "pay", turn)
		f.ok(err)
		return code
	}
}

// asks asks for pay, and for ship after it when there is a second pass.
func asks(passes ...string) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		f.t.Helper()
		var keys []string
		args := []any{"id", 5000}
		for i, pass := range passes {
			name := []string{"pay", "ship"}[i]
			keys, args = append(keys, dependencyKey(name), leasesKey(name)), append(args, pass)
		}
		reply, err := f.run(f.ctx, "admit", keys, args...)
		f.ok(err)
		return reply
	}
}

// denied asks and is told why not.
func denied(why string, passes ...string) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		f.t.Helper()
		reply := asks(passes...)(f, nil).([]any)
		if len(reply) != 3 || reply[1] != why {
			f.t.Errorf("answered %v, want %s", reply, why)
		}
		return reply
	}
}

// grants asks for a grant and compares it.
func grants(state jobs.DependencyState, n int, probe string, waiting int, checker bool) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		f.t.Helper()
		reply := grantRaw("g", waiting, 500, checker)(f, nil).([]any)
		if reply[0] != string(state) || reply[2] != int64(n) || reply[3] != probe {
			f.t.Errorf("granted %v, want %s, %d, %q", reply, state, n, probe)
		}
		return reply
	}
}

// takes takes a place of pay for a while.
func takes(id string, ms int64) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		return f.rdb.ZAdd(f.ctx, leasesKey("pay"), redis.Z{Score: float64(f.redisMilli() + ms), Member: id}).Val()
	}
}

func shipIsAway(f *fixture, _ any) any {
	return f.rdb.HSet(f.ctx, dependencyKey("ship"), "state", "open").Val()
}

func dependencyCases() []scriptCase {
	limited := after(nil, fields("code:rate", 0.01, "code:places", 2))
	noLine := after(recovered, ago("lined", 5000), fields("code:resume", 0.1))
	return []scriptCase{
		{"vote 1", nil, seenBy("o", 0, 5, 5, 5, 5)},
		{"vote 1 it recovers", recovered, seenBy("o", 1, 2, 2, 2, 2)},
		{"vote 0", nil, seenBy("o", 0, 5, 0, 5, 0)},
		{"vote 0 few have failed", nil, seenBy("o", 0, 5, 1, 5, 1)},
		{"vote 0 the others are idle", after(nil, seenBy("p", 0, 0, 0, 0, 0)), seenBy("o", 0, 5, 5, 5, 5)},
		{"vote 1 the others are idle still", after(nil, seenBy("p", 0, 0, 0, 0, 0), alone(2500)), seenBy("o", 0, 0, 0, 5, 5)},
		{"vote 0 it is open", opensPay, seenBy("o", 1, 5, 5, 5, 5)},
		{"vote -1", opensPay, seenBy("o", 0, 5, 5, 5, 5)},
		{"vote -1 of the turn before", recovered, seenBy("o", 0, 5, 5, 5, 5)},

		{"admit 0 nothing bounds it", nil, asks("")},
		{"admit 0 rate and place", limited, asks("")},
		{"admit 0 with a pass", after(limited, fields("line", 1, "rate:next", 1<<42), ago("lined", 0), takes("g:1", 60_000)), asks("g:1")},
		{"admit 0 of two", after(limited, ago("lined", 5000), fields("line", 1)), asks("", "")},
		{"admit 0 it recovers", noLine, asks("")},
		{"admit 0 a probe, whatever the rate", after(limited, asks("")), asks("!")},
		{"admit 1 open", opensPay, denied("open", "")},
		{"admit 1 recovering", after(noLine, asks("")), denied("recovering", "")},
		{"admit 1 rate", after(limited, asks("")), denied("rate", "")},
		{"admit 1 throttled", after(nil, throttleRaw(5000)), denied("throttled", "")},
		{"admit 1 busy", after(limited, takes("a", 5000), takes("b", 5000)), denied("busy", "")},
		{"admit 1 line", after(limited, fields("line", 1), ago("lined", 0)), denied("line", "")},
		{"admit 2 the first is not counted", after(limited, shipIsAway), denied("open", "", "")},
		{"admit 2 a pass is given back", after(limited, grantRaw("g", 3, 1, false), shipIsAway), denied("open", "g:1", "-")},
		{"admit 2 a pass of one that recovers is given back", after(recovered, grantRaw("g", 3, 1, false), shipIsAway), denied("open", "g:1", "-")},
		{"admit 2 a pass is given back once", after(limited, grantRaw("g", 3, 1, false), shipIsAway, asks("g:1", "-")), denied("open", "g:1", "-")},
		{"admit 1 a place that was kept has ended", after(limited, takes("a", 5000), takes("b", 5000)), denied("busy", "g:1")},

		{"grant 0 none waits", nil, grants(jobs.DependencyClosed, 0, "", 0, false)},
		{"grant 0 too soon for a probe", after(opensPay, ago("next", -1900)), grants(jobs.DependencyOpen, 0, "", 3, false)},
		{"grant 0 job", after(opensPay, probeDue), grants(jobs.DependencyOpen, 1, "job", 3, false)},
		{"grant 0 health", after(opensPay, probeDue), grants(jobs.DependencyOpen, 1, "health", -1, true)},
		{"grant 0 left to the health check", after(opensPay, probeDue, ago("checker", 0)), grants(jobs.DependencyOpen, 0, "", 3, false)},
		{"grant 0 what was known is lost", nil, grants(jobs.DependencyRecovering, 1, "", 3, false)},
		{"grant 0 while it recovers", recovered, grants(jobs.DependencyRecovering, 1, "", 3, false)},
		{"grant 0 places and rate", limited, grants(jobs.DependencyClosed, 1, "", 3, false)},
		{"grant 0 closes", after(recovered, ago("from", 20000)), grants(jobs.DependencyClosed, 0, "", 0, false)},
		{"grant 0 closes one with settings", after(recovered, ago("from", 20000), tuneRaw("", "resume", "10")), grants(jobs.DependencyClosed, 0, "", 0, false)},

		{"probed 1 well", probing, probedRaw("1 g:1", delivery.ProbeWell)},
		{"probed 1 well, of one that hung", hung, probedRaw("1 g:1", delivery.ProbeWell)},
		{"probed 1 failed", probing, probedRaw("1 g:1", delivery.ProbeFailed)},
		{"probed 1 nothing", probing, probedRaw("1 g:1", delivery.ProbeNothing)},
		{"probed 0 failed, of one that hung", hung, probedRaw("1 g:1", delivery.ProbeFailed)},
		{"probed 0 nothing, of one that hung", hung, probedRaw("1 g:1", delivery.ProbeNothing)},
		{"probed 0 of another turn", probing, probedRaw("0 g:1", delivery.ProbeWell)},
		{"probed 0 somebody has opened it", after(probing, forceRaw("open")), probedRaw("1 g:1", delivery.ProbeWell)},
		{"probed 0 it recovers", recovered, probedRaw("1 g:1", delivery.ProbeFailed)},

		{"force 1 open", nil, forceRaw("open")},
		{"force 1 open what is open", probing, forceRaw("open")},
		{"force 1 close", after(nil, forceRaw("open")), forceRaw("close")},
		{"force 2 open", after(nil, forceRaw("open")), forceRaw("open")},
		{"force 2 close", nil, forceRaw("close")},
		{"force 2 close what recovers", recovered, forceRaw("close")},

		{"tune 1", nil, tuneRaw("", "resume", "5", "rate", "10")},
		{"tune 1 code", nil, tuneRaw("code:", "resume", "5", "places", "2")},
		{"tune 1 taken back", after(nil, tuneRaw("", "rate", "10")), tuneRaw("", "rate", "")},
		{"tune 2", after(nil, tuneRaw("", "rate", "10")), tuneRaw("", "rate", "10")},
		{"tune 2 code", after(nil, tuneRaw("code:", "rate", "10")), tuneRaw("code:", "rate", "10", "resume", "")},

		{"throttle 1", after(nil, seenBy("o", 0, 40, 0, 40, 0)), throttleRaw(5000)},
		{"throttle 1 while it recovers", recovered, throttleRaw(5000)},
		{"throttle 2", after(nil, throttleRaw(5000)), throttleRaw(4000)},
		{"throttle 0", opensPay, throttleRaw(5000)},

		{"remember 1", nil, rememberRaw(4)},
		{"remember 0", opensPay, rememberRaw(1)},
		{"remember 0 it has closed", after(recovered, ago("from", 20000), grantRaw("g", 0, 500, false)), rememberRaw(1)},
	}
}

// laneOfPay is where jobs of kind.a wait for pay.
var laneOfPay = laneKey("q", "pay kind.a")

// inPay is the verdict on a job that has to wait for pay.
var inPay = delivery.Verdict{Outcome: delivery.Pause, Lane: true, Waiting: jobs.Waiting{Type: "dependency", Name: "pay"}, Said: "pay is not available", Delay: time.Hour}

// waits has a job wait for pay.
func (f *fixture) waitsFor(key string) {
	f.t.Helper()
	f.ok(f.Settle(f.ctx, f.running(key), inPay))
}

func parkedIn(keys ...string) func(f *fixture) any {
	return func(f *fixture) any {
		for i, key := range keys {
			if i > 0 {
				f.nextMilli() // they came one after the other
			}
			f.waitsFor(key)
		}
		return nil
	}
}

func driveRaw(most int) func(f *fixture, _ any) any { return driveAs("pass 1 ", most) }

func driveAs(pass string, most int) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		f.t.Helper()
		keys := []string{laneOfPay, lanesKey("q"), retryKey("q"), parkedKey("q"), pendingKey("q"), taskKey("q", ""), droveKey("q", "g", 1), probesKey("q")}
		reply, err := f.run(f.ctx, "drive", keys, most, "pay", "pay kind.a", pass, "g", 1, 0)
		f.ok(err)
		return reply
	}
}

func holdFor(name string) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		f.t.Helper()
		f.ok(f.HoldQueue(f.ctx, "q", name, "it is away"))
		return nil
	}
}

func shelveRaw(most int) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		f.t.Helper()
		keys := []string{
			pendingKey("q"), pausedKey("q"), holdsKey("q"), retryKey("q"), parkedKey("q"), lanesKey("q"), taskKey("q", ""), laneKey("q", ""),
			eventsKey("q"), probesKey("q"),
		}
		reply, err := f.run(f.ctx, "shelve", keys, "pay", holdName("pay"), most, 60000, "paused: came meanwhile")
		f.ok(err)
		return reply
	}
}

func laneCases() []scriptCase {
	inLane := func(since int64) func(f *fixture, from any) any {
		return func(f *fixture, from any) any {
			v := inPay
			v.Since = since
			code, err := f.pause(f.ctx, held(f, from), v)
			f.ok(err)
			return code
		}
	}
	runAgain := func(f *fixture, _ any) any { f.ok(f.inspector().RunTask("q", "k")); return nil }
	let := func(f *fixture, _ any) any { return f.rdb.HSet(f.ctx, probesKey("q"), "pay", "x").Val() }
	return []scriptCase{
		{"pause 1 in a lane", run, inLane(0)},
		{"pause 1 in a lane, where it was", run, inLane(77)},
		{"pause 2 in a lane", after(run, inLane(0)), inLane(0)},
		{"pause -1 in a lane", gone, inLane(0)},
		{"pause -2 in a lane", stale, inLane(0)},
		{"drive 1", parkedIn("k", "l"), driveRaw(1)},
		{"drive 1 the last", parkedIn("k"), driveRaw(5)},
		{"drive 1 a probe", parkedIn("k"), driveAs("probe 1 ", 1)},
		{"drive 0 none waits", nil, driveRaw(5)},
		{"drive 0 it has moved on", after(parkedIn("k"), runAgain), driveRaw(5)},
		{"drive 0 it is gone", after(parkedIn("k"), func(f *fixture, _ any) any { return f.inspector().DeleteTask("q", "k") }), driveRaw(5)},
		{"shelve 0 it is not paused", pendingJob, shelveRaw(5)},
		{"shelve 0 over", after(nil, holdFor("pay"), let), shelveRaw(5)},
		{"shelve 1 over", after(pendingJob, holdFor("pay")), shelveRaw(5)},
		{"shelve 1 not over", after(pendingJob, func(f *fixture, _ any) any { f.enqueue("l"); return nil }, holdFor("pay")), shelveRaw(1)},
		{"shelve 1 others pause it too", after(pendingJob, holdFor("pay"), hold("pause", "operator")), shelveRaw(5)},
		{"shelve 0 asynq's tools have paused it meanwhile", after(nil, holdFor("pay"), pausedAnew), shelveRaw(5)},
		{"shelve 0 one that was sent back", after(parkedIn("k"), driveRaw(1), holdFor("pay")), shelveRaw(5)},
	}
}

// TestEveryAnswerInWordsIsTested reads the words out of the headers of scripts that
// answer with a list.
func TestEveryAnswerInWordsIsTested(t *testing.T) {
	t.Parallel()
	var tested []string
	for _, c := range slices.Concat(dependencyCases(), laneCases()) {
		tested = append(tested, strings.Fields(c.name)...)
	}
	quoted := regexp.MustCompile(`'(\w+)'`)
	for _, name := range []string{"admit", "grant"} {
		comment, _ := header(name)
		_, returns, _ := strings.Cut(comment, "-- Returns ")
		words := quoted.FindAllStringSubmatch(returns, -1)
		if len(words) < 2 {
			t.Errorf("%s.lua: its header has the answers %q only", name, words)
		}
		for _, word := range words {
			if !slices.Contains(tested, word[1]) {
				t.Errorf("no case makes %s answer %q", name, word[1])
			}
		}
	}
}

// payLimit is what bounds pay, in the fault cases.
var payLimit = jobs.Dependency{Name: "pay", Limit: jobs.Limit{Rate: 0.01, Concurrency: 2}}

// dependencyFaults are the calls about dependencies.
func dependencyFaults() []faultCase {
	declared := func(f *fixture) any { f.ok(f.Declare(f.ctx, payLimit)); return nil }
	slow := fields("code:resume", 0.1) // so that no other may begin before the call is made again
	vote := func(f *fixture, _ any) error {
		_, err := f.Vote(f.ctx, "o", delivery.Vote{Name: "pay", Calls: 5, Failed: 5, LongCalls: 5, LongFailed: 5, Reason: "refused"})
		return err
	}
	admit := func(f *fixture, _ any) error {
		_, err := f.Admit(f.ctx, "id", 5*time.Second, []delivery.Ask{{Name: "pay"}})
		return err
	}
	grant := func(f *fixture, _ any) error { _, err := f.Grant(f.ctx, "pay", 3, false); return err }
	probed := func(f *fixture, _ any) error {
		_, err := f.Probed(f.ctx, "pay", "1 g:1", delivery.ProbeWell, "")
		return err
	}
	force := func(f *fixture, _ any) error {
		was, err := f.ForceDependency(f.ctx, "pay", true, why)
		if err == nil && !was {
			return errNotDone
		}
		return err
	}
	tune := func(f *fixture, _ any) error {
		rate := 5.0
		was, err := f.TuneDependency(f.ctx, "pay", delivery.Tuning{Rate: &rate}, why)
		if err == nil && !was {
			return errNotDone
		}
		return err
	}
	return []faultCase{
		{script: "vote", call: vote},
		{script: "admit", arrange: declared, call: admit},
		{script: "admit", name: "refused elsewhere", arrange: after(declared, grantRaw("g", 3, 1, false), shipIsAway), call: func(f *fixture, _ any) error {
			_, err := f.Admit(f.ctx, "id", 5*time.Second, []delivery.Ask{{Name: "pay", Pass: "g:1"}, {Name: "ship", Pass: delivery.SentBack}})
			return err
		}},
		{script: "grant", name: "of a limit", arrange: func(f *fixture) any {
			f.ok(f.Declare(f.ctx, jobs.Dependency{Name: "pay", Limit: jobs.Limit{Rate: 0.01}}))
			return nil
		}, call: grant},
		// The places of an answer that was lost are free again after two seconds.
		{script: "grant", name: "of places", arrange: func(f *fixture) any {
			f.ok(f.Declare(f.ctx, jobs.Dependency{Name: "pay", Limit: jobs.Limit{Concurrency: 2}}))
			return nil
		}, call: grant},
		{script: "grant", name: "of a probe", arrange: after(opensPay, probeDue), call: grant},
		{script: "grant", name: "while it recovers", arrange: after(recovered, slow), call: grant},
		{script: "grant", name: "of what was lost", arrange: after(nil, slow), call: grant},
		{script: "probed", arrange: probing, call: probed},
		{script: "force", arrange: probing, call: force, itself: true},
		{script: "tune", call: tune, itself: true},
		{script: "tune", name: "of a program", call: func(f *fixture, _ any) error { return f.Declare(f.ctx, payLimit) }, itself: true},
		{script: "throttle", call: func(f *fixture, _ any) error { return f.Throttle(f.ctx, "pay", 5*time.Second, "429") }},
		{script: "remember", call: func(f *fixture, _ any) error { return f.Remember(f.ctx, "pay", 4) }},
	}
}

var errNotDone = errors.New("it was so before")

// laneFaults are the calls about jobs that wait for dependencies.
func laneFaults() []faultCase {
	inLane := func(f *fixture, d delivery.Delivery) error { return f.Settle(f.ctx, d, inPay) }
	drive := func(f *fixture, _ any) error {
		sent, left, err := f.Drive(f.ctx, pay, 1, delivery.Grant{Turn: 1, ID: "g"}, 1)
		if err == nil && (sent != 1 || left != 1) {
			return fmt.Errorf("sent %d, left %d", sent, left)
		}
		return err
	}
	claim := func(f *fixture, _ any) error { _, err := f.Claim(f.ctx, "q", "o", 2); return err }
	return []faultCase{
		{script: "pause", name: "in a lane", arrange: run, call: func(f *fixture, from any) error { return inLane(f, held(f, from)) },
			stale: inLane, staleErr: jobs.ErrLost},
		{script: "drive", arrange: parkedIn("k", "l"), call: drive},
		{script: "drive", name: "a probe, into a queue that is held", arrange: after(parkedIn("k", "l"), holdFor("pay")), call: func(f *fixture, _ any) error {
			_, _, err := f.Drive(f.ctx, pay, 1, delivery.Grant{Turn: 1, ID: "g", Probe: true}, 1)
			return err
		}},
		{script: "shelve", arrange: after(pendingJob, holdFor("pay")), call: func(f *fixture, _ any) error { _, _, err := f.Shelve(f.ctx, "q", "pay"); return err }},
		{script: "hold", name: "no longer for a dependency", arrange: after(pendingJob, holdFor("pay")), itself: true, call: func(f *fixture, _ any) error {
			return f.UnholdQueue(f.ctx, "q", "pay", "a kind has come")
		}},
		{script: "hold", name: "for a dependency", arrange: pendingJob, itself: true, call: func(f *fixture, _ any) error { return f.HoldQueue(f.ctx, "q", "pay", "it is away") }},
		// The one that is let through is handed back, and another one once that is due.
		{script: "claim", name: "of one that is let through", arrange: after(pendingJob, holdFor("pay"), letThrough),
			call: claim, again: lostClaim(func(f *fixture, _ string) error { return claim(f, nil) }), differs: []string{
				"+asynq:{q}:pending=k", "+asynq:{q}:t:k p:ltok=1-o", "-asynq:{q}:active", "-asynq:{q}:lease k",
				"-asynq:{q}:t:k p:tok", "-perdure:{q}:own:o k", "~asynq:{q}:t:k state=pending",
			}},
		{script: "census", name: "of a lost lane", arrange: after(parkedIn("k"), func(f *fixture, _ any) any {
			return f.rdb.Del(f.ctx, laneOfPay, lanesKey("q")).Val()
		}), call: func(f *fixture, _ any) error { _, err := f.Mend(f.ctx, "q", "k"); return err }},
	}
}

var pay = delivery.Lane{Queue: "q", Name: "pay", Kind: "kind.a"}

func letThrough(f *fixture, _ any) any {
	f.t.Helper()
	f.ok(f.LetThrough(f.ctx, "q", "pay", delivery.Grant{Turn: 1, ID: "g", Probe: true}))
	return nil
}
