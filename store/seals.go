package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Seals returns up to limit seals of a stream, oldest first, that follow the one of the
// decision of an ID; "": from the first.
func (s *Store) Seals(ctx context.Context, stream, after string, limit int) ([]delivery.Seal, error) {
	from := "-"
	if after != "" {
		from = "(" + after
	}
	entries, err := surely(ctx, func() ([]redis.XMessage, error) {
		entries, err := s.rdb.XRangeN(ctx, sealsKey(stream), from, "+", int64(min(max(limit, 1), maxBatch))).Result()
		return entries, unreachable(err)
	})
	if err != nil {
		return nil, fmt.Errorf("seals of %s: %w", stream, err)
	}
	seals := make([]delivery.Seal, len(entries))
	for i, entry := range entries {
		seals[i] = sealOf(stream, entry)
	}
	return seals, nil
}

func sealOf(stream string, entry redis.XMessage) delivery.Seal {
	v := func(name string) string { return text(entry.Values[name]) }
	seal := delivery.Seal{Stream: stream, ID: entry.ID, Hash: v("hash"), Sum: v("sum"), Prev: v("prev"), Key: v("key"), MAC: v("mac")}
	seal.N, _ = strconv.ParseInt(v("n"), 10, 64)
	at, _ := strconv.ParseInt(v("at"), 10, 64)
	seal.At = time.UnixMilli(at).UTC()
	return seal
}

// StreamHead returns how far a stream and its seals have come. Seals are looked at
// before decisions, so the last seal's decision is never later than the last decision.
func (s *Store) StreamHead(ctx context.Context, stream string) (delivery.Head, error) {
	head, err := surely(ctx, func() (delivery.Head, error) { return s.streamHead(ctx, stream) })
	if err != nil {
		return head, fmt.Errorf("decisions of %s: %w", stream, err)
	}
	return head, nil
}

func (s *Store) streamHead(ctx context.Context, stream string) (head delivery.Head, err error) {
	pipe := s.rdb.Pipeline()
	anchor := pipe.Get(ctx, anchorKey(stream))
	sealTop, seals := pipe.XInfoStream(ctx, sealsKey(stream)), pipe.XRevRangeN(ctx, sealsKey(stream), "+", "-", 1)
	top, links := pipe.XInfoStream(ctx, eventsKey(stream)), pipe.XRevRangeN(ctx, eventsKey(stream), "+", "-", 1)
	now := pipe.Time(ctx)
	if _, err := pipe.Exec(ctx); err != nil && err != redis.Nil && !noSuchKey(err) {
		return head, unreachable(err)
	}
	for _, err := range []error{seals.Err(), links.Err(), now.Err(), ignoreMissing(anchor.Err()), ignoreMissing(sealTop.Err()), ignoreMissing(top.Err())} {
		if err != nil {
			return head, unreachable(err)
		}
	}
	for _, entry := range seals.Val() {
		head.Seal = sealOf(stream, entry)
	}
	for _, entry := range links.Val() {
		head.Last = linkOf(stream, entry)
	}
	if info := sealTop.Val(); info != nil {
		head.SealTop = info.LastGeneratedID
	}
	if info := top.Val(); info != nil {
		head.Top = info.LastGeneratedID
	}
	if text := anchor.Val(); text != "" && json.Unmarshal([]byte(text), &head.Anchor) != nil {
		head.Anchor = delivery.Anchor{MAC: "unreadable"} // no key has made it
	}
	head.Anchor.Stream, head.Now = stream, now.Val().UTC()
	return head, nil
}

func noSuchKey(err error) bool { return strings.Contains(err.Error(), "no such key") }

func ignoreMissing(err error) error {
	if err == redis.Nil || err != nil && noSuchKey(err) {
		return nil
	}
	return err
}

// AddSeal writes a seal behind those of its stream. False: another process has sealed
// meanwhile, or the decision is gone. ErrConflict: the seal of this decision or of a
// later one was there and is gone.
func (s *Store) AddSeal(ctx context.Context, seal delivery.Seal) (bool, error) {
	keys := []string{eventsKey(seal.Stream), sealsKey(seal.Stream)}
	code, err := surely(ctx, func() (int64, error) {
		return s.runCode(ctx, "seal", keys, seal.ID, seal.N, seal.Hash, seal.Prev, seal.At.UnixMilli(), seal.Key, seal.MAC, seal.Sum)
	})
	if err == nil && code == -3 {
		err = fmt.Errorf("the last seals were taken away: %w", jobs.ErrConflict)
	}
	if err != nil {
		return false, fmt.Errorf("seal decisions of %s: %w", seal.Stream, err)
	}
	return code > 0, nil
}

// Trim takes the decisions of a stream up to an anchor, which must be sealed, out of
// Redis, and records that. before is the anchor that was there, zero for none.
// ErrConflict: the decision is not there, or others have taken some out meanwhile.
func (s *Store) Trim(ctx context.Context, before, anchor delivery.Anchor, file string, by jobs.Decision) error {
	if err := by.Check(); err != nil {
		return err
	}
	was := ""
	if before.N > 0 {
		was = mustJSON(before)
	}
	keys := []string{eventsKey(anchor.Stream), sealsKey(anchor.Stream), anchorKey(anchor.Stream), decidedKey(anchor.Stream, rand.Text())}
	code, err := surely(ctx, func() (int64, error) {
		return s.runCode(ctx, "trim", keys, anchor.ID, anchor.Hash, anchor.Seal, was, mustJSON(anchor), by.Actor, by.Reason,
			fmt.Sprintf("decisions %d to %d in Redis", before.N+1, anchor.N), "in "+file)
	})
	switch {
	case err != nil:
	case code == -1:
		err = fmt.Errorf("decision %d is gone, or not sealed so any more: %w", anchor.N, jobs.ErrConflict)
	case code == -2:
		err = fmt.Errorf("others have moved decisions out meanwhile; try again: %w", jobs.ErrConflict)
	}
	if err != nil {
		return fmt.Errorf("move decisions of %s out: %w", anchor.Stream, err)
	}
	return nil
}

// Record records a decision that changes nothing by itself, and nothing the second
// time within ten minutes that it has the same nonce in its stream.
func (s *Store) Record(ctx context.Context, stream, nonce, what, key string, by jobs.Decision) error {
	if err := by.Check(); err != nil {
		return err
	}
	keys := []string{eventsKey(stream), decidedKey(stream, nonce)}
	_, err := surely(ctx, func() (int64, error) { return s.runCode(ctx, "note", keys, what, key, by.Actor, by.Reason) })
	if err != nil {
		return fmt.Errorf("record %q in %s: %w", what, stream, err)
	}
	return nil
}

// KnowStreams remembers streams that are sealed, so that they are looked at also when
// their queue is removed.
func (s *Store) KnowStreams(ctx context.Context, streams []string) error {
	members := make([]any, len(streams))
	for i, stream := range streams {
		members[i] = stream
	}
	if len(members) == 0 {
		return nil
	}
	if err := s.rdb.SAdd(ctx, streamsKey, members...).Err(); err != nil {
		return fmt.Errorf("remember streams of decisions: %w", unreachable(err))
	}
	return nil
}

// StreamKeys returns the keys of a stream's decisions and of its seals, for drills that
// tamper with them.
func StreamKeys(stream string) (decisions, seals string) { return eventsKey(stream), sealsKey(stream) }
