package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Claim takes up to most jobs (at most 500) from a queue for an owner, in one
// round trip. Jobs that may only run isolated are parked for [Store.Isolate] and
// counted. A call whose reply is lost leaves jobs that the owner finds with
// [Store.Holdings] and hands back.
func (s *Store) Claim(ctx context.Context, queue, owner string, most int) (delivery.Batch, error) {
	return s.claim(ctx, queue, owner, most, maxSorted)
}

// claim looks at so many jobs of a shared queue.
func (s *Store) claim(ctx context.Context, queue, owner string, most, look int) (delivery.Batch, error) {
	reply, err := s.run(ctx, "claim", []string{
		pendingKey(queue), pausedKey(queue), activeKey(queue), leaseKey(queue), completedKey(queue), tokensKey(queue),
		ownerKey(queue, owner), parkedKey(queue), deadKey(queue), eventsKey(queue), taskKey(queue, ""), retryKey(queue), suspectsKey(queue),
		groupsKey(queue), archivedKey(queue), tenantsKey(queue), turnsKey(queue), turnKey(queue, ""), queuedKey(queue),
		holdsKey(queue), probesKey(queue),
	}, owner, s.calls.Add(1), min(most, maxBatch), leaseSeconds, look)
	if err != nil {
		return delivery.Batch{}, err
	}
	batch, err := s.batch(queue, reply)
	s.sawTenants(ctx, queue, batch.Deliveries)
	return batch, err
}

// Isolate takes the suspect of a queue that waits longest, for an owner that runs
// it in a process of its own, or, alone, while it runs nothing else at all.
// Otherwise as [Store.Claim].
func (s *Store) Isolate(ctx context.Context, queue, owner string, alone bool) (delivery.Batch, error) {
	nothingElse := 0
	if alone {
		nothingElse = 1
	}
	reply, err := s.run(ctx, "isolate", []string{
		suspectsKey(queue), pausedKey(queue), activeKey(queue), leaseKey(queue), retryKey(queue), tokensKey(queue),
		ownerKey(queue, owner), parkedKey(queue), taskKey(queue, ""), holdsKey(queue),
	}, owner, s.calls.Add(1), nothingElse, leaseSeconds)
	if err != nil {
		return delivery.Batch{}, err
	}
	return s.batch(queue, reply)
}

// Reserve makes a worker the only one to empty itself for a queue's suspects,
// until [Store.Release] or the limit. False: another one does so. It spares work;
// nothing depends on it.
func (s *Store) Reserve(ctx context.Context, queue, worker string, limit time.Duration) (bool, error) {
	ok, err := s.rdb.SetNX(ctx, reservedKey(queue), worker, limit).Result()
	return ok, unreachable(err)
}

// Release ends a reservation.
func (s *Store) Release(ctx context.Context, queue string) error {
	return unreachable(s.rdb.Del(ctx, reservedKey(queue)).Err())
}

// batch reads the reply of claim and isolate.
func (s *Store) batch(queue string, reply any) (delivery.Batch, error) {
	parts, ok := reply.([]any)
	if !ok || len(parts) < 4 {
		return delivery.Batch{}, fmt.Errorf("claim from %s: unexpected answer %T", queue, reply)
	}
	if now, ok := parts[0].(int64); ok {
		s.sawTime(now)
	}
	status := text(parts[1])
	dropped, _ := parts[2].(int64)
	suspects, _ := parts[3].(int64)
	batch := delivery.Batch{
		Paused: status == "paused", Fenced: status == "fenced", Emptied: status == "empty", Alone: status == "alone",
		Dropped: int(dropped), Suspects: int(suspects),
	}
	for _, part := range parts[4:] {
		if job, ok := part.([]any); ok && len(job) >= 3 {
			batch.Deliveries = append(batch.Deliveries, delivered(queue, text(job[0]), text(job[1]), text(job[2]), pairs(job[3:])))
		}
	}
	return batch, nil
}

// AwaitWork returns true once the queue has a pending job, false after the limit
// (whole seconds). It waits at the server and changes nothing: the entry it moves
// goes back to where it was, in the same step. Because it looks at the list and
// not at an event, no wake-up can be missed, whoever enqueues.
func (s *Store) AwaitWork(ctx context.Context, queue string, limit time.Duration) (bool, error) {
	err := s.blocking.BLMove(ctx, pendingKey(queue), pendingKey(queue), "RIGHT", "RIGHT", limit).Err()
	if err == redis.Nil {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("await work in %s: %w", queue, unreachable(err))
	}
	return true, nil
}

// Checkpoint records a step that has ended. ErrLost: the token is stale or the
// job is gone; nothing was written. ErrCancelled: recorded, and the job is to end
// now.
func (s *Store) Checkpoint(ctx context.Context, hold delivery.Hold, c delivery.Checkpoint) error {
	reply, err := s.run(ctx, "checkpoint", []string{taskKey(hold.Queue, hold.Key)},
		hold.Token, c.Step, c.Run, max(c.Elapsed, 0).Milliseconds(), c.Output, maxFields, flag(c.Undoable))
	if err != nil {
		return err
	}
	return stillWanted(reply)
}

// SaveProgress records progress inside a step. Errors as for Checkpoint.
func (s *Store) SaveProgress(ctx context.Context, hold delivery.Hold, step string, data []byte) error {
	reply, err := s.run(ctx, "progress", []string{taskKey(hold.Queue, hold.Key)}, hold.Token, step, data)
	if err != nil {
		return err
	}
	return stillWanted(reply)
}

func stillWanted(reply any) error {
	parts, _ := reply.([]any)
	if len(parts) != 2 {
		return fmt.Errorf("unexpected answer %v", reply)
	}
	code, _ := parts[0].(int64)
	switch {
	case code == -4:
		return jobs.Permanent(&jobs.InvalidError{Field: "recorded fields of the job", Value: maxFields, Bound: fmt.Sprintf("under %d", maxFields)})
	case code < 0:
		return jobs.ErrLost
	}
	return askedOf(parts[1])
}

// askedOf is what somebody has asked of a running job.
func askedOf(code any) error {
	switch code {
	case int64(1):
		return jobs.ErrCancelled
	case int64(2):
		return jobs.ErrPaused
	}
	return nil
}

// Holdings returns what an owner holds in a queue by Redis' record, and keeps
// asynq's lease of each.
func (s *Store) Holdings(ctx context.Context, queue, owner string) (delivery.Holdings, error) {
	reply, err := s.run(ctx, "holdings", []string{ownerKey(queue, owner), leaseKey(queue), taskKey(queue, ""), suspectsKey(queue)}, leaseSeconds)
	if err != nil {
		return delivery.Holdings{}, err
	}
	parts, _ := reply.([]any)
	if len(parts) == 0 {
		return delivery.Holdings{}, fmt.Errorf("holdings of %s in %s: unexpected answer %T", owner, queue, reply)
	}
	suspects, _ := parts[0].(int64)
	h := delivery.Holdings{Fenced: suspects < 0, Suspects: int(max(suspects, 0))}
	for parts = parts[1:]; len(parts) >= 3; parts = parts[3:] {
		h.Held = append(h.Held, delivery.Holding{
			Hold: delivery.Hold{Queue: queue, Key: text(parts[0]), Token: text(parts[1])}, Asked: askedOf(parts[2]),
		})
	}
	return h, nil
}

// Absolve takes back the crash that was counted when a job was reclaimed from a
// worker that lives after all. It does so once, and not when another crash has
// followed.
func (s *Store) Absolve(ctx context.Context, hold delivery.Hold) error {
	_, err := s.runCode(ctx, "absolve", []string{taskKey(hold.Queue, hold.Key)}, hold.Token)
	return err
}

// Beat says that an owner lives; first is set before its first successful beat.
// False: it was declared dead meanwhile and must take a new identity.
func (s *Store) Beat(ctx context.Context, owner string, first bool) (bool, error) {
	again := "1"
	if first {
		again = "0"
	}
	code, err := s.runCode(ctx, "beat", []string{ownersKey}, owner, again)
	return code == 1, err
}

// Retire takes an owner that holds nothing off the list of the living.
func (s *Store) Retire(ctx context.Context, owner string) error {
	return unreachable(s.rdb.ZRem(ctx, ownersKey, owner).Err())
}

// ownerOf returns the owner in a token.
func ownerOf(token string) string {
	parts := strings.Split(token, "-")
	if len(parts) != 3 {
		return ""
	}
	return parts[1]
}
