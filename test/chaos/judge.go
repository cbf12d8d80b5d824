package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/internal/history"
	"github.com/perdure/perdure/jobs"
)

// judge compares what was written down outside of Redis with what Redis has.
func (s *stage) judge(ctx context.Context, r *Report, f *feed) error {
	keys := f.keys()
	r.found("accepted", len(keys))
	if wanted := f.wanted(); len(keys) < wanted {
		r.problem("%d of %d workflows were accepted", len(keys), wanted)
	}
	infos, err := s.jobs(ctx, r, keys)
	if err != nil {
		return err
	}
	if err := s.checkEffects(r, f, s.kept(r, f, infos)); err != nil {
		return err
	}
	drift, err := s.drift(ctx)
	if err != nil {
		return err
	}
	r.mustNot("entries of Redis that do not fit together", drift)
	events, err := history.Read(historyPath(s.dir))
	if err != nil {
		return err
	}
	if s.pair == nil {
		s.checkHistory(ctx, r, events, infos)
		r.found("bytes that losses of power took", int(s.redis.cut))
	} else {
		s.counters.add(unanswered, trace(events).unanswered)
	}
	s.counters.judge(r)
	return nil
}

// jobs reads every accepted job as it stands.
func (s *stage) jobs(ctx context.Context, r *Report, keys []string) (map[string]jobs.Info, error) {
	infos := map[string]jobs.Info{}
	var lost, stuck, failed []string
	runs, crashes := 0, 0
	for _, key := range keys {
		info, err := s.store.Get(ctx, queue, key)
		switch {
		case errors.Is(err, jobs.ErrNotFound):
			lost = append(lost, key)
			continue
		case err != nil:
			return nil, err
		case !info.State.Ended():
			stuck = append(stuck, key+" "+string(info.State))
		case info.State != ending(key):
			failed = append(failed, describe(info))
		}
		infos[key] = info
		runs += info.Runs
		crashes += info.Crashes
	}
	r.found("executions", runs)
	r.found("crashes that jobs met", crashes)
	r.mustNot("accepted jobs lost", lost)
	r.mustNot("jobs that did not end", stuck)
	r.mustNot("jobs that ended otherwise than they should", failed)
	return infos, nil
}

// kept are the jobs that are still the ones that were accepted. A fail-over may lose
// others: what was done for those is done again, under the keys of a new
// incarnation.
func (s *stage) kept(r *Report, f *feed, infos map[string]jobs.Info) map[string]jobs.Info {
	kept := map[string]jobs.Info{}
	var lost []string
	for key, info := range infos {
		if f.replaced(info) {
			lost = append(lost, key)
		} else {
			kept[key] = info
		}
	}
	if s.pair == nil {
		r.mustNot("accepted jobs lost and accepted again", lost)
	} else {
		s.counters.add(lostTail, len(lost))
	}
	return kept
}

func describe(info jobs.Info) string {
	text := info.Key + " " + string(info.State)
	if f := info.LastFailure(); f != nil {
		text += fmt.Sprintf(" (%s in %q: %s)", f.Class, f.Step, f.Message)
	}
	return text
}

// checkEffects reads what the services did: each completed order once at each path,
// under one idempotency key.
func (s *stage) checkEffects(r *Report, f *feed, infos map[string]jobs.Info) error {
	calls, effects := 0, map[string]int{}
	for name := range s.urls {
		entries, err := orders.ReadLedger(s.effects(name))
		if err != nil {
			return err
		}
		for _, e := range entries {
			switch e.Event {
			case "received":
				calls++
			case "effect":
				effects[e.Order+" "+e.Path]++
			}
		}
	}
	var wrong []string
	for key, info := range infos {
		ids, paths := f.effectsOf(key)
		for _, id := range ids {
			for _, path := range paths {
				if n := effects[id+" "+path]; n > 1 || n == 0 && info.State == ending(key) {
					wrong = append(wrong, fmt.Sprintf("%s %s of %s took effect %d times", id, path, key, n))
				}
			}
		}
	}
	r.found("calls at the services", calls)
	r.found("effects at the services", len(effects))
	r.mustNot("effects missing or doubled", wrong)
	return nil
}

// drift compares hashes, sets and lists of the queue: each job is in one set, each
// entry has a job, and nobody holds anything.
func (s *stage) drift(ctx context.Context) ([]string, error) {
	places, found, err := s.places(ctx)
	if err != nil {
		return nil, err
	}
	states := map[string]string{
		"pending": "pending", "active": "active", "scheduled": "scheduled", "retry": "retry", "archived": "archived", "completed": "completed",
	}
	prefix := "asynq:{" + queue + "}:t:"
	tasks := s.redis.rdb.Scan(ctx, 0, prefix+"*", 1000).Iterator()
	for tasks.Next(ctx) {
		key := strings.TrimPrefix(tasks.Val(), prefix)
		state, err := s.redis.rdb.HGet(ctx, tasks.Val(), "state").Result()
		if err != nil {
			return nil, fmt.Errorf("state of %s: %w", key, err)
		}
		if at := places[key]; len(at) != 1 || states[at[0]] != state {
			found = append(found, fmt.Sprintf("%s has state %s and is in %v", key, state, at))
		}
		delete(places, key)
	}
	for key, at := range places {
		found = append(found, fmt.Sprintf("%s is in %v and is no job", key, at))
	}
	return found, tasks.Err()
}

// places returns in which of asynq's sets each key is, and what should be empty by
// now and is not.
func (s *stage) places(ctx context.Context) (places map[string][]string, found []string, err error) {
	places = map[string][]string{}
	rdb := s.redis.rdb
	for _, set := range []string{"pending", "active", "scheduled", "retry", "archived", "completed", "lease"} {
		name := "asynq:{" + queue + "}:" + set
		var keys []string
		if set == "pending" || set == "active" {
			keys, err = rdb.LRange(ctx, name, 0, -1).Result()
		} else {
			keys, err = rdb.ZRange(ctx, name, 0, -1).Result()
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", name, err)
		}
		for _, key := range keys {
			if set == "active" || set == "lease" {
				found = append(found, key+" is in "+set)
			}
			if set != "lease" {
				places[key] = append(places[key], set)
			}
		}
	}
	unlike, err := quarantined(ctx, rdb)
	if err != nil {
		return nil, nil, err
	}
	held, err := holdings(ctx, rdb)
	return places, append(append(found, unlike...), held...), err
}

// quarantined says which jobs are in one of asynq's archived set and perdure's index
// of quarantined jobs, and not in the other.
func quarantined(ctx context.Context, rdb *redis.Client) (found []string, err error) {
	archived, dead := "asynq:{"+queue+"}:archived", "perdure:{"+queue+"}:dead"
	for _, pair := range [][2]string{{archived, dead}, {dead, archived}} {
		alone, err := rdb.ZDiff(ctx, pair[0], pair[1]).Result()
		if err != nil {
			return nil, fmt.Errorf("compare %s and %s: %w", pair[0], pair[1], err)
		}
		for _, key := range alone {
			found = append(found, fmt.Sprintf("%s is in %s and not in %s", key, pair[0], pair[1]))
		}
	}
	return found, nil
}

// holdings returns what owners still hold; the mark of a dead one is no job.
func holdings(ctx context.Context, rdb *redis.Client) ([]string, error) {
	var found []string
	owners := rdb.Scan(ctx, 0, "perdure:{"+queue+"}:own:*", 1000).Iterator()
	for owners.Next(ctx) {
		keys, err := rdb.HKeys(ctx, owners.Val()).Result()
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			if key != "!fenced" {
				found = append(found, owners.Val()+" holds "+key)
			}
		}
	}
	return found, owners.Err()
}
