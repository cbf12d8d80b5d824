package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/jobs"
)

// execution runs a handler on what a memory remembers.
func execution[T any](m *memory, fn func(ctx context.Context) (T, error)) error {
	m.again()
	kind := jobs.Define[int, T]("wait.test")
	_, err := kind.Do(func(ctx context.Context, _ int) (T, error) { return fn(ctx) }).Run(jobs.WithAttempt(context.Background(), m), []byte("1"))
	return err
}

func TestSleepIsOverAtItsTimeAndStaysOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, m := inMemory()
		slept := 0
		handler := func(ctx context.Context) (int, error) {
			if err := jobs.Sleep(ctx, "cool-down", time.Hour); err != nil {
				return 0, err
			}
			slept++
			return 0, jobs.SleepUntil(ctx, "and-then", time.Now().Add(-time.Second))
		}
		for range 3 {
			if err := execution(m, handler); !errors.Is(err, jobs.ErrParked) {
				t.Fatalf("error %v", err)
			}
			time.Sleep(10 * time.Minute)
		}
		time.Sleep(30 * time.Minute)
		for range 2 {
			if err := execution(m, handler); err != nil {
				t.Fatal(err)
			}
		}
		if slept != 2 || len(m.steps) != 2 {
			t.Errorf("slept %d times, recorded %v", slept, m.steps)
		}
	})
}

func TestAwaitReturnsTheSignal(t *testing.T) {
	t.Parallel()
	_, m := inMemory()
	var got jobs.Approval
	handler := func(ctx context.Context) (_ int, err error) {
		got, err = jobs.AwaitApproval(ctx, "large amount", 0)
		return 0, err
	}
	if err := execution(m, handler); !errors.Is(err, jobs.ErrInvalid) {
		t.Fatalf("a bad name: %v", err)
	}
	handler = func(ctx context.Context) (_ int, err error) {
		got, err = jobs.AwaitApproval(ctx, "large-amount", 0)
		return 0, err
	}
	if err := execution(m, handler); !errors.Is(err, jobs.ErrParked) {
		t.Fatalf("error %v", err)
	}
	signal, err := jobs.Approve("large-amount", true, jobs.Decision{Actor: "ada", Reason: "known customer"})
	if err != nil || signal.Check() != nil {
		t.Fatal(err, signal.Check())
	}
	m.signals["large-amount"] = signal.Data
	if err := execution(m, handler); err != nil || got != (jobs.Approval{Approved: true, Actor: "ada", Reason: "known customer"}) {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestAwaitTimesOutForGood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, m := inMemory()
		handler := func(ctx context.Context) (int, error) { return jobs.Await[int](ctx, "go", time.Minute) }
		if err := execution(m, handler); !errors.Is(err, jobs.ErrParked) {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		for range 2 {
			if err := execution(m, handler); !errors.Is(err, jobs.ErrTimedOut) || jobs.Classify(err).Class != jobs.ClassTimeout {
				t.Fatal(err)
			}
			m.signals["go"] = []byte("1") // too late
		}
	})
}

// Whatever a handler makes of the error, its job parks and its further steps do
// not run.
func TestAHandlerThatSwallowsTheErrorParks(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]error{"returns nil": nil, "returns another error": errors.New("something else")} {
		_, m := inMemory()
		err := execution(m, func(ctx context.Context) (int, error) {
			_ = jobs.Sleep(ctx, "a", time.Hour)
			for what, err := range map[string]error{
				"step":     second(jobs.Step(ctx, "b", returns(1))),
				"sleep":    jobs.Sleep(ctx, "c", time.Hour),
				"parallel": jobs.Parallel(ctx, []jobs.Branch{jobs.Go[int]("d", nil, returns(1))}),
			} {
				if !errors.Is(err, jobs.ErrParked) {
					t.Errorf("%s after the wait: %v", what, err)
				}
			}
			return 1, end
		})
		if !errors.Is(err, jobs.ErrParked) || len(m.steps) != 0 || len(m.waits) != 1 {
			t.Errorf("%s: %v, recorded %v, waits %v", name, err, m.steps, m.waits)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestBranchesGoOnWhileOneWaits(t *testing.T) {
	t.Parallel()
	_, m := inMemory()
	branches := func(ctx context.Context, other error) error {
		return jobs.Parallel(ctx, []jobs.Branch{
			jobs.Line(func(ctx context.Context) error {
				if err := jobs.Sleep(ctx, "nap", time.Hour); err != nil {
					return err
				}
				return errors.New("never here")
			}),
			jobs.Line(func(ctx context.Context) error {
				if _, err := jobs.Step(ctx, "one", returns(1)); err != nil {
					return err
				}
				time.Sleep(10 * time.Millisecond)
				_, err := jobs.Step(ctx, "two", returns(2))
				return errors.Join(err, other)
			}),
		})
	}
	boom := errors.New("boom")
	if err := execution(m, func(ctx context.Context) (int, error) { return 0, branches(ctx, boom) }); !errors.Is(err, boom) || errors.Is(err, jobs.ErrParked) {
		t.Fatalf("a branch that failed: %v", err)
	}
	if err := execution(m, func(ctx context.Context) (int, error) { return 0, branches(ctx, nil) }); !errors.Is(err, jobs.ErrParked) {
		t.Fatalf("error %v", err)
	}
	if len(m.steps) != 2 {
		t.Errorf("recorded %v", m.steps)
	}
}

func TestAWaitThatWasAStep(t *testing.T) {
	t.Parallel()
	_, m := inMemory()
	m.steps["x"] = []byte(`{"a":1}`)
	err := execution(m, func(ctx context.Context) (int, error) { return 0, jobs.Sleep(ctx, "x", time.Hour) })
	if c := jobs.Classify(err); c.Class != jobs.ClassInvalid || !strings.Contains(err.Error(), "recorded as a step") {
		t.Errorf("%v", err)
	}
}

func TestASignalThatDoesNotDecode(t *testing.T) {
	t.Parallel()
	_, m := inMemory()
	m.signals["go"] = []byte(`"text"`)
	err := execution(m, func(ctx context.Context) (int, error) { return jobs.Await[int](ctx, "go", 0) })
	if c := jobs.Classify(err); c.Class != jobs.ClassInvalid || !strings.Contains(err.Error(), "does not decode") {
		t.Errorf("%v", err)
	}
}

func TestSignalsAreBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 70_000)
	for _, s := range []jobs.Signal{
		{}, {Name: "no name"}, {Name: "go", ID: long}, {Name: "go", Data: []byte(long)}, {Name: "go", Actor: long}, {Name: "go", Reason: long},
	} {
		if err := s.Check(); !errors.Is(err, jobs.ErrInvalid) {
			t.Errorf("%.40v: %v", s, err)
		}
	}
	if _, err := jobs.NewSignal("go", make(chan int)); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("a value that cannot be encoded: %v", err)
	}
	if _, err := jobs.Approve("go", true, jobs.Decision{Actor: "ada"}); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("no reason: %v", err)
	}
	if s, err := parallelKind.Signal("go", 7); err != nil || string(s.Data) != "7" {
		t.Errorf("%+v, %v", s, err)
	}
	if err := jobs.Sleep(context.Background(), "x", time.Hour); !errors.Is(err, jobs.ErrNoJob) {
		t.Errorf("outside of a job: %v", err)
	}
}

func ExampleAwaitApproval() {
	kind := jobs.Define[int, string]("order.large")
	handler := kind.Do(func(ctx context.Context, amount int) (string, error) {
		approval, err := jobs.AwaitApproval(ctx, "amount", 24*time.Hour)
		switch {
		case errors.Is(err, jobs.ErrTimedOut):
			return "nobody answered", nil
		case err != nil:
			return "", err // parked until somebody approves or denies
		case !approval.Approved:
			return "denied: " + approval.Reason, nil
		}
		return fmt.Sprintf("%d approved by %s", amount, approval.Actor), nil
	})
	job := newMemory(kind.Definition())
	ctx := jobs.WithAttempt(context.Background(), job)
	_, err := handler.Run(ctx, []byte("1200"))
	fmt.Println(errors.Is(err, jobs.ErrParked))

	// `perdure job approve order:1 amount --reason "known customer"`
	signal, _ := jobs.Approve("amount", true, jobs.Decision{Actor: "ada", Reason: "known customer"})
	job.signals[signal.Name] = signal.Data
	job.again()
	result, _ := handler.Run(ctx, []byte("1200"))
	fmt.Println(string(result))
	// Output:
	// true
	// "1200 approved by ada"
}
