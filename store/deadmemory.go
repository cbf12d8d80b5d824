package store

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
)

// memorySample is how many entries of a queue are measured.
const memorySample = 50

// DeadMemory returns how much memory the quarantine of each queue takes that has
// entries. It measures some of them and reckons the rest.
func (s *Store) DeadMemory(ctx context.Context) ([]delivery.DeadMemory, error) {
	queues, err := s.Queues(ctx)
	if err != nil {
		return nil, err
	}
	all := []delivery.DeadMemory{}
	for _, queue := range queues {
		m, err := s.deadMemory(ctx, queue)
		if err != nil {
			return nil, fmt.Errorf("memory of the quarantine of %s: %w", queue, unreachable(err))
		}
		if m.Entries > 0 {
			all = append(all, m)
		}
	}
	return all, nil
}

func (s *Store) deadMemory(ctx context.Context, queue string) (delivery.DeadMemory, error) {
	pipe := s.rdb.Pipeline()
	entries, groups := pipe.ZCard(ctx, deadKey(queue)), pipe.ZCard(ctx, groupsKey(queue))
	keys, signatures := pipe.ZRandMember(ctx, deadKey(queue), memorySample), pipe.ZRandMember(ctx, groupsKey(queue), memorySample)
	if _, err := pipe.Exec(ctx); err != nil {
		return delivery.DeadMemory{}, err
	}
	m := delivery.DeadMemory{Queue: queue, Entries: entries.Val(), Groups: groups.Val()}
	var jobs, grouped []string
	for _, key := range keys.Val() {
		jobs = append(jobs, taskKey(queue, key))
	}
	for _, signature := range signatures.Val() {
		grouped = append(grouped, groupKey(queue, signature), groupKeysKey(queue, signature))
	}
	for _, part := range []struct {
		sample []string
		times  float64
	}{
		{jobs, share(m.Entries, len(jobs))}, {grouped, share(m.Groups, len(signatures.Val()))},
		{[]string{deadKey(queue), archivedKey(queue), groupsKey(queue)}, 1},
	} {
		bytes, err := s.memoryOf(ctx, part.sample)
		if err != nil {
			return m, err
		}
		m.Bytes += int64(float64(bytes) * part.times)
	}
	return m, nil
}

// share is how many each one of a sample stands for.
func share(all int64, sample int) float64 {
	if sample == 0 {
		return 0
	}
	return float64(all) / float64(sample)
}

func (s *Store) memoryOf(ctx context.Context, names []string) (sum int64, err error) {
	if len(names) == 0 {
		return 0, nil
	}
	pipe := s.rdb.Pipeline()
	sizes := make([]*redis.IntCmd, len(names))
	for i, name := range names {
		sizes[i] = pipe.MemoryUsage(ctx, name)
	}
	if _, err := pipe.Exec(ctx); err != nil && err != redis.Nil {
		return 0, err
	}
	for _, size := range sizes {
		sum += size.Val()
	}
	return sum, nil
}
