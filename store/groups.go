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

// groupKept is how long a group without entries is remembered, from when it was
// last seen.
const groupKept = 90 * 24 * time.Hour

// DeadGroups returns a page of groups, last seen first; of one state when one is
// given, else those that have entries.
func (s *Store) DeadGroups(ctx context.Context, queue string, state delivery.GroupState, limit int, from string) (groups []delivery.DeadGroup, next string, err error) {
	groups = []delivery.DeadGroup{}
	walk, err := s.newWalk(ctx, queue, from, limit, true)
	if err != nil {
		return groups, "", err
	}
	walk.index = groupsKey
	next, err = walk.run(ctx, func(queue string, found []redis.Z) (int, bool, error) {
		all, err := s.groupsOf(ctx, queue, found)
		for i, g := range all {
			if len(groups) == walk.limit {
				return i, true, nil
			}
			if g.State == state || state == "" && g.Entries > 0 {
				groups = append(groups, g)
			}
		}
		return len(all), len(groups) == walk.limit, err
	})
	if err != nil {
		return groups, "", fmt.Errorf("list groups: %w", err)
	}
	return groups, next, nil
}

// DeadGroup returns one group. ErrNotFound: nothing of that signature was seen.
func (s *Store) DeadGroup(ctx context.Context, queue, signature string) (delivery.DeadGroup, error) {
	if err := (delivery.DeadFilter{Signature: signature}).Check(); err != nil {
		return delivery.DeadGroup{}, err
	}
	score, err := s.rdb.ZScore(ctx, groupsKey(queue), signature).Result()
	if err == redis.Nil {
		return delivery.DeadGroup{}, fmt.Errorf("group %s of queue %s: %w", signature, queue, errUnknownGroup)
	}
	if err == nil {
		var groups []delivery.DeadGroup
		if groups, err = s.groupsOf(ctx, queue, []redis.Z{{Member: signature, Score: score}}); err == nil {
			return groups[0], nil
		}
	}
	return delivery.DeadGroup{}, fmt.Errorf("group %s of queue %s: %w", signature, queue, unreachable(err))
}

func (s *Store) groupsOf(ctx context.Context, queue string, found []redis.Z) ([]delivery.DeadGroup, error) {
	pipe := s.rdb.Pipeline()
	hashes, counts := make([]*redis.MapStringStringCmd, len(found)), make([]*redis.IntCmd, len(found))
	for i, z := range found {
		hashes[i] = pipe.HGetAll(ctx, groupKey(queue, text(z.Member)))
		counts[i] = pipe.ZCard(ctx, groupKeysKey(queue, text(z.Member)))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, unreachable(err)
	}
	groups := make([]delivery.DeadGroup, len(found))
	for i, z := range found {
		groups[i] = groupOf(hashes[i].Val())
		groups[i].Queue, groups[i].Signature, groups[i].Entries = queue, text(z.Member), counts[i].Val()
		groups[i].Last = time.UnixMilli(int64(z.Score)).UTC()
	}
	return groups, nil
}

func groupOf(h hash) delivery.DeadGroup {
	var a groupAbout
	_ = json.Unmarshal([]byte(h["about"]), &a) // of one that cannot be read, what else is known
	g := delivery.DeadGroup{
		Kind: a.Kind, Class: a.Class, Step: a.Step, Message: a.Message, State: delivery.GroupState(h["state"]), By: h["by"],
		Seen: int64(h.int("seen")), Reopened: int64(h.int("reopened")), First: h.ms("first"), Versions: map[int]int64{},
	}
	if g.State == "" {
		g.State = delivery.GroupOpen
	}
	for field := range h {
		if version, ok := strings.CutPrefix(field, "v:"); ok {
			n, _ := strconv.Atoi(version)
			g.Versions[n] = int64(h.int(field))
		}
	}
	return g
}

// JudgeGroup says how people look at a group from now on. ErrNotFound: nothing of
// that signature was seen.
func (s *Store) JudgeGroup(ctx context.Context, queue, signature string, state delivery.GroupState, by jobs.Decision) (delivery.DeadGroup, error) {
	if err := by.Check(); err != nil {
		return delivery.DeadGroup{}, err
	}
	verbs := map[delivery.GroupState]string{delivery.GroupOpen: "open", delivery.GroupResolved: "resolve", delivery.GroupIgnored: "ignore"}
	if verbs[state] == "" {
		return delivery.DeadGroup{}, &jobs.InvalidError{Field: "state", Value: string(state), Bound: "open, resolved or ignored"}
	}
	if err := (delivery.DeadFilter{Signature: signature}).Check(); err != nil {
		return delivery.DeadGroup{}, err
	}
	keys := []string{groupsKey(queue), groupKey(queue, signature), eventsKey(queue), decidedKey(queue, rand.Text())}
	code, err := surely(ctx, func() (int64, error) {
		return s.runCode(ctx, "judge", keys, signature, string(state), verbs[state]+" group "+signature, by.Actor, by.Reason)
	})
	if err == nil && code == -1 {
		err = errUnknownGroup
	}
	if err != nil {
		return delivery.DeadGroup{}, fmt.Errorf("%s group %s of queue %s: %w", verbs[state], signature, queue, err)
	}
	return s.DeadGroup(ctx, queue, signature)
}

// groups takes the census of a queue's groups: entries that do not belong there are
// taken off, and groups that nobody has seen for long are forgotten.
func (c *census) groups(ctx context.Context, queue string) error {
	return c.members(ctx, groupsKey(queue), func(signatures []string) error {
		for _, signature := range signatures {
			name := groupKeysKey(queue, signature)
			err := c.members(ctx, name, func(keys []string) error { return c.group(ctx, queue, signature, keys) })
			if err != nil {
				return err
			}
			if err := c.s.forgetGroup(ctx, queue, signature, groupKept); err != nil {
				return err
			}
		}
		return nil
	})
}

// group judges the entries of a group whose job does not say that it is of it.
func (c *census) group(ctx context.Context, queue, signature string, keys []string) error {
	views, err := c.glance(ctx, queue, keys)
	if err != nil {
		return err
	}
	for i, v := range views {
		if v.signature == signature && (v.state == "archived" || v.state == "pending") {
			continue
		}
		code, err := c.s.runCode(ctx, "ungroup", []string{taskKey(queue, keys[i]), groupKeysKey(queue, signature)}, keys[i], signature)
		if err != nil {
			return err
		}
		if code == 1 {
			c.count(queue, "group")
		}
	}
	return nil
}

// forgetGroup forgets a group without entries that was not seen for so long.
func (s *Store) forgetGroup(ctx context.Context, queue, signature string, unseen time.Duration) error {
	keys := []string{groupsKey(queue), groupKey(queue, signature), groupKeysKey(queue, signature)}
	_, err := s.runCode(ctx, "forgetgroup", keys, signature, unseen.Milliseconds())
	return err
}

// members hands the members of a sorted set to do, slice by slice.
func (c *census) members(ctx context.Context, name string, do func([]string) error) error {
	for at, more := uint64(0), true; more; more = at != 0 {
		pairs, next, err := c.s.rdb.ZScan(ctx, name, at, "", maxBatch).Result()
		if err != nil {
			return unreachable(err)
		}
		var members []string
		for i := 0; i < len(pairs); i += 2 {
			members = append(members, pairs[i])
		}
		if err := do(members); err != nil {
			return err
		}
		if at = next; at != 0 {
			if err := c.pace(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}
