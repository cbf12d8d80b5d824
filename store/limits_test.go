package store

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// bound declares limits.
func (f *fixture) bound(name string, rate float64, places int) {
	f.t.Helper()
	f.ok(f.Declare(f.ctx, jobs.Dependency{Name: name, Limit: jobs.Limit{Rate: rate, Concurrency: places}}))
}

func (f *fixture) asks(id string, lasts time.Duration, asks ...delivery.Ask) string {
	f.t.Helper()
	r, err := f.Admit(f.ctx, id, lasts, asks)
	f.ok(err)
	if r.Why == "" {
		return "begins"
	}
	return r.Name + " " + r.Why
}

func (f *fixture) want(what, got, want string) {
	f.t.Helper()
	if got != want {
		f.t.Errorf("%s: %s, want %s", what, got, want)
	}
}

func TestAllOfThemOrNone(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.bound("pay", 0.01, 0)
	f.bound("kind/kind.a", 0, 1)
	f.bound("tenant/acme", 0.01, 5)
	all := []delivery.Ask{{Name: "pay"}, {Name: "kind/kind.a"}, {Name: "tenant/acme"}}
	f.want("a place of the kind", f.asks("x", time.Minute, all[1]), "begins")
	before := f.dump()
	f.want("one is busy", f.asks("y", time.Minute, all...), "kind/kind.a busy")
	f.same(before, "asking in vain")
	f.ok(f.Leave(f.ctx, []delivery.Lease{{Name: "kind/kind.a", ID: "x"}}))
	f.want("all agree", f.asks("y", time.Minute, all...), "begins")
	f.want("it was counted for the first", f.asks("z", time.Minute, all[0]), "pay rate")
	f.want("and for the second", f.asks("z", time.Minute, all[1]), "kind/kind.a busy")
	f.want("and for the third", f.asks("z", time.Minute, all[2]), "tenant/acme rate")
	info, err := f.Dependency(f.ctx, "tenant/acme")
	if f.ok(err); info.Running != 1 || info.State != jobs.DependencyClosed || info.Limit != (jobs.Limit{Rate: 0.01, Concurrency: 5}) {
		t.Errorf("%+v", info)
	}
}

func TestAPlaceIsKeptForAPassOnce(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.bound("pay", 0, 2)
	g := f.grant(9)
	if g.Jobs != 2 {
		t.Fatalf("%+v", g)
	}
	if more := f.grant(9); more.Jobs != 0 {
		t.Errorf("%+v", more)
	}
	ask := func(pass string) delivery.Ask { return delivery.Ask{Name: "pay", Pass: pass} }
	f.want("without a pass", f.asks("x", time.Minute, ask("")), "pay line")
	f.want("the first place", f.asks("y", time.Minute, ask(g.ID+":1")), "begins")
	f.want("the same again", f.asks("z", time.Minute, ask(g.ID+":1")), "pay busy")
	f.want("the second place", f.asks("z", time.Minute, ask(g.ID+":2")), "begins")
	f.want("sent twice", f.asks("z", time.Minute, ask(g.ID+":2")), "begins")
	f.want("a place that was never kept", f.asks("w", time.Minute, ask("none:1")), "pay busy")
	if n := f.rdb.ZCard(f.ctx, leasesKey("pay")).Val(); n != 2 {
		t.Errorf("%d places are taken", n)
	}
	f.ok(f.Leave(f.ctx, []delivery.Lease{{Name: "pay", ID: "y"}}))
	if again := f.grant(9); again.Jobs != 1 {
		t.Errorf("%+v", again)
	}
}

// What was kept for one that is refused elsewhere is there for others at once, and once.
func TestARefusalGivesBack(t *testing.T) {
	t.Parallel()
	for name, bound := range map[string]func(f *fixture){
		"a place":           func(f *fixture) { f.bound("pay", 0, 1) },
		"a rate":            func(f *fixture) { f.bound("pay", 0.01, 0) },
		"a rate and places": func(f *fixture) { f.bound("pay", 0.01, 5) },
		"it recovers": func(f *fixture) {
			recovered(f)
			f.set("code:resume", 0.01, "lined", 0)
			f.rdb.HDel(f.ctx, dependencyKey("pay"), "ramp:next")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			bound(f)
			f.bound("ship", 0, 1)
			f.want("the only place of ship", f.asks("x", time.Minute, delivery.Ask{Name: "ship"}), "begins")
			refused := func(pass string) {
				t.Helper()
				f.want("a job that both bound", f.asks("y", time.Minute, delivery.Ask{Name: "ship", Pass: delivery.SentBack}, delivery.Ask{Name: "pay", Pass: pass}), "ship busy")
			}
			first := f.grant(9)
			if more := f.grant(9); first.Jobs != 1 || more.Jobs != 0 {
				t.Fatalf("granted %d and then %d", first.Jobs, more.Jobs)
			}
			refused(first.ID + ":1")
			refused(first.ID + ":1")
			second := f.grant(9)
			if more := f.grant(9); second.Jobs != 1 || more.Jobs != 0 {
				t.Fatalf("granted again: %d and then %d", second.Jobs, more.Jobs)
			}
			refused(second.ID + ":1")
			f.want("one that is sent from elsewhere", f.asks("z", time.Minute, delivery.Ask{Name: "pay", Pass: delivery.SentBack}), "begins")
			if more := f.grant(9); more.Jobs != 0 {
				t.Errorf("granted %d", more.Jobs)
			}
		})
	}
}

// Half of those that are sent back are refused elsewhere: the others begin at the rate all
// the same, and no second sees more.
func TestARefusalCostsNoRate(t *testing.T) {
	t.Parallel()
	for name, bound := range map[string]func(f *fixture){
		"a rate": func(f *fixture) { f.bound("pay", 40, 0) },
		"it recovers": func(f *fixture) {
			recovered(f)
			f.set("code:resume", 40, "from", f.redisMilli(), "start", 40, "ramp:next", f.redisMilli())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			f.bound("ship", 0, 1)
			f.want("the only place of ship", f.asks("x", time.Minute, delivery.Ask{Name: "ship"}), "begins")
			bound(f)
			from := f.redisMilli()
			all := f.crowd(8, 3*time.Second, func() begun {
				id := fmt.Sprint(rand.Uint64())
				reply, at := f.ask("grant", append(dependencyKeys("pay"), leasesKey("pay")), "pay", 10_000, maxBatch, id, "0")
				b, sent := begun{at: at, sent: true}, reply[2].(int64)
				for i := range sent {
					asks := []delivery.Ask{{Name: "pay", Pass: fmt.Sprintf("%s:%d", id, i+1)}, {Name: "ship", Pass: delivery.SentBack}}
					refusal, err := f.Admit(f.ctx, id, time.Minute, asks[:1+rand.N(2)])
					f.ok(err)
					if refusal.Name == "" {
						b.n++
					}
				}
				return b
			})
			bounded(t, all, func(int64) float64 { return 40 })
			asFast(t, all, from, from+3000, 40)
		})
	}
}

// A place that was kept and has ended is no place, also when there are fewer by now.
func TestAPlaceThatWasKeptEnds(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.bound("pay", 0, 2)
	f.want("one", f.asks("x", time.Minute, delivery.Ask{Name: "pay"}), "begins")
	g := f.grant(9)
	f.bound("pay", 0, 1)
	f.want("over the new limit", f.asks("y", time.Minute, delivery.Ask{Name: "pay", Pass: g.ID + ":1"}), "pay busy")
	f.ok(f.rdb.ZAdd(f.ctx, leasesKey("pay"), redis.Z{Score: 1, Member: g.ID + ":1"}).Err())
	f.want("ended", f.asks("y", time.Minute, delivery.Ask{Name: "pay", Pass: g.ID + ":1"}), "pay busy")
	if more := f.grant(9); more.Jobs != 0 {
		t.Errorf("over the new limit: %+v", more)
	}
}

// No more than there are places run at a time, whoever asks and however they come.
func TestNoMoreThanThereArePlaces(t *testing.T) {
	t.Parallel()
	f := open(t)
	const most = 4
	f.bound("pay", 0, most)
	var mu sync.Mutex
	var wg sync.WaitGroup
	running, ran := 0, 0
	for range 8 {
		wg.Go(func() {
			for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); time.Sleep(rand.N(5 * time.Millisecond)) {
				id, pass := fmt.Sprint(rand.Uint64()), ""
				if rand.N(2) == 0 {
					if g := f.grant(3); g.Jobs > 0 {
						pass = fmt.Sprint(g.ID, ":", 1+rand.N(g.Jobs))
					}
				}
				if f.asks(id, time.Minute, delivery.Ask{Name: "pay", Pass: pass}) != "begins" {
					continue
				}
				mu.Lock()
				ran++
				if running++; running > most {
					t.Errorf("%d run", running)
				}
				mu.Unlock()
				time.Sleep(rand.N(5 * time.Millisecond))
				mu.Lock()
				running--
				f.ok(f.Leave(f.ctx, []delivery.Lease{{Name: "pay", ID: id}}))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if ran < 2 {
		t.Errorf("%d ran", ran)
	}
}

func TestAPlaceEndsWithItsOwner(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.bound("pay", 0, 1)
	ends := func() int64 { return int64(f.rdb.ZScore(f.ctx, leasesKey("pay"), "x").Val()) }
	f.want("one", f.asks("x", 10*time.Second, delivery.Ask{Name: "pay"}), "begins")
	if left := ends() - f.redisMilli(); left > 10_000 || left < 1 {
		t.Errorf("it lasts %d ms", left)
	}
	mine := []delivery.Lease{{Name: "pay", ID: "x"}}
	f.ok(f.Keep(f.ctx, mine, time.Minute)) // its owner lives
	if left := ends() - f.redisMilli(); left > 60_000 || left < 20_000 {
		t.Errorf("it is kept for %d ms", left)
	}
	f.want("while it is kept", f.asks("y", time.Minute, delivery.Ask{Name: "pay"}), "pay busy")
	f.ok(f.Keep(f.ctx, mine, time.Millisecond)) // and no longer
	for f.redisMilli() <= ends() {
	}
	f.want("once it has ended", f.asks("y", time.Minute, delivery.Ask{Name: "pay"}), "begins")
	f.ok(f.Keep(f.ctx, mine, time.Minute)) // it comes back
	if left := f.rdb.ZRange(f.ctx, leasesKey("pay"), 0, -1).Val(); len(left) != 1 || left[0] != "y" {
		t.Errorf("taken: %v", left)
	}
}

// forgetPace lets the next one begin at once.
func (f *fixture) forgetPace() {
	f.rdb.HDel(f.ctx, dependencyKey("pay"), "ramp:next", "rate:next", "ramp:begun", "rate:begun")
}

func TestThoseWhoWaitGoFirst(t *testing.T) {
	t.Parallel()
	for name, bound := range map[string]func(f *fixture){
		"a rate":       func(f *fixture) { f.bound("pay", 1000, 0) },
		"places":       func(f *fixture) { f.bound("pay", 0, 1000) },
		"it recovers":  func(f *fixture) { recovered(f); f.set("from", f.redisMilli(), "start", 1000) },
		"none of that": func(f *fixture) { f.set("state", "closed") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			bound(f)
			f.grant(3)
			refused := "pay line"
			if name == "none of that" {
				refused = "begins"
			}
			ask := func(pass string) string { return f.asks("x", time.Second, delivery.Ask{Name: "pay", Pass: pass}) }
			f.nextMilli()
			f.want("while some wait", ask(""), refused)
			f.want("with a pass", ask("g:1"), "begins")
			f.set("lined", f.redisMilli()-2001) // nobody sends those who wait
			f.forgetPace()                      // of those that were granted
			f.want("while nobody sends them", ask(""), "begins")
			f.set("lined", f.redisMilli())
			f.grant(0)
			f.forgetPace()
			f.want("none wait", ask(""), "begins")
		})
	}
}

func TestThrottled(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.votes(0, "o 0/30", "p 0/13") // of two seconds
	f.ok(f.Throttle(f.ctx, "pay", 2*time.Hour, "429"))
	s := f.standing(jobs.DependencyRecovering)
	if wait := s.Throttled.Sub(f.now()); s.Turn != 0 || s.Reason != "429" || wait < 55*time.Minute || wait > time.Hour {
		t.Errorf("%+v", s)
	}
	f.want("where it would begin again", f.record("start"), "10")
	f.want("a pass", f.asks("x", time.Second, delivery.Ask{Name: "pay", Pass: "g:1"}), "pay throttled")
	if r := f.admit(""); r.Why != "throttled" || r.Wait < 55*time.Minute {
		t.Errorf("%+v", r)
	}
	if g := f.grant(9); g.Jobs != 0 || g.State != jobs.DependencyRecovering || g.Rate != 0 {
		t.Errorf("%+v", g)
	}
	// The same answer to others, a little later, is no news of how much it can bear.
	f.set("until", f.redisMilli()+500, "from", f.redisMilli()+500)
	f.ok(f.Throttle(f.ctx, "pay", time.Second, "429"))
	f.want("where it would begin again", f.record("start"), "10")
	// It does not last less than was said before.
	f.set("until", f.redisMilli()+5000)
	until := f.record("until")
	f.ok(f.Throttle(f.ctx, "pay", time.Second, "429"))
	f.want("it lasts until", f.record("until"), until)
	// When it wants fewer calls while it recovers it has half of what it had come to.
	f.set("until", 1, "from", f.redisMilli()-1050) // twenty a second
	if g := f.grant(9); g.Rate != 20 {
		t.Errorf("%+v", g)
	}
	f.ok(f.Throttle(f.ctx, "pay", 3*time.Second, "429 again"))
	f.want("where it begins again", f.record("start"), "10")
	f.set("until", 1, "from", f.redisMilli()) // that is over
	if g := f.grant(9); g.Rate != 10 {
		t.Errorf("%+v", g)
	}
	events, err := f.DependencyEvents(f.ctx, 10)
	if f.ok(err); len(events) != 1 {
		t.Errorf("one story is told once: %+v", events)
	}
	f.votes(0, "o 9/9")
	f.standing(jobs.DependencyOpen)
	before := f.dump()
	f.ok(f.Throttle(f.ctx, "pay", time.Minute, "429"))
	f.same(before, "throttling what is open")
}

func TestAnOperatorsSettingsGoFirst(t *testing.T) {
	t.Parallel()
	f := open(t)
	set := func(did bool, tuning delivery.Tuning) {
		t.Helper()
		got, err := f.TuneDependency(f.ctx, "pay", tuning, why)
		if f.ok(err); got != did {
			t.Errorf("changed: %v", got)
		}
	}
	limit := func(want jobs.Limit) {
		t.Helper()
		board, err := f.Board(f.ctx)
		f.ok(err)
		info, err := f.Dependency(f.ctx, "pay")
		f.ok(err)
		if board["pay"].Limit != want || info.Limit != want {
			t.Errorf("on the board %+v, in the record %+v, want %+v", board["pay"].Limit, info.Limit, want)
		}
	}
	n := func(x float64) *float64 { return &x }
	i := func(x int) *int { return &x }
	f.bound("pay", 10, 3)
	limit(jobs.Limit{Rate: 10, Concurrency: 3})
	set(true, delivery.Tuning{Rate: n(2), Ratio: n(0.25)})
	limit(jobs.Limit{Rate: 2, Concurrency: 3})
	set(false, delivery.Tuning{Rate: n(2), Ratio: n(0.25)})
	f.bound("pay", 20, 4) // a new version of the program
	limit(jobs.Limit{Rate: 2, Concurrency: 4})
	set(true, delivery.Tuning{Rate: n(0), Concurrency: i(0)})
	limit(jobs.Limit{})
	f.want("no bound", f.asks("x", time.Second, delivery.Ask{Name: "pay"}), "begins")
	if f.votes(0, "o 2/9") {
		t.Error("opened")
	}
	if !f.votes(0, "o 3/9") {
		t.Error("its ratio is 0.25")
	}
	set(true, delivery.Tuning{Rate: n(-1), Concurrency: i(-1), Ratio: n(-1)})
	limit(jobs.Limit{Rate: 20, Concurrency: 4})
	f.bound("pay", 0, 0)
	limit(jobs.Limit{})
	if _, err := f.TuneDependency(f.ctx, "kind/kind.a", delivery.Tuning{Resume: n(3)}, why); err == nil {
		t.Error("a limit has no breaker")
	}
	if _, err := f.TuneDependency(f.ctx, "pay", delivery.Tuning{}, why); err == nil {
		t.Error("nothing was set")
	}
}

// TestPassesDoNotPileUp: while another name refuses, passes are given back and issued anew,
// and those that are on their way meanwhile do not begin all at once when it refuses no more.
func TestPassesDoNotPileUp(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.bound("pay", 10, 0)
	f.bound("ship", 0, 1)
	f.want("the one place", f.asks("x", time.Hour, delivery.Ask{Name: "ship"}), "begins")
	type pass struct {
		id     string
		issued time.Time
	}
	var under []pass // way
	grant := func() {
		g := f.grant(10_000)
		for i := range g.Jobs {
			under = append(under, pass{fmt.Sprintf("%s:%d", g.ID, i+1), time.Now()})
		}
	}
	ask := func(id string) string {
		return f.asks(id, time.Hour, delivery.Ask{Name: "pay", Pass: id}, delivery.Ask{Name: "ship", Pass: delivery.SentBack})
	}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for len(under) > 0 && time.Since(under[0].issued) > 200*time.Millisecond {
			ask(under[0].id)
			under = under[1:]
			grant()
		}
		grant()
	}
	f.ok(f.Declare(f.ctx, jobs.Dependency{Name: "ship"})) // it refuses no more
	began, since := 0, time.Now()
	for _, p := range under {
		if ask(p.id) == "begins" {
			began++
		}
	}
	if most := 3 + int(10*time.Since(since).Seconds()); len(under) < 5 || began < 1 || began > most {
		t.Errorf("of %d passes under way %d began at once, at 10 a second: at most %d may", len(under), began, most)
	}
}
