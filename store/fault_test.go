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
	"github.com/perdure/perdure/internal/fault"
	"github.com/perdure/perdure/jobs"
)

// hooked is a store whose calls can be made to fail.
func hooked(t testing.TB) (*fixture, *fault.Hook) {
	f, h := open(t), fault.New(fault.Options{Script: ScriptName})
	f.rdb.AddHook(h)
	return f, h
}

// faultCase is one call of one script, made as a worker, a client or a scheduler
// makes it.
type faultCase struct {
	script  string
	name    string // more, where a script has several ways
	nth     int    // which call of the script goes wrong; 0: the first
	arrange func(f *fixture) any
	call    func(f *fixture, from any) error
	// again is what the caller does when it does not know the outcome; nil: the same
	// call.
	again func(f *fixture, from any) error
	// itself: the store sends the call again before its caller hears of it.
	itself bool
	// differs is what a lost answer leaves otherwise than a call that went well.
	differs []string
	// stale makes the call as one that has lost its job or was declared dead.
	stale    func(f *fixture, d delivery.Delivery) error
	staleErr error
}

// verdictFaults are the calls that end an execution.
func verdictFaults() (cases []faultCase) {
	for _, outcome := range outcomes() {
		script := scriptOf(outcome)
		settle := func(f *fixture, d delivery.Delivery) error { return f.Settle(f.ctx, d, verdicts[outcome]) }
		cases = append(cases, faultCase{
			script: script, arrange: run, stale: settle, staleErr: jobs.ErrLost,
			call: func(f *fixture, from any) error { return settle(f, held(f, from)) },
		})
	}
	return cases
}

// stepFaults are the other calls of an attempt.
func stepFaults() []faultCase {
	checkpoint := func(f *fixture, d delivery.Delivery) error {
		return f.Checkpoint(f.ctx, d.Hold, delivery.Checkpoint{Step: "s1", Run: d.Run, Output: []byte(`{"x":1}`), Elapsed: time.Second})
	}
	progress := func(f *fixture, d delivery.Delivery) error {
		return f.SaveProgress(f.ctx, d.Hold, "s1", []byte("half"))
	}
	await := func(f *fixture, d delivery.Delivery) error {
		_, _, err := f.Await(f.ctx, d.Hold, d.Run, forGo)
		return err
	}
	sendGo := func(f *fixture, _ any) any {
		f.ok(f.Signal(f.ctx, "q", "k", jobs.Signal{Name: "go", ID: "x", Data: []byte(`1`)}))
		return nil
	}
	ofHeld := func(do func(*fixture, delivery.Delivery) error) func(*fixture, any) error {
		return func(f *fixture, from any) error { return do(f, held(f, from)) }
	}
	wanted := func(do func(*fixture, delivery.Delivery) error) func(*fixture, any) error {
		return func(f *fixture, from any) error {
			if err := do(f, held(f, from)); !errors.Is(err, jobs.ErrCancelled) {
				return fmt.Errorf("a job that is to be cancelled: %w", err)
			}
			return nil
		}
	}
	absolve := func(f *fixture, d delivery.Delivery) error { return f.Absolve(f.ctx, d.Hold) }
	return []faultCase{
		{script: "checkpoint", arrange: run, call: ofHeld(checkpoint), stale: checkpoint, staleErr: jobs.ErrLost},
		{script: "checkpoint", name: "to be cancelled", arrange: after(run, cancel), call: wanted(checkpoint)},
		{script: "progress", arrange: run, call: ofHeld(progress), stale: progress, staleErr: jobs.ErrLost},
		{script: "progress", name: "to be cancelled", arrange: after(run, cancel), call: wanted(progress)},
		{script: "await", arrange: run, call: ofHeld(await), stale: await, staleErr: jobs.ErrLost},
		{script: "await", name: "of a signal that is there", arrange: after(run, sendGo), call: ofHeld(await)},
		{script: "park", name: "of an armed wait", arrange: after(run, func(f *fixture, from any) any { return await(f, held(f, from)) }),
			call: ofHeld(func(f *fixture, d delivery.Delivery) error { return f.Settle(f.ctx, d, verdicts[delivery.Park]) })},
		{script: "absolve", arrange: stale, call: ofHeld(absolve)},
		{script: "absolve", name: "of two", arrange: func(f *fixture) any { f.crash("k"); return f.crash("k") }, call: ofHeld(absolve)},
		{script: "absolve", name: "not its crash", call: ofHeld(absolve), stale: absolve, arrange: func(f *fixture) any {
			d := f.crash("k")
			f.crash("k")
			return d
		}},
	}
}

// lostClaim is what a worker does about a claim without an answer: it hands back
// what it holds and does not know, and claims again.
func lostClaim(claim func(f *fixture, owner string) error) func(f *fixture, from any) error {
	return func(f *fixture, _ any) error {
		h, err := f.Holdings(f.ctx, "q", "o")
		if err != nil {
			return err
		}
		for _, unknown := range h.Held {
			if err := f.HandBack(f.ctx, unknown.Hold); err != nil {
				return err
			}
		}
		return claim(f, "o")
	}
}

// onceMore is what a claim without an answer leaves behind when the job has been
// handed back and claimed again: one more token and one more run.
func onceMore(key string, lost, token, run int) []string {
	task := "asynq:{q}:t:" + key
	return []string{
		fmt.Sprintf("+%s p:ltok=%d-o", task, lost), fmt.Sprintf("~%s p:tok=%d-o", task, token), fmt.Sprintf("~%s p:run=%d", task, run),
		fmt.Sprintf("~perdure:{q}:own:o %s=%d-o", key, token), "~perdure:{q}:tokens=4",
	}
}

var errFenced = errors.New("fenced")

// ownerFaults are the calls of an owner.
func ownerFaults() []faultCase {
	fenced := func(is bool, err error) error {
		if is {
			return errFenced
		}
		return err
	}
	claim := func(f *fixture, owner string) error {
		batch, err := f.Claim(f.ctx, "q", owner, 2)
		return fenced(batch.Fenced, err)
	}
	isolate := func(f *fixture, owner string) error {
		batch, err := f.Isolate(f.ctx, "q", owner, true)
		return fenced(batch.Fenced, err)
	}
	holdings := func(f *fixture, owner string) error {
		h, err := f.Holdings(f.ctx, "q", owner)
		return fenced(h.Fenced, err)
	}
	beat := func(f *fixture, owner string) error {
		alive, err := f.Beat(f.ctx, owner, false)
		return fenced(err == nil && !alive, err)
	}
	as := func(do func(*fixture, string) error) func(*fixture, any) error {
		return func(f *fixture, _ any) error { return do(f, "o") }
	}
	dead := func(do func(*fixture, string) error) func(*fixture, delivery.Delivery) error {
		return func(f *fixture, _ delivery.Delivery) error { return do(f, "o") }
	}
	return []faultCase{
		{
			script: "claim", arrange: func(f *fixture) any { f.enqueue("k"); f.enqueue("l"); return nil },
			call: as(claim), again: lostClaim(claim), stale: dead(claim), staleErr: errFenced,
			differs: append(onceMore("k", 1, 4, 2), onceMore("l", 2, 3, 2)...),
		},
		{script: "claim", name: "of a suspect", call: as(claim), again: lostClaim(claim), arrange: func(f *fixture) any {
			f.crash("k")
			return f.crash("k")
		}},
		{script: "claim", name: "of entries without a job", call: as(claim), again: lostClaim(claim), arrange: after(ended(delivery.Complete), runNow)},
		{
			script: "isolate", arrange: func(f *fixture) any { f.suspectNow("k"); return nil },
			call: as(isolate), again: lostClaim(isolateAfterClaim), stale: dead(isolate), staleErr: errFenced,
			differs: append(onceMore("k", 3, 4, 4), "~asynq:{q}:t:k p:pn=2"),
		},
		{script: "holdings", arrange: run, call: as(holdings), stale: dead(holdings), staleErr: errFenced},
		{script: "beat", name: "first", call: func(f *fixture, _ any) error {
			alive, err := f.Beat(f.ctx, "o", true)
			return fenced(err == nil && !alive, err)
		}},
		{script: "beat", call: as(beat), arrange: beating},
		{script: "presence", call: func(f *fixture, _ any) error {
			return f.Announce(f.ctx, delivery.Presence{Host: "h", PID: 1, ID: "i", Active: []delivery.ActiveJob{{Queue: "q", Key: "k"}}}, time.Minute)
		}},
	}
}

// isolateAfterClaim takes a suspect that was handed back: the claim parks it again.
func isolateAfterClaim(f *fixture, owner string) error {
	if _, err := f.Claim(f.ctx, "q", owner, 2); err != nil {
		return err
	}
	_, err := f.Isolate(f.ctx, "q", owner, true)
	return err
}

// schedulerFaults are the calls of a scheduler.
func schedulerFaults() []faultCase {
	promote := func(f *fixture, _ any) error { _, err := f.Promote(f.ctx, "q"); return err }
	reclaim := func(f *fixture, _ any) error { _, err := f.Reclaim(f.ctx, "q", "o"); return err }
	waiting := func(f *fixture) any {
		f.settle(f.running("retrying"), delivery.Retry)
		f.settle(f.running("paused"), delivery.Pause)
		f.enqueue("scheduled", jobs.Delay(time.Hour))
		for _, key := range []string{"retrying", "paused", "scheduled"} {
			f.due(key)
		}
		return nil
	}
	mend := func(f *fixture, _ any) error { _, err := f.Mend(f.ctx, "q", "k"); return err }
	lose := func(what ...string) func(f *fixture, _ any) any {
		return func(f *fixture, _ any) any { return f.rdb.Del(f.ctx, what...).Val() }
	}
	return []faultCase{
		{script: "census", name: "of a lost job", arrange: after(run, lose(taskKey("q", "k"))), call: mend},
		{script: "census", name: "of a job in no place", arrange: after(pendingJob, lose(pendingKey("q"))), call: mend},
		{script: "census", name: "of a job that nobody owns", arrange: after(run, lose(ownerKey("q", "o"), leaseKey("q"))), call: mend},
		{script: "census", name: "of one archived elsewhere", call: mend, arrange: func(f *fixture) any {
			f.enqueue("k")
			f.ok(f.inspector().ArchiveTask("q", "k"))
			return nil
		}},
		{script: "promote", name: "of scheduled jobs", arrange: waiting, call: promote},
		{script: "promote", name: "of retries", nth: 2, arrange: waiting, call: promote},
		{script: "expire", arrange: ended(delivery.Complete), call: func(f *fixture, _ any) error {
			f.rdb.ZAddXX(f.ctx, completedKey("q"), redis.Z{Score: 1, Member: "k"})
			_, err := f.Expire(f.ctx, "q")
			return err
		}},
		{script: "silent", arrange: beating, call: func(f *fixture, _ any) error { _, err := f.Silent(f.ctx, 0); return err }},
		{script: "reclaim", call: reclaim, arrange: func(f *fixture) any {
			f.running("k")
			f.running("l")
			return nil
		}},
		{script: "reclaim", name: "of a job that ran alone", call: reclaim, arrange: func(f *fixture) any {
			f.suspectNow("k")
			f.isolate("o", true)
			return nil
		}},
		{script: "reclaim", name: "in two batches", nth: 2, call: reclaim, arrange: func(f *fixture) any {
			for i := range maxBatch + 1 {
				f.enqueue(fmt.Sprint("k", i))
			}
			f.claimAll("o")
			return nil
		}},
	}
}

func beating(f *fixture) any {
	_, err := f.Beat(f.ctx, "o", true)
	f.ok(err)
	return nil
}

// claimAll claims until nothing is pending.
func (f *fixture) claimAll(owner string) {
	for {
		batch, err := f.Claim(f.ctx, "q", owner, maxBatch)
		f.ok(err)
		if batch.Emptied {
			return
		}
	}
}

// decisionFaults are what people decide. The store sends them again itself.
func decisionFaults() []faultCase {
	waiting := func(f *fixture) any {
		d := f.running("k")
		_, _, err := f.Await(f.ctx, d.Hold, 1, forGo)
		f.ok(err)
		f.settle(d, delivery.Park)
		return nil
	}
	cancel := func(f *fixture, _ any) error { _, err := f.Cancel(f.ctx, "q", "k", why); return err }
	replay := func(fromStart bool) func(*fixture, any) error {
		return func(f *fixture, _ any) error { _, err := f.Replay(f.ctx, "q", "k", fromStart, why); return err }
	}
	pauseJob := func(f *fixture, _ any) error { _, err := f.Pause(f.ctx, "q", "k", why); return err }
	pause := func(f *fixture, _ any) error { return f.PauseQueue(f.ctx, "q", why) }
	resume := func(f *fixture, _ any) error { _, err := f.ResumeQueue(f.ctx, "q", why); return err }
	return []faultCase{
		{script: "cancel", name: "of a pending job", arrange: pendingJob, call: cancel, itself: true},
		{script: "cancel", name: "of a running job", arrange: run, call: cancel, itself: true},
		{script: "cancel", name: "of a paused job", arrange: ended(delivery.Pause), call: cancel, itself: true},
		{script: "suspend", name: "of a pending job", arrange: pendingJob, call: pauseJob, itself: true},
		{script: "suspend", name: "of a running job", arrange: run, call: pauseJob, itself: true},
		{script: "suspend", name: "of a retrying job", arrange: ended(delivery.Retry), call: pauseJob, itself: true},
		{script: "resume", arrange: after(ended(delivery.Retry), suspend), itself: true, call: func(f *fixture, _ any) error {
			_, err := f.Resume(f.ctx, "q", "k", why)
			return err
		}},
		{script: "replay", name: "from the failed step", arrange: deadJob, call: replay(false), itself: true},
		{script: "replay", name: "from the start", arrange: deadJob, call: replay(true), itself: true},
		{script: "discard", arrange: deadJob, itself: true, call: func(f *fixture, _ any) error {
			_, err := f.Discard(f.ctx, "q", "k", why)
			return err
		}},
		{script: "signal", name: "that wakes", arrange: waiting, itself: true, call: func(f *fixture, _ any) error {
			return f.Signal(f.ctx, "q", "k", jobs.Signal{Name: "go", ID: "x", Data: []byte(`1`), Actor: "ada", Reason: "because"})
		}},
		{script: "hold", name: "pause", arrange: pendingJob, call: pause, itself: true},
		{script: "hold", name: "resume", arrange: func(f *fixture) any {
			f.enqueue("k")
			f.ok(f.PauseQueue(f.ctx, "q", why))
			return nil
		}, call: resume, itself: true},
	}
}

func faultCases() []faultCase {
	return slices.Concat(verdictFaults(), stepFaults(), childFaults(), ownerFaults(), schedulerFaults(), decisionFaults(), scheduleFaults(), deadFaults(), sealFaults(), turnFaults())
}

func TestEveryScriptIsTestedWithFaults(t *testing.T) {
	t.Parallel()
	tested, refused := map[string]bool{}, map[string]bool{}
	for _, c := range faultCases() {
		tested[c.script] = true
		refused[c.script] = refused[c.script] || c.stale != nil
	}
	for _, name := range ScriptNames() {
		if !tested[name] {
			t.Errorf("no case in faultCases makes a call of %s fail", name)
		}
		if takes := takesToken(name); takes && !refused[name] {
			t.Errorf("no case in faultCases sends %s with a stale token", name)
		}
	}
}

// takesToken reads a script's header: does it take a token or an owner that may be
// stale? The census takes the token that its caller has just read, whoever's it is.
func takesToken(name string) bool {
	if name == "census" {
		return false
	}
	comment, code := header(name)
	return regexp.MustCompile(`ARGV\[\d\] (the )?token`).MatchString(comment) || strings.Contains(code, "!fenced") && name != "reclaim"
}

// TestFaults makes each call fail before and after it ran, and go out twice. When
// it has been sent again as its caller does, the database must be as if nothing had
// happened.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, c := range faultCases() {
		for _, when := range []fault.When{fault.Before, fault.After, fault.Twice} {
			t.Run(strings.TrimSpace(c.script+" "+c.name+" "+string(when)), func(t *testing.T) {
				t.Parallel()
				clean, _ := hooked(t)
				f, h := hooked(t)
				clean.ok(c.do(clean, nil, ""))
				f.ok(c.do(f, h, when))
				var want []string
				if when != fault.Before {
					want = slices.Compact(slices.Sorted(slices.Values(c.differs)))
				}
				if got := changes(clean.plain(), f.plain()); !slices.Equal(got, want) {
					t.Errorf("a fault leaves behind:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			})
		}
	}
}

// do makes a case's call on a database of its own, with a fault or without.
func (c faultCase) do(f *fixture, h *fault.Hook, when fault.When) error {
	f.t.Helper()
	var from any
	if c.arrange != nil {
		from = c.arrange(f)
	}
	if when == "" {
		return c.call(f, from)
	}
	before := f.plain()
	h.Fail(c.script, max(c.nth, 1), when)
	err := c.call(f, from)
	if n := h.Total(); n.Before+n.After+n.Twice != 1 {
		f.t.Fatalf("no fault happened: %+v", h.Counts())
	}
	lost := !c.itself && when != fault.Twice
	if lost != errors.Is(err, jobs.ErrUnavailable) {
		f.t.Fatalf("its caller sees %v", err)
	}
	if when == fault.Before && c.nth == 0 && lost {
		if changed := changes(before, f.plain()); len(changed) > 0 && c.script != "expire" && c.script != "presence" {
			f.t.Errorf("a call that was never sent changed:\n%s", strings.Join(changed, "\n"))
		}
	}
	switch {
	case c.again != nil:
		return c.again(f, from)
	case lost:
		return c.call(f, from)
	}
	return err
}

var (
	atText  = regexp.MustCompile(`"at":"[^"]*"`)
	incText = regexp.MustCompile(`\b[A-Z2-7]{20}\b`)
	seqText = regexp.MustCompile(`\b(\d+-\w+)-\d+\b`)
)

// plain is the database with what differs from run to run made equal: times, an
// owner's count of its calls, the random parts of a message, and the order of the
// list of what runs and of what a dead owner left.
func (f *fixture) plain() keyspace {
	f.t.Helper()
	all := keyspace{}
	for path, value := range f.dump() {
		if strings.HasSuffix(path, " msg") {
			value = plainMessage(value)
		}
		if strings.HasSuffix(path, " nonce") || strings.HasSuffix(path, " closed") || strings.HasSuffix(path, ":anchor") {
			value = "set" // of a call about a schedule, or of a decision at its time
		}
		path = incText.ReplaceAllString(nonceText.ReplaceAllString(path, ":decided:<nonce>"), "<incarnation>")
		for n := 2; all[path] != ""; n++ {
			path = fmt.Sprint(path, " #", n)
		}
		if path == activeKey("q") || path == pendingKey("q") {
			keys := strings.Split(value, ",")
			slices.Sort(keys)
			value = strings.Join(keys, ",")
		}
		value = seqText.ReplaceAllString(atText.ReplaceAllString(value, `"at":"<time>"`), "$1")
		all[dayText.ReplaceAllString(path, "<day>")] = incText.ReplaceAllString(timeText.ReplaceAllString(value, "<time>"), "<incarnation>")
	}
	return all
}

func plainMessage(data string) string {
	m, err := decodeMessage([]byte(data))
	if err != nil {
		return data
	}
	for _, name := range []string{headerIncarnation, headerNonce, headerEnqueued} {
		if m.Headers[name] != "" {
			m.Headers[name] = "set"
		}
	}
	m.LastFailedAt, m.CompletedAt = min(m.LastFailedAt, 1), min(m.CompletedAt, 1)
	return fmt.Sprintf("%+v", *m)
}

// losses are the ways to lose a job: each returns a delivery of owner o whose token
// owns nothing any more.
var losses = map[string]func(f *fixture) delivery.Delivery{
	"another owner runs it": func(f *fixture) delivery.Delivery { return held(f, stale(f)) },
	"it waits to be claimed": func(f *fixture) delivery.Delivery {
		d := f.running("k")
		f.reclaim("o")
		return d
	},
	"another owner has completed it": func(f *fixture) delivery.Delivery {
		d := f.running("k")
		f.reclaim("o")
		f.settle(f.takeAs("p"), delivery.Complete)
		return d
	},
	"another owner has paused it": func(f *fixture) delivery.Delivery {
		d := f.running("k")
		f.reclaim("o")
		f.settle(f.takeAs("p"), delivery.Pause)
		return d
	},
	"another owner has isolated it": func(f *fixture) delivery.Delivery {
		d := f.running("k")
		f.reclaim("o")
		f.settle(f.takeAs("p"), delivery.Quarantine)
		return d
	},
	"the key is another job's, which runs": func(f *fixture) delivery.Delivery {
		d := f.running("k")
		f.reclaim("o")
		f.settle(f.takeAs("p"), delivery.Quarantine)
		_, err := f.Discard(f.ctx, "q", "k", why)
		f.ok(err)
		f.enqueue("k")
		f.takeAs("p")
		return d
	},
	"it runs by itself": func(f *fixture) delivery.Delivery {
		f.crash("k")
		d := f.takeAs("o")
		f.reclaim("o")
		_, err := f.Claim(f.ctx, "q", "p", 1)
		f.ok(err)
		if batch := f.isolate("p", true); len(batch.Deliveries) != 1 {
			f.t.Fatalf("isolated %+v", batch)
		}
		return d
	},
}

// TestStaleCallsWriteNothing makes the calls of an owner that was declared dead,
// with the token of a job that others have taken over.
func TestStaleCallsWriteNothing(t *testing.T) {
	t.Parallel()
	for _, c := range faultCases() {
		if c.stale == nil {
			continue
		}
		for loss, lose := range losses {
			t.Run(strings.Join(strings.Fields(c.script+" "+c.name+" though "+loss), " "), func(t *testing.T) {
				t.Parallel()
				f, h := hooked(t)
				d := lose(f)
				if c.script == "absolve" { // the token of the last crash has a crash to take back; the second time it has none
					f.ok(f.Absolve(f.ctx, d.Hold))
				}
				d.Version = 1
				before := f.dump()
				for _, when := range []fault.When{"", fault.Before, fault.After, fault.Twice} {
					if when != "" {
						h.Fail(c.script, 1, when)
					}
					err := c.stale(f, d)
					if want := c.staleErr; when == fault.Before || when == fault.After {
						if !errors.Is(err, jobs.ErrUnavailable) {
							t.Errorf("%s: error %v", when, err)
						}
					} else if !errors.Is(err, want) || want == nil && err != nil {
						t.Errorf("%s: error %v, want %v", when, err, want)
					}
				}
				f.same(before, "a stale call")
			})
		}
	}
}

func TestADeadOwnerIsToldByItsBeat(t *testing.T) {
	t.Parallel()
	f, h := hooked(t)
	beating(f)
	f.running("k")
	f.reclaim("o")
	f.ok(f.Retire(f.ctx, "o"))
	before := f.dump()
	for _, when := range []fault.When{fault.Before, fault.After} {
		h.Fail("beat", 1, when)
		if _, err := f.Beat(f.ctx, "o", false); !errors.Is(err, jobs.ErrUnavailable) {
			t.Errorf("%s: %v", when, err)
		}
	}
	if alive, err := f.Beat(f.ctx, "o", false); alive || err != nil {
		t.Errorf("a dead owner is taken for living: %v, %v", alive, err)
	}
	f.same(before, "beats of a dead owner")
	// It may come back before it has heard an answer to its first beat. Then it is on
	// the list again, and its claims say that it is dead.
	if alive, err := f.Beat(f.ctx, "o", true); !alive || err != nil {
		t.Errorf("first beat: %v, %v", alive, err)
	}
	if batch, err := f.Claim(f.ctx, "q", "o", 1); err != nil || !batch.Fenced {
		t.Errorf("claimed %+v, %v", batch, err)
	}
}
