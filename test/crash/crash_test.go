package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure"
)

// TestMain lets the test binary be the worker that trials start.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		perdure.Main(handler(os.Stdout))
	}
	os.Exit(m.Run())
}

// The goals are those of a machine that does nothing else; here only what must
// always hold is checked.
func TestAFewTrialsViolateNothing(t *testing.T) {
	t.Parallel()
	o, err := parse([]string{"--trials", "3", "--jobs", "12", "--slots", "12", "--seed", "1", "--p50", "30s", "--p99", "30s"})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(t.Context(), o, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if !strings.Contains(out.String(), "3 workers killed") {
		t.Errorf("no kill was counted:\n%s", out.String())
	}
}

func TestTheWitnessSeesARepeatedStep(t *testing.T) {
	t.Parallel()
	w := newWitness()
	for _, e := range []event{
		{What: begun, Job: "j", Run: 1}, {What: entered, Job: "j", Run: 1, Step: "a"}, {What: recorded, Job: "j", Run: 1, Step: "a"},
		{What: entered, Job: "j", Run: 1, Step: "b"}, {What: begun, Job: "j", Run: 2}, {What: entered, Job: "j", Run: 2, Step: "b"},
	} {
		w.tell(e)
	}
	if len(w.violations) != 0 {
		t.Fatalf("a step that was cut off may be repeated: %q", w.violations)
	}
	w.tell(event{What: entered, Job: "j", Run: 2, Step: "a"})
	if len(w.violations) != 1 {
		t.Fatalf("a finished step was repeated: %q", w.violations)
	}
}

func TestMissedGoalsFail(t *testing.T) {
	t.Parallel()
	tr := &trials{options: options{p50: time.Second, p99: 2 * time.Second}, witness: newWitness(), elsewhere: []time.Duration{time.Second, 3 * time.Second}}
	if err := tr.report(&strings.Builder{}); err == nil || !strings.Contains(err.Error(), "p99 is 3s") || strings.Contains(err.Error(), "p50") {
		t.Errorf("got %v", err)
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	times := []time.Duration{1, 2, 3, 4}
	for percent, want := range map[int]time.Duration{25: 1, 50: 2, 51: 3, 99: 4, 100: 4} {
		if got := quantile(times, percent); got != want {
			t.Errorf("%d%%: %d, want %d", percent, got, want)
		}
	}
	if quantile(nil, 50) != 0 {
		t.Error("a quantile of nothing")
	}
}
