package jobstest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/jobs/jobstest"
)

func count(ctx context.Context, name string) (int, error) {
	return jobs.Step(ctx, name, func(context.Context) (int, error) { return 1, nil })
}

// both runs steps of these names.
func both(names ...string) func(context.Context, string) (string, error) {
	return func(ctx context.Context, _ string) (string, error) {
		for _, name := range names {
			if _, err := count(ctx, name); err != nil {
				return "", err
			}
		}
		return "done", nil
	}
}

func TestCodeThatChangesUnderAJob(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[string, string]("order.change")
	for _, c := range []struct {
		name  string
		steps []string // of the code now; "a" and "b" are recorded
		want  string   // in the error; "": it completes
	}{
		{"the same", []string{"a", "b"}, ""},
		{"one more", []string{"a", "new", "b", "newer"}, ""},
		{"another order", []string{"b", "c", "a"}, ""},
		{"one is gone", []string{"a", "c"}, "without coming to recorded steps: b. Were they renamed or removed?"},
		{"renamed", []string{"reserve", "b"}, "without coming to recorded steps: a. Were"},
		{"both are gone", []string{"c"}, "recorded steps: a, b. Were"},
		{"twice", []string{"a", "b", "a"}, jobs.ErrDuplicateStep.Error()},
	} {
		job := jobstest.New(t, kind.Do(both(c.steps...)), "")
		job.Recorded("a", 1)
		job.Recorded("b", 1)
		o := job.Run()
		if (c.want == "") != (o.State == jobs.StateCompleted) || c.want != "" && (o.State != jobs.StateQuarantined || !strings.Contains(o.Err.Error(), c.want) || o.Failures[0].Class != jobs.ClassInvalid && c.name != "twice") {
			t.Errorf("%s: %s: %v", c.name, o.State, o.Err)
		}
	}
}

type (
	v1 struct{ Name string }
	v2 struct{ First, Last string }
	v3 struct {
		First, Last string
		Age         int
	}
)

func (p v3) Validate() error {
	if p.Age < 0 {
		return errors.New("age is below 0")
	}
	return nil
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[v3, string]("person.greet", jobs.Version(4),
		jobs.Migrate(1, func(p v1) (v2, error) {
			first, last, ok := strings.Cut(p.Name, " ")
			if !ok {
				return v2{}, errors.New("no last name")
			}
			return v2{first, last}, nil
		}),
		jobs.Migrate(2, func(p v2) (v3, error) { return v3{p.First, p.Last, len(p.Last) - 4}, nil }))
	handler := kind.Do(func(_ context.Context, p v3) (string, error) {
		return fmt.Sprint(p.First, "/", p.Last, "/", p.Age), nil
	})
	for _, c := range []struct {
		version int
		payload any
		want    string // the result, or in the error
	}{
		{1, v1{"Ada Byron"}, "Ada/Byron/1"},
		{2, v2{"Ada", "Byron"}, "Ada/Byron/1"},
		{3, v3{"Ada", "Byron", 36}, "Ada/Byron/36"},
		{4, v3{"Ada", "Byron", 36}, "Ada/Byron/36"},
		{0, v3{"Ada", "Byron", 36}, "Ada/Byron/36"},
		{1, v1{"Ada"}, "payload of version 1 of kind person.greet, on its way from version 1 to 2: no last name"},
		{1, 7, "it does not decode as jobstest_test.v1"},
		{2, v2{"Ada", "By"}, "age is below 0"},
	} {
		o := jobstest.NewOld(t, handler, c.version, c.payload).Run()
		var result string
		if err := o.Result(&result); err == nil && result != c.want {
			t.Errorf("%d: %v: %q", c.version, c.payload, result)
		} else if err != nil && (!strings.Contains(o.Err.Error(), c.want) || o.State != jobs.StateQuarantined || o.Failures[0].Class != jobs.ClassInvalid || len(o.Failures) != 1) {
			t.Errorf("%d: %v: %s: %v", c.version, c.payload, o.State, o.Err)
		}
	}
	for _, from := range []int{0, 4, 9} {
		if err := jobs.Define[v3, string]("k", jobs.Version(4), jobs.Migrate(from, func(p v3) (v3, error) { return p, nil })).Err(); !errors.Is(err, jobs.ErrInvalid) {
			t.Errorf("from %d: %v", from, err)
		}
	}
	same := jobs.Migrate(1, func(p v3) (v3, error) { return p, nil })
	if err := jobs.Define[v3, string]("k", jobs.Version(4), same, same).Err(); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("twice: %v", err)
	}
}

func TestAJobWithoutAnEnd(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[int, string]("page.crawl")
	keys := map[string]bool{}
	var got []int
	handler := kind.Do(func(ctx context.Context, cursor int) (string, error) {
		n, err := jobs.Step(ctx, "page", func(ctx context.Context) (int, error) {
			keys[jobs.IdempotencyKey(ctx)] = true
			return cursor + 1, nil
		})
		if err != nil {
			return "", err
		}
		if err := jobs.Sleep(ctx, "politeness", time.Minute); err != nil {
			return "", err
		}
		if got = append(got, n); n == 5 {
			kept, err := jobs.Await[string](ctx, "stop", 0)
			return kept, err
		}
		return "", jobs.ContinueAs(n)
	})
	job := jobstest.New(t, handler, 0)
	job.Signal("stop", "enough") // kept through the rounds
	o := job.Run()
	var result string
	if err := o.Result(&result); err != nil || result != "enough" || job.Rounds() != 4 || len(keys) != 5 || job.Elapsed() != 5*time.Minute || !slices.Equal(got, []int{1, 2, 3, 4, 5}) || !slices.Equal(job.Steps(), []string{"page", "politeness", "stop"}) {
		t.Errorf("%q, %v: %d rounds, %d keys, %v, %v, %v", result, err, job.Rounds(), len(keys), job.Elapsed(), got, job.Steps())
	}
	bad := jobstest.New(t, kind.Do(func(context.Context, int) (string, error) { return "", jobs.ContinueAs("no number") }), 0).Run()
	if bad.State != jobs.StateQuarantined || bad.Failures[0].Class != jobs.ClassInvalid {
		t.Errorf("a payload that does not fit: %s %v", bad.State, bad.Err)
	}
}

func TestBoundsOfWhatIsRecorded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		option jobs.Option
		run    func(ctx context.Context, _ string) (string, error)
		want   string
	}{
		{"steps", jobs.MaxSteps(2), both("a", "b", "c"), "recorded steps of the job 3: must be at most 2 for kind bounds"},
		{"bytes", jobs.MaxRecorded(1 << 10), func(ctx context.Context, _ string) (string, error) {
			for _, name := range []string{"a", "b"} {
				if _, err := jobs.Step(ctx, name, func(context.Context) (string, error) { return strings.Repeat("x", 600), nil }); err != nil {
					return "", err
				}
			}
			return "", nil
		}, "recorded bytes of the job 1204: must be at most 1024 for kind bounds"},
		{"progress", jobs.MaxRecorded(1 << 10), func(ctx context.Context, _ string) (string, error) {
			if err := jobs.Heartbeat(ctx, strings.Repeat("x", 900)); err != nil {
				return "", err
			}
			return "", jobs.Heartbeat(ctx, strings.Repeat("x", 1100))
		}, "recorded bytes of the job 1102: must be at most 1024 for kind bounds"},
	} {
		kind := jobs.Define[string, string]("bounds", c.option)
		o := jobstest.New(t, kind.Do(c.run), "").Run()
		if o.State != jobs.StateQuarantined || !strings.Contains(o.Err.Error(), c.want) {
			t.Errorf("%s: %s: %v", c.name, o.State, o.Err)
		}
	}
	for _, option := range []jobs.Option{jobs.MaxSteps(0), jobs.MaxSteps(4001), jobs.MaxRecorded(1), jobs.MaxRecorded(1 << 40)} {
		if err := jobs.Define[string, string]("k", option).Err(); !errors.Is(err, jobs.ErrInvalid) {
			t.Error(err)
		}
	}
}
