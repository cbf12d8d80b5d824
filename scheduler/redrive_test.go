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

// TestSharesInTurn: over many grants of one job each, no lane waits for another, however
// long they are.
func TestSharesInTurn(t *testing.T) {
	t.Parallel()
	small, big, bigger := &delivery.Lane{Jobs: 2}, &delivery.Lane{Jobs: 10_000}, &delivery.Lane{Jobs: 20_000}
	got := map[*delivery.Lane]int{}
	for turn := range 300 {
		for _, s := range shares([]*delivery.Lane{small, big, bigger}, 1, turn) {
			got[s.lane] += s.jobs
		}
	}
	for _, lane := range []*delivery.Lane{small, big, bigger} {
		if got[lane] != 100 {
			t.Errorf("a lane of %d got %d of 300", lane.Jobs, got[lane])
		}
	}
}
