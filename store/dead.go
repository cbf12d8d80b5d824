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

// deadRead is how many entries one page looks at, at most.
const deadRead = 2000

// archivedElsewhere is the entry of a job that asynq's own tools archived.
var archivedElsewhere = delivery.Entry{Class: jobs.ClassUnknown, Rule: "archived elsewhere", Reason: "archived with asynq's tools"}

// entryOf completes the entry of a job that is quarantined with what is known of
// the job.
func entryOf(d delivery.Delivery, e delivery.Entry) delivery.Entry {
	e.Kind, e.Version, e.Tenant, e.Unreadable = d.Kind, d.Version, d.Tenant, d.Undecodable != nil
	return e.Signed()
}

// groupAbout is what the entries of a group have in common.
type groupAbout struct {
	Kind    string     `json:"kind"`
	Class   jobs.Class `json:"class"`
	Step    string     `json:"step,omitempty"`
	Message string     `json:"message"`
}

func about(e delivery.Entry) string {
	return mustJSON(groupAbout{e.Kind, e.Class, delivery.Normalise(e.Step), delivery.Normalise(e.Message)})
}

func groupKey(queue, signature string) string { return groupsKey(queue) + ":" + signature }

func groupKeysKey(queue, signature string) string { return groupKey(queue, signature) + ":keys" }

// Dead returns a page of entries.
func (s *Store) Dead(ctx context.Context, q delivery.DeadQuery) (delivery.DeadPage, error) {
	page := delivery.DeadPage{Entries: []delivery.Dead{}}
	if err := q.Filter.Check(); err != nil {
		return page, err
	}
	walk, err := s.newWalk(ctx, q.Queue, q.Cursor, q.Limit, q.Newest)
	if err != nil {
		return page, err
	}
	if q.Filter.Key != "" {
		err := s.keyed(ctx, &page, walk.queues, q.Filter)
		return page, err
	}
	walk.since, walk.before = q.Filter.Since, q.Filter.Before
	walk.index = func(queue string) string {
		if q.Filter.Signature != "" {
			return groupKeysKey(queue, q.Filter.Signature)
		}
		return deadKey(queue)
	}
	if rest := (delivery.DeadFilter{Signature: q.Filter.Signature, Since: q.Filter.Since, Before: q.Filter.Before}); q.Filter != rest {
		walk.slice = maxBatch
	}
	page.Next, err = walk.run(ctx, func(queue string, found []redis.Z) (int, bool, error) {
		entries, err := s.deadOf(ctx, queue, found)
		if err != nil {
			return 0, false, err
		}
		for i, d := range entries {
			if len(page.Entries) == walk.limit {
				return i, true, nil
			}
			page.Read++
			if d.Key != "" && q.Filter.Match(d) {
				page.Entries = append(page.Entries, d)
			}
		}
		return len(entries), len(page.Entries) == walk.limit, nil
	})
	if err != nil {
		return page, fmt.Errorf("list quarantined jobs: %w", err)
	}
	return page, nil
}

// keyed adds the entries of one key, in whichever queue.
func (s *Store) keyed(ctx context.Context, page *delivery.DeadPage, queues []string, filter delivery.DeadFilter) error {
	for _, queue := range queues {
		at, err := s.rdb.ZScore(ctx, deadKey(queue), filter.Key).Result()
		if err == redis.Nil {
			continue
		}
		var entries []delivery.Dead
		if err == nil {
			entries, err = s.deadOf(ctx, queue, []redis.Z{{Member: filter.Key, Score: at}})
		}
		if err != nil {
			return fmt.Errorf("list quarantined jobs: %w", unreachable(err))
		}
		page.Read++
		if entries[0].Key != "" && filter.Match(entries[0]) {
			page.Entries = append(page.Entries, entries[0])
		}
	}
	return nil
}

// deadOf reads the entries that an index names; one whose job is gone is zero.
func (s *Store) deadOf(ctx context.Context, queue string, found []redis.Z) ([]delivery.Dead, error) {
	pipe := s.rdb.Pipeline()
	fields := make([]*redis.SliceCmd, len(found))
	for i, z := range found {
		fields[i] = pipe.HMGet(ctx, taskKey(queue, text(z.Member)), "state", "p:dead", "p:erased")
	}
	if _, err := pipe.Exec(ctx); err != nil && !wrongType(err) {
		return nil, unreachable(err)
	}
	entries := make([]delivery.Dead, len(found))
	for i, z := range found {
		had := fields[i].Val()
		if len(had) != 3 || had[0] == nil {
			continue
		}
		d := delivery.Dead{Queue: queue, Key: text(z.Member), At: time.UnixMilli(int64(z.Score)).UTC(), Erased: text(had[2])}
		if json.Unmarshal([]byte(text(had[1])), &d.Entry) != nil {
			d.Entry = archivedElsewhere.Signed()
		}
		entries[i] = d
	}
	return entries, nil
}

// walk goes through a sorted set of each queue, or of one, page by page.
type walk struct {
	s             *Store
	queues        []string
	at            cursor
	limit, slice  int
	newest        bool
	since, before time.Time
	index         func(queue string) string
}

func (s *Store) newWalk(ctx context.Context, queue, from string, limit int, newest bool) (*walk, error) {
	if limit == 0 {
		limit = 50
	}
	w := &walk{s: s, queues: []string{queue}, limit: limit, slice: limit, newest: newest}
	if limit < 1 || limit > maxBatch {
		return nil, &jobs.InvalidError{Field: "limit", Value: limit, Bound: "from 1 to 500"}
	}
	if queue != "" {
		if err := jobs.CheckQueue(queue); err != nil {
			return nil, err
		}
	} else if all, err := s.Queues(ctx); err != nil {
		return nil, err
	} else {
		w.queues = all
	}
	if from == "" {
		return w, nil
	}
	at, err := decodeCursor(from)
	if err != nil {
		return nil, err
	}
	for i, name := range w.queues {
		if name == at.Queue {
			w.queues, w.at = w.queues[i:], at
			return w, nil
		}
	}
	return nil, &jobs.InvalidError{Field: "cursor", Value: from, Bound: "the next of a page of the same query"}
}

// run hands slices of the index to take, which returns how many of them it took
// and whether the page is full. It returns where the next page begins.
func (w *walk) run(ctx context.Context, take func(queue string, found []redis.Z) (int, bool, error)) (next string, err error) {
	for read := 0; len(w.queues) > 0; {
		queue := w.queues[0]
		found, more, err := w.read(ctx, queue)
		if err != nil {
			return "", unreachable(err)
		}
		taken, full, err := take(queue, found)
		if err != nil {
			return "", err
		}
		read += taken
		if taken > 0 {
			w.after(queue, found[taken-1])
		}
		if more = more || taken < len(found); !more {
			w.queues, w.at = w.queues[1:], cursor{}
		}
		if full || read >= deadRead {
			return w.next(), nil
		}
	}
	return "", nil
}

func (w *walk) after(queue string, z redis.Z) {
	w.at = cursor{Queue: queue, State: jobs.StateQuarantined, Member: text(z.Member), Score: strconv.FormatFloat(z.Score, 'f', -1, 64)}
}

func (w *walk) next() string {
	if w.at.Queue == "" && len(w.queues) > 0 {
		w.at = cursor{Queue: w.queues[0], State: jobs.StateQuarantined}
	}
	if len(w.queues) == 0 {
		return ""
	}
	return w.at.encode()
}

// read returns the next entries of a queue's index, and whether there may be more.
func (w *walk) read(ctx context.Context, queue string) (found []redis.Z, more bool, err error) {
	name := w.index(queue)
	start, err := w.start(ctx, name)
	if err != nil {
		return nil, false, err
	}
	found, err = w.s.rdb.ZRangeArgsWithScores(ctx, redis.ZRangeArgs{Key: name, Start: start, Stop: start + int64(w.slice) - 1, Rev: w.newest}).Result()
	for i, z := range found {
		at := time.UnixMilli(int64(z.Score))
		if w.newest && at.Before(w.since) || !w.newest && !w.before.IsZero() && !at.Before(w.before) {
			return found[:i], false, err
		}
	}
	return found, len(found) == w.slice, err
}

// start is the rank of the first entry to read. When the last one seen has left, it
// is that of the first with the same score: some may be repeated, none is missed.
func (w *walk) start(ctx context.Context, name string) (int64, error) {
	if w.at.Member != "" {
		pipe := w.s.rdb.TxPipeline()
		score, rank := pipe.ZScore(ctx, name, w.at.Member), pipe.ZRank(ctx, name, w.at.Member)
		if w.newest {
			rank = pipe.ZRevRank(ctx, name, w.at.Member)
		}
		if _, err := pipe.Exec(ctx); err != nil && err != redis.Nil {
			return 0, err
		}
		if rank.Err() == nil && strconv.FormatFloat(score.Val(), 'f', -1, 64) == w.at.Score {
			return rank.Val() + 1, nil
		}
		if w.newest {
			return w.s.rdb.ZCount(ctx, name, "("+w.at.Score, "+inf").Result()
		}
		return w.s.rdb.ZCount(ctx, name, "-inf", "("+w.at.Score).Result()
	}
	switch {
	case w.newest && !w.before.IsZero():
		return w.s.rdb.ZCount(ctx, name, milliText(w.before), "+inf").Result()
	case !w.newest && !w.since.IsZero():
		return w.s.rdb.ZCount(ctx, name, "-inf", "("+milliText(w.since)).Result()
	}
	return 0, nil
}

func milliText(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }
