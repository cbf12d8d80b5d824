package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// votes casts votes about pay, of the same calls for both whiles, and reports whether
// one of them has opened it.
func (f *fixture) votes(turn int64, votes ...string) (opened bool) {
	f.t.Helper()
	for _, vote := range votes {
		v := delivery.Vote{Name: "pay", Turn: turn, Reason: "refused"}
		var owner string
		if _, err := fmt.Sscanf(vote, "%s %d/%d", &owner, &v.Failed, &v.Calls); err != nil {
			f.t.Fatal(vote, err)
		}
		v.LongCalls, v.LongFailed = v.Calls, v.Failed
		by, err := f.Vote(f.ctx, owner, v)
		f.ok(err)
		opened = opened || by
	}
	return opened
}

func (f *fixture) record(field string) string {
	return f.rdb.HGet(f.ctx, dependencyKey("pay"), field).Val()
}

func (f *fixture) recordMS(field string) int64 {
	n, _ := strconv.ParseFloat(f.record(field), 64)
	return int64(n)
}

func (f *fixture) set(pairs ...any) {
	f.t.Helper()
	f.ok(f.rdb.HSet(f.ctx, dependencyKey("pay"), pairs...).Err())
}

// standing fails unless pay has the state, on the board as in its record.
func (f *fixture) standing(want jobs.DependencyState) jobs.Standing {
	f.t.Helper()
	board, err := f.Board(f.ctx)
	f.ok(err)
	info, err := f.Dependency(f.ctx, "pay")
	f.ok(err)
	s, shown := board["pay"]
	if info.State != want || shown != (want != jobs.DependencyClosed || !s.Limit.None()) || shown && (s.State != want || s.Turn != info.Turn) {
		f.t.Fatalf("pay is %s, on the board %+v, want %s", info.State, s, want)
	}
	return info.Standing
}

func (f *fixture) grant(waiting int64) delivery.Grant {
	f.t.Helper()
	g, err := f.Grant(f.ctx, "pay", waiting, false)
	f.ok(err)
	return g
}

func TestABreakerOpens(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		says  jobs.Dependency
		votes []string
		opens bool
	}{
		"half of ten":                       {votes: []string{"o 5/10"}, opens: true},
		"less than half":                    {votes: []string{"o 4/10"}},
		"too few":                           {votes: []string{"o 4/4"}},
		"the least":                         {votes: []string{"o 5/5"}, opens: true},
		"another ratio, not reached":        {says: jobs.Dependency{Ratio: 0.9}, votes: []string{"o 8/10"}},
		"another ratio":                     {says: jobs.Dependency{Ratio: 0.9}, votes: []string{"o 9/10"}, opens: true},
		"another minimum":                   {says: jobs.Dependency{MinCalls: 2}, votes: []string{"o 2/2"}, opens: true},
		"one bad node among three":          {votes: []string{"o 0/5", "p 0/5", "r 500/500"}},
		"one calls, the others are idle":    {votes: []string{"o 0/0", "p 0/0", "r 50/50"}},
		"one bad node of two, one is idle":  {votes: []string{"o 0/0", "p 0/1", "r 50/50"}},
		"two of three":                      {votes: []string{"o 0/5", "p 5/5", "r 20/20"}, opens: true},
		"two, with few calls each":          {votes: []string{"o 3/3", "p 3/3"}, opens: true},
		"two, one of which cannot tell":     {votes: []string{"o 1/1", "p 9/9"}},
		"a quorum of three, not reached":    {says: jobs.Dependency{Quorum: 3}, votes: []string{"o 0/5", "p 9/9", "r 9/9"}},
		"a quorum of three":                 {says: jobs.Dependency{Quorum: 3}, votes: []string{"o 0/5", "p 9/9", "r 9/9", "s 9/9"}, opens: true},
		"a quorum of more than there are":   {says: jobs.Dependency{Quorum: 9}, votes: []string{"o 9/9", "p 9/9"}, opens: true},
		"two of many that fail, all in all": {votes: []string{"o 0/500", "p 9/9", "r 9/9"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			c.says.Name = "pay"
			f.ok(f.Declare(f.ctx, c.says))
			if opened := f.votes(0, c.votes...); opened != c.opens {
				t.Fatalf("opened: %v", opened)
			}
			if !c.opens {
				f.standing(jobs.DependencyClosed)
				return
			}
			s := f.standing(jobs.DependencyOpen)
			if s.Turn != 1 || s.By != "perdure" || !strings.Contains(s.Reason, "the last one: refused") || s.Since.IsZero() {
				t.Errorf("%+v", s)
			}
			events, err := f.DependencyEvents(f.ctx, 10)
			if err != nil || len(events) != 1 || events[0].What != "open" || events[0].Key != "pay" {
				t.Errorf("%+v, %v", events, err)
			}
		})
	}
}

// TestOneCallsAndOthersAreIdle: what one worker sees decides once the others had two seconds
// to call the service, and did not.
func TestOneCallsAndOthersAreIdle(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		says  jobs.Dependency
		ago   int64 // since it has said so first
		then  string
		opens bool
	}{
		"a moment later":                    {ago: 500, then: "r 9/9"},
		"two seconds later":                 {ago: 2100, then: "r 9/9", opens: true},
		"one has succeeded":                 {ago: 2100, then: "r 1/2"},
		"others call it":                    {ago: 2100, then: "p 0/1"},
		"long ago":                          {ago: 11_000, then: "r 9/9"},
		"with a quorum of three":            {says: jobs.Dependency{Quorum: 3}, ago: 2100, then: "r 9/9", opens: true},
		"with the clock set back meanwhile": {ago: -60_000, then: "r 9/9"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			c.says.Name = "pay"
			f.ok(f.Declare(f.ctx, c.says))
			if f.votes(0, "o 0/0", "p 0/0", "r 5/5") {
				t.Fatal("it has opened at once")
			}
			alone(c.ago)(f, nil)
			if opened := f.votes(0, c.then); opened != c.opens {
				t.Errorf("opened: %v", opened)
			}
		})
	}
}

// Where few calls are made the longer while counts.
func TestFewCallsCountForLonger(t *testing.T) {
	t.Parallel()
	f := open(t)
	for longFailed, want := range map[int]bool{2: false, 3: true} {
		opened, err := f.Vote(f.ctx, "o", delivery.Vote{Name: "pay", Calls: 1, Failed: 1, LongCalls: 6, LongFailed: longFailed})
		if f.ok(err); opened != want {
			t.Errorf("%d of 6: opened %v", longFailed, opened)
		}
	}
}

func TestVotesThatDoNotCount(t *testing.T) {
	t.Parallel()
	f := open(t)
	cast := func(owner string, ago int64, vote string) {
		f.ok(f.rdb.HSet(f.ctx, votesKey("pay"), owner, fmt.Sprint(f.redisMilli()-ago, " ", vote)).Err())
	}
	stands := delivery.VoteStands.Milliseconds()
	cast("p", stands+1000, "9 9 9 9") // agrees, and has been silent for too long
	cast("x", -stands-5000, "9 9 9 9")
	f.votes(0, "r 0/5")
	if f.votes(0, "o 9/9") {
		t.Error("a vote that does not stand any more was counted")
	}
	if n := f.rdb.HLen(f.ctx, votesKey("pay")).Val(); n != 2 {
		t.Errorf("%d votes are kept", n)
	}
	cast("r", stands+1000, "5 0 5 0") // disagrees, and is gone
	if !f.votes(0, "o 9/9") {
		t.Error("a worker that is gone kept it closed")
	}
	f.set("state", "recovering", "from", f.redisMilli())
	before := f.dump()
	if f.votes(0, "o 9/9") || f.votes(2, "o 9/9") {
		t.Error("votes about calls of another turn were counted")
	}
	f.same(before, "votes of another turn")
	// A worker that does not know that it has ever opened has a vote once it is closed.
	f.set("state", "closed")
	if !f.votes(0, "o 9/9") {
		t.Error("a worker that knows nothing of its turns has no vote")
	}
	if s := f.standing(jobs.DependencyOpen); s.Turn != 2 {
		t.Errorf("%+v", s)
	}
}

func TestWhileItRecoversFewerDecide(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		votes []string
		opens bool
	}{
		"one call":                         {[]string{"o 1/1"}, false},
		"two calls of the only worker":     {[]string{"o 2/2"}, true},
		"one of two":                       {[]string{"o 1/2"}, true},
		"most go well":                     {[]string{"o 1/3"}, false},
		"one each of two workers":          {[]string{"o 1/1", "p 1/1"}, true},
		"two of one of two workers":        {[]string{"p 0/0", "o 2/2"}, false},
		"all of three, whoever made them":  {[]string{"p 0/0", "o 3/3"}, true},
		"others make calls that go well":   {[]string{"p 0/3", "o 3/3"}, false},
		"others make calls, half of which": {[]string{"p 1/3", "o 3/3"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			recovered(f)
			f.standing(jobs.DependencyRecovering)
			if opened := f.votes(1, c.votes...); opened != c.opens {
				t.Fatalf("opened: %v", opened)
			}
			if !c.opens {
				return
			}
			if s := f.standing(jobs.DependencyOpen); s.Turn != 2 {
				t.Errorf("%+v", s)
			}
			if g := f.grant(5); g.Jobs != 0 {
				t.Errorf("a relapse stops nothing: %+v", g)
			}
			if r, err := f.Admit(f.ctx, "id", time.Second, []delivery.Ask{{Name: "pay", Pass: "g:1"}}); err != nil || r.Why != "open" {
				t.Errorf("a pass of the turn before: %+v, %v", r, err)
			}
		})
	}
}

func TestSomebodyOpensAndCloses(t *testing.T) {
	t.Parallel()
	f := open(t)
	did, err := f.ForceDependency(f.ctx, "pay", true, why)
	if f.ok(err); !did {
		t.Error("it was not open before")
	}
	if s := f.standing(jobs.DependencyOpen); !s.Forced || s.By != "ada" || s.Reason != "because" {
		t.Errorf("%+v", s)
	}
	f.set("next", 1)
	for _, checker := range []bool{true, false} {
		if g, err := f.Grant(f.ctx, "pay", 5, checker); err != nil || g.Jobs != 0 || g.Probe {
			t.Errorf("what somebody has opened is probed: %+v, %v", g, err)
		}
	}
	if did, err = f.ForceDependency(f.ctx, "pay", false, why); err != nil || !did {
		t.Errorf("%v, %v", did, err)
	}
	if s := f.standing(jobs.DependencyRecovering); s.Forced {
		t.Errorf("%+v", s)
	}
	if g := f.grant(500); g.Jobs != 1 || g.Rate != 1 {
		t.Errorf("it does not come back in the ramp: %+v", g)
	}
	if _, err := f.ForceDependency(f.ctx, "kind/a", true, why); err == nil {
		t.Error("a limit has no breaker")
	}
}

// made is the probe that was granted.
func made(g delivery.Grant) string { return delivery.Pass{Turn: g.Turn, ID: g.ID + ":1"}.Made() }

// probes asks from several sides until some probes were granted, and returns when, by
// Redis' clock. Each probe ends before another is granted, or there are two at once.
func (f *fixture) probes(askers, enough int) (at []int64) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	under := 0
	for range askers {
		wg.Go(func() {
			for done := false; !done; time.Sleep(rand.N(20 * time.Millisecond)) {
				g := f.grant(5)
				mu.Lock()
				done = len(at) >= enough
				mu.Unlock()
				if !g.Probe {
					continue
				}
				mu.Lock()
				if under++; under > 1 || g.Jobs != 1 {
					f.t.Errorf("%d probes at once: %+v", under, g)
				}
				at = append(at, f.recordMS("next")-1000)
				mu.Unlock()
				time.Sleep(rand.N(30 * time.Millisecond)) // the call
				mu.Lock()
				under--
				_, err := f.Probed(f.ctx, "pay", made(g), delivery.ProbeFailed, "refused")
				f.ok(err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return at
}

func TestAProbeASecondAtMost(t *testing.T) {
	t.Parallel()
	f := open(t)
	opensPay(f)
	opened := f.recordMS("since")
	at := f.probes(8, 3)
	slices.Sort(at)
	for i, before := range append([]int64{opened}, at...)[:len(at)] {
		if at[i]-before < 1000 {
			t.Errorf("probes %v ms after it has opened", at)
		}
	}
}

func TestAProbe(t *testing.T) {
	t.Parallel()
	f := open(t)
	opensPay(f)
	f.set("next", 1)
	if g := f.grant(0); g.Probe {
		t.Error("nobody waits, and one is to probe")
	}
	first := f.grant(1)
	if !first.Probe || first.Health || first.Jobs != 1 || first.State != jobs.DependencyOpen {
		t.Fatalf("%+v", first)
	}
	f.set("next", 1)
	if g := f.grant(1); g.Probe {
		t.Error("a second one, while the first is under way")
	}
	f.set("lasts", 1) // whoever had it is gone
	second := f.grant(1)
	if !second.Probe {
		t.Fatalf("%+v", second)
	}
	for g, want := range map[delivery.Grant]bool{first: false, second: true} {
		if heard, err := f.Probed(f.ctx, "pay", made(g), delivery.ProbeNothing, ""); err != nil || heard != want {
			t.Errorf("heard: %v, %v", heard, err)
		}
	}
	// It looks less often when it is away for long.
	asked := f.redisMilli()
	f.set("next", 1, "since", asked-31_000)
	if third, next := f.grant(1), f.recordMS("next"); !third.Probe || next < asked+2000 || next > f.redisMilli()+2000 {
		t.Errorf("%+v, the next one %d ms later", third, next-asked)
	}
	f.set("since", f.redisMilli())
	// What the last probe has found is told until it opens again.
	f.set("found", "refused")
	f.ok(f.rdb.HSet(f.ctx, dependencyKey("pay"), "state", "closed").Err())
	f.votes(0, "o 5/5")
	f.set("next", 1)
	f.grant(1)
	if s := f.standing(jobs.DependencyOpen); strings.Contains(s.Reason, "probe") {
		t.Errorf("what a probe of the outage before has found is told: %s", s.Reason)
	}
}

func TestAHealthCheckGoesFirst(t *testing.T) {
	t.Parallel()
	f := open(t)
	opensPay(f)
	f.set("next", 1)
	ask := func(waiting int64, checker bool) delivery.Grant {
		t.Helper()
		g, err := f.Grant(f.ctx, "pay", waiting, checker)
		f.ok(err)
		return g
	}
	if g := ask(-1, true); !g.Probe || !g.Health {
		t.Fatalf("%+v", g)
	}
	f.set("next", 1, "lasts", 1)
	if g := ask(9, false); g.Probe {
		t.Errorf("a job probes what a health check can: %+v", g)
	}
	f.set("checker", f.redisMilli()-6000) // that process is gone
	if g := ask(9, false); !g.Probe || g.Health {
		t.Errorf("%+v", g)
	}
}

// A clock that is set back holds nothing up for as long as it was set back.
func TestTheClockIsSetBack(t *testing.T) {
	t.Parallel()
	f := open(t)
	opensPay(f)
	far := f.redisMilli() + 3_600_000
	f.set("next", far, "lasts", far, "checker", far, "probe", "x:1")
	g := f.grant(5)
	if !g.Probe || g.Health {
		t.Fatalf("it is not probed: %+v", g)
	}
	_, err := f.Probed(f.ctx, "pay", made(g), delivery.ProbeWell, "")
	f.ok(err)
	f.set("ramp:next", far, "from", far, "lined", far)
	if g := f.grant(5); g.Rate != 1 || g.Jobs != 0 {
		t.Fatalf("%+v", g)
	}
	if wait := f.recordMS("ramp:next") - f.redisMilli(); wait > 1000 {
		t.Errorf("the next may begin in %d ms", wait)
	}
	f.set("ramp:next", far, "lined", far)
	refusal := f.admit("")
	if refusal.Why != "recovering" || refusal.Wait > time.Second {
		t.Errorf("%+v", refusal)
	}
}

// admit asks for pay with a pass or without, for a place of its own.
func (f *fixture) admit(pass string) delivery.Refusal {
	f.t.Helper()
	r, err := f.Admit(f.ctx, "id"+fmt.Sprint(rand.Uint64()), 5*time.Second, []delivery.Ask{{Name: "pay", Pass: pass}})
	f.ok(err)
	return r
}

func TestTheRampDoubles(t *testing.T) {
	t.Parallel()
	f := open(t)
	recovered(f)
	f.ok(f.Declare(f.ctx, jobs.Dependency{Name: "pay", Resume: 10}))
	for second, want := range []float64{1, 2, 4, 8, 10, 10} {
		f.set("from", f.redisMilli()-int64(second)*1000-50)
		g, info := f.grant(100), delivery.DependencyInfo{}
		info, err := f.Dependency(f.ctx, "pay")
		f.ok(err)
		if g.Rate != want || info.Rate != want || g.State != jobs.DependencyRecovering {
			t.Errorf("second %d: %+v, want %v a second", second, g, want)
		}
	}
}

// begun is how many began at a time by Redis' clock.
type begun struct {
	at   int64 // ms
	n    int
	sent bool // those who wait; else one that came new
}

// ask runs a script and takes the time in the same moment.
func (f *fixture) ask(script string, keys []string, args ...any) (reply []any, at int64) {
	var call *redis.Cmd
	var clock *redis.TimeCmd
	_, err := f.rdb.TxPipelined(f.ctx, func(pipe redis.Pipeliner) error {
		call = scripts[script].Eval(f.ctx, pipe, keys, args...)
		clock = pipe.Time(f.ctx)
		return nil
	})
	f.ok(err)
	return call.Val().([]any), clock.Val().UnixMilli()
}

// crowd has several ask at irregular times for a while, and returns what began.
func (f *fixture) crowd(askers int, lasts time.Duration, ask func() begun) []begun {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var all []begun
	for i := range askers {
		wg.Go(func() {
			for end := time.Now().Add(lasts); time.Now().Before(end); time.Sleep(rand.N(time.Duration(10+20*i) * time.Millisecond)) {
				b := ask()
				mu.Lock()
				all = append(all, b)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.SortFunc(all, func(a, b begun) int { return int(a.at - b.at) })
	return all
}

func admitted(reply []any) int {
	if reply[0] == int64(0) {
		return 1
	}
	return 0
}

// bounded fails when a second saw more than 1.1 times the rate and one.
func bounded(t *testing.T, all []begun, rate func(at int64) float64) {
	t.Helper()
	for i, first := range all {
		sum := 0
		for _, b := range all[i:] {
			if b.at >= first.at+1000 {
				break
			}
			if sum += b.n; float64(sum) > 1.1*rate(b.at)+1 {
				t.Fatalf("%d began within %d ms, at %v a second: %v", sum, b.at-first.at, rate(b.at), all)
			}
		}
	}
}

// asFast fails unless about so many a second began from one time to another. Where nobody
// asked for longer than the tenth of a second that is made up for, fewer may have.
func asFast(t *testing.T, all []begun, from, to int64, rate float64) {
	t.Helper()
	sum, last, idle := 0, from, int64(0)
	for _, b := range all {
		if b.at < from || b.at >= to {
			continue
		}
		if sum += b.n; b.sent {
			idle, last = idle+max(0, b.at-last-80), b.at
		}
	}
	idle += max(0, to-last-80)
	most, least := rate*float64(to-from)/1000, rate*float64(to-from-idle)/1000
	if float64(sum) > 1.1*most || float64(sum) < 0.9*least {
		t.Errorf("%d began in %d ms, of which nobody asked for %d, at %v a second", sum, to-from, idle, rate)
	}
}

func (f *fixture) granting() begun {
	reply, at := f.ask("grant", append(dependencyKeys("pay"), leasesKey("pay")), "pay", 10_000, maxBatch, "g", "0")
	n, _ := reply[2].(int64)
	return begun{at, int(n), true}
}

// TestNoSecondSeesMoreThanTheRamp: however many send jobs back, and whenever they look;
// and those who come new are counted with them.
func TestNoSecondSeesMoreThanTheRamp(t *testing.T) {
	t.Parallel()
	f := open(t)
	recovered(f)
	f.ok(f.Declare(f.ctx, jobs.Dependency{Name: "pay", Resume: 30}))
	f.rdb.HDel(f.ctx, dependencyKey("pay"), "ramp:next")
	from := f.redisMilli()
	f.set("from", from, "start", 4) // 4, 8, 16, 30
	all := f.crowd(8, 5*time.Second, func() begun {
		if rand.N(4) == 0 { // some come new, while nobody is known to wait
			f.set("lined", 0)
			reply, at := f.ask("admit", []string{dependencyKey("pay"), leasesKey("pay")}, "id", 5000, "")
			return begun{at, admitted(reply), false}
		}
		return f.granting()
	})
	bounded(t, all, func(at int64) float64 { return min(30, float64(int(4)<<((at-from)/1000))) })
	asFast(t, all, from+3000, from+5000, 30)
}

// TestNoSecondSeesMoreThanTheLimit with those who wait and those who come new.
func TestNoSecondSeesMoreThanTheLimit(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.ok(f.Declare(f.ctx, jobs.Dependency{Name: "pay", Limit: jobs.Limit{Rate: 40}}))
	from := f.redisMilli()
	all := f.crowd(8, 3*time.Second, func() begun {
		if rand.N(2) == 0 {
			f.set("lined", 0)
			reply, at := f.ask("admit", []string{dependencyKey("pay"), leasesKey("pay")}, "id", 5000, "")
			return begun{at, admitted(reply), false}
		}
		return f.granting()
	})
	bounded(t, all, func(int64) float64 { return 40 })
	asFast(t, all, from, from+3000, 40)
}

// TestTheRampAndALimitTogether: what one of them does not permit is not counted for the
// other.
func TestTheRampAndALimitTogether(t *testing.T) {
	t.Parallel()
	f := open(t)
	recovered(f)
	f.ok(f.Declare(f.ctx, jobs.Dependency{Name: "pay", Resume: 20, Limit: jobs.Limit{Rate: 22}}))
	from := f.redisMilli()
	f.set("from", from, "start", 20, "state", "recovering", "ramp:next", from)
	all := f.crowd(6, 2*time.Second, f.granting)
	asFast(t, all, from, from+2000, 20)
}

func TestItClosesWhenItHasRecovered(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		from    int64 // ms ago
		waiting int64
		closes  bool
	}{
		"before its full rate":                    {2500, 0, false},
		"at its full rate, nobody waits":          {4100, 0, true},
		"at its full rate, some wait":             {4100, 9, false},
		"not five seconds later":                  {8000, 9, false},
		"five seconds later, though some do wait": {9100, 9, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			recovered(f)
			f.ok(f.Declare(f.ctx, jobs.Dependency{Name: "pay", Resume: 16})) // after four seconds
			f.set("from", f.redisMilli()-c.from)
			want := jobs.DependencyRecovering
			if c.closes {
				want = jobs.DependencyClosed
			}
			if g := f.grant(c.waiting); g.State != want || c.closes && c.waiting > 0 && g.Jobs == 0 {
				t.Errorf("%+v", g)
			}
			if f.standing(want); c.closes != (f.record("from") == "") {
				t.Errorf("from is %q", f.record("from"))
			}
		})
	}
}

// A record that says nothing any more is forgotten after a week, one with a limit is not.
func TestALimitStaysAfterAnOutage(t *testing.T) {
	t.Parallel()
	for rate, want := range map[float64]bool{0: true, 1000: false} {
		f := open(t)
		recovered(f)
		f.ok(f.Declare(f.ctx, jobs.Dependency{Name: "pay", Limit: jobs.Limit{Rate: rate}}))
		f.set("from", f.redisMilli()-60_000)
		f.grant(0)
		f.standing(jobs.DependencyClosed)
		if ends := f.rdb.TTL(f.ctx, dependencyKey("pay")).Val() > 0; ends != want {
			t.Errorf("rate %v: its record ends %v", rate, ends)
		}
	}
}

func TestWhatIsLostRecovers(t *testing.T) {
	t.Parallel()
	f := open(t)
	opensPay(f)
	f.rdb.Del(f.ctx, dependencyKey("pay"), boardKey, dependencyNamesKey)
	if g := f.grant(50); g.State != jobs.DependencyRecovering || g.Jobs != 1 {
		t.Errorf("jobs wait for what is lost: %+v", g)
	}
	next := f.rdb.HGet(f.ctx, dependencyKey("pay"), "ramp:next").Val()
	f.ok(f.Remember(f.ctx, "pay", 7)) // a worker has looked just before: no other one may begin for that
	if s := f.standing(jobs.DependencyRecovering); s.Turn != 7 {
		t.Errorf("%+v", s)
	}
	if again := f.rdb.HGet(f.ctx, dependencyKey("pay"), "ramp:next").Val(); next == "" || again != next {
		t.Errorf("the next one may begin at %q, it was %q", again, next)
	}
	f.rdb.Del(f.ctx, dependencyKey("pay"), boardKey, dependencyNamesKey)
	f.ok(f.Remember(f.ctx, "pay", 7))
	if s := f.standing(jobs.DependencyRecovering); s.Turn != 7 {
		t.Errorf("%+v", s)
	}
	f.ok(f.Remember(f.ctx, "pay", 7))
	if events, _ := f.DependencyEvents(f.ctx, 10); len(events) != 4 {
		t.Errorf("%+v", events)
	}
	// A fail-over loses the end: the opening, and not what was before it.
	f.set("from", f.redisMilli()-60_000)
	f.grant(0)
	f.standing(jobs.DependencyClosed)
	f.ok(f.Remember(f.ctx, "pay", 7)) // it has closed, and a worker has not heard
	f.standing(jobs.DependencyClosed)
	f.ok(f.Remember(f.ctx, "pay", 8))
	if s := f.standing(jobs.DependencyRecovering); s.Turn != 8 {
		t.Errorf("%+v", s)
	}
	// Only the board is lost.
	f.rdb.Del(f.ctx, boardKey)
	f.ok(f.Remember(f.ctx, "pay", 8))
	f.standing(jobs.DependencyRecovering)
}

// TestNewsOfABreaker listens as a worker does.
func TestNewsOfABreaker(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx, cancel := context.WithCancel(f.ctx)
	begun, news, ended := make(chan bool, 1), make(chan jobs.Standing, 99), make(chan error, 1)
	go func() { ended <- f.Listen(ctx, func() { begun <- true }, func(s jobs.Standing) { news <- s }) }()
	<-begun
	for _, want := range []jobs.DependencyState{jobs.DependencyOpen, jobs.DependencyRecovering} {
		_, err := f.ForceDependency(f.ctx, "pay", want == jobs.DependencyOpen, why)
		f.ok(err)
		for s := range news { // a channel is that of all databases, and other tests have news too
			if s.Name == "pay" && s.State == want {
				break
			}
		}
	}
	cancel()
	f.ok(<-ended)
}
