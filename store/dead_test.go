package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// deadPages returns the keys that a query selects, page by page; between pages, when
// not nil, between is called.
func (f *fixture) deadPages(q delivery.DeadQuery, between func()) (keys []string) {
	f.t.Helper()
	for {
		page, err := f.Dead(f.ctx, q)
		f.ok(err)
		for _, d := range page.Entries {
			keys = append(keys, d.Key)
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return keys
		}
		if between != nil {
			between()
		}
	}
}

func bulkKeys(from, to int, is func(i int) bool) (keys []string) {
	for i := from; i < to; i++ {
		if is == nil || is(i) {
			keys = append(keys, fmt.Sprintf("job-%07d", i))
		}
	}
	return keys
}

func TestDeadEntriesAreFiltered(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.bulkDead(300)
	first, err := f.Dead(f.ctx, delivery.DeadQuery{Queue: "q", Limit: 1})
	f.ok(err)
	one := first.Entries[0]
	if one.Kind != "kind.0" || one.Class != jobs.ClassInvalid || one.Tenant != "t0" || one.Version != 1 || one.Message != "bad red" || one.Signature == "" {
		t.Errorf("entry %+v", one)
	}
	at := func(i int) time.Time { return one.At.Add(time.Duration(i) * time.Millisecond) }
	for name, c := range map[string]struct {
		filter delivery.DeadFilter
		is     func(i int) bool
	}{
		"all":       {delivery.DeadFilter{}, nil},
		"key":       {delivery.DeadFilter{Key: "job-0000007"}, func(i int) bool { return i == 7 }},
		"kind":      {delivery.DeadFilter{Kind: "kind.3"}, func(i int) bool { return i%20 == 3 }},
		"class":     {delivery.DeadFilter{Class: jobs.ClassPanic}, func(int) bool { return false }},
		"signature": {delivery.DeadFilter{Signature: one.Signature}, func(i int) bool { return i%20 == 0 && i/20%5 == 0 }},
		"version":   {delivery.DeadFilter{Version: 2}, func(int) bool { return false }},
		"tenant":    {delivery.DeadFilter{Tenant: "t5"}, func(i int) bool { return i%7 == 5 }},
		"text":      {delivery.DeadFilter{Text: "GREEN"}, func(i int) bool { return i/20%5 == 1 }},
		"key text":  {delivery.DeadFilter{Text: "job-00001"}, func(i int) bool { return i >= 100 && i < 200 }},
		"since":     {delivery.DeadFilter{Since: at(250)}, func(i int) bool { return i >= 250 }},
		"before":    {delivery.DeadFilter{Before: at(50)}, func(i int) bool { return i < 50 }},
		"between":   {delivery.DeadFilter{Since: at(10), Before: at(20), Kind: "kind.12"}, func(i int) bool { return i == 12 }},
		"both":      {delivery.DeadFilter{Signature: one.Signature, Tenant: "t1"}, func(i int) bool { return i%20 == 0 && i/20%5 == 0 && i%7 == 1 }},
	} {
		want := bulkKeys(0, 300, c.is)
		for _, limit := range []int{7, 500} {
			if got := f.deadPages(delivery.DeadQuery{Queue: "q", Filter: c.filter, Limit: limit}, nil); !slices.Equal(got, want) {
				t.Errorf("%s, %d a page: %v, want %v", name, limit, got, want)
			}
		}
		backwards := slices.Clone(want)
		slices.Reverse(backwards)
		if got := f.deadPages(delivery.DeadQuery{Filter: c.filter, Limit: 9, Newest: true}, nil); !slices.Equal(got, backwards) {
			t.Errorf("%s, latest first: %v, want %v", name, got, backwards)
		}
	}
}

// While entries leave and come, those that stay are each seen.
func TestDeadPagesMissNothing(t *testing.T) {
	t.Parallel()
	for _, newest := range []bool{false, true} {
		f := open(t)
		f.bulkDead(100)
		n := 0
		got := f.deadPages(delivery.DeadQuery{Queue: "q", Limit: 10, Newest: newest}, func() {
			for i := range 3 { // also the one that the page ended with
				key := fmt.Sprintf("job-%07d", n*10+9-i)
				if newest {
					key = fmt.Sprintf("job-%07d", 99-n*10-9+i)
				}
				_, err := f.Discard(f.ctx, "q", key, why)
				f.ok(err)
			}
			n++
		})
		slices.Sort(got)
		if want := bulkKeys(0, 100, nil); !slices.Equal(slices.Compact(got), want) {
			t.Errorf("newest %v: %v", newest, got)
		}
	}
}

func TestDeadQueriesThatCannotBe(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.quarantined("k")
	now := time.Now()
	for _, q := range []delivery.DeadQuery{
		{Queue: "Q"}, {Limit: 501}, {Limit: -1}, {Cursor: "x"}, {Cursor: cursor{Queue: "other"}.encode()}, {Filter: delivery.DeadFilter{Signature: "x"}},
		{Filter: delivery.DeadFilter{Version: -1}}, {Filter: delivery.DeadFilter{Text: strings.Repeat("x", 1001)}},
		{Filter: delivery.DeadFilter{Since: now, Before: now}},
	} {
		if _, err := f.Dead(f.ctx, q); !errors.Is(err, jobs.ErrInvalid) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.dead(3, "bad row 1")
	f.nextMilli()
	f.dead(2, "odd row 2")
	groups, next, err := f.DeadGroups(f.ctx, "", "", 0, "")
	if err != nil || next != "" || len(groups) != 2 {
		t.Fatalf("%v %q %+v", err, next, groups)
	}
	odd, bad := groups[0], groups[1]
	if odd.Message != "odd row <n>" || odd.Entries != 2 || odd.Seen != 2 || odd.Queue != "q" || odd.Kind != "kind.a" || odd.Class != jobs.ClassInvalid ||
		odd.State != delivery.GroupOpen || bad.Entries != 3 || odd.First.IsZero() || odd.Last.Before(odd.First) {
		t.Errorf("groups %+v", groups)
	}
	g, err := f.JudgeGroup(f.ctx, "q", bad.Signature, delivery.GroupResolved, why)
	if err != nil || g.State != delivery.GroupResolved || g.By != "ada: because" {
		t.Errorf("%v %+v", err, g)
	}
	_, err = f.Replay(f.ctx, "q", "bad-0000", false, why)
	f.ok(err)
	f.outlaw("bad row 99")
	if g, err = f.DeadGroup(f.ctx, "q", bad.Signature); err != nil || g.State != delivery.GroupOpen || g.By != "" || g.Reopened != 1 || g.Seen != 4 || g.Entries != 3 {
		t.Errorf("it has failed so again: %v %+v", err, g)
	}
	for i := range 3 {
		_, err := f.Discard(f.ctx, "q", fmt.Sprint("bad-000", i), why)
		f.ok(err)
	}
	for state, want := range map[delivery.GroupState]int{"": 1, delivery.GroupOpen: 2, delivery.GroupIgnored: 0} {
		if groups, _, err := f.DeadGroups(f.ctx, "q", state, 10, ""); err != nil || len(groups) != want {
			t.Errorf("%q: %v %+v", state, err, groups)
		}
	}
	if _, err := f.JudgeGroup(f.ctx, "q", "0123456789ab", delivery.GroupResolved, why); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("a group that there is not: %v", err)
	}
	for _, err := range []error{
		errOf(f.JudgeGroup(f.ctx, "q", "x", delivery.GroupResolved, why)), errOf(f.JudgeGroup(f.ctx, "q", bad.Signature, "odd", why)),
		errOf(f.JudgeGroup(f.ctx, "q", bad.Signature, delivery.GroupResolved, jobs.Decision{Actor: "ada"})),
	} {
		if !errors.Is(err, jobs.ErrInvalid) {
			t.Errorf("error %v", err)
		}
	}
}

func errOf[T any](_ T, err error) error { return err }

// Groups without end do not make a group's record endless.
func TestAGroupCountsSomeVersions(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.enqueue("k")
	for version := range 60 {
		d := f.take()
		d.Version = version + 1
		f.settle(d, delivery.Quarantine)
		_, err := f.Replay(f.ctx, "q", "k", true, why)
		f.ok(err)
	}
	f.settle(f.take(), delivery.Quarantine)
	g, err := f.DeadGroup(f.ctx, "q", sigK)
	if err != nil || len(g.Versions) > 55 || len(g.Versions) < 50 || g.Seen != 61 || g.Versions[1] != 2 {
		t.Errorf("%v %+v", err, g)
	}
}

func TestErasing(t *testing.T) {
	t.Parallel()
	f := open(t)
	deadJob(f)
	before, err := f.DeadRecord(f.ctx, "q", "k")
	if err != nil || string(before.Payload) != `{"a":1,"b":2}` || before.Signature != sigK || before.At.IsZero() || len(before.Job.Steps) != 1 {
		t.Fatalf("%v %+v", err, before)
	}
	info, err := f.Erase(f.ctx, "q", "k", why)
	if err != nil || info.State != jobs.StateQuarantined || len(info.Steps) != 1 || info.Kind != "kind.a" || info.Incarnation != before.Job.Incarnation {
		t.Errorf("%v %+v", err, info)
	}
	after, err := f.DeadRecord(f.ctx, "q", "k")
	if err != nil || after.Payload != nil || after.Erased != "ada: because" || strings.Contains(fmt.Sprint(after.Fields), `"x":1`) {
		t.Errorf("%v %+v", err, after)
	}
	_, err = f.Erase(f.ctx, "q", "k", why)
	f.ok(err)
	if _, err := f.Replay(f.ctx, "q", "k", true, why); !errors.Is(err, jobs.ErrConflict) || !strings.Contains(err.Error(), "erased") {
		t.Errorf("replay: %v", err)
	}
	runNow(f, nil)
	if batch, err := f.Claim(f.ctx, "q", "o", 1); err != nil || len(batch.Deliveries) != 0 || f.state("k") != jobs.StateQuarantined {
		t.Errorf("run now: %v %+v, %s", err, batch, f.state("k"))
	}
	if _, err := f.ReplayEdited(f.ctx, "q", "k", []byte(`{"a":3}`), false, why); !errors.Is(err, jobs.ErrConflict) {
		t.Errorf("replay from the failed step: %v", err)
	}
	_, err = f.ReplayEdited(f.ctx, "q", "k", []byte(`{"a":3}`), true, why)
	f.ok(err)
	if d := f.take(); string(d.Payload) != `{"a":3}` || len(d.Steps) != 0 || d.Incarnation != before.Job.Incarnation {
		t.Errorf("replayed: %+v", d)
	}
	f.wantDecisions("quarantine k by perdure: exhausted", "erase k by ada: because", "run refused k by asynq: its payload was erased; it needs another one",
		"replay k by ada: because (payload edited: ~all of it)")
	if _, err := f.Erase(f.ctx, "q", "k", why); !errors.Is(err, jobs.ErrConflict) {
		t.Errorf("erase of a running job: %v", err)
	}
}

func TestAnEditedReplayIsKept(t *testing.T) {
	t.Parallel()
	f := open(t)
	deadJob(f)
	_, err := f.ReplayEdited(f.ctx, "q", "k", []byte(`{"a":1,"b":3}`), false, why)
	f.ok(err)
	d := f.take()
	if string(d.Payload) != `{"a":1,"b":3}` || len(d.Steps) != 1 {
		t.Errorf("replayed: %+v", d)
	}
	f.settle(d, delivery.Quarantine)
	r, err := f.DeadRecord(f.ctx, "q", "k")
	f.ok(err)
	edits, _ := json.Marshal(r.Edits)
	if len(r.Edits) != 1 || r.Edits[0].Actor != "ada" || !strings.Contains(string(edits), `"changes":[{"path":"/b","from":2,"to":3}]`) {
		t.Errorf("edits %s", edits)
	}
	if h, err := f.Enqueue(f.ctx, jobs.Raw(kindA, "k", json.RawMessage(`{"a":1,"b":2}`))); err != nil || !h.Duplicate {
		t.Errorf("the producer's own request again: %+v, %v", h, err)
	}
}

func TestDeadMemoryIsMeasured(t *testing.T) {
	t.Parallel()
	f := open(t)
	if m, err := f.DeadMemory(f.ctx); err != nil || len(m) != 0 {
		t.Errorf("%v %+v", err, m)
	}
	f.enqueue("alive")
	f.bulkDead(500)
	before, err := f.DeadMemory(f.ctx)
	if err != nil || len(before) != 1 || before[0].Queue != "q" || before[0].Entries != 500 || before[0].Groups != 100 {
		t.Fatalf("%v %+v", err, before)
	}
	if each := before[0].Bytes / 500; each < 300 || each > 3000 {
		t.Errorf("%d bytes an entry", each)
	}
}

func TestOnlyQuarantinedJobsAreRestored(t *testing.T) {
	t.Parallel()
	f := open(t)
	r := exported(f).(delivery.DeadRecord)
	r.Fields["state"] = "pending"
	if _, err := f.Restore(f.ctx, r, why); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("%v", err)
	}
}
