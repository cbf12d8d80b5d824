package jobstest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/jobs/jobstest"
)

var (
	ship  = jobs.Define[[]string, string]("order.ship")
	label = jobs.Define[string, string]("label.print", jobs.Retry(jobs.Fixed(time.Minute, 3)))
)

// depot prints labels, and knows idempotency keys when it is careful.
type depot struct {
	printed map[string]int
	careful bool
}

func (d *depot) print() jobs.Handler {
	return label.Do(func(ctx context.Context, item string) (string, error) {
		if err := jobs.Sleep(ctx, "warm-up", time.Hour); err != nil {
			return "", err
		}
		return jobs.Step(ctx, "print", func(ctx context.Context) (string, error) {
			if strings.HasPrefix(item, "bad") {
				return "", errors.New("no paper")
			}
			if d.careful {
				d.printed[jobs.IdempotencyKey(ctx)] = 1
			} else {
				d.printed[item]++
			}
			return "label of " + item, nil
		})
	})
}

func shipping() jobs.Handler {
	return ship.Do(func(ctx context.Context, items []string) (string, error) {
		log, err := jobs.Spawn(ctx, "log", label, "log")
		if err != nil {
			return "", err
		}
		labels, err := jobs.CallEach(ctx, "labels", items, func(item string) string { return item }, label, func(item string) string { return item })
		if err != nil {
			return "", err
		}
		text, err := log.Result(ctx)
		return strings.Join(append(labels, text), ", "), err
	})
}

func TestChildrenRunInMemory(t *testing.T) {
	t.Parallel()
	d := &depot{printed: map[string]int{}}
	job := jobstest.New(t, shipping(), []string{"a", "b"})
	job.Serve(d.print())
	o := job.Run()
	var text string
	if err := o.Result(&text); err != nil || text != "label of a, label of b, label of log" || len(d.printed) != 3 {
		t.Fatalf("%q, %v, %v: %+v", text, err, d.printed, o)
	}
	if job.Elapsed() != time.Hour { // beside each other
		t.Errorf("took %v", job.Elapsed())
	}
	if child := job.Child("labels", "a").Outcome(); child.State != jobs.StateCompleted || child.Runs != 2 {
		t.Errorf("%+v", child)
	}
}

func TestAChildFailsInMemory(t *testing.T) {
	t.Parallel()
	job := jobstest.New(t, shipping(), []string{"a", "bad"})
	job.Serve((&depot{printed: map[string]int{}}).print())
	var failed *jobs.ChildError
	if o := job.Run(); o.State != jobs.StateQuarantined || !errors.As(o.Err, &failed) || failed.Message == "" || failed.Key != "jobstest~labels~~bad" {
		t.Fatalf("%+v", o)
	}
	job = jobstest.New(t, shipping(), []string{"a"})
	job.CompleteChild("log", "", "logged")
	job.EndChild("labels", "a", jobs.StateCancelled, nil)
	if o := job.Run(); o.State != jobs.StateQuarantined || !strings.Contains(o.Err.Error(), "jobstest~labels~~a is cancelled") {
		t.Fatalf("%+v", o)
	}
}

func TestAChildThatWaitsForASignal(t *testing.T) {
	t.Parallel()
	asking := label.Do(func(ctx context.Context, _ string) (string, error) { return jobs.Await[string](ctx, "answer", 0) })
	job := jobstest.New(t, ship.Do(func(ctx context.Context, _ []string) (string, error) { return jobs.Call(ctx, "ask", label, "") }), nil)
	job.Serve(asking)
	if o := job.Run(); o.State != jobs.StatePaused || fmt.Sprint(o.Waits) != "[ask]" {
		t.Fatalf("%+v", o)
	}
	job.Child("ask", "").Signal("answer", "yes")
	var text string
	if o := job.Run(); o.Result(&text) != nil || text != "yes" {
		t.Fatalf("%+v", o)
	}
}

func TestCrashEverywhereGoesIntoChildren(t *testing.T) {
	t.Parallel()
	for _, careful := range []bool{true, false} {
		found := &recorder{TB: t}
		jobstest.CrashEverywhere(found, func() jobstest.World {
			d := &depot{printed: map[string]int{}, careful: careful}
			return jobstest.World{Handler: shipping(), Payload: []string{"a", "b"}, Children: []jobs.Handler{d.print()}, Effects: func() any { return d.printed }}
		})
		want := 3
		if careful {
			want = 0
		}
		if len(found.errors) != want || want > 0 && !strings.Contains(found.errors[0], `step "print" of child jobstest~labels~~a after its effect and before its record`) {
			t.Errorf("careful %v: found %q", careful, found.errors)
		}
	}
}
