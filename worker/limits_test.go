package worker_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/worker"
)

// limited sets a limit, for a bundle that does not run yet.
func limited(t *testing.T, b *bundle, name string, limit jobs.Limit) {
	t.Helper()
	tuning := delivery.Tuning{}
	if limit.Rate > 0 {
		tuning.Rate = &limit.Rate
	}
	if limit.Concurrency > 0 {
		tuning.Concurrency = &limit.Concurrency
	}
	if _, err := b.store.TuneDependency(t.Context(), name, tuning, by); err != nil {
		t.Fatal(err)
	}
}

// TestLimitOfConcurrency: no more jobs of a kind run at a time than its limit says, in all
// workers together; those over it use no attempt and hold no slot.
func TestLimitOfConcurrency(t *testing.T) {
	t.Parallel()
	press := newService()
	press.takes = 10 * time.Millisecond
	bounded := jobs.Define[order, string]("order.print", jobs.LimitKind(jobs.Limit{Concurrency: 3}))
	free := jobs.Define[order, string]("order.note")
	handlers := []jobs.Handler{
		bounded.Do(func(ctx context.Context, _ order) (string, error) { return press.call(ctx) }),
		free.Do(func(context.Context, order) (string, error) { return "", nil }),
	}
	b := arranged(t)
	fill(t, b.store, bounded, 200) // they are there before anybody has said what the limit is
	b.run(t, worker.Options{Handlers: handlers, Concurrency: 8})
	runWorker(t, b.store, worker.Options{Handlers: handlers, Concurrency: 8})
	wait(t, enqueue(t, b, free.New("free", order{})))
	unharmed(t, b.store, "default", 200, press)
	if press.most > 3 {
		t.Errorf("%d at a time", press.most)
	}
	eventually(t, "all places are free", func() bool {
		d, err := b.store.Dependency(t.Context(), "kind/order.print")
		return err == nil && d.Running == 0 && d.Waiting == 0
	})
}

// TestLimitOfRate: a tenant's jobs begin at the rate of its limit; another's do not wait.
func TestLimitOfRate(t *testing.T) {
	t.Parallel()
	calls := newService()
	kind := jobs.Define[order, string]("order.tell")
	b := arranged(t)
	limited(t, b, "tenant/acme", jobs.Limit{Rate: 20})
	b.run(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		if about, _ := jobs.Current(ctx); about.Tenant == "acme" {
			return calls.call(ctx)
		}
		return "", nil
	})}})
	began := time.Now()
	fill(t, b.store, kind, 60, jobs.Tenant("acme"))
	wait(t, enqueue(t, b, kind.New("other", order{}, jobs.Tenant("zeta"))))
	unharmed(t, b.store, "default", 60, calls)
	if took := time.Since(began); took < 2500*time.Millisecond {
		t.Errorf("60 jobs at 20 a second took %v", took)
	}
}

// TestPlacesDieWithTheirOwner: places that a dead worker has taken are free within
// seconds.
func TestPlacesDieWithTheirOwner(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[order, string]("order.print")
	b := arranged(t)
	limited(t, b, "kind/order.print", jobs.Limit{Concurrency: 1})
	b.run(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(context.Context, order) (string, error) { return "", nil })}})
	refusal, err := b.store.Admit(t.Context(), "dead/1", time.Second, []delivery.Ask{{Name: "kind/order.print"}})
	if err != nil || refusal.Name != "" {
		t.Fatalf("%v %+v", err, refusal)
	}
	info := wait(t, enqueue(t, b, kind.New("k", order{})))
	if info.State != jobs.StateCompleted || info.Attempts != 0 {
		t.Errorf("%+v", info)
	}
}

// TestThrottled: a service that says when to come back is left alone until then, by all
// jobs, and no attempt is used.
func TestThrottled(t *testing.T) {
	t.Parallel()
	maps := newService()
	kind := jobs.Define[order, string]("order.route", jobs.Needs("maps"))
	registry := prometheus.NewRegistry()
	b := start(t, worker.Options{Concurrency: 4, Registerer: registry, Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		return jobs.Step(ctx, "route", maps.call)
	})}})
	const n, away = 40, 3 * time.Second
	maps.answer(&jobs.HTTPError{Status: http.StatusTooManyRequests, RetryAfter: away})
	fill(t, b.store, kind, n)
	eventually(t, "it is known", func() bool { return metric(t, registry, "perdure_dependency_view", "maps") == 1 })
	maps.answer(nil)
	unharmed(t, b.store, "default", n, maps)
	failed, _ := maps.count()
	if failed > 10 {
		t.Errorf("%d calls after it had said when to come back", failed)
	}
	if early := maps.starts[0].Sub(maps.failed[0]); early < away-100*time.Millisecond {
		t.Errorf("called again after %v, it had said %v", early, away)
	}
	if d := state(t, b.store, "maps", jobs.DependencyClosed); d.Turn != 0 {
		t.Errorf("its breaker has opened: %+v", d)
	}
}

// TestRetryAfterOfAnAuthor: what a handler says of one job is not held against a service.
func TestRetryAfterOfAnAuthor(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[order, string]("order.poll", jobs.Needs("press"))
	b := start(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(_ context.Context, o order) (string, error) {
		if o.ID == 1 {
			return "", jobs.RetryAfter(time.Hour, errors.New("not printed yet"))
		}
		return "", nil
	})}})
	one := enqueue(t, b, kind.New("one", order{ID: 1}))
	inState(t, b.store, one.Queue, one.Key, jobs.StatePaused)
	wait(t, enqueue(t, b, kind.New("two", order{ID: 2})))
	if d, err := b.store.Dependency(t.Context(), "press"); err == nil && !d.Throttled.IsZero() {
		t.Errorf("the service is held: %+v", d)
	}
}

// TestRetriesAreFew: of a service that fails often and answers all the same, retries are
// a fifth of the calls and two a second; the others wait and use no attempt.
func TestRetriesAreFew(t *testing.T) {
	t.Parallel()
	shaky := newService()
	shaky.answer(&jobs.HTTPError{Status: http.StatusInternalServerError})
	kind := jobs.Define[order, string]("order.shake", jobs.Needs("shaky"), jobs.Retry(jobs.Fixed(10*time.Millisecond, 50)))
	b := start(t, worker.Options{Handlers: []jobs.Handler{kind.Do(func(ctx context.Context, _ order) (string, error) {
		return jobs.Step(ctx, "shake", shaky.call)
	})}})
	promote(t, b.store, "default")
	const n = 100
	began := time.Now()
	fill(t, b.store, kind, n)
	eventually(t, "all were tried", func() bool { failed, _ := shaky.count(); return failed >= n })
	time.Sleep(2 * time.Second)
	failed, _ := shaky.count()
	// What was there at first, a fifth of n, and two a second.
	if most := n + 10 + n/5 + int(2*time.Since(began).Seconds()) + 2; failed > most {
		t.Errorf("%d calls for %d jobs within %v, at most %d are allowed", failed, n, time.Since(began), most)
	}
	shaky.answer(nil)
	if d, err := b.store.Dependency(t.Context(), "shaky"); err == nil && d.State != jobs.DependencyClosed {
		t.Errorf("it has answered, and its breaker is %s", d.State)
	}
	eventually(t, "more succeed", func() bool { _, served := shaky.count(); return served >= 5 })
}
