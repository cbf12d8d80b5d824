package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// The fields of a schedule's hash:
//
//	def       the timetable, JSON
//	timing    what its instants depend on, JSON
//	origin    code, file or api
//	rev       how often def was changed
//	last      the last instant that is decided, ms
//	open      a tick that was decided to fire and is not known to have, JSON
//	closed    nonce of the call that closed the last open tick, so that one sent twice is known
//	nonce     of the last decision, likewise
//	run       of the last tick that fired and had something to do: '<queue> <key>' of its job, or '<queue> plan <id>'
//	triggered instant of the last trigger, ms
//	paused    who has paused it, why and when, JSON
//	resumed   when it was resumed last, ms
//	fired     ticks that fired
//	skipped   ticks that were skipped
const keptTicks = delivery.KeptTicks

// keptSeries is how many series of ticks a queue remembers the last instant of: more
// than there can be schedules, because those that were removed count too.
const keptSeries = 10 * jobs.MaxTimetables

// scheduleTiming is what a schedule's instants depend on. When it changes, the schedule
// begins anew.
func scheduleTiming(t jobs.Timetable) string {
	return mustJSON([]any{t.When, t.Zone, t.Skipped, t.Repeated, t.Jitter})
}

// DefineSchedule defines a schedule or changes it, from code, file or api, and
// reports whether it is new. The timetable must have been checked. ErrConflict: it
// comes from code or file and this does not. ErrInvalid: there are 1000 already. now
// stands for Redis' clock unless it is zero.
func (s *Store) DefineSchedule(ctx context.Context, t jobs.Timetable, origin string, now time.Time, by jobs.Decision) (added bool, err error) {
	if err := by.Check(); err != nil {
		return false, err
	}
	keys := []string{scheduleKey(t.Name), schedulesKey, scheduleChangesKey, scheduleEventsKey, scheduleTicksKey(t.Name), scheduleDecidedKey(rand.Text())}
	code, err := surely(ctx, func() (int64, error) {
		return s.runCode(ctx, "schedule", keys, t.Name, mustJSON(t), scheduleTiming(t), origin, jobs.MaxTimetables, msOrNone(now), by.Actor, by.Reason, keptTicks)
	})
	switch {
	case err != nil:
		return false, fmt.Errorf("define schedule %s: %w", t.Name, err)
	case code == -2:
		return false, fmt.Errorf("define schedule %s: %w", t.Name, &jobs.InvalidError{
			Field: "number of schedules", Value: jobs.MaxTimetables + 1, Bound: fmt.Sprintf("at most %d: remove one first", jobs.MaxTimetables)})
	case code == -3:
		return false, fmt.Errorf("define schedule %s: it comes with a program or its file; change it there: %w", t.Name, jobs.ErrConflict)
	}
	if code == 4 {
		err = s.setBack(ctx, t.Name, now)
	}
	return code == 1, err
}

// setBack lets ticks of a schedule fire again from now on, in whichever queue: those
// that have fired for later did so while the clock was ahead.
func (s *Store) setBack(ctx context.Context, name string, now time.Time) error {
	queues, err := surely(ctx, func() ([]string, error) { return s.Queues(ctx) })
	for _, queue := range queues {
		_, failed := surely(ctx, func() (int64, error) {
			return s.runCode(ctx, "setback", []string{firedKey(queue)}, msOrNone(now), delivery.Series(name, false), delivery.Series(name, true))
		})
		err = errors.Join(err, failed)
	}
	if err != nil {
		return fmt.Errorf("schedule %s is changed, but its ticks may not fire for as long as Redis' clock was ahead; if so, remove it and add it again: %w", name, err)
	}
	return nil
}

// DeclareSchedules says that a process has these schedules of code or file, so that
// they do not rest.
func (s *Store) DeclareSchedules(ctx context.Context, names []string, now time.Time) error {
	for batch := range slices.Chunk(names, maxBatch) {
		members := make([]redis.Z, len(batch))
		for i, name := range batch {
			members[i] = redis.Z{Score: float64(now.UnixMilli()), Member: name}
		}
		if err := s.rdb.ZAdd(ctx, scheduleDeclaredKey, members...).Err(); err != nil {
			return fmt.Errorf("declare schedules: %w", unreachable(err))
		}
	}
	return nil
}

// RemoveSchedule forgets a schedule; jobs that it has enqueued stay. ErrConflict: a
// process declares it. now stands for Redis' clock unless it is zero.
func (s *Store) RemoveSchedule(ctx context.Context, name string, now time.Time, by jobs.Decision) error {
	keys := []string{scheduleKey(name), schedulesKey, scheduleChangesKey, scheduleEventsKey, scheduleTicksKey(name), scheduleDeclaredKey, scheduleDecidedKey(rand.Text())}
	code, err := s.decideSchedule(ctx, "remove", name, by, func() (int64, error) {
		return s.runCode(ctx, "unschedule", keys, name, delivery.Lapse.Milliseconds(), by.Actor, by.Reason)
	})
	switch {
	case err != nil:
		return err
	case code == -3:
		return fmt.Errorf("remove schedule %s: it comes with a program or its file; take it out there, or pause it: %w", name, jobs.ErrConflict)
	}
	return s.setBack(ctx, name, now)
}

// PauseSchedule skips a schedule's ticks until it is resumed. Doing so twice changes
// nothing.
func (s *Store) PauseSchedule(ctx context.Context, name string, now time.Time, by jobs.Decision) error {
	return s.restSchedule(ctx, "pause", name, now, by)
}

// ResumeSchedule takes PauseSchedule back. Ticks of the time between are not made up
// for.
func (s *Store) ResumeSchedule(ctx context.Context, name string, now time.Time, by jobs.Decision) error {
	return s.restSchedule(ctx, "resume", name, now, by)
}

func (s *Store) restSchedule(ctx context.Context, verb, name string, now time.Time, by jobs.Decision) error {
	if by.At = now; now.IsZero() {
		by.At = s.now().UTC().Truncate(time.Millisecond)
	}
	keys := []string{scheduleKey(name), scheduleChangesKey, scheduleEventsKey, scheduleDecidedKey(rand.Text())}
	_, err := s.decideSchedule(ctx, verb, name, by, func() (int64, error) {
		return s.runCode(ctx, "rest", keys, verb, name, mustJSON(by), msOrNone(now), by.Actor, by.Reason)
	})
	return err
}

// TriggerSchedule opens a tick now and returns it. ErrBusy: one is under way.
func (s *Store) TriggerSchedule(ctx context.Context, name string, tick delivery.OpenTick) error {
	by := jobs.Decision{Actor: tick.Actor, Reason: tick.Reason}
	keys := []string{scheduleKey(name), scheduleEventsKey, scheduleChangesKey, scheduleDecidedKey(rand.Text())}
	code, err := s.decideSchedule(ctx, "trigger", name, by, func() (int64, error) {
		return s.runCode(ctx, "trigger", keys, name, mustJSON(tick), tick.At.UnixMilli(), by.Actor, by.Reason)
	})
	if err == nil && code < 0 {
		return fmt.Errorf("trigger schedule %s: %w", name, delivery.ErrBusy)
	}
	return err
}

// decideSchedule runs the script of a decision about a schedule that must be known.
func (s *Store) decideSchedule(ctx context.Context, verb, name string, by jobs.Decision, script func() (int64, error)) (int64, error) {
	if err := by.Check(); err != nil {
		return 0, err
	}
	code, err := surely(ctx, script)
	if err == nil && code == -1 {
		err = errNoSchedule(name)
	}
	if err != nil {
		return code, fmt.Errorf("%s schedule: %w", verb, err)
	}
	return code, nil
}

func errNoSchedule(name string) error { return fmt.Errorf("schedule %q: %w", name, errUnknownSchedule) }

// unknown says what there is none of, and is a jobs.ErrNotFound.
type unknown string

func (u unknown) Error() string        { return string(u) }
func (u unknown) Is(target error) bool { return target == jobs.ErrNotFound }

const (
	errUnknownSchedule = unknown("there is none of this name; see perdure cron list")
	errUnknownPlan     = unknown("there is none of this name, or it ended long ago; see perdure dead plans")
	errUnknownGroup    = unknown("nothing has failed so; see perdure dead groups")
)

func unknownQueue(queue string) error {
	return unknown("queue " + queue + " not found: nobody has enqueued to it and no worker serves it; `perdure queue list` has those that are known")
}

// ScheduleChanges returns a number that grows whenever a schedule is defined,
// changed, paused, resumed, triggered or removed, and Redis' time.
func (s *Store) ScheduleChanges(ctx context.Context) (int64, time.Time, error) {
	pipe := s.rdb.Pipeline()
	changes, now := pipe.Get(ctx, scheduleChangesKey), pipe.Time(ctx)
	if _, err := pipe.Exec(ctx); err != nil && err != redis.Nil {
		return 0, time.Time{}, fmt.Errorf("look at the schedules: %w", unreachable(err))
	}
	n, _ := changes.Int64()
	s.sawTime(now.Val().UnixMilli())
	return n, now.Val().UTC(), nil
}

// Schedules returns all schedules, by name. Of one that cannot be read nothing else is
// known.
func (s *Store) Schedules(ctx context.Context) ([]delivery.Scheduled, error) {
	names, err := s.rdb.SMembers(ctx, schedulesKey).Result()
	if err != nil {
		return nil, fmt.Errorf("list schedules: %w", unreachable(err))
	}
	sortStrings(names)
	all := make([]delivery.Scheduled, 0, len(names))
	for batch := range slices.Chunk(names, maxBatch) {
		some, err := s.readSchedules(ctx, batch)
		if err != nil {
			return nil, fmt.Errorf("list schedules: %w", err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// Schedule returns one schedule, or ErrNotFound.
func (s *Store) Schedule(ctx context.Context, name string) (delivery.Scheduled, error) {
	some, err := s.readSchedules(ctx, []string{name})
	if err == nil && len(some) == 0 {
		err = errNoSchedule(name)
	}
	if err == nil && some[0].Unreadable != "" {
		err = fmt.Errorf("%s: what is stored cannot be read: %s; remove it and add it again", name, some[0].Unreadable)
	}
	if err != nil {
		return delivery.Scheduled{}, fmt.Errorf("read schedule: %w", err)
	}
	return some[0], nil
}

// readSchedules leaves out those that are gone.
func (s *Store) readSchedules(ctx context.Context, names []string) ([]delivery.Scheduled, error) {
	pipe := s.rdb.Pipeline()
	hashes, declared := make([]*redis.MapStringStringCmd, len(names)), make([]*redis.FloatCmd, len(names))
	for i, name := range names {
		hashes[i], declared[i] = pipe.HGetAll(ctx, scheduleKey(name)), pipe.ZScore(ctx, scheduleDeclaredKey, name)
	}
	if _, err := pipe.Exec(ctx); err != nil && err != redis.Nil && !redis.HasErrorPrefix(err, "WRONGTYPE") {
		return nil, unreachable(err)
	}
	var all []delivery.Scheduled
	for i := range names {
		h, err := hash(hashes[i].Val()), hashes[i].Err()
		if err == nil && h["def"] == "" {
			continue
		}
		var one delivery.Scheduled
		if err == nil {
			one, err = h.scheduled(names[i])
		}
		if err != nil {
			one = delivery.Scheduled{Timetable: jobs.Timetable{Name: names[i]}, Origin: h["origin"], Unreadable: err.Error()}
		}
		if ms := declared[i].Val(); ms > 0 {
			one.Declared = time.UnixMilli(int64(ms)).UTC()
		}
		all = append(all, one)
	}
	return all, nil
}

// scheduled reads a schedule's hash.
func (h hash) scheduled(name string) (one delivery.Scheduled, err error) {
	if err := json.Unmarshal([]byte(h["def"]), &one.Timetable); err != nil {
		return one, err
	}
	if one.Name != name {
		return one, fmt.Errorf("it is that of %q", one.Name)
	}
	one.Origin, one.Revision, one.Last, one.Resumed = h["origin"], int64(h.int("rev")), h.ms("last"), h.ms("resumed")
	one.Fired, one.Left = int64(h.int("fired")), int64(h.int("skipped"))
	one.Run = readPlace(h["run"])
	if text := h["open"]; text != "" {
		one.Open = &delivery.OpenTick{Text: text}
		if err := json.Unmarshal([]byte(text), one.Open); err != nil {
			return one, err
		}
	}
	if text := h["paused"]; text != "" {
		one.Paused = &jobs.Decision{}
		err = json.Unmarshal([]byte(text), one.Paused)
	}
	return one, err
}

// ScheduleTicks returns what became of a schedule's last ticks, newest first, at
// most 1000.
func (s *Store) ScheduleTicks(ctx context.Context, name string, limit int) ([]delivery.TickRecord, error) {
	entries, err := s.rdb.XRevRangeN(ctx, scheduleTicksKey(name), "+", "-", int64(min(max(limit, 1), keptTicks))).Result()
	if err != nil {
		return nil, fmt.Errorf("ticks of schedule %s: %w", name, unreachable(err))
	}
	records := make([]delivery.TickRecord, 0, len(entries))
	for _, entry := range entries {
		h := hash{}
		for field, value := range entry.Values {
			h[field] = text(value)
		}
		record := delivery.TickRecord{
			At: h.ms("at"), From: h.ms("from"), Count: h.int("n"), What: h["what"],
			Reason: h["reason"], Late: time.Duration(h.int("late")) * time.Millisecond,
		}
		if run := readPlace(h["queue"] + " " + h["key"]); run != nil {
			record.Queue, record.Key, record.Plan = run.Queue, run.Key, run.Plan
		}
		records = append(records, record)
	}
	return records, nil
}

// ScheduleEvents returns the last decisions about schedules, newest first, at most
// 500.
func (s *Store) ScheduleEvents(ctx context.Context, limit int) ([]Event, error) {
	return s.readEvents(ctx, scheduleEventsKey, "", limit)
}

// ForgetSchedules removes all schedules and the record of them, for drills on a Redis
// where there were none before. Decisions that were sealed meanwhile stay on record.
func (s *Store) ForgetSchedules(ctx context.Context) error {
	sealed, err := s.rdb.Exists(ctx, sealsKey(delivery.Schedules)).Result()
	if err != nil {
		return fmt.Errorf("forget schedules: %w", unreachable(err))
	}
	err = s.scanKeys(ctx, cronKey("*"), func(keys []string) error {
		keys = slices.DeleteFunc(slices.Clone(keys), func(key string) bool {
			return sealed == 1 && slices.Contains([]string{scheduleEventsKey, sealsKey(delivery.Schedules), anchorKey(delivery.Schedules)}, key)
		})
		if len(keys) == 0 {
			return nil
		}
		return unreachable(s.rdb.Unlink(ctx, keys...).Err())
	})
	if err != nil {
		return fmt.Errorf("forget schedules: %w", err)
	}
	return nil
}

func msOrNone(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.UnixMilli(), 10)
}
