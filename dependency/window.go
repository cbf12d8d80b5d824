package dependency

import (
	"time"

	"github.com/perdure/perdure/internal/delivery"
)

const (
	bucket  = 200 * time.Millisecond
	buckets = int(delivery.LongWhile / bucket)
	short   = int(delivery.ShortWhile / bucket)
)

// window counts the calls of a long while, and of a short one within it. It is not safe
// for concurrent use.
type window struct {
	at     int64 // the latest bucket, counted from the beginning of time
	counts [buckets]struct{ calls, failed int }
}

// slide makes the bucket of a moment the latest.
func (w *window) slide(now time.Duration) {
	at := int64(now / bucket)
	for i := max(w.at+1, at-int64(buckets)+1); i <= at; i++ {
		w.counts[i%int64(buckets)] = struct{ calls, failed int }{}
	}
	w.at = max(w.at, at)
}

func (w *window) add(now time.Duration, failed bool) {
	w.slide(now)
	c := &w.counts[w.at%int64(buckets)]
	c.calls++
	if failed {
		c.failed++
	}
}

// count returns what the latest n buckets hold.
func (w *window) count(now time.Duration, n int) (calls, failed int) {
	w.slide(now)
	for i := w.at; i > w.at-int64(n) && i >= 0; i-- {
		c := w.counts[i%int64(buckets)]
		calls, failed = calls+c.calls, failed+c.failed
	}
	return calls, failed
}

func (w *window) reset() { w.counts = [buckets]struct{ calls, failed int }{} }

// budget bounds retries to a fifth of the calls, and to two a second where there are few.
// It is a token bucket: calls that are no retries fill it.
type budget struct {
	tokens float64
	at     time.Duration
}

const (
	budgetShare = 0.2
	budgetLeast = 2 // a second
	budgetFull  = 10
)

func (b *budget) fill(now time.Duration, n float64) {
	b.tokens = min(budgetFull, b.tokens+n+budgetLeast*max(now-b.at, 0).Seconds())
	b.at = now
}

// has reports whether there is enough for a retry.
func (b *budget) has(now time.Duration) bool {
	b.fill(now, 0)
	return b.tokens >= 1
}
