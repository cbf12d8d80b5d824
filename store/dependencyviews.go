package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

const (
	heardLately = time.Minute        // a name that workers vote on is heard of more often
	heardAgo    = 7 * 24 * time.Hour // a name that was not heard of since is forgotten
	kindLives   = 10 * time.Minute   // workers say more often which kinds they have
	viewsAtOnce = 200
)

// shownSettings are the settings by their name in a record, and for people.
var shownSettings = [][2]string{
	{"resume", "resume"}, {"ratio", "ratio"}, {"least", "min_calls"}, {"quorum", "quorum"}, {"rate", "rate"}, {"places", "concurrency"},
}

// settings says which settings of a record are an operator's, and whether programs have
// any.
func (h hash) settings() (own []string, declared bool) {
	for _, setting := range shownSettings {
		if _, ok := h[setting[0]]; ok {
			own = append(own, setting[1])
		}
		if _, ok := h["code:"+setting[0]]; ok {
			declared = true
		}
	}
	return own, declared
}

// around is what is known of dependencies outside of their records.
type around struct {
	board   []string
	kinds   map[string][]string // that need it
	waiting map[string]int64
	oldest  map[string]time.Time
	held    map[string]int64 // pending jobs of queues that are paused for it
}

func (s *Store) around(ctx context.Context) (around, error) {
	a := around{kinds: map[string][]string{}, waiting: map[string]int64{}, oldest: map[string]time.Time{}, held: map[string]int64{}}
	var err error
	if a.board, err = s.rdb.HKeys(ctx, boardKey).Result(); err != nil {
		return a, fmt.Errorf("read the board of dependencies: %w", unreachable(err))
	}
	kinds, err := s.Kinds(ctx)
	if err != nil {
		return a, err
	}
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		if s.now().Sub(kinds[name].At) > kindLives {
			continue
		}
		for _, need := range kinds[name].Needs {
			a.kinds[need] = append(a.kinds[need], name)
		}
	}
	held, err := s.Held(ctx)
	if err != nil {
		return a, err
	}
	for queue, names := range held.For {
		q, err := s.QueueInfo(ctx, queue) // with those that wait their turn
		if err != nil {
			return a, err
		}
		for _, name := range names {
			a.held[name] += q.Pending
		}
	}
	return a, s.lanesAround(ctx, &a)
}

func (s *Store) lanesAround(ctx context.Context, a *around) error {
	lanes, err := s.Lanes(ctx)
	if err != nil || len(lanes) == 0 {
		return err
	}
	pipe := s.rdb.Pipeline()
	first := make([]*redis.ZSliceCmd, len(lanes))
	for i, lane := range lanes {
		first[i] = pipe.ZRangeWithScores(ctx, laneKey(lane.Queue, lane.Name+" "+lane.Kind), 0, 0)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("list lanes: %w", unreachable(err))
	}
	for i, lane := range lanes {
		a.waiting[lane.Name] += lane.Jobs
		for _, z := range first[i].Val() {
			if since := atMS(int64(z.Score)); a.oldest[lane.Name].IsZero() || since.Before(a.oldest[lane.Name]) {
				a.oldest[lane.Name] = since
			}
		}
	}
	return nil
}

// names are all names that are known from around.
func (a around) names() map[string]bool {
	names := map[string]bool{}
	for _, name := range a.board {
		names[name] = true
	}
	for name := range a.kinds {
		names[name] = true
	}
	for name := range a.waiting {
		names[name] = true
	}
	for name := range a.held {
		names[name] = true
	}
	return names
}

// Dependencies returns all dependencies that are known, by name: those that have opened or
// were used within a week, those that kinds need, and those with settings.
func (s *Store) Dependencies(ctx context.Context) ([]delivery.DependencyInfo, error) {
	return s.dependencies(ctx, "-inf", func(name string) bool { return !delivery.IsLimit(name) })
}

// DependenciesInUse is [Store.Dependencies] without those that nothing was heard of
// within a minute, unless they are not closed, limit something, or kinds need them.
func (s *Store) DependenciesInUse(ctx context.Context) ([]delivery.DependencyInfo, error) {
	since := fmt.Sprint(s.now().Add(-heardLately).UnixMilli())
	return s.dependencies(ctx, since, func(name string) bool { return !delivery.IsLimit(name) })
}

// Limits returns the limits of kinds and tenants that are known, by name: also one that
// somebody has set to none.
func (s *Store) Limits(ctx context.Context) ([]delivery.LimitInfo, error) {
	infos, err := s.dependencies(ctx, "-inf", delivery.IsLimit)
	limits := []delivery.LimitInfo{}
	for _, info := range infos {
		limits = append(limits, info.AsLimit())
	}
	return limits, err
}

// Limit returns the limit of a kind or a tenant. ErrNotFound: nobody has set it.
func (s *Store) Limit(ctx context.Context, name string) (delivery.LimitInfo, error) {
	info, err := s.Dependency(ctx, name)
	return info.AsLimit(), err
}

// DependenciesWatched returns dependencies and limits that are not closed, limit
// something, are waited for, or that kinds need, by name. It costs the same however many
// were ever called.
func (s *Store) DependenciesWatched(ctx context.Context) ([]delivery.DependencyInfo, error) {
	return s.dependencies(ctx, "", func(string) bool { return true })
}

// dependencies returns those around, and those heard of since a score; "": only these.
func (s *Store) dependencies(ctx context.Context, since string, keep func(name string) bool) ([]delivery.DependencyInfo, error) {
	a, err := s.around(ctx)
	if err != nil {
		return nil, err
	}
	names := a.names()
	if since != "" {
		heard, err := s.rdb.ZRangeByScore(ctx, dependencyNamesKey, &redis.ZRangeBy{Min: since, Max: "+inf"}).Result()
		if err != nil {
			return nil, fmt.Errorf("list dependencies: %w", unreachable(err))
		}
		for _, name := range heard {
			names[name] = true
		}
	}
	maps.DeleteFunc(names, func(name string, _ bool) bool { return !keep(name) })
	infos := []delivery.DependencyInfo{}
	for some := range slices.Chunk(slices.Sorted(maps.Keys(names)), viewsAtOnce) {
		more, err := s.viewsOf(ctx, some, a)
		if err != nil {
			return nil, err
		}
		infos = append(infos, more...)
	}
	return infos, nil
}

// Dependency returns one dependency or limit. ErrNotFound: nothing is known of it.
func (s *Store) Dependency(ctx context.Context, name string) (delivery.DependencyInfo, error) {
	if err := delivery.CheckLimitName(name); err != nil {
		return delivery.DependencyInfo{}, err
	}
	a, err := s.around(ctx)
	if err != nil {
		return delivery.DependencyInfo{}, err
	}
	infos, err := s.viewsOf(ctx, []string{name}, a)
	if err != nil {
		return delivery.DependencyInfo{}, err
	}
	if len(infos) == 0 {
		return delivery.DependencyInfo{}, unheard(name)
	}
	return infos[0], nil
}

// unheard is the name of a dependency or limit that nothing is known of.
type unheard string

func (u unheard) Error() string {
	if delivery.IsLimit(string(u)) {
		return "limit " + string(u) + " not found: nobody has set it; `perdure limit list` has those that are known"
	}
	return "dependency " + string(u) + " not found: no kind needs it and no worker has called it lately; `perdure dep list --all` has those that are known"
}

func (u unheard) Is(target error) bool { return target == jobs.ErrNotFound }

// viewsOf returns those of the names of which something is known.
func (s *Store) viewsOf(ctx context.Context, names []string, a around) ([]delivery.DependencyInfo, error) {
	pipe := s.rdb.Pipeline()
	now := pipe.Time(ctx)
	records, votes, leases := make([]*redis.MapStringStringCmd, len(names)), make([]*redis.MapStringStringCmd, len(names)), make([]*redis.ZSliceCmd, len(names))
	for i, name := range names {
		records[i], votes[i] = pipe.HGetAll(ctx, dependencyKey(name)), pipe.HGetAll(ctx, votesKey(name))
		leases[i] = pipe.ZRangeWithScores(ctx, leasesKey(name), 0, -1)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("read dependencies: %w", unreachable(err))
	}
	var infos []delivery.DependencyInfo
	for i, name := range names {
		h := hash(records[i].Val())
		info := h.dependencyInfo(name, now.Val())
		info.Kinds, info.Waiting, info.Held, info.Oldest = a.kinds[name], a.waiting[name], a.held[name], a.oldest[name]
		for _, z := range leases[i].Val() {
			if z.Score > float64(now.Val().UnixMilli()) {
				info.Running++
			}
		}
		countVotes(&info, votes[i].Val(), now.Val())
		if len(h) > 0 || len(votes[i].Val()) > 0 || info.Waiting+info.Held > 0 || len(info.Kinds) > 0 {
			infos = append(infos, info)
		}
	}
	return infos, nil
}

func countVotes(info *delivery.DependencyInfo, votes map[string]string, now time.Time) {
	for _, vote := range votes {
		var at, calls, failed, long, longFailed int64
		if n, _ := fmt.Sscan(vote, &at, &calls, &failed, &long, &longFailed); n != 5 || at < now.Add(-delivery.VoteStands).UnixMilli() || long == 0 {
			continue // one that has made no calls says nothing of it
		}
		info.Workers++
		info.Calls, info.Failed = info.Calls+int(long), info.Failed+int(longFailed)
		if float64(longFailed)/float64(long) >= info.Ratio {
			info.Against++
		}
	}
}

// CheckDependencyKnown returns jobs.ErrNotFound when nothing is known of a dependency, or
// of a limit's kind, so that a slip of the pen is not taken for a decision. Tenants are
// known to nobody but their producers, so none is refused.
func (s *Store) CheckDependencyKnown(ctx context.Context, name string) error {
	if err := delivery.CheckLimitName(name); err != nil {
		return err
	}
	if kind, ok := strings.CutPrefix(name, delivery.KindLimit("")); ok {
		kinds, err := s.Kinds(ctx)
		if err != nil {
			return err
		}
		if _, known := kinds[kind]; known {
			return nil
		}
	}
	if strings.HasPrefix(name, delivery.TenantLimit("")) {
		return nil
	}
	_, err := s.Dependency(ctx, name)
	if errors.Is(err, jobs.ErrNotFound) && delivery.IsLimit(name) {
		return unknown("limit " + name + " not found: nobody has set it and no worker has said that it has the kind; with --unknown (over HTTP \"unknown\":true) it is set all the same")
	}
	return err
}

// DependencyStory is a dependency or limit with who waits for it and what was decided
// about it.
type DependencyStory struct {
	delivery.DependencyInfo
	Lanes  []delivery.Lane `json:"lanes"`         // where jobs wait for it, and how many
	Queues []string        `json:"paused_queues"` // that are paused whole for it
	Events []Event         `json:"events"`        // the last decisions about it, newest first, at most 10
}

// DependencyStory returns it. ErrNotFound: nothing is known of it.
func (s *Store) DependencyStory(ctx context.Context, name string) (DependencyStory, error) {
	info, err := s.Dependency(ctx, name)
	story := DependencyStory{DependencyInfo: info, Lanes: []delivery.Lane{}, Queues: []string{}, Events: []Event{}}
	if err != nil {
		return story, err
	}
	lanes, err := s.Lanes(ctx)
	if err != nil {
		return story, err
	}
	for _, lane := range lanes {
		if lane.Name == name && lane.Jobs > 0 {
			story.Lanes = append(story.Lanes, lane)
		}
	}
	held, err := s.Held(ctx)
	if err != nil {
		return story, err
	}
	for _, queue := range slices.Sorted(maps.Keys(held.For)) {
		if slices.Contains(held.For[queue], name) {
			story.Queues = append(story.Queues, queue)
		}
	}
	events, err := s.DependencyEvents(ctx, maxBatch)
	for _, event := range events {
		if event.Key == name && len(story.Events) < 10 {
			story.Events = append(story.Events, event)
		}
	}
	return story, err
}

// ForgetDependencies removes the names that nothing was heard of for a week and nothing
// is known of any more: hosts that jobs once called. A vote that comes in this very moment
// is cast again within seconds.
func (s *Store) ForgetDependencies(ctx context.Context) (forgotten int, err error) {
	before := fmt.Sprintf("(%d", s.now().Add(-heardAgo).UnixMilli())
	for kept := int64(0); ; {
		old := &redis.ZRangeBy{Min: "-inf", Max: before, Offset: kept, Count: maxBatch}
		names, err := s.rdb.ZRangeByScore(ctx, dependencyNamesKey, old).Result()
		if err != nil || len(names) == 0 {
			return forgotten, unreachable(err)
		}
		n, err := s.forgetQuiet(ctx, names)
		if err != nil {
			return forgotten, err
		}
		forgotten, kept = forgotten+n, kept+int64(len(names)-n)
	}
}

// forgetQuiet removes those of the names that nothing is known of.
func (s *Store) forgetQuiet(ctx context.Context, names []string) (int, error) {
	pipe := s.rdb.Pipeline()
	known := make([]*redis.IntCmd, len(names))
	for i, name := range names {
		known[i] = pipe.Exists(ctx, dependencyKey(name), votesKey(name))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, unreachable(err)
	}
	var quiet []any
	for i, name := range names {
		if known[i].Val() == 0 {
			quiet = append(quiet, name)
		}
	}
	if len(quiet) == 0 {
		return 0, nil
	}
	return len(quiet), unreachable(s.rdb.ZRem(ctx, dependencyNamesKey, quiet...).Err())
}
