package cron

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

func every(name string, seconds int, change ...func(*jobs.Timetable)) jobs.Timetable {
	t := jobs.Timetable{Name: name, When: jobs.Every(time.Duration(seconds) * time.Second), Kind: "work"}
	for _, c := range change {
		c(&t)
	}
	return t
}

// keys are those of the ticks of a schedule at seconds after a time.
func keys(name string, after time.Time, seconds ...int) (all []string) {
	for _, s := range seconds {
		all = append(all, TickKey(name, after.Add(time.Duration(s)*time.Second)))
	}
	return all
}

// TestMissed: nobody is there for a time; then the last ticks are made up for that
// the timetable says, and the others are skipped, with a reason.
func TestMissed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		catchUp *jobs.CatchUp
		away    time.Duration
		fire    []int // seconds after the beginning
		skipped int64
	}{
		{"within ten seconds nothing is missed", &jobs.CatchUp{Most: 0}, 19 * time.Second, []int{10}, 0},
		{"the last one, by default", nil, 95 * time.Second, []int{80, 90}, 7}, // that of 90 s is not late yet
		{"none", &jobs.CatchUp{Most: 0}, 95 * time.Second, []int{90}, 8},
		{"three", &jobs.CatchUp{Most: 3}, 95 * time.Second, []int{60, 70, 80, 90}, 5},
		{"all", &jobs.CatchUp{Most: 100}, 35 * time.Second, []int{10, 20, 30}, 0},
		{"not older than 30 s", &jobs.CatchUp{Most: 100, Oldest: jobs.Span(30 * time.Second)}, 95 * time.Second, []int{70, 80, 90}, 6},
		{"more than one plan looks at", &jobs.CatchUp{Most: 2}, 250_005 * time.Second, []int{249_980, 249_990, 250_000}, 24_997},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.add(every("s", 10, func(t *jobs.Timetable) { t.CatchUp = c.catchUp }))
			began := b.clock.now()
			r := b.runner()
			b.clock.forward(c.away)
			b.turn(r)
			if got, want := b.take(), keys("s", began, c.fire...); !slices.Equal(got, want) {
				t.Errorf("fired %v, want %v", got, want)
			}
			s := b.schedule("s")
			if s.Left != c.skipped || s.Fired != int64(len(c.fire)) {
				t.Errorf("%d skipped, %d fired", s.Left, s.Fired)
			}
			recorded := 0
			for _, tick := range b.ticks("s") {
				if tick.What == "skipped" {
					recorded += tick.Count
					if !strings.HasPrefix(tick.Reason, "missed") || tick.From.After(tick.At) {
						t.Errorf("%+v", tick)
					}
				}
			}
			if int64(recorded) != c.skipped {
				t.Errorf("%d on record as skipped", recorded)
			}
		})
	}
}

func TestOverlap(t *testing.T) {
	t.Parallel()
	with := func(o jobs.Overlap, most int) jobs.Timetable {
		return every("s", 20, func(t *jobs.Timetable) { t.Overlap, t.CatchUp = o, &jobs.CatchUp{Most: most} })
	}
	finish := func(b *bench) {
		batch, err := b.store.Claim(b.ctx, "q", "o", 10)
		b.ok(err)
		for _, d := range batch.Deliveries {
			b.ok(b.store.Settle(b.ctx, d, delivery.Verdict{Outcome: delivery.Complete, Result: []byte("1")}))
		}
	}
	states := func(b *bench, began time.Time) (all []string) {
		for i := range 5 {
			info, err := b.store.Get(b.ctx, "q", TickKey("s", began.Add(time.Duration(20*(i+1))*time.Second)))
			state := string(info.State)
			if errors.Is(err, jobs.ErrNotFound) {
				state = "-"
			}
			all = append(all, state)
		}
		return all
	}
	// The first run ends between the third tick and the fourth.
	for _, c := range []struct {
		overlap jobs.Overlap
		most    int
		want    string
		left    int64
	}{
		{jobs.OverlapAllow, 1, "[completed completed completed pending pending]", 0},
		{jobs.OverlapSkip, 1, "[completed - - pending -]", 3},
		{jobs.OverlapCancel, 1, "[cancelled cancelled completed cancelled pending]", 0},
		{jobs.OverlapQueue, 1, "[completed - pending - -]", 2}, // that of 60 s waits for the first; those of 80 and 100 s for that one, and one is too many
		{jobs.OverlapQueue, 10, "[completed pending - - -]", 0},
	} {
		t.Run(fmt.Sprintf("%s %d", c.overlap, c.most), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.add(with(c.overlap, c.most))
			began, r := b.clock.now(), b.runner()
			b.pass(r, 72*time.Second)
			finish(b)
			b.pass(r, 43*time.Second)
			if got := fmt.Sprint(states(b, began)); got != c.want || b.schedule("s").Left != c.left {
				t.Errorf("%s, %d skipped; want %s, %d", got, b.schedule("s").Left, c.want, c.left)
			}
			for _, tick := range b.ticks("s") {
				if tick.What == "skipped" && c.overlap == jobs.OverlapSkip && !strings.Contains(tick.Reason, "is pending") {
					t.Errorf("%+v", tick)
				}
			}
		})
	}
}

// TestFailedRunDoesNotStop: a run that is quarantined is over.
func TestFailedRunDoesNotStop(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add(every("s", 20, func(t *jobs.Timetable) { t.Overlap = jobs.OverlapSkip }))
	r := b.runner()
	for range 3 {
		b.pass(r, 20*time.Second)
		batch, err := b.store.Claim(b.ctx, "q", "o", 10)
		b.ok(err)
		if len(batch.Deliveries) != 1 {
			t.Fatalf("%+v", batch)
		}
		b.ok(b.store.Settle(b.ctx, batch.Deliveries[0], delivery.Verdict{Outcome: delivery.Quarantine, Failure: &jobs.Failure{Class: jobs.ClassInvalid, Message: "no"}}))
	}
	if s := b.schedule("s"); s.Fired != 3 || s.Left != 0 {
		t.Errorf("%+v", s)
	}
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add(every("s", 10))
	began, r := b.clock.now(), b.runner()
	b.pass(r, 15*time.Second)
	b.ok(b.store.PauseSchedule(b.ctx, "s", b.clock.now(), by))
	b.pass(r, 150*time.Second) // to 165 s
	b.ok(b.store.ResumeSchedule(b.ctx, "s", b.clock.now(), by))
	b.pass(r, 10*time.Second)
	if got, want := b.take(), keys("s", began, 10, 170); !slices.Equal(got, want) {
		t.Errorf("fired %v, want %v", got, want)
	}
	s := b.schedule("s")
	if s.Left != 15 || s.Paused != nil { // 20 s to 160 s
		t.Errorf("%d skipped: %+v", s.Left, b.ticks("s"))
	}
	if records := len(b.ticks("s")); records > 5 {
		t.Errorf("%d records of 17 ticks", records)
	}
	for _, tick := range b.ticks("s") {
		if tick.What == "skipped" && !strings.HasPrefix(tick.Reason, "paused") {
			t.Errorf("%+v", tick)
		}
	}
}

func TestJitterDelaysATick(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	table := every("s", 60, func(t *jobs.Timetable) { t.Jitter = jobs.Span(30 * time.Second) })
	b.add(table)
	times, r := parse(t, table), b.runner()
	first, _ := times.Next(b.clock.now())
	for b.clock.now().Before(times.Due(first).Truncate(time.Second)) {
		b.pass(r, time.Second)
		if b.clock.now().Before(times.Due(first)) && len(b.take()) > 0 {
			t.Fatalf("fired at %v, due at %v", b.clock.now(), times.Due(first))
		}
	}
	b.pass(r, time.Second)
	if got := b.take(); !slices.Equal(got, []string{TickKey("s", first)}) {
		t.Errorf("fired %v", got)
	}
}

// TestChangedTiming: a new timing begins when it is set, and makes up for nothing.
func TestChangedTiming(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add(every("s", 3600))
	r := b.runner()
	b.pass(r, 5*time.Second)
	b.clock.forward(1800 * time.Second)
	changed := b.clock.now()
	b.add(every("s", 60))
	b.pass(r, 90*time.Second)
	for _, key := range b.take() {
		if key <= TickKey("s", changed) {
			t.Errorf("%s fired, of before %v", key, changed)
		}
	}
	if s := b.schedule("s"); s.Left != 0 || s.Fired == 0 {
		t.Errorf("%+v", s)
	}
}

// TestScheduleOfCodeRests: nobody declares it any more; when somebody does again, it
// goes on.
func TestScheduleOfCodeRests(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	kind := jobs.Define[int, int]("work", jobs.Queue("q"))
	table := kind.Scheduled("s", jobs.Every(10*time.Second), 1, jobs.Missed(2, time.Hour))
	app, other := b.runner(table), b.runner()
	b.turn(app)
	b.pass(app, 5*time.Second)
	began := b.clock.now()
	b.pass(other, 4*time.Minute)
	fired := b.take()
	if n := len(fired); n < 12 || n > 13 { // two minutes
		t.Errorf("%d ticks fired: %v", n, fired)
	}
	if last := b.schedule("s").Last; last.After(began.Add(130 * time.Second)) {
		t.Errorf("decided up to %v", last)
	}
	newer := table
	newer.Payload = []byte("2")
	app = b.runner(newer)
	b.turn(app)
	if got := b.take(); len(got) < 2 || len(got) > 4 { // two missed ones, and those that are not late
		t.Errorf("made up for %v", got)
	}
	if s := b.schedule("s"); string(s.Payload) != "2" || s.Revision != 2 {
		t.Errorf("%+v", s)
	}
}

// TestUnknownKind: a tick waits until a worker has published its kind.
func TestUnknownKind(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add(every("s", 10, func(t *jobs.Timetable) { t.Kind = "later" }))
	began, r := b.clock.now(), b.runner()
	b.pass(r, 15*time.Second)
	if got := b.take(); len(got) > 0 {
		t.Errorf("fired %v", got)
	}
	b.publish("later")
	b.pass(r, time.Second)
	if got, want := b.take(), keys("s", began, 10); !slices.Equal(got, want) {
		t.Errorf("fired %v, want %v", got, want)
	}
}

// TestRefusedPayload: what cannot be enqueued is skipped, with the reason, and the
// next ones have their turn.
func TestRefusedPayload(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ok(b.store.Publish(b.ctx, []delivery.PublishedKind{{Name: "small", Queue: "q", Version: 1, Timeout: time.Minute, Retention: time.Hour, MaxPayload: 2}}))
	b.add(every("s", 10, func(t *jobs.Timetable) { t.Kind, t.Payload = "small", []byte(`"more than two bytes"`) }))
	r := b.runner()
	b.pass(r, 25*time.Second)
	s := b.schedule("s")
	if s.Left != 2 || s.Fired != 0 || s.Open != nil || !strings.Contains(b.ticks("s")[0].Reason, "at most 2 bytes") {
		t.Errorf("%+v %+v", s, b.ticks("s"))
	}
}

// TestNewestProcessHasItsWay: one with another timetable that started before does not
// set it back.
func TestNewestProcessHasItsWay(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	kind := jobs.Define[int, int]("work", jobs.Queue("q"))
	old, next := b.runner(kind.Scheduled("s", jobs.Every(time.Hour), 1)), b.runner(kind.Scheduled("s", jobs.Every(time.Hour), 2))
	b.turn(old)
	b.turn(next)
	for range 100 {
		b.clock.forward(time.Second)
		b.turn(old)
		b.turn(next)
	}
	if s := b.schedule("s"); string(s.Payload) != "2" || s.Revision != 2 || b.clock.now().Sub(s.Declared) > declareEvery {
		t.Errorf("%+v", s)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	bad := every("s", 1)
	bad.Zone = "Mars"
	for _, o := range []Options{{Code: []jobs.Timetable{bad}}, {Code: []jobs.Timetable{every("s", 1)}, File: []jobs.Timetable{every("s", 2)}}} {
		if _, err := New(nil, o); !errors.Is(err, jobs.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	kind := jobs.Define[func(), int]("work")
	if _, err := New(nil, Options{Code: []jobs.Timetable{kind.Scheduled("s", "@daily", func() {})}}); err == nil {
		t.Error("a payload that cannot be encoded is accepted")
	}
}

// TestIdleCost: a process with schedules that are not due asks Redis for little.
func TestIdleCost(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for i := range 20 {
		b.add(every(fmt.Sprint("s", i), 86400))
	}
	calls := &mortal{left: 1 << 30}
	b.rdb.AddHook(calls)
	r, err := New(b.store, Options{})
	b.ok(err)
	if _, err := r.Turn(b.ctx); err != nil {
		t.Fatal(err)
	}
	before := calls.left
	var slept time.Duration
	for range 10 {
		wait, err := r.Turn(b.ctx)
		b.ok(err)
		slept += wait
	}
	if used := before - calls.left; used > 2 || slept < 45*time.Second {
		t.Errorf("%d calls in ten turns, asleep %v", used, slept)
	}
}

// TestMetrics: each tick is counted once, in the process that carried it out.
func TestMetrics(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add(every("s", 10, func(t *jobs.Timetable) { t.CatchUp = &jobs.CatchUp{Most: 1} }))
	registry := prometheus.NewRegistry()
	r, err := New(b.store, Options{Clock: b.clock.now, Registerer: registry})
	b.ok(err)
	b.clock.forward(95 * time.Second)
	b.turn(r)
	got := map[string]float64{}
	families, err := registry.Gather()
	b.ok(err)
	for _, family := range families {
		for _, m := range family.Metric {
			value := m.GetCounter().GetValue()
			if family.GetType() == dto.MetricType_HISTOGRAM {
				value = float64(m.GetHistogram().GetSampleCount())
			}
			got[family.GetName()] += value
		}
	}
	want := map[string]float64{"perdure_cron_fired_total": 2, "perdure_cron_skipped_total": 7, "perdure_cron_late_seconds": 2}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestRealClock runs the loop itself, without a clock of the test's.
func TestRealClock(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, err := b.store.DefineSchedule(b.ctx, every("s", 1), delivery.FromAPI, time.Time{}, by)
	b.ok(err)
	began := b.schedule("s").Last
	ctx, cancel := contextWithCancel(b)
	var all sync.WaitGroup
	for range 3 {
		options := *b.options
		rdb := redis.NewClient(&options)
		defer rdb.Close()
		r, err := New(store.New(rdb, rdb), Options{})
		b.ok(err)
		all.Go(func() { _ = r.Run(ctx) })
	}
	fired := []string{}
	for deadline := time.Now().Add(time.Minute); len(fired) < 3 && time.Now().Before(deadline); {
		key, err := b.rdb.BRPop(b.ctx, 5*time.Second, "asynq:{q}:pending").Result()
		b.ok(err)
		fired = append(fired, key[1])
	}
	cancel()
	all.Wait()
	_, now, err := b.store.ScheduleChanges(b.ctx)
	b.ok(err)
	first, _ := parse(t, every("s", 1)).Next(began)
	if want := keys("s", first, 0, 1, 2); !slices.Equal(fired, want) {
		t.Errorf("fired %v, want %v", fired, want)
	}
	if late := now.Sub(first.Add(2 * time.Second)); late < 0 || late > 30*time.Second {
		t.Errorf("the third fired %v after its instant", late)
	}
}

// triggering is a store in which somebody triggers the schedule s after a tick of it
// was judged and before it is decided.
type triggering struct {
	*store.Store
	once    sync.Once
	trigger func()
}

func (s *triggering) DecideTick(ctx context.Context, d delivery.TickDecision) (delivery.TickAnswer, error) {
	s.once.Do(s.trigger)
	return s.Store.DecideTick(ctx, d)
}

// TestTriggeredBeforeATick: what was triggered while a tick is judged is the run before it.
func TestTriggeredBeforeATick(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		overlap jobs.Overlap
		want    string // of the triggered job and of the tick's
	}{
		{jobs.OverlapAllow, "pending pending"},
		{jobs.OverlapSkip, "pending -"},
		{jobs.OverlapQueue, "pending -"},
		{jobs.OverlapCancel, "cancelled pending"},
	} {
		t.Run(string(c.overlap), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.add(every("s", 20, func(t *jobs.Timetable) { t.Overlap = c.overlap }))
			var triggered Triggered
			r, err := New(&triggering{Store: b.store, trigger: func() {
				did, err := NewDesk(b.store).Trigger(b.ctx, "s", by)
				b.ok(err)
				triggered = did
			}}, Options{Clock: b.clock.now})
			b.ok(err)
			began := b.clock.now()
			b.pass(r, 21*time.Second)
			got := make([]string, 0, 2)
			for _, key := range []string{triggered.Job.Key, keys("s", began, 20)[0]} {
				info, err := b.store.Get(b.ctx, "q", key)
				state := string(info.State)
				if errors.Is(err, jobs.ErrNotFound) {
					state = "-"
				}
				got = append(got, state)
			}
			if fmt.Sprint(got) != "["+c.want+"]" {
				t.Errorf("the triggered job and the tick's: %v, want %s; %+v", got, c.want, b.ticks("s"))
			}
		})
	}
}
