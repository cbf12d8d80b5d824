package store

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
)

var granted = delivery.Grant{Turn: 3, ID: "g"}

// driveN sends jobs that wait for pay back.
func (f *fixture) driveN(n int, g delivery.Grant, first int) (sent int, left int64) {
	f.t.Helper()
	sent, left, err := f.Drive(f.ctx, pay, n, g, first)
	f.ok(err)
	return sent, left
}

func (f *fixture) lane() []string { return f.rdb.ZRange(f.ctx, laneOfPay, 0, -1).Val() }

func (f *fixture) sound(what string) {
	f.t.Helper()
	f.rdb.ZAdd(f.ctx, ownersKey, redis.Z{Score: float64(f.redisMilli()), Member: "o"})
	if drift := f.census(); len(drift) > 0 {
		f.t.Errorf("%s: the census finds %v", what, drift)
	}
}

func TestTheLongestWaitingGoFirst(t *testing.T) {
	t.Parallel()
	f := open(t)
	parkedIn("a", "b", "c", "d", "e")(f)
	f.enqueue("new")
	since := f.rdb.ZScore(f.ctx, laneOfPay, "a").Val()
	if sent, left := f.driveN(2, granted, 1); sent != 2 || left != 3 {
		t.Errorf("sent %d, left %d", sent, left)
	}
	batch, err := f.Claim(f.ctx, "q", "o", 2)
	f.ok(err)
	if keys := keysOf(batch); !slices.Equal(keys, []string{"a", "b"}) {
		t.Fatalf("claimed %v", keys)
	}
	now, err := f.rdb.Time(f.ctx).Result()
	f.ok(err)
	for i, d := range batch.Deliveries {
		p := d.Pass
		if p == nil || p.Name != "pay" || p.Turn != 3 || p.ID != fmt.Sprint("g:", i+1) || p.Probe || now.Sub(p.Issued) > 5*time.Second {
			t.Errorf("%s has the pass %+v", d.Key, p)
		}
	}
	if batch.Deliveries[0].Pass.Since != int64(since) || batch.Deliveries[0].Waits != 0 {
		t.Errorf("%+v", batch.Deliveries[0])
	}
	f.sound("two run")
	// One that could not begin takes its place again.
	v := inPay
	v.Since = batch.Deliveries[1].Pass.Since
	f.ok(f.Settle(f.ctx, batch.Deliveries[1], v))
	f.settle(batch.Deliveries[0], delivery.HandBack)
	if lane := f.lane(); !slices.Equal(lane, []string{"b", "c", "d", "e"}) {
		t.Errorf("wait: %v", lane)
	}
	if d := f.take(); d.Key != "a" || d.Pass == nil || d.Pass.ID != "-" || d.Pass.Issued.UnixMilli() != 0 {
		t.Errorf("a pass is for one execution: %+v, %+v", d, d.Pass)
	}
	f.sound("one waits again")
	if sent, left := f.driveN(500, delivery.Grant{Turn: 3, ID: "h", Probe: true}, 1); sent != 4 || left != 0 {
		t.Errorf("sent %d, left %d", sent, left)
	}
	if p := f.take().Pass; p == nil || !p.Probe || p.ID != "h:1" {
		t.Errorf("%+v", p)
	}
	if lanes, err := f.Lanes(f.ctx); err != nil || len(lanes) != 0 {
		t.Errorf("%+v, %v", lanes, err)
	}
}

func TestDriveDropsWhatHasMovedOn(t *testing.T) {
	t.Parallel()
	again := func(f *fixture, v delivery.Verdict) {
		f.ok(f.inspector().RunTask("q", "k"))
		f.nextMilli()
		f.ok(f.Settle(f.ctx, f.take(), v))
	}
	ship := inPay
	ship.Waiting.Name = "ship"
	for name, moves := range map[string]func(f *fixture){
		"cancelled":                 func(f *fixture) { _, err := f.Cancel(f.ctx, "q", "k", why); f.ok(err) },
		"paused by an operator":     func(f *fixture) { _, err := f.Pause(f.ctx, "q", "k", why); f.ok(err) },
		"looks for itself":          func(f *fixture) { f.due("k"); _, err := f.Promote(f.ctx, "q"); f.ok(err) },
		"run now":                   func(f *fixture) { f.ok(f.inspector().RunTask("q", "k")) },
		"runs":                      func(f *fixture) { f.ok(f.inspector().RunTask("q", "k")); f.take() },
		"has ended":                 func(f *fixture) { f.ok(f.inspector().RunTask("q", "k")); f.settle(f.take(), delivery.Complete) },
		"archived with asynq":       func(f *fixture) { f.ok(f.inspector().ArchiveTask("q", "k")) },
		"deleted with asynq":        func(f *fixture) { f.ok(f.inspector().DeleteTask("q", "k")) },
		"lost":                      func(f *fixture) { f.rdb.Del(f.ctx, taskKey("q", "k")) },
		"no job":                    func(f *fixture) { f.rdb.Del(f.ctx, taskKey("q", "k")); f.rdb.Set(f.ctx, taskKey("q", "k"), 1, 0) },
		"waits for something else":  func(f *fixture) { again(f, ship) },
		"retries":                   func(f *fixture) { again(f, verdicts[delivery.Retry]) },
		"waits as it was before it": func(f *fixture) { again(f, verdicts[delivery.Pause]) },
		"in the lane for another reason": func(f *fixture) {
			f.rdb.ZAdd(f.ctx, laneOfPay, redis.Z{Score: 5, Member: "k"}) // of another wait
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			if name == "archived with asynq" {
				redistest.Foreign(t)
			}
			parkedIn("k", "l")(f)
			moves(f)
			before := f.dump()
			if sent, left := f.driveN(1, granted, 1); sent != 1 || left != 0 {
				t.Errorf("sent %d, left %d", sent, left)
			}
			for _, change := range changes(before, f.dump()) {
				if strings.Contains(change, "t:k ") || strings.Contains(change, "retry k") || strings.Contains(change, "parked k") {
					t.Errorf("it was touched: %s", change)
				}
			}
			if p := f.field("l", "p:pass"); !strings.HasSuffix(p, " pass 3 g:1 pay") {
				t.Errorf("the next one has the pass %q", p)
			}
		})
	}
	t.Run("and waits anew", func(t *testing.T) {
		t.Parallel()
		f := open(t)
		parkedIn("k", "l")(f)
		again(f, inPay)
		f.driveN(1, granted, 1)
		if keys := f.claimed(2); !slices.Equal(keys, []string{"l"}) {
			t.Errorf("the longest waiting are %v", keys)
		}
		if lane := f.lane(); !slices.Equal(lane, []string{"k"}) {
			t.Errorf("wait: %v", lane)
		}
	})
}

// However many have moved on, one that has not is found, and no script takes long for it.
func TestDriveAmongThousandsThatHaveMovedOn(t *testing.T) {
	t.Parallel()
	f := open(t)
	pipe := f.rdb.Pipeline()
	for i := range 2300 {
		pipe.ZAdd(f.ctx, laneOfPay, redis.Z{Score: float64(i), Member: fmt.Sprint("gone", i)})
	}
	_, err := pipe.Exec(f.ctx)
	f.ok(err)
	parkedIn("k", "l")(f)
	reply := driveRaw(1)(f, nil).([]any)
	if left, _ := reply[1].(int64); reply[0] != int64(0) || left < 1700 {
		t.Errorf("one script has looked at too many: %v", reply)
	}
	if sent, left := f.driveN(1, granted, 1); sent != 1 || left != 1 {
		t.Errorf("sent %d, left %d", sent, left)
	}
	if keys := f.claimed(2); !slices.Equal(keys, []string{"k"}) {
		t.Errorf("claimed %v", keys)
	}
}

func TestDriveManyAtOnce(t *testing.T) {
	t.Parallel()
	f := open(t)
	const n = 620
	for i := range n {
		f.enqueue(fmt.Sprintf("k%03d", i))
	}
	for {
		batch, err := f.Claim(f.ctx, "q", "o", maxBatch)
		f.ok(err)
		for _, d := range batch.Deliveries {
			d.Version = 1
			f.ok(f.Settle(f.ctx, d, inPay))
		}
		if batch.Emptied {
			break
		}
	}
	want := f.lane()
	if sent, left := f.driveN(maxBatch, granted, 1); sent != maxBatch || left != n-maxBatch {
		t.Errorf("sent %d, left %d", sent, left)
	}
	if got := f.claimed(maxBatch); !slices.Equal(got, want[:maxBatch]) {
		t.Errorf("claimed %v", got)
	}
	if sent, left := f.driveN(maxBatch, delivery.Grant{ID: "h"}, 1); sent != n-maxBatch || left != 0 {
		t.Errorf("sent %d, left %d", sent, left)
	}
}

func TestWhatWasGrantedIsSentOnce(t *testing.T) {
	t.Parallel()
	f := open(t)
	parkedIn("a", "b", "c", "d")(f)
	for range 2 {
		if sent, left := f.driveN(2, granted, 1); sent != 2 || left != 2 {
			t.Errorf("sent %d, left %d", sent, left)
		}
	}
	if sent, _ := f.driveN(1, granted, 3); sent != 1 { // for another lane's share
		t.Errorf("sent %d", sent)
	}
	passes := map[string]bool{}
	batch, err := f.Claim(f.ctx, "q", "o", 9)
	f.ok(err)
	for _, d := range batch.Deliveries {
		passes[d.Pass.ID] = true
	}
	if len(batch.Deliveries) != 3 || len(passes) != 3 {
		t.Errorf("%d jobs with the passes %v", len(batch.Deliveries), passes)
	}
}

// TestAPassIsAsOldAsItsGrant: who was frozen between the two sends what lets nothing
// begin any more.
func TestAPassIsAsOldAsItsGrant(t *testing.T) {
	t.Parallel()
	f := open(t)
	parkedIn("a", "b")(f)
	late := granted
	late.Asked = time.Now().Add(-time.Minute)
	f.driveN(1, late, 1)
	f.ok(f.HoldQueue(f.ctx, "q", "pay", "it is away"))
	f.ok(f.LetThrough(f.ctx, "q", "pay", late))
	for _, pass := range []string{f.field("a", "p:pass"), f.rdb.HGet(f.ctx, probesKey("q"), "pay").Val()} {
		if p := delivery.ParsePass(pass); p == nil || time.UnixMilli(f.redisMilli()).Sub(p.Issued) < time.Minute {
			t.Errorf("%+v", p)
		}
	}
	f.recoverPay()
	if g := f.grant(3); time.Since(g.Asked) > 10*time.Second || g.Jobs != 1 {
		t.Errorf("%+v", g)
	}
}

func (f *fixture) recoverPay() { recovered(f); f.rdb.HDel(f.ctx, dependencyKey("pay"), "ramp:next") }

// A job that looks for itself, because its time in the lane is up, keeps its place.
func TestOneThatLooksForItselfKeepsItsPlace(t *testing.T) {
	t.Parallel()
	f := open(t)
	parkedIn("a", "b")(f)
	since := int64(f.rdb.ZScore(f.ctx, laneOfPay, "a").Val())
	f.due("a")
	_, err := f.Promote(f.ctx, "q")
	f.ok(err)
	d := f.take()
	if p := d.Pass; d.Key != "a" || p == nil || p.Probe || p.Name != "pay" || p.Since != since || !p.Issued.Before(time.UnixMilli(since)) {
		t.Fatalf("%+v", d.Pass)
	}
	v := inPay
	v.Since = d.Pass.Since
	f.ok(f.Settle(f.ctx, d, v))
	if lane := f.lane(); !slices.Equal(lane, []string{"a", "b"}) {
		t.Errorf("wait: %v", lane)
	}
	// And so it does when it meets a queue that is paused.
	f.due("a")
	_, err = f.Promote(f.ctx, "q")
	f.ok(err)
	f.ok(f.HoldQueue(f.ctx, "q", "pay", "it is away"))
	if moved, over, err := f.Shelve(f.ctx, "q", "pay"); moved != 1 || !over || err != nil {
		t.Errorf("moved %d, %v, %v", moved, over, err)
	}
	if lane := f.lane(); !slices.Equal(lane, []string{"a", "b"}) || f.field("a", "p:pass") != "" {
		t.Errorf("wait: %v", lane)
	}
	f.sound("shelved")
}

// specials make entries of the queue that are more than jobs which wait.
var specials = map[string]func(f *fixture, key string){
	"run now, paused": func(f *fixture, key string) {
		f.settle(f.running(key), delivery.Pause)
		f.ok(f.inspector().RunTask("q", key))
	},
	"run now, completed": func(f *fixture, key string) {
		f.settle(f.running(key), delivery.Complete)
		f.ok(f.inspector().RunTask("q", key))
	},
	"run now, quarantined": func(f *fixture, key string) { f.quarantined(key); f.ok(f.inspector().RunTask("q", key)) },
	"sent back just now": func(f *fixture, key string) {
		f.enqueue(key)
		f.rdb.HSet(f.ctx, taskKey("q", key), "p:pass", fmt.Sprintf("1 %d pass 1 g:1 pay", f.redisMilli()+60_000)) // so that it stays so
	},
	"paused by an operator while it ran": func(f *fixture, key string) {
		d := f.running(key)
		_, err := f.Pause(f.ctx, "q", key, why)
		f.ok(err)
		f.settle(d, delivery.HandBack)
		f.rdb.LRem(f.ctx, pendingKey("q"), 1, key)
		f.rdb.LPush(f.ctx, pendingKey("q"), key)
	},
	"to be cancelled": func(f *fixture, key string) {
		d := f.running(key)
		_, err := f.Cancel(f.ctx, "q", key, why)
		f.ok(err)
		f.settle(d, delivery.HandBack)
		f.rdb.LRem(f.ctx, pendingKey("q"), 1, key)
		f.rdb.LPush(f.ctx, pendingKey("q"), key)
	},
	"to be undone":  func(f *fixture, key string) { f.settle(f.running(key), delivery.Takeback) },
	"without a job": func(f *fixture, key string) { f.rdb.LPush(f.ctx, pendingKey("q"), key) },
}

func TestShelveKeepsTheOrder(t *testing.T) {
	t.Parallel()
	f := open(t)
	names := make([]string, 0, len(specials))
	for name := range specials {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		specials[name](f, fmt.Sprint("s", i))
		f.rdb.Del(f.ctx, pendingKey("q"))
	}
	var jobsWanted, specialsWanted []string
	for i := range names {
		for _, key := range []string{fmt.Sprint("k", i), fmt.Sprint("s", i), fmt.Sprint("l", i)} {
			if key[0] == 's' {
				f.rdb.LPush(f.ctx, pendingKey("q"), key)
				specialsWanted = append(specialsWanted, key)
				continue
			}
			f.nextMilli()
			f.enqueue(key)
			jobsWanted = append(jobsWanted, key)
		}
	}
	f.ok(f.HoldQueue(f.ctx, "q", "pay", "it is away"))
	for over := false; !over; {
		reply := shelveRaw(3)(f, nil).([]any)
		if over = reply[1] == int64(1); over != (f.rdb.Exists(f.ctx, pausedKey("q")).Val() == 0) {
			t.Fatalf("over is %v", over)
		}
		if reply[0] == int64(0) && !over {
			t.Fatal("it gets no further")
		}
	}
	if lane := f.lane(); !slices.Equal(lane, jobsWanted) {
		t.Errorf("wait: %v, want %v", lane, jobsWanted)
	}
	left := f.rdb.LRange(f.ctx, pendingKey("q"), 0, -1).Val()
	if slices.Reverse(left); !slices.Equal(left, specialsWanted) {
		t.Errorf("pending: %v, want %v", left, specialsWanted)
	}
	info, err := f.Get(f.ctx, "q", "k0")
	f.ok(err)
	if w := info.WaitingOn; info.State != jobs.StatePaused || w.Type != "dependency" || w.Name != "pay" || time.Until(w.Until) > 21*time.Minute {
		t.Errorf("%+v", info.WaitingOn)
	}
}

// TestShelveLosesNothing with jobs that come and workers that claim meanwhile; and those
// that were there before the pause ends are not let through.
func TestShelveLosesNothing(t *testing.T) {
	t.Parallel()
	f := open(t)
	const before, meanwhile = 700, 200
	for i := range before {
		f.enqueue(fmt.Sprint("k", i))
	}
	f.ok(f.HoldQueue(f.ctx, "q", "pay", "it is away"))
	var wg sync.WaitGroup
	taken, done := map[string]int{}, make(chan struct{})
	wg.Go(func() {
		for i := range meanwhile {
			f.enqueue(fmt.Sprint("new", i))
		}
	})
	for i := range 3 {
		wg.Go(func() {
			for last := false; ; {
				batch, err := f.Claim(f.ctx, "q", fmt.Sprint("o", i), 5)
				if f.ok(err); last && batch.Emptied {
					return
				}
				select {
				case <-done: // nobody adds more: the next claim that finds nothing is the last one
					last = true
				default:
				}
			}
		})
	}
	for range 2 { // two schedulers
		wg.Go(func() {
			for over := false; !over; {
				var err error
				_, over, err = f.Shelve(f.ctx, "q", "pay")
				f.ok(err)
			}
		})
	}
	wg.Go(func() {
		for f.rdb.Exists(f.ctx, pausedKey("q")).Val() == 1 || f.rdb.ZCard(f.ctx, laneOfPay).Val()+f.rdb.HLen(f.ctx, ownerKey("q", "o0")).Val() == 0 ||
			f.rdb.Exists(f.ctx, taskKey("q", fmt.Sprint("new", meanwhile-1))).Val() == 0 {
		}
		close(done)
	})
	wg.Wait()
	lane := f.lane()
	for _, key := range lane {
		taken[key]++
	}
	for i := range 3 { // by the record: an answer may have been lost
		for _, key := range f.rdb.HKeys(f.ctx, ownerKey("q", fmt.Sprint("o", i))).Val() {
			taken[key]++
		}
	}
	for key, n := range taken {
		if n != 1 {
			t.Errorf("%s is in %d places", key, n)
		}
	}
	if len(taken) != before+meanwhile {
		t.Errorf("%d jobs of %d", len(taken), before+meanwhile)
	}
	old := 0
	for _, key := range lane {
		if key[0] == 'k' {
			old++
		}
	}
	if old != before {
		t.Errorf("%d of %d that were there before wait", old, before)
	}
}

func TestOthersPausesStay(t *testing.T) {
	t.Parallel()
	for name, pause := range map[string]func(f *fixture){
		"an operator's":           func(f *fixture) { f.ok(f.PauseQueue(f.ctx, "q", why)) },
		"one with asynq's tools":  func(f *fixture) { f.ok(f.inspector().PauseQueue("q")) },
		"of another dependency's": func(f *fixture) { f.ok(f.HoldQueue(f.ctx, "q", "ship", "it is away")) },
	} {
		for _, first := range []bool{true, false} {
			if !first && name == "one with asynq's tools" {
				continue // they say that it is paused already
			}
			t.Run(fmt.Sprint(name, " first ", first), func(t *testing.T) {
				t.Parallel()
				f := open(t)
				f.enqueue("k")
				if first {
					pause(f)
				}
				f.ok(f.HoldQueue(f.ctx, "q", "pay", "it is away"))
				if !first {
					pause(f)
				}
				if _, over, err := f.Shelve(f.ctx, "q", "pay"); !over || err != nil {
					t.Fatal(over, err)
				}
				info, err := f.QueueInfo(f.ctx, "q")
				f.ok(err)
				if !info.Paused || len(info.Reasons) != 1 {
					t.Errorf("%+v", info)
				}
				if batch, err := f.Claim(f.ctx, "q", "o", 1); err != nil || !batch.Paused {
					t.Errorf("claimed %+v, %v", batch, err)
				}
				if name == "of another dependency's" {
					return
				}
				if changed, err := f.ResumeQueue(f.ctx, "q", why); !changed || err != nil {
					t.Errorf("resumed: %v, %v", changed, err)
				}
			})
		}
	}
}

func TestTheCensusRestoresALane(t *testing.T) {
	t.Parallel()
	f := open(t)
	parkedIn("a", "b", "c")(f)
	f.sound("three wait")
	before := f.dump()
	f.rdb.Del(f.ctx, laneOfPay, lanesKey("q"))
	if drift := f.census(); drift["index"] != 3 || len(drift) != 1 {
		t.Errorf("found %v", drift)
	}
	delete(before, censusKey)
	after := f.dump()
	delete(after, censusKey)
	if changed := changes(before, after); len(changed) > 0 {
		t.Errorf("restored is not what it was:\n%s", strings.Join(changed, "\n"))
	}
	f.sound("restored")
	// An entry of another wait is no place in the line.
	f.rdb.ZAdd(f.ctx, laneOfPay, redis.Z{Score: 5, Member: "a"})
	f.driveN(1, granted, 1)
	if drift := f.census(); drift["index"] != 1 {
		t.Errorf("found %v", drift)
	}
	if sent, left := f.driveN(9, delivery.Grant{ID: "h"}, 1); sent != 2 || left != 0 {
		t.Errorf("sent %d, left %d", sent, left)
	}
	f.sound("all are sent")
}

func TestOneJobIsLetThrough(t *testing.T) {
	t.Parallel()
	f := open(t)
	for i := range 9 {
		f.enqueue(fmt.Sprint("k", i))
	}
	f.ok(f.HoldQueue(f.ctx, "q", "pay", "it is away"))
	if batch, err := f.Claim(f.ctx, "q", "o", 5); err != nil || !batch.Paused {
		t.Fatalf("%+v, %v", batch, err)
	}
	letThrough(f, nil)
	if ttl := f.rdb.PTTL(f.ctx, probesKey("q")).Val(); ttl <= 0 || ttl > 5*time.Second {
		t.Errorf("it may be claimed for %v", ttl)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var taken []delivery.Delivery
	for i := range 6 {
		wg.Go(func() {
			batch, err := f.Claim(f.ctx, "q", fmt.Sprint("o", i), 5)
			f.ok(err)
			mu.Lock()
			defer mu.Unlock()
			if taken = append(taken, batch.Deliveries...); len(batch.Deliveries) == 0 && !batch.Paused {
				t.Errorf("%+v", batch)
			}
		})
	}
	wg.Wait()
	if len(taken) != 1 || taken[0].Key != "k0" {
		t.Fatalf("let through: %+v", taken)
	}
	if p := taken[0].Pass; p == nil || !p.Probe || p.Name != "pay" || p.ID != "g:1" || p.Turn != 1 {
		t.Errorf("with %+v", p)
	}
	// Not when somebody wants the queue to rest.
	f.ok(f.PauseQueue(f.ctx, "q", why))
	letThrough(f, nil)
	if batch, err := f.Claim(f.ctx, "q", "o", 5); err != nil || !batch.Paused {
		t.Errorf("%+v, %v", batch, err)
	}
	_, err := f.ResumeQueue(f.ctx, "q", why)
	f.ok(err)
	f.ok(f.HoldQueue(f.ctx, "q", "ship", "it is away")) // that is about dependencies too
	if keys := f.claimed(5); !slices.Equal(keys, []string{"k1"}) {
		t.Errorf("let through: %v", keys)
	}
	// One that was sent back as the probe is the next in the queue: it has the pass once.
	held, err := f.Held(f.ctx)
	if f.ok(err); !slices.Equal(slices.Sorted(slices.Values(held.For["q"])), []string{"pay", "ship"}) || held.Pending["q"] != 7 || held.Resting["q"] {
		t.Errorf("held %+v", held)
	}
	f.rdb.HSet(f.ctx, probesKey("q"), "pay", "x", "ship", "x")
	for _, name := range []string{"pay", "ship"} {
		_, _, err := f.Shelve(f.ctx, "q", name)
		f.ok(err)
	}
	if f.rdb.Exists(f.ctx, probesKey("q")).Val() != 0 {
		t.Error("a pass is left after the pause")
	}
}

// TestEachProbeIsLetThrough: probes of several services do not take each other's place.
func TestEachProbeIsLetThrough(t *testing.T) {
	t.Parallel()
	f := open(t)
	parkedIn("a")(f)
	inShip := inPay
	inShip.Waiting.Name = "ship"
	f.ok(f.Settle(f.ctx, f.running("b"), inShip))
	holdFor("pay")(f, nil)
	holdFor("ship")(f, nil)
	for name, id := range map[string]string{"pay": "g", "ship": "h"} {
		if sent, _, err := f.Drive(f.ctx, delivery.Lane{Queue: "q", Name: name, Kind: "kind.a"}, 1, delivery.Grant{Turn: 1, ID: id, Probe: true}, 1); err != nil || sent != 1 {
			t.Fatalf("%d sent, %v", sent, err)
		}
	}
	want := map[string]string{"a": "g:1", "b": "h:1"}
	for range want {
		batch, err := f.Claim(f.ctx, "q", "o", 5)
		if f.ok(err); len(batch.Deliveries) != 1 {
			t.Fatalf("claimed %+v", batch)
		}
		if d := batch.Deliveries[0]; d.Pass == nil || d.Pass.ID != want[d.Key] {
			t.Errorf("%s with %+v, want %s", d.Key, d.Pass, want[d.Key])
		}
	}
	f.enqueue("c")
	if batch, err := f.Claim(f.ctx, "q", "o", 5); err != nil || !batch.Paused {
		t.Errorf("another one: %+v, %v", batch, err)
	}
}

// TestASuspectIsTheProbe: one that has to run by itself and was sent back to probe is the
// probe: no other job begins with its pass.
func TestASuspectIsTheProbe(t *testing.T) {
	t.Parallel()
	f := open(t)
	parkedIn("a", "b")(f)
	holdFor("pay")(f, nil)
	f.enqueue("c")
	f.rdb.HSet(f.ctx, taskKey("q", "a"), "p:row", 2)
	f.driveN(1, delivery.Grant{Turn: 1, ID: "g", Probe: true}, 1)
	for range 2 {
		if batch, err := f.Claim(f.ctx, "q", "o", 5); err != nil || len(batch.Deliveries) != 0 {
			t.Errorf("claimed %+v, %v", batch.Deliveries, err)
		}
	}
	d, err := f.Isolate(f.ctx, "q", "o", false)
	if f.ok(err); len(d.Deliveries) != 1 || d.Deliveries[0].Key != "a" || d.Deliveries[0].Pass == nil || d.Deliveries[0].Pass.ID != "g:1" {
		t.Errorf("by itself: %+v", d)
	}
}

// TestAHoldIsTakenBack: a queue that has got a kind that does not need the service goes on.
func TestAHoldIsTakenBack(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.enqueue("k")
	holdFor("pay")(f, nil)
	holdFor("ship")(f, nil)
	f.ok(f.UnholdQueue(f.ctx, "q", "pay", "a kind has come"))
	if q, err := f.QueueInfo(f.ctx, "q"); err != nil || !q.Paused || len(q.Reasons) != 1 || q.Reasons["dependency:ship"] == "" {
		t.Errorf("%+v, %v", q, err)
	}
	f.ok(f.UnholdQueue(f.ctx, "q", "ship", "a kind has come"))
	if keys := f.claimed(5); !slices.Equal(keys, []string{"k"}) {
		t.Errorf("claimed %v", keys)
	}
}

// TestAnOperatorsPauseWithOtherTools: one that came while a dependency paused the queue
// stays after that, and is shown.
func TestAnOperatorsPauseWithOtherTools(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.enqueue("k")
	holdFor("pay")(f, nil)
	f.ok(f.inspector().UnpauseQueue("q"))
	f.ok(f.inspector().PauseQueue("q"))
	held, err := f.Held(f.ctx)
	if f.ok(err); !held.Resting["q"] {
		t.Errorf("%+v", held)
	}
	letThrough(f, nil)
	if batch, err := f.Claim(f.ctx, "q", "o", 5); err != nil || !batch.Paused {
		t.Errorf("%+v, %v", batch, err)
	}
	q, err := f.QueueInfo(f.ctx, "q")
	if f.ok(err); q.Reasons["asynq"] == "" || q.Reasons["dependency:pay"] == "" {
		t.Errorf("reasons %v", q.Reasons)
	}
	for over := false; !over; {
		_, over, err = f.Shelve(f.ctx, "q", "pay")
		f.ok(err)
	}
	if q, err := f.QueueInfo(f.ctx, "q"); err != nil || !q.Paused || len(q.Reasons) != 1 || q.Reasons["asynq"] == "" {
		t.Errorf("after the service is back: %+v, %v", q, err)
	}
	if _, err := f.ResumeQueue(f.ctx, "q", why); err != nil {
		t.Error(err)
	}
	if q, err := f.QueueInfo(f.ctx, "q"); err != nil || q.Paused {
		t.Errorf("%+v, %v", q, err)
	}
}

// A queue that somebody has paused with asynq's tools lets nothing through.
func TestAForeignPauseLetsNothingThrough(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.enqueue("k")
	f.ok(f.inspector().PauseQueue("q"))
	letThrough(f, nil)
	if batch, err := f.Claim(f.ctx, "q", "o", 5); err != nil || !batch.Paused {
		t.Errorf("%+v, %v", batch, err)
	}
	f.ok(f.HoldQueue(f.ctx, "q", "pay", "it is away"))
	if batch, err := f.Claim(f.ctx, "q", "o", 5); err != nil || !batch.Paused {
		t.Errorf("%+v, %v", batch, err)
	}
}

func TestQueuesAllOfWhoseKindsNeedIt(t *testing.T) {
	t.Parallel()
	f := open(t)
	says := func(name, queue string, ago time.Duration, needs ...string) {
		kind := delivery.PublishedKind{Name: name, Queue: queue, Needs: needs, At: f.now().Add(-ago)}
		f.ok(f.rdb.HSet(f.ctx, kindsKey, name, mustJSON(kind)).Err())
	}
	says("a", "all", 0, "pay", "ship")
	says("b", "all", 0, "pay")
	says("c", "some", 0, "pay")
	says("d", "some", 0)
	says("e", "others", 0, "ship")
	says("f", "by now", 0, "pay")
	says("g", "by now", time.Hour) // no worker has it any more
	says("h", "once", time.Hour, "pay")
	for range 20 { // in any order
		queues, err := f.QueuesNeeding(f.ctx, "pay")
		if f.ok(err); !slices.Equal(queues, []string{"all", "by now"}) {
			t.Fatalf("pay is needed by all of %v", queues)
		}
	}
	if queues, err := f.QueuesNeeding(f.ctx, "ship"); err != nil || !slices.Equal(queues, []string{"others"}) {
		t.Errorf("ship is needed by all of %v, %v", queues, err)
	}
	if queues, err := f.QueuesNeeding(f.ctx, "x"); err != nil || len(queues) != 0 {
		t.Errorf("x is needed by all of %v, %v", queues, err)
	}
}

// A pass is for one execution, also of a job that runs in a process of its own.
func TestASuspectsPassIsForOneExecution(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.crash("k")
	f.crash("k")
	f.rdb.HSet(f.ctx, taskKey("q", "k"), "p:pass", "1 2 pass 3 g:1 pay")
	f.claimed(1)
	batch := f.isolate("o", true)
	if len(batch.Deliveries) != 1 || batch.Deliveries[0].Pass == nil || batch.Deliveries[0].Pass.ID != "g:1" {
		t.Fatalf("%+v", batch)
	}
	if pass := f.field("k", "p:pass"); pass != "1 0 pass 0 - pay" {
		t.Errorf("the next execution has the pass %q", pass)
	}
}

// TestAProbeIsLetThroughWheneverTheQueueIsHeld: a job that is sent back to probe is claimed
// although its queue is paused for the dependency, before that or just after it.
func TestAProbeIsLetThroughWheneverTheQueueIsHeld(t *testing.T) {
	t.Parallel()
	probe := delivery.Grant{Turn: 1, ID: "g", Probe: true}
	for name, heldFirst := range map[string]bool{"held before": true, "held after": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			parkedIn("a", "b")(f)
			if heldFirst {
				holdFor("pay")(f, nil)
			}
			f.driveN(1, probe, 1)
			if !heldFirst {
				holdFor("pay")(f, nil)
			}
			batch, err := f.Claim(f.ctx, "q", "o", 5)
			if f.ok(err); len(batch.Deliveries) != 1 || batch.Deliveries[0].Key != "a" {
				t.Fatalf("claimed %+v", batch)
			}
			if p := batch.Deliveries[0].Pass; p == nil || !p.Probe || p.ID != "g:1" {
				t.Errorf("with %+v", p)
			}
			f.enqueue("c")
			if batch, err := f.Claim(f.ctx, "q", "o", 5); err != nil || !batch.Paused {
				t.Errorf("another one: %+v, %v", batch, err)
			}
		})
	}
	t.Run("claimed before", func(t *testing.T) {
		t.Parallel()
		f := open(t)
		parkedIn("a", "b")(f)
		f.driveN(1, probe, 1)
		if keys := f.claimed(5); !slices.Equal(keys, []string{"a"}) {
			t.Fatalf("claimed %v", keys)
		}
		holdFor("pay")(f, nil)
		f.enqueue("c")
		if batch, err := f.Claim(f.ctx, "q", "o", 5); err != nil || !batch.Paused {
			t.Errorf("another one: %+v, %v", batch, err)
		}
	})
	t.Run("another one is asked about too", func(t *testing.T) {
		t.Parallel()
		f := open(t)
		parkedIn("a", "b")(f)
		holdFor("pay")(f, nil)
		holdFor("ship")(f, nil)
		f.enqueue("c")
		f.driveN(1, probe, 1)
		f.ok(f.LetThrough(f.ctx, "q", "ship", delivery.Grant{Turn: 4, ID: "h", Probe: true}))
		want := map[string]string{"a": "g:1", "c": "h:1"}
		for range want {
			batch, err := f.Claim(f.ctx, "q", "o", 5)
			if f.ok(err); len(batch.Deliveries) != 1 {
				t.Fatalf("claimed %+v", batch)
			}
			d := batch.Deliveries[0]
			if d.Pass == nil || d.Pass.ID != want[d.Key] {
				t.Errorf("%s with %+v, want %s", d.Key, d.Pass, want[d.Key])
			}
		}
	})
}
