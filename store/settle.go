package store

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Settle ends an execution with its verdict, in one script. It is safe to send
// again when the outcome of a call is unknown. ErrLost: the token is stale and
// nothing was written. ErrNotFound: the job was deleted by someone else.
func (s *Store) Settle(ctx context.Context, d delivery.Delivery, v delivery.Verdict) error {
	var code int64
	var err error
	switch v.Outcome {
	case delivery.Complete:
		code, err = s.complete(ctx, d, v)
	case delivery.Retry:
		code, err = s.retry(ctx, d, v)
	case delivery.Pause:
		code, err = s.pause(ctx, d, v)
	case delivery.Quarantine:
		code, err = s.quarantine(ctx, d, v)
	case delivery.Cancel:
		code, err = s.cancelled(ctx, d, v)
	case delivery.Park:
		code, err = s.park(ctx, d, v)
	case delivery.Continue:
		code, err = s.continueAs(ctx, d, v)
	case delivery.Takeback:
		code, err = s.takeback(ctx, d, v)
	case delivery.Suspect:
		code, err = s.suspect(ctx, d, v)
	case delivery.HandBack:
		return s.HandBack(ctx, d.Hold)
	default:
		return fmt.Errorf("settle %s/%s: unknown outcome %q", d.Queue, d.Key, v.Outcome)
	}
	if err != nil {
		return fmt.Errorf("settle %s/%s as %s: %w", d.Queue, d.Key, v.Outcome, err)
	}
	return settled(code)
}

func settled(code int64) error {
	switch code {
	case -1:
		return jobs.ErrNotFound
	case -2:
		return jobs.ErrLost
	}
	return nil
}

// heldKeys are the keys that every verdict begins with.
func heldKeys(h delivery.Hold) []string {
	return []string{taskKey(h.Queue, h.Key), activeKey(h.Queue), leaseKey(h.Queue), ownerKey(h.Queue, ownerOf(h.Token))}
}

// counters returns the keys of asynq's counters and when a day's ones expire.
func (s *Store) counters(queue string) (processedDay, processed, failedDay, failed string, expires int64) {
	now := s.now()
	processed, failed = processedKey(queue), failedKey(queue)
	return dayKey(processed, now), processed, dayKey(failed, now), failed, now.Add(statsTTL).Unix()
}

// lockOf is the task's unique lock, or its own key where it has none: a key that
// is in the slot either way.
func lockOf(queue, key string, m *message) string {
	if m == nil || m.UniqueKey == "" {
		return taskKey(queue, key)
	}
	return m.UniqueKey
}

// revised returns the message with change applied; one that cannot be read is
// returned as it is.
func revised(data []byte, change func(*message)) (*message, []byte) {
	m, err := decodeMessage(data)
	if err != nil {
		return nil, data
	}
	change(m)
	return m, m.encode()
}

func (s *Store) complete(ctx context.Context, d delivery.Delivery, v delivery.Verdict) (int64, error) {
	day, total, _, _, expires := s.counters(d.Queue)
	m, msg := revised(d.Message, func(m *message) { m.CompletedAt = s.now().Unix() })
	keys := append(heldKeys(d.Hold), completedKey(d.Queue), day, total, lockOf(d.Queue, d.Key, m), forgottenKey(d.Queue), reportsKey(d.Queue))
	return s.runCode(ctx, "complete", keys, d.Key, d.Token, msg, seconds(d.Retention), expires, v.Result, d.Version)
}

func (s *Store) retry(ctx context.Context, d delivery.Delivery, v delivery.Verdict) (int64, error) {
	day, total, failedDay, failed, expires := s.counters(d.Queue)
	_, msg := revised(d.Message, func(m *message) {
		m.Retried++
		m.ErrorMsg, m.LastFailedAt = v.Failure.Message, s.now().Unix()
	})
	keys := append(heldKeys(d.Hold), retryKey(d.Queue), day, total, failedDay, failed)
	return s.runCode(ctx, "retry", keys, d.Key, d.Token, msg, v.Delay.Milliseconds(), expires, failureText(v.Failure), keptFailures, d.Version)
}

func (s *Store) pause(ctx context.Context, d delivery.Delivery, v delivery.Verdict) (int64, error) {
	said, name, lane, line, since := v.Waiting.Name, v.Waiting.Name, taskKey(d.Queue, d.Key), "", ""
	if v.Lane {
		said = v.Said
		line = v.Waiting.Name + " " + laneKind(d.Kind)
		name, lane = line, laneKey(d.Queue, line)
		if v.Since > 0 {
			since = strconv.FormatInt(v.Since, 10)
		}
	}
	_, msg := revised(d.Message, func(m *message) {
		m.ErrorMsg = fmt.Sprintf("paused: %s; resumes by itself", said)
		m.LastFailedAt = s.now().Unix()
	})
	keys := append(heldKeys(d.Hold), retryKey(d.Queue), parkedKey(d.Queue), lane, lanesKey(d.Queue))
	return s.runCode(ctx, "pause", keys, d.Key, d.Token, msg, v.Delay.Milliseconds(), failureText(v.Failure), keptFailures,
		v.Waiting.Type, name, d.Version, line, since)
}

// laneKind is the kind in the name of a lane: one of a stock producer may be no name.
func laneKind(kind string) string {
	if jobs.CheckKind(kind) != nil {
		return "-"
	}
	return kind
}

func (s *Store) park(ctx context.Context, d delivery.Delivery, v delivery.Verdict) (int64, error) {
	_, msg := revised(d.Message, func(m *message) {
		m.ErrorMsg = fmt.Sprintf("paused: waits for %s; resumes by itself", v.Waiting.Name)
	})
	keys := append(heldKeys(d.Hold), retryKey(d.Queue), parkedKey(d.Queue), pendingKey(d.Queue))
	args := []any{d.Key, d.Token, msg, fallback(v.Waiting.Type).Milliseconds(), d.Version, v.Waiting.Type, v.Waiting.Name}
	for _, name := range v.Waits {
		args = append(args, name)
	}
	return s.runCode(ctx, "park", keys, args...)
}

func (s *Store) continueAs(ctx context.Context, d delivery.Delivery, v delivery.Verdict) (int64, error) {
	_, msg := revised(d.Message, func(m *message) {
		m.exchange(v.Payload)
		setVersion(m.Headers, d.Version)
		m.Retried, m.ErrorMsg = 0, ""
	})
	return s.runCode(ctx, "continue", append(heldKeys(d.Hold), pendingKey(d.Queue)), d.Key, d.Token, msg)
}

func (s *Store) takeback(ctx context.Context, d delivery.Delivery, v delivery.Verdict) (int64, error) {
	_, msg := revised(d.Message, func(m *message) { m.ErrorMsg = "being undone: " + v.Reason })
	keys := append(heldKeys(d.Hold), pendingKey(d.Queue), eventsKey(d.Queue))
	return s.runCode(ctx, "takeback", keys, d.Key, d.Token, msg, string(v.Undo.Outcome)+" "+mustJSON(v.Undo), failureText(v.Failure), keptFailures,
		d.Version, actorOr(v.Actor), v.Reason)
}

func (s *Store) suspect(ctx context.Context, d delivery.Delivery, v delivery.Verdict) (int64, error) {
	_, msg := revised(d.Message, func(m *message) { m.LastFailedAt = s.now().Unix() })
	keys := append(heldKeys(d.Hold), retryKey(d.Queue), parkedKey(d.Queue), suspectsKey(d.Queue))
	return s.runCode(ctx, "suspect", keys, d.Key, d.Token, msg, v.Delay.Milliseconds(), failureText(v.Failure), keptFailures)
}

func (s *Store) quarantine(ctx context.Context, d delivery.Delivery, v delivery.Verdict) (int64, error) {
	day, total, failedDay, failed, expires := s.counters(d.Queue)
	msg := d.Message
	if d.Undecodable == nil { // else it is kept byte for byte
		_, msg = revised(msg, func(m *message) { m.ErrorMsg, m.LastFailedAt = v.Entry.Message, s.now().Unix() })
	}
	keys := append(heldKeys(d.Hold), archivedKey(d.Queue), deadKey(d.Queue), eventsKey(d.Queue), day, total, failedDay, failed, reportsKey(d.Queue), groupsKey(d.Queue))
	entry := entryOf(d, v.Entry)
	return s.runCode(ctx, "quarantine", keys, d.Key, d.Token, msg, expires, failureText(v.Failure), keptFailures,
		mustJSON(entry), actorOr(v.Actor), entry.Reason, attemptUsed(entry.Class), d.Version, entry.Signature, about(entry), flag(v.Undid))
}

// attemptUsed is how many attempts an execution counts that ends in quarantine: a
// crash has never used one.
func attemptUsed(class jobs.Class) int {
	if class == jobs.ClassCrash {
		return 0
	}
	return 1
}

func (s *Store) cancelled(ctx context.Context, d delivery.Delivery, v delivery.Verdict) (int64, error) {
	m, msg := revised(d.Message, func(m *message) { cancelMessage(m, v.Reason, s.now()) })
	keys := append(heldKeys(d.Hold), completedKey(d.Queue), eventsKey(d.Queue), lockOf(d.Queue, d.Key, m), reportsKey(d.Queue), orphansKey(d.Queue))
	return s.runCode(ctx, "cancelled", keys, d.Key, d.Token, msg, keptSeconds(d.Retention), actorOr(v.Actor), v.Reason)
}

func cancelMessage(m *message, reason string, now time.Time) {
	m.ErrorMsg = "cancelled: " + reason
	m.CompletedAt = now.Unix()
}

// HandBack puts a running job back at the head of its queue; nothing is used.
// Errors as for Settle.
func (s *Store) HandBack(ctx context.Context, hold delivery.Hold) error {
	code, err := s.runCode(ctx, "handback", append(heldKeys(hold), pendingKey(hold.Queue)), hold.Key, hold.Token)
	if err != nil {
		return fmt.Errorf("hand back %s/%s: %w", hold.Queue, hold.Key, err)
	}
	return settled(code)
}

func failureText(f *jobs.Failure) string {
	if f == nil {
		return ""
	}
	return mustJSON(f)
}

// flag is a yes or no for a script.
func flag(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

func actorOr(actor string) string {
	if actor == "" {
		return "perdure"
	}
	return actor
}

func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

// keptSeconds is the retention of a job that ended otherwise than by completing:
// it is kept for the shortest time even when a stock producer asked for none, so
// that the decision can be seen.
func keptSeconds(d time.Duration) string { return seconds(max(d, jobs.MinRetention)) }
