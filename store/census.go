package store

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
)

// place is one of the lists and sets that say where a job is.
type place struct {
	key   func(queue string) string
	state string // of the jobs that belong there
	list  bool
	index bool // kept besides the place itself; what "run now" has sent back may still be on it
}

var places = []place{
	{key: pendingKey, state: "pending", list: true},
	{key: activeKey, state: "active", list: true},
	{key: scheduledKey, state: "scheduled"},
	{key: retryKey, state: "retry"},
	{key: archivedKey, state: "archived"},
	{key: completedKey, state: "completed"},
	{key: parkedKey, state: "retry", index: true},
	{key: queuedKey, state: "retry", index: true},
	{key: suspectsKey, state: "retry", index: true},
	{key: deadKey, state: "archived", index: true},
	{key: leaseKey, state: "active", index: true},
}

// census is one pass over all jobs. What it sees in passing is not atomic: a job
// that looks wrong may have moved between two looks. So each such job is judged by
// a script that looks at all its places at once.
type census struct {
	s     *Store
	pace  func(context.Context) error // between two slices of at most 500
	found delivery.Census
	seed  maphash.Seed
	// lists are the jobs of each queue's pending and active lists, as hashes, as they
	// were at a time (by Redis' clock).
	lists map[string]map[uint64]bool
	began time.Time
}

// Census looks at every job from both sides, its hash and the places that name it,
// and puts right what is wrong: entries without a job, jobs in no place or in two,
// running jobs that nobody owns, owners that nobody watches. pace is called between
// slices of at most 500 jobs and may wait; its error ends the census.
func (s *Store) Census(ctx context.Context, pace func(context.Context) error) (delivery.Census, error) {
	now, err := s.rdb.Time(ctx).Result()
	if err != nil {
		return delivery.Census{}, fmt.Errorf("census: %w", unreachable(err))
	}
	c := &census{
		s: s, pace: pace, seed: maphash.MakeSeed(), lists: map[string]map[uint64]bool{}, began: now,
		found: delivery.Census{At: now.UTC(), Drift: map[string]map[string]int{}},
	}
	started := time.Now()
	queues, err := s.servedQueues(ctx)
	for _, queue := range queues {
		if err == nil {
			err = c.places(ctx, queue)
		}
		if err == nil {
			err = c.groups(ctx, queue)
		}
	}
	if err == nil {
		err = c.hashes(ctx)
	}
	if err != nil {
		return delivery.Census{}, fmt.Errorf("census: %w", err)
	}
	c.found.Took = time.Since(started)
	return c.found, unreachable(s.rdb.Set(ctx, censusKey, mustJSON(c.found), 0).Err())
}

// servedQueues are those that perdure has ever claimed from. Others are none of its
// business: a server of asynq's own may serve them.
func (s *Store) servedQueues(ctx context.Context) ([]string, error) {
	queues, err := s.Queues(ctx)
	if err != nil || len(queues) == 0 {
		return nil, err
	}
	pipe := s.rdb.Pipeline()
	claimed := make([]*redis.IntCmd, len(queues))
	for i, queue := range queues {
		claimed[i] = pipe.Exists(ctx, tokensKey(queue))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, unreachable(err)
	}
	var served []string
	for i, queue := range queues {
		if claimed[i].Val() == 1 {
			served = append(served, queue)
		}
	}
	return served, nil
}

// TakeCensus reports whether this process is the one to take a census now: for each
// purpose, one of the fleet is in a period. It spares work; nothing depends on it.
func (s *Store) TakeCensus(ctx context.Context, purpose string, period time.Duration) (bool, error) {
	ok, err := s.rdb.SetNX(ctx, takerKey+":"+purpose, 1, period).Result()
	return ok, unreachable(err)
}

// LastCensus returns what the last census found, whoever took it; its time is zero
// when there was none.
func (s *Store) LastCensus(ctx context.Context) (c delivery.Census, err error) {
	pipe := s.rdb.Pipeline()
	data, now := pipe.Get(ctx, censusKey), pipe.Time(ctx)
	if _, err := pipe.Exec(ctx); err != nil && err != redis.Nil {
		return c, unreachable(err)
	}
	if data.Err() == redis.Nil {
		return c, nil
	}
	err = json.Unmarshal([]byte(data.Val()), &c)
	c.Age = now.Val().Sub(c.At)
	return c, err
}

// places looks at each place of a queue, slice by slice.
func (c *census) places(ctx context.Context, queue string) error {
	c.lists[queue] = map[uint64]bool{}
	for _, p := range places {
		for at, more := uint64(0), true; more; more = at != 0 {
			keys, next, err := c.slice(ctx, p, queue, at)
			if err != nil {
				return err
			}
			if err := c.entries(ctx, p, queue, keys); err != nil {
				return err
			}
			if at = next; at != 0 {
				if err := c.pace(ctx); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// slice reads up to about 500 entries of a place, and where the next slice begins,
// 0 after the last.
func (c *census) slice(ctx context.Context, p place, queue string, at uint64) (keys []string, next uint64, err error) {
	if p.list {
		keys, err = c.s.rdb.LRange(ctx, p.key(queue), int64(at), int64(at)+maxBatch-1).Result()
		if next = at + maxBatch; len(keys) < maxBatch {
			next = 0
		}
		for _, key := range keys {
			c.lists[queue][c.hash(p, key)] = true
		}
		return keys, next, unreachable(err)
	}
	pairs, next, err := c.s.rdb.ZScan(ctx, p.key(queue), at, "", maxBatch).Result()
	for i := 0; i < len(pairs); i += 2 {
		keys = append(keys, pairs[i])
	}
	return keys, next, unreachable(err)
}

func (c *census) hash(p place, key string) uint64 { return maphash.String(c.seed, p.state+" "+key) }

// entries judges the entries of a place whose job does not say that it is there,
// and those that a slice of a list has twice. (A second entry further away is
// dropped by the claim that meets it, or does not fit any more when the job ends.)
func (c *census) entries(ctx context.Context, p place, queue string, keys []string) error {
	views, err := c.glance(ctx, queue, keys)
	if err != nil || len(keys) == 0 {
		return err
	}
	owned := make([]bool, len(keys))
	if p.list && p.state == "active" {
		if owned, err = c.owned(ctx, queue, keys, views); err != nil {
			return err
		}
	}
	seen := map[string]bool{}
	for i, v := range views {
		twice := p.list && seen[keys[i]]
		seen[keys[i]] = true
		fits := v.state == p.state || p.index && v.state == "pending"
		if !v.there || !fits || twice || p.list && p.state == "active" && !owned[i] {
			if err := c.judge(ctx, queue, keys[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// owned says of each running job whether the owner in its token knows of it.
func (c *census) owned(ctx context.Context, queue string, keys []string, views []view) ([]bool, error) {
	pipe := c.s.rdb.Pipeline()
	tokens := make([]*redis.StringCmd, len(keys))
	for i, v := range views {
		tokens[i] = pipe.HGet(ctx, ownerKey(queue, ownerOf(v.token)), keys[i])
	}
	if _, err := pipe.Exec(ctx); err != nil && err != redis.Nil {
		return nil, unreachable(err)
	}
	owned := make([]bool, len(keys))
	for i, v := range views {
		owned[i] = v.token != "" && tokens[i].Val() == v.token
	}
	return owned, nil
}

// view is what a job's hash says in passing.
type view struct {
	there        bool
	state, token string
	signature    string // of its group, when it is quarantined
	lane         string // that it waits in
	pendingSince int64  // ns
}

func (c *census) glance(ctx context.Context, queue string, keys []string) ([]view, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	pipe := c.s.rdb.Pipeline()
	there, fields := make([]*redis.BoolCmd, len(keys)), make([]*redis.SliceCmd, len(keys))
	for i, key := range keys {
		there[i] = pipe.HExists(ctx, taskKey(queue, key), "msg")
		fields[i] = pipe.HMGet(ctx, taskKey(queue, key), "state", "p:tok", "pending_since", "p:sig", "p:wait")
	}
	if _, err := pipe.Exec(ctx); err != nil && !wrongType(err) {
		return nil, unreachable(err)
	}
	views := make([]view, len(keys))
	for i := range keys {
		if found := fields[i].Val(); len(found) == 5 {
			since, _ := strconv.ParseInt(text(found[2]), 10, 64)
			views[i] = view{there[i].Val(), text(found[0]), text(found[1]), text(found[3]), laneOf(text(found[4])), since}
		}
	}
	return views, nil
}

func wrongType(err error) bool { return strings.HasPrefix(err.Error(), "WRONGTYPE") }

// hashes goes through all jobs and owners' lists of the database, and judges those
// that no place names.
func (c *census) hashes(ctx context.Context) error {
	return c.s.scanKeys(ctx, "*}:[ot]*", func(names []string) error {
		tasks := map[string][]string{}
		for _, name := range names {
			if queue, key, ok := strings.Cut(strings.TrimPrefix(name, "asynq:{"), "}:t:"); ok && strings.HasPrefix(name, "asynq:{") {
				tasks[queue] = append(tasks[queue], key)
			}
			if queue, owner, ok := strings.Cut(strings.TrimPrefix(name, "perdure:{"), "}:own:"); ok {
				if err := c.owner(ctx, queue, owner); err != nil {
					return err
				}
			}
		}
		for queue, keys := range tasks {
			if c.lists[queue] == nil {
				continue // not ours
			}
			if err := c.tasks(ctx, queue, keys); err != nil {
				return err
			}
		}
		return c.pace(ctx)
	})
}

// tasks judges the jobs that are not in the place that their state names.
func (c *census) tasks(ctx context.Context, queue string, keys []string) error {
	c.found.Jobs += len(keys)
	views, err := c.glance(ctx, queue, keys)
	if err != nil {
		return err
	}
	pipe := c.s.rdb.Pipeline()
	scores, indexed := make([]*redis.FloatCmd, len(keys)), make([][]*redis.FloatCmd, len(keys))
	for i, v := range views {
		if p := placeOf(v.state); p != nil && !p.list {
			scores[i] = pipe.ZScore(ctx, p.key(queue), keys[i])
		}
		if v.state == "retry" && v.lane != "" {
			indexed[i] = []*redis.FloatCmd{pipe.ZScore(ctx, laneKey(queue, v.lane), keys[i])}
		}
		if v.state == "archived" {
			indexed[i] = []*redis.FloatCmd{pipe.ZScore(ctx, deadKey(queue), keys[i]), pipe.ZScore(ctx, groupKeysKey(queue, v.signature), keys[i])}
		}
	}
	if _, err := pipe.Exec(ctx); err != nil && err != redis.Nil {
		return unreachable(err)
	}
	for i, v := range views {
		if v.state == "aggregating" || c.inPlace(queue, keys[i], v, scores[i]) && there(indexed[i]) && (v.token != "") == (v.state == "active") {
			continue
		}
		if err := c.judge(ctx, queue, keys[i]); err != nil {
			return err
		}
	}
	return nil
}

// there reports that a job is on all of these.
func there(scores []*redis.FloatCmd) bool {
	for _, score := range scores {
		if score.Err() != nil {
			return false
		}
	}
	return true
}

// inPlace reports that a job is where it says it is, as far as can be seen. The
// lists were read before: what has come to them since is taken to be there.
func (c *census) inPlace(queue, key string, v view, score *redis.FloatCmd) bool {
	p := placeOf(v.state)
	switch {
	case !v.there || p == nil:
		return false
	case !p.list:
		return score.Err() == nil
	case p.state == "pending" && v.pendingSince > c.began.UnixNano():
		return true
	}
	return c.lists[queue][c.hash(*p, key)]
}

func placeOf(state string) *place {
	for i := range places {
		if !places[i].index && places[i].state == state {
			return &places[i]
		}
	}
	return nil
}

// owner makes sure that the silence of an owner that holds jobs would be noticed:
// one that is on no list of the living is put there. If it lives it goes on beating;
// if not its jobs are reclaimed.
func (c *census) owner(ctx context.Context, queue, owner string) error {
	fields, err := c.s.rdb.HKeys(ctx, ownerKey(queue, owner)).Result()
	if err != nil {
		return unreachable(err)
	}
	if len(fields) == 0 || len(fields) == 1 && fields[0] == "!fenced" {
		return nil
	}
	_, err = c.s.rdb.ZScore(ctx, ownersKey, owner).Result()
	if err != redis.Nil {
		return unreachable(err)
	}
	if _, err := c.s.Beat(ctx, owner, true); err != nil {
		return err
	}
	c.count(queue, "unwatched owner")
	return nil
}

// judge has the script look at a job in all places, and counts what was wrong.
func (c *census) judge(ctx context.Context, queue, key string) error {
	wrong, err := c.s.Mend(ctx, queue, key)
	if err != nil && strings.Contains(err.Error(), "WRONGTYPE") {
		wrong, err = []string{"foreign key"}, nil // something else has a job's name; it is shown, and not touched
	}
	for _, what := range wrong {
		c.count(queue, what)
	}
	return err
}

func (c *census) count(queue, what string) {
	if c.found.Drift[queue] == nil {
		c.found.Drift[queue] = map[string]int{}
	}
	c.found.Drift[queue][what]++
}

// Mend looks at one job in all places, within one script, and puts right what is
// wrong. It returns what that was; nothing is touched when nothing was.
func (s *Store) Mend(ctx context.Context, queue, key string) ([]string, error) {
	keys := []string{
		taskKey(queue, key), pendingKey(queue), activeKey(queue), scheduledKey(queue), retryKey(queue), archivedKey(queue), completedKey(queue),
		leaseKey(queue), parkedKey(queue), deadKey(queue), suspectsKey(queue), "", eventsKey(queue), forgottenKey(queue), reportsKey(queue), groupsKey(queue),
		queuedKey(queue), "", lanesKey(queue),
	}
	for range 10 {
		token, lane, entry, err := s.tokenAndEntry(ctx, queue, key)
		if err != nil {
			return nil, fmt.Errorf("mend %s/%s: %w", queue, key, unreachable(err))
		}
		if keys[11] = taskKey(queue, key); token != "" {
			keys[11] = ownerKey(queue, ownerOf(token))
		}
		if keys[17] = taskKey(queue, key); lane != "" {
			keys[17] = laneKey(queue, lane)
		}
		reply, err := s.run(ctx, "census", keys, key, token, mustJSON(entry), leaseSeconds, entry.Signature, about(entry), entry.Version, lane)
		if err != nil {
			return nil, fmt.Errorf("mend %s/%s: %w", queue, key, err)
		}
		var wrong []string
		parts, _ := reply.([]any)
		for _, part := range parts {
			wrong = append(wrong, text(part))
		}
		if len(wrong) != 1 || wrong[0] != "again" {
			return wrong, nil
		}
	}
	return nil, nil // it moves faster than it is looked at, so it is not stuck
}

// tokenAndEntry reads the token of a job, the lane it waits in and its quarantine
// entry; of a job that has none, the one that it gets if it turns out to be archived.
func (s *Store) tokenAndEntry(ctx context.Context, queue, key string) (token, lane string, entry delivery.Entry, err error) {
	had, err := s.rdb.HMGet(ctx, taskKey(queue, key), "p:tok", "p:dead", "msg", "p:wait").Result()
	if err != nil {
		return "", "", entry, unreachable(err)
	}
	if json.Unmarshal([]byte(text(had[1])), &entry) != nil {
		entry = archivedElsewhere
		if m, err := readMessage(key, []byte(text(had[2]))); err == nil {
			entry.Kind, entry.Tenant = m.Type, m.Headers[headerTenant]
		} else {
			entry.Unreadable = true
		}
	}
	return text(had[0]), laneOf(text(had[3])), entry.Signed(), nil
}

// scanKeys calls do with all keys that match, slice by slice, on every master.
func (s *Store) scanKeys(ctx context.Context, pattern string, do func(keys []string) error) error {
	scan := func(ctx context.Context, rdb redis.Cmdable) error {
		for at, more := uint64(0), true; more; more = at != 0 {
			keys, next, err := rdb.Scan(ctx, at, pattern, maxBatch).Result()
			if err != nil {
				return unreachable(err)
			}
			if err := do(keys); err != nil {
				return err
			}
			at = next
		}
		return nil
	}
	cluster, ok := s.rdb.(*redis.ClusterClient)
	if !ok {
		return scan(ctx, s.rdb)
	}
	var one sync.Mutex // the masters are visited at the same time
	return cluster.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
		one.Lock()
		defer one.Unlock()
		return scan(ctx, master)
	})
}
