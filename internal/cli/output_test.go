package cli

import (
	"strings"
	"testing"

	"github.com/perdure/perdure/jobs"
)

// TestStoryLeavesTheTerminalAlone: names come from whoever enqueues.
func TestStoryLeavesTheTerminalAlone(t *testing.T) {
	t.Parallel()
	out := &strings.Builder{}
	app := &App{Out: out}
	const bad = "a\x1b[2J\u009b31m\nq/other  COMPLETED"
	app.story(jobs.Info{
		Queue: "q", Key: "k", Kind: bad, Incarnation: bad, Tenant: bad, State: jobs.StateQuarantined,
		Steps: []jobs.StepInfo{{Name: "s\x1b[2J"}}, Failures: []jobs.Failure{{Rule: "r\x1b[2J"}},
	})
	if got := out.String(); strings.ContainsAny(got, "\x1b\u009b") || strings.Count(got, "\n") != 5 {
		t.Errorf("%q", got)
	}
}
