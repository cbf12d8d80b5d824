package dependency

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/internal/delivery"
)

// metrics name only what the worker's kinds name, and limits; hosts that jobs bring along are
// "other", because there may be any number of them.
type metrics struct {
	calls   *prometheus.CounterVec
	retries *prometheus.CounterVec
	held    *prometheus.CounterVec
	probes  *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, g *Guard) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "perdure_dependency_calls_total", Help: "Calls of a dependency that ended here, by how: answered or failed.",
		}, []string{"dependency", "ended"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "perdure_dependency_retries_total", Help: "Calls of a dependency begun here that were made before, and an attempt was used in vain.",
		}, []string{"dependency"}),
		held: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "perdure_held_total", Help: "Executions and steps that did not begin because of a dependency or a limit.",
		}, []string{"dependency", "type"}),
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "perdure_dependency_probes_total", Help: "Probes of a dependency made here, by what they found.",
		}, []string{"dependency", "found"}),
	}
	if r != nil {
		r.MustRegister(m.calls, m.retries, m.held, m.probes, view{g})
	}
	return m
}

func (m *metrics) called(name string, found Finding) {
	ended := "answered"
	if found == Failed {
		ended = "failed"
	}
	m.calls.WithLabelValues(name, ended).Inc()
}

// began counts the retries among the calls that begin.
func (g *Guard) began(q Question) {
	for _, name := range q.Names {
		if q.Retry && !delivery.IsLimit(name) {
			g.metrics.retries.WithLabelValues(g.label(name)).Inc()
		}
	}
}

// label bounds the values of a label.
func (g *Guard) label(name string) string {
	if _, ours := g.known[name]; ours || delivery.IsLimit(name) {
		return name
	}
	return "other"
}

// view shows where dependencies stand as this process sees them. What Redis knows is
// shown by the scheduler, as perdure_dependency_state.
type view struct{ g *Guard }

var viewDesc = prometheus.NewDesc("perdure_dependency_view", "Where a dependency stands as this worker sees it: 0 closed, 1 recovering, 2 open.", []string{"dependency"}, nil)

// Describe implements prometheus.Collector.
func (v view) Describe(to chan<- *prometheus.Desc) { to <- viewDesc }

// Collect implements prometheus.Collector.
func (v view) Collect(to chan<- prometheus.Metric) {
	for name := range v.g.known {
		to <- prometheus.MustNewConstMetric(viewDesc, prometheus.GaugeValue, delivery.StateNumber(v.g.Standing(name).State), name)
	}
}
