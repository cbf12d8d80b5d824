package scheduler

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/perdure/perdure/internal/delivery"
)

// TestShares: what is granted is divided whole, as far as there are jobs; no lane gets more
// than it has; and who has jobs left has got no less than any other, but for one.
func TestShares(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var lanes []*delivery.Lane
		var total int64
		for range rapid.IntRange(0, 8).Draw(t, "lanes") {
			lane := &delivery.Lane{Jobs: rapid.Int64Range(0, 50).Draw(t, "jobs")}
			lanes, total = append(lanes, lane), total+lane.Jobs
		}
		n := rapid.IntRange(0, 200).Draw(t, "granted")
		got := map[*delivery.Lane]int{}
		sum := 0
		for _, s := range shares(lanes, n, rapid.IntRange(0, 100).Draw(t, "turn")) {
			if s.jobs < 1 || int64(s.jobs) > s.lane.Jobs {
				t.Fatalf("%d of %d", s.jobs, s.lane.Jobs)
			}
			got[s.lane] += s.jobs
			sum += s.jobs
		}
		if sum != int(min(int64(n), total)) {
			t.Fatalf("%d of %d granted are sent, there are %d", sum, n, total)
		}
		for _, a := range lanes {
			for _, b := range lanes {
				if int64(got[a]) < a.Jobs && got[b] > got[a]+1 {
					t.Fatalf("one has %d of %d, another %d of %d", got[a], a.Jobs, got[b], b.Jobs)
				}
			}
		}
	})
}
