package store

import (
	"crypto/rand"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// sealFor is a seal of the queue's last decision, as of one key.
func sealFor(f *fixture, mac string) delivery.Seal {
	f.t.Helper()
	head, err := f.StreamHead(f.ctx, "q")
	f.ok(err)
	return delivery.Seal{
		Stream: "q", N: head.Last.N, ID: head.Last.ID, Hash: head.Last.Hash, Sum: "sum", Prev: head.Seal.MAC, At: time.UnixMilli(1700000000000).UTC(), Key: "key", MAC: mac,
	}
}

func anchorFor(s delivery.Seal) delivery.Anchor {
	return delivery.Anchor{Stream: "q", N: s.N, ID: s.ID, Hash: s.Hash, Seal: s.MAC, At: s.At, Key: s.Key, MAC: "anchored"}
}

func decideTwice(f *fixture) any {
	f.decideTimes(2)
	return sealFor(f, "one")
}

func sealCode(f *fixture, s delivery.Seal) any {
	f.t.Helper()
	code, err := f.runCode(f.ctx, "seal", []string{eventsKey("q"), sealsKey("q")}, s.ID, s.N, s.Hash, s.Prev, s.At.UnixMilli(), s.Key, s.MAC, s.Sum)
	f.ok(err)
	return code
}

func sealIt(f *fixture, from any) any { return sealCode(f, from.(delivery.Seal)) }

func trimCode(f *fixture, was string, a delivery.Anchor) any {
	f.t.Helper()
	code, err := f.runCode(f.ctx, "trim", []string{eventsKey("q"), sealsKey("q"), anchorKey("q"), decidedKey("q", rand.Text())},
		a.ID, a.Hash, a.Seal, was, "anchor", "ada", "because", "decisions 1 to 2 in Redis", "in file")
	f.ok(err)
	return code
}

func trimIt(f *fixture, from any) any { return trimCode(f, "", anchorFor(from.(delivery.Seal))) }

func sealCases() []scriptCase {
	sealed := after(decideTwice, sealIt)
	return []scriptCase{
		{"seal 1", decideTwice, sealIt},
		{"seal 1 after another", func(f *fixture) any {
			sealed(f)
			f.decideTimes(1)
			return sealFor(f, "two")
		}, sealIt},
		{"seal 2", sealed, sealIt},
		{"seal -1 gone", after(decideTwice, func(f *fixture, from any) any {
			return f.rdb.XDel(f.ctx, eventsKey("q"), from.(delivery.Seal).ID).Val()
		}), sealIt},
		{"seal -1 another", decideTwice, func(f *fixture, from any) any {
			s := from.(delivery.Seal)
			s.Hash = "another"
			return sealCode(f, s)
		}},
		{"seal -2", sealed, func(f *fixture, from any) any {
			s := from.(delivery.Seal)
			s.MAC = "two"
			return sealCode(f, s)
		}},
		{"seal -3", after(sealed, func(f *fixture, from any) any {
			return f.rdb.XDel(f.ctx, sealsKey("q"), from.(delivery.Seal).ID).Val()
		}), sealIt},
		{"trim 1", sealed, trimIt},
		{"trim 1 and what follows stays", func(f *fixture) any {
			s := sealed(f)
			f.decideTimes(2)
			return s
		}, trimIt},
		{"trim -1 gone", after(sealed, func(f *fixture, from any) any {
			return f.rdb.XDel(f.ctx, eventsKey("q"), from.(delivery.Seal).ID).Val()
		}), trimIt},
		{"trim -1 not sealed", decideTwice, trimIt},
		{"trim -1 sealed otherwise", sealed, func(f *fixture, from any) any {
			s := from.(delivery.Seal)
			s.MAC = "two"
			return trimCode(f, "", anchorFor(s))
		}},
		{"trim -2", sealed, func(f *fixture, from any) any { return trimCode(f, "another", anchorFor(from.(delivery.Seal))) }},
	}
}

// sealChanges is as scriptChanges.
const sealChanges = `
seal 1
+perdure:{q}:seals 0=one after ""

seal 1 after another
+perdure:{q}:seals 1=two after "one"

trim 1
+perdure:{q}:anchor=anchor
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
-perdure:{q}:events 1
~perdure:{q}:events 0=move out  by ada: because (decisions 1 to 2 in Redis -> in file)

trim 1 and what follows stays
+perdure:{q}:anchor=anchor
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
-perdure:{q}:events 3
~perdure:{q}:events 2=move out  by ada: because (decisions 1 to 2 in Redis -> in file)
`

func sealFaults() []faultCase {
	return []faultCase{
		{script: "seal", arrange: decideTwice, itself: true, call: func(f *fixture, from any) error {
			ok, err := f.AddSeal(f.ctx, from.(delivery.Seal))
			if err == nil && !ok {
				err = errors.New("not sealed")
			}
			return err
		}},
		{script: "trim", arrange: after(decideTwice, sealIt), itself: true, call: func(f *fixture, from any) error {
			return f.Trim(f.ctx, delivery.Anchor{}, anchorFor(from.(delivery.Seal)), "file", why)
		}},
	}
}

func TestSealsAndHead(t *testing.T) {
	t.Parallel()
	f := open(t)
	if head, err := f.StreamHead(f.ctx, "q"); err != nil || head.Now.IsZero() || head.Last.ID+head.Top+head.Seal.ID+head.SealTop+head.Anchor.MAC != "" {
		t.Errorf("of nothing: %+v, %v", head, err)
	}
	f.decideTimes(3)
	first := sealFor(f, "one")
	for range 2 { // the second time it is there already
		if ok, err := f.AddSeal(f.ctx, first); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
	f.decideTimes(2)
	second := sealFor(f, "two")
	if ok, err := f.AddSeal(f.ctx, second); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if ok, err := f.AddSeal(f.ctx, first); err != nil || ok {
		t.Errorf("the first again: %v, %v", ok, err)
	}
	seals, err := f.Seals(f.ctx, "q", "", 500)
	if err != nil || !slices.Equal(seals, []delivery.Seal{first, second}) {
		t.Errorf("%+v, %v", seals, err)
	}
	if seals, err = f.Seals(f.ctx, "q", first.ID, 500); err != nil || !slices.Equal(seals, []delivery.Seal{second}) {
		t.Errorf("%+v, %v", seals, err)
	}
	anchor := anchorFor(first)
	f.ok(f.Trim(f.ctx, delivery.Anchor{}, anchor, "file", why))
	head, err := f.StreamHead(f.ctx, "q")
	if err != nil || head.Anchor != anchor || head.Seal != second || head.Last.N != 5 || head.Last.What != "move out" || head.Top != head.Last.ID || head.SealTop != second.ID {
		t.Errorf("%+v, %v", head, err)
	}
	if err := f.Trim(f.ctx, delivery.Anchor{}, anchorFor(second), "file", why); !errors.Is(err, jobs.ErrConflict) {
		t.Errorf("as if nothing was moved out before: %v", err)
	}
	f.ok(f.Trim(f.ctx, anchor, anchorFor(second), "file", why))
	f.wantDecisions("move out  by ada: because", "move out  by ada: because")
	if links, err := f.Chain(f.ctx, "q", "", 500); err != nil || links[0].N != 5 || links[1].Follows(links[0]) != "" {
		t.Errorf("%+v, %v", links, err)
	}
	if err := f.Trim(f.ctx, anchor, anchor, "file", jobs.Decision{}); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("without a reason: %v", err)
	}
}

// The last seals were taken away by XDEL: the stream knows that it has handed out later
// IDs.
func TestASealThatWasThereIsMissed(t *testing.T) {
	t.Parallel()
	f := open(t)
	s := decideTwice(f).(delivery.Seal)
	sealIt(f, s)
	f.rdb.XDel(f.ctx, sealsKey("q"), s.ID)
	if _, err := f.AddSeal(f.ctx, s); !errors.Is(err, jobs.ErrConflict) {
		t.Errorf("%v", err)
	}
}

func TestStreamsOfDecisions(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.decideTimes(1)
	f.ok(f.KnowStreams(f.ctx, []string{"q", "removed"}))
	f.ok(f.KnowStreams(f.ctx, nil))
	f.ok(f.Record(f.ctx, delivery.Dependencies, "n", "open breaker", "pay", why))
	f.ok(f.Record(f.ctx, delivery.Dependencies, "n", "open breaker", "pay", why)) // is the same decision
	streams, err := f.Streams(f.ctx)
	if err != nil || !slices.Equal(streams, []string{"@cron", "@dep", "q", "removed"}) {
		t.Errorf("%q, %v", streams, err)
	}
	links, err := f.Chain(f.ctx, delivery.Dependencies, "", 10)
	if err != nil || len(links) != 1 || links[0].What != "open breaker" || f.rdb.Exists(f.ctx, "perdure:{@dep}:events").Val() != 1 {
		t.Errorf("%+v, %v", links, err)
	}
	f.ok(f.Drop(f.ctx, "removed"))
	if streams, err = f.Streams(f.ctx); err != nil || slices.Contains(streams, "removed") {
		t.Errorf("%q, %v", streams, err)
	}
	if err := f.Record(f.ctx, "q", "n", "what", "", jobs.Decision{}); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("without a reason: %v", err)
	}
}

// What a drill leaves behind is forgotten, but for what is sealed.
func TestSealedDecisionsAboutSchedulesStay(t *testing.T) {
	t.Parallel()
	f := open(t)
	for _, sealed := range []bool{false, true} {
		f.ok(f.Record(f.ctx, delivery.Schedules, "n", "backfill schedule", "s", why))
		f.rdb.SAdd(f.ctx, schedulesKey, "s")
		head, err := f.StreamHead(f.ctx, delivery.Schedules)
		f.ok(err)
		if sealed {
			if ok, err := f.AddSeal(f.ctx, delivery.Seal{Stream: delivery.Schedules, N: head.Last.N, ID: head.Last.ID, Hash: head.Last.Hash, MAC: "one"}); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
		f.ok(f.ForgetSchedules(f.ctx))
		want := []string{}
		if sealed {
			want = []string{scheduleEventsKey, sealsKey(delivery.Schedules)}
		}
		keys := f.rdb.Keys(f.ctx, "*").Val()
		slices.Sort(keys)
		if !slices.Equal(keys, want) {
			t.Errorf("sealed %v: %q is left", sealed, keys)
		}
	}
}
