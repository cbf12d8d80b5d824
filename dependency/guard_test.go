package dependency

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// fake is a store that tests steer.
type fake struct {
	mu      sync.Mutex
	board   map[string]jobs.Standing
	votes   []delivery.Vote
	asks    [][]delivery.Ask
	refusal delivery.Refusal
	err     error
	left    []delivery.Lease
	kept    []delivery.Lease
	probed  map[string]delivery.Probed
	lost    []string
	grant   delivery.Grant
	told    func(jobs.Standing)
	recalls func(name string) error // what Remember does besides; nil: nothing
}

func (f *fake) Board(context.Context) (map[string]jobs.Standing, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	board := map[string]jobs.Standing{}
	for name, s := range f.board {
		board[name] = s
	}
	return board, f.err
}

func (f *fake) Listen(ctx context.Context, begun func(), tell func(jobs.Standing)) error {
	f.mu.Lock()
	f.told = tell
	f.mu.Unlock()
	begun()
	<-ctx.Done()
	return nil
}

func (f *fake) Remember(_ context.Context, name string, _ int64) error {
	f.mu.Lock()
	f.lost = append(f.lost, name)
	recalls := f.recalls
	f.mu.Unlock()
	if recalls != nil {
		return recalls(name)
	}
	return nil
}

func (f *fake) Declare(context.Context, jobs.Dependency) error { return nil }
func (f *fake) Now() time.Time                                 { return time.Now() }

func (f *fake) Vote(_ context.Context, _ string, v delivery.Vote) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.votes = append(f.votes, v)
	return false, nil
}

func (f *fake) Admit(_ context.Context, _ string, _ time.Duration, asks []delivery.Ask) (delivery.Refusal, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asks = append(f.asks, asks)
	return f.refusal, f.err
}

func (f *fake) Leave(_ context.Context, leases []delivery.Lease) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = append(f.left, leases...)
	return nil
}

func (f *fake) Keep(_ context.Context, leases []delivery.Lease, _ time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kept = append(f.kept, leases...)
	return nil
}

func (f *fake) Throttle(context.Context, string, time.Duration, string) error { return f.err }

func (f *fake) Grant(context.Context, string, int64, bool) (delivery.Grant, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.grant
	f.grant = delivery.Grant{}
	return g, nil
}

func (f *fake) Probed(_ context.Context, _, probe string, found delivery.Probed, _ string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.probed[probe] = found
	return true, nil
}

func newGuard(t *testing.T, standings ...jobs.Standing) (*Guard, *fake) {
	t.Helper()
	f := &fake{board: map[string]jobs.Standing{}, probed: map[string]delivery.Probed{}}
	for _, s := range standings {
		f.board[s.Name] = s
	}
	g, err := New(f, Options{Owner: func() string { return "o" }, Needs: []string{"payments"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	return g, f
}

func all(found Finding) func(string) Finding { return func(string) Finding { return found } }

// TestBegin: what is known here is answered here.
func TestBegin(t *testing.T) {
	t.Parallel()
	open := jobs.Standing{Name: "payments", State: jobs.DependencyOpen, Turn: 3, Since: time.Unix(1, 0), Reason: "refused"}
	recovering := jobs.Standing{Name: "payments", State: jobs.DependencyRecovering, Turn: 3}
	bounded := jobs.Standing{Name: "payments", State: jobs.DependencyClosed, Limit: jobs.Limit{Rate: 5}}
	pass := func(turn int64, probe bool) *delivery.Pass {
		return &delivery.Pass{Name: "payments", Turn: turn, ID: "id", Probe: probe}
	}
	for name, c := range map[string]struct {
		stands  []jobs.Standing
		pass    *delivery.Pass
		refusal delivery.Refusal
		err     error
		held    string // type of what it waits for; empty: it begins
		asked   int
	}{
		"closed":                                {},
		"open":                                  {stands: []jobs.Standing{open}, held: "dependency"},
		"open, a probe":                         {stands: []jobs.Standing{open}, pass: pass(3, true)},
		"open, a probe of another turn":         {stands: []jobs.Standing{open}, pass: pass(2, true), held: "dependency"},
		"open, a pass of the turn":              {stands: []jobs.Standing{open}, pass: pass(3, false)},
		"open, a pass of an earlier turn":       {stands: []jobs.Standing{open}, pass: pass(2, false), held: "dependency"},
		"recovering, a pass":                    {stands: []jobs.Standing{recovering}, pass: pass(3, false)},
		"recovering, no pass":                   {stands: []jobs.Standing{recovering}, asked: 1},
		"recovering, no pass, refused":          {stands: []jobs.Standing{recovering}, asked: 1, refusal: delivery.Refusal{Name: "payments", Why: "line"}, held: "dependency"},
		"recovering, a pass of an earlier turn": {stands: []jobs.Standing{recovering}, pass: pass(2, false), asked: 1},
		"throttled": {
			stands: []jobs.Standing{{Name: "payments", State: jobs.DependencyRecovering, Turn: 3, Throttled: time.Now().Add(time.Minute)}},
			pass:   pass(3, false), held: "dependency",
		},
		"a limit":                         {stands: []jobs.Standing{bounded}, asked: 1},
		"at the limit":                    {stands: []jobs.Standing{bounded}, asked: 1, refusal: delivery.Refusal{Name: "payments", Why: "rate"}, held: "limit"},
		"a limit that cannot be asked":    {stands: []jobs.Standing{bounded}, asked: 1, err: jobs.ErrUnavailable, held: "timer"},
		"another dependency is known too": {stands: []jobs.Standing{{Name: "warehouse", State: jobs.DependencyOpen}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, f := newGuard(t, c.stands...)
			f.refusal, f.err = c.refusal, c.err
			call, err := g.Begin(t.Context(), Question{Names: []string{"payments"}, Pass: c.pass})
			var held *Held
			switch {
			case c.held == "" && (err != nil || call == nil):
				t.Errorf("held: %v", err)
			case c.held != "" && (!errors.As(err, &held) || !errors.Is(err, jobs.ErrHeld) || held.Waiting.Type != c.held || held.Delay <= 0 || held.Said == ""):
				t.Errorf("%+v, %v", held, err)
			}
			if len(f.asks) != c.asked {
				t.Errorf("asked %d times", len(f.asks))
			}
		})
	}
}

// TestProbe: what a probe has found is told, once, also when the job never came to call.
func TestProbe(t *testing.T) {
	t.Parallel()
	open := jobs.Standing{Name: "payments", State: jobs.DependencyOpen, Turn: 1}
	for found, want := range map[Finding]delivery.Probed{Answered: delivery.ProbeWell, Failed: delivery.ProbeFailed, Nothing: delivery.ProbeNothing} {
		g, f := newGuard(t, open)
		call, err := g.Begin(t.Context(), Question{Names: []string{"payments"}, Pass: &delivery.Pass{Name: "payments", Turn: 1, ID: "p", Probe: true}})
		if err != nil {
			t.Fatal(err)
		}
		call.End(all(found), "because")
		if f.probed["1 p"] != want {
			t.Errorf("%v is told as %q", found, f.probed["1 p"])
		}
		call.End(all(Answered), "")
		if f.probed["1 p"] != want {
			t.Errorf("told again, as %q", f.probed["1 p"])
		}
	}
}

// TestOwn: a worker whose calls fail holds its own jobs, tries by one call, and goes on.
func TestOwn(t *testing.T) {
	t.Parallel()
	g, _ := newGuard(t)
	question := Question{Names: []string{"payments"}}
	for range 5 {
		call, err := g.Begin(t.Context(), question)
		if err != nil {
			t.Fatal(err)
		}
		call.End(all(Failed), "connection refused")
	}
	var held *Held
	if _, err := g.Begin(t.Context(), question); !errors.As(err, &held) || held.Lane || held.Waiting.Type != "timer" {
		t.Fatalf("not held: %v", err)
	}
	if reaches, _ := g.Reaches("payments"); reaches {
		t.Error("it says that it reaches the service")
	}
	g.mu.Lock()
	g.services["payments"].heldUntil = 1 // that time has come
	g.mu.Unlock()
	trying, err := g.Begin(t.Context(), question)
	if err != nil {
		t.Fatalf("no call finds out: %v", err)
	}
	if _, err := g.Begin(t.Context(), question); err == nil {
		t.Error("two calls find out")
	}
	trying.End(all(Answered), "")
	if _, err := g.Begin(t.Context(), question); err != nil {
		t.Errorf("still held: %v", err)
	}
}

// TestTheFirstCallIsTold: those who decide whether one bad node is all there is hear at once
// of a worker that reaches the service, and then now and then.
func TestTheFirstCallIsTold(t *testing.T) {
	t.Parallel()
	g, _ := newGuard(t)
	g.due() // it has just said that it has made no calls
	for i, want := range []int{1, 0} {
		call, err := g.Begin(t.Context(), Question{Names: []string{"payments"}})
		if err != nil {
			t.Fatal(err)
		}
		call.End(all(Answered), "")
		g.mu.Lock()
		g.services["payments"].voted = g.now()
		g.mu.Unlock()
		if votes := g.due(); len(votes) != want || want == 1 && votes[0].LongCalls != 1 {
			t.Errorf("call %d: votes %+v", i+1, votes)
		}
	}
}

// TestCallsOfAnotherTurn: a call that was begun before the breaker opened tells nothing of
// the time after it.
func TestCallsOfAnotherTurn(t *testing.T) {
	t.Parallel()
	g, _ := newGuard(t)
	call, err := g.Begin(t.Context(), Question{Names: []string{"payments"}})
	if err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	g.learn(jobs.Standing{Name: "payments", State: jobs.DependencyRecovering, Turn: 1})
	g.mu.Unlock()
	call.End(all(Failed), "refused")
	g.mu.Lock()
	defer g.mu.Unlock()
	if calls, _ := g.services["payments"].window.count(g.now(), buckets); calls != 0 {
		t.Errorf("%d calls are counted", calls)
	}
}

// TestSync: what the board says nothing of any more is held until its record has been
// asked, and only then is it what the record says.
func TestSync(t *testing.T) {
	t.Parallel()
	gone := errors.New("redis is away")
	for name, c := range map[string]struct {
		record jobs.DependencyState
		fails  error
		want   jobs.DependencyState
	}{
		"the record is lost":      {jobs.DependencyRecovering, nil, jobs.DependencyRecovering},
		"the record is closed":    {jobs.DependencyClosed, nil, jobs.DependencyClosed},
		"the record is not known": {jobs.DependencyClosed, gone, jobs.DependencyOpen},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, f := newGuard(t, jobs.Standing{Name: "payments", State: jobs.DependencyOpen, Turn: 1})
			f.board = map[string]jobs.Standing{}
			f.recalls = func(name string) error {
				if _, err := g.Begin(t.Context(), Question{Names: []string{name}}); !errors.Is(err, jobs.ErrHeld) {
					t.Errorf("let through before the record was asked: %v", err)
				}
				if c.record != jobs.DependencyClosed {
					f.board[name] = jobs.Standing{Name: name, State: c.record, Turn: 1}
				}
				return c.fails
			}
			if err := g.Sync(t.Context()); !errors.Is(err, c.fails) {
				t.Fatal(err)
			}
			if len(f.lost) != 1 || f.lost[0] != "payments" || g.Standing("payments").State != c.want {
				t.Errorf("lost %v, stands %+v", f.lost, g.Standing("payments"))
			}
		})
	}
}

// TestSyncOfMany: one whose record cannot be asked holds up no other.
func TestSyncOfMany(t *testing.T) {
	t.Parallel()
	gone := errors.New("redis is away")
	g, f := newGuard(t, jobs.Standing{Name: "broken", State: jobs.DependencyOpen, Turn: 1}, jobs.Standing{Name: "payments", State: jobs.DependencyOpen, Turn: 1})
	f.board = map[string]jobs.Standing{}
	f.recalls = func(name string) error {
		if name == "broken" {
			return gone
		}
		return nil
	}
	if err := g.Sync(t.Context()); !errors.Is(err, gone) {
		t.Error(err)
	}
	if a, b := g.Standing("broken").State, g.Standing("payments").State; a != jobs.DependencyOpen || b != jobs.DependencyClosed {
		t.Errorf("broken is %s, payments is %s", a, b)
	}
}

// TestPlaces: a place is given back when what took it has ended, also when another name
// has refused.
func TestPlaces(t *testing.T) {
	t.Parallel()
	limit := jobs.Standing{Name: "kind/a", State: jobs.DependencyClosed, Limit: jobs.Limit{Concurrency: 1}}
	g, f := newGuard(t, limit)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); g.leave(ctx) }()
	call, err := g.Begin(t.Context(), Question{Names: []string{"kind/a"}})
	if err != nil || len(g.leases) != 1 {
		t.Fatalf("%v, %v", err, g.leases)
	}
	call.End(all(Nothing), "")
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		f.mu.Lock()
		left := len(f.left)
		f.mu.Unlock()
		if left == 1 {
			break
		}
	}
	cancel()
	<-done
	if len(f.left) != 1 || len(g.leases) != 0 {
		t.Errorf("given back %v, taken %v", f.left, g.leases)
	}
}

// TestHealth: a health check is asked when its turn is granted, and its panic is a failure.
func TestHealth(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ask  func(context.Context) error
		want delivery.Probed
	}{
		"well":   {func(context.Context) error { return nil }, delivery.ProbeWell},
		"sick":   {func(context.Context) error { return errors.New("sick") }, delivery.ProbeFailed},
		"panics": {func(context.Context) error { panic("sick") }, delivery.ProbeFailed},
	} {
		g, f := newGuard(t, jobs.Standing{Name: "payments", State: jobs.DependencyOpen, Turn: 1})
		f.grant = delivery.Grant{State: jobs.DependencyOpen, Turn: 1, Jobs: 1, ID: "h", Probe: true, Health: true}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); g.check(ctx, "payments", c.ask) }()
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			f.mu.Lock()
			found := f.probed["1 h:1"]
			f.mu.Unlock()
			if found != "" {
				break
			}
		}
		cancel()
		<-done
		if f.probed["1 h:1"] != c.want {
			t.Errorf("%s: %q", name, f.probed["1 h:1"])
		}
	}
}

// TestDescribed: a service is described in one way, by however many kinds.
func TestDescribed(t *testing.T) {
	t.Parallel()
	once := jobs.Dependency{Name: "payments", Resume: 5, Health: func(context.Context) error { return nil }}
	other := once
	other.Resume = 6
	if _, err := New(&fake{}, Options{Dependencies: []jobs.Dependency{once, once}}); err != nil {
		t.Errorf("twice the same: %v", err)
	}
	if _, err := New(&fake{}, Options{Dependencies: []jobs.Dependency{once, other}}); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("in two ways: %v", err)
	}
	if _, err := New(&fake{}, Options{Dependencies: []jobs.Dependency{{Name: "payments", Ratio: 2}}}); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("out of bounds: %v", err)
	}
}

// TestWhatIsShownOfAPass: where several names bound something, a pass is told of although
// it needs no question, so that it is given back when another one refuses; and no rate
// refuses a probe.
func TestWhatIsShownOfAPass(t *testing.T) {
	t.Parallel()
	stands := func(name string, state jobs.DependencyState, limit jobs.Limit) jobs.Standing {
		return jobs.Standing{Name: name, State: state, Turn: 3, Limit: limit}
	}
	none, some := jobs.Limit{}, jobs.Limit{Rate: 5, Concurrency: 1}
	pass := delivery.Pass{Name: "payments", Turn: 3, ID: "id"}
	probe := pass
	probe.Probe = true
	for name, c := range map[string]struct {
		payments, warehouse jobs.Standing
		pass                delivery.Pass
		shown               map[string]string
	}{
		"both recover": {
			stands("payments", jobs.DependencyRecovering, none), stands("warehouse", jobs.DependencyRecovering, none), pass,
			map[string]string{"payments": "id", "warehouse": delivery.SentBack},
		},
		"one has a limit": {
			stands("payments", jobs.DependencyRecovering, none), stands("warehouse", jobs.DependencyClosed, some), pass,
			map[string]string{"payments": "id", "warehouse": delivery.SentBack},
		},
		"a probe": {
			stands("payments", jobs.DependencyOpen, none), stands("warehouse", jobs.DependencyClosed, some), probe,
			map[string]string{"warehouse": delivery.Probing},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, f := newGuard(t, c.payments, c.warehouse)
			if _, err := g.Begin(t.Context(), Question{Names: []string{"payments", "warehouse"}, Pass: &c.pass}); err != nil {
				t.Fatal(err)
			}
			shown := map[string]string{}
			for _, ask := range slices.Concat(f.asks...) {
				shown[ask.Name] = ask.Pass
			}
			if !maps.Equal(shown, c.shown) {
				t.Errorf("shown %v, want %v", shown, c.shown)
			}
		})
	}
}

// TestAPlaceIsGivenBack: the place that was kept for one that does not even ask is free.
func TestAPlaceIsGivenBack(t *testing.T) {
	t.Parallel()
	g, _ := newGuard(t, jobs.Standing{Name: "payments", State: jobs.DependencyOpen, Turn: 3}, jobs.Standing{Name: "kind/k", Limit: jobs.Limit{Concurrency: 1}})
	pass := delivery.Pass{Name: "kind/k", ID: "id"}
	if _, err := g.Begin(t.Context(), Question{Names: []string{"payments", "kind/k"}, Pass: &pass}); !errors.Is(err, jobs.ErrHeld) {
		t.Fatal(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Equal(g.left, []delivery.Lease{{Name: "kind/k", ID: "id"}}) {
		t.Errorf("given back: %v", g.left)
	}
}

// TestProbesThatHang: each holds a slot, so the next one begins later each time.
func TestProbesThatHang(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ago    []time.Duration // probes that hang
		begins bool
	}{
		"none":                       {nil, true},
		"one, for nine seconds":      {[]time.Duration{9 * time.Second}, false},
		"one, for eleven":            {[]time.Duration{11 * time.Second}, true},
		"two, the last for 19":       {[]time.Duration{31 * time.Second, 19 * time.Second}, false},
		"two, the last for 21":       {[]time.Duration{31 * time.Second, 21 * time.Second}, true},
		"many, the last for an hour": {slices.Repeat([]time.Duration{time.Hour}, 5), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, _ := newGuard(t, jobs.Standing{Name: "payments", State: jobs.DependencyOpen, Turn: 3})
			g.start = g.start.Add(-2 * time.Hour)
			for i, ago := range c.ago {
				g.probes[fmt.Sprint(i)] = probing{"payments", g.now() - ago}
			}
			pass := delivery.Pass{Name: "payments", Turn: 3, ID: "id", Probe: true}
			_, err := g.Begin(t.Context(), Question{Names: []string{"payments"}, Pass: &pass})
			if c.begins != (err == nil) {
				t.Errorf("it begins: %v, %v", err == nil, err)
			}
		})
	}
}
