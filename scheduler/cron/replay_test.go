package cron

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/deadletter"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// bury quarantines jobs of kind "work" with a failure of a class.
func (b *bench) bury(class jobs.Class, message string, keys ...string) {
	b.t.Helper()
	b.buryIn("q", class, message, keys...)
}

func (b *bench) buryIn(queue string, class jobs.Class, message string, keys ...string) {
	b.t.Helper()
	d := jobs.Define[int, int]("work", jobs.Queue(queue)).Definition()
	for _, key := range keys {
		_, err := b.store.Enqueue(b.ctx, jobs.Raw(d, key, json.RawMessage("1"), jobs.Tenant("acme")))
		b.ok(err)
	}
	b.pending(queue, func(d delivery.Delivery) { b.fail(d, class, message) })
}

func (b *bench) fail(d delivery.Delivery, class jobs.Class, message string) {
	b.t.Helper()
	failure := &jobs.Failure{Class: class, Message: message, At: time.Now()}
	b.ok(b.store.Settle(b.ctx, d, delivery.Verdict{Outcome: delivery.Quarantine, Failure: failure, Entry: delivery.Entry{Class: class, Message: message, Signature: "0123456789ab"}}))
}

// pending claims whatever is pending and has it end.
func (b *bench) pending(queue string, end func(delivery.Delivery)) (n int) {
	b.t.Helper()
	for {
		batch, err := b.store.Claim(b.ctx, queue, "o", 100)
		b.ok(err)
		for _, d := range batch.Deliveries {
			end(d)
			n++
		}
		if batch.Emptied {
			return n
		}
	}
}

func (b *bench) complete(d delivery.Delivery) {
	b.t.Helper()
	b.ok(b.store.Settle(b.ctx, d, delivery.Verdict{Outcome: delivery.Complete, Result: []byte("1")}))
}

// replaying adds a schedule that replays each minute, and lets a minute pass.
func (b *bench) replaying(which jobs.DeadFilter, change ...func(*jobs.Timetable)) *Runner {
	b.t.Helper()
	t := jobs.Timetable{Name: "r", When: "@every 1m", Replay: &which}
	for _, c := range change {
		c(&t)
	}
	b.add(t)
	r := b.runner()
	b.minute(r)
	return r
}

func (b *bench) minute(r *Runner) {
	b.t.Helper()
	b.clock.forward(time.Minute)
	b.turn(r)
}

// run is the plan of the last tick that made one.
func (b *bench) run() delivery.Plan {
	b.t.Helper()
	s := b.schedule("r")
	if s.Run == nil {
		b.t.Fatalf("no tick had something to do: %+v", s)
	}
	p, err := b.store.Plan(b.ctx, "q", s.Run.Plan)
	b.ok(err)
	return p
}

// drive takes plans further, as schedulers do, until a condition holds.
func (b *bench) drive(what string, holds func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if _, _, err := deadletter.Advance(b.ctx, b.store); err != nil {
			b.t.Fatal(err)
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("not in time: %s; the plan is %+v", what, b.run())
		}
	}
}

func (b *bench) states(keys ...string) (all []string) {
	b.t.Helper()
	for _, key := range keys {
		info, err := b.store.Get(b.ctx, "q", key)
		b.ok(err)
		all = append(all, string(info.State))
	}
	return all
}

func TestScheduledReplay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		which jobs.DeadFilter
		want  string // of t1, t2 (timeout, "mail is down"), v1 (invalid, "no address")
	}{
		{jobs.DeadFilter{}, "pending pending pending"},
		{jobs.DeadFilter{Class: jobs.ClassTimeout}, "pending pending quarantined"},
		{jobs.DeadFilter{Text: "ADDRESS"}, "quarantined quarantined pending"},
		{jobs.DeadFilter{Text: "t2"}, "quarantined pending quarantined"},
		{jobs.DeadFilter{Signature: "0123456789ab", Tenant: "acme"}, "pending pending pending"},
		{jobs.DeadFilter{Signature: "ffffffffffff"}, "quarantined quarantined quarantined"},
		{jobs.DeadFilter{Tenant: "other"}, "quarantined quarantined quarantined"},
		{jobs.DeadFilter{Kind: "other"}, "quarantined quarantined quarantined"},
		{jobs.DeadFilter{Queue: "other"}, "quarantined quarantined quarantined"},
		{jobs.DeadFilter{Version: 9}, "quarantined quarantined quarantined"},
		{jobs.DeadFilter{Older: jobs.Span(24 * time.Hour)}, "quarantined quarantined quarantined"},
		{jobs.DeadFilter{Newer: jobs.Span(24 * time.Hour)}, "pending pending pending"},
		{jobs.DeadFilter{Newer: jobs.Span(time.Second)}, "quarantined quarantined quarantined"},
		{jobs.DeadFilter{Most: 1, Class: jobs.ClassTimeout}, "pending quarantined quarantined"},
	} {
		t.Run(fmt.Sprintf("%+v", c.which), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.bury(jobs.ClassTimeout, "mail is down", "t1")
			b.after(b.dead("t1"))
			b.bury(jobs.ClassTimeout, "mail is down", "t2")
			b.bury(jobs.ClassInvalid, "no address", "v1")
			c.which.Rate, c.which.NoCanary = 1000, true
			b.replaying(c.which)
			n := int64(strings.Count(c.want, "pending"))
			tick := b.ticks("r")[0]
			if n == 0 {
				if s := b.schedule("r"); s.Run != nil || s.Fired != 1 || tick.Plan != "" || tick.Reason != "nothing to replay" {
					t.Errorf("%+v %+v", s, tick)
				}
				return
			}
			b.drive("the replay", func() bool { return b.run().Replayed == n && b.run().Left == 0 })
			if got := strings.Join(b.states("t1", "t2", "v1"), " "); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if p := b.run(); p.ID != tick.Plan || p.ID != delivery.PlanID("r", tick.At) || !strings.HasPrefix(p.By, "schedule r: it replays dead letters (") {
				t.Errorf("%+v of %+v", p, tick)
			}
		})
	}
}

// dead is when a job was quarantined.
func (b *bench) dead(key string) time.Time {
	b.t.Helper()
	r, err := b.store.DeadRecord(b.ctx, "q", key)
	b.ok(err)
	return r.At
}

// after waits until Redis' clock has passed a time.
func (b *bench) after(at time.Time) {
	b.t.Helper()
	for {
		_, now, err := b.store.ScheduleChanges(b.ctx)
		b.ok(err)
		if now.Truncate(time.Millisecond).After(at) {
			return
		}
	}
}

// TestWhatAReplayAsksFor: what a schedule does not say is fit for a time when nobody
// looks.
func TestWhatAReplayAsksFor(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	s := delivery.Scheduled{Timetable: jobs.Timetable{Name: "r", Replay: &jobs.DeadFilter{}}, Open: &delivery.OpenTick{At: at}}
	want := delivery.PlanRequest{
		ID: "r.20261124T120000Z", Queue: "q", Filter: delivery.DeadFilter{Before: at}, Rate: 10, Most: 1000, Kept: 7 * 24 * time.Hour,
	}
	if got := planRequest(s, "q", delivery.PlanID("r", at)); got != want || got.Check() != nil {
		t.Errorf("%+v, want %+v", got, want)
	}
	s.Replay = &jobs.DeadFilter{
		Kind: "k", Class: jobs.ClassTimeout, Signature: "0123456789ab", Version: 3, Tenant: "acme", Text: "down",
		Newer: jobs.Span(2 * time.Hour), Older: jobs.Span(time.Hour), Rate: 7, Most: 9, FromStart: true, NoCanary: true, Reason: "as agreed",
	}
	s.Open.At = at.Add(5 * time.Millisecond)
	want = delivery.PlanRequest{
		ID: "r.20261124T120000.005Z", Queue: "q", Rate: 7, Most: 9, FromStart: true, NoCanary: true, Kept: 7 * 24 * time.Hour,
		Filter: delivery.DeadFilter{
			Kind: "k", Class: jobs.ClassTimeout, Signature: "0123456789ab", Version: 3, Tenant: "acme", Text: "down",
			Since: s.Open.At.Add(-2 * time.Hour), Before: s.Open.At.Add(-time.Hour),
		},
	}
	if got := planRequest(s, "q", delivery.PlanID("r", s.Open.At)); got != want || got.Check() != nil {
		t.Errorf("%+v, want %+v", got, want)
	}
	if by := plannedBy(s); by.Actor != "schedule r" || by.Reason != "as agreed" {
		t.Errorf("%+v", by)
	}
	if id := delivery.PlanID(strings.Repeat("x", 64), s.Open.At); delivery.CheckPlanID(id) != nil {
		t.Errorf("%s cannot name a plan", id)
	}
}

// TestAReplayStopsWhenTheFailureIsBack: while it is not mended, each tick costs one
// entry a try; when it is, the next tick brings the others back.
func TestAReplayStopsWhenTheFailureIsBack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var keys []string
	for i := range 20 {
		keys = append(keys, fmt.Sprintf("k%02d", i))
	}
	b.bury(jobs.ClassTimeout, "mail is down", keys...)
	r := b.replaying(jobs.DeadFilter{Rate: 1000})
	first := b.run().ID
	b.drive("the canary", func() bool { return b.run().Replayed > 0 })
	if n := b.pending("q", func(d delivery.Delivery) { b.fail(d, jobs.ClassTimeout, "mail is down") }); n != 1 {
		t.Fatalf("%d went ahead", n)
	}
	b.drive("the stop", func() bool { return b.run().State == delivery.PlanStopped })

	b.minute(r)
	stopped, err := b.store.Plan(b.ctx, "q", first)
	if err != nil || stopped.State != delivery.PlanAborted || stopped.Replayed != 1 || !strings.HasPrefix(stopped.Why, "schedule r: the tick of ") {
		t.Errorf("the first plan: %v %+v", err, stopped)
	}
	if p := b.run(); p.ID == first {
		t.Fatalf("the second tick made no plan: %+v", b.ticks("r"))
	}
	done := 0
	b.drive("the others", func() bool {
		done += b.pending("q", b.complete)
		return b.run().State == delivery.PlanDone
	})
	if p := b.run(); done != 20 || p.Completed != 20 || p.Stage != "all" {
		t.Errorf("%d have ended: %+v", done, p)
	}
	b.minute(r)
	if s := b.schedule("r"); s.Fired != 3 || s.Left != 0 || b.ticks("r")[0].Reason != "nothing to replay" {
		t.Errorf("%+v %+v", s, b.ticks("r"))
	}
}

// TestOverlapOfReplays: a second tick comes while the first one's plan goes on.
func TestOverlapOfReplays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		overlap jobs.Overlap
		fired   int64
		skipped int64
		plans   string // by when they were made
		after   string // once the first has ended
	}{
		{"", 1, 1, "running", "done"},
		{jobs.OverlapSkip, 1, 1, "running", "done"},
		{jobs.OverlapQueue, 1, 0, "running", "done selecting"},
		{jobs.OverlapCancel, 2, 0, "aborted selecting", "aborted selecting"},
		{jobs.OverlapAllow, 2, 0, "running selecting", "done selecting"},
	} {
		t.Run(string(c.overlap), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.bury(jobs.ClassTimeout, "mail is down", "a", "b")
			r := b.replaying(jobs.DeadFilter{Rate: 1000, Most: 1}, func(t *jobs.Timetable) { t.Overlap = c.overlap })
			b.drive("the canary", func() bool { return b.run().Replayed > 0 })
			b.minute(r)
			if s, got := b.schedule("r"), b.plans(); got != c.plans || s.Fired != c.fired || s.Left != c.skipped {
				t.Errorf("%s, want %s; %d fired, %d skipped", got, c.plans, s.Fired, s.Left)
			}
			if tick := b.ticks("r")[0]; c.skipped > 0 && (tick.What != "skipped" || !strings.HasPrefix(tick.Reason, "overlap: the run before, plan r.") || !strings.HasSuffix(tick.Reason, " is running")) {
				t.Errorf("%+v", tick)
			}
			b.pending("q", b.complete)
			if c.overlap != jobs.OverlapCancel { // which leaves nothing to drive but the second
				first := strings.Fields(c.plans)[0]
				b.drive("the end", func() bool { return !strings.HasPrefix(b.firstPlan(), first) })
			}
			b.clock.forward(2 * time.Second)
			b.turn(r)
			got := strings.ReplaceAll(b.plans(), "running", "selecting") // driving may have begun it
			if got != c.after {
				t.Errorf("afterwards %s, want %s", got, c.after)
			}
		})
	}
}

// plans are the states of all plans, in the order in which they were made.
func (b *bench) plans() string {
	b.t.Helper()
	all, err := b.store.Plans(b.ctx, "q")
	b.ok(err)
	slices.SortFunc(all, func(a, b delivery.Plan) int { return strings.Compare(a.ID, b.ID) })
	var states []string
	for _, p := range all {
		states = append(states, string(p.State))
	}
	return strings.Join(states, " ")
}

func (b *bench) firstPlan() string { return strings.Fields(b.plans())[0] }

// TestReplayInEveryQueue: a filter without a queue makes a plan in each that has
// something for it, and the run is over when all of them are.
func TestReplayInEveryQueue(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.bury(jobs.ClassTimeout, "mail is down", "a")
	b.buryIn("p", jobs.ClassTimeout, "mail is down", "a")
	b.buryIn("o", jobs.ClassInvalid, "no address", "a")
	r := b.replaying(jobs.DeadFilter{Class: jobs.ClassTimeout, NoCanary: true})
	run := b.schedule("r").Run
	if run == nil || run.Queue != "" || run.Key != "" {
		t.Fatalf("%+v", run)
	}
	all, err := b.store.Plans(b.ctx, "")
	b.ok(err)
	if len(all) != 2 || all[0].Queue != "p" || all[1].Queue != "q" || all[0].ID != run.Plan || all[1].ID != run.Plan {
		t.Fatalf("%+v", all)
	}
	story, err := NewDesk(b.store).Show(b.ctx, "r", 1)
	if err != nil || len(story.Plans) != 2 || story.Plans[0].Queue != "p" {
		t.Errorf("%v %+v", err, story.Plans)
	}
	b.drive("the replays", func() bool { return b.pending("q", b.complete) > 0 })
	b.drive("the end in q", func() bool { return b.run().State == delivery.PlanDone })
	b.minute(r)
	if tick := b.ticks("r")[0]; tick.What != "skipped" { // that of p waits for its job
		t.Errorf("%+v", tick)
	}
	b.pending("p", b.complete)
	b.drive("the end in p", func() bool {
		p, err := b.store.Plan(b.ctx, "p", run.Plan)
		b.ok(err)
		return p.State == delivery.PlanDone
	})
	b.minute(r)
	if tick := b.ticks("r")[0]; tick.What != "fired" {
		t.Errorf("%+v", tick)
	}
}

// TestEachTickOnePlan: three schedulers are killed again and again at any call, while
// every tick finds something dead. Each has one plan, made once, and each entry is
// replayed once.
func TestEachTickOnePlan(t *testing.T) {
	t.Parallel()
	const ticks = 60
	b := newBench(t)
	b.add(jobs.Timetable{Name: "r", When: "* * * * * *", Replay: &jobs.DeadFilter{NoCanary: true, Rate: 1000}, Overlap: jobs.OverlapAllow, CatchUp: &jobs.CatchUp{Most: 1000}})
	c := &crew{b: b, rand: rand.New(rand.NewPCG(3, 4))}
	for range 3 {
		c.hands = append(c.hands, c.hire())
	}
	began := b.clock.now()
	for i := 0; i < ticks || b.schedule("r").Open != nil || b.schedule("r").Last.Before(b.clock.now()); i++ {
		if i == ticks+100 {
			t.Fatalf("not over: %+v", b.schedule("r"))
		}
		if i < ticks {
			b.bury(jobs.ClassTimeout, "mail is down", fmt.Sprintf("k%03d", i))
		}
		b.clock.forward(time.Second)
		c.turn()
	}
	for _, h := range c.hands {
		h.rdb.Close()
	}
	plans, err := b.store.Plans(b.ctx, "q")
	b.ok(err)
	known := map[string]bool{}
	for _, p := range plans {
		known[p.ID] = true
	}
	for i := range ticks {
		if id := delivery.PlanID("r", began.Add(time.Duration(i+1)*time.Second)); !known[id] {
			t.Errorf("no plan %s", id)
		}
	}
	b.drive("every replay", func() bool {
		b.pending("q", b.complete)
		open, err := b.store.OpenPlans(b.ctx)
		b.ok(err)
		return len(open) == 0
	})
	made, replayed := b.decided("plan replay "), b.decided("replay")
	if made != len(known) || replayed != ticks || c.died < 10 {
		t.Errorf("%d plans, made %d times; %d replays of %d entries; %d schedulers died", len(known), made, replayed, ticks, c.died)
	}
}

// decided counts decisions about the queue.
func (b *bench) decided(what string) (n int) {
	b.t.Helper()
	events, err := b.rdb.XRange(b.ctx, "perdure:{q}:events", "-", "+").Result()
	b.ok(err)
	for _, e := range events {
		text, _ := e.Values["what"].(string)
		if text == what || strings.HasSuffix(what, " ") && strings.HasPrefix(text, what) {
			n++
		}
	}
	return n
}

// TestTriggerReplay: the plan is made at once, also without a scheduler, and by whom
// is on record.
func TestTriggerReplay(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add(jobs.Timetable{Name: "r", When: "@daily", Replay: &jobs.DeadFilter{Rate: 1000}})
	d := NewDesk(b.store)
	did, err := d.Trigger(b.ctx, "r", by)
	if err != nil || did.Plan != nil || did.Job != nil || did.Note != "nothing to replay" {
		t.Errorf("%v %+v", err, did)
	}
	b.bury(jobs.ClassTimeout, "mail is down", "a", "b")
	b.after(b.dead("b"))
	if did, err = d.Trigger(b.ctx, "r", by); err != nil || did.Plan == nil || did.Note != "" {
		t.Fatalf("%v %+v", err, did)
	}
	first := b.run()
	if first.ID != did.Plan.Plan || !strings.Contains(first.By, "schedule r: it replays dead letters, triggered by ada") {
		t.Errorf("%+v", first)
	}
	b.drive("the canary", func() bool { return b.run().Replayed > 0 })
	b.pending("q", func(d delivery.Delivery) { b.fail(d, jobs.ClassTimeout, "mail is down") })
	b.drive("the stop", func() bool { return b.run().State == delivery.PlanStopped })
	b.after(b.dead("a"))
	if _, err = d.Trigger(b.ctx, "r", by); err != nil {
		t.Fatal(err)
	}
	if p, err := b.store.Plan(b.ctx, "q", first.ID); err != nil || p.State != delivery.PlanAborted || b.run().ID == first.ID {
		t.Errorf("%v %+v; then %+v", err, p, b.run())
	}
	if _, err := b.store.ResumePlan(b.ctx, "q", first.ID, by); !errors.Is(err, jobs.ErrConflict) {
		t.Errorf("what has ended is resumed: %v", err)
	}
}
