package store

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// scriptCase makes one script give one documented answer. act runs between two
// dumps; what it changes is in changesWanted.
type scriptCase struct {
	name    string // script, answer, and more where a script has several ways to it
	arrange func(f *fixture) any
	act     func(f *fixture, from any) any
}

func held(f *fixture, from any) delivery.Delivery { return from.(delivery.Delivery) }

func run(f *fixture) any { return f.running("k") }

func gone(f *fixture) any {
	d := f.running("k")
	f.rdb.Del(f.ctx, taskKey("q", "k"))
	return d
}

// stale returns the delivery of an attempt that lost its job to another one.
func stale(f *fixture) any {
	d := f.running("k")
	_, err := f.Reclaim(f.ctx, "q", "o")
	f.ok(err)
	f.takeAs("p")
	return d
}

func verdictCases() []scriptCase {
	var cases []scriptCase
	for _, outcome := range outcomes() {
		name := string(outcome)
		if outcome == delivery.Park {
			continue // among the waits
		}
		if outcome == delivery.Cancel {
			name = "cancelled"
		}
		settle := func(f *fixture, from any) any { return f.settle(held(f, from), outcome) }
		twice := func(f *fixture) any {
			d := f.running("k")
			f.settle(d, outcome)
			return d
		}
		cases = append(cases, scriptCase{name + " 1", run, settle}, scriptCase{name + " 2", twice, settle},
			scriptCase{name + " -1", gone, settle}, scriptCase{name + " -2", stale, settle})
	}
	return cases
}

func checkpoint(run int) func(f *fixture, from any) any {
	return func(f *fixture, from any) any { return f.checkpoint(held(f, from), run, maxFields) }
}

func (f *fixture) checkpoint(d delivery.Delivery, run, most int) any {
	f.t.Helper()
	reply, err := f.run(f.ctx, "checkpoint", []string{taskKey("q", "k")}, d.Token, "s1", run, 5, `{"x":1}`, most, 0)
	f.ok(err)
	return reply
}

func progress(f *fixture, from any) any {
	reply, err := f.run(f.ctx, "progress", []string{taskKey("q", "k")}, held(f, from).Token, "s1", "half")
	f.ok(err)
	return reply
}

func absolve(f *fixture, from any) any {
	code, err := f.runCode(f.ctx, "absolve", []string{taskKey("q", "k")}, held(f, from).Token)
	f.ok(err)
	return code
}

func cancelCode(f *fixture, message string) any {
	m, _ := decodeMessage([]byte(message))
	code, err := f.runCode(f.ctx, "cancel", []string{
		taskKey("q", "k"), pendingKey("q"), scheduledKey("q"), retryKey("q"), completedKey("q"), parkedKey("q"), eventsKey("q"),
		lockOf("q", "k", m), deadKey("q"), decidedKey("q", rand.Text()), reportsKey("q"), orphansKey("q"), groupsKey("q"),
		queuedKey("q"),
	}, "k", message, message, 600, "ada", "because")
	f.ok(err)
	return code
}

func cancel(f *fixture, _ any) any { return cancelCode(f, f.field("k", "msg")) }

func replay(from string) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any { return replayCode(f, f.field("k", "msg"), from) }
}

func replayCode(f *fixture, message, from string) any {
	code, err := f.runCode(f.ctx, "replay", []string{taskKey("q", "k"), pendingKey("q"), archivedKey("q"), deadKey("q"), eventsKey("q"),
		decidedKey("q", rand.Text()), groupsKey("q")},
		"k", message, message, from, "ada", "because", "")
	f.ok(err)
	return code
}

func discard(f *fixture, _ any) any {
	code, err := f.runCode(f.ctx, "discard", []string{taskKey("q", "k"), archivedKey("q"), deadKey("q"), eventsKey("q"), taskKey("q", "k"), forgottenKey("q"),
		decidedKey("q", rand.Text()), reportsKey("q"), groupsKey("q")}, "k", "ada", "because", "discard", "")
	f.ok(err)
	return code
}

func hold(verb, reason string) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		code, err := f.runCode(f.ctx, "hold", []string{pausedKey("q"), holdsKey("q"), eventsKey("q"), decidedKey("q", rand.Text())},
			verb, reason, "ada", "because")
		f.ok(err)
		return code
	}
}

// foreignPause pauses the queue as asynq's tools do.
func foreignPause(f *fixture) any { f.ok(f.inspector().PauseQueue("q")); return nil }

// pausedAnew resumes the queue with asynq's tools and pauses it again.
func pausedAnew(f *fixture, _ any) any {
	f.ok(f.inspector().UnpauseQueue("q"))
	f.ok(f.inspector().PauseQueue("q"))
	return nil
}

func beat(again string) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		code, err := f.runCode(f.ctx, "beat", []string{ownersKey}, "o", again)
		f.ok(err)
		return code
	}
}

// after runs one act as another's arrangement.
func after(arrange func(f *fixture) any, acts ...func(f *fixture, from any) any) func(f *fixture) any {
	return func(f *fixture) any {
		var from any
		if arrange != nil {
			from = arrange(f)
		}
		for _, act := range acts {
			act(f, from)
		}
		return from
	}
}

func pendingJob(f *fixture) any { f.enqueue("k"); return nil }

func deadJob(f *fixture) any {
	d := f.running("k")
	f.checkpoint(d, 1, maxFields)
	f.settle(d, delivery.Quarantine)
	return d
}

func ended(outcome delivery.Outcome) func(f *fixture) any {
	return func(f *fixture) any {
		d := f.running("k")
		f.settle(d, outcome)
		return d
	}
}

func runNow(f *fixture, _ any) any {
	f.ok(f.inspector().RunTask("q", "k"))
	return nil
}

func decideJob(script string, keys ...string) func(f *fixture, _ any) any {
	return func(f *fixture, _ any) any {
		code, err := f.runCode(f.ctx, script, append(keys, decidedKey("q", rand.Text())), "k", "ada", "because")
		f.ok(err)
		return code
	}
}

var resume = decideJob("resume", taskKey("q", "k"), pendingKey("q"), scheduledKey("q"), retryKey("q"), parkedKey("q"), eventsKey("q"))

func suspend(f *fixture, _ any) any {
	code, err := f.runCode(f.ctx, "suspend", []string{
		taskKey("q", "k"), pendingKey("q"), scheduledKey("q"), retryKey("q"), parkedKey("q"), eventsKey("q"), suspectsKey("q"),
		decidedKey("q", rand.Text()), queuedKey("q"),
	}, "k", "ada", "because")
	f.ok(err)
	return code
}

func pauseCases() []scriptCase {
	later := func(f *fixture) any { f.enqueue("k", jobs.Delay(time.Hour)); return nil }
	longAgo := func(f *fixture, _ any) any { // so that its score changes
		return f.rdb.ZAddXX(f.ctx, parkedKey("q"), redis.Z{Score: 1, Member: "k"}).Val()
	}
	handBack := func(f *fixture, from any) any { return f.settle(held(f, from), delivery.HandBack) }
	claim := func(f *fixture, _ any) any { _, err := f.Claim(f.ctx, "q", "o", 1); f.ok(err); return nil }
	return []scriptCase{
		{"suspend 1 pending", pendingJob, suspend},
		{"suspend 1 scheduled", later, suspend},
		{"suspend 1 retrying", ended(delivery.Retry), suspend},
		{"suspend 1 paused", after(ended(delivery.Pause), longAgo), suspend},
		{"suspend 1 suspect", after(ended(delivery.Suspect), longAgo), suspend},
		{"suspend 2", run, suspend},
		{"suspend 3", after(run, suspend), suspend},
		{"suspend -1", nil, suspend},
		{"suspend -3 completed", ended(delivery.Complete), suspend},
		{"suspend -3 quarantined", deadJob, suspend},
		{"suspend -3 quarantined and run now", after(deadJob, runNow), suspend},
		{"suspend -3 to be cancelled", after(run, cancel), suspend},
		{"resume 1 pending", after(pendingJob, suspend), resume},
		{"resume 1 scheduled", after(later, suspend), resume},
		{"resume 1 retrying", after(ended(delivery.Retry), suspend), resume},
		{"resume 1 paused", after(ended(delivery.Pause), suspend), resume},
		{"resume 1 ran when it was paused", after(run, suspend, handBack, claim), resume},
		{"resume 2 running", after(run, suspend), resume},
		{"resume -1", nil, resume},
		{"resume -3", pendingJob, resume},
		{"cancel 1 paused by an operator", after(pendingJob, suspend), cancel},
		{"checkpoint 1 pause asked", after(run, suspend), checkpoint(1)},
		{"progress 1 pause asked", after(run, suspend), progress},
		{"complete 1 pause asked", after(run, suspend), func(f *fixture, from any) any { return f.settle(held(f, from), delivery.Complete) }},
	}
}

func otherCases() []scriptCase {
	return []scriptCase{
		{"checkpoint 1", run, checkpoint(1)},
		{"checkpoint 2", after(run, checkpoint(1)), checkpoint(1)},
		{"checkpoint -1", gone, checkpoint(1)},
		{"checkpoint -2", stale, checkpoint(1)},
		{"checkpoint -2 after the verdict", ended(delivery.Retry), checkpoint(1)},
		{"checkpoint -3", after(run, checkpoint(1)), checkpoint(2)},
		{"checkpoint -4", run, func(f *fixture, from any) any { return f.checkpoint(held(f, from), 1, 3) }},
		{"checkpoint 1 cancel asked", after(run, cancel), checkpoint(1)},
		{"progress 1", run, progress},
		{"progress 1 cancel asked", after(run, cancel), progress},
		{"progress -1", gone, progress},
		{"progress -2", stale, progress},
		{"progress -2 after the verdict", ended(delivery.HandBack), progress},
		{"cancel 1 pending", pendingJob, cancel},
		{"cancel 1 paused", ended(delivery.Pause), cancel},
		{"cancel 1 retrying", ended(delivery.Retry), cancel},
		{"cancel 1 asked before, retrying by now", after(run, cancel, func(f *fixture, from any) any { return f.settle(held(f, from), delivery.Retry) }), cancel},
		{"cancel 1 quarantined and run now", after(deadJob, runNow), cancel},
		{"cancel 2", run, cancel},
		{"cancel 3 asked", after(run, cancel), cancel},
		{"cancel 3 cancelled", after(pendingJob, cancel), cancel},
		{"cancel 0", pendingJob, func(f *fixture, _ any) any { return cancelCode(f, "other") }},
		{"cancel -1", nil, cancel},
		{"cancel -3 completed", ended(delivery.Complete), cancel},
		{"cancel -3 completed and run now", after(ended(delivery.Complete), runNow), cancel},
		{"cancel -3 quarantined", deadJob, cancel},
		{"replay 1 failed", deadJob, replay("failed")},
		{"replay 1 start", deadJob, replay("start")},
		{"replay 0", deadJob, func(f *fixture, _ any) any { return replayCode(f, "other", "failed") }},
		{"replay -1", nil, replay("failed")},
		{"replay -3", ended(delivery.Complete), replay("failed")},
		{"discard 1", deadJob, discard},
		{"discard -1", nil, discard},
		{"discard -3", pendingJob, discard},
		{"hold 1 pause", nil, hold("pause", "operator")},
		{"hold 1 resume", after(nil, hold("pause", "operator")), hold("resume", "operator")},
		{"hold 1 resume foreign", func(f *fixture) any { f.rdb.Set(f.ctx, pausedKey("q"), 1, 0); return nil }, hold("resume", "operator")},
		{"hold 1 pause after foreign resume", after(nil, hold("pause", "operator"), func(f *fixture, _ any) any { return f.rdb.Del(f.ctx, pausedKey("q")) }), hold("pause", "operator")},
		{"hold 1 a program's after a foreign pause", foreignPause, hold("pause", holdName("pay"))},
		{"hold 3 a foreign pause stays", after(nil, hold("pause", holdName("pay")), pausedAnew), hold("resume", holdName("pay"))},
		{"hold 3 a foreign pause is taken back", after(nil, hold("pause", holdName("pay")), pausedAnew), hold("resume", "operator")},
		{"hold 2 a foreign pause is no program's", foreignPause, hold("resume", holdName("pay"))},
		{"hold 2 pause", after(nil, hold("pause", "operator")), hold("pause", "operator")},
		{"hold 2 resume", nil, hold("resume", "operator")},
		{"hold 3", after(nil, hold("pause", "operator"), hold("pause", "payments")), hold("resume", "operator")},
		{"hold 3 not ours", after(nil, hold("pause", "payments")), hold("resume", "operator")},
		{"absolve 1", stale, absolve},
		{"absolve 1 of two", func(f *fixture) any {
			f.crash("k")
			return f.crash("k")
		}, absolve},
		{"absolve 1 alone", func(f *fixture) any {
			f.suspectNow("k")
			return f.crashAlone("k")
		}, absolve},
		{"absolve 0", run, absolve},
		{"absolve 0 twice", after(stale, absolve), absolve},
		{"absolve 0 another crash", func(f *fixture) any {
			first := f.crash("k")
			f.crash("k")
			return first
		}, absolve},
		{"beat 1 first", nil, beat("0")},
		{"beat 1 again", func(f *fixture) any { return f.rdb.ZAdd(f.ctx, ownersKey, redis.Z{Score: 1, Member: "o"}) }, beat("1")},
		{"beat 0", nil, beat("1")},
		{"presence 1", nil, func(f *fixture, _ any) any {
			code, err := f.runCode(f.ctx, "presence", []string{"a", "b"}, 10, "server", "k", "job")
			f.ok(err)
			return code
		}},
	}
}

func allCases() []scriptCase {
	return slices.Concat(verdictCases(), otherCases(), pauseCases(), waitCases(), undoCases(), childCases(), scheduleCases(), deadCases(), sealCases(), turnCases(), dependencyCases(), laneCases(), placeCases())
}

// TestScripts runs each script into each of its answers, and compares the whole
// database before and after.
func TestScripts(t *testing.T) {
	t.Parallel()
	for _, c := range allCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			var from any
			if c.arrange != nil {
				from = c.arrange(f)
			}
			before := f.dump()
			f.nextMilli() // so that a time that is set again is another one
			code := answer(c.act(f, from))
			got := fmt.Sprintf("%s\n%s", c.name, strings.Join(changes(before, f.dump()), "\n"))
			if want := strings.Fields(c.name)[1]; strconv.FormatInt(code, 10) != want {
				t.Errorf("answered %d", code)
			}
			if strings.TrimSpace(got) != changesWanted(c.name) {
				t.Errorf("changed:\n%s\nwant:\n%s", got, changesWanted(c.name))
			}
		})
	}
}

func answer(reply any) int64 {
	if parts, ok := reply.([]any); ok {
		reply = parts[0]
	}
	code, _ := reply.(int64)
	return code
}

func changesWanted(name string) string {
	for _, block := range strings.Split(strings.Join([]string{scriptChanges, childChanges, scheduleChanges, sealChanges, turnChanges, dependencyChanges, placeChanges}, "\n\n"), "\n\n") {
		if block = strings.TrimSpace(block); strings.SplitN(block, "\n", 2)[0] == name {
			return block
		}
	}
	return name // nothing changes
}

var (
	usedArgument = regexp.MustCompile(`(KEYS|ARGV)\[(\d+)\]`)
	answerCode   = regexp.MustCompile(`(?:^|[;:,] |Returns |or )(-?\d) [a-z]`)
)

// header is the comment that a script begins with, and the code after it.
func header(name string) (comment, code string) {
	var lines []string
	text := readLua(name)
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "--") {
			break
		}
		lines = append(lines, line)
	}
	comment = strings.Join(lines, "")
	return comment, text[len(comment):]
}

func TestScriptsSayWhatTheyTakeAndReturn(t *testing.T) {
	t.Parallel()
	for _, name := range ScriptNames() {
		comment, code := header(name)
		if !strings.HasPrefix(comment, "-- "+name+": ") {
			t.Errorf("%s.lua does not begin with its name", name)
		}
		if !strings.Contains(comment, "-- Returns") {
			t.Errorf("%s.lua does not say what it returns", name)
		}
		highest := map[string]int{}
		for _, used := range usedArgument.FindAllStringSubmatch(code, -1) {
			n, _ := strconv.Atoi(used[2])
			highest[used[1]] = max(highest[used[1]], n)
		}
		for array, most := range highest {
			for n := 1; n <= most; n++ {
				if !strings.Contains(comment, fmt.Sprintf("%s[%d]", array, n)) {
					t.Errorf("%s.lua does not document %s[%d]", name, array, n)
				}
			}
		}
		for _, documented := range usedArgument.FindAllStringSubmatch(comment, -1) {
			if n, _ := strconv.Atoi(documented[2]); n > highest[documented[1]] && !strings.Contains(code, "#"+documented[1]) {
				t.Errorf("%s.lua documents %s, which it does not use", name, documented[0])
			}
		}
	}
}

// TestEveryAnswerIsTested reads the answers out of the headers.
func TestEveryAnswerIsTested(t *testing.T) {
	t.Parallel()
	var tested []string
	for _, c := range allCases() {
		tested = append(tested, strings.Join(strings.Fields(c.name)[:2], " "))
	}
	lists := []string{"advance", "census", "claim", "expire", "holdings", "isolate", "promote", "reclaim", "relayed", "silent"} // no codes; tests of their own
	lists = append(lists, "admit", "drive", "grant", "shelve")                                                                  // TestEveryAnswerInWordsIsTested
	for _, name := range ScriptNames() {
		if slices.Contains(lists, name) {
			continue
		}
		comment, _ := header(name)
		_, returns, _ := strings.Cut(strings.ReplaceAll(comment, "\n-- ", " "), "Returns ")
		codes := answerCode.FindAllStringSubmatch("Returns "+returns, -1)
		if len(codes) == 0 && name != "presence" {
			t.Errorf("%s.lua: no answers found in its header", name)
		}
		for _, code := range codes {
			if want := name + " " + code[1]; !slices.Contains(tested, want) {
				t.Errorf("no test makes a script answer %q", want)
			}
		}
	}
}

// TestTimesAreOfRedis checks the values that TestScripts leaves out.
func TestTimesAreOfRedis(t *testing.T) {
	t.Parallel()
	f := open(t)
	now, err := f.rdb.Time(f.ctx).Result()
	f.ok(err)
	near := func(what, text string, unit time.Duration, want time.Time) {
		t.Helper()
		n, _ := strconv.ParseInt(text, 10, 64)
		at := time.Unix(0, n*int64(unit))
		if at.Before(want.Add(-time.Second)) || at.After(want.Add(20*time.Second)) {
			t.Errorf("%s is %v, want %v", what, at, want)
		}
	}
	for _, outcome := range outcomes() {
		d := f.running(string(outcome))
		near("claimed", f.field(d.Key, "p:cat"), time.Millisecond, now)
		near("lease", f.dump()[leaseKey("q")+" "+d.Key], time.Second, now.Add(30*time.Second))
		f.settle(d, outcome)
		if outcome == delivery.HandBack || outcome == delivery.Park || outcome == delivery.Continue || outcome == delivery.Takeback { // of a wait that is not armed
			f.settle(f.take(), delivery.Complete)
		}
	}
	all := f.dump()
	near("completed", all[completedKey("q")+" complete"], time.Second, now.Add(24*time.Hour))
	near("cancelled", all[completedKey("q")+" cancel"], time.Second, now.Add(24*time.Hour))
	near("archived", all[archivedKey("q")+" quarantine"], time.Second, now)
	near("dead", all[deadKey("q")+" quarantine"], time.Millisecond, now)
	near("parked", all[parkedKey("q")+" pause"], time.Millisecond, now)
	for _, key := range []string{"pause", "retry"} {
		near("waiting "+key, all[retryKey("q")+" "+key], time.Second, now.Add(time.Hour))
		near("due "+key, all[taskKey("q", key)+" p:due"], time.Millisecond, now.Add(time.Hour))
	}
	if since := strings.Fields(all[taskKey("q", "pause")+" p:wait"])[1]; since != all[parkedKey("q")+" pause"] {
		t.Errorf("p:wait says %s, the index %s", since, all[parkedKey("q")+" pause"])
	}
	if all[completedKey("q")+" complete"] != all[taskKey("q", "complete")+" p:exp"] {
		t.Error("p:exp is not the completed set's score")
	}
}
