package scheduler_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/scheduler"
)

// outage is a store on which pay is open: jobs wait in lanes of some queues, others are
// pending in queues that are held for it.
type outage struct {
	*fake
	mu      sync.Mutex
	lanes   []delivery.Lane
	held    map[string][]string
	pending map[string]int64
	resting map[string]bool
	moved   map[string]bool // queues whose lanes' jobs have moved on
	granted bool
	mixed   map[string]bool // queues with a kind that does not need pay
	nobody  int             // probes that nobody could be
	unheld  []string
	probes  []string // the queues in which a job was sent off to probe
}

func (o *outage) Lanes(context.Context) ([]delivery.Lane, error) { return o.lanes, nil }

func (o *outage) Board(context.Context) (map[string]jobs.Standing, error) {
	return map[string]jobs.Standing{"pay": {Name: "pay", State: jobs.DependencyOpen, Turn: 1}}, nil
}

func (o *outage) Held(context.Context) (delivery.Held, error) {
	return delivery.Held{For: o.held, Pending: o.pending, Resting: o.resting}, nil
}

func (o *outage) Grant(context.Context, string, int64, bool) (delivery.Grant, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	g := delivery.Grant{State: jobs.DependencyOpen, Turn: 1, ID: "g"}
	if !o.granted {
		o.granted, g.Jobs, g.Probe = true, 1, true
	}
	return g, nil
}

func (o *outage) Drive(_ context.Context, lane delivery.Lane, _ int, _ delivery.Grant, _ int) (int, int64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.moved[lane.Queue] {
		return 0, 0, nil
	}
	o.probes = append(o.probes, lane.Queue) // the script lets it through a queue that is held
	return 1, 0, nil
}

func (o *outage) LetThrough(_ context.Context, queue, _ string, _ delivery.Grant) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.probes = append(o.probes, queue)
	return nil
}

func (o *outage) QueuesNeeding(context.Context, string) (queues []string, err error) {
	for queue := range o.held {
		if !o.mixed[queue] {
			queues = append(queues, queue)
		}
	}
	return queues, nil
}

func (o *outage) UnholdQueue(_ context.Context, queue, _, _ string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unheld = append(o.unheld, queue)
	delete(o.held, queue)
	return nil
}

func (o *outage) Probed(_ context.Context, _, probe string, found delivery.Probed, _ string) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if probe == "1 g:1" && found == delivery.ProbeNothing {
		o.nobody++
	}
	return true, nil
}

// runs has a scheduler run for three seconds.
func runs(t *testing.T, o *outage) {
	t.Helper()
	s, err := scheduler.New(o, scheduler.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
}

// TestOneGrantIsOneProbe: of all that waits one job is sent to probe, which somebody will
// claim; when none is, that is told.
func TestOneGrantIsOneProbe(t *testing.T) {
	in := func(queue string) delivery.Lane { return delivery.Lane{Queue: queue, Name: "pay", Kind: "k", Jobs: 1} }
	for name, c := range map[string]struct {
		lanes []delivery.Lane
		held  []string
		want  string // empty: nobody
	}{
		"waits in a queue that is not held":   {[]delivery.Lane{in("free")}, []string{"held"}, "free"},
		"waits in the queue that is held":     {[]delivery.Lane{in("held")}, []string{"held"}, "held"},
		"waits in another one that is held":   {[]delivery.Lane{in("other")}, []string{"held", "other"}, "other"},
		"none waits, some came meanwhile":     {nil, []string{"held"}, "held"},
		"waits, and no queue is held for pay": {[]delivery.Lane{in("free")}, nil, "free"},
		"the first queue that is held rests":  {nil, []string{"a resting one", "held"}, "held"},
		"waits in one that rests":             {[]delivery.Lane{in("a resting one")}, []string{"held"}, "held"},
		"waits for a limit, and pay too":      {[]delivery.Lane{{Queue: "held", Name: "kind/k", Kind: "k", Jobs: 1}}, []string{"held"}, "held"},
		"has moved on, another one waits":     {[]delivery.Lane{in("moved"), in("free")}, nil, "free"},
		"has moved on, and there is no other": {[]delivery.Lane{in("moved")}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &outage{fake: newFake(), lanes: c.lanes, held: map[string][]string{}, pending: map[string]int64{},
					resting: map[string]bool{"a resting one": true}, moved: map[string]bool{"moved": true}}
				for _, queue := range c.held {
					o.held[queue], o.pending[queue] = []string{"pay"}, 1
					if len(c.lanes) > 0 && c.lanes[0].Name != "pay" {
						o.pending[queue] = 0
					}
				}
				runs(t, o)
				if want := strings.Fields(c.want); !slices.Equal(o.probes, want) || o.nobody != 1-len(want) {
					t.Errorf("probes in %v, want one in %v; told that nobody probes: %d times", o.probes, want, o.nobody)
				}
			})
		})
	}
}

// TestAHoldEndsWithItsCause: a queue in which a kind has come that does not need what it is
// held for goes on.
func TestAHoldEndsWithItsCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outage{fake: newFake(), held: map[string][]string{"q": {"pay"}, "mixed": {"pay"}}, mixed: map[string]bool{"mixed": true}}
		runs(t, o)
		if !slices.Equal(o.unheld, []string{"mixed"}) {
			t.Errorf("held no longer: %v", o.unheld)
		}
	})
}
