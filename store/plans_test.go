package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/deadletter"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
)

// outlaw quarantines jobs that are pending, with a message of theirs.
func (f *fixture) outlaw(message string) {
	f.t.Helper()
	for {
		batch, err := f.Claim(f.ctx, "q", "o", maxBatch)
		f.ok(err)
		for _, d := range batch.Deliveries {
			f.fail(d, message)
		}
		if batch.Emptied {
			return
		}
	}
}

func (f *fixture) fail(d delivery.Delivery, message string) {
	f.t.Helper()
	failure := jobs.Failure{Class: jobs.ClassInvalid, Rule: "r", Message: message, At: time.Unix(1700000000, 0).UTC()}
	f.ok(f.Settle(f.ctx, d, delivery.Verdict{Outcome: delivery.Quarantine, Failure: &failure, Entry: delivery.Entry{Class: failure.Class, Message: message}}))
}

// dead makes n entries that failed in one way.
func (f *fixture) dead(n int, message string) {
	f.t.Helper()
	for i := range n {
		f.enqueue(fmt.Sprintf("%s-%04d", strings.Fields(message)[0], i))
	}
	f.outlaw(message)
}

// step takes plans further until nothing is left to do at once; looked makes sure
// that they look at what they have replayed.
func (f *fixture) step() {
	f.t.Helper()
	for range 3 {
		_, _, err := deadletter.Advance(f.ctx, f.Store)
		f.ok(err)
		plans, err := f.OpenPlans(f.ctx)
		f.ok(err)
		for _, p := range plans {
			f.rdb.HDel(f.ctx, planKey("q", p.ID), "looked")
			f.rdb.HSet(f.ctx, planKey("q", p.ID), "next", "0") // a second has passed
		}
	}
}

func (f *fixture) wantPlan(id, want string) delivery.Plan {
	f.t.Helper()
	p, err := f.Plan(f.ctx, "q", id)
	f.ok(err)
	got := fmt.Sprintf("%s %s: %d selected, %d left, %d replayed, %d under way, %d completed, %d returned, %d failed, %d skipped, %d gone",
		p.State, p.Stage, p.Selected, p.Left, p.Replayed, p.UnderWay, p.Completed, p.Returned, p.Failed, p.Skipped, p.Gone)
	if got != want {
		f.t.Errorf("plan %s is %s\nwant %s", id, got, want)
	}
	return p
}

// complete claims and completes everything that is pending.
func (f *fixture) completeAll() (n int) {
	f.t.Helper()
	for {
		batch, err := f.Claim(f.ctx, "q", "o", maxBatch)
		f.ok(err)
		for _, d := range batch.Deliveries {
			f.settle(d, delivery.Complete)
			n++
		}
		if batch.Emptied {
			return n
		}
	}
}

func TestAPlanSendsACanaryAhead(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.dead(30, "bad row")
	f.dead(5, "odd row")
	p := f.plan(delivery.PlanRequest{Queue: "q", Filter: delivery.DeadFilter{Text: "BAD"}, Rate: 1000})
	f.wantPlan(p.ID, "selecting 1: 0 selected, 0 left, 0 replayed, 0 under way, 0 completed, 0 returned, 0 failed, 0 skipped, 0 gone")
	f.nextMilli()
	f.dead(1, "late and bad")
	f.step()
	f.wantPlan(p.ID, "running 1: 30 selected, 29 left, 1 replayed, 1 under way, 0 completed, 0 returned, 0 failed, 0 skipped, 0 gone")
	if n := f.completeAll(); n != 1 {
		t.Errorf("%d went ahead", n)
	}
	f.step()
	f.wantPlan(p.ID, "running 10: 30 selected, 19 left, 11 replayed, 10 under way, 1 completed, 0 returned, 0 failed, 0 skipped, 0 gone")
	f.completeAll()
	_, err := f.Replay(f.ctx, "q", "bad-0029", false, why) // by somebody else
	f.ok(err)
	f.step()
	f.wantPlan(p.ID, "running all: 30 selected, 0 left, 29 replayed, 18 under way, 11 completed, 0 returned, 0 failed, 1 skipped, 0 gone")
	f.completeAll()
	f.rdb.Del(f.ctx, taskKey("q", "bad-0020"))
	f.rdb.ZRem(f.ctx, completedKey("q"), "bad-0020")
	f.step()
	p = f.wantPlan(p.ID, "done all: 30 selected, 0 left, 29 replayed, 0 under way, 28 completed, 0 returned, 0 failed, 1 skipped, 1 gone")
	if p.Ended.IsZero() || p.By != "ada: because (text=BAD)" && p.By != "ada: because" {
		t.Errorf("plan %+v", p)
	}
	if open, _, err := deadletter.Advance(f.ctx, f.Store); err != nil || open != 0 {
		t.Errorf("%d plans are open, %v", open, err)
	}
	if n := f.rdb.ZCard(f.ctx, deadKey("q")).Val(); n != 6 {
		t.Errorf("%d are left in quarantine", n)
	}
	if _, err := f.AbortPlan(f.ctx, "q", p.ID, why); !errors.Is(err, jobs.ErrConflict) {
		t.Errorf("abort of a plan that has ended: %v", err)
	}
}

func TestAPlanStopsWhenTheFailureIsBack(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.dead(15, "bad row 1")
	p := f.plan(delivery.PlanRequest{ID: "p1", Queue: "q", Rate: 1000})
	f.step()
	f.outlaw("bad row 7")
	f.step()
	p = f.wantPlan(p.ID, "stopped 1: 15 selected, 14 left, 1 replayed, 0 under way, 0 completed, 1 returned, 0 failed, 0 skipped, 0 gone")
	if !strings.Contains(p.Why, "bad-0000 is back in quarantine with the same failure") {
		t.Errorf("it says %q", p.Why)
	}
	f.step()
	f.wantPlan(p.ID, "stopped 1: 15 selected, 14 left, 1 replayed, 0 under way, 0 completed, 1 returned, 0 failed, 0 skipped, 0 gone")

	_, err := f.ResumePlan(f.ctx, "q", p.ID, why)
	f.ok(err)
	f.nextMilli() // what comes back later is news
	f.step()
	f.wantPlan(p.ID, "running 1: 15 selected, 13 left, 2 replayed, 1 under way, 0 completed, 1 returned, 0 failed, 0 skipped, 0 gone")
	f.outlaw("something else")
	f.step()
	p = f.wantPlan(p.ID, "stopped 1: 15 selected, 13 left, 2 replayed, 0 under way, 0 completed, 1 returned, 1 failed, 0 skipped, 0 gone")
	if !strings.Contains(p.Why, "with another failure") {
		t.Errorf("it says %q", p.Why)
	}
	_, err = f.PausePlan(f.ctx, "q", p.ID, why) // it has stopped: nothing changes
	f.ok(err)
	_, err = f.AbortPlan(f.ctx, "q", p.ID, why)
	f.ok(err)
	f.step()
	f.wantPlan(p.ID, "aborted 1: 15 selected, 13 left, 2 replayed, 0 under way, 0 completed, 1 returned, 1 failed, 0 skipped, 0 gone")
	if n := f.rdb.ZCard(f.ctx, deadKey("q")).Val(); n != 15 {
		t.Errorf("%d are in quarantine", n)
	}
}

// In the last stage what came back before the plan was resumed is no news.
func TestAResumedPlanForgivesWhatWasThere(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.dead(550, "bad row 1") // more than one step looks at
	p := f.plan(delivery.PlanRequest{ID: "p1", Queue: "q", Rate: 5000, NoCanary: true})
	f.step()
	f.outlaw("bad row 7")
	f.nextMilli()
	_, err := f.Advance(f.ctx, "q", p.ID)
	f.ok(err)
	stopped, err := f.Plan(f.ctx, "q", p.ID)
	f.ok(err)
	if stopped.State != delivery.PlanStopped || stopped.UnderWay == 0 {
		t.Fatalf("%+v", stopped)
	}
	_, err = f.ResumePlan(f.ctx, "q", p.ID, why)
	f.ok(err)
	f.step()
	f.step()
	f.completeAll()
	f.step()
	if p, err = f.Plan(f.ctx, "q", p.ID); err != nil || p.State != delivery.PlanDone || p.Returned != stopped.Replayed || p.Replayed != 550 {
		t.Errorf("%v %+v", err, p)
	}
}

// sent makes a plan without a canary over n entries, and has all of them replayed.
func (f *fixture) sent(n int, more delivery.PlanRequest) delivery.Plan {
	f.t.Helper()
	f.dead(n, "bad row")
	more.Queue, more.Rate, more.NoCanary = "q", delivery.MaxPlanRate, true
	p := f.plan(more)
	f.step()
	return f.wantPlan(p.ID, fmt.Sprintf("running all: %d selected, 0 left, %d replayed, %d under way, 0 completed, 0 returned, 0 failed, 0 skipped, 0 gone", n, n, n))
}

// Of many that are under way, one that is back stops the plan before the others were
// looked at.
func TestAPlanStopsSoonHoweverManyAreUnderWay(t *testing.T) {
	t.Parallel()
	f := open(t)
	p := f.sent(450, delivery.PlanRequest{ID: "p1"})
	batch, err := f.Claim(f.ctx, "q", "o", 450)
	f.ok(err)
	f.dead(150, "odd row") // of no plan, and more than one step looks at
	f.fail(batch.Deliveries[449], "bad row")
	f.nextMilli()
	f.rdb.HSet(f.ctx, planKey("q", p.ID), "looked", time.Now().Add(time.Hour).UnixMilli()) // not its turn
	_, _, err = deadletter.Advance(f.ctx, f.Store)
	f.ok(err)
	p = f.wantPlan(p.ID, "stopped all: 450 selected, 0 left, 450 replayed, 449 under way, 0 completed, 1 returned, 0 failed, 0 skipped, 0 gone")
	if want := batch.Deliveries[449].Key + " is back in quarantine with the same failure"; p.Why != want {
		t.Errorf("it says %q, want %q", p.Why, want)
	}
}

// What has ended is counted as fast as it is found; what has not is looked at now and
// then.
func TestAPlanLooksAtManyThatAreUnderWay(t *testing.T) {
	t.Parallel()
	f := open(t)
	p := f.sent(800, delivery.PlanRequest{ID: "p1"})
	f.rdb.HDel(f.ctx, planKey("q", p.ID), "looked")
	before := f.rdb.Time(f.ctx).Val().Truncate(time.Millisecond)
	step, err := f.Advance(f.ctx, "q", p.ID)
	after := f.rdb.Time(f.ctx).Val()
	if err != nil || step.More {
		t.Errorf("%v %+v", err, step)
	}
	looked, err := f.rdb.HGet(f.ctx, planKey("q", p.ID), "looked").Int64()
	f.ok(err)
	if at := time.UnixMilli(looked).Add(400 * time.Millisecond); at.Before(before) || at.After(after) { // it looks again after 100
		t.Errorf("it looked at %v as it says, between %v and %v", at, before, after)
	}
	f.completeAll()
	f.rdb.HDel(f.ctx, planKey("q", p.ID), "looked")
	_, _, err = deadletter.Advance(f.ctx, f.Store)
	f.ok(err)
	f.wantPlan(p.ID, "done all: 800 selected, 0 left, 800 replayed, 0 under way, 800 completed, 0 returned, 0 failed, 0 skipped, 0 gone")
}

// A canary that takes its time is nothing to make up for.
func TestAPlanBeginsItsLastStageAtItsRate(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.dead(100, "bad row")
	p := f.plan(delivery.PlanRequest{ID: "p1", Queue: "q", Rate: 20})
	f.step()
	f.completeAll()
	f.step()
	f.completeAll()
	f.rdb.HDel(f.ctx, planKey("q", p.ID), "looked")
	step, err := f.Advance(f.ctx, "q", p.ID)
	if err != nil || step.Replayed != 1 {
		t.Errorf("%v %+v", err, step)
	}
	f.wantPlan(p.ID, "running all: 100 selected, 88 left, 12 replayed, 1 under way, 11 completed, 0 returned, 0 failed, 0 skipped, 0 gone")
}

// A plan that is paused or has stopped goes on to count, and stops for what came back
// meanwhile when it is resumed.
func TestAPlanThatWaitsGoesOnToCount(t *testing.T) {
	t.Parallel()
	f := open(t)
	p := f.sent(20, delivery.PlanRequest{ID: "p1"})
	_, err := f.PausePlan(f.ctx, "q", p.ID, why)
	f.ok(err)
	batch, err := f.Claim(f.ctx, "q", "o", 20)
	f.ok(err)
	for _, d := range batch.Deliveries[:18] {
		f.settle(d, delivery.Complete)
	}
	f.fail(batch.Deliveries[18], "bad row")
	f.nextMilli()
	f.step()
	f.wantPlan(p.ID, "paused all: 20 selected, 0 left, 20 replayed, 1 under way, 18 completed, 1 returned, 0 failed, 0 skipped, 0 gone")

	_, err = f.ResumePlan(f.ctx, "q", p.ID, why)
	f.ok(err)
	f.step()
	p = f.wantPlan(p.ID, "stopped all: 20 selected, 0 left, 20 replayed, 1 under way, 18 completed, 1 returned, 0 failed, 0 skipped, 0 gone")
	if want := batch.Deliveries[18].Key + " is back in quarantine with the same failure"; p.Why != want {
		t.Errorf("it says %q, want %q", p.Why, want)
	}
	f.settle(batch.Deliveries[19], delivery.Complete)
	f.step()
	f.wantPlan(p.ID, "stopped all: 20 selected, 0 left, 20 replayed, 0 under way, 19 completed, 1 returned, 0 failed, 0 skipped, 0 gone")

	_, err = f.ResumePlan(f.ctx, "q", p.ID, why)
	f.ok(err)
	f.step()
	f.wantPlan(p.ID, "done all: 20 selected, 0 left, 20 replayed, 0 under way, 19 completed, 1 returned, 0 failed, 0 skipped, 0 gone")
}

func TestAPausedPlanWaits(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.dead(3, "bad row")
	p := f.plan(delivery.PlanRequest{ID: "p1", Queue: "q", NoCanary: true, FromStart: true})
	_, err := f.PausePlan(f.ctx, "q", p.ID, why)
	f.ok(err)
	f.step()
	f.wantPlan(p.ID, "paused all: 0 selected, 0 left, 0 replayed, 0 under way, 0 completed, 0 returned, 0 failed, 0 skipped, 0 gone")
	_, err = f.ResumePlan(f.ctx, "q", p.ID, why)
	f.ok(err)
	_, err = f.Erase(f.ctx, "q", "bad-0001", why)
	f.ok(err)
	f.step()
	f.wantPlan(p.ID, "running all: 2 selected, 0 left, 2 replayed, 2 under way, 0 completed, 0 returned, 0 failed, 1 skipped, 0 gone")
	again := f.plan(delivery.PlanRequest{ID: "p1", Queue: "q", Rate: 1})
	if again.Rate != delivery.DefaultPlanRate || again.Selected != 2 {
		t.Errorf("a plan of the same name is %+v", again)
	}
	plans, err := f.Plans(f.ctx, "")
	if err != nil || len(plans) != 1 {
		t.Errorf("%v %+v", err, plans)
	}
}

func TestOpenPlansAreListedHoweverOld(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.dead(1, "bad row")
	for _, id := range []string{"old", "older"} {
		f.plan(delivery.PlanRequest{ID: id, Queue: "q"})
		_, err := f.PausePlan(f.ctx, "q", id, why)
		f.ok(err)
	}
	f.rdb.HSet(f.ctx, planKey("q", "older"), "at", 1)
	f.rdb.ZAdd(f.ctx, plansKey("q"), redis.Z{Score: 1, Member: "older"})
	f.nextMilli()
	for i := range maxBatch {
		id := fmt.Sprint("n", i)
		f.plan(delivery.PlanRequest{ID: id, Queue: "q"})
		_, err := f.AbortPlan(f.ctx, "q", id, why)
		f.ok(err)
	}
	plans, err := f.Plans(f.ctx, "q")
	if err != nil || len(plans) != maxBatch+2 || plans[maxBatch].ID != "old" || plans[maxBatch+1].ID != "older" {
		t.Fatalf("%v: %d plans", err, len(plans))
	}
	if !slices.IsSortedFunc(plans, func(a, b delivery.Plan) int { return b.Created.Compare(a.Created) }) {
		t.Error("the latest is not first")
	}
}

// A plan takes those that are there longest, and is known for as long as was asked.
func TestAPlanTakesSoManyAtMost(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.dead(2, "old row")
	f.nextMilli()
	f.dead(520, "new row") // more than a page
	p := f.plan(delivery.PlanRequest{ID: "p1", Queue: "q", NoCanary: true, Rate: 5000, Most: 3, Kept: time.Hour})
	f.step()
	f.wantPlan(p.ID, "running all: 3 selected, 0 left, 3 replayed, 3 under way, 0 completed, 0 returned, 0 failed, 0 skipped, 0 gone")
	for _, key := range []string{"old-0000", "old-0001"} {
		if f.field(key, "state") != "pending" {
			t.Errorf("%s is %s", key, f.field(key, "state"))
		}
	}
	f.completeAll()
	f.step()
	f.wantPlan(p.ID, "done all: 3 selected, 0 left, 3 replayed, 0 under way, 3 completed, 0 returned, 0 failed, 0 skipped, 0 gone")
	if ttl := f.rdb.TTL(f.ctx, planKey("q", p.ID)).Val(); ttl > time.Hour || ttl < 50*time.Minute {
		t.Errorf("it is known for %v more", ttl)
	}
	p = f.plan(delivery.PlanRequest{ID: "p2", Queue: "q", NoCanary: true, Rate: 5000, Most: 501})
	f.step()
	if p, err := f.Plan(f.ctx, "q", p.ID); err != nil || p.Selected != 501 || p.State != delivery.PlanRunning {
		t.Errorf("%v %+v", err, p)
	}
	_, err := f.AbortPlan(f.ctx, "q", p.ID, why)
	f.ok(err)
	if ttl := f.rdb.TTL(f.ctx, planKey("q", p.ID)).Val(); ttl > planKept || ttl < planKept-time.Hour {
		t.Errorf("it is known for %v more", ttl)
	}
}

func TestPlansThatCannotBe(t *testing.T) {
	t.Parallel()
	f := open(t)
	for _, r := range []delivery.PlanRequest{
		{}, {Queue: "Q"}, {Queue: "q", Rate: -1}, {Queue: "q", Rate: 1e9}, {Queue: "q", ID: "a b"}, {Queue: "q", Filter: delivery.DeadFilter{Signature: "x"}},
		{Queue: "q", ID: strings.Repeat("x", 129)}, {Queue: "q", Most: -1},
	} {
		if _, err := f.MakePlan(f.ctx, r, why); !errors.Is(err, jobs.ErrInvalid) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if _, err := f.MakePlan(f.ctx, delivery.PlanRequest{Queue: "q"}, jobs.Decision{Actor: "ada"}); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("without a reason: %v", err)
	}
	if _, err := f.Plan(f.ctx, "q", "none"); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("a plan that there is not: %v", err)
	}
	if _, err := f.MakePlan(f.ctx, delivery.PlanRequest{Queue: "q"}, why); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("of a queue that nobody knows: %v", err)
	}
	f.enqueue("k")
	p := f.plan(delivery.PlanRequest{Queue: "q", Filter: delivery.DeadFilter{Since: time.Now().Add(time.Hour)}})
	f.step()
	f.wantPlan(p.ID, "done 1: 0 selected, 0 left, 0 replayed, 0 under way, 0 completed, 0 returned, 0 failed, 0 skipped, 0 gone")
}

// runPlans is what a process that runs plans does, until it is killed.
func runPlans(url string) {
	options, err := redis.ParseURL(url)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	rdb := redis.NewClient(options)
	for s := New(rdb, rdb); ; time.Sleep(20 * time.Millisecond) {
		if _, _, err := deadletter.Advance(context.Background(), s); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// child starts this test binary again, as a process of its own.
func child(t testing.TB, environ ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), environ...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// kill ends a process as nothing else does, and waits until it is gone.
func kill(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // it says only that it was killed
}

// TestAPlanKeepsItsRate: the process that runs a plan is killed twice, and another
// goes on. Each entry is replayed once, at the rate.
func TestAPlanKeepsItsRate(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	f := openURL(t, url)
	n := planned
	f.bulkDead(n)
	rate := float64(n) / planTakes.Seconds()
	p := f.plan(delivery.PlanRequest{Queue: "q", Rate: rate, NoCanary: true})
	runner := child(t, "PERDURE_TEST_RUN_PLANS="+url)
	defer func() { kill(t, runner) }()
	for kills := 0; ; time.Sleep(5 * time.Millisecond) {
		p, err := f.Plan(f.ctx, "q", p.ID)
		f.ok(err)
		if kills < 2 && p.Replayed > int64(n*(kills+1)/3) {
			kills++
			kill(t, runner)
			runner = child(t, "PERDURE_TEST_RUN_PLANS="+url)
		}
		if p.Left == 0 && p.State == delivery.PlanRunning {
			break
		}
	}
	f.onceEach(n, rate)
}

// onceEach reads the decisions: each of n entries was replayed once, at the rate.
func (f *fixture) onceEach(n int, rate float64) {
	f.t.Helper()
	replayed := map[string]int{}
	var times []time.Time
	for from, more := "-", true; more; {
		events, err := f.rdb.XRangeN(f.ctx, eventsKey("q"), from, "+", 1000).Result()
		f.ok(err)
		for _, e := range events {
			if e.Values["what"] == "replay" {
				replayed[text(e.Values["key"])]++
				var ms int64
				fmt.Sscanf(e.ID, "%d-", &ms)
				times = append(times, time.UnixMilli(ms))
			}
			from = "(" + e.ID
		}
		more = len(events) == 1000
	}
	for key, times := range replayed {
		if times != 1 {
			f.t.Errorf("%s was replayed %d times", key, times)
		}
	}
	if len(replayed) != n || f.rdb.LLen(f.ctx, pendingKey("q")).Val() != int64(n) {
		f.t.Errorf("%d of %d were replayed", len(replayed), n)
	}
	slices.SortFunc(times, time.Time.Compare)
	took := times[len(times)-1].Sub(times[0])
	got := float64(len(times)-1) / took.Seconds()
	f.t.Logf("%d entries replayed once each in %v: %.1f a second, %.1f asked for", len(replayed), took, got, rate)
	if got < rate*0.9 || got > rate*1.1 {
		f.t.Errorf("%d entries in %v: %.1f a second, want %.1f within a tenth", len(times), took, got, rate)
	}
}

// Something else that has taken the name of a job stops no plan and no census.
func TestAPlanPassesOverForeignKeys(t *testing.T) {
	t.Parallel()
	redistest.Foreign(t)
	f := open(t)
	f.dead(3, "bad row")
	p := f.plan(delivery.PlanRequest{ID: "p1", Queue: "q", NoCanary: true})
	f.step()
	f.rdb.Del(f.ctx, taskKey("q", "bad-0000"))
	f.rdb.Set(f.ctx, taskKey("q", "bad-0000"), "foreign", 0)
	f.completeAll()
	f.step()
	f.wantPlan(p.ID, "done all: 3 selected, 0 left, 3 replayed, 0 under way, 2 completed, 0 returned, 0 failed, 0 skipped, 1 gone")

	f.dead(2, "odd row")
	p = f.plan(delivery.PlanRequest{ID: "p2", Queue: "q", NoCanary: true})
	page, err := f.Dead(f.ctx, delivery.DeadQuery{Queue: "q"})
	f.ok(err)
	_, err = f.SelectFor(f.ctx, p, page)
	f.ok(err)
	f.rdb.Del(f.ctx, taskKey("q", "odd-0000"))
	f.rdb.Set(f.ctx, taskKey("q", "odd-0000"), "foreign", 0)
	f.step()
	f.completeAll()
	f.step()
	f.wantPlan(p.ID, "done all: 2 selected, 0 left, 1 replayed, 0 under way, 1 completed, 0 returned, 0 failed, 1 skipped, 0 gone")
	found, err := f.Census(f.ctx, func(context.Context) error { return nil })
	if err != nil || found.Drift["q"]["foreign key"] == 0 || found.Drift["q"]["group"] != 1 {
		t.Errorf("%v %+v", err, found)
	}
}
