package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Cancel implements [jobs.Client].
func (s *Store) Cancel(ctx context.Context, queue, key string, by jobs.Decision) (jobs.Info, error) {
	if err := by.Check(); err != nil {
		return jobs.Info{}, err
	}
	return s.decide(ctx, "cancel", queue, key, func(m *message, msg []byte, decided string) (int64, error) {
		kept, stored := time.Duration(0), msg
		if m != nil { // else it ends as it is
			kept = time.Duration(m.Retention) * time.Second
			_, stored = revised(msg, func(m *message) { cancelMessage(m, by.Reason, s.now()) })
		}
		return s.runCode(ctx, "cancel", []string{
			taskKey(queue, key), pendingKey(queue), scheduledKey(queue), retryKey(queue), completedKey(queue),
			parkedKey(queue), eventsKey(queue), lockOf(queue, key, m), deadKey(queue), decided, reportsKey(queue), orphansKey(queue), groupsKey(queue),
			queuedKey(queue),
		}, key, msg, stored, keptSeconds(kept), by.Actor, by.Reason)
	})
}

// Pause implements [jobs.Client].
func (s *Store) Pause(ctx context.Context, queue, key string, by jobs.Decision) (jobs.Info, error) {
	if err := by.Check(); err != nil {
		return jobs.Info{}, err
	}
	return s.decide(ctx, "pause", queue, key, func(_ *message, _ []byte, decided string) (int64, error) {
		return s.runCode(ctx, "suspend", []string{
			taskKey(queue, key), pendingKey(queue), scheduledKey(queue), retryKey(queue), parkedKey(queue), eventsKey(queue),
			suspectsKey(queue), decided, queuedKey(queue),
		}, key, by.Actor, by.Reason)
	})
}

// Resume implements [jobs.Client].
func (s *Store) Resume(ctx context.Context, queue, key string, by jobs.Decision) (jobs.Info, error) {
	if err := by.Check(); err != nil {
		return jobs.Info{}, err
	}
	return s.decide(ctx, "resume", queue, key, func(_ *message, _ []byte, decided string) (int64, error) {
		return s.runCode(ctx, "resume", []string{
			taskKey(queue, key), pendingKey(queue), scheduledKey(queue), retryKey(queue), parkedKey(queue), eventsKey(queue), decided,
		}, key, by.Actor, by.Reason)
	})
}

// Replay returns a quarantined job to its queue with a fresh count of attempts:
// from the failed step, or from the start with every step forgotten. ErrConflict:
// it is not quarantined, or its message cannot be read, so that no worker could run
// it. StateUnknown: done, and the job could not be read after it.
func (s *Store) Replay(ctx context.Context, queue, key string, fromStart bool, by jobs.Decision) (jobs.Info, error) {
	return s.replay(ctx, queue, key, fromStart, nil, by)
}

// ReplayEdited replays a job with another payload; what was changed is kept with the
// job. The digest that tells a duplicate from another request stays the producer's.
// Errors as for Replay.
func (s *Store) ReplayEdited(ctx context.Context, queue, key string, payload []byte, fromStart bool, by jobs.Decision) (jobs.Info, error) {
	if payload == nil {
		payload = []byte{}
	}
	return s.replay(ctx, queue, key, fromStart, payload, by)
}

// replay keeps the payload when it is given none.
func (s *Store) replay(ctx context.Context, queue, key string, fromStart bool, payload []byte, by jobs.Decision) (jobs.Info, error) {
	if err := by.Check(); err != nil {
		return jobs.Info{}, err
	}
	from := "failed"
	if fromStart {
		from = "start"
	}
	return s.decide(ctx, "replay", queue, key, func(m *message, msg []byte, decided string) (int64, error) {
		if m == nil {
			return 0, errUnreadable
		}
		reason, edit := by.Reason, ""
		if payload != nil {
			changes := delivery.Diff(m.Payload, payload)
			edit = mustJSON(delivery.Edit{At: s.now().UTC(), Actor: by.Actor, Reason: by.Reason, Changes: changes})
			reason += " (payload edited: " + delivery.Paths(changes) + ")"
		}
		_, stored := revised(msg, func(m *message) {
			m.Retried, m.ErrorMsg = 0, ""
			if payload != nil {
				m.exchange(payload)
			}
		})
		return s.runCode(ctx, "replay", []string{
			taskKey(queue, key), pendingKey(queue), archivedKey(queue), deadKey(queue), eventsKey(queue), decided, groupsKey(queue),
		}, key, msg, stored, from, by.Actor, reason, edit)
	})
}

// Discard forgets a quarantined job; its key is free again. ErrConflict: it is
// not quarantined. The job as it was is returned.
func (s *Store) Discard(ctx context.Context, queue, key string, by jobs.Decision) (jobs.Info, error) {
	if err := by.Check(); err != nil {
		return jobs.Info{}, err
	}
	before, err := s.Get(ctx, queue, key)
	if err != nil {
		return before, err
	}
	return before, s.discard(ctx, queue, key, "discard", "", by)
}

// DiscardEntry is Discard for an entry as it was listed. ErrConflict: it is not
// quarantined any more, or was again since.
func (s *Store) DiscardEntry(ctx context.Context, d delivery.Dead, by jobs.Decision) error {
	if err := by.Check(); err != nil {
		return err
	}
	return s.discard(ctx, d.Queue, d.Key, "discard", milliText(d.At), by)
}

// discard forgets a quarantined job, and records it as what it is. at is when it must
// have been quarantined, in ms; "": whenever.
func (s *Store) discard(ctx context.Context, queue, key, what, at string, by jobs.Decision) error {
	_, err := s.decide(ctx, "discard", queue, key, func(m *message, _ []byte, decided string) (int64, error) {
		return s.runCode(ctx, "discard", []string{
			taskKey(queue, key), archivedKey(queue), deadKey(queue), eventsKey(queue), lockOf(queue, key, m), forgottenKey(queue), decided, reportsKey(queue), groupsKey(queue),
		}, key, by.Actor, by.Reason, what, at)
	})
	return err
}

// errUnreadable refuses a replay.
var errUnreadable error = unreadable{}

type unreadable struct{}

func (unreadable) Error() string {
	return "its message cannot be read, so no worker could run it: discard it and enqueue the job again"
}

func (unreadable) Is(target error) bool { return target == jobs.ErrConflict }

// decide runs a script that compares the message it was given with the stored
// one, again while someone else changes it in between or its outcome is unknown,
// and returns the job after. By the decision's own key the script knows whether it
// was taken already, so that it is taken and recorded once. The message is nil when
// it cannot be read.
func (s *Store) decide(ctx context.Context, verb, queue, key string, script func(*message, []byte, string) (int64, error)) (jobs.Info, error) {
	decided := decidedKey(queue, rand.Text())
	for range 10 {
		data, err := s.field(ctx, queue, key, "msg")
		if err == redis.Nil {
			return jobs.Info{}, fmt.Errorf("%s %s/%s: %w", verb, queue, key, jobs.ErrNotFound)
		}
		if err != nil {
			return jobs.Info{}, fmt.Errorf("%s %s/%s: %w", verb, queue, key, err)
		}
		m, _ := readMessage(key, data)
		code, err := surely(ctx, func() (int64, error) { return script(m, data, decided) })
		switch {
		case err != nil:
			return jobs.Info{}, fmt.Errorf("%s %s/%s: %w", verb, queue, key, err)
		case code == -1:
			return jobs.Info{}, fmt.Errorf("%s %s/%s: %w", verb, queue, key, jobs.ErrNotFound)
		case code == -3:
			info, err := s.Get(ctx, queue, key)
			if err != nil {
				return info, err
			}
			return info, fmt.Errorf("%s %s/%s, which is %s: %w", verb, queue, key, info.State, jobs.ErrConflict)
		case code == -4:
			return jobs.Info{}, fmt.Errorf("%s %s/%s: its payload was erased; give a new one, and replay it from the start: %w", verb, queue, key, jobs.ErrConflict)
		case code > 0 && verb != "discard":
			return s.decided(ctx, queue, key), nil
		case code > 0:
			return jobs.Info{}, nil
		}
	}
	return jobs.Info{}, fmt.Errorf("%s %s/%s: it changes too fast; try again: %w", verb, queue, key, jobs.ErrConflict)
}

// decided returns the job after a decision was taken: that stands, also when the
// job is gone already or cannot be read now.
func (s *Store) decided(ctx context.Context, queue, key string) jobs.Info {
	info, err := s.Get(ctx, queue, key)
	if err != nil {
		return jobs.Info{Queue: queue, Key: key, State: jobs.StateUnknown}
	}
	return info
}

// field returns one field of a job's record, or redis.Nil.
func (s *Store) field(ctx context.Context, queue, key, field string) ([]byte, error) {
	return surely(ctx, func() ([]byte, error) {
		data, err := s.rdb.HGet(ctx, taskKey(queue, key), field).Bytes()
		return data, unreachable(err)
	})
}

// Entry returns what the quarantine keeps of a job besides the job itself.
func (s *Store) Entry(ctx context.Context, queue, key string) (delivery.Entry, error) {
	var entry delivery.Entry
	data, err := s.field(ctx, queue, key, "p:dead")
	if err == redis.Nil {
		return entry, fmt.Errorf("quarantine entry of %s/%s: %w", queue, key, jobs.ErrNotFound)
	}
	if err != nil {
		return entry, fmt.Errorf("quarantine entry of %s/%s: %w", queue, key, err)
	}
	return entry, json.Unmarshal(data, &entry)
}

// PauseQueue stops claims from a queue; running jobs go on.
func (s *Store) PauseQueue(ctx context.Context, queue string, by jobs.Decision) error {
	_, err := s.hold(ctx, "pause", queue, by)
	return err
}

// ResumeQueue takes the operator's pause back. It returns false while other
// reasons still pause the queue.
func (s *Store) ResumeQueue(ctx context.Context, queue string, by jobs.Decision) (bool, error) {
	code, err := s.hold(ctx, "resume", queue, by)
	return code != 3, err
}

func (s *Store) hold(ctx context.Context, verb, queue string, by jobs.Decision) (int64, error) {
	if err := by.Check(); err != nil {
		return 0, err
	}
	if err := s.CheckQueueKnown(ctx, queue); err != nil {
		return 0, err
	}
	keys := []string{pausedKey(queue), holdsKey(queue), eventsKey(queue), decidedKey(queue, rand.Text())}
	return surely(ctx, func() (int64, error) {
		return s.runCode(ctx, "hold", keys, verb, "operator", by.Actor, by.Reason)
	})
}

// CheckQueueKnown returns jobs.ErrNotFound for a queue that nobody has enqueued to and no
// worker serves, so that a slip of the pen is not taken for an empty queue.
func (s *Store) CheckQueueKnown(ctx context.Context, queue string) error {
	if err := jobs.CheckQueue(queue); err != nil {
		return err
	}
	known, err := surely(ctx, func() (bool, error) {
		known, err := s.rdb.SIsMember(ctx, queuesKey, queue).Result()
		return known, unreachable(err)
	})
	if err == nil && !known {
		err = unknownQueue(queue)
	}
	return err
}
