package chaos

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/perdure/perdure/internal/history"
)

func options(t testing.TB) Options {
	return Options{
		Seed: 3, Workflows: 400, Workers: 4, Duration: 60 * time.Second, Freeze: 5 * time.Second, Settle: 2 * time.Minute, Log: t.Output(),
	}
}

// TestChaosSmoke is the suite at its smallest; `make chaos` runs more of it.
func TestChaosSmoke(t *testing.T) {
	t.Parallel()
	report, err := Run(t.Context(), options(t))
	if err != nil {
		t.Fatal(err)
	}
	report.Write(t.Output())
	if !report.Good() {
		t.Errorf("seed %d: %q, %q", report.Options.Seed, report.Problems, report.Seldom)
	}
}

func TestThePlanIsAFunctionOfTheSeed(t *testing.T) {
	t.Parallel()
	o := options(t)
	if !reflect.DeepEqual(plan(o), plan(o)) {
		t.Error("the same seed made two plans")
	}
	other := o
	other.Seed++
	if reflect.DeepEqual(plan(o), plan(other)) {
		t.Error("two seeds made the same plan")
	}
}

func TestTheShortestRunHasEveryFault(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Duration = leastDuration(o)
	for o.Seed = range 2000 {
		kinds := map[string]bool{}
		for _, l := range plan(o) {
			for _, f := range l.faults {
				kinds[f.Kind] = true
				if f.At < 0 || f.At > o.Duration {
					t.Errorf("seed %d: %+v", o.Seed, f)
				}
			}
		}
		if len(kinds) != 11 {
			t.Fatalf("seed %d: only %v", o.Seed, kinds)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*Options){
		"workflows": func(o *Options) { o.Workflows = 9 },
		"workers":   func(o *Options) { o.Workers = 1 },
		"duration":  func(o *Options) { o.Duration = 20 * time.Second },
		"freeze":    func(o *Options) { o.Freeze = time.Second },
		"settle":    func(o *Options) { o.Settle = 0 },
		"mutant":    func(o *Options) { o.Mutant = "tokens" },
	} {
		o := options(t)
		change(&o)
		if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// loss returns how many of the writes that Redis acknowledged are gone after a loss
// of power in the middle of them.
func loss(t *testing.T, fsync string) (acknowledged, lost int64) {
	t.Helper()
	dir := t.TempDir()
	shim, err := compileShim(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := startServer(t.Context(), dir, "redis", shim, fsync)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	var count atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	enough, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for s.rdb.Incr(ctx, "n").Err() == nil {
			if count.Add(1) == 1000 {
				close(enough)
			}
		}
	}()
	<-enough
	if happened, err := s.losePower(); !happened || err != nil {
		t.Fatal(happened, err)
	}
	<-stopped
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	left, _ := s.rdb.Get(t.Context(), "n").Int64()
	return count.Load(), count.Load() - left
}

func TestALossOfPowerTakesWhatIsNotSynced(t *testing.T) {
	t.Parallel()
	if n, lost := loss(t, "always"); lost > 0 {
		t.Errorf("appendfsync always lost %d of %d", lost, n)
	}
	if n, lost := loss(t, "no"); lost < n*9/10 {
		t.Errorf("appendfsync no lost only %d of %d: the emulation takes nothing", lost, n)
	}
}

// story is a history of one job, a line an event, with the IDs of calls first:
// "1 claim t1 1" is made, "1 claim t1 1 ok" has returned.
func story(lines ...string) []porcupine.Operation {
	var events []history.Event
	for _, line := range lines {
		f := strings.Fields(line)
		e := history.Event{ID: f[0], Op: f[1], Key: "k"}
		rest := f[2:]
		switch e.Op {
		case history.Claim, history.Commit, history.Settle:
			e.Token, e.Run = rest[0], int(rest[0][1]-'0')
			rest = rest[1:]
		}
		switch e.Op {
		case history.Claim:
			e.Steps = map[string]string{}
			for len(rest) > 0 && rest[0] != history.OK {
				e.Steps[rest[0]], rest = "v", rest[1:]
			}
		case history.Commit, history.Settle:
			e.What, e.Value, rest = rest[0], "v", rest[1:]
		}
		if len(rest) > 0 {
			e.Outcome = rest[0]
		}
		events = append(events, e)
	}
	return trace(events).histories["k"]
}

var (
	begun = []string{"a enqueue", "a enqueue ok", "b claim t1", "b claim t1 ok"}
	taken = slices.Clip(append(slices.Clip(begun), "c claim t2", "c claim t2 ok"))
)

func TestTheModelTellsGoodFromBad(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lines []string
		bad   bool
	}{
		"one execution":                      {lines: append(begun, "d commit t1 charge", "d commit t1 charge ok", "e settle t1 complete", "e settle t1 complete ok")},
		"a duplicate":                        {lines: append(begun, "d enqueue", "d enqueue duplicate")},
		"accepted twice":                     {lines: append(begun, "d enqueue", "d enqueue ok"), bad: true},
		"a duplicate of nothing":             {lines: []string{"a enqueue", "a enqueue duplicate"}, bad: true},
		"an enqueue without an answer":       {lines: []string{"a enqueue", "a enqueue unknown", "b enqueue", "b enqueue duplicate"}},
		"claimed and never enqueued":         {lines: []string{"b claim t1", "b claim t1 ok"}, bad: true},
		"a stale step, refused":              {lines: append(taken, "d commit t1 charge", "d commit t1 charge refused")},
		"a stale step, recorded":             {lines: append(taken, "d commit t1 charge", "d commit t1 charge ok"), bad: true},
		"a stale verdict, taken":             {lines: append(taken, "d settle t1 complete", "d settle t1 complete ok"), bad: true},
		"a step while it was claimed":        {lines: append(begun, "d commit t1 charge", "c claim t2", "c claim t2 charge ok", "d commit t1 charge ok")},
		"a step recorded twice":              {lines: append(begun, "d commit t1 charge", "d commit t1 charge ok", "c claim t2", "c claim t2 charge ok", "e commit t2 charge", "e commit t2 charge ok"), bad: true},
		"a step sent twice":                  {lines: append(begun, "d commit t1 charge", "d commit t1 charge unknown", "e commit t1 charge", "e commit t1 charge ok")},
		"a step lost":                        {lines: append(begun, "d commit t1 charge", "d commit t1 charge ok", "c claim t2", "c claim t2 ok"), bad: true},
		"a step without an answer, recorded": {lines: append(begun, "d commit t1 charge", "d commit t1 charge unknown", "c claim t2", "c claim t2 charge ok")},
		"a step without an answer, lost":     {lines: append(begun, "d commit t1 charge", "c claim t2", "c claim t2 ok")},
		"a step out of nowhere":              {lines: append(begun, "c claim t2", "c claim t2 charge ok"), bad: true},
		"claimed after the end":              {lines: append(begun, "d settle t1 complete", "d settle t1 complete ok", "c claim t2", "c claim t2 ok"), bad: true},
		"claimed after a retry":              {lines: append(begun, "d settle t1 retry", "d settle t1 retry ok", "c claim t2", "c claim t2 ok")},
		"written after its own verdict":      {lines: append(begun, "d settle t1 retry", "d settle t1 retry ok", "e commit t1 charge", "e commit t1 charge ok"), bad: true},
	} {
		if ok := porcupine.CheckOperations(model, story(c.lines...)); ok == c.bad {
			t.Errorf("%s: the model says %v", name, ok)
		}
	}
}

func TestWhatIsCountedWithoutTheModel(t *testing.T) {
	t.Parallel()
	events := []history.Event{
		{ID: "1", Op: history.Claim}, {ID: "1", Op: history.Claim, Key: "k", Token: "t", Outcome: history.OK},
		{ID: "2", Op: history.Claim}, {ID: "2", Op: history.Claim, Key: "k", Token: "t", Outcome: history.OK},
		{ID: "3", Op: history.Settle, Key: "k", Token: "t"}, {ID: "3", Op: history.Settle, Key: "k", Token: "t", Outcome: history.Gone},
		{ID: "4", Op: history.Commit, Key: "k", Token: "t", What: "send"}, {ID: "4", Op: history.Commit, Key: "k", Token: "t", What: "send", Outcome: history.OK},
		{ID: "5", Op: history.Commit, Key: "k", Token: "u", What: "send"}, {ID: "5", Op: history.Commit, Key: "k", Token: "u", What: "send", Outcome: history.OK},
		{ID: "6", Op: history.Commit, Key: "k", Token: "v", What: "send"}, {ID: "6", Op: history.Commit, Key: "k", Token: "v", What: "send", Outcome: history.Refused},
		{ID: "7", Op: history.Unanswered}, {ID: "8", Op: history.Enqueue, Key: "k"},
	}
	tr := trace(events)
	if len(tr.repeated) != 1 || len(tr.gone) != 1 || len(tr.doubled) != 1 || len(tr.refused) != 1 || tr.unanswered != 1 || tr.open != 1 || tr.calls != 7 {
		t.Errorf("%+v", tr)
	}
}

func TestChildrenEndWithTheirGroup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, err := launch(dir, "sh", os.Environ(), "sh", "-c", "sleep 600 & echo $! > pid; wait")
	if err != nil {
		t.Fatal(err)
	}
	defer c.kill()
	pid := ""
	for pid == "" {
		text, _ := os.ReadFile(dir + "/pid")
		pid = strings.TrimSpace(string(text))
		sleep(t.Context(), time.Millisecond)
	}
	if !c.kill() || c.kill() {
		t.Error("it was not killed once")
	}
	for range 1000 {
		// A killed child of a killed parent stays a zombie until someone reaps it.
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		sleep(t.Context(), 5*time.Millisecond)
	}
	t.Error("its own child lives on")
}

// A producer that repeats its call through a long outage leaves many calls behind that
// may have made the job; the history is decided all the same.
func TestManyOpenCallsAreDecided(t *testing.T) {
	t.Parallel()
	var events []history.Event
	for i := range 40 {
		call := history.Event{ID: fmt.Sprint("p-", i), Op: history.Enqueue, Key: "order:1"}
		events = append(events, call)
		call.Outcome = history.Unknown
		events = append(events, call)
	}
	last := history.Event{ID: "p-last", Op: history.Enqueue, Key: "order:1"}
	made := last
	made.Outcome = history.OK
	tr := trace(append(events, last, made))
	if got := porcupine.CheckOperationsTimeout(model, tr.histories["order:1"], time.Minute); got != porcupine.Ok || tr.open != 40 {
		t.Errorf("%v of %d open calls", got, tr.open)
	}
	again := made
	again.ID = "p-again"
	call := again
	call.Outcome = ""
	tr = trace(append(events, last, made, call, again)) // made twice
	if got := porcupine.CheckOperationsTimeout(model, tr.histories["order:1"], time.Minute); got != porcupine.Illegal {
		t.Errorf("a job that was made twice is %v", got)
	}
}
