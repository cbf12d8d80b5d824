package store

import (
	"context"
	"fmt"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// fenceStands is how long a dead owner's identity stays refused in a queue. One that
// comes back from a longer pause learns from its first beat that it was declared
// dead, and its tokens are stale in any case.
const fenceStands = 24 * time.Hour

// Promote moves up to 500 due jobs of each waiting set to the queue. Of a long queue
// that tenants share it sorts some thousand jobs by whose turn it is, so that a job
// behind them is reached while all workers are busy.
func (s *Store) Promote(ctx context.Context, queue string) (delivery.Promoted, error) {
	p, unsorted := delivery.Promoted{Next: -1}, false
	for _, set := range []string{scheduledKey(queue), retryKey(queue)} {
		reply, err := s.run(ctx, "promote", []string{
			set, pendingKey(queue), parkedKey(queue), taskKey(queue, ""), reportsKey(queue), orphansKey(queue), queuedKey(queue),
			tenantsKey(queue), turnsKey(queue), tokensKey(queue), pausedKey(queue), turnKey(queue, ""),
			lanesKey(queue), holdsKey(queue),
		}, maxBatch, maxBatch, flag(set == retryKey(queue)))
		if err != nil {
			return p, err
		}
		parts, _ := reply.([]any)
		if len(parts) != 5 {
			continue
		}
		n, _ := parts[0].(int64)
		ms, _ := parts[1].(int64)
		p.Moved += int(n)
		if wait := time.Duration(ms) * time.Millisecond; ms >= 0 && (p.Next < 0 || wait < p.Next) {
			p.Next = wait
		}
		p.Mail, p.Waits = parts[2] == int64(1), parts[4] == int64(1)
		unsorted = parts[3] == int64(1)
	}
	if unsorted {
		more, err := s.sort(ctx, queue)
		if more {
			p.Next = 0
		}
		return p, err
	}
	return p, nil
}

// Expire forgets up to 500 ended jobs whose retention is over and returns how
// many. A child is kept for another ten minutes while its parent may ask for it.
func (s *Store) Expire(ctx context.Context, queue string) (int, error) {
	n, kept, err := s.expire(ctx, queue, maxBatch, nil)
	if err != nil || len(kept) == 0 {
		return n, err
	}
	free, err := s.unneeded(ctx, kept)
	if err != nil || len(free) == 0 {
		return n, err
	}
	more, _, err := s.expire(ctx, queue, 0, free)
	return n + more, err
}

// expire forgets what is over, and children that are free. kept are the children
// that stay for now: pairs of a key and a p:parent, as free are.
func (s *Store) expire(ctx context.Context, queue string, most int, free []any) (n int, kept []any, err error) {
	keys := []string{completedKey(queue), taskKey(queue, ""), forgottenKey(queue), orphansKey(queue)}
	args := append([]any{most, int64(jobs.MinRetention / time.Second)}, free...)
	reply, err := s.run(ctx, "expire", keys, args...)
	if err != nil {
		return 0, nil, err
	}
	parts, _ := reply.([]any)
	if len(parts)%2 != 1 {
		return 0, nil, fmt.Errorf("script expire: unexpected answer %v", reply)
	}
	left, _ := parts[0].(int64)
	return int(left), parts[1:], nil
}

// Silent returns up to 100 owners that have not beaten for as long as they say
// they may be silent; the limit is for those that do not say.
func (s *Store) Silent(ctx context.Context, limit time.Duration) ([]string, error) {
	reply, err := s.run(ctx, "silent", []string{ownersKey}, limit.Milliseconds(), 100)
	if err != nil {
		return nil, err
	}
	var owners []string
	parts, _ := reply.([]any)
	for _, part := range parts {
		owners = append(owners, text(part))
	}
	return owners, nil
}

// Reclaim puts a dead owner's jobs back at the head of a queue, up to 500 a
// script, and fences the owner there. Each job counts a crash and no attempt.
func (s *Store) Reclaim(ctx context.Context, queue, owner string) (moved int, err error) {
	crash := jobs.Failure{Class: jobs.ClassCrash, Rule: "owner silent", Message: "the worker died or could not be reached", At: s.now().UTC(), Worker: owner}
	keys := []string{ownerKey(queue, owner), activeKey(queue), leaseKey(queue), pendingKey(queue), taskKey(queue, "")}
	for {
		reply, err := s.run(ctx, "reclaim", keys, maxBatch, mustJSON(crash), keptFailures, int64(fenceStands/time.Second))
		if err != nil {
			return moved, err
		}
		parts, _ := reply.([]any)
		if len(parts) != 2 {
			return moved, nil
		}
		n, _ := parts[0].(int64)
		moved += int(n)
		if parts[1] == int64(0) {
			return moved, nil
		}
	}
}
