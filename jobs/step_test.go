package jobs_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
	"pgregory.net/rapid"
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

// TestIdempotencyKeysAreNotConcatenations: parts that give the same text when put
// together, with or without the lengths before them, give different keys.
func TestIdempotencyKeysAreNotConcatenations(t *testing.T) {
	t.Parallel()
	key := func(about jobs.About, step string) string {
		m := newMemory(plain.Definition())
		m.about = about
		if step == "" {
			return jobs.IdempotencyKey(inJob(t, m))
		}
		key, err := jobs.Step(inJob(t, m), step, func(ctx context.Context) (string, error) { return jobs.IdempotencyKey(ctx), nil })
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	seen := map[string]string{}
	for name, got := range map[string]string{
		"plain":                       key(jobs.About{Queue: "a", Key: "b", Incarnation: "c"}, "d"),
		"queue takes of the key":      key(jobs.About{Queue: "ab", Key: "", Incarnation: "c"}, "d"),
		"key takes of the queue":      key(jobs.About{Queue: "", Key: "ab", Incarnation: "c"}, "d"),
		"key takes of the next":       key(jobs.About{Queue: "a", Key: "bc", Incarnation: ""}, "d"),
		"step takes of the next":      key(jobs.About{Queue: "a", Key: "b", Incarnation: ""}, "cd"),
		"outside of a step":           key(jobs.About{Queue: "a", Key: "b", Incarnation: "cd"}, ""),
		"lengths inside":              key(jobs.About{Queue: "a1:b", Key: "", Incarnation: "c"}, "d"),
		"lengths inside, another way": key(jobs.About{Queue: "a", Key: "b1:c0:", Incarnation: ""}, "d"),
		"all in one":                  key(jobs.About{Queue: "abcd"}, ""),
	} {
		if other, taken := seen[got]; taken {
			t.Errorf("%s has the key of %s", name, other)
		}
		seen[got] = name
	}
	one := jobs.About{Queue: "a", Key: "b", Incarnation: "c"}
	later := one
	later.Attempt, later.Kind, later.Tenant = 9, "other", "acme"
	if key(one, "d") != key(later, "d") {
		t.Error("another execution has another key")
	}
}

func TestIdempotencyKeysNeverMeet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.StringMatching(`[a:0-2]{0,4}`)
		draw := func(name string) jobs.About {
			return jobs.About{Queue: part.Draw(t, name+" queue"), Key: part.Draw(t, name+" key"), Incarnation: part.Draw(t, name+" incarnation")}
		}
		key := func(about jobs.About) string {
			m := newMemory(plain.Definition())
			m.about = about
			return jobs.IdempotencyKey(jobs.WithAttempt(context.Background(), m))
		}
		a, b := draw("a"), draw("b")
		if same := a.Queue == b.Queue && a.Key == b.Key && a.Incarnation == b.Incarnation; (key(a) == key(b)) != same {
			t.Fatalf("%+v and %+v: the keys are equal is %v", a, b, !same)
		}
	})
}

func TestStepBounds(t *testing.T) {
	t.Parallel()
	bounded := jobs.Define[string, string]("bounded", jobs.StepTimeout(time.Hour)).Definition()
	tests := []struct {
		name    string
		d       jobs.Definition
		options []jobs.StepOption
		least   time.Duration // of what is left; 0: no deadline
		runs    bool
	}{
		{"none", plain.Definition(), nil, 0, true},
		{"of the kind", bounded, nil, 59 * time.Minute, true},
		{"own", plain.Definition(), []jobs.StepOption{jobs.Within(time.Hour)}, 59 * time.Minute, true},
		{"own instead of the kind's", bounded, []jobs.StepOption{jobs.Within(3 * time.Hour)}, 179 * time.Minute, true},
		{"nothing left", bounded, []jobs.StepOption{jobs.Within(0)}, 0, false},
		{"less than nothing left", plain.Definition(), []jobs.StepOption{jobs.Within(-time.Second)}, 0, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ran := false
			_, err := jobs.Step(inJob(t, newMemory(test.d)), "s", func(ctx context.Context) (int, error) {
				ran = true
				deadline, ok := ctx.Deadline()
				if ok != (test.least > 0) || ok && (time.Until(deadline) < test.least || time.Until(deadline) > test.least+time.Minute) {
					t.Errorf("deadline in %v, %v", time.Until(deadline), ok)
				}
				return 0, nil
			}, test.options...)
			if ran != test.runs || (err == nil) != test.runs {
				t.Errorf("ran is %v, %v", ran, err)
			}
			if err != nil && jobs.Classify(err).Class != jobs.ClassTimeout {
				t.Errorf("got %+v", jobs.Classify(err))
			}
		})
	}
}

// TestStepDoesNotStartInAnEndedContext: the reason for the end comes out.
func TestStepDoesNotStartInAnEndedContext(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{jobs.ErrShutdown, jobs.ErrLost, jobs.ErrCancelled, context.DeadlineExceeded} {
		ctx, cancel := context.WithCancelCause(inJob(t, newMemory(plain.Definition())))
		cancel(cause)
		_, err := jobs.Step(ctx, "s", func(context.Context) (int, error) { t.Error("it ran"); return 0, nil })
		var step *jobs.StepError
		if !errors.Is(err, cause) || !errors.As(err, &step) || step.Step != "s" {
			t.Errorf("%v: got %v", cause, err)
		}
	}
}

// TestRecordedStepIsReadInAnEndedContext: what is done is done.
func TestRecordedStepIsReadInAnEndedContext(t *testing.T) {
	t.Parallel()
	m := newMemory(plain.Definition())
	m.steps["s"] = []byte("7")
	ctx, cancel := context.WithCancel(inJob(t, m))
	cancel()
	if got, err := jobs.Step(ctx, "s", func(context.Context) (int, error) { return 0, nil }); got != 7 || err != nil {
		t.Errorf("got %d, %v", got, err)
	}
}

func TestStepOutputsThatCannotBeKept(t *testing.T) {
	t.Parallel()
	m := newMemory(plain.Definition())
	_, err := jobs.Step(inJob(t, m), "s", func(context.Context) (chan int, error) { return make(chan int), nil })
	if jobs.Classify(err).Class != jobs.ClassInvalid || len(m.steps) != 0 {
		t.Errorf("a channel: %v", err)
	}
	m.steps["typed"] = []byte(`"text"`)
	_, err = jobs.Step(inJob(t, m), "typed", func(context.Context) (int, error) { t.Error("it ran"); return 0, nil })
	if jobs.Classify(err).Class != jobs.ClassInvalid || !strings.Contains(err.Error(), `"typed"`) || !strings.Contains(err.Error(), "version") {
		t.Errorf("a recorded output of another type: %v", err)
	}
	small := jobs.Define[string, string]("small", jobs.MaxOutput(4)).Definition()
	if err := jobs.Heartbeat(inJob(t, newMemory(small)), "12345"); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("progress that is too large: %v", err)
	}
}

// TestStepCodec: outputs and progress go through the kind's codec.
func TestStepCodec(t *testing.T) {
	t.Parallel()
	m := newMemory(jobs.Define[string, string]("k", jobs.WithCodec(&marked{})).Definition())
	for range 2 {
		m.again()
		got, err := jobs.Step(inJob(t, m), "s", func(ctx context.Context) (int, error) { return 7, jobs.Heartbeat(ctx, 3) })
		if got != 7 || err != nil {
			t.Fatalf("got %d, %v", got, err)
		}
	}
	if string(m.steps["s"]) != "marked:7" || string(m.progress["s"]) != "marked:3" {
		t.Errorf("stored %q and %q", m.steps["s"], m.progress["s"])
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	m := newMemory(plain.Definition())
	ctx := inJob(t, m)
	if _, found, err := jobs.Progress[int](ctx); found || err != nil {
		t.Errorf("none saved: %v, %v", found, err)
	}
	if err := jobs.Heartbeat(ctx, 5); err != nil { // outside of any step
		t.Fatal(err)
	}
	if got, found, err := jobs.Progress[int](ctx); got != 5 || !found || err != nil {
		t.Errorf("got %d, %v, %v", got, found, err)
	}
	if _, err := jobs.Step(ctx, "s", func(ctx context.Context) (int, error) {
		if _, found, err := jobs.Progress[int](ctx); found || err != nil {
			t.Errorf("the handler's progress is found in a step: %v, %v", found, err)
		}
		return 0, nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, found, err := jobs.Progress[string](ctx); found || jobs.Classify(err).Class != jobs.ClassInvalid {
		t.Errorf("another type: %v, %v", found, err)
	}
	m.commitErr = jobs.ErrCancelled
	if err := jobs.Heartbeat(ctx, 6); !errors.Is(err, jobs.ErrCancelled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := jobs.Heartbeat(t.Context(), 1); !errors.Is(err, jobs.ErrNoJob) {
		t.Errorf("heartbeat outside of a job: %v", err)
	}
	if _, _, err := jobs.Progress[int](t.Context()); !errors.Is(err, jobs.ErrNoJob) {
		t.Errorf("progress outside of a job: %v", err)
	}
}

func TestCurrent(t *testing.T) {
	t.Parallel()
	if about, ok := jobs.Current(t.Context()); ok {
		t.Errorf("outside of a job: %+v", about)
	}
	ctx := inJob(t, newMemory(plain.Definition()))
	step := func(ctx context.Context) string {
		about, ok := jobs.Current(ctx)
		if !ok || about.Key != "order:1" || about.Kind != "plain" {
			t.Errorf("got %+v, %v", about, ok)
		}
		return about.Step
	}
	if got := step(ctx); got != "" {
		t.Errorf("outside of a step: %q", got)
	}
	_, err := jobs.Step(ctx, "outer", func(ctx context.Context) (int, error) {
		if got := step(ctx); got != "outer" {
			t.Errorf("in a step: %q", got)
		}
		return jobs.Step(ctx, "inner", func(ctx context.Context) (int, error) {
			if got := step(ctx); got != "inner" {
				t.Errorf("in a step of a step: %q", got)
			}
			return 0, nil
		})
	})
	if err != nil {
		t.Error(err)
	}
}

// TestPanicNamesItsStep: the outermost step is named, the panic's value is left
// as it is, and a panic between steps names none.
func TestPanicNamesItsStep(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	panics := func(context.Context) (string, error) { panic(boom) }
	tests := []struct {
		name string
		fn   func(context.Context, string) (string, error)
		step string
	}{
		{"in a step", func(ctx context.Context, _ string) (string, error) { return jobs.Step(ctx, "one", panics) }, "one"},
		{"in a step of a step", func(ctx context.Context, _ string) (string, error) {
			return jobs.Step(ctx, "outer", func(ctx context.Context) (string, error) { return jobs.Step(ctx, "inner", panics) })
		}, "outer"},
		{"after a step", func(ctx context.Context, _ string) (string, error) {
			_, err := jobs.Step(ctx, "one", func(context.Context) (string, error) { return "", nil })
			panic(errors.Join(boom, err))
		}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := plain.Do(test.fn).Run(inJob(t, newMemory(plain.Definition())), []byte(`""`))
			if c := jobs.Classify(err); c.Class != jobs.ClassPanic || c.Step != test.step || !errors.Is(err, boom) {
				t.Errorf("got %v, %+v", err, c)
			}
		})
	}
	t.Run("without a handler", func(t *testing.T) {
		t.Parallel()
		defer func() {
			if v := recover(); v != boom {
				t.Errorf("recovered %v", v)
			}
		}()
		_, _ = jobs.Step(inJob(t, newMemory(plain.Definition())), "one", panics)
	})
}
