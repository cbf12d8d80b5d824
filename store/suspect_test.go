package store

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
)

// TestOneThatIsNoSuspectAnyMoreIsNotIsolated: what the index of suspects still names
// waits for something else by now, which nobody may cut short.
func TestOneThatIsNoSuspectAnyMoreIsNotIsolated(t *testing.T) {
	t.Parallel()
	const another = "another job has the key by now"
	for _, outcome := range []delivery.Outcome{delivery.Retry, delivery.Pause, another} {
		f := open(t)
		f.crash("k")
		last := f.crash("k")
		if batch, err := f.Claim(f.ctx, "q", "o", 1); err != nil || batch.Suspects != 1 {
			t.Fatalf("%+v, %v", batch, err)
		}
		if outcome == another {
			_, err := f.Cancel(f.ctx, "q", "k", why)
			f.ok(err)
			f.rdb.ZAddXX(f.ctx, completedKey("q"), redis.Z{Score: 1, Member: "k"})
			_, err = f.Expire(f.ctx, "q")
			f.ok(err)
			f.settle(f.running("k"), delivery.Retry)
		} else {
			f.ok(f.Absolve(f.ctx, last.Hold)) // its owner lived after all: one crash is left
			runNow(f, nil)
			f.settle(f.take(), outcome)
		}
		before := f.state("k")
		if batch := f.isolate("p", true); len(batch.Deliveries) != 0 {
			t.Errorf("%s: a job that is no suspect was isolated: %+v", outcome, batch.Deliveries)
		}
		if after := f.state("k"); after != before || f.rdb.ZCard(f.ctx, suspectsKey("q")).Val() != 0 {
			t.Errorf("%s: it was %s and is %s", outcome, before, after)
		}
	}
}
