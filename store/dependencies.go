package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// The fields of a dependency's record, perdure:{@dep}:d:<name>:
//
//	state     'open' or 'recovering' or 'closed'; none: it has never opened
//	turn      how often it has opened
//	since     when it came to its state, ms
//	reason    why, and by: who
//	forced    1: somebody has opened it, and somebody must close it
//	next      when the next probe may be made, ms
//	probe     id of the probe under way, and lasts: until when that is taken to be so, ms
//	probes    made since it opened, and found: what the last one that failed has found
//	checker   when a process that can ask the service itself was last here, ms
//	from      when it began to recover, ms, and start: with how many a second
//	ramp:next when the next may begin while it recovers, ms; rate:next under its limit
//	ramp:begun, rate:begun  the same of what was admitted, with a pass or without
//	back     the pass that was given back last
//	until     the service wants no calls until then, ms
//	line      jobs that wait for it, as of lined, ms
//	resumed   jobs sent back since it opened
//	resume, ratio, least, quorum, rate, places
//	          settings: of an operator, and with 'code:' in front those of the programs
//
// A vote is '<at ms> <calls> <failed> <calls> <failed>', of a short and a long while.

// boardLine is what the board says of a name.
type boardLine struct {
	State     string  `json:"state"`
	Turn      int64   `json:"turn"`
	Since     int64   `json:"since"`
	Reason    string  `json:"reason"`
	By        string  `json:"by"`
	Forced    bool    `json:"forced"`
	Throttled int64   `json:"throttled"`
	Rate      float64 `json:"rate"`
	Places    int     `json:"places"`
}

func (l boardLine) standing(name string) jobs.Standing {
	s := jobs.Standing{
		Name: name, State: jobs.DependencyState(l.State), Turn: l.Turn, Reason: l.Reason, By: l.By, Forced: l.Forced,
		Limit: jobs.Limit{Rate: l.Rate, Concurrency: l.Places},
	}
	s.Since, s.Throttled = atMS(l.Since), atMS(l.Throttled)
	return s
}

func atMS(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func readBoard(name, line string) (jobs.Standing, bool) {
	var l boardLine
	if json.Unmarshal([]byte(line), &l) != nil {
		return jobs.Standing{Name: name, State: jobs.DependencyClosed}, false
	}
	return l.standing(name), true
}

// Board returns where the dependencies stand that are not closed, and the limits. One
// that is not there is closed and bounds nothing.
func (s *Store) Board(ctx context.Context) (map[string]jobs.Standing, error) {
	lines, err := s.rdb.HGetAll(ctx, boardKey).Result()
	if err != nil {
		return nil, fmt.Errorf("read the board of dependencies: %w", unreachable(err))
	}
	board := map[string]jobs.Standing{}
	for name, line := range lines {
		if standing, ok := readBoard(name, line); ok {
			board[name] = standing
		}
	}
	return board, nil
}

// Listen hands every change of the board to tell, until ctx ends or the connection is
// lost. What changed while nobody listened is only on the board: read it once begun has
// been called.
func (s *Store) Listen(ctx context.Context, begun func(), tell func(jobs.Standing)) error {
	news := s.blocking.Subscribe(ctx, newsChannel)
	defer news.Close()
	defer context.AfterFunc(ctx, func() { news.Close() })() // a wait for news does not look at ctx
	if _, err := news.Receive(ctx); err != nil {
		return fmt.Errorf("listen for dependencies: %w", unreachable(err))
	}
	begun()
	for {
		received, err := news.ReceiveTimeout(ctx, 5*time.Second)
		switch message := received.(type) {
		case *redis.Message:
			// A channel is that of all databases of a server: the news are only a reason to
			// look at the board of this one.
			line, err := s.rdb.HGet(ctx, boardKey, message.Payload).Result()
			if err != nil && err != redis.Nil {
				return fmt.Errorf("read the board of dependencies: %w", unreachable(err))
			}
			standing, _ := readBoard(message.Payload, line)
			tell(standing)
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if err := news.Ping(ctx); err != nil {
				return fmt.Errorf("listen for dependencies: %w", unreachable(err))
			}
		}
	}
}

// Now is Redis' time as far as this process knows it: for what people read, and for
// how long something is to be waited for.
func (s *Store) Now() time.Time { return s.now() }

// dependencyKeys are the keys that most scripts about a dependency begin with.
func dependencyKeys(name string) []string {
	return []string{dependencyKey(name), boardKey, dependencyNamesKey, dependencyEventsKey, votesKey(name)}
}

// Vote says what a worker has seen of a dependency. It reports whether the breaker has
// opened by that.
func (s *Store) Vote(ctx context.Context, owner string, v delivery.Vote) (opened bool, err error) {
	code, err := s.runCode(ctx, "vote", dependencyKeys(v.Name), v.Name, owner, v.Turn, v.Calls, v.Failed, v.LongCalls, v.LongFailed, v.Reason, delivery.VoteStands.Milliseconds())
	return code == 1, err
}

// Admit asks whether something may begin that several names bound, and counts it for
// all of them when it may; else for none, and what a valid pass was counted for is given
// back. A place that it takes under a limit of concurrency has the
// id, and is free again after lasts unless it is kept ([Store.Keep]).
func (s *Store) Admit(ctx context.Context, id string, lasts time.Duration, asks []delivery.Ask) (delivery.Refusal, error) {
	var keys []string
	args := []any{id, lasts.Milliseconds()}
	for _, ask := range asks {
		keys, args = append(keys, dependencyKey(ask.Name), leasesKey(ask.Name)), append(args, ask.Pass)
	}
	reply, err := s.run(ctx, "admit", keys, args...)
	if err != nil {
		return delivery.Refusal{}, err
	}
	parts, _ := reply.([]any)
	if len(parts) == 0 {
		return delivery.Refusal{}, fmt.Errorf("script admit: unexpected answer %v", reply)
	}
	which, _ := parts[0].(int64)
	if which < 1 || int(which) > len(asks) || len(parts) != 3 {
		return delivery.Refusal{}, nil
	}
	wait, _ := parts[2].(int64)
	return delivery.Refusal{Name: asks[which-1].Name, Why: text(parts[1]), Wait: time.Duration(wait) * time.Millisecond}, nil
}

// Leave gives places back.
func (s *Store) Leave(ctx context.Context, leases []delivery.Lease) error {
	pipe := s.rdb.Pipeline()
	for _, l := range leases {
		pipe.ZRem(ctx, leasesKey(l.Name), l.ID)
	}
	_, err := pipe.Exec(ctx)
	return unreachable(err)
}

// Keep keeps places that are still taken for another while. One that has ended is
// not taken again.
func (s *Store) Keep(ctx context.Context, leases []delivery.Lease, lasts time.Duration) error {
	now, err := s.rdb.Time(ctx).Result()
	if err != nil {
		return unreachable(err)
	}
	pipe := s.rdb.Pipeline()
	for _, l := range leases {
		pipe.ZAddXX(ctx, leasesKey(l.Name), redis.Z{Score: float64(now.Add(lasts).UnixMilli()), Member: l.ID})
	}
	_, err = pipe.Exec(ctx)
	return unreachable(err)
}

// Probed says what a probe has found, [delivery.Pass.Made]. False: another one is under way,
// or none.
func (s *Store) Probed(ctx context.Context, name, probe string, found delivery.Probed, reason string) (bool, error) {
	code, err := s.runCode(ctx, "probed", dependencyKeys(name), name, probe, string(found), reason)
	return code == 1, err
}

// Throttle holds a dependency for as long as it has asked for, an hour at most.
func (s *Store) Throttle(ctx context.Context, name string, wait time.Duration, reason string) error {
	wait = min(max(wait, time.Second), time.Hour)
	_, err := s.runCode(ctx, "throttle", dependencyKeys(name), name, wait.Milliseconds(), reason, delivery.VoteStands.Milliseconds())
	return err
}

// Remember says that a dependency was not closed in a turn, for when Redis does not
// know.
func (s *Store) Remember(ctx context.Context, name string, turn int64) error {
	_, err := s.runCode(ctx, "remember", dependencyKeys(name), name, turn)
	return err
}

// Declare sets what programs say of a dependency or a limit; what an operator has set
// goes before.
func (s *Store) Declare(ctx context.Context, d jobs.Dependency) error {
	pairs := []any{
		"resume", positive(d.Resume), "ratio", positive(d.Ratio), "least", positive(float64(d.MinCalls)), "quorum", positive(float64(d.Quorum)),
		"rate", positive(d.Limit.Rate), "places", positive(float64(d.Limit.Concurrency)),
	}
	_, err := s.tune(ctx, d.Name, "code:", pairs, jobs.Decision{})
	return err
}

// positive is a number as text, or "" for none.
func positive(n float64) string {
	if n <= 0 {
		return ""
	}
	return strconv.FormatFloat(n, 'f', -1, 64)
}

func (s *Store) tune(ctx context.Context, name, origin string, pairs []any, by jobs.Decision) (int64, error) {
	keys := append(dependencyKeys(name)[:4:4], dependencyDecidedKey(rand.Text()))
	args := append([]any{name, origin, by.Actor, by.Reason}, pairs...)
	return surely(ctx, func() (int64, error) { return s.runCode(ctx, "tune", keys, args...) })
}

// ForceDependency opens a breaker until somebody closes it, or closes one: then it
// recovers, a few jobs at first. False: it was so before.
func (s *Store) ForceDependency(ctx context.Context, name string, open bool, by jobs.Decision) (bool, error) {
	if err := errors.Join(jobs.CheckDependency(name), by.Check()); err != nil {
		return false, err
	}
	verb := "close"
	if open {
		verb = "open"
	}
	keys := append(dependencyKeys(name), dependencyDecidedKey(rand.Text()))
	code, err := surely(ctx, func() (int64, error) { return s.runCode(ctx, "force", keys, name, verb, by.Actor, by.Reason) })
	return code == 1, err
}

// TuneDependency sets what differs from nil of a dependency or limit; a value below 0
// takes an operator's setting back, and 0 means no bound for the two of its limit.
// False: it was so before.
func (s *Store) TuneDependency(ctx context.Context, name string, t delivery.Tuning, by jobs.Decision) (bool, error) {
	if err := errors.Join(delivery.CheckLimitName(name), t.Check(name), by.Check()); err != nil {
		return false, err
	}
	code, err := s.tune(ctx, name, "", t.Pairs(), by)
	return code == 1, err
}

// DependencyEvents returns the last decisions about dependencies and limits, newest
// first, at most 500.
func (s *Store) DependencyEvents(ctx context.Context, limit int) ([]Event, error) {
	return s.readEvents(ctx, dependencyEventsKey, delivery.Dependencies, limit)
}

// dependencyInfo reads a record.
func (h hash) dependencyInfo(name string, now time.Time) delivery.DependencyInfo {
	number := func(field string, otherwise float64) float64 {
		for _, text := range []string{h[field], h["code:"+field]} {
			if n, err := strconv.ParseFloat(text, 64); err == nil {
				return n
			}
		}
		return otherwise
	}
	info := delivery.DependencyInfo{
		Standing: jobs.Standing{
			Name: name, State: jobs.DependencyState(h["state"]), Since: h.ms("since"), Reason: h["reason"], By: h["by"], Forced: h["forced"] == "1",
			Turn: int64(h.int("turn")), Resume: number("resume", 100), Throttled: h.ms("until"),
			Limit: jobs.Limit{Rate: number("rate", 0), Concurrency: int(number("places", 0))},
		},
		Ratio: number("ratio", 0.5), MinCalls: int(number("least", 5)), Quorum: int(number("quorum", 2)),
		Probes: int64(h.int("probes")), Resumed: int64(h.int("resumed")), Looked: h.ms("lined"),
	}
	info.Set, info.Declared = h.settings()
	if info.State == "" {
		info.State = jobs.DependencyClosed
	}
	if info.Throttled.Before(now) {
		info.Throttled = time.Time{}
	}
	if from := h.ms("from"); info.State == jobs.DependencyRecovering && !now.Before(from) {
		info.Rate = min(info.Resume, number("start", 1)*float64(int64(1)<<min(30, int64(now.Sub(from)/time.Second))))
	}
	if info.State == jobs.DependencyOpen {
		switch next := h.ms("next"); {
		case info.Forced:
			info.NextTry = "when somebody closes it"
		case h["probe"] != "" && h.ms("lasts").After(now):
			info.NextTry = "under way"
		case next.After(now):
			info.NextTry = "at " + next.UTC().Format(time.RFC3339)
		default:
			info.NextTry = "with the next job"
		}
		if found := h["found"]; found != "" && info.Probes > 0 {
			info.Reason += "; the last probe: " + found
		}
	}
	return info
}
