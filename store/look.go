package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/jobs"
)

// Get implements [jobs.Client].
func (s *Store) Get(ctx context.Context, queue, key string) (jobs.Info, error) {
	infos, err := surely(ctx, func() ([]jobs.Info, error) { return s.fetch(ctx, queue, []string{key}) })
	if err != nil {
		return jobs.Info{}, fmt.Errorf("get %s/%s: %w", queue, key, err)
	}
	if len(infos) == 0 {
		return jobs.Info{}, fmt.Errorf("get %s/%s: %w", queue, key, jobs.ErrNotFound)
	}
	return infos[0], nil
}

// fetch reads the jobs that exist among keys, in one round trip.
func (s *Store) fetch(ctx context.Context, queue string, keys []string) ([]jobs.Info, error) {
	pipe := s.rdb.Pipeline()
	hashes := make([]*redis.MapStringStringCmd, len(keys))
	dues := make([]*redis.FloatCmd, len(keys))
	for i, key := range keys {
		hashes[i] = pipe.HGetAll(ctx, taskKey(queue, key))
		dues[i] = pipe.ZScore(ctx, scheduledKey(queue), key)
	}
	if _, err := pipe.Exec(ctx); err != nil && err != redis.Nil {
		return nil, unreachable(err)
	}
	var infos []jobs.Info
	for i, key := range keys {
		h := hash(hashes[i].Val())
		if _, there := h["msg"]; !there {
			continue
		}
		info := h.info(queue, key)
		if info.State == jobs.StateScheduled && dues[i].Err() == nil {
			info.DueAt = time.Unix(int64(dues[i].Val()), 0).UTC()
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// Payload returns a job's payload as stored; of a job whose message cannot be
// read, the whole message.
func (s *Store) Payload(ctx context.Context, queue, key string) ([]byte, error) {
	m, data, err := s.message(ctx, queue, key)
	if err != nil || m == nil {
		return data, err
	}
	return m.Payload, nil
}

// Unreadable returns the message of a job as stored when it cannot be read, and
// nil when it can.
func (s *Store) Unreadable(ctx context.Context, queue, key string) ([]byte, error) {
	m, data, err := s.message(ctx, queue, key)
	if err != nil || m != nil {
		return nil, err
	}
	return data, nil
}

// message returns a job's message and its bytes; m is nil when they cannot be read.
func (s *Store) message(ctx context.Context, queue, key string) (m *message, data []byte, err error) {
	data, err = s.field(ctx, queue, key, "msg")
	if err == redis.Nil {
		return nil, nil, fmt.Errorf("message of %s/%s: %w", queue, key, jobs.ErrNotFound)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("message of %s/%s: %w", queue, key, err)
	}
	if m, err = readMessage(key, data); err != nil {
		return nil, data, nil
	}
	return m, data, nil
}

// outage is how long Redis may be away while a wait goes on: the jobs go on too
// once it is back.
const outage = 30 * time.Second

// Wait implements [jobs.Client]. It looks again and again, at first every 20 ms
// and then up to four times a second.
func (s *Store) Wait(ctx context.Context, queue, key string) (jobs.Info, error) {
	seen := time.Now()
	for pause := 20 * time.Millisecond; ; pause = min(pause*3/2, 250*time.Millisecond) {
		info, err := s.Get(ctx, queue, key)
		away := errors.Is(err, jobs.ErrUnavailable) && time.Since(seen) < outage
		if err != nil && !over(ctx) && !away || info.State.Ended() {
			return info, err
		}
		if !away {
			seen = time.Now()
		}
		if !sleep(ctx, pause) {
			info, _ := s.Get(context.WithoutCancel(ctx), queue, key)
			return info, fmt.Errorf("wait for %s/%s: %w", queue, key, context.Cause(ctx))
		}
	}
}

// over reports that a context has ended or is about to: a call that its deadline
// cut off may come back a moment before the context itself says so.
func over(ctx context.Context) bool {
	deadline, bounded := ctx.Deadline()
	return ctx.Err() != nil || bounded && time.Until(deadline) < 5*time.Millisecond
}

// cursor is where the next page of a list begins.
type cursor struct {
	Queue  string     `json:"q"`
	State  jobs.State `json:"s"`
	Turn   bool       `json:"t,omitempty"` // pending jobs that wait their turn
	Offset int64      `json:"o,omitempty"` // lists
	Score  string     `json:"c,omitempty"` // sorted sets: the last entry seen
	Member string     `json:"m,omitempty"`
}

func (c cursor) encode() string { return base64.RawURLEncoding.EncodeToString([]byte(mustJSON(c))) }

func decodeCursor(text string) (cursor, error) {
	var c cursor
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if _, bad := strconv.ParseFloat(c.Score, 64); err == nil && c.Score != "" {
		err = bad
	}
	if _, bad := strconv.ParseFloat(c.Score, 64); err == nil && (c.Score != "" || c.Member != "") {
		err = bad
	}
	if err != nil || c.Offset < 0 {
		return c, &jobs.InvalidError{Field: "cursor", Value: text, Bound: "the next of an earlier page"}
	}
	return c, nil
}

// List implements [jobs.Client]. One call reads at most ten times the limit, so
// that a rare kind cannot make it long; the page then has a Next all the same.
func (s *Store) List(ctx context.Context, q jobs.Query) (jobs.Page, error) {
	page := jobs.Page{Jobs: []jobs.Info{}}
	if q.Limit == 0 {
		q.Limit = 50
	}
	places, at, err := s.places(ctx, q)
	if err != nil {
		return page, err
	}
	for read := 0; len(places) > 0; {
		if len(page.Jobs) >= q.Limit || read >= 10*q.Limit {
			page.Next = at.encode()
			return page, nil
		}
		entries, err := s.scan(ctx, at, q.Limit)
		if err != nil {
			return page, fmt.Errorf("list jobs: %w", unreachable(err))
		}
		read += len(entries)
		keys := make([]string, len(entries))
		for i, entry := range entries {
			keys[i] = entry.key
		}
		found, err := s.fetch(ctx, at.Queue, keys)
		if err != nil {
			return page, fmt.Errorf("list jobs: %w", err)
		}
		if last, all := takeJobs(&page, found, at.State, q); !all {
			page.Next = entries[slices.Index(keys, last)].after.encode()
			return page, nil
		}
		if len(entries) == q.Limit {
			at = entries[len(entries)-1].after
			continue
		}
		if places = places[1:]; len(places) > 0 {
			at = places[0]
		}
	}
	return page, nil
}

// takeJobs adds the jobs that match to the page until it is full. It returns the
// last key that it looked at, and whether it looked at all.
func takeJobs(page *jobs.Page, found []jobs.Info, state jobs.State, q jobs.Query) (last string, all bool) {
	for _, info := range found {
		if len(page.Jobs) == q.Limit {
			return last, false
		}
		last = info.Key
		if info.State == state && (q.Kind == "" || q.Kind == info.Kind) {
			page.Jobs = append(page.Jobs, info)
		}
	}
	return last, true
}

// places lists what a query goes through, one state of one queue at a time, and
// where it begins.
func (s *Store) places(ctx context.Context, q jobs.Query) (places []cursor, at cursor, err error) {
	if q.Limit < 1 || q.Limit > maxBatch {
		return nil, at, &jobs.InvalidError{Field: "limit", Value: q.Limit, Bound: "from 1 to 500"}
	}
	states := jobs.States()
	if q.State != "" {
		states = []jobs.State{q.State}
		if _, isList := stateKey("q", q.State); !isList && !knownState(q.State) {
			return nil, at, &jobs.InvalidError{Field: "state", Value: string(q.State), Bound: fmt.Sprintf("one of %v", jobs.States())}
		}
	}
	queues := []string{q.Queue}
	if q.Queue == "" {
		if queues, err = s.Queues(ctx); err != nil {
			return nil, at, err
		}
	} else if err := jobs.CheckQueue(q.Queue); err != nil {
		return nil, at, err
	}
	for _, queue := range queues {
		for _, state := range states {
			if state == jobs.StatePending {
				places = append(places, cursor{Queue: queue, State: state, Turn: true}) // these go first
			}
			places = append(places, cursor{Queue: queue, State: state})
		}
	}
	if q.Cursor == "" {
		if len(places) > 0 {
			at = places[0]
		}
		return places, at, nil
	}
	if at, err = decodeCursor(q.Cursor); err != nil {
		return nil, at, err
	}
	for i, place := range places {
		if place.Queue == at.Queue && place.State == at.State && place.Turn == at.Turn {
			return places[i:], at, nil
		}
	}
	return nil, at, &jobs.InvalidError{Field: "cursor", Value: q.Cursor, Bound: "the next of a page of the same query"}
}

func knownState(state jobs.State) bool {
	for _, known := range jobs.States() {
		if known == state {
			return true
		}
	}
	return false
}

// stateKey is where asynq keeps the jobs of a state. Two states share the retry
// set and two the completed set; paused jobs have an index of their own.
func stateKey(queue string, state jobs.State) (name string, isList bool) {
	switch state {
	case jobs.StatePending:
		return pendingKey(queue), true
	case jobs.StateRunning:
		return activeKey(queue), true
	case jobs.StateScheduled:
		return scheduledKey(queue), false
	case jobs.StateRetrying:
		return retryKey(queue), false
	case jobs.StatePaused:
		return parkedKey(queue), false
	case jobs.StateQuarantined:
		return archivedKey(queue), false
	default:
		return completedKey(queue), false
	}
}

// listed is a key in a place, and where a page that ends with it goes on.
type listed struct {
	key   string
	after cursor
}

// scan reads the next keys from a place. Lists shift while jobs are taken from
// them, so a page of pending jobs may repeat or miss some; sets do not.
func (s *Store) scan(ctx context.Context, at cursor, limit int) ([]listed, error) {
	name, isList := stateKey(at.Queue, at.State)
	if at.Turn {
		name, isList = queuedKey(at.Queue), false
	}
	var found []listed
	if isList {
		// The head of the queue is the list's right end.
		keys, err := s.rdb.LRange(ctx, name, -at.Offset-int64(limit), -at.Offset-1).Result()
		for _, key := range slices.Backward(keys) {
			at.Offset++
			found = append(found, listed{key, at})
		}
		return found, err
	}
	start, err := s.rankAfter(ctx, name, at)
	if err != nil {
		return nil, err
	}
	entries, err := s.rdb.ZRangeWithScores(ctx, name, start, start+int64(limit)-1).Result()
	for _, entry := range entries {
		at.Member, _ = entry.Member.(string)
		at.Score = strconv.FormatFloat(entry.Score, 'f', -1, 64)
		found = append(found, listed{at.Member, at})
	}
	return found, err
}

// rankAfter is the rank behind the last entry seen. When that entry has left its
// place since, it is the rank of the first one with the same score: some may be
// repeated, none is missed.
func (s *Store) rankAfter(ctx context.Context, name string, at cursor) (int64, error) {
	if at.Member == "" {
		return 0, nil
	}
	pipe := s.rdb.TxPipeline()
	rank, score := pipe.ZRank(ctx, name, at.Member), pipe.ZScore(ctx, name, at.Member)
	if _, err := pipe.Exec(ctx); err != nil && err != redis.Nil {
		return 0, err
	}
	if rank.Err() == nil && score.Err() == nil && strconv.FormatFloat(score.Val(), 'f', -1, 64) == at.Score {
		return rank.Val() + 1, nil
	}
	return s.rdb.ZCount(ctx, name, "-inf", "("+at.Score).Result()
}
