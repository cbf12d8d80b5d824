package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// everyState leaves one job in each state, its key the state's name.
func (f *fixture) everyState() {
	f.t.Helper()
	for state, outcome := range map[jobs.State]delivery.Outcome{
		jobs.StateRetrying: delivery.Retry, jobs.StatePaused: delivery.Pause, jobs.StateQuarantined: delivery.Quarantine,
		jobs.StateCompleted: delivery.Complete, jobs.StateCancelled: delivery.Cancel,
	} {
		f.settle(f.running(string(state)), outcome)
	}
	f.running(string(jobs.StateRunning))
	f.enqueue(string(jobs.StatePending))
	f.enqueue(string(jobs.StateScheduled), jobs.Delay(time.Hour))
}

// pages reads a list to its end; between is called after each page.
func (f *fixture) pages(q jobs.Query, between func(page jobs.Page)) (keys []string) {
	f.t.Helper()
	for range 5000 {
		page, err := f.List(f.ctx, q)
		f.ok(err)
		if len(page.Jobs) > max(q.Limit, 50) {
			f.t.Fatalf("a page of %d", len(page.Jobs))
		}
		for _, info := range page.Jobs {
			keys = append(keys, info.Key)
		}
		if between != nil {
			between(page)
		}
		if q.Cursor = page.Next; page.Next == "" {
			return keys
		}
	}
	f.t.Fatal("the list does not end")
	return nil
}

func TestListEveryState(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.everyState()
	var all []string
	for _, state := range jobs.States() {
		all = append(all, string(state))
		if got := f.pages(jobs.Query{State: state}, nil); !slices.Equal(got, []string{string(state)}) {
			t.Errorf("%s: %v", state, got)
		}
		if f.state(string(state)) != state {
			t.Errorf("%s is %s", state, f.state(string(state)))
		}
	}
	for limit := 1; limit < 10; limit++ {
		if got := f.pages(jobs.Query{Limit: limit}, nil); !slices.Equal(got, all) {
			t.Errorf("%d a page: %v", limit, got)
		}
	}
	f.enqueue("x", jobs.Queue("r"))
	if got := f.pages(jobs.Query{Queue: "r"}, nil); !slices.Equal(got, []string{"x"}) {
		t.Errorf("queue r: %v", got)
	}
	if got := f.pages(jobs.Query{Limit: 2}, nil); len(got) != len(all)+1 {
		t.Errorf("both queues: %v", got)
	}
	if got := f.pages(jobs.Query{Queue: "none"}, nil); len(got) != 0 {
		t.Errorf("no queue: %v", got)
	}
}

func TestListPagesOfEqualScores(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.fill(100, "archived", archivedKey("q"), 7)
	for _, limit := range []int{1, 3, 50, 99, 100, 101} {
		got := f.pages(jobs.Query{Limit: limit, State: jobs.StateQuarantined}, nil)
		if len(got) != 100 || !slices.IsSorted(got) || len(slices.Compact(got)) != 100 {
			t.Errorf("%d a page: %d jobs", limit, len(got))
		}
	}
}

// TestListMissesNoneThatStays takes the last job of each page out of the set, or
// moves it behind all others, before the next page is read.
func TestListMissesNoneThatStays(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(f *fixture, key string){
		"leaves": func(f *fixture, key string) {
			f.rdb.ZRem(f.ctx, archivedKey("q"), key)
			f.rdb.Del(f.ctx, taskKey("q", key))
		},
		"moves to the end": func(f *fixture, key string) {
			f.rdb.ZAddXX(f.ctx, archivedKey("q"), redis.Z{Score: 1e9, Member: key})
		},
	} {
		for _, equal := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, equal scores %v", name, equal), func(t *testing.T) {
				t.Parallel()
				f := open(t)
				f.fill(60, "archived", archivedKey("q"), 7)
				for i := range 60 {
					if !equal {
						f.rdb.ZAdd(f.ctx, archivedKey("q"), redis.Z{Score: float64(i), Member: fmt.Sprintf("k%04d", i)})
					}
				}
				left := 0
				got := f.pages(jobs.Query{Limit: 7, State: jobs.StateQuarantined}, func(page jobs.Page) {
					if left++; len(page.Jobs) > 0 && left < 6 {
						leave(f, page.Jobs[len(page.Jobs)-1].Key)
					}
				})
				slices.Sort(got)
				if got = slices.Compact(got); len(got) != 60 {
					t.Errorf("saw %d of 60", len(got))
				}
			})
		}
	}
}

// leaving takes a key out of a sorted set right after the set was read.
type leaving struct {
	f   *fixture
	key string
}

func (l *leaving) DialHook(next redis.DialHook) redis.DialHook { return next }

func (l *leaving) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (l *leaving) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if key := l.key; cmd.Name() == "zrange" && key != "" {
			l.key = ""
			l.f.rdb.ZAdd(ctx, archivedKey("q"), redis.Z{Score: 1e9, Member: key})
		}
		return err
	}
}

// TestListWhileItIsRead: the cursor is what was read, not what is there by then.
func TestListWhileItIsRead(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.fill(20, "archived", archivedKey("q"), 7)
	f.rdb.HSet(f.ctx, taskKey("q", "k0000"), "msg", (&message{Type: "kind.b"}).encode()) // so that a page ends inside of what was read
	f.rdb.(*redis.Client).AddHook(&leaving{f, "k0006"})
	got := f.pages(jobs.Query{Limit: 3, State: jobs.StateQuarantined, Kind: "kind.a"}, nil)
	slices.Sort(got)
	if got = slices.Compact(got); len(got) != 19 {
		t.Errorf("saw %v", got)
	}
}

func TestListByKindReadsABoundedNumber(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.fill(1000, "completed", completedKey("q"), 7)
	m := &message{Type: "rare", ID: "k0999", Queue: "q"}
	f.rdb.HSet(f.ctx, taskKey("q", "k0999"), "msg", m.encode())
	empty := 0
	got := f.pages(jobs.Query{Limit: 10, Kind: "rare", State: jobs.StateCompleted}, func(page jobs.Page) {
		if len(page.Jobs) == 0 {
			empty++
		}
	})
	if !slices.Equal(got, []string{"k0999"}) || empty < 9 || empty > 11 {
		t.Errorf("%v after %d empty pages", got, empty)
	}
}

func TestListRefuses(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.everyState()
	f.ok(f.Register(f.ctx, "r"))
	page, err := f.List(f.ctx, jobs.Query{Queue: "q", Limit: 2})
	f.ok(err)
	for name, q := range map[string]jobs.Query{
		"limit -1":               {Limit: -1},
		"limit 501":              {Limit: 501},
		"state":                  {State: "sleeping"},
		"unknown state":          {State: jobs.StateUnknown},
		"queue":                  {Queue: "Q*"},
		"cursor":                 {Cursor: "%%%"},
		"cursor, not JSON":       {Cursor: "aGVsbG8"},
		"cursor, other queue":    {Queue: "r", Cursor: page.Next},
		"cursor, other state":    {State: jobs.StatePaused, Cursor: page.Next},
		"cursor, bad offset":     {Cursor: cursor{Queue: "q", State: jobs.StatePending, Offset: -1}.encode()},
		"cursor, bad score":      {Cursor: cursor{Queue: "q", State: jobs.StatePaused, Score: "(1", Member: "k"}.encode()},
		"cursor without a score": {Cursor: cursor{Queue: "q", State: jobs.StatePaused, Member: "k"}.encode()},
	} {
		page, err := f.List(f.ctx, q)
		if !errors.Is(err, jobs.ErrInvalid) || page.Jobs == nil {
			t.Errorf("%s: %v, %v", name, page, err)
		}
	}
	if _, err := f.List(f.ctx, jobs.Query{Limit: 500}); err != nil {
		t.Error(err)
	}
	if text, _ := json.Marshal(page); !strings.HasPrefix(string(text), `{"jobs":[{`) {
		t.Errorf("as JSON: %s", text)
	}
}

func TestGetFindPayload(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.enqueue("k")
	f.enqueue("k", jobs.Queue("p"))
	f.enqueue("other", jobs.Queue("r"))
	if found, err := f.Find(f.ctx, "k"); err != nil || !slices.Equal(found, []string{"p", "q"}) {
		t.Errorf("found in %v, %v", found, err)
	}
	if found, err := f.Find(f.ctx, "nowhere"); err != nil || len(found) != 0 {
		t.Errorf("found in %v, %v", found, err)
	}
	if found, err := f.Find(f.ctx, "*"); err != nil || len(found) != 0 { // a key like any other
		t.Errorf("found in %v, %v", found, err)
	}
	if _, err := f.Find(f.ctx, ""); !errors.Is(err, jobs.ErrInvalid) {
		t.Error(err)
	}
	if data, err := f.Payload(f.ctx, "q", "k"); err != nil || string(data) != `{"a":1,"b":2}` {
		t.Errorf("payload %s, %v", data, err)
	}
	_, a := f.Get(f.ctx, "q", "none")
	_, b := f.Payload(f.ctx, "q", "none")
	_, c := f.Entry(f.ctx, "q", "none")
	_, d := f.Entry(f.ctx, "q", "k")
	for i, err := range []error{a, b, c, d} {
		if !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("%d: %v", i, err)
		}
	}
	empty := open(t)
	if found, err := empty.Find(f.ctx, "k"); err != nil || found != nil {
		t.Errorf("no queues: %v, %v", found, err)
	}
}

func TestQueueInfo(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.everyState()
	got, err := f.QueueInfo(f.ctx, "q")
	f.ok(err)
	want := QueueInfo{
		Queue: "q", Pending: 1, Running: 1, Scheduled: 1, Retrying: 1, Parked: 1, Quarantined: 1, Ended: 2, Processed: 3, Failed: 2,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v", got)
	}
	if got, err := f.QueueInfo(f.ctx, "none"); err != nil || fmt.Sprint(got) != fmt.Sprint(QueueInfo{Queue: "none"}) {
		t.Errorf("no queue: %+v, %v", got, err)
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	f := open(t)
	h := f.enqueue("k")
	ctx, cancel := context.WithTimeout(f.ctx, 50*time.Millisecond)
	defer cancel()
	if info, err := h.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) || info.State != jobs.StatePending {
		t.Errorf("%+v, %v", info, err)
	}
	go func() { f.settle(f.take(), delivery.Complete) }()
	if info, err := h.Wait(f.ctx); err != nil || string(info.Result) != `"done"` {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := f.Wait(f.ctx, "q", "none"); !errors.Is(err, jobs.ErrNotFound) {
		t.Error(err)
	}
}

func TestDrop(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.everyState()
	f.enqueue("k", jobs.Queue("r"))
	kept := 0
	for path := range f.dump() {
		if strings.Contains(path, "{r}") {
			kept++
		}
	}
	f.ok(f.Drop(f.ctx, "q"))
	if all := f.dump(); len(all) != kept+1 || all[queuesKey] != "r" {
		t.Errorf("left %v", all)
	}
	f.enqueue("k")
}
