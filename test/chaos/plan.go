package chaos

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// The faults that happen at times of the plan.
const (
	workerKill    = "worker kill -9"
	workerStop    = "worker SIGSTOP, then SIGCONT"
	schedulerKill = "scheduler kill -9"
	redisKill     = "redis kill -9"
	redisPower    = "redis loses power"
	redisFreeze   = "redis frozen"
	scriptFlush   = "script flush"
	cutReset      = "connections reset"
	cutSilent     = "connections silent"
	cutSlow       = "connections slow"
	serviceOutage = "outages of a service"
)

// The faults that happen all the time.
const (
	unanswered   = "answers withheld"
	duplicates   = "duplicate enqueues"
	clockJumps   = "workers whose clock jumps"
	staleRefused = "stale writes refused"
	opened       = "breakers opened"
)

// fault is one entry of the plan.
type fault struct {
	At   time.Duration // from the start
	Kind string
	Hold time.Duration // how long it lasts, where it does
	Pick int           // whom it meets, modulo how many there are
}

// lane is a series of faults of which one happens at a time.
type lane struct {
	faults []fault
	apart  bool // each may still last when the next begins
}

// plan returns the faults of a run, by lane. It depends on nothing but the
// options, so that a seed repeats it.
func plan(o Options) []lane {
	r := rand.New(rand.NewPCG(o.Seed, 0))
	return []lane{
		{faults: every(r, o.Duration, 2*time.Second, none, workerKill)},
		{faults: every(r, o.Duration, 2*time.Second, span(2500, 5000), workerStop), apart: true},
		{faults: every(r, o.Duration, 9*time.Second, none, schedulerKill)},
		{faults: every(r, o.Duration, 3*time.Second, span(300, 2500), cutReset, cutSilent, cutSlow), apart: true},
		{faults: redisFaults(r, o)},
		{faults: every(r, o.Duration, outageEvery(o), span(2000, 4500), serviceOutage)},
	}
}

func none(*rand.Rand) time.Duration { return 0 }

// span draws evenly between two numbers of milliseconds.
func span(least, most int) func(*rand.Rand) time.Duration {
	return func(r *rand.Rand) time.Duration { return time.Duration(least+r.IntN(most-least)) * time.Millisecond }
}

// every spreads kinds of faults in turn over the duration, one an interval.
func every(r *rand.Rand, duration, interval time.Duration, hold func(*rand.Rand) time.Duration, kinds ...string) []fault {
	var faults []fault
	for at := interval; at+interval <= duration; at += interval {
		early := time.Duration(r.Int64N(int64(interval / 2)))
		faults = append(faults, fault{at - early, kinds[len(faults)%len(kinds)], hold(r), r.IntN(1 << 16)})
	}
	return faults
}

// redisFaults puts what happens to Redis one after the other, in rounds of which
// each has every kind in another order, with time between them to recover. A run of
// [leastDuration] has a whole round.
func redisFaults(r *rand.Rand, o Options) []fault {
	var faults []fault
	at := 2 * time.Second
	for round := []string{redisKill, redisPower, redisFreeze, scriptFlush}; ; {
		r.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
		for _, kind := range round {
			f := fault{At: at, Kind: kind}
			if kind == redisFreeze {
				f.Hold = o.Freeze
			}
			at += f.Hold + 4*time.Second + time.Duration(r.Int64N(int64(2*time.Second)))
			if at > o.Duration {
				return faults
			}
			faults = append(faults, f)
		}
		round = []string{redisKill, redisPower, redisFreeze, redisKill, redisPower, scriptFlush}
	}
}

// leastDuration is long enough for every fault to happen.
func leastDuration(o Options) time.Duration { return o.Freeze + 26*time.Second }

// minima says how often each fault must have happened: three quarters of the
// plan, at least once.
func minima(o Options) []Count {
	if o.Replicated {
		return []Count{
			{Name: unanswered, Minimum: o.Workflows / 20}, {Name: duplicates, Minimum: o.Workflows / 2},
			{Name: failovers, Minimum: 2}, {Name: lostTail, Minimum: 1},
		}
	}
	planned := map[string]int{}
	for _, l := range plan(o) {
		for _, f := range l.faults {
			planned[f.Kind]++
		}
	}
	counts := []Count{
		{Name: unanswered, Minimum: o.Workflows / 20},
		{Name: duplicates, Minimum: o.Workflows / 2},
		{Name: clockJumps, Minimum: max(1, int(o.Duration/(12*time.Second)))},
		{Name: staleRefused, Minimum: 1},
		{Name: opened, Minimum: 1},
	}
	for _, kind := range []string{
		workerKill, workerStop, schedulerKill, redisKill, redisPower, redisFreeze, scriptFlush, cutReset, cutSilent, cutSlow, serviceOutage,
	} {
		counts = append(counts, Count{Name: kind, Minimum: max(1, planned[kind]*3/4)})
	}
	slices.SortStableFunc(counts, func(a, b Count) int { return cmp.Compare(a.Name, b.Name) })
	return counts
}
