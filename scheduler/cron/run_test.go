package cron

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// crew is schedulers that die and are replaced.
type crew struct {
	b     *bench
	rand  *rand.Rand
	hands []*hand
	died  int
}

type hand struct {
	runner *Runner
	fate   *mortal
	rdb    *redis.Client
}

func (c *crew) hire() *hand {
	h := &hand{fate: &mortal{left: 3 + c.rand.IntN(60), after: c.rand.IntN(2) == 0}}
	options := *c.b.options
	h.rdb = redis.NewClient(&options)
	h.rdb.AddHook(h.fate)
	var err error
	h.runner, err = New(store.New(h.rdb, h.rdb), Options{Clock: c.b.clock.now})
	c.b.ok(err)
	return h
}

// turn gives each its turn, all at the same time, and buries the dead.
func (c *crew) turn() {
	var all sync.WaitGroup
	for _, h := range c.hands {
		all.Go(func() { _, _ = h.runner.Turn(c.b.ctx) })
	}
	all.Wait()
	for i, h := range c.hands {
		if h.fate.dead() {
			h.rdb.Close()
			c.hands[i] = c.hire()
			c.died++
		}
	}
}

// TestEachTickOnce lets three schedulers carry out an hour of ticks of a second, kills
// each of them again and again at any call, and forgets each job as soon as it is
// there: neither is a tick left out nor does one fire twice.
func TestEachTickOnce(t *testing.T) {
	t.Parallel()
	const ticks = 3600
	b := newBench(t)
	b.add(jobs.Timetable{Name: "s", When: "* * * * * *", Kind: "work", CatchUp: &jobs.CatchUp{Most: 1000}})
	c := &crew{b: b, rand: rand.New(rand.NewPCG(1, 2))}
	for range 3 {
		c.hands = append(c.hands, c.hire())
	}
	began, fired := b.clock.now(), map[string]int{}
	count := func() {
		for _, key := range b.take() {
			fired[key]++
		}
	}
	for range ticks {
		b.clock.forward(time.Second)
		c.turn()
		count()
	}
	for i := 0; b.schedule("s").Open != nil || b.schedule("s").Last.Before(b.clock.now()); i++ {
		if i == 100 {
			t.Fatalf("not over: %+v", b.schedule("s"))
		}
		b.clock.forward(time.Second)
		c.turn()
		count()
	}
	for _, h := range c.hands {
		h.rdb.Close()
	}
	for at := began.Add(time.Second); !at.After(began.Add(ticks * time.Second)); at = at.Add(time.Second) {
		if n := fired[TickKey("s", at)]; n != 1 {
			t.Errorf("%v fired %d times", at, n)
		}
	}
	s := b.schedule("s")
	if int(s.Fired) != len(fired) || s.Left != 0 {
		t.Errorf("on record: %d fired, %d skipped; %d jobs", s.Fired, s.Left, len(fired))
	}
	t.Logf("%d ticks, %d schedulers died", len(fired), c.died)
	if c.died < 500 {
		t.Errorf("only %d schedulers died", c.died)
	}
}

func TestTickOfCode(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	kind := jobs.Define[int, int]("work", jobs.Queue("q"))
	r := b.runner(kind.Scheduled("minutely", jobs.Cron("* * * * *"), 7))
	b.turn(r)
	b.pass(r, 3*time.Minute)
	began := b.clock.now().Add(-3 * time.Minute)
	var want []string
	for i := range 3 {
		want = append(want, TickKey("minutely", began.Add(time.Duration(i+1)*time.Minute)))
	}
	info, err := b.store.Get(b.ctx, "q", want[0])
	if err != nil || info.Kind != "work" || info.State != jobs.StatePending {
		t.Fatalf("%+v %v", info, err)
	}
	if got := b.take(); !slices.Equal(got, want) {
		t.Errorf("fired %v, want %v", got, want)
	}
	if s := b.schedule("minutely"); s.Origin != "code" || s.Fired != 3 || fmt.Sprint(string(s.Payload)) != "7" {
		t.Errorf("%+v", s)
	}
}

// TestOneBadScheduleStopsNoOther: what is stored of one cannot be read.
func TestOneBadScheduleStopsNoOther(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ what, field, value string }{
		{"definition", "def", `{"name":"bad","when":7}`},
		{"another one's definition", "def", `{"name":"good","when":"@daily","kind":"work"}`},
		{"open tick", "open", `{"at":`},
		{"another type of key", "", ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.add(every("good", 10))
			b.add(every("bad", 86400))
			const key = "perdure:{@cron}:s:bad"
			if c.field != "" {
				b.ok(b.rdb.HSet(b.ctx, key, c.field, c.value).Err())
			} else {
				b.ok(b.rdb.Set(b.ctx, key, "", 0).Err())
			}
			began, log := b.clock.now(), &strings.Builder{}
			mine := every("mine", 10)
			r, err := New(b.store, Options{Code: []jobs.Timetable{mine, every("bad", 3600)}, Clock: b.clock.now, Log: slog.New(slog.NewTextHandler(log, nil))})
			b.ok(err)
			b.pass(r, 15*time.Second)
			if got, want := b.take(), append(keys("good", began, 10), keys("mine", began, 10)...); !slices.Equal(got, want) {
				t.Errorf("fired %v, want %v", got, want)
			}
			if !strings.Contains(log.String(), "schedule=bad") {
				t.Errorf("the log does not tell: %s", log)
			}
			views, err := NewDesk(b.store).List(b.ctx)
			b.ok(err)
			want := map[bool]string{true: "active", false: "unreadable"}[c.field == "def"] // whoever declares it mends its definition
			if len(views) != 3 || views[0].Name != "bad" || views[0].State != want {
				t.Errorf("%+v", views)
			}
		})
	}
}

// TestTooManySchedules: one of a program for which there is no place stops no other.
func TestTooManySchedules(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for i := range jobs.MaxTimetables {
		b.ok(b.rdb.SAdd(b.ctx, "perdure:{@cron}:names", fmt.Sprint("s", i)).Err())
	}
	b.ok(b.rdb.SRem(b.ctx, "perdure:{@cron}:names", "s0").Err())
	b.add(every("good", 10))
	began, log := b.clock.now(), &strings.Builder{}
	r, err := New(b.store, Options{Code: []jobs.Timetable{every("mine", 10)}, Clock: b.clock.now, Log: slog.New(slog.NewTextHandler(log, nil))})
	b.ok(err)
	b.pass(r, 15*time.Second)
	if got, want := b.take(), keys("good", began, 10); !slices.Equal(got, want) {
		t.Errorf("fired %v, want %v", got, want)
	}
	if !strings.Contains(log.String(), "at most 1000") {
		t.Errorf("the log does not tell: %s", log)
	}
	b.ok(b.rdb.SRem(b.ctx, "perdure:{@cron}:names", "s1").Err()) // there is a place now
	b.pass(r, declareEvery)
	if b.schedule("mine").Origin != delivery.FromCode {
		t.Errorf("%+v", b.schedule("mine"))
	}
	if n := b.rdb.ZCard(b.ctx, "perdure:{@cron}:declared").Val(); n != 1 {
		t.Errorf("%d schedules are declared, want 1", n)
	}
}

// TestClockWasAhead: a tick has fired a year ahead. A new timing begins now all the
// same, and what is on record as fired has.
func TestClockWasAhead(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	for what, again := range map[string]func(b *bench){
		"another timing": func(*bench) {},
		"removed":        func(b *bench) { b.ok(b.store.RemoveSchedule(b.ctx, "s", b.clock.now(), by)) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.add(every("s", 20))
			r := b.runner()
			b.clock.forward(year)
			b.turn(r)
			b.take()
			b.clock.forward(-year)
			b.pass(r, 21*time.Second)
			if got := b.take(); len(got) > 0 {
				t.Errorf("before instants that have fired: %v", got)
			}
			again(b)
			b.add(every("s", 10))
			began := b.clock.now().Truncate(10 * time.Second)
			fired := b.schedule("s").Fired
			b.pass(r, 25*time.Second)
			if got, want := b.take(), keys("s", began, 10, 20); !slices.Equal(got, want) || b.schedule("s").Fired != fired+2 {
				t.Errorf("fired %v, want %v; %+v", got, want, b.ticks("s"))
			}
		})
	}
}

// TestOvertakenTick: a queue in which a later tick has fired takes none of before, and
// that is on record.
func TestOvertakenTick(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, err := b.store.FireTick(b.ctx, "s", b.clock.now().Add(time.Hour), jobs.Raw(jobs.Define[int, int]("work", jobs.Queue("q")).Definition(), "later", []byte("1")))
	b.ok(err)
	b.take()
	b.add(every("s", 10))
	b.pass(b.runner(), 15*time.Second)
	s, ticks := b.schedule("s"), b.ticks("s")
	if got := b.take(); len(got) > 0 || s.Fired != 0 || s.Left != 1 || s.Open != nil || len(ticks) != 1 || ticks[0].Key != "" || !strings.Contains(ticks[0].Reason, "a later tick has fired") {
		t.Errorf("enqueued %v: %+v %+v", got, s, ticks)
	}
}
