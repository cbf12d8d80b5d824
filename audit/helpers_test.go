package audit_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/audit"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

func TestMain(m *testing.M) { redistest.Main(m) }

var why = jobs.Decision{Actor: "ada", Reason: "because"}

const (
	eventsKey = "perdure:{q}:events"
	sealsKey  = "perdure:{q}:seals"
	keyText   = "0123456789abcdef0123456789abcdef"
	otherKey  = "fedcba9876543210fedcba9876543210"
)

func keys(t testing.TB, current, further string) audit.Keys {
	t.Helper()
	k, err := audit.ParseKeys(current, further)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// fixture is a queue with decisions on a database of the test's own.
type fixture struct {
	*store.Store
	t    testing.TB
	rdb  redis.UniversalClient
	keys audit.Keys
	n    int
}

func open(t testing.TB) *fixture {
	rdb := redistest.Client(t)
	return &fixture{Store: store.New(rdb, rdb), t: t, rdb: rdb, keys: keys(t, keyText, "")}
}

func (f *fixture) ok(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) decide(n int) {
	f.t.Helper()
	f.ok(f.Register(context.Background(), "q"))
	for range n {
		f.n++
		f.ok(f.Record(context.Background(), "q", fmt.Sprint("n", f.n), "what", fmt.Sprint("k", f.n), why))
	}
}

func (f *fixture) sealer() *audit.Sealer {
	f.t.Helper()
	s, err := audit.NewSealer(f.Store, audit.Options{Keys: f.keys})
	f.ok(err)
	return s
}

func (f *fixture) seal() delivery.Seal {
	f.t.Helper()
	s, made, err := f.sealer().Seal(context.Background(), "q")
	f.ok(err)
	if !made {
		f.t.Fatal("nothing was sealed")
	}
	return s
}

// verify returns what is found of the queue.
func (f *fixture) verify(known ...delivery.Seal) audit.Finding {
	f.t.Helper()
	found, err := audit.Verify(context.Background(), f.Store, f.keys, "q", known)
	f.ok(err)
	return found[0]
}

func (f *fixture) wantBroken(found audit.Finding, text string) {
	f.t.Helper()
	if found.Why == "" || !strings.Contains(found.Why, text) {
		f.t.Errorf("found %q at %q, want %q", found.Why, found.Broken, text)
	}
}

func (f *fixture) wantWhole(found audit.Finding, events, seals, unsealed int64) {
	f.t.Helper()
	if found.Why != "" || found.Events != events || found.Seals != seals || found.Unsealed != unsealed || (unsealed > 0) != !found.UnsealedSince.IsZero() {
		f.t.Errorf("found %+v, want %d decisions, %d seals, %d not sealed", found, events, seals, unsealed)
	}
}

// stream reads the entries of a stream, and replace writes it anew from others.
func (f *fixture) stream(key string) []redis.XMessage {
	return f.rdb.XRange(context.Background(), key, "-", "+").Val()
}

func (f *fixture) replace(key string, entries []redis.XMessage) {
	f.t.Helper()
	f.rdb.Del(context.Background(), key)
	for _, e := range entries {
		f.ok(f.rdb.XAdd(context.Background(), &redis.XAddArgs{Stream: key, ID: e.ID, Values: e.Values}).Err())
	}
}

// forged is an entry with other values and a hash that is right for them, as somebody
// writes it who knows how but has no key.
func forged(e redis.XMessage, prev string, change map[string]string) redis.XMessage {
	values := map[string]any{}
	for name, value := range e.Values {
		values[name] = value
	}
	values["prev"] = prev
	for name, value := range change {
		values[name] = value
	}
	v := func(name string) string { text, _ := values[name].(string); return text }
	l := delivery.Link{ID: e.ID, What: v("what"), Key: v("key"), Actor: v("actor"), Reason: v("reason"), Before: v("before"), After: v("after"), Prev: prev}
	fmt.Sscan(v("n"), &l.N)
	values["hash"] = l.Sum()
	return redis.XMessage{ID: e.ID, Values: values}
}

// anew writes the whole chain anew from an entry on, consistent in itself.
func anew(entries []redis.XMessage, from int, change map[string]string) []redis.XMessage {
	all := append([]redis.XMessage(nil), entries...)
	for i := from; i < len(all); i++ {
		prev, _ := all[i].Values["prev"].(string)
		if i > 0 {
			prev, _ = all[i-1].Values["hash"].(string)
		}
		if i > from {
			change = nil
		}
		all[i] = forged(all[i], prev, change)
	}
	return all
}

// nextMilli returns in a later millisecond, by Redis' clock.
func (f *fixture) nextMilli() {
	milli := func() int64 { return f.rdb.Time(context.Background()).Val().UnixMilli() }
	for began := milli(); milli() == began; {
	}
}
