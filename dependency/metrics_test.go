package dependency

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/perdure/perdure/jobs"
)

// quiet is a store that is not asked for anything else.
type quiet struct{ Store }

func (quiet) Now() time.Time { return time.Now() }

func newQuiet(t *testing.T) (*Guard, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	g, err := New(quiet{}, Options{Owner: func() string { return "o" }, Needs: []string{"payments"}, Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	return g, registry
}

// calls makes a call and ends it so.
func (g *Guard) calls(t *testing.T, name string, retry bool, found Finding) {
	t.Helper()
	call, err := g.Begin(context.Background(), Question{Names: []string{name}, Retry: retry})
	if err != nil {
		t.Fatal(err)
	}
	call.End(func(string) Finding { return found }, "refused")
}

func TestCallsAreCounted(t *testing.T) {
	t.Parallel()
	g, registry := newQuiet(t)
	g.calls(t, "payments", false, Answered)
	g.calls(t, "payments", true, Failed)
	g.calls(t, "payments", true, Nothing)
	g.calls(t, "a.example", false, Answered)
	g.calls(t, "b.example", true, Answered)
	// A call that was begun before the breaker opened is no vote, and it was made.
	call, err := g.Begin(t.Context(), Question{Names: []string{"payments"}})
	if err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	g.learn(jobs.Standing{Name: "payments", State: jobs.DependencyOpen, Turn: 1})
	g.mu.Unlock()
	call.End(func(string) Finding { return Failed }, "refused")
	if _, err := g.Begin(t.Context(), Question{Names: []string{"payments"}}); err == nil {
		t.Error("begun although the breaker is open")
	}
	if votes := g.due(); len(votes) != 2 {
		t.Errorf("votes %+v", votes)
	}
	want := `
# HELP perdure_dependency_calls_total Calls of a dependency that ended here, by how: answered or failed.
# TYPE perdure_dependency_calls_total counter
perdure_dependency_calls_total{dependency="other",ended="answered"} 2
perdure_dependency_calls_total{dependency="payments",ended="answered"} 1
perdure_dependency_calls_total{dependency="payments",ended="failed"} 2
# HELP perdure_dependency_retries_total Calls of a dependency begun here that were made before, and an attempt was used in vain.
# TYPE perdure_dependency_retries_total counter
perdure_dependency_retries_total{dependency="other"} 1
perdure_dependency_retries_total{dependency="payments"} 2
# HELP perdure_dependency_view Where a dependency stands as this worker sees it: 0 closed, 1 recovering, 2 open.
# TYPE perdure_dependency_view gauge
perdure_dependency_view{dependency="payments"} 2
# HELP perdure_held_total Executions and steps that did not begin because of a dependency or a limit.
# TYPE perdure_held_total counter
perdure_held_total{dependency="payments",type="dependency"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

// TestVotesOnManyHosts calls more hosts than are voted on at once: the one that fails comes
// first, and each has its turn.
func TestVotesOnManyHosts(t *testing.T) {
	t.Parallel()
	g, _ := newQuiet(t)
	const hosts = 3*votesAtOnce + 50
	for i := range hosts {
		g.calls(t, fmt.Sprintf("host-%d.example", i), false, Answered)
	}
	g.calls(t, "bad.example", false, Failed)
	voted := map[string]bool{}
	for round := range 4 {
		votes := g.due()
		for _, v := range votes {
			if voted[v.Name] {
				t.Errorf("round %d: a second vote on %s before the others have one", round, v.Name)
			}
			voted[v.Name] = true
		}
		if round == 0 && (len(votes) != votesAtOnce+1 || !voted["bad.example"] || !voted["payments"]) {
			t.Errorf("%d votes at first", len(votes))
		}
	}
	if len(voted) != hosts+2 {
		t.Errorf("voted on %d", len(voted))
	}
}
