package worker

import "github.com/prometheus/client_golang/prometheus"

// metrics are the worker's; they carry kinds and classes, never keys or payloads.
type metrics struct {
	jobs     *prometheus.CounterVec
	start    *prometheus.HistogramVec
	duration *prometheus.HistogramVec
	steps    *prometheus.CounterVec
	running  prometheus.Gauge
	stuck    prometheus.Gauge
	stale    prometheus.Counter
	isolated prometheus.Counter
	poison   prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "perdure_jobs_total", Help: "Executions ended, by kind, outcome and class of failure.",
		}, []string{"kind", "outcome", "class"}),
		start: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "perdure_job_start_seconds", Help: "Time from ready to claimed, by kind.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
		}, []string{"kind"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "perdure_job_duration_seconds", Help: "Time from claim to verdict, by kind and outcome.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
		}, []string{"kind", "outcome"}),
		steps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "perdure_steps_total", Help: "Steps recorded, by kind.",
		}, []string{"kind"}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{Name: "perdure_running", Help: "Attempts under way in this worker."}),
		stuck: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "perdure_stuck_handlers", Help: "Handlers that go on although their context has ended.",
		}),
		stale: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "perdure_stale_writes_total", Help: "Writes refused because another attempt owns the job.",
		}),
		isolated: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "perdure_isolated_total", Help: "Executions of jobs suspected of killing workers, by themselves.",
		}),
		poison: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "perdure_poison_total", Help: "Jobs quarantined because they end the process they run in.",
		}),
	}
	if r != nil {
		r.MustRegister(m.jobs, m.start, m.duration, m.steps, m.running, m.stuck, m.stale, m.isolated, m.poison)
	}
	return m
}
