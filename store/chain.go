package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
)

// Streams returns the names of what has a stream of decisions: the queues, those that
// were removed and had sealed decisions, and what no queue has.
func (s *Store) Streams(ctx context.Context) ([]string, error) {
	queues, err := s.Queues(ctx)
	if err != nil {
		return nil, err
	}
	sealed, err := s.rdb.SMembers(ctx, streamsKey).Result()
	if err != nil {
		return nil, fmt.Errorf("list streams of decisions: %w", unreachable(err))
	}
	all := append(append(queues, sealed...), delivery.Schedules, delivery.Dependencies)
	sortStrings(all)
	return slices.Compact(all), nil
}

// Chain returns up to limit events of a stream, oldest first, that follow the one of
// an ID; "": from the first.
func (s *Store) Chain(ctx context.Context, stream, after string, limit int) ([]delivery.Link, error) {
	from := "-"
	if after != "" {
		from = "(" + after
	}
	entries, err := surely(ctx, func() ([]redis.XMessage, error) {
		entries, err := s.rdb.XRangeN(ctx, eventsKey(stream), from, "+", int64(min(max(limit, 1), maxBatch))).Result()
		return entries, unreachable(err)
	})
	if err != nil {
		return nil, fmt.Errorf("decisions of %s: %w", stream, err)
	}
	links := make([]delivery.Link, len(entries))
	for i, entry := range entries {
		links[i] = linkOf(stream, entry)
	}
	return links, nil
}

func linkOf(stream string, entry redis.XMessage) delivery.Link {
	v := func(name string) string { return text(entry.Values[name]) }
	l := delivery.Link{Stream: stream, ID: entry.ID, What: v("what"), Key: v("key"), Actor: v("actor"), Reason: v("reason"),
		Before: v("before"), After: v("after"), Prev: v("prev"), Hash: v("hash")}
	fmt.Sscan(v("n"), &l.N)
	return l
}
