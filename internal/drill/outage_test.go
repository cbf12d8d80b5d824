package drill

import (
	"math"
	"slices"
	"testing"
	"time"
)

func TestTheRampIsAStaircase(t *testing.T) {
	t.Parallel()
	for after, want := range map[time.Duration]float64{
		0: 0, 500 * time.Millisecond: 0.5, time.Second: 1, 1500 * time.Millisecond: 2, 2 * time.Second: 3, 3 * time.Second: 7, 4 * time.Second: 15,
		5 * time.Second: 25, 6500 * time.Millisecond: 40,
	} {
		if got := ramped(after, 10); math.Abs(got-want) > 1e-9 {
			t.Errorf("after %v: %v, want %v", after, got, want)
		}
	}
}

// ramping is a probe and then calls as a ramp up to a rate allows them.
func ramping(resume float64, length time.Duration) []time.Time {
	began := time.Unix(1_700_000_000, 0)
	calls := []time.Time{began}
	for at, next := time.Duration(0), 1.0; at < length; at += time.Millisecond {
		if ramped(at, resume) >= next-1 {
			calls, next = append(calls, began.Add(at)), next+1
		}
	}
	return calls
}

func TestAStampedeIsSeen(t *testing.T) {
	t.Parallel()
	calls := ramping(10, 8*time.Second)
	seconds, worst := windows(slices.Clone(calls), 10, time.Second)
	if worst > 1 || seconds[5] != 10 {
		t.Errorf("a ramp as it should be: %v, %.2f", seconds, worst)
	}
	for i := range 8 { // eight more within a tenth of a second
		calls = append(calls, calls[0].Add(6*time.Second+time.Duration(i)*10*time.Millisecond))
	}
	if seconds, worst := windows(calls, 10, time.Second); worst < 1.2 {
		t.Errorf("a stampede: %v, %.2f", seconds, worst)
	}
}

func TestWhatCameAfterAMoment(t *testing.T) {
	t.Parallel()
	began := time.Unix(1_700_000_000, 0)
	times := []time.Time{began, began.Add(time.Second), began.Add(2 * time.Second)}
	if n := strayed(times, began.Add(time.Second)); n != 1 {
		t.Errorf("%d", n)
	}
}
