package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// needing publishes a kind that needs services.
func (f *fixture) needing(kind string, needs ...string) {
	f.t.Helper()
	f.ok(f.Publish(f.ctx, []delivery.PublishedKind{{Name: kind, Queue: "q", Version: 1, Needs: needs}}))
}

// parkedOn parks a job on a dependency or a limit.
func (f *fixture) parkedOn(key, sort, name string) {
	f.t.Helper()
	d := f.running(key)
	_, err := f.pause(f.ctx, d, delivery.Verdict{
		Outcome: delivery.Pause, Waiting: jobs.Waiting{Type: sort, Name: name}, Lane: true, Said: name + " is not available", Delay: time.Hour,
	})
	f.ok(err)
}

func (f *fixture) voted(owner, name string, calls, failed int) {
	f.t.Helper()
	_, err := f.Vote(f.ctx, owner, delivery.Vote{Name: name, Calls: calls, Failed: failed, LongCalls: calls, LongFailed: failed, Reason: "refused"})
	f.ok(err)
}

func names(infos []delivery.DependencyInfo) (all []string) {
	for _, info := range infos {
		all = append(all, info.Name)
	}
	return all
}

func TestDependencyViews(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.needing("kind.a", "payments")
	f.parkedOn("k", "dependency", "payments")
	f.voted("o", "host.example", 10, 1)
	ten := 10.0
	if _, err := f.TuneDependency(f.ctx, "kind/kind.a", delivery.Tuning{Rate: &ten}, why); err != nil {
		t.Fatal(err)
	}
	f.ok(f.Declare(f.ctx, jobs.Dependency{Name: "mail", Resume: 5}))
	f.rdb.ZAdd(f.ctx, dependencyNamesKey, redis.Z{Score: 1, Member: "mail"}) // long ago

	for _, row := range []struct {
		read func() ([]delivery.DependencyInfo, error)
		want []string
	}{
		{func() ([]delivery.DependencyInfo, error) { return f.Dependencies(f.ctx) }, []string{"host.example", "mail", "payments"}},
		{func() ([]delivery.DependencyInfo, error) { return f.DependenciesInUse(f.ctx) }, []string{"host.example", "payments"}},
		{func() ([]delivery.DependencyInfo, error) { return f.DependenciesWatched(f.ctx) }, []string{"kind/kind.a", "payments"}},
	} {
		if got, err := row.read(); err != nil || !slices.Equal(names(got), row.want) {
			t.Errorf("%v %v, want %v", names(got), err, row.want)
		}
	}
	payments, err := f.Dependency(f.ctx, "payments")
	if err != nil || payments.State != jobs.DependencyClosed || payments.Waiting != 1 || payments.Oldest.IsZero() || !slices.Equal(payments.Kinds, []string{"kind.a"}) || !payments.Named() {
		t.Errorf("%+v %v", payments, err)
	}
	host, err := f.Dependency(f.ctx, "host.example")
	if err != nil || host.Workers != 1 || host.Calls != 10 || host.Failed != 1 || host.Against != 0 || host.Named() {
		t.Errorf("%+v %v", host, err)
	}
	mail, err := f.Dependency(f.ctx, "mail")
	if err != nil || mail.Resume != 5 || !mail.Declared || len(mail.Set) != 0 || mail.AllWaiting() != 0 {
		t.Errorf("%+v %v", mail, err)
	}
	limit, err := f.Limit(f.ctx, "kind/kind.a")
	if err != nil || limit.Limit.Rate != 10 || !slices.Equal(limit.Set, []string{"rate"}) {
		t.Errorf("%+v %v", limit, err)
	}
	if limits, err := f.Limits(f.ctx); err != nil || len(limits) != 1 || limits[0].Name != "kind/kind.a" {
		t.Errorf("%+v %v", limits, err)
	}
	if _, err := f.Dependency(f.ctx, "paymnets"); !errors.Is(err, jobs.ErrNotFound) {
		t.Error(err)
	}
	for name, known := range map[string]bool{"payments": true, "paymnets": false, "kind/kind.a": true, "kind/none": false, "tenant/acme": true} {
		if err := f.CheckDependencyKnown(f.ctx, name); (err == nil) != known || err != nil && !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := f.CheckDependencyKnown(f.ctx, "Payments"); !errors.Is(err, jobs.ErrInvalid) {
		t.Error(err)
	}
}

func TestDependencyStory(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.needing("kind.a", "payments")
	f.parkedOn("k", "dependency", "payments")
	if _, err := f.ForceDependency(f.ctx, "payments", true, why); err != nil {
		t.Fatal(err)
	}
	f.enqueue("later")
	f.ok(f.HoldQueue(f.ctx, "q", "payments", "payments is not available"))
	story, err := f.DependencyStory(f.ctx, "payments")
	if err != nil || !slices.Equal(story.Lanes, []delivery.Lane{{Queue: "q", Name: "payments", Kind: "kind.a", Jobs: 1}}) || !slices.Equal(story.Queues, []string{"q"}) || story.Held != 1 {
		t.Errorf("%+v %v", story, err)
	}
	if len(story.Events) != 1 || story.Events[0].What != "open" || story.Events[0].Actor != "ada" || story.Events[0].Queue != "@dep" {
		t.Errorf("%+v", story.Events)
	}
	if _, err := f.DependencyStory(f.ctx, "none"); !errors.Is(err, jobs.ErrNotFound) {
		t.Error(err)
	}
}

func TestForgetDependencies(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.ok(f.Declare(f.ctx, jobs.Dependency{Name: "declared", Resume: 5}))
	f.voted("o", "voted", 1, 0)
	for i := range maxBatch + 10 {
		f.rdb.ZAdd(f.ctx, dependencyNamesKey, redis.Z{Score: 5, Member: fmt.Sprintf("old-%d", i)})
	}
	f.rdb.ZAdd(f.ctx, dependencyNamesKey, redis.Z{Score: 1, Member: "declared"}, redis.Z{Score: 2, Member: "voted"},
		redis.Z{Score: float64(f.now().Add(-heardAgo + time.Minute).UnixMilli()), Member: "lately"})
	if n, err := f.ForgetDependencies(f.ctx); err != nil || n != maxBatch+10 {
		t.Errorf("%d %v", n, err)
	}
	if got := f.rdb.ZRange(f.ctx, dependencyNamesKey, 0, -1).Val(); !slices.Equal(got, []string{"declared", "voted", "lately"}) {
		t.Error(got)
	}
	if n, err := f.ForgetDependencies(f.ctx); err != nil || n != 0 {
		t.Errorf("%d %v", n, err)
	}
}
