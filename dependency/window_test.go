package dependency

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/perdure/perdure/internal/delivery"
)

// TestWindow: what a window counts is what was added within it, whatever the gaps.
func TestWindow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		type call struct {
			at     time.Duration
			failed bool
		}
		var w window
		var calls []call
		now := time.Duration(0)
		for range rapid.IntRange(0, 200).Draw(t, "calls") {
			now += time.Duration(rapid.IntRange(0, 3000).Draw(t, "gap")) * time.Millisecond
			c := call{now, rapid.Bool().Draw(t, "failed")}
			calls = append(calls, c)
			w.add(now, c.failed)
		}
		now += time.Duration(rapid.IntRange(0, 40_000).Draw(t, "after")) * time.Millisecond
		for _, while := range []struct {
			n    int
			last time.Duration
		}{{short, delivery.ShortWhile}, {buckets, delivery.LongWhile}} {
			wantCalls, wantFailed := 0, 0
			for _, c := range calls {
				if int64(c.at/bucket) > int64(now/bucket)-int64(while.last/bucket) {
					wantCalls++
					if c.failed {
						wantFailed++
					}
				}
			}
			if gotCalls, gotFailed := w.count(now, while.n); gotCalls != wantCalls || gotFailed != wantFailed {
				t.Fatalf("within %v of %v: %d of %d failed, want %d of %d", while.last, now, gotFailed, gotCalls, wantFailed, wantCalls)
			}
		}
	})
}

// TestBudget: retries are at most a fifth of the calls, what was there at first, and two a
// second.
func TestBudget(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := budget{tokens: budgetFull}
		calls, retries, now := 0, 0, time.Duration(0)
		for range rapid.IntRange(0, 500).Draw(t, "asked") {
			now += time.Duration(rapid.IntRange(0, 200).Draw(t, "gap")) * time.Millisecond
			if rapid.Bool().Draw(t, "retry") {
				if b.has(now) {
					b.tokens--
					retries++
				}
			} else {
				b.fill(now, budgetShare)
				calls++
			}
			if most := budgetFull + budgetShare*float64(calls) + budgetLeast*now.Seconds(); float64(retries) > most+1e-6 {
				t.Fatalf("%d retries of %d calls in %v, at most %.1f", retries, calls, now, most)
			}
		}
	})
}
