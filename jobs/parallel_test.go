package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/jobs"
)

var parallelKind = jobs.Define[int, int]("parallel.test")

func inMemory() (context.Context, *memory) {
	m := newMemory(parallelKind.Definition())
	return jobs.WithAttempt(context.Background(), m), m
}

func returns(n int) func(context.Context) (int, error) {
	return func(context.Context) (int, error) { return n, nil }
}

func fails(err error) func(context.Context) (int, error) {
	return func(context.Context) (int, error) { return 0, err }
}

// waits returns once its context has ended, and says why.
func waits(ctx context.Context) (int, error) {
	<-ctx.Done()
	return 0, context.Cause(ctx)
}

func TestOnlyTheFailedBranchRunsAgain(t *testing.T) {
	t.Parallel()
	ctx, m := inMemory()
	var runs [3]atomic.Int64
	attempt := func(second func(context.Context) (int, error)) (a, c int, err error) {
		counted := func(i int, fn func(context.Context) (int, error)) func(context.Context) (int, error) {
			return func(ctx context.Context) (int, error) { runs[i].Add(1); return fn(ctx) }
		}
		err = jobs.Parallel(ctx, []jobs.Branch{
			jobs.Go("a", &a, counted(0, returns(1))),
			jobs.Go[int]("b", nil, counted(1, second)),
			jobs.Go("c", &c, counted(2, returns(3))),
		}, jobs.CollectAll())
		return a, c, err
	}
	boom := errors.New("boom")
	if _, _, err := attempt(fails(boom)); !errors.Is(err, boom) || jobs.Classify(err).Step != "b" {
		t.Fatalf("error %v", err)
	}
	m.again()
	a, c, err := attempt(returns(2))
	if err != nil || a != 1 || c != 3 || runs[0].Load() != 1 || runs[1].Load() != 2 || runs[2].Load() != 1 {
		t.Fatalf("%d %d %v, ran %d %d %d times", a, c, err, runs[0].Load(), runs[1].Load(), runs[2].Load())
	}
}

func TestTheFirstFailureEndsTheOthers(t *testing.T) {
	t.Parallel()
	ctx, m := inMemory()
	boom := errors.New("boom")
	err := jobs.Parallel(ctx, []jobs.Branch{jobs.Go[int]("waits", nil, waits), jobs.Go[int]("fails", nil, fails(boom))})
	if !errors.Is(err, boom) || jobs.Classify(err).Step != "fails" {
		t.Fatalf("error %v", err)
	}
	if len(m.steps) != 0 {
		t.Fatalf("recorded %v", m.steps)
	}
}

func TestCollectAllCollects(t *testing.T) {
	t.Parallel()
	ctx, m := inMemory()
	one, two := errors.New("one"), errors.New("two")
	err := jobs.Parallel(ctx, []jobs.Branch{jobs.Go[int]("x", nil, fails(one)), jobs.Go[int]("y", nil, returns(1)), jobs.Go[int]("z", nil, fails(two))}, jobs.CollectAll())
	if !errors.Is(err, one) || !errors.Is(err, two) || len(m.steps) != 1 {
		t.Fatalf("error %v, recorded %v", err, m.steps)
	}
}

func TestALostJobEndsEveryBranch(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{jobs.ErrLost, jobs.ErrCancelled} {
		ctx, _ := inMemory()
		err := jobs.Parallel(ctx, []jobs.Branch{jobs.Go[int]("waits", nil, waits), jobs.Go[int]("lost", nil, fails(cause))}, jobs.CollectAll())
		if !errors.Is(err, cause) {
			t.Errorf("error %v", err)
		}
	}
}

func TestAPanicIsItsBranchsFailure(t *testing.T) {
	t.Parallel()
	ctx, m := inMemory()
	err := jobs.Parallel(ctx, []jobs.Branch{
		jobs.Go[int]("good", nil, returns(1)), jobs.Go[int]("bad", nil, func(context.Context) (int, error) { panic("oh") }),
	}, jobs.CollectAll())
	var panicked *jobs.PanicError
	if c := jobs.Classify(err); !errors.As(err, &panicked) || c.Class != jobs.ClassPanic || c.Step != "bad" || len(m.steps) != 1 {
		t.Fatalf("%v: %+v, recorded %v", err, c, m.steps)
	}
}

func TestAtMost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, _ := inMemory()
		var running, most atomic.Int64
		var branches []jobs.Branch
		for i := range 10 {
			branches = append(branches, jobs.Go[int](fmt.Sprint("b", i), nil, func(context.Context) (int, error) {
				most.Store(max(most.Load(), running.Add(1)))
				time.Sleep(time.Second)
				running.Add(-1)
				return i, nil
			}))
		}
		began := time.Now()
		if err := jobs.Parallel(ctx, branches, jobs.AtMost(3)); err != nil || most.Load() != 3 || time.Since(began) != 4*time.Second {
			t.Errorf("%v; %d at a time, took %v", err, most.Load(), time.Since(began))
		}
	})
}

func TestParallelOfNothing(t *testing.T) {
	t.Parallel()
	ctx, _ := inMemory()
	if err := jobs.Parallel(ctx, nil); err != nil {
		t.Error(err)
	}
	if err := jobs.Parallel(ctx, []jobs.Branch{{}}); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("the zero branch: %v", err)
	}
	if err := jobs.Parallel(ctx, []jobs.Branch{jobs.Go[int]("a", nil, returns(1)), jobs.Go[int]("a", nil, returns(2))}, jobs.AtMost(1)); !errors.Is(err, jobs.ErrDuplicateStep) {
		t.Errorf("one name twice: %v", err)
	}
	if err := jobs.Parallel(context.Background(), []jobs.Branch{jobs.Go[int]("a", nil, returns(1))}); !errors.Is(err, jobs.ErrNoJob) {
		t.Errorf("outside of a job: %v", err)
	}
}

func TestMapKeepsTheOrderOfItems(t *testing.T) {
	t.Parallel()
	ctx, m := inMemory()
	var mu sync.Mutex
	var ran []int
	square := func(bad int) func(context.Context, int) (int, error) {
		return func(_ context.Context, n int) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			ran = append(ran, n)
			if n == bad {
				return 0, errors.New("bad")
			}
			return n * n, nil
		}
	}
	got, err := jobs.Map(ctx, "square", []int{1, 2, 3}, strconv.Itoa, square(2), jobs.CollectAll())
	if err == nil || !slices.Equal(got, []int{1, 0, 9}) || jobs.Classify(err).Step != "square/2" {
		t.Fatalf("%v, %v", got, err)
	}
	m.again()
	ran = nil
	got, err = jobs.Map(ctx, "square", []int{3, 2, 1}, strconv.Itoa, square(0)) // in another order
	if err != nil || !slices.Equal(got, []int{9, 4, 1}) || !slices.Equal(ran, []int{2}) {
		t.Fatalf("%v, %v; ran %v", got, err, ran)
	}
}
