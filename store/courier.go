package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Relay delivers what jobs of a queue have to tell other jobs: up to 500 children
// that have ended to their parents, and that a parent was cancelled to its children.
// What it delivers is the same when it is delivered again, so any number of
// processes may do so, and one that dies in between leaves it to the next. more:
// there was more than it took.
func (s *Store) Relay(ctx context.Context, queue string) (more bool, err error) {
	more, reported := s.relayReports(ctx, queue)
	cancelled := s.relayOrphans(ctx, queue)
	err = errors.Join(reported, cancelled)
	return more && err == nil, err
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

// orphanStays is how long a cancelled parent is looked at again when not all of its
// children were made: a process that was frozen may make them yet, until then.
const orphanStays = spawnWithin + 5*time.Second

// relayOrphans cancels the children of cancelled parents, of up to ten at a time.
func (s *Store) relayOrphans(ctx context.Context, queue string) error {
	entries, err := s.rdb.ZRangeWithScores(ctx, orphansKey(queue), 0, 9).Result()
	if err != nil || len(entries) == 0 {
		return unreachable(err)
	}
	now, err := s.rdb.Time(ctx).Result()
	if err != nil {
		return unreachable(err)
	}
	var done []redis.Z
	var errs []error
	for _, entry := range entries {
		all, err := s.cancelChildren(ctx, queue, text(entry.Member))
		if err == nil && (all || now.Sub(time.UnixMilli(int64(entry.Score))) > orphanStays) {
			done = append(done, entry)
		}
		errs = append(errs, err)
	}
	errs = append(errs, s.relayed(ctx, orphansKey(queue), done))
	return errors.Join(errs...)
}

// cancelChildren cancels what is open of a cancelled parent's children, but for
// those that are detached. all: each of them was there.
func (s *Store) cancelChildren(ctx context.Context, queue, key string) (all bool, err error) {
	groups, incarnation, err := s.groups(ctx, queue, key)
	if err != nil {
		return false, fmt.Errorf("cancel children of %s/%s: %w", queue, key, err)
	}
	all = true
	for name, g := range groups {
		if g.Detached {
			continue
		}
		d := delivery.Delivery{Hold: delivery.Hold{Queue: queue, Key: key}, Incarnation: incarnation}
		f := &family{s: s, d: d, g: jobs.Group{Name: name}, known: g}
		found, err := f.read(ctx, g.Queue, g.Items)
		if err == nil {
			err = f.cancel(ctx, found)
		}
		if err != nil {
			return false, fmt.Errorf("cancel children of %s/%s: %w", queue, key, err)
		}
		all = all && !slices.ContainsFunc(found, func(e jobs.Ended) bool { return e.State == jobs.StateGone })
	}
	return all, nil
}

// groups returns a job's groups of children, by name, and its incarnation.
func (s *Store) groups(ctx context.Context, queue, key string) (map[string]group, string, error) {
	fields, err := s.rdb.HKeys(ctx, taskKey(queue, key)).Result()
	if err != nil {
		return nil, "", unreachable(err)
	}
	fields = slices.DeleteFunc(fields, func(field string) bool { return !strings.HasPrefix(field, "c:") })
	values, err := s.rdb.HMGet(ctx, taskKey(queue, key), append(fields, "p:kids")...).Result()
	if err != nil {
		return nil, "", unreachable(err)
	}
	groups := map[string]group{}
	for i, field := range fields {
		var g group
		if json.Unmarshal([]byte(text(values[i])), &g) == nil {
			groups[strings.TrimPrefix(field, "c:")] = g
		}
	}
	return groups, text(values[len(fields)]), nil
}

// cancel cancels those children that have not ended, many at a time.
func (f *family) cancel(ctx context.Context, found []jobs.Ended) error {
	by := jobs.Decision{Actor: actorOr(""), Reason: fmt.Sprintf("its parent %s/%s was cancelled", f.d.Queue, f.d.Key)}
	open := make(chan string)
	var workers sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for range 16 {
		workers.Go(func() {
			for key := range open {
				_, err := f.s.Cancel(ctx, f.known.Queue, key, by)
				if err != nil && !errors.Is(err, jobs.ErrConflict) && !errors.Is(err, jobs.ErrNotFound) {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
		})
	}
	for i, e := range found {
		if !hasEnded(e.State) {
			open <- jobs.ChildKey(f.d.Key, f.g.Name, f.known.Items[i])
		}
	}
	close(open)
	workers.Wait()
	return failed
}

// unneeded returns those of the children whose parent asks for them no more: it has
// ended, or is gone. Both are pairs of a key and a p:parent.
func (s *Store) unneeded(ctx context.Context, kept []any) (free []any, err error) {
	pipe := s.rdb.Pipeline()
	parents := make([]*redis.SliceCmd, 0, len(kept)/2)
	for i := 1; i < len(kept); i += 2 {
		p, _ := readParentage(text(kept[i]))
		parents = append(parents, pipe.HMGet(ctx, taskKey(p.queue, p.key), "msg", "p:kids", "p:exp"))
	}
	if _, err := pipe.Exec(ctx); err != nil && !wrongType(err) {
		return nil, fmt.Errorf("look for parents: %w", unreachable(err))
	}
	for i, parent := range parents {
		had, pair := parent.Val(), kept[2*i:2*i+2]
		p, ok := readParentage(text(pair[1]))
		if !ok || len(had) != 3 || had[0] == nil || text(had[1]) != p.incarnation || had[2] != nil {
			free = append(free, pair...)
		}
	}
	return free, nil
}
