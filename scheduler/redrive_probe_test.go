package scheduler_test

import (
	"context"
	"slices"
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
	granted bool
	probes  []string // the queues in which a job was sent off to probe
}

func (o *outage) Lanes(context.Context) ([]delivery.Lane, error) { return o.lanes, nil }

func (o *outage) Board(context.Context) (map[string]jobs.Standing, error) {
	return map[string]jobs.Standing{"pay": {Name: "pay", State: jobs.DependencyOpen, Turn: 1}}, nil
}

func (o *outage) Held(context.Context) (delivery.Held, error) {
	return delivery.Held{For: o.held, Pending: o.pending}, nil
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
	o.probes = append(o.probes, lane.Queue) // the script lets it through a queue that is held
	return 1, 0, nil
}

func (o *outage) LetThrough(_ context.Context, queue, _ string, _ delivery.Grant) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.probes = append(o.probes, queue)
	return nil
}

// TestOneGrantIsOneProbe: when a job is sent back to probe, no other one is let through a
// queue that is held.
func TestOneGrantIsOneProbe(t *testing.T) {
	in := func(queue string) delivery.Lane { return delivery.Lane{Queue: queue, Name: "pay", Kind: "k", Jobs: 1} }
	for name, c := range map[string]struct {
		lanes []delivery.Lane
		held  []string
		want  string
	}{
		"waits in a queue that is not held":   {[]delivery.Lane{in("free")}, []string{"held"}, "free"},
		"waits in the queue that is held":     {[]delivery.Lane{in("held")}, []string{"held"}, "held"},
		"waits in another one that is held":   {[]delivery.Lane{in("other")}, []string{"held", "other"}, "other"},
		"none waits, some came meanwhile":     {nil, []string{"held"}, "held"},
		"waits, and no queue is held for pay": {[]delivery.Lane{in("free")}, nil, "free"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &outage{fake: newFake(), lanes: c.lanes, held: map[string][]string{}, pending: map[string]int64{}}
				for _, queue := range c.held {
					o.held[queue], o.pending[queue] = []string{"pay"}, 1
				}
				s, err := scheduler.New(o, scheduler.Options{})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				if err := s.Run(ctx); err != nil {
					t.Error(err)
				}
				if !slices.Equal(o.probes, []string{c.want}) {
					t.Errorf("probes in %v, want one in %s", o.probes, c.want)
				}
			})
		})
	}
}
