package jobs_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
)

var plain = jobs.Define[string, string]("plain")

func inJob(t *testing.T, m *memory) context.Context { return jobs.WithAttempt(t.Context(), m) }

func TestStepRunsOnceAcrossExecutions(t *testing.T) {
	t.Parallel()
	m, calls := newMemory(plain.Definition()), 0
	for range 3 {
		m.again()
		got, err := jobs.Step(inJob(t, m), "one", func(context.Context) (int, error) { calls++; return 40 + calls, nil })
		if err != nil || got != 41 {
			t.Fatalf("got %d, %v", got, err)
		}
	}
	if calls != 1 {
		t.Fatalf("ran %d times", calls)
	}
}

func TestStepErrorsSayWhatHappened(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	m := newMemory(plain.Definition())
	ctx := inJob(t, m)
	_, err := jobs.Step(ctx, "fails", func(context.Context) (int, error) { return 0, boom })
	var step *jobs.StepError
	if !errors.Is(err, boom) || !errors.As(err, &step) || step.Step != "fails" {
		t.Fatalf("got %v", err)
	}
	if len(m.steps) != 0 {
		t.Fatal("a failed step was recorded")
	}
	if _, err := jobs.Step(ctx, "fails", func(context.Context) (int, error) { return 0, nil }); !errors.Is(err, jobs.ErrDuplicateStep) {
		t.Fatalf("same name twice: %v", err)
	}
	if _, err := jobs.Step(ctx, "bad name", func(context.Context) (int, error) { return 0, nil }); !errors.Is(err, jobs.ErrInvalid) {
		t.Fatalf("bad name: %v", err)
	}
	if _, err := jobs.Step(t.Context(), "out", func(context.Context) (int, error) { return 0, nil }); !errors.Is(err, jobs.ErrNoJob) {
		t.Fatalf("outside: %v", err)
	}
	m.commitErr = jobs.ErrLost
	if _, err := jobs.Step(ctx, "late", func(context.Context) (int, error) { return 0, nil }); !errors.Is(err, jobs.ErrLost) {
		t.Fatalf("stale: %v", err)
	}
	if err := jobs.Heartbeat(ctx, 1); !errors.Is(err, jobs.ErrLost) {
		t.Fatalf("stale heartbeat: %v", err)
	}
}

func TestStepTimeoutEndsItsContext(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[string, string]("timed", jobs.StepTimeout(time.Hour))
	_, err := jobs.Step(inJob(t, newMemory(kind.Definition())), "slow", func(ctx context.Context) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	}, jobs.Within(time.Millisecond))
	if c := jobs.Classify(err); c.Class != jobs.ClassTimeout || c.Step != "slow" {
		t.Fatalf("got %v, %+v", err, c)
	}
}

func TestOutputsAreBounded(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[string, string]("small", jobs.MaxOutput(8))
	_, err := jobs.Step(inJob(t, newMemory(kind.Definition())), "big", func(context.Context) (string, error) { return "much too long", nil })
	if !errors.Is(err, jobs.ErrInvalid) || jobs.Classify(err).Class != jobs.ClassInvalid {
		t.Fatalf("got %v", err)
	}
}

func TestProgressIsReadByTheNextExecution(t *testing.T) {
	t.Parallel()
	m := newMemory(plain.Definition())
	var before []int
	for range 3 {
		m.again()
		_, err := jobs.Step(inJob(t, m), "long", func(ctx context.Context) (int, error) {
			done, _, err := jobs.Progress[int](ctx)
			if err != nil {
				return 0, err
			}
			before = append(before, done)
			return 0, errors.Join(jobs.Heartbeat(ctx, done+10), errors.New("interrupted"))
		})
		if err == nil {
			t.Fatal("want an error")
		}
	}
	if before[0] != 0 || before[1] != 10 || before[2] != 20 {
		t.Fatalf("progress read: %v", before)
	}
	if _, found, _ := jobs.Progress[int](inJob(t, newMemory(plain.Definition()))); found {
		t.Fatal("progress of nothing")
	}
}

func TestIdempotencyKeysDiffer(t *testing.T) {
	t.Parallel()
	abouts := []jobs.About{
		{Queue: "q", Key: "k", Incarnation: "i"}, {Queue: "qk", Key: "", Incarnation: "i"}, {Queue: "q", Key: "ki", Incarnation: ""},
		{Queue: "q", Key: "k", Incarnation: "j"}, {Queue: "r", Key: "k", Incarnation: "i"},
	}
	seen := map[string]bool{}
	for _, about := range abouts {
		for _, step := range []string{"a", "b"} {
			m := newMemory(plain.Definition())
			m.about = about
			for range 2 {
				m.again()
				m.steps = map[string][]byte{}
				key, err := jobs.Step(inJob(t, m), step, func(ctx context.Context) (string, error) { return jobs.IdempotencyKey(ctx), nil })
				if err != nil || len(key) != 43 {
					t.Fatalf("key %q, %v", key, err)
				}
				seen[key] = true
			}
		}
	}
	if len(seen) != 2*len(abouts) {
		t.Fatalf("%d keys for %d steps", len(seen), 2*len(abouts))
	}
	if jobs.IdempotencyKey(t.Context()) != "" {
		t.Fatal("a key outside of a job")
	}
}

func TestHandlerTurnsPanicsIntoErrors(t *testing.T) {
	t.Parallel()
	h := plain.Do(func(context.Context, string) (string, error) { panic("ouch") })
	_, err := h.Run(inJob(t, newMemory(plain.Definition())), []byte(`"x"`))
	var p *jobs.PanicError
	if !errors.As(err, &p) || p.Stack == "" || jobs.Classify(err).Class != jobs.ClassPanic {
		t.Fatalf("got %v", err)
	}
}

func TestMiddlewareRunsOutsideIn(t *testing.T) {
	t.Parallel()
	var order []string
	note := func(name string) jobs.Middleware {
		return func(next jobs.Next) jobs.Next {
			return func(ctx context.Context) error {
				order = append(order, name)
				return next(ctx)
			}
		}
	}
	h := plain.Do(func(context.Context, string) (string, error) { order = append(order, "handler"); return "r", nil }, note("b")).Use(note("a"))
	result, err := h.Run(t.Context(), []byte(`"x"`))
	if err != nil || string(result) != `"r"` || len(order) != 3 || order[0] != "a" || order[1] != "b" || order[2] != "handler" {
		t.Fatalf("%s %v %v", result, err, order)
	}
}

func TestPayloadsAreCheckedBeforeAndAfter(t *testing.T) {
	t.Parallel()
	h := plain.Do(func(context.Context, string) (string, error) { return "", nil })
	_, err := h.Run(t.Context(), []byte(`{`))
	if c := jobs.Classify(err); c.Class != jobs.ClassInvalid || !errors.Is(err, jobs.ErrInvalid) {
		t.Fatalf("got %v, %+v", err, c)
	}
	for name, job := range map[string]jobs.Job{
		"key":        plain.New("a b", "x"),
		"delay":      plain.New("a", "x", jobs.Delay(-time.Second)),
		"queue":      plain.New("a", "x", jobs.Queue("Bad")),
		"tenant":     plain.New("a", "x", jobs.Tenant("No")),
		"retention":  plain.New("a", "x", jobs.Retention(time.Second)),
		"header":     plain.New("a", "x", jobs.Header("perdure-x", "y")),
		"payload":    jobs.Define[string, string]("p", jobs.MaxPayload(3)).New("a", "long"),
		"step time":  jobs.Define[string, string]("p", jobs.StepTimeout(-1)).New("a", "x"),
		"concurrent": plain.New("a", "x", jobs.Delay(time.Second), jobs.At(time.Now())),
	} {
		if err := job.Err(); !errors.Is(err, jobs.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
