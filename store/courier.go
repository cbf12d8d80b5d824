package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// Relay delivers what jobs of a queue have to tell other jobs: up to 500 children
// that have ended to their parents, and that a parent was cancelled to its children.
// What it delivers is the same when it is delivered again, so any number of
// processes may do so, and one that dies in between leaves it to the next. more:
// there was more than it took.
func (s *Store) Relay(ctx context.Context, queue string) (more bool, err error) {
	more, reported := s.relayReports(ctx, queue)
	return more && reported == nil, reported
}

// relayReports tells parents which of their children have ended.
func (s *Store) relayReports(ctx context.Context, queue string) (more bool, err error) {
	entries, err := s.rdb.ZRangeWithScores(ctx, reportsKey(queue), 0, maxBatch-1).Result()
	if err != nil || len(entries) == 0 {
		return false, unreachable(err)
	}
	var delivered []redis.Z
	var errs []error
	for _, letter := range letters(entries) {
		if letter.to.queue == "" {
			delivered = append(delivered, letter.entries...) // it cannot be read: it is for nobody
			continue
		}
		if _, err := s.report(ctx, letter.to, '1', letter.at); err != nil && !wrongType(err) {
			errs = append(errs, fmt.Errorf("report to %s/%s: %w", letter.to.queue, letter.to.key, err))
			continue
		}
		delivered = append(delivered, letter.entries...)
	}
	errs = append(errs, s.relayed(ctx, reportsKey(queue), delivered))
	return len(entries) == maxBatch, errors.Join(errs...)
}

// letter is what ended children of one group have to report together.
type letter struct {
	to      parentage
	at      []int // their positions, ascending
	entries []redis.Z
}

// letters sorts the entries of an outbox by whom they are for.
func letters(entries []redis.Z) []letter {
	type address struct{ queue, key, incarnation, group string }
	byGroup := map[address]*letter{}
	for _, entry := range entries {
		p, _ := readParentage(text(entry.Member))
		to := address{p.queue, p.key, p.incarnation, p.group}
		if byGroup[to] == nil {
			byGroup[to] = &letter{to: p}
		}
		l := byGroup[to]
		l.at, l.entries = append(l.at, p.at), append(l.entries, entry)
	}
	sorted := make([]letter, 0, len(byGroup))
	for _, l := range byGroup {
		slices.Sort(l.at)
		sorted = append(sorted, *l)
	}
	slices.SortFunc(sorted, func(a, b letter) int { return cmp.Compare(a.to.String(), b.to.String()) })
	return sorted
}

// relayed takes entries out of an outbox, but for those that were put there again
// since they were read.
func (s *Store) relayed(ctx context.Context, outbox string, entries []redis.Z) error {
	if len(entries) == 0 {
		return nil
	}
	args := make([]any, 0, 2*len(entries))
	for _, entry := range entries {
		args = append(args, entry.Member, strconv.FormatFloat(entry.Score, 'f', -1, 64))
	}
	_, err := s.runCode(ctx, "relayed", []string{outbox}, args...)
	return err
}
