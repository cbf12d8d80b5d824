package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// DeadRecord returns all that is known of a job, with its state: of one that is not
// quarantined the entry is empty.
func (s *Store) DeadRecord(ctx context.Context, queue, key string) (delivery.DeadRecord, error) {
	records, err := surely(ctx, func() ([]delivery.DeadRecord, error) { return s.DeadRecords(ctx, queue, []string{key}) })
	if err == nil && len(records) == 0 {
		err = jobs.ErrNotFound
	}
	if err != nil {
		return delivery.DeadRecord{}, fmt.Errorf("quarantined job %s/%s: %w", queue, key, err)
	}
	return records[0], nil
}

// DeadRecords returns all that is known of those jobs that exist, at most 500, in one
// round trip.
func (s *Store) DeadRecords(ctx context.Context, queue string, keys []string) ([]delivery.DeadRecord, error) {
	pipe := s.rdb.Pipeline()
	hashes, times := make([]*redis.MapStringStringCmd, len(keys)), make([]*redis.FloatCmd, len(keys))
	for i, key := range keys {
		hashes[i], times[i] = pipe.HGetAll(ctx, taskKey(queue, key)), pipe.ZScore(ctx, deadKey(queue), key)
	}
	if _, err := pipe.Exec(ctx); err != nil && err != redis.Nil && !wrongType(err) {
		return nil, unreachable(err)
	}
	var records []delivery.DeadRecord
	for i, key := range keys {
		if h := hash(hashes[i].Val()); len(h) > 0 {
			records = append(records, h.dead(queue, key, int64(times[i].Val())))
		}
	}
	return records, nil
}

// dead is all that a record says of a quarantined job.
func (h hash) dead(queue, key string, at int64) delivery.DeadRecord {
	r := delivery.DeadRecord{Job: h.info(queue, key), Edits: []delivery.Edit{}, Fields: h}
	r.Queue, r.Key, r.Erased = queue, key, h["p:erased"]
	if at > 0 {
		r.At = time.UnixMilli(at).UTC()
	}
	if r.Job.State == jobs.StateQuarantined && json.Unmarshal([]byte(h["p:dead"]), &r.Entry) != nil {
		r.Entry = archivedElsewhere
		r.Kind = r.Job.Kind
		r.Entry = r.Signed()
	}
	for n := 1; n <= h.int("p:en"); n++ {
		var edit delivery.Edit
		if text, ok := h["e:"+strconv.Itoa(n)]; ok && json.Unmarshal([]byte(text), &edit) == nil {
			r.Edits = append(r.Edits, edit)
		}
	}
	m, err := readMessage(key, []byte(h["msg"]))
	switch {
	case err != nil:
		r.Raw = []byte(h["msg"])
	case r.Erased == "":
		r.Payload = append([]byte{}, m.Payload...)
		fallthrough
	default:
		r.Headers = ownHeaders(m.Headers)
	}
	return r
}

// Erase forgets a quarantined job's payload and what its steps have given; the rest
// of its story stays. Nothing brings it back. ErrConflict: it is not quarantined.
func (s *Store) Erase(ctx context.Context, queue, key string, by jobs.Decision) (jobs.Info, error) {
	if err := by.Check(); err != nil {
		return jobs.Info{}, err
	}
	return s.decide(ctx, "erase", queue, key, func(m *message, msg []byte, decided string) (int64, error) {
		stored := []byte{}
		if m != nil {
			_, stored = revised(msg, func(m *message) { m.exchange(nil) })
		}
		return s.runCode(ctx, "erase", []string{taskKey(queue, key), eventsKey(queue), decided}, key, msg, stored, by.Actor, by.Reason)
	})
}

// exchange gives the message another payload. The digest stays that of the first one,
// also of a stock producer's, which carries none: its request again is a duplicate.
func (m *message) exchange(payload []byte) {
	if m.Headers[headerDigest] == "" {
		if m.Headers == nil {
			m.Headers = map[string]string{}
		}
		m.Headers[headerDigest] = jobs.Digest(m.Type, m.Payload)
	}
	m.Payload = payload
}

// MoveOut forgets a quarantined job that was exported as it is. ErrConflict: it is
// not quarantined any more, or was again since.
func (s *Store) MoveOut(ctx context.Context, r delivery.DeadRecord, by jobs.Decision) error {
	if err := by.Check(); err != nil {
		return err
	}
	return s.discard(ctx, r.Queue, r.Key, "move out", milliText(r.At), by)
}

// Restore puts an exported job back into quarantine; false when it is there already.
// ErrConflict: the key is another job's by now, or this one's, replayed.
func (s *Store) Restore(ctx context.Context, r delivery.DeadRecord, by jobs.Decision) (bool, error) {
	if err := by.Check(); err != nil {
		return false, err
	}
	if err := s.register(ctx, r.Queue); err != nil {
		return false, err
	}
	if state := r.Fields["state"]; state != "archived" {
		return false, fmt.Errorf("restore %s/%s: %w", r.Queue, r.Key, &jobs.InvalidError{Field: "record", Value: "of the state " + state, Bound: "that of a quarantined job"})
	}
	entry := hash(r.Fields).dead(r.Queue, r.Key, r.At.UnixMilli()).Signed()
	fields := []any{}
	for field, value := range r.Fields {
		if field != "p:tok" && field != "p:sig" && field != "p:plan" {
			fields = append(fields, field, value)
		}
	}
	keys := []string{
		taskKey(r.Queue, r.Key), archivedKey(r.Queue), deadKey(r.Queue), groupsKey(r.Queue), eventsKey(r.Queue), tokensKey(r.Queue),
		forgottenKey(r.Queue),
	}
	args := append([]any{
		r.Key, r.At.UnixMilli(), r.Fields["p:dead"], entry.Signature, about(entry), entry.Version, by.Actor, by.Reason, r.Fields["msg"],
		len(fields) / 2,
	}, fields...)
	code, err := surely(ctx, func() (int64, error) { return s.runCode(ctx, "restore", keys, args...) })
	if err == nil && code == -3 {
		err = jobs.ErrConflict
	}
	if err != nil {
		return false, fmt.Errorf("restore %s/%s: %w", r.Queue, r.Key, err)
	}
	return code == 1, nil
}
