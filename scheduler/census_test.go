package scheduler_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/scheduler"
)

// stock is the fake's part that takes stock. A purpose is taken for a period.
type stock struct {
	taken    map[string]time.Time
	censuses []time.Duration // when they were taken
	slow     time.Duration   // how long one takes
}

func (f *fake) TakeCensus(_ context.Context, purpose string, period time.Duration) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return false, errDown
	}
	if time.Now().Before(f.taken[purpose]) {
		return false, nil
	}
	f.taken[purpose] = time.Now().Add(period)
	return true, nil
}

func (f *fake) Census(ctx context.Context, pace func(context.Context) error) (delivery.Census, error) {
	f.mu.Lock()
	f.censuses = append(f.censuses, f.at())
	slow := f.slow
	f.mu.Unlock()
	time.Sleep(slow)
	c, _ := f.LastCensus(ctx)
	c.Took = slow
	return c, pace(ctx)
}

func (f *fake) LastCensus(context.Context) (delivery.Census, error) {
	return delivery.Census{At: time.Now().Add(-time.Minute), Took: 2 * time.Second, Jobs: 7, Drift: map[string]map[string]int{"a": {"gone": 3}}}, nil
}

func (f *fake) Tallies(context.Context) ([]delivery.Tally, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return nil, errDown
	}
	return []delivery.Tally{
		{Queue: "a", States: map[jobs.State]int64{jobs.StatePending: 5}, Accepted: 9},
		{Queue: "b", States: map[jobs.State]int64{jobs.StateRunning: 1}, Accepted: 1},
	}, nil
}

func TestOneOfTheFleetTakesTheCensusInItsTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		ctx, stop := context.WithCancel(t.Context())
		var all []*scheduler.Scheduler
		for range 3 {
			s, err := scheduler.New(f, scheduler.Options{})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, s)
			go s.Run(ctx)
		}
		time.Sleep(10 * time.Minute)
		f.mu.Lock()
		taken := len(f.censuses)
		f.mu.Unlock()
		if taken < 9 || taken > 12 {
			t.Errorf("%d censuses in ten minutes: %v", taken, f.censuses)
		}
		for _, s := range all { // Redis has changed, they all see it
			s.CensusNow()
			s.CensusNow()
		}
		time.Sleep(time.Second)
		f.mu.Lock()
		if n := len(f.censuses) - taken; n != 1 {
			t.Errorf("%d censuses that were asked for", n)
		}
		if f.forgot != len(f.censuses) {
			t.Errorf("names of dependencies were to be forgotten %d times, with %d censuses", f.forgot, len(f.censuses))
		}
		f.mu.Unlock()
		stop()
		synctest.Wait()
	})
}

func TestALongCensusComesSeldom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.slow = time.Minute
		s, err := scheduler.New(f, scheduler.Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		go s.Run(ctx)
		time.Sleep(time.Hour)
		stop()
		f.mu.Lock()
		defer f.mu.Unlock()
		if n := len(f.censuses); n < 4 || n > 7 {
			t.Errorf("%d censuses of a minute each in an hour", n)
		}
	})
}

func TestTheNumbersAreShown(t *testing.T) {
	t.Parallel()
	f := newFake()
	registry := prometheus.NewRegistry()
	if _, err := scheduler.New(f, scheduler.Options{Registerer: registry}); err != nil {
		t.Fatal(err)
	}
	want := `
# HELP perdure_census_drift Jobs that the last census found wrong and put right, by queue and what was wrong. 0 is healthy.
# TYPE perdure_census_drift gauge
perdure_census_drift{queue="a",what="gone"} 3
perdure_census_drift{queue="b",what="any"} 0
# HELP perdure_census_jobs Jobs that the last census looked at.
# TYPE perdure_census_jobs gauge
perdure_census_jobs 7
# HELP perdure_queue_accepted_total Jobs ever accepted and not refused: those that are there, and those that were forgotten, discarded or deleted.
# TYPE perdure_queue_accepted_total counter
perdure_queue_accepted_total{queue="a"} 9
perdure_queue_accepted_total{queue="b"} 1
# HELP perdure_queue_jobs Jobs, by queue and state.
# TYPE perdure_queue_jobs gauge
perdure_queue_jobs{queue="a",state="pending"} 5
perdure_queue_jobs{queue="b",state="running"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "perdure_census_drift", "perdure_census_jobs", "perdure_queue_accepted_total", "perdure_queue_jobs"); err != nil {
		t.Error(err)
	}
	f.down = true
	if err := testutil.GatherAndCompare(registry, strings.NewReader(""), "perdure_queue_jobs", "perdure_census_drift"); err != nil {
		t.Errorf("without redis: %v", err)
	}
}

func TestCensusOptionsAreBounded(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{-1, time.Millisecond, 48 * time.Hour} {
		if _, err := scheduler.New(newFake(), scheduler.Options{Census: d}); err == nil {
			t.Errorf("%v is let pass", d)
		}
	}
}
