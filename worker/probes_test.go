package worker_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/worker"
)

// outageOf is a service that jobs of order.pay need and that is away, with what else there is.
type outageOf struct {
	pay  *service
	kind jobs.Kind[order, string]
	b    *bundle
}

func (o *outageOf) handler() jobs.Handler {
	return o.kind.Do(func(ctx context.Context, _ order) (string, error) { return jobs.Step(ctx, "charge", o.pay.call) })
}

// TestProbesAreMade: whatever else holds jobs or queues, what is sent to find out whether a
// service is back calls it, and nothing else does.
func TestProbesAreMade(t *testing.T) {
	t.Parallel()
	note := jobs.Define[order, string]("order.note")
	notes := note.Do(func(context.Context, order) (string, error) { return "", nil })
	needs := func(options ...jobs.Option) jobs.Kind[order, string] {
		return jobs.Define[order, string]("order.pay", append(options, jobs.Needs("pay"))...)
	}
	for name, c := range map[string]struct {
		kind jobs.Kind[order, string]
		away func(t *testing.T, o *outageOf)
	}{
		"others wait for a place": {needs(jobs.LimitKind(jobs.Limit{Concurrency: 3})), func(t *testing.T, o *outageOf) { lined(t, o) }},
		"and others need nothing": {needs(jobs.LimitKind(jobs.Limit{Concurrency: 3})), func(t *testing.T, o *outageOf) { lined(t, o, notes) }},
		"others wait for a rate": {needs(), func(t *testing.T, o *outageOf) {
			limited(t, o.b, "tenant/acme", jobs.Limit{Rate: 1})
			opened(t, o.b.store, "pay")
			o.b.run(t, worker.Options{Handlers: []jobs.Handler{o.handler(), notes}})
			fill(t, o.b.store, o.kind, 5, jobs.Tenant("acme"))
			for i := range 200 {
				enqueue(t, o.b, note.New(fmt.Sprint("note", i), order{}, jobs.Tenant("acme")))
			}
		}},
		"all wait for a rate": {needs(), func(t *testing.T, o *outageOf) {
			limited(t, o.b, "tenant/acme", jobs.Limit{Rate: 0.001})
			o.b.run(t, worker.Options{Handlers: []jobs.Handler{o.handler()}})
			o.pay.answer(nil)
			fill(t, o.b.store, o.kind, 6, jobs.Tenant("acme"))
			eventually(t, "one has begun, and all others wait", func() bool {
				d, err := o.b.store.Dependency(t.Context(), "tenant/acme")
				return err == nil && d.Waiting == 5
			})
			o.pay.answer(errRefused)
			opened(t, o.b.store, "pay")
		}},
		"another queue rests": {needs(jobs.Queue("qb")), func(t *testing.T, o *outageOf) {
			resting := jobs.Define[order, string]("order.rest", jobs.Needs("pay"), jobs.Queue("qa"))
			opened(t, o.b.store, "pay")
			o.b.run(t, worker.Options{Handlers: []jobs.Handler{o.handler(), resting.Do(func(ctx context.Context, _ order) (string, error) { return o.pay.call(ctx) })}})
			eventually(t, "both queues are held", func() bool {
				held, err := o.b.store.Held(t.Context())
				return err == nil && len(held.For["qa"]) == 1 && len(held.For["qb"]) == 1
			})
			fill(t, o.b.store, resting, 1)
			if err := o.b.store.PauseQueue(t.Context(), "qa", by); err != nil {
				t.Fatal(err)
			}
			fill(t, o.b.store, o.kind, 5)
		}},
		"the oldest is a suspect": {needs(), func(t *testing.T, o *outageOf) {
			opened(t, o.b.store, "pay")
			o.b.run(t, worker.Options{Concurrency: 10, Handlers: []jobs.Handler{o.handler()}})
			fill(t, o.b.store, o.kind, 3)
			eventually(t, "the queue is held, and some wait already", func() bool {
				held, err := o.b.store.Held(t.Context())
				q, failed := o.b.store.QueueInfo(t.Context(), "default")
				return err == nil && failed == nil && len(held.For["default"]) == 1 && q.Parked > 0
			})
			for i := range 6 {
				enqueue(t, o.b, o.kind.New(fmt.Sprint("later", i), order{}))
			}
			for i := range 3 {
				if err := o.b.store.Redis().HSet(t.Context(), "asynq:{default}:t:"+key(i), "p:row", 2, "p:run", 2).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &outageOf{newService(), c.kind, arranged(t)}
			o.pay.answer(errRefused)
			c.away(t, o)
			made(t, o, 5)
		})
	}
}

// lined has a line at the limit of the kind when its service goes away.
func lined(t *testing.T, o *outageOf, others ...jobs.Handler) {
	t.Helper()
	o.pay.answer(nil)
	o.b.run(t, worker.Options{Concurrency: 10, Handlers: append(others, o.handler())})
	fill(t, o.b.store, o.kind, 300)
	eventually(t, "some are served", func() bool { _, served := o.pay.count(); return served >= 10 })
	o.pay.answer(errRefused)
	opened(t, o.b.store, "pay")
}

// made checks that of the next n probes most are made, and no other calls. One may be lost,
// as when a process stands still.
func made(t *testing.T, o *outageOf, n int64) {
	t.Helper()
	var from int64
	var before int
	probes := func() int64 {
		d, err := o.b.store.Dependency(t.Context(), "pay")
		if err != nil {
			t.Fatal(err)
		}
		return d.Probes
	}
	eventually(t, "calls of before have ended", func() bool { from = probes(); return from >= 1 })
	before, _ = o.pay.count()
	var now int64
	eventually(t, "more are sent", func() bool { now = probes(); return now >= from+n })
	failed, _ := o.pay.count()
	if calls := failed - before; calls < int(n)/2 || calls > int(now-from)+3 { // some may have begun before
		t.Errorf("%d probes were sent, %d calls made", now-from, calls)
	}
}
