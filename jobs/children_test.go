package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/perdure/perdure/jobs"
)

var parcel = jobs.Define[string, int]("parcel.pack", jobs.Queue("parcels"))

func TestACallIsMadeOnceAndRemembered(t *testing.T) {
	t.Parallel()
	_, m := inMemory()
	m.about.Tenant = "acme"
	var got int
	handler := func(ctx context.Context) (_ int, err error) {
		got, err = jobs.Call(ctx, "pack", parcel, "book")
		return got, err
	}
	for range 2 {
		if err := execution(m, handler); !errors.Is(err, jobs.ErrParked) {
			t.Fatalf("error %v", err)
		}
	}
	child := m.made["order:1~pack"]
	if len(m.made) != 1 || child.Queue != "parcels" || child.Kind != "parcel.pack" || child.Tenant != "acme" || string(child.Payload) != `"book"` {
		t.Fatalf("%+v", m.made)
	}
	m.ended[child.Key] = jobs.Ended{State: jobs.StateCompleted, Result: []byte("3")}
	for range 2 {
		if err := execution(m, handler); err != nil || got != 3 {
			t.Fatalf("%d, %v", got, err)
		}
	}
	// Its result is the child's; one whose record was deleted is gone.
	m.ended[child.Key] = jobs.Ended{State: jobs.StateGone}
	var failed *jobs.ChildError
	if err := execution(m, handler); !errors.As(err, &failed) || failed.State != jobs.StateGone {
		t.Fatalf("error %v", err)
	}
}

func TestAChildsFailureIsRemembered(t *testing.T) {
	t.Parallel()
	_, m := inMemory()
	handler := func(ctx context.Context) (int, error) { return jobs.Call(ctx, "pack", parcel, "book") }
	m.ended["order:1~pack"] = jobs.Ended{State: jobs.StateQuarantined, Class: jobs.ClassTransient, Message: "no tape https://u:p@x/?k=v"}
	for _, since := range []jobs.Ended{{State: jobs.StateCompleted, Result: []byte("3")}, {State: jobs.StatePending}, {State: jobs.StateGone}} {
		err := execution(m, handler)
		var failed *jobs.ChildError
		want := jobs.ChildError{Queue: "parcels", Key: "order:1~pack", State: jobs.StateQuarantined, Class: jobs.ClassTransient, Message: "no tape https://...@x/?..."}
		if !errors.As(err, &failed) || *failed != want {
			t.Fatalf("%v", err)
		}
		c := jobs.Classify(err)
		if c.Class != jobs.ClassInvalid || c.Rule != "child quarantined" || c.Step != "pack" {
			t.Errorf("%+v", c)
		}
		m.ended["order:1~pack"] = since // a replay of the child changes nothing that the parent has seen
	}
}

func TestACallEachJoinsItsFailures(t *testing.T) {
	t.Parallel()
	_, m := inMemory()
	items := []string{"a", "b", "c"}
	var packed []int
	handler := func(ctx context.Context) (_ int, err error) {
		packed, err = jobs.CallEach(ctx, "packs", items, strings.ToUpper, parcel, func(item string) string { return item })
		return len(packed), err
	}
	if err := execution(m, handler); !errors.Is(err, jobs.ErrParked) {
		t.Fatalf("error %v", err)
	}
	for i, item := range items {
		key := "order:1~packs~~" + strings.ToUpper(item)
		if _, made := m.made[key]; !made {
			t.Fatalf("no %s: %v", key, m.made)
		}
		m.ended[key] = jobs.Ended{State: jobs.StateCompleted, Result: []byte(fmt.Sprint(i + 1))}
	}
	m.ended["order:1~packs~~B"] = jobs.Ended{State: jobs.StateCancelled, Message: "not wanted"}
	for range 2 {
		err := execution(m, handler)
		if err == nil || err.Error() != `step "packs": child parcels/order:1~packs~~B is cancelled: not wanted` || !slices.Equal(packed, []int{1, 0, 3}) {
			t.Fatalf("%v, %v", packed, err)
		}
	}
	items = nil
	if err := execution(m, func(ctx context.Context) (int, error) {
		none, err := jobs.CallEach(ctx, "none", items, strings.ToUpper, parcel, strings.ToUpper)
		return len(none), err
	}); err != nil {
		t.Errorf("of nothing: %v", err)
	}
}

func TestManyFailuresAreBounded(t *testing.T) {
	t.Parallel()
	_, m := inMemory()
	items := make([]int, jobs.MaxChildren)
	for i := range items {
		items[i] = i
		m.ended[jobs.ChildKey("order:1", "packs", fmt.Sprint(i))] = jobs.Ended{State: jobs.StateQuarantined, Class: jobs.ClassTimeout, Message: strings.Repeat("x", 5000)}
	}
	handler := func(ctx context.Context) (int, error) {
		_, err := jobs.CallEach(ctx, "packs", items, func(i int) string { return fmt.Sprint(i) }, parcel, func(int) string { return "" })
		return 0, err
	}
	first, second := execution(m, handler), execution(m, handler)
	if n := len(m.steps["packs"]); n > 1<<20 || first == nil || first.Error() != second.Error() || strings.Count(first.Error(), "\n") != jobs.MaxChildren-1 {
		t.Errorf("%d bytes of record; equal errors: %v", n, first.Error() == second.Error())
	}
	if n := jobs.FailedChildren(m.steps["packs"]); n != jobs.MaxChildren {
		t.Errorf("%d failures", n)
	}
	if n := jobs.FailedChildren([]byte("f{")) + jobs.FailedChildren(nil) + jobs.FailedChildren([]byte("c")); n != 0 {
		t.Errorf("%d failures of nothing", n)
	}
}

func TestChildrenThatAreRefused(t *testing.T) {
	t.Parallel()
	upper := func(s string) string { return s }
	each := func(items ...string) func(ctx context.Context) (int, error) {
		return func(ctx context.Context) (int, error) {
			_, err := jobs.CallEach(ctx, "packs", items, upper, parcel, upper)
			return 0, err
		}
	}
	call := func(name string, options ...jobs.JobOption) func(ctx context.Context) (int, error) {
		return func(ctx context.Context) (int, error) { return jobs.Call(ctx, name, parcel, "book", options...) }
	}
	for what, handler := range map[string]func(ctx context.Context) (int, error){
		"a bad name":         call("no spaces"),
		"a bad option":       call("pack", jobs.Queue("No")),
		"a key twice":        each("a", "a"),
		"a key with a space": each("a b"),
		"an empty key":       each(""),
		"too many":           each(make([]string, jobs.MaxChildren+1)...),
		"a bad kind":         func(ctx context.Context) (int, error) { return jobs.Call(ctx, "x", jobs.Define[int, int]("No"), 1) },
		"a payload that is bad": func(ctx context.Context) (int, error) {
			return jobs.Call(ctx, "x", jobs.Define[any, int]("x"), any(func() {}))
		},
	} {
		_, m := inMemory()
		err := execution(m, handler)
		if !errors.Is(err, jobs.ErrInvalid) || jobs.Classify(err).Class != jobs.ClassInvalid || len(m.made) != 0 {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := jobs.Call(context.Background(), "pack", parcel, "book"); !errors.Is(err, jobs.ErrNoJob) {
		t.Errorf("outside of a job: %v", err)
	}
	if _, err := (jobs.Child[int]{}).Result(context.Background()); !errors.Is(err, jobs.ErrNoJob) {
		t.Errorf("of no child: %v", err)
	}
	_, m := inMemory()
	m.ended["order:1~pack"] = jobs.Ended{State: jobs.StateCompleted, Result: []byte("3")}
	err := execution(m, func(ctx context.Context) (int, error) {
		if _, err := call("pack")(ctx); err != nil {
			return 0, err
		}
		return call("pack")(ctx)
	})
	if !errors.Is(err, jobs.ErrDuplicateStep) {
		t.Errorf("a name twice: %v", err)
	}
	m.steps["step"] = []byte(`{"a":1}`)
	m.ended["order:1~step"] = jobs.Ended{State: jobs.StateCompleted}
	if err := execution(m, call("step")); err == nil || !strings.Contains(err.Error(), "not recorded as children") {
		t.Errorf("a step's record: %v", err)
	}
	for _, job := range []jobs.Job{parcel.New("k", "", jobs.Detached()), jobs.Raw(parcel.Definition(), "k", nil, jobs.Detached())} {
		if !errors.Is(job.Err(), jobs.ErrInvalid) {
			t.Errorf("a detached job that is nobody's child: %v", job.Err())
		}
	}
}

func TestSpawnGoesOn(t *testing.T) {
	t.Parallel()
	_, m := inMemory()
	var steps int
	handler := func(ctx context.Context) (int, error) {
		child, err := jobs.Spawn(ctx, "pack", parcel, "book", jobs.Detached(), jobs.Tenant("other"))
		if err != nil {
			return 0, err
		}
		if child.Queue != "parcels" || child.Key != "order:1~pack" {
			t.Errorf("%+v", child)
		}
		if steps, err = jobs.Step(ctx, "meanwhile", func(context.Context) (int, error) { return steps + 1, nil }); err != nil {
			return 0, err
		}
		n, err := child.Result(ctx)
		if errors.Is(err, jobs.ErrParked) {
			if _, again := child.Result(ctx); !errors.Is(again, jobs.ErrParked) {
				t.Errorf("once more: %v", again)
			}
		}
		return n, err
	}
	if err := execution(m, handler); !errors.Is(err, jobs.ErrParked) || steps != 1 {
		t.Fatal(err)
	}
	m.ended["order:1~pack"] = jobs.Ended{State: jobs.StateCompleted, Result: []byte("3")}
	if err := execution(m, handler); err != nil || steps != 1 {
		t.Fatal(err)
	}
	if m.made["order:1~pack"].Tenant != "other" {
		t.Errorf("%+v", m.made)
	}
}

// The key of a child must never change: it is how a parent finds its child again.
func TestChildKey(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("p", jobs.MaxKeyLength)
	for _, c := range []struct{ parent, name, item, want string }{
		{"order:1042", "label", "", "order:1042~label"},
		{"order:1042", "parcels", "sku-7", "order:1042~parcels~~sku-7"},
		{"order:1042~label", "print", "", "order:1042~label~print"},
		{"order:1042", "a/b", "", "order:1042~~~633f4f3e4b0b6089963041a66c0af41d8cf4711a"},
		{"order:1042~", "a", "", "order:1042~~~~"},
		{"order:1042", "a", "x~y", "order:1042~~~"},
		{long, "label", "", long[:150] + "~~~"},
	} {
		got := jobs.ChildKey(c.parent, c.name, c.item)
		if digest := strings.HasSuffix(c.want, "~~~"); !digest && got != c.want || digest && !strings.HasPrefix(got, c.want) {
			t.Errorf("%s %s %s: %s", c.parent, c.name, c.item, got)
		}
		if err := jobs.CheckKey(got); err != nil {
			t.Errorf("%s: %v", got, err)
		}
	}
	seen := map[string]string{}
	for _, parent := range []string{"p", "p~", "p~a", "p~a~", "p~~", "p~~a", long} {
		for _, name := range []string{"a", "a~", "a~a", "a/a", "a~~a", "b"} {
			for _, item := range []string{"", "a", "a~a", "a/a", "a~"} {
				key, from := jobs.ChildKey(parent, name, item), parent+" "+name+" "+item
				if other, taken := seen[key]; taken {
					t.Errorf("%s is the key of %s and of %s", key, other, from)
				}
				seen[key] = from
			}
		}
	}
}
