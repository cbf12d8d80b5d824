package scheduler

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/internal/delivery"
)

// Stock is what the scheduler needs of the store to take stock.
type Stock interface {
	// TakeCensus reports whether this process is the one of the fleet to take a census
	// for that purpose in this period.
	TakeCensus(ctx context.Context, purpose string, period time.Duration) (bool, error)
	Census(ctx context.Context, pace func(context.Context) error) (delivery.Census, error)
	LastCensus(ctx context.Context) (delivery.Census, error)
	Tallies(ctx context.Context) ([]delivery.Tally, error)
}

const (
	censusPause = 2 * time.Millisecond // between two slices of a census
	censusShare = 10                   // a census takes at most this part of the time, one in so many
	censusSoon  = 10 * time.Second     // between two censuses that were asked for
)

// CensusNow asks for a census outside of its turn, for when Redis may have lost
// something. It does not wait for it.
func (s *Scheduler) CensusNow() {
	select {
	case s.now <- struct{}{}:
	default:
	}
}

// census takes one in each period, unless another process of the fleet does, and
// whenever it is asked for.
func (s *Scheduler) census(ctx context.Context) {
	timer := time.NewTimer(s.every/12 + time.Duration(rand.Int64N(int64(s.every/6))))
	defer timer.Stop()
	for {
		purpose, period := "turn", s.every
		select {
		case <-ctx.Done():
			return
		case <-s.now:
			purpose, period = "asked", censusSoon
		case <-timer.C:
		}
		took := s.takeCensus(ctx, purpose, period)
		timer.Reset(max(s.every, censusShare*took))
	}
}

func (s *Scheduler) takeCensus(ctx context.Context, purpose string, period time.Duration) (took time.Duration) {
	mine, err := s.store.TakeCensus(ctx, purpose, period-period/10)
	if err == nil && mine {
		var found delivery.Census
		found, err = s.store.Census(ctx, func(ctx context.Context) error {
			pause(ctx, censusPause)
			return ctx.Err()
		})
		took = found.Took
		for queue, drift := range found.Drift {
			for what, n := range drift {
				s.mended.Add(float64(n))
				s.log.Warn("the census has put jobs right", "queue", queue, "what", what, "jobs", n)
			}
		}
	}
	if err == nil && mine {
		_, err = s.store.ForgetDependencies(ctx)
	}
	s.complain(ctx, "cannot take the census", err)
	return took
}

// tally shows, to whoever asks for metrics, how many jobs there are and what the
// last census of the fleet has found. It asks Redis then, so every process shows
// the same.
type tally struct{ store Stock }

var (
	jobsDesc     = prometheus.NewDesc("perdure_queue_jobs", "Jobs, by queue and state.", []string{"queue", "state"}, nil)
	acceptedDesc = prometheus.NewDesc("perdure_queue_accepted_total", "Jobs ever accepted and not refused: those that are there, and those that were forgotten, discarded or deleted.", []string{"queue"}, nil)
	driftDesc    = prometheus.NewDesc("perdure_census_drift", "Jobs that the last census found wrong and put right, by queue and what was wrong. 0 is healthy.", []string{"queue", "what"}, nil)
	ageDesc      = prometheus.NewDesc("perdure_census_age_seconds", "Time since the last census of the fleet began.", nil, nil)
	tookDesc     = prometheus.NewDesc("perdure_census_seconds", "How long the last census took.", nil, nil)
	lookedAtDesc = prometheus.NewDesc("perdure_census_jobs", "Jobs that the last census looked at.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (t tally) Describe(all chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{jobsDesc, acceptedDesc, driftDesc, ageDesc, tookDesc, lookedAtDesc} {
		all <- desc
	}
}

// Collect implements [prometheus.Collector]. While Redis cannot be reached it shows
// nothing.
func (t tally) Collect(all chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	tallies, err := t.store.Tallies(ctx)
	if err != nil {
		return
	}
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		all <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	last, err := t.store.LastCensus(ctx)
	for _, q := range tallies {
		for state, n := range q.States {
			gauge(jobsDesc, float64(n), q.Queue, string(state))
		}
		all <- prometheus.MustNewConstMetric(acceptedDesc, prometheus.CounterValue, float64(q.Accepted), q.Queue)
		if len(last.Drift[q.Queue]) == 0 {
			gauge(driftDesc, 0, q.Queue, "any")
		}
		for what, n := range last.Drift[q.Queue] {
			gauge(driftDesc, float64(n), q.Queue, what)
		}
	}
	if err == nil && !last.At.IsZero() {
		gauge(ageDesc, last.Age.Seconds())
		gauge(tookDesc, last.Took.Seconds())
		gauge(lookedAtDesc, float64(last.Jobs))
	}
}
