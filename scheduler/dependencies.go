package scheduler

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/internal/delivery"
)

// Dependencies is what the scheduler needs of the store to show how dependencies stand.
type Dependencies interface {
	DependenciesWatched(ctx context.Context) ([]delivery.DependencyInfo, error)
	// ForgetDependencies forgets the names of those that nobody has called for long.
	ForgetDependencies(ctx context.Context) (int, error)
}

// standings shows how dependencies and limits stand by what Redis knows, to whoever asks
// for metrics. It asks Redis then, so every process shows the same. Those that no kind
// needs and nobody has described or set, as hosts of http.request are, are "other"
// together, because there may be any number of them: the worst state, and sums.
type standings struct{ store Dependencies }

const other = "other"

var (
	stateDesc   = prometheus.NewDesc("perdure_dependency_state", "Where a dependency stands: 0 closed, 1 recovering, 2 open.", []string{"dependency"}, nil)
	forcedDesc  = prometheus.NewDesc("perdure_dependency_forced", "1 while a dependency is open because somebody has opened it.", []string{"dependency"}, nil)
	waitingDesc = prometheus.NewDesc("perdure_dependency_waiting", "Jobs that are parked on a dependency, and pending jobs of queues that are paused whole for it.", []string{"dependency"}, nil)
	rampDesc    = prometheus.NewDesc("perdure_dependency_ramp_rate", "Jobs a second that may begin while a dependency recovers; 0 while it does not.", []string{"dependency"}, nil)
	votesDesc   = prometheus.NewDesc("perdure_dependency_votes", "Workers that call a dependency, by whether most of their calls fail: against or for.", []string{"dependency", "vote"}, nil)
	limitDesc   = prometheus.NewDesc("perdure_limit_running", "Places taken under a limit of concurrency, of a dependency, a kind or a tenant.", []string{"limit"}, nil)
	atLimitDesc = prometheus.NewDesc("perdure_limit_waiting", "Jobs that wait at the limit of a kind or a tenant.", []string{"limit"}, nil)
)

// Describe implements [prometheus.Collector].
func (s standings) Describe(all chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{stateDesc, forcedDesc, waitingDesc, rampDesc, votesDesc, limitDesc, atLimitDesc} {
		all <- desc
	}
}

// standing is what is shown of one dependency, or of the others together.
type standing struct {
	state, forced, waiting, ramp, against, votes, running float64
	limited                                               bool
}

// Collect implements [prometheus.Collector]. While Redis cannot be reached it shows
// nothing.
func (s standings) Collect(all chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	infos, err := s.store.DependenciesWatched(ctx)
	if err != nil {
		return
	}
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		all <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	for name, one := range summed(infos) {
		if delivery.IsLimit(name) {
			gauge(limitDesc, one.running, name)
			gauge(atLimitDesc, one.waiting, name)
			continue
		}
		gauge(stateDesc, one.state, name)
		gauge(forcedDesc, one.forced, name)
		gauge(waitingDesc, one.waiting, name)
		gauge(rampDesc, one.ramp, name)
		gauge(votesDesc, one.against, name, "against")
		gauge(votesDesc, one.votes-one.against, name, "for")
		if one.limited {
			gauge(limitDesc, one.running, name)
		}
	}
}

// summed returns what is shown, by label.
func summed(infos []delivery.DependencyInfo) map[string]standing {
	shown := map[string]standing{}
	for _, i := range infos {
		label := i.Name
		if !i.Named() {
			label = other
		}
		one := shown[label]
		one.state = max(one.state, delivery.StateNumber(i.State))
		if i.Forced {
			one.forced = 1
		}
		one.waiting += float64(i.AllWaiting())
		one.ramp += i.Rate
		one.against, one.votes = one.against+float64(i.Against), one.votes+float64(i.Workers)
		one.running += float64(i.Running)
		one.limited = one.limited || i.Limit.Concurrency > 0
		shown[label] = one
	}
	return shown
}
