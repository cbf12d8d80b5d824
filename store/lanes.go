package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// laneFallback is after how long at least a job in a lane looks for itself, should
// nobody send it back; twice that at most.
const laneFallback = 10 * time.Minute

// holdName is a queue's reason to be paused for a dependency.
func holdName(name string) string { return "dependency:" + name }

// Lanes returns where jobs wait for dependencies and limits, in all queues, and how
// many.
func (s *Store) Lanes(ctx context.Context) ([]delivery.Lane, error) {
	queues, err := s.Queues(ctx)
	if err != nil || len(queues) == 0 {
		return nil, err
	}
	pipe := s.rdb.Pipeline()
	members := make([]*redis.StringSliceCmd, len(queues))
	for i, queue := range queues {
		members[i] = pipe.SMembers(ctx, lanesKey(queue))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("list lanes: %w", unreachable(err))
	}
	var lanes []delivery.Lane
	var sizes []*redis.IntCmd
	for i, queue := range queues {
		sortStrings(members[i].Val())
		for _, member := range members[i].Val() {
			name, kind, _ := strings.Cut(member, " ")
			lanes, sizes = append(lanes, delivery.Lane{Queue: queue, Name: name, Kind: kind}), append(sizes, pipe.ZCard(ctx, laneKey(queue, member)))
		}
	}
	if len(lanes) == 0 {
		return nil, nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("list lanes: %w", unreachable(err))
	}
	for i := range lanes {
		lanes[i].Jobs = sizes[i].Val()
	}
	return lanes, nil
}

// Grant asks how many of waiting jobs may be sent back now, at most 500 at a time. They
// are counted: send them with [Store.Drive]. checker says that the caller can ask the
// service itself how it is, when that is to be.
func (s *Store) Grant(ctx context.Context, name string, waiting int64, checker bool) (delivery.Grant, error) {
	id, asked := rand.Text()[:16], time.Now()
	reply, err := s.run(ctx, "grant", append(dependencyKeys(name), leasesKey(name)), name, waiting, maxBatch, id, flag(checker))
	if err != nil {
		return delivery.Grant{}, err
	}
	parts, _ := reply.([]any)
	if len(parts) != 5 {
		return delivery.Grant{}, fmt.Errorf("script grant: unexpected answer %v", reply)
	}
	turn, _ := parts[1].(int64)
	n, _ := parts[2].(int64)
	probe := text(parts[3])
	g := delivery.Grant{Name: name, State: jobs.DependencyState(text(parts[0])), Turn: turn, Jobs: int(n), ID: id, Asked: asked, Probe: probe != "", Health: probe == "health"}
	g.Rate, _ = strconv.ParseFloat(text(parts[4]), 64)
	return g, nil
}

// Drive sends up to n jobs of a lane back to their queue, with what was granted from
// number first on, which need not be of the lane's own name. left is how many entries the lane has. A call whose outcome is
// unknown may be made again within ten seconds: what it has sent is sent once.
func (s *Store) Drive(ctx context.Context, lane delivery.Lane, n int, g delivery.Grant, first int) (sent int, left int64, err error) {
	for n = min(n, maxBatch); ; {
		moved, rest, err := s.drive(ctx, lane, n-sent, g, first+sent)
		if err != nil {
			return sent, 0, err
		}
		// What has moved on is dropped a piece at a time, however much it is.
		if sent, left = sent+moved, rest; sent >= n || left == 0 {
			return sent, left, nil
		}
	}
}

func (s *Store) drive(ctx context.Context, lane delivery.Lane, n int, g delivery.Grant, first int) (sent int, left int64, err error) {
	member := lane.Name + " " + lane.Kind
	keys := []string{
		laneKey(lane.Queue, member), lanesKey(lane.Queue), retryKey(lane.Queue), parkedKey(lane.Queue), pendingKey(lane.Queue), taskKey(lane.Queue, ""),
		droveKey(lane.Queue, g.ID, first), probesKey(lane.Queue),
	}
	reply, err := s.run(ctx, "drive", keys, n, cmp.Or(g.Name, lane.Name), member, passSort(g)+" "+strconv.FormatInt(g.Turn, 10)+" ", g.ID, first, age(g).Milliseconds())
	if err != nil {
		return 0, 0, err
	}
	parts, _ := reply.([]any)
	if len(parts) != 2 {
		return 0, 0, fmt.Errorf("script drive: unexpected answer %v", reply)
	}
	moved, _ := parts[0].(int64)
	left, _ = parts[1].(int64)
	return int(moved), left, nil
}

// age is how long ago something was granted, by the clock of this process that nobody
// sets: one that was frozen in between sends what is worth nothing any more.
func age(g delivery.Grant) time.Duration {
	if g.Asked.IsZero() {
		return 0
	}
	return max(time.Since(g.Asked), 0)
}

func passSort(g delivery.Grant) string {
	if g.Probe {
		return "probe"
	}
	return "pass"
}

// LetThrough lets one job of a queue begin that is paused for nothing but
// dependencies: a probe. It must be claimed within five seconds.
func (s *Store) LetThrough(ctx context.Context, queue, name string, g delivery.Grant) error {
	now, err := s.rdb.Time(ctx).Result()
	if err != nil {
		return unreachable(err)
	}
	pass := fmt.Sprintf("%d %d %s %d %s:1 %s", now.UnixMilli(), now.Add(-age(g)).UnixMilli(), passSort(g), g.Turn, g.ID, name)
	_, err = s.rdb.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.HSet(ctx, probesKey(queue), name, pass)
		pipe.Expire(ctx, probesKey(queue), 5*time.Second)
		return nil
	})
	return unreachable(err)
}

// Held returns which queues are paused for dependencies, and which for something else.
func (s *Store) Held(ctx context.Context) (delivery.Held, error) {
	h := delivery.Held{For: map[string][]string{}, Pending: map[string]int64{}, Resting: map[string]bool{}}
	queues, err := s.Queues(ctx)
	if err != nil || len(queues) == 0 {
		return h, err
	}
	pipe := s.rdb.Pipeline()
	holds, paused := make([]*redis.StringSliceCmd, len(queues)), make([]*redis.StringCmd, len(queues))
	pending, turns := make([]*redis.IntCmd, len(queues)), make([]*redis.IntCmd, len(queues))
	for i, queue := range queues {
		holds[i], paused[i] = pipe.HKeys(ctx, holdsKey(queue)), pipe.Get(ctx, pausedKey(queue))
		pending[i], turns[i] = pipe.LLen(ctx, pendingKey(queue)), pipe.ZCard(ctx, queuedKey(queue))
	}
	if _, err := pipe.Exec(ctx); err != nil && err != redis.Nil {
		return h, fmt.Errorf("list queues that are held: %w", unreachable(err))
	}
	for i, queue := range queues {
		for _, hold := range holds[i].Val() {
			if name, ok := strings.CutPrefix(hold, holdName("")); ok {
				h.For[queue] = append(h.For[queue], name)
				h.Pending[queue] = pending[i].Val() + turns[i].Val()
			}
		}
		by := paused[i].Val() // empty: it is not paused
		h.Resting[queue] = by != "" && (foreign(by) || len(holds[i].Val()) > len(h.For[queue]))
	}
	return h, nil
}

// foreign reports whether asynq's own tools have paused a queue, by what its paused key
// says.
func foreign(by string) bool { return by != "" && !strings.HasPrefix(by, "perdure ") }

// QueuesNeeding returns the queues all of whose kinds need a dependency, as far as
// workers have said within ten minutes which kinds there are.
func (s *Store) QueuesNeeding(ctx context.Context, name string) ([]string, error) {
	kinds, err := s.Kinds(ctx)
	if err != nil {
		return nil, err
	}
	needing := map[string]bool{}
	for _, kind := range kinds {
		if s.now().Sub(kind.At) > 10*time.Minute {
			continue
		}
		needs, seen := needing[kind.Queue]
		needing[kind.Queue] = (needs || !seen) && slices.Contains(kind.Needs, name)
	}
	var queues []string
	for queue, all := range needing {
		if all {
			queues = append(queues, queue)
		}
	}
	sortStrings(queues)
	return queues, nil
}

// HoldQueue pauses a queue for a dependency, besides whatever else pauses it.
func (s *Store) HoldQueue(ctx context.Context, queue, name, why string) error {
	return s.holdFor(ctx, "pause", queue, name, why)
}

func (s *Store) holdFor(ctx context.Context, verb, queue, name, why string) error {
	keys := []string{pausedKey(queue), holdsKey(queue), eventsKey(queue), decidedKey(queue, rand.Text())}
	_, err := surely(ctx, func() (int64, error) {
		return s.runCode(ctx, "hold", keys, verb, holdName(name), "perdure", why)
	})
	return err
}

// UnholdQueue takes back that a queue is paused for a dependency. Its pending jobs are
// claimed then, and those that need it are held one by one.
func (s *Store) UnholdQueue(ctx context.Context, queue, name, why string) error {
	return s.holdFor(ctx, "resume", queue, name, why)
}

// Shelve moves up to 500 jobs of a queue that is paused for a dependency to where its
// jobs wait, and ends the pause when none is left. over: it has ended.
func (s *Store) Shelve(ctx context.Context, queue, name string) (moved int, over bool, err error) {
	said := cutASCII("paused: came while "+name+" was not available; resumes by itself", 127)
	keys := []string{
		pendingKey(queue), pausedKey(queue), holdsKey(queue), retryKey(queue), parkedKey(queue), lanesKey(queue), taskKey(queue, ""), laneKey(queue, ""),
		eventsKey(queue), probesKey(queue),
	}
	reply, err := s.run(ctx, "shelve", keys, name, holdName(name), maxBatch, laneFallback.Milliseconds(), said)
	if err != nil {
		return 0, false, err
	}
	parts, _ := reply.([]any)
	if len(parts) != 2 {
		return 0, false, fmt.Errorf("script shelve: unexpected answer %v", reply)
	}
	n, _ := parts[0].(int64)
	return int(n), parts[1] == int64(1), nil
}

func cutASCII(text string, most int) string { return text[:min(len(text), most)] }

// ForgetDependencyEvents removes the decisions about dependencies and limits, for drills
// on a Redis where there were none before. When they were sealed meanwhile they stay.
func (s *Store) ForgetDependencyEvents(ctx context.Context) error {
	sealed, err := s.rdb.Exists(ctx, sealsKey(delivery.Dependencies)).Result()
	if err != nil || sealed == 1 {
		return unreachable(err)
	}
	return unreachable(s.rdb.Unlink(ctx, dependencyEventsKey).Err())
}

// ForgetDependency removes all that is kept of a dependency or limit, for drills that
// have made one. Jobs that wait for it find it closed.
func (s *Store) ForgetDependency(ctx context.Context, name string) error {
	pipe := s.rdb.Pipeline()
	pipe.Del(ctx, dependencyKey(name), votesKey(name), leasesKey(name))
	pipe.HDel(ctx, boardKey, name)
	pipe.ZRem(ctx, dependencyNamesKey, name)
	pipe.Publish(ctx, newsChannel, name)
	_, err := pipe.Exec(ctx)
	return unreachable(err)
}
