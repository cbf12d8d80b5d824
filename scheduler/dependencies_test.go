package scheduler_test

import (
	"context"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/scheduler"
)

func (f *fake) DependenciesWatched(context.Context) ([]delivery.DependencyInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return nil, errDown
	}
	return f.services, nil
}

func (f *fake) ForgetDependencies(context.Context) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forgot++
	return 0, nil
}

func TestDependencyMetrics(t *testing.T) {
	t.Parallel()
	f := newFake()
	standing := func(name string, state jobs.DependencyState) delivery.DependencyInfo {
		i := delivery.DependencyInfo{Standing: jobs.Standing{Name: name, State: state}, Kinds: []string{"kind"}}
		if strings.HasSuffix(name, ".example") {
			i.Kinds = nil
		}
		return i
	}
	payments := standing("payments", jobs.DependencyOpen)
	payments.Forced, payments.Waiting, payments.Held = true, 3, 4
	mail := standing("mail", jobs.DependencyRecovering)
	mail.Rate, mail.Workers, mail.Against, mail.Running, mail.Limit.Concurrency = 8, 3, 1, 2, 5
	one, two := standing("one.example", jobs.DependencyClosed), standing("two.example", jobs.DependencyOpen)
	one.Waiting, two.Waiting = 1, 1
	limit := standing("kind/mail", jobs.DependencyClosed)
	limit.Waiting, limit.Running = 9, 6
	f.services = []delivery.DependencyInfo{payments, mail, one, two, limit}
	registry := prometheus.NewRegistry()
	if _, err := scheduler.New(f, scheduler.Options{Registerer: registry}); err != nil {
		t.Fatal(err)
	}
	want := `
# HELP perdure_dependency_forced 1 while a dependency is open because somebody has opened it.
# TYPE perdure_dependency_forced gauge
perdure_dependency_forced{dependency="mail"} 0
perdure_dependency_forced{dependency="other"} 0
perdure_dependency_forced{dependency="payments"} 1
# HELP perdure_dependency_ramp_rate Jobs a second that may begin while a dependency recovers; 0 while it does not.
# TYPE perdure_dependency_ramp_rate gauge
perdure_dependency_ramp_rate{dependency="mail"} 8
perdure_dependency_ramp_rate{dependency="other"} 0
perdure_dependency_ramp_rate{dependency="payments"} 0
# HELP perdure_dependency_state Where a dependency stands: 0 closed, 1 recovering, 2 open.
# TYPE perdure_dependency_state gauge
perdure_dependency_state{dependency="mail"} 1
perdure_dependency_state{dependency="other"} 2
perdure_dependency_state{dependency="payments"} 2
# HELP perdure_dependency_votes Workers that call a dependency, by whether most of their calls fail: against or for.
# TYPE perdure_dependency_votes gauge
perdure_dependency_votes{dependency="mail",vote="against"} 1
perdure_dependency_votes{dependency="mail",vote="for"} 2
perdure_dependency_votes{dependency="other",vote="against"} 0
perdure_dependency_votes{dependency="other",vote="for"} 0
perdure_dependency_votes{dependency="payments",vote="against"} 0
perdure_dependency_votes{dependency="payments",vote="for"} 0
# HELP perdure_dependency_waiting Jobs that are parked on a dependency, and pending jobs of queues that are paused whole for it.
# TYPE perdure_dependency_waiting gauge
perdure_dependency_waiting{dependency="mail"} 0
perdure_dependency_waiting{dependency="other"} 2
perdure_dependency_waiting{dependency="payments"} 7
# HELP perdure_limit_running Places taken under a limit of concurrency, of a dependency, a kind or a tenant.
# TYPE perdure_limit_running gauge
perdure_limit_running{limit="kind/mail"} 6
perdure_limit_running{limit="mail"} 2
# HELP perdure_limit_waiting Jobs that wait at the limit of a kind or a tenant.
# TYPE perdure_limit_waiting gauge
perdure_limit_waiting{limit="kind/mail"} 9
`
	names := []string{"perdure_dependency_state", "perdure_dependency_forced", "perdure_dependency_waiting", "perdure_dependency_ramp_rate", "perdure_dependency_votes", "perdure_limit_running", "perdure_limit_waiting"}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	f.down = true
	if err := testutil.GatherAndCompare(registry, strings.NewReader(""), names...); err != nil {
		t.Error(err)
	}
}
