package dependency

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// metrics name only what the worker's kinds name, and limits; hosts that jobs bring along are
// "other", because there may be any number of them.
type metrics struct {
	calls  *prometheus.CounterVec
	held   *prometheus.CounterVec
	probes *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, g *Guard) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "perdure_dependency_calls_total", Help: "Calls of a dependency that ended here, by how: answered or failed.",
		}, []string{"dependency", "ended"}),
		held: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "perdure_held_total", Help: "Executions and steps that did not begin because of a dependency or a limit.",
		}, []string{"dependency", "type"}),
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "perdure_dependency_probes_total", Help: "Probes of a dependency made here, by what they found.",
		}, []string{"dependency", "found"}),
	}
	if r != nil {
		r.MustRegister(m.calls, m.held, m.probes, view{g})
	}
	return m
}

func (m *metrics) called(name string, failed bool) {
	ended := "answered"
	if failed {
		ended = "failed"
	}
	m.calls.WithLabelValues(name, ended).Inc()
}

// label bounds the values of a label.
func (g *Guard) label(name string) string {
	if _, ours := g.known[name]; ours || delivery.IsLimit(name) {
		return name
	}
	return "other"
}

// view shows where dependencies stand as this process sees them.
type view struct{ g *Guard }

var stateDesc = prometheus.NewDesc("perdure_dependency_state", "Where a dependency stands as this process sees it: 0 closed, 1 recovering, 2 open.", []string{"dependency"}, nil)

// Describe implements prometheus.Collector.
func (v view) Describe(to chan<- *prometheus.Desc) { to <- stateDesc }

// Collect implements prometheus.Collector.
func (v view) Collect(to chan<- prometheus.Metric) {
	for name := range v.g.known {
		to <- prometheus.MustNewConstMetric(stateDesc, prometheus.GaugeValue, stateNumber(v.g.Standing(name).State), name)
	}
}

func stateNumber(s jobs.DependencyState) float64 {
	switch s {
	case jobs.DependencyOpen:
		return 2
	case jobs.DependencyRecovering:
		return 1
	}
	return 0
}
