package store

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Tallies returns each queue in numbers, in one round trip after that for their
// names.
func (s *Store) Tallies(ctx context.Context) ([]delivery.Tally, error) {
	queues, err := s.Queues(ctx)
	if err != nil || len(queues) == 0 {
		return nil, err
	}
	type counts struct{ pending, running, scheduled, retry, parked, archived, ended, queued *redis.IntCmd }
	pipe := s.rdb.Pipeline()
	counted, forgotten := make([]counts, len(queues)), make([]*redis.StringCmd, len(queues))
	for i, q := range queues {
		counted[i] = counts{
			pipe.LLen(ctx, pendingKey(q)), pipe.LLen(ctx, activeKey(q)), pipe.ZCard(ctx, scheduledKey(q)), pipe.ZCard(ctx, retryKey(q)),
			pipe.ZCard(ctx, parkedKey(q)), pipe.ZCard(ctx, archivedKey(q)), pipe.ZCard(ctx, completedKey(q)),
			pipe.ZCard(ctx, queuedKey(q)),
		}
		forgotten[i] = pipe.Get(ctx, forgottenKey(q))
	}
	if _, err := pipe.Exec(ctx); err != nil && err != redis.Nil {
		return nil, fmt.Errorf("count jobs: %w", unreachable(err))
	}
	tallies := make([]delivery.Tally, len(queues))
	for i, c := range counted {
		t := delivery.Tally{Queue: queues[i], States: map[jobs.State]int64{
			jobs.StatePending: c.pending.Val() + c.queued.Val(), jobs.StateRunning: c.running.Val(), jobs.StateScheduled: c.scheduled.Val(),
			jobs.StateRetrying: max(c.retry.Val()-c.parked.Val()-c.queued.Val(), 0), jobs.StatePaused: c.parked.Val(),
			jobs.StateQuarantined: c.archived.Val(), jobs.StateCompleted: c.ended.Val(),
		}}
		t.Accepted, _ = forgotten[i].Int64()
		for _, n := range t.States {
			t.Accepted += n
		}
		tallies[i] = t
	}
	return tallies, nil
}
