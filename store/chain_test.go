package store

import (
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/perdure/perdure/internal/delivery"
)

// chain returns the decisions of the queue, and what is wrong with the first of them
// that is not as it was written.
func (f *fixture) chain() ([]delivery.Link, string) {
	f.t.Helper()
	links, err := f.Chain(f.ctx, "q", "", 500)
	f.ok(err)
	var before delivery.Link
	for _, l := range links {
		if wrong := l.Follows(before); wrong != "" {
			return links, wrong
		}
		before = l
	}
	return links, ""
}

func (f *fixture) decideTimes(n int) {
	f.t.Helper()
	f.ok(f.Register(f.ctx, "q"))
	for i := range n {
		if i%2 == 0 {
			f.ok(f.PauseQueue(f.ctx, "q", why))
		} else {
			_, err := f.ResumeQueue(f.ctx, "q", why)
			f.ok(err)
		}
	}
}

func TestDecisionsAreChained(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.decideTimes(20)
	links, wrong := f.chain()
	if len(links) != 20 || wrong != "" || links[0].Prev != "" || links[19].N != 20 {
		t.Fatalf("%q: %+v", wrong, links)
	}
	pages, err := f.Chain(f.ctx, "q", links[9].ID, 5)
	if err != nil || len(pages) != 5 || pages[0] != links[10] {
		t.Errorf("%+v, %v", pages, err)
	}
}

// What was written before decisions were chained stays, and the chain begins after it.
func TestTheChainBeginsAfterOlderDecisions(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.ok(f.rdb.XAdd(f.ctx, &redis.XAddArgs{Stream: eventsKey("q"), Values: map[string]any{"what": "pause", "key": "", "actor": "ada", "reason": "old"}}).Err())
	f.decideTimes(3)
	links, wrong := f.chain()
	if wrong != "" || len(links) != 4 || links[0].N != 0 || links[1].N != 1 || links[3].N != 3 {
		t.Errorf("%q: %+v", wrong, links)
	}
}

// Decisions that say nothing of before and after are hashed as older programs do, and
// others follow them.
func TestOlderChainsGoOn(t *testing.T) {
	t.Parallel()
	old := delivery.Link{ID: "1796005517246-1", N: 2, What: "pause queue", Actor: "ada", Reason: "because", Prev: "50e721e49c013f00c62cf59f2163542a9d8df024"}
	if want := "7866b1a23b5ab4b9c1afd284aaf5a7be03e41323"; old.Sum() != want {
		t.Errorf("its hash is %s, and was %s", old.Sum(), want)
	}
	f := open(t)
	f.ok(f.Record(f.ctx, "q", "n", "pause queue", "", why))
	f.decideTimes(2)
	links, wrong := f.chain()
	if wrong != "" || len(links) != 3 || links[0].After != "" || links[1].Before != "open" || links[1].After != "paused" || links[2].After != "open" {
		t.Errorf("%q: %+v", wrong, links)
	}
}

// TestAnyTamperingBreaksTheChain edits, cuts out, puts in or exchanges decisions, but
// for the last ones, which only a seal can miss.
func TestAnyTamperingBreaksTheChain(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.decideTimes(12)
	links, _ := f.chain()
	rapid.Check(t, func(t *rapid.T) {
		tampered := append([]delivery.Link(nil), links...)
		at := rapid.IntRange(0, len(links)-2).Draw(t, "at")
		switch rapid.SampledFrom([]string{"edit", "cut", "put in", "exchange", "rewrite"}).Draw(t, "how") {
		case "edit":
			field := rapid.SampledFrom([]func(*delivery.Link){
				func(l *delivery.Link) { l.What += "x" }, func(l *delivery.Link) { l.Key += "x" }, func(l *delivery.Link) { l.Actor = "eve" },
				func(l *delivery.Link) { l.Reason += "x" }, func(l *delivery.Link) { l.Before += "x" }, func(l *delivery.Link) { l.Before, l.After = "", "" },
				func(l *delivery.Link) { l.Before, l.After = l.After, l.Before+"x" }, func(l *delivery.Link) { l.ID = "1-1" }, func(l *delivery.Link) { l.N += 7 },
			}).Draw(t, "field")
			field(&tampered[at])
		case "cut":
			tampered = append(tampered[:at+1], tampered[at+2:]...)
			if at == len(links)-2 {
				return // the last one: nothing follows it
			}
		case "put in":
			tampered = append(tampered[:at+1], append([]delivery.Link{links[at]}, links[at+1:]...)...)
		case "exchange":
			tampered[at], tampered[at+1] = tampered[at+1], tampered[at]
		case "rewrite":
			tampered[at].Reason = "another"
			tampered[at].Hash = tampered[at].Sum()
		}
		var before delivery.Link
		for _, l := range tampered {
			if l.Follows(before) != "" {
				return
			}
			before = l
		}
		t.Fatalf("nobody sees it: %s", fmt.Sprint(tampered))
	})
}
