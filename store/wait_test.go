package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

var (
	forGo     = jobs.Wait{Name: "go", Type: "signal"}
	forAnHour = jobs.Wait{Name: "go", Type: "timer", For: time.Hour}
)

// await asks what a wait has come to and returns the script's code.
func (f *fixture) await(d delivery.Delivery, w jobs.Wait, most int) any {
	f.t.Helper()
	limit := any("")
	if w.For > 0 {
		limit = w.For.Milliseconds()
	}
	reply, err := f.run(f.ctx, "await", []string{taskKey("q", d.Key)}, d.Token, w.Name, d.Run, w.Type, limit, w.Until.UnixMilli()*boolToInt(!w.Until.IsZero()), most)
	f.ok(err)
	return reply.([]any)[0]
}

func boolToInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func awaits(w jobs.Wait) func(f *fixture, from any) any {
	return func(f *fixture, from any) any { return f.await(held(f, from), w, maxFields) }
}

func (f *fixture) signal(id string, most int) any {
	f.t.Helper()
	code, err := f.runCode(f.ctx, "signal", []string{taskKey("q", "k"), retryKey("q"), parkedKey("q"), pendingKey("q"), eventsKey("q")},
		"k", "go", id, `{"n":1}`, "ada", "because", most)
	f.ok(err)
	return code
}

func signals(f *fixture, _ any) any { return f.signal("id1", maxFields) }

func parks(f *fixture, from any) any { return f.settle(held(f, from), delivery.Park) }

// waiting makes a job that is parked until its signal comes.
func waiting(w jobs.Wait) func(f *fixture) any { return after(run, awaits(w), parks) }

// waitCases are the answers of the scripts about waits.
func waitCases() []scriptCase {
	past := jobs.Wait{Name: "go", Type: "timer", Until: time.UnixMilli(1)}
	return []scriptCase{
		{"await 0", run, awaits(forGo)},
		{"await 0 with a time", run, awaits(forAnHour)},
		{"await 0 again", after(run, awaits(forAnHour)), awaits(jobs.Wait{Name: "go", Type: "timer", For: time.Millisecond})},
		{"await 1 time up", run, awaits(past)},
		{"await 1 signal", after(run, signals), awaits(forGo)},
		{"await 1 signal of an armed wait", after(run, awaits(forAnHour), signals), awaits(forAnHour)},
		{"await 2", after(run, signals, awaits(forGo)), awaits(forGo)},
		{"await -1", gone, awaits(forGo)},
		{"await -2", stale, awaits(forGo)},
		{"await -2 after the verdict", ended(delivery.Retry), awaits(forGo)},
		{"await -4", run, func(f *fixture, from any) any { return f.await(held(f, from), forGo, 3) }},
		{"park 1", after(run, awaits(forGo)), parks},
		{"park 1 with a time", after(run, awaits(forAnHour)), parks},
		{"park 3 the signal came first", after(run, awaits(forGo), signals), parks},
		{"park 3 its time is up", after(run, func(f *fixture, _ any) any { return f.rdb.HSet(f.ctx, taskKey("q", "k"), "w:go", "1 1 timer") }), parks},
		{"park 2", after(run, awaits(forGo), parks), parks},
		{"park -1", gone, parks},
		{"park -2", stale, parks},
		{"signal 1 before the wait", run, signals},
		{"signal 1 pending", pendingJob, signals},
		{"signal 1 wakes", waiting(forGo), signals},
		{"signal 1 wakes before its time", waiting(forAnHour), signals},
		{"signal 1 paused otherwise", after(run, awaits(forGo), func(f *fixture, from any) any { return f.settle(held(f, from), delivery.Pause) }), signals},
		{"signal 2", after(pendingJob, signals), signals},
		{"signal 2 delivered", after(run, signals, awaits(forGo)), signals},
		{"signal -1", nil, signals},
		{"signal -3 completed", ended(delivery.Complete), signals},
		{"signal -3 quarantined", deadJob, signals},
		{"signal -4", after(pendingJob, signals), func(f *fixture, _ any) any { return f.signal("id2", maxFields) }},
		{"signal -4 its time was up", after(run, awaits(past)), signals},
		{"signal -5", pendingJob, func(f *fixture, _ any) any { return f.signal("id1", 1) }},
	}
}

func TestASignalIsDeliveredOnce(t *testing.T) {
	t.Parallel()
	f := open(t)
	d := f.running("k")
	if _, ready, err := f.Await(f.ctx, d.Hold, d.Run, forGo); ready || err != nil {
		t.Fatalf("%v, %v", ready, err)
	}
	f.settle(d, delivery.Park)
	if info, _ := f.Get(f.ctx, "q", "k"); info.State != jobs.StatePaused || info.WaitingOn.Type != "signal" || info.WaitingOn.Name != "go" || info.Attempts != 0 {
		t.Fatalf("%+v", info)
	}
	signal := jobs.Signal{Name: "go", ID: "one", Data: []byte(`1`), Actor: "ada", Reason: "now"}
	for range 3 {
		f.ok(f.Signal(f.ctx, "q", "k", signal))
	}
	other := signal
	other.ID = "two"
	if err := f.Signal(f.ctx, "q", "k", other); !errors.Is(err, jobs.ErrConflict) {
		t.Errorf("another one: %v", err)
	}
	d = f.take()
	for range 2 {
		if output, ready, err := f.Await(f.ctx, d.Hold, d.Run, forGo); string(output) != "d1" || !ready || err != nil {
			t.Errorf("%q %v %v", output, ready, err)
		}
	}
	f.settle(d, delivery.HandBack)
	if d = f.take(); string(d.Steps["go"]) != "d1" {
		t.Errorf("steps %q", d.Steps)
	}
	f.ok(f.Signal(f.ctx, "q", "k", signal))
	events, err := f.Events(f.ctx, "q", 10)
	if err != nil || len(events) != 1 || events[0].What != "signal go" || events[0].Actor != "ada" || events[0].Reason != "now" {
		t.Errorf("%+v, %v", events, err)
	}
}

func TestSleepersWakeByTheirTime(t *testing.T) {
	t.Parallel()
	f := open(t)
	for i, d := range []time.Duration{time.Hour, 20 * time.Millisecond} {
		key := fmt.Sprint("k", i)
		job := f.running(key)
		if _, _, err := f.Await(f.ctx, job.Hold, job.Run, jobs.Wait{Name: "go", Type: "timer", For: d}); err != nil {
			t.Fatal(err)
		}
		f.ok(f.Settle(f.ctx, job, verdicts[delivery.Park]))
	}
	var moved int
	for end := time.Now().Add(time.Minute); moved == 0 && time.Now().Before(end); {
		p, err := f.Promote(f.ctx, "q")
		f.ok(err)
		moved = p.Moved
	}
	d := f.take()
	if output, ready, err := f.Await(f.ctx, d.Hold, d.Run, forAnHour); d.Key != "k1" || string(output) != "t" || !ready || err != nil {
		t.Errorf("%s: %q %v %v", d.Key, output, ready, err)
	}
}

// What 10,000 waiting jobs cost: no slot, and less than 2 KiB of Redis each.
func TestAWaitingJobIsSmall(t *testing.T) {
	t.Parallel()
	f := open(t)
	run := func(w jobs.Wait, key string) {
		d := f.running(key)
		if _, _, err := f.Await(f.ctx, d.Hold, d.Run, w); err != nil {
			t.Fatal(err)
		}
		f.ok(f.Settle(f.ctx, d, verdicts[delivery.Park]))
	}
	for i, w := range []jobs.Wait{forGo, forAnHour} {
		run(w, fmt.Sprint("k", i))
		// 0: all fields are measured; by default it is five, whichever they are.
		if size := f.rdb.MemoryUsage(f.ctx, taskKey("q", fmt.Sprint("k", i)), 0).Val(); size == 0 || size > 1500 {
			t.Errorf("%+v: %d bytes", w, size)
		}
	}
}

func TestAReplayFromTheStartForgetsWaits(t *testing.T) {
	t.Parallel()
	f := open(t)
	d := f.running("k")
	f.await(d, forGo, maxFields)
	f.signal("id1", maxFields)
	f.await(d, jobs.Wait{Name: "later", Type: "signal"}, maxFields)
	f.settle(d, delivery.Quarantine)
	_, err := f.Replay(f.ctx, "q", "k", true, why)
	f.ok(err)
	for field := range f.rdb.HGetAll(f.ctx, taskKey("q", "k")).Val() {
		if slices.Contains([]string{"w:", "g:", "i:", "s:"}, field[:2]) {
			t.Errorf("%s is still there", field)
		}
	}
}
