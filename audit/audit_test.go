package audit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/perdure/perdure/audit"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

func TestParseKeys(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		current, further, want string
	}{
		{"", "", ""},
		{keyText, "", ""},
		{keyText, otherKey, ""},
		{"", otherKey + ", " + keyText, ""},
		{"short", "", `PERDURE_AUDIT_KEY "a key of 5 bytes": must be 32 to 512 bytes`},
		{strings.Repeat("x", 513), "", "a key of 513 bytes"},
		{"two words " + keyText, "", "a key of 42 bytes"},
		{keyText, otherKey + ",short", `PERDURE_AUDIT_CHECK_KEYS "key 2 of 5 bytes"`},
	} {
		k, err := audit.ParseKeys(c.current, c.further)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, jobs.ErrInvalid) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q, %q: %v", c.current, c.further, err)
		}
		if k.Seals() != (c.want == "" && c.current != "") {
			t.Errorf("%q seals: %v", c.current, k.Seals())
		}
		for _, text := range []string{fmt.Sprintf("%v %+v %#v %s", k, k, k, k), fmt.Sprint(err)} {
			if c.current != "" && strings.Contains(text, c.current) || strings.Contains(text, "fedcba") {
				t.Errorf("it shows the key: %s", text)
			}
		}
	}
}

func TestSealAndVerify(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.wantWhole(f.verify(), 0, 0, 0)
	f.decide(3)
	f.wantWhole(f.verify(), 3, 0, 3)
	first := f.seal()
	f.wantWhole(f.verify(), 3, 1, 0)
	f.decide(2)
	found := f.verify()
	f.wantWhole(found, 5, 1, 2)
	if found.SealedTo != 3 || !found.SealedAt.Equal(first.At) || !found.Checked {
		t.Errorf("%+v, sealed %+v", found, first)
	}
	second := f.seal()
	f.wantWhole(f.verify(first, second), 5, 2, 0)
	if second.Prev != first.MAC || second.N != 5 {
		t.Errorf("%+v does not follow %+v", second, first)
	}
	if s, made, err := f.sealer().Seal(t.Context(), "q"); made || err != nil {
		t.Errorf("sealed twice: %+v, %v", s, err)
	}
	f.keys = audit.Keys{}
	if found := f.verify(); found.Checked || found.Why != "" || found.Seals != 2 {
		t.Errorf("without a key: %+v", found)
	}
	if _, _, err := f.sealer().Seal(t.Context(), "q"); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("sealed without a key: %v", err)
	}
}

// More pages of decisions and of seals than one, sealed at odd places.
func TestVerifyManyPages(t *testing.T) {
	t.Parallel()
	f := open(t)
	s := f.sealer()
	for i := range 1234 {
		f.decide(1)
		if i%2 == 0 || i > 1100 {
			if _, made, err := s.Seal(t.Context(), "q"); !made || err != nil {
				t.Fatal(made, err)
			}
		}
	}
	f.wantWhole(f.verify(), 1234, 684, 0)
}

func TestKeysAreChanged(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.decide(2)
	f.seal()
	f.decide(2)
	f.keys = keys(t, otherKey, keyText)
	f.seal()
	f.wantWhole(f.verify(), 4, 2, 0)
	f.keys = keys(t, otherKey, "")
	f.wantBroken(f.verify(), "which is not given: add that to PERDURE_AUDIT_CHECK_KEYS")
	f.keys = keys(t, "", keyText+","+otherKey)
	f.wantWhole(f.verify(), 4, 2, 0)
}

// Each way to tamper with what is sealed, by somebody who can write to Redis, and knows
// all but the key.
var tamperings = map[string]struct {
	do   func(f *fixture, events, seals []redis.XMessage)
	want string
}{
	"edited": {func(f *fixture, events, seals []redis.XMessage) {
		events[2].Values["actor"] = "eve"
		f.replace(eventsKey, events)
	}, "it was edited"},
	"edited, and its hash made right": {func(f *fixture, events, seals []redis.XMessage) {
		events[1] = forged(events[1], events[0].Values["hash"].(string), map[string]string{"actor": "eve"})
		f.replace(eventsKey, events)
	}, "that one was exchanged"},
	"written anew": {func(f *fixture, events, seals []redis.XMessage) {
		f.replace(eventsKey, anew(events, 2, map[string]string{"actor": "eve"}))
	}, "the chain was written anew"},
	"before and after put in": {func(f *fixture, events, seals []redis.XMessage) {
		f.replace(eventsKey, anew(events, 2, map[string]string{"before": "paused", "after": "running"}))
	}, "the chain was written anew"},
	"written anew, and the seals too, under a key of their own": {func(f *fixture, events, seals []redis.XMessage) {
		f.replace(eventsKey, anew(events, 2, map[string]string{"actor": "eve"}))
		f.rdb.Del(context.Background(), sealsKey)
		mine := f.keys
		f.keys = keys(f.t, otherKey, "")
		f.seal()
		f.keys = mine
	}, "which is not given"},
	"written anew, and the seals' hashes": {func(f *fixture, events, seals []redis.XMessage) {
		events = anew(events, 2, map[string]string{"actor": "eve"})
		f.replace(eventsKey, events)
		for i := range seals {
			at := slices.IndexFunc(events, func(e redis.XMessage) bool { return e.ID == seals[i].ID })
			seals[i].Values["hash"] = events[at].Values["hash"]
		}
		f.replace(sealsKey, seals)
	}, "its MAC is not of its key"},
	"written as of a time before the chain": {func(f *fixture, events, seals []redis.XMessage) {
		for i := range events {
			events[i].Values = map[string]any{"what": "what", "key": "k", "actor": "eve", "reason": "r"}
		}
		f.replace(eventsKey, events)
	}, "the chain was written anew"},
	"cut out": {func(f *fixture, events, seals []redis.XMessage) {
		f.rdb.XDel(context.Background(), eventsKey, events[1].ID)
	}, "it is number 3 after number 1"},
	"cut off at the beginning": {func(f *fixture, events, seals []redis.XMessage) {
		f.rdb.XTrimMinID(context.Background(), eventsKey, events[2].ID)
	}, "those before it were cut off"},
	"cut off at the end": {func(f *fixture, events, seals []redis.XMessage) {
		f.replace(eventsKey, events[:4])
	}, "its decision is gone"},
	"cut off at the end, by XDEL of what is not sealed": {func(f *fixture, events, seals []redis.XMessage) {
		f.rdb.XDel(context.Background(), eventsKey, events[7].ID)
	}, "were cut off after it"},
	"cut off with the last seal, by XDEL": {func(f *fixture, events, seals []redis.XMessage) {
		f.rdb.XDel(context.Background(), sealsKey, seals[1].ID)
	}, "later seals, up to that of"},
	"all of it": {func(f *fixture, events, seals []redis.XMessage) {
		f.rdb.Del(context.Background(), eventsKey)
	}, "its decision is gone"},
	"exchanged": {func(f *fixture, events, seals []redis.XMessage) {
		events[1].Values, events[2].Values = events[2].Values, events[1].Values
		f.replace(eventsKey, events)
	}, "it was edited"},
	"a seal cut out": {func(f *fixture, events, seals []redis.XMessage) {
		f.replace(sealsKey, seals[1:])
	}, "those before it were cut off"},
	"a seal edited": {func(f *fixture, events, seals []redis.XMessage) {
		seals[0].Values["at"] = "1"
		f.replace(sealsKey, seals)
	}, "its MAC is not of its key"},
	"an anchor that nobody has made": {func(f *fixture, events, seals []redis.XMessage) {
		f.replace(eventsKey, events[3:])
		f.replace(sealsKey, seals)
		v := seals[0].Values
		f.rdb.Set(context.Background(), "perdure:{q}:anchor", fmt.Sprintf(`{"stream":"q","n":3,"id":%q,"hash":%q,"seal":%q,"at":"2026-01-01T00:00:00Z","key":%q,"mac":%q}`,
			seals[0].ID, v["hash"], v["mac"], v["key"], v["mac"]), 0)
	}, "the anchor of what was moved out: its MAC is not of its key"},
	"one from before the chain, edited": {func(f *fixture, events, seals []redis.XMessage) {
		old := redis.XMessage{ID: "1-1", Values: map[string]any{"what": "pause", "key": "k", "actor": "ada", "reason": "r"}}
		f.replace(eventsKey, append([]redis.XMessage{old}, events...))
		f.rdb.Del(context.Background(), sealsKey)
		f.seal()
		f.wantWhole(f.verify(), 9, 1, 0)
		old.Values["actor"] = "eve"
		f.replace(eventsKey, append([]redis.XMessage{old}, events...))
	}, "what it seals was edited"},
	"those of another queue, sealed, in their place": {func(f *fixture, events, seals []redis.XMessage) {
		ctx := context.Background()
		f.ok(f.Record(ctx, "other", "n", "what", "k", why))
		if _, _, err := f.sealer().Seal(ctx, "other"); err != nil {
			f.t.Fatal(err)
		}
		f.ok(f.rdb.Rename(ctx, "perdure:{other}:events", eventsKey).Err())
		f.ok(f.rdb.Rename(ctx, "perdure:{other}:seals", sealsKey).Err())
	}, "its MAC is not of its key"},
	"an anchor that is no JSON": {func(f *fixture, events, seals []redis.XMessage) {
		f.rdb.Set(context.Background(), "perdure:{q}:anchor", "nothing", 0)
	}, "the anchor of what was moved out"},
}

func TestTamperingIsFound(t *testing.T) {
	t.Parallel()
	for name, c := range tamperings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			f.decide(3)
			f.seal()
			f.decide(3)
			f.seal()
			f.decide(2)
			f.wantWhole(f.verify(), 8, 2, 2)
			c.do(f, f.stream(eventsKey), f.stream(sealsKey))
			f.wantBroken(f.verify(), c.want)
		})
	}
}

// What only seals that were kept elsewhere can show.
func TestGivenSeals(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.decide(3)
	first := f.seal()
	f.decide(3)
	second := f.seal()
	events, seals := f.stream(eventsKey), f.stream(sealsKey)
	f.replace(eventsKey, events[:4])
	f.replace(sealsKey, seals[:1])
	f.wantWhole(f.verify(), 4, 1, 1)
	f.wantWhole(f.verify(first), 4, 1, 1)
	f.wantBroken(f.verify(first, second), "the given seal of decision 6 is not here")
	f.replace(eventsKey, anew(events, 1, map[string]string{"actor": "eve"}))
	f.rdb.Del(t.Context(), sealsKey)
	f.wantWhole(f.verify(), 6, 0, 6)
	f.wantBroken(f.verify(first), "the given seal of decision 3 is of another one")
	f.keys = audit.Keys{}
	f.wantBroken(f.verify(first), "the given seal of decision 3 is of another one")
	f.keys = keys(t, keyText, "")
	first.N = 2
	f.wantBroken(f.verify(first), "the given seal of decision 2: its MAC is not of its key")
	f.rdb.Del(t.Context(), eventsKey, "asynq:queues")
	found, err := audit.Verify(t.Context(), f.Store, f.keys, "", []delivery.Seal{second})
	if err != nil || len(found) != 3 || found[2].Stream != "q" || found[2].Why == "" {
		t.Errorf("a stream that is gone: %+v, %v", found, err)
	}
}

// TestAnyTamperingBeforeTheLastSealIsFound makes a random chain with random seals, and
// does something random to it before its last seal.
func TestAnyTamperingBeforeTheLastSealIsFound(t *testing.T) {
	t.Parallel()
	f := open(t)
	rapid.Check(t, func(t *rapid.T) {
		f.rdb.FlushDB(context.Background())
		f.t = rapidT{f.t, t}
		for range rapid.IntRange(1, 4).Draw(t, "seals") {
			f.decide(rapid.IntRange(1, 4).Draw(t, "decisions"))
			f.seal()
		}
		f.decide(rapid.IntRange(0, 2).Draw(t, "tail"))
		events, seals := f.stream(eventsKey), f.stream(sealsKey)
		last := slices.IndexFunc(events, func(e redis.XMessage) bool { return e.ID == seals[len(seals)-1].ID })
		at := rapid.IntRange(0, last).Draw(t, "at")
		field := rapid.SampledFrom([]string{"what", "key", "actor", "reason", "before", "after", "n", "prev", "hash"}).Draw(t, "field")
		changed := map[string]string{field: rapid.SampledFrom([]string{"", "7", "eve"}).Draw(t, "value")}
		if text, _ := events[at].Values[field].(string); text == changed[field] {
			changed[field] = "another"
		}
		switch how := rapid.SampledFrom([]string{"edit", "rewrite", "cut", "cut the end", "exchange", "put in"}).Draw(t, "how"); how {
		case "edit":
			events[at].Values[field] = changed[field]
		case "rewrite":
			if field == "prev" || field == "hash" || field == "n" {
				changed = map[string]string{"reason": "another"}
			}
			events = anew(events, at, changed)
		case "cut":
			events = anew(slices.Delete(events, at, at+1), at, nil)
		case "cut the end":
			events = events[:at]
		case "exchange":
			other := rapid.IntRange(0, len(events)-1).Filter(func(i int) bool { return i != at }).Draw(t, "other")
			events[at].Values, events[other].Values = events[other].Values, events[at].Values
		case "put in":
			more := forged(events[at], "", map[string]string{"key": "more"})
			end := events[len(events)-1].ID + "9"
			events = slices.Insert(events, at+1, more)
			for i := at + 1; i < len(events)-1; i++ {
				events[i].ID = events[i+1].ID
			}
			events[len(events)-1].ID = end
			events = anew(events, at, nil)
		}
		f.replace(eventsKey, events)
		if found := f.verify(); found.Why == "" {
			t.Fatalf("nobody sees it: %+v", found)
		}
	})
}

// rapidT fails as rapid wants it.
type rapidT struct {
	testing.TB
	t *rapid.T
}

func (r rapidT) Fatal(args ...any) { r.t.Fatal(args...) }
func (r rapidT) Helper()           {}
