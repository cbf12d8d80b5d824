package cron

import "github.com/prometheus/client_golang/prometheus"

// metrics of this process: each tick is counted by the one that carried it out.
type metrics struct {
	fired   *prometheus.CounterVec
	skipped *prometheus.CounterVec
	late    prometheus.Histogram
}

func newMetrics(registerer prometheus.Registerer) metrics {
	m := metrics{
		fired:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "perdure_cron_fired_total", Help: "Ticks that fired, by schedule."}, []string{"schedule"}),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "perdure_cron_skipped_total", Help: "Ticks that were skipped, by schedule and reason."}, []string{"schedule", "reason"}),
		late: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "perdure_cron_late_seconds", Help: "How late ticks fired after they were due.",
			Buckets: []float64{0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 60, 600, 3600},
		}),
	}
	if registerer != nil {
		registerer.MustRegister(m.fired, m.skipped, m.late)
	}
	return m
}
