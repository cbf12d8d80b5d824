package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/fault"
	"github.com/perdure/perdure/jobs"
)

// asynqScript is what asynq's own scripts go by in a fault.Hook.
const asynqScript = "evalsha"

// TestEnqueueWithALostReply: the job is accepted once, and is this call's.
func TestEnqueueWithALostReply(t *testing.T) {
	t.Parallel()
	for _, when := range []fault.When{fault.Before, fault.After, fault.Twice} {
		for name, options := range map[string][]jobs.JobOption{"pending": nil, "scheduled": {jobs.Delay(time.Hour)}} {
			for _, read := range []string{"", "and the read after it"} {
				t.Run(fmt.Sprint(when, " ", name, read), func(t *testing.T) {
					t.Parallel()
					f, h := hooked(t)
					h.Fail("sadd", 1, when)
					h.Fail(asynqScript, 1, when)
					if read != "" {
						h.Fail("hgetall", 1, fault.After)
					}
					handle, err := f.Enqueue(f.ctx, jobs.Raw(kindA, "k", []byte(`1`), options...))
					if err != nil || handle.Duplicate || string(handle.State) != name {
						t.Fatalf("%+v, %v", handle, err)
					}
					info, err := f.Get(f.ctx, "q", "k")
					if err != nil || info.Incarnation != handle.Incarnation || string(info.State) != name {
						t.Errorf("%+v, %v", info, err)
					}
					if n := h.Counts()[asynqScript]; n.Before+n.After+n.Twice != 1 {
						t.Errorf("no fault: %+v", n)
					}
					q, err := f.QueueInfo(f.ctx, "q")
					if err != nil || q.Pending+q.Scheduled != 1 {
						t.Errorf("%+v, %v", q, err)
					}
				})
			}
		}
	}
}

// TestEnqueueOfUnknownOutcome: the caller is told so, and repeats it.
func TestEnqueueOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	for _, when := range []fault.When{fault.Before, fault.After} {
		f, h := hooked(t)
		for n := range 3 {
			h.Fail(asynqScript, n+1, when)
			h.Fail("hgetall", n+1, fault.Before)
		}
		job := jobs.Raw(kindA, "k", []byte(`1`))
		if _, err := f.Enqueue(f.ctx, job); !errors.Is(err, jobs.ErrUnavailable) {
			t.Fatalf("%s: %v", when, err)
		}
		handle, err := f.Enqueue(f.ctx, job)
		if err != nil || handle.Duplicate != (when == fault.After) {
			t.Errorf("repeated, %s: %+v, %v", when, handle, err)
		}
		if n := f.rdb.LLen(f.ctx, pendingKey("q")).Val(); n != 1 {
			t.Errorf("%s: %d pending", when, n)
		}
	}
}

// TestEnqueueManyWithFaults: three callers enqueue the same keys over a bad network.
func TestEnqueueManyWithFaults(t *testing.T) {
	t.Parallel()
	const n = 150
	f := open(t)
	f.rdb.AddHook(fault.New(fault.Options{Seed: 3, Before: 0.1, After: 0.1, Twice: 0.05, Script: ScriptName}))
	var many []jobs.Job
	for i := range n {
		many = append(many, jobs.Raw(kindA, fmt.Sprint("k", i), []byte(`1`)))
	}
	results := make([][]jobs.Enqueued, 3)
	var callers sync.WaitGroup
	for c := range results {
		callers.Go(func() { results[c] = f.EnqueueMany(f.ctx, many) })
	}
	callers.Wait()
	for i := range many {
		first, incarnations := 0, map[string]bool{}
		for _, result := range results {
			r := result[i]
			for tries := 0; r.Err != nil && tries < 20; tries++ {
				if !errors.Is(r.Err, jobs.ErrUnavailable) {
					t.Fatal(r.Err)
				}
				r.Handle, r.Err = f.Enqueue(f.ctx, many[i])
			}
			incarnations[r.Handle.Incarnation] = true
			if !r.Handle.Duplicate {
				first++
			}
		}
		if first > 1 || len(incarnations) != 1 {
			t.Errorf("job %d: accepted %d times, incarnations %v", i, first, incarnations)
		}
	}
	keys := lookup(func() ([]string, error) { return f.rdb.LRange(f.ctx, pendingKey("q"), 0, -1).Result() })
	slices.Sort(keys)
	if len(keys) != n || len(slices.Compact(keys)) != n {
		t.Errorf("%d entries pending", len(keys))
	}
}

// lookup repeats a read until no fault hits it.
func lookup[T any](read func() (T, error)) T {
	for {
		if found, err := read(); err == nil {
			return found
		}
	}
}

// TestWaitRidesThroughAnOutage: what runs goes on once Redis is back, and so does
// who waits for it.
func TestWaitRidesThroughAnOutage(t *testing.T) {
	t.Parallel()
	f, h := hooked(t)
	d := f.running("k")
	for n := range 12 {
		h.Fail("hgetall", n+1, []fault.When{fault.Before, fault.After}[n%2])
	}
	done := make(chan error, 1)
	go func() {
		info, err := f.Wait(f.ctx, "q", "k")
		if err == nil && info.State != jobs.StateCompleted {
			err = fmt.Errorf("ended as %s", info.State)
		}
		done <- err
	}()
	f.settle(d, delivery.Complete)
	f.ok(<-done)
	if n := h.Total(); n.Before+n.After != 12 {
		t.Errorf("faults: %+v", n)
	}
	dead := open(t)
	dead.rdb.AddHook(fault.New(fault.Options{Before: 1}))
	ctx, cancel := context.WithTimeout(f.ctx, 300*time.Millisecond)
	defer cancel()
	if _, err := dead.Wait(ctx, "q", "k"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while Redis is away: %v", err)
	}
	if _, err := dead.Get(f.ctx, "q", "k"); !errors.Is(err, jobs.ErrUnavailable) {
		t.Errorf("get: %v", err)
	}
}

// TestADecisionStandsThoughItsJobCannotBeRead: it is no error then.
func TestADecisionStandsThoughItsJobCannotBeRead(t *testing.T) {
	t.Parallel()
	f, h := hooked(t)
	f.quarantined("k")
	for n := range 3 {
		h.Fail("hgetall", n+1, fault.After)
	}
	info, err := f.Replay(f.ctx, "q", "k", false, why)
	if err != nil || info.State != jobs.StateUnknown || info.Key != "k" || info.Queue != "q" {
		t.Errorf("%+v, %v", info, err)
	}
	if state := f.state("k"); state != jobs.StatePending {
		t.Errorf("it is %s", state)
	}
	f.wantDecisions("quarantine k by perdure: exhausted", "replay k by ada: because")
}

// TestADecisionOfUnknownOutcome: the caller is told so, and repeats it.
func TestADecisionOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	for _, when := range []fault.When{fault.Before, fault.After} {
		f, h := hooked(t)
		f.quarantined("k")
		for n := range 3 {
			h.Fail("replay", n+1, when)
		}
		if _, err := f.Replay(f.ctx, "q", "k", false, why); !errors.Is(err, jobs.ErrUnavailable) {
			t.Errorf("%s: %v", when, err)
		}
		_, err := f.Replay(f.ctx, "q", "k", false, why)
		if conflict := errors.Is(err, jobs.ErrConflict); conflict != (when == fault.After) || err != nil && !conflict {
			t.Errorf("repeated, %s: %v", when, err)
		}
		f.wantDecisions("quarantine k by perdure: exhausted", "replay k by ada: because")
	}
}

// TestADecisionSentAgainLateIsTakenOnce: its second sending arrives when others have
// gone on from the first one.
func TestADecisionSentAgainLateIsTakenOnce(t *testing.T) {
	t.Parallel()
	quarantineAgain := func(f *fixture) { f.settle(f.take(), delivery.Quarantine) }
	decided := decidedKey("q", "n")
	for _, c := range []struct {
		name        string
		arrange     func(f *fixture) any
		first, then func(f *fixture)
	}{
		{"replay", deadJob, func(f *fixture) {
			keys := []string{taskKey("q", "k"), pendingKey("q"), archivedKey("q"), deadKey("q"), eventsKey("q"), decided, groupsKey("q")}
			f.wantCode("replay", 1, keys, "k", f.field("k", "msg"), f.field("k", "msg"), "failed", "ada", "because", "")
		}, quarantineAgain},
		{"discard", deadJob, func(f *fixture) {
			keys := []string{taskKey("q", "k"), archivedKey("q"), deadKey("q"), eventsKey("q"), taskKey("q", "k"), forgottenKey("q"), decided, reportsKey("q"), groupsKey("q")}
			f.wantCode("discard", 1, keys, "k", "ada", "because", "discard", "")
		}, func(f *fixture) { f.quarantined("k") }},
		{"cancel", run, func(f *fixture) {
			keys := []string{
				taskKey("q", "k"), pendingKey("q"), scheduledKey("q"), retryKey("q"), completedKey("q"), parkedKey("q"), eventsKey("q"),
				taskKey("q", "k"), deadKey("q"), decided, reportsKey("q"), orphansKey("q"), groupsKey("q"),
			}
			f.wantCode("cancel", 2, keys, "k", f.field("k", "msg"), f.field("k", "msg"), 600, "ada", "because")
		}, func(f *fixture) { // its execution ends in quarantine, and it is replayed
			own, err := f.Holdings(f.ctx, "q", "o")
			f.ok(err)
			f.settle(delivery.Delivery{Hold: own.Held[0].Hold, Message: []byte(f.field("k", "msg"))}, delivery.Quarantine)
			_, err = f.Replay(f.ctx, "q", "k", false, why)
			f.ok(err)
		}},
		{"resume", func(f *fixture) any { f.enqueue("k"); f.ok(f.PauseQueue(f.ctx, "q", why)); return nil }, func(f *fixture) {
			f.wantCode("hold", 1, []string{pausedKey("q"), holdsKey("q"), eventsKey("q"), decided}, "resume", "operator", "ada", "because")
		}, func(f *fixture) { f.ok(f.PauseQueue(f.ctx, "q", why)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			c.arrange(f)
			c.first(f)
			c.then(f)
			before := f.dump()
			c.first(f)
			f.same(before, "a decision sent again")
		})
	}
}

// wantCode runs a script and fails unless it gives that answer.
func (f *fixture) wantCode(script string, want int64, keys []string, args ...any) {
	f.t.Helper()
	if code, err := f.runCode(f.ctx, script, keys, args...); err != nil || code != want {
		f.t.Errorf("%s answered %d, %v; want %d", script, code, err, want)
	}
}

// decide makes one random decision about one of the keys; exact says that it is on
// record when it succeeds.
func decide(f *fixture, random *rand.Rand, by jobs.Decision) (verb string, exact bool, err error) {
	key := fmt.Sprint("k", random.IntN(6))
	switch random.IntN(11) {
	case 0, 1:
		_, err = f.Replay(f.ctx, "q", key, random.IntN(2) == 0, by)
		return "replay", true, err
	case 2, 3:
		_, err = f.Discard(f.ctx, "q", key, by)
		return "discard", true, err
	case 4:
		_, err = f.Cancel(f.ctx, "q", key, by)
		return "cancel", false, err // it may have been cancelled before
	case 5:
		return "pause", false, f.PauseQueue(f.ctx, "r", by)
	case 6, 7:
		_, err = f.ResumeQueue(f.ctx, "r", by)
		return "resume", false, err
	}
	// A worker that ends jobs, so that there is something to decide about; cancelled
	// ones are soon forgotten.
	f.rdb.ZAddXX(f.ctx, completedKey("q"), redis.Z{Score: 1, Member: key})
	_, _ = f.Expire(f.ctx, "q")
	if _, err := f.Enqueue(f.ctx, jobs.Raw(kindA, key, []byte(`1`))); err != nil {
		return "", false, nil
	}
	if batch, err := f.Claim(f.ctx, "q", "o", 6); err == nil {
		for _, d := range batch.Deliveries {
			_ = f.Settle(f.ctx, d, verdicts[delivery.Quarantine])
		}
	}
	return "", false, nil
}

// TestOneEventForEachDecision makes decisions over a bad network, several people at
// a time.
func TestOneEventForEachDecision(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.ok(f.Register(f.ctx, "q", "r"))
	f.rdb.AddHook(fault.New(fault.Options{Seed: 5, Before: 0.07, After: 0.07, Twice: 0.07, Script: ScriptName}))
	type outcome struct {
		verb  string
		exact bool
		err   error
	}
	var mu sync.Mutex
	outcomes := map[string]outcome{}
	var people sync.WaitGroup
	for person := range 4 {
		people.Go(func() {
			random := rand.New(rand.NewPCG(5, uint64(person)))
			for i := range 100 {
				by := jobs.Decision{Actor: "ada", Reason: fmt.Sprint(person, "-", i)}
				verb, exact, err := decide(f, random, by)
				mu.Lock()
				outcomes[by.Reason] = outcome{verb, exact, err}
				mu.Unlock()
			}
		})
	}
	people.Wait()
	events := map[string]int{}
	for _, queue := range []string{"q", "r"} {
		for _, e := range lookup(func() ([]Event, error) { return f.Events(f.ctx, queue, 500) }) {
			events[e.Reason]++
		}
	}
	taken := map[string]int{}
	for reason, o := range outcomes {
		n := events[reason]
		switch {
		case n > 1, o.err == nil && o.exact && n != 1:
			t.Errorf("%s: %d events, %v", o.verb, n, o.err)
		case o.err != nil && !errors.Is(o.err, jobs.ErrUnavailable) && n != 0:
			t.Errorf("%s was refused and is on record: %v", o.verb, o.err)
		}
		taken[o.verb] += n
	}
	for _, verb := range []string{"replay", "discard", "cancel", "pause", "resume"} {
		if taken[verb] == 0 {
			t.Errorf("no decision to %s was taken: this proves nothing: %v", verb, taken)
		}
	}
}
