package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/jobs"
)

// QueueInfo is a queue in numbers.
type QueueInfo struct {
	Queue       string            `json:"queue"`
	Paused      bool              `json:"paused"`
	Reasons     map[string]string `json:"reasons,omitempty"` // why it is paused: reason to who and why
	Pending     int64             `json:"pending"`
	Running     int64             `json:"running"`
	Scheduled   int64             `json:"scheduled"`
	Retrying    int64             `json:"retrying"`
	Parked      int64             `json:"parked"` // paused jobs
	Quarantined int64             `json:"quarantined"`
	Ended       int64             `json:"ended"` // completed or cancelled, not yet forgotten
	Processed   int64             `json:"processed_total"`
	Failed      int64             `json:"failed_total"`
}

// QueueInfo returns a queue in numbers.
func (s *Store) QueueInfo(ctx context.Context, queue string) (QueueInfo, error) {
	pipe := s.rdb.Pipeline()
	pending, running := pipe.LLen(ctx, pendingKey(queue)), pipe.LLen(ctx, activeKey(queue))
	scheduled, retry := pipe.ZCard(ctx, scheduledKey(queue)), pipe.ZCard(ctx, retryKey(queue))
	parked, archived := pipe.ZCard(ctx, parkedKey(queue)), pipe.ZCard(ctx, archivedKey(queue))
	ended, queued := pipe.ZCard(ctx, completedKey(queue)), pipe.ZCard(ctx, queuedKey(queue))
	paused, holds := pipe.Get(ctx, pausedKey(queue)), pipe.HGetAll(ctx, holdsKey(queue))
	processed, failed := pipe.Get(ctx, processedKey(queue)), pipe.Get(ctx, failedKey(queue))
	if _, err := pipe.Exec(ctx); err != nil && err != redis.Nil {
		return QueueInfo{}, fmt.Errorf("queue %s: %w", queue, unreachable(err))
	}
	info := QueueInfo{
		Queue: queue, Paused: paused.Val() != "", Pending: pending.Val() + queued.Val(), Running: running.Val(), Scheduled: scheduled.Val(),
		Retrying: max(retry.Val()-parked.Val()-queued.Val(), 0), Parked: parked.Val(), Quarantined: archived.Val(), Ended: ended.Val(),
	}
	info.Processed, _ = processed.Int64()
	info.Failed, _ = failed.Int64()
	if info.Paused {
		info.Reasons = holds.Val()
		if _, ours := info.Reasons["operator"]; foreign(paused.Val()) && !ours {
			info.Reasons["asynq"] = "paused by asynq's own tools"
		}
	}
	return info, nil
}

// Event is a recorded decision.
type Event struct {
	ID     string    `json:"id"`
	At     time.Time `json:"at"`
	Queue  string    `json:"queue"`
	What   string    `json:"what"`
	Key    string    `json:"key,omitempty"`
	Actor  string    `json:"actor"`
	Reason string    `json:"reason"`
	Before string    `json:"before,omitempty"` // what it was about was so
	After  string    `json:"after,omitempty"`  // and is so since
}

// Events returns the last decisions of a queue, newest first, at most 500.
func (s *Store) Events(ctx context.Context, queue string, limit int) ([]Event, error) {
	return s.readEvents(ctx, eventsKey(queue), queue, limit)
}

func (s *Store) readEvents(ctx context.Context, key, queue string, limit int) ([]Event, error) {
	entries, err := s.rdb.XRevRangeN(ctx, key, "+", "-", int64(min(max(limit, 1), maxBatch))).Result()
	if err != nil {
		return nil, fmt.Errorf("events of %s: %w", key, unreachable(err))
	}
	events := make([]Event, 0, len(entries))
	for _, entry := range entries {
		var ms int64
		fmt.Sscanf(entry.ID, "%d-", &ms)
		events = append(events, Event{
			ID: entry.ID, At: time.UnixMilli(ms).UTC(), Queue: queue, What: text(entry.Values["what"]),
			Key: text(entry.Values["key"]), Actor: text(entry.Values["actor"]), Reason: text(entry.Values["reason"]),
			Before: text(entry.Values["before"]), After: text(entry.Values["after"]),
		})
	}
	return events, nil
}

// Find returns the queues in which a key is known.
func (s *Store) Find(ctx context.Context, key string) ([]string, error) {
	if err := jobs.CheckTaskID(key); err != nil {
		return nil, err
	}
	queues, err := s.Queues(ctx)
	if err != nil {
		return nil, err
	}
	pipe := s.rdb.Pipeline()
	exists := make([]*redis.IntCmd, len(queues))
	for i, queue := range queues {
		exists[i] = pipe.Exists(ctx, taskKey(queue, key))
	}
	if len(queues) > 0 {
		if _, err := pipe.Exec(ctx); err != nil {
			return nil, fmt.Errorf("find %s: %w", key, unreachable(err))
		}
	}
	var found []string
	for i, queue := range queues {
		if exists[i].Val() == 1 {
			found = append(found, queue)
		}
	}
	return found, nil
}

// Drop removes a queue with everything in it, for queues that a drill or a
// benchmark has made. It is not atomic and must not meet workers of the queue.
func (s *Store) Drop(ctx context.Context, queue string) error {
	for _, pattern := range []string{asynqKey(queue, "*"), ownKey(queue, "*")} {
		err := s.scanKeys(ctx, pattern, func(keys []string) error {
			if len(keys) == 0 {
				return nil
			}
			return unreachable(s.rdb.Unlink(ctx, keys...).Err())
		})
		if err != nil {
			return fmt.Errorf("drop queue %s: %w", queue, err)
		}
	}
	s.known.Delete(queue)
	s.tenants.Delete(queue)
	return unreachable(errors.Join(s.rdb.SRem(ctx, queuesKey, queue).Err(), s.rdb.SRem(ctx, streamsKey, queue).Err()))
}

// Forget removes what is kept of an owner that was declared dead, so that nothing
// of a drill's killed workers stays behind. The process must be gone: the fence
// that keeps it from writing goes too.
func (s *Store) Forget(ctx context.Context, owner string) error {
	queues, err := s.Queues(ctx)
	if err != nil {
		return err
	}
	for _, queue := range queues {
		if err := s.rdb.Unlink(ctx, ownerKey(queue, owner)).Err(); err != nil {
			return fmt.Errorf("forget owner %s in %s: %w", owner, queue, unreachable(err))
		}
	}
	return s.Retire(ctx, owner)
}

// ForgetCensus removes what the last census found, for drills on a Redis where
// there was none before. The next census writes it anew.
func (s *Store) ForgetCensus(ctx context.Context) error {
	keys := s.rdb.Scan(ctx, 0, takerKey+":*", maxBatch).Iterator()
	for keys.Next(ctx) {
		if err := s.rdb.Unlink(ctx, keys.Val()).Err(); err != nil {
			return fmt.Errorf("forget the census: %w", unreachable(err))
		}
	}
	return unreachable(errors.Join(keys.Err(), s.rdb.Unlink(ctx, censusKey).Err()))
}
