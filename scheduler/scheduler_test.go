package scheduler_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/deadletter"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/scheduler"
)

// fake is a store on the clock of the test's bubble.
type fake struct {
	mu       sync.Mutex
	down     bool
	frozen   time.Duration // how long the next look for silent owners takes
	next     time.Duration // until the next job is due, as Promote says
	bad      string        // a queue that always fails
	mail     string        // a queue that always has something to relay
	relayed  []string
	expired  []int // what Expire returns, one after the other
	promotes map[string][]time.Duration
	actions  []string
	silent   string // the owner that is, "dead" by default
	began    time.Time
	services []delivery.DependencyInfo // as DependenciesWatched says
	forgot   int                       // how often names of dependencies were to be forgotten
	stock
	noPlans
}

// noPlans has no replay plans: what runs those has tests of its own.
type noPlans struct{ deadletter.Plans }

func (noPlans) OpenPlans(context.Context) ([]delivery.Plan, error) { return nil, nil }

var errDown = errors.New("down")

func newFake() *fake {
	f := &fake{next: -1}
	f.begin()
	return f
}

// begin sets the fake to its bubble's time.
func (f *fake) begin() {
	f.began, f.promotes, f.taken = time.Now(), map[string][]time.Duration{}, map[string]time.Time{}
}

func (f *fake) at() time.Duration { return time.Since(f.began) }

func (f *fake) Queues(context.Context) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return nil, errDown
	}
	return []string{"a", "b"}, nil
}

func (f *fake) Promote(_ context.Context, queue string) (delivery.Promoted, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.promotes[queue] = append(f.promotes[queue], f.at())
	next := f.next
	f.next = -1
	if queue == f.bad {
		return delivery.Promoted{Next: -1}, errDown
	}
	return delivery.Promoted{Moved: 1, Next: next, Mail: queue == f.mail}, nil
}

// Relay has more to relay the first time.
func (f *fake) Relay(_ context.Context, queue string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.relayed = append(f.relayed, queue)
	return len(f.relayed) == 1, nil
}

func (f *fake) Expire(context.Context, string) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.expired) == 0 {
		return 0, nil
	}
	n := f.expired[0]
	f.expired = f.expired[1:]
	return n, nil
}

func (f *fake) Silent(context.Context, time.Duration) ([]string, error) {
	f.mu.Lock()
	frozen, down, silent := f.frozen, f.down, cmp.Or(f.silent, "dead")
	f.frozen = 0
	f.mu.Unlock()
	time.Sleep(frozen)
	if down {
		return nil, errDown
	}
	return []string{silent}, nil
}

func (f *fake) Reclaim(_ context.Context, queue, owner string) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if queue == f.bad {
		return 0, errDown
	}
	f.actions = append(f.actions, fmt.Sprintf("reclaim %s %s at %v", queue, owner, f.at()))
	return 1, nil
}

func (f *fake) Retire(_ context.Context, owner string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.actions = append(f.actions, fmt.Sprintf("retire %s at %v", owner, f.at()))
	return nil
}

func (f *fake) did() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.actions)
}

// play runs a scheduler in a bubble and calls check while it runs.
func play(t *testing.T, f *fake, check func()) {
	synctest.Test(t, func(t *testing.T) {
		f.begin()
		s, err := scheduler.New(f, scheduler.Options{Silence: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.Run(ctx); close(done) }()
		check()
		stop()
		<-done
	})
}

func TestNobodyIsTakenForDeadBeforeTwiceTheLimit(t *testing.T) {
	f := &fake{next: -1}
	play(t, f, func() {
		time.Sleep(1990 * time.Millisecond)
		if did := f.did(); len(did) != 0 {
			t.Fatalf("too early: %v", did)
		}
		time.Sleep(300 * time.Millisecond)
		want := []string{"reclaim a dead at 2s", "reclaim b dead at 2s", "retire dead at 2s"}
		if did := f.did(); len(did) < 3 || !slices.Equal(did[:3], want) {
			t.Fatalf("did %v", did)
		}
	})
}

func TestAnOwnerWithAnotherLimitIsTakenForDeadByThat(t *testing.T) {
	f := &fake{next: -1, silent: "slow~20000"}
	play(t, f, func() {
		time.Sleep(39900 * time.Millisecond)
		if did := f.did(); len(did) != 0 {
			t.Fatalf("too early: %v", did)
		}
		time.Sleep(600 * time.Millisecond)
		if did := f.did(); len(did) < 3 || did[2] != "retire slow~20000 at 40s" {
			t.Fatalf("did %v", did)
		}
	})
}

func TestARedisThatComesBackCostsNobodysWork(t *testing.T) {
	for name, hurt := range map[string]func(*fake){
		"frozen":      func(f *fake) { f.frozen = 40 * time.Second },
		"unreachable": func(f *fake) { f.down = true },
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{next: -1}
			play(t, f, func() {
				time.Sleep(1500 * time.Millisecond)
				f.mu.Lock()
				hurt(f)
				f.mu.Unlock()
				time.Sleep(41 * time.Second)
				f.mu.Lock()
				f.down = false
				f.mu.Unlock()
				if did := f.did(); len(did) != 0 {
					t.Fatalf("took over while redis was away: %v", did)
				}
				time.Sleep(900 * time.Millisecond)
				if did := f.did(); len(did) != 0 {
					t.Fatalf("took over before the living could beat: %v", did)
				}
				time.Sleep(2 * time.Second)
				if len(f.did()) == 0 {
					t.Fatal("never took over")
				}
			})
		})
	}
}

func TestADeadOwnerIsRememberedUntilEveryQueueIsDone(t *testing.T) {
	f := &fake{next: -1, bad: "a"}
	play(t, f, func() {
		time.Sleep(3 * time.Second)
		did := f.did()
		if len(did) == 0 || slices.ContainsFunc(did, func(s string) bool { return s[:3] == "ret" }) {
			t.Fatalf("did %v", did)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if n := len(f.promotes["b"]); n < 3 {
			t.Fatalf("queue b was promoted %d times beside a queue that fails", n)
		}
	})
}

func TestItSleepsUntilTheNextJobIsDue(t *testing.T) {
	f := &fake{next: 137 * time.Millisecond}
	play(t, f, func() {
		time.Sleep(2500 * time.Millisecond)
		f.mu.Lock()
		defer f.mu.Unlock()
		want := []time.Duration{0, 137 * time.Millisecond, 1137 * time.Millisecond, 2137 * time.Millisecond}
		if !slices.Equal(f.promotes["a"], want) {
			t.Fatalf("looked at %v", f.promotes["a"])
		}
	})
}

func TestMailIsRelayedUntilThereIsNoMore(t *testing.T) {
	f := &fake{next: -1, mail: "b"}
	play(t, f, func() {
		time.Sleep(500 * time.Millisecond)
		f.mu.Lock()
		defer f.mu.Unlock()
		if want := []string{"b", "b"}; !slices.Equal(f.relayed, want) {
			t.Errorf("relayed %v, want %v", f.relayed, want)
		}
	})
}

func TestAFullBatchOfExpiryIsFollowedAtOnce(t *testing.T) {
	f := &fake{next: -1, expired: []int{500, 0, 500, 0, 3, 0}}
	play(t, f, func() {
		time.Sleep(100 * time.Millisecond)
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.expired) != 0 {
			t.Fatalf("left %v", f.expired)
		}
	})
}

func TestOptionsAreBounded(t *testing.T) {
	for _, silence := range []time.Duration{-1, time.Millisecond, time.Hour} {
		if _, err := scheduler.New(&fake{}, scheduler.Options{Silence: silence}); !errors.Is(err, jobs.ErrInvalid) {
			t.Errorf("silence %v: %v", silence, err)
		}
	}
}

func (f *fake) Lanes(context.Context) ([]delivery.Lane, error) { return nil, nil }

func (f *fake) Board(context.Context) (map[string]jobs.Standing, error) { return nil, nil }

func (f *fake) Grant(context.Context, string, int64, bool) (delivery.Grant, error) {
	return delivery.Grant{}, nil
}

func (f *fake) Drive(context.Context, delivery.Lane, int, delivery.Grant, int) (int, int64, error) {
	return 0, 0, nil
}

func (f *fake) Held(context.Context) (delivery.Held, error) { return delivery.Held{}, nil }

func (f *fake) QueuesNeeding(context.Context, string) ([]string, error) { return nil, nil }

func (f *fake) HoldQueue(context.Context, string, string, string) error { return nil }

func (f *fake) UnholdQueue(context.Context, string, string, string) error { return nil }

func (f *fake) Probed(context.Context, string, string, delivery.Probed, string) (bool, error) {
	return true, nil
}

func (f *fake) Shelve(context.Context, string, string) (int, bool, error) { return 0, true, nil }

func (f *fake) LetThrough(context.Context, string, string, delivery.Grant) error { return nil }
