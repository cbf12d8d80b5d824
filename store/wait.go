package store

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Await returns what a wait of a running job has come to, or arms it and returns
// false. Errors as for [Store.Checkpoint].
func (s *Store) Await(ctx context.Context, hold delivery.Hold, run int, w jobs.Wait) (output []byte, ready bool, err error) {
	limit, till := any(""), int64(0)
	if w.For > 0 {
		limit = w.For.Milliseconds()
	} else if !w.Until.IsZero() {
		till = w.Until.UnixMilli()
	}
	reply, err := s.run(ctx, "await", []string{taskKey(hold.Queue, hold.Key)}, hold.Token, w.Name, run, w.Type, limit, till, maxFields)
	if err != nil {
		return nil, false, err
	}
	parts, _ := reply.([]any)
	if len(parts) != 3 {
		return nil, false, fmt.Errorf("script await: unexpected answer %v", reply)
	}
	if err := stillWanted(parts[:2]); err != nil {
		return nil, false, err
	}
	return []byte(text(parts[2])), parts[0] != int64(0), nil
}

// Signal hands a signal to a job. See [jobs.Client].
func (s *Store) Signal(ctx context.Context, queue, key string, signal jobs.Signal) error {
	if err := signal.Check(); err != nil {
		return fmt.Errorf("signal %s/%s: %w", queue, key, err)
	}
	if signal.ID == "" {
		signal.ID = rand.Text()
	}
	keys := []string{taskKey(queue, key), retryKey(queue), parkedKey(queue), pendingKey(queue), eventsKey(queue)}
	code, err := surely(ctx, func() (int64, error) {
		return s.runCode(ctx, "signal", keys, key, signal.Name, signal.ID, signal.Data, actorOr(signal.Actor), signal.Reason, maxFields)
	})
	if err == nil {
		err = signalled(code, signal.Name)
	}
	if err != nil {
		return fmt.Errorf("signal %s/%s: %w", queue, key, err)
	}
	return nil
}

func signalled(code int64, name string) error {
	switch code {
	case -1:
		return jobs.ErrNotFound
	case -3:
		return fmt.Errorf("it has ended: %w", jobs.ErrConflict)
	case -4:
		return fmt.Errorf("another signal %q was given before: %w", name, jobs.ErrConflict)
	case -5:
		return &jobs.InvalidError{Field: "recorded fields of the job", Value: maxFields, Bound: fmt.Sprintf("under %d", maxFields)}
	}
	return nil
}
