package drill

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/audit"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/store"
)

// ledger is a stream of decisions of the drill's own, which is no queue's: so nobody
// else seals it, and nobody is alarmed.
type ledger struct {
	s      *stage
	stream string
	keys   audit.Keys
	sealer *audit.Sealer
}

func (s *stage) newLedger() (*ledger, error) {
	keys, err := audit.ParseKeys(rand.Text()+rand.Text(), "")
	if err != nil {
		return nil, err
	}
	sealer, err := audit.NewSealer(s.store, audit.Options{Keys: keys})
	return &ledger{s: s, stream: s.queue + "-audit", keys: keys, sealer: sealer}, err
}

// decide records decisions, and seals them when asked to.
func (l *ledger) decide(ctx context.Context, n int, seal bool) error {
	for range n {
		nonce := rand.Text()
		if err := l.s.store.Record(ctx, l.stream, nonce, "drill", nonce, byDrill); err != nil {
			return err
		}
	}
	if !seal {
		return nil
	}
	_, made, err := l.sealer.Seal(ctx, l.stream)
	if err == nil && !made {
		err = errors.New("nothing was sealed")
	}
	return err
}

func (l *ledger) verify(ctx context.Context, known []delivery.Seal) (audit.Finding, error) {
	found, err := audit.Verify(ctx, l.s.store, l.keys, l.stream, known)
	if err != nil {
		return audit.Finding{}, err
	}
	return found[0], nil
}

// entries are what is in Redis of the stream.
type entries struct{ decisions, seals []redis.XMessage }

func (l *ledger) read(ctx context.Context) (e entries, err error) {
	decisions, seals := store.StreamKeys(l.stream)
	if e.decisions, err = l.s.store.Redis().XRange(ctx, decisions, "-", "+").Result(); err != nil {
		return e, err
	}
	e.seals, err = l.s.store.Redis().XRange(ctx, seals, "-", "+").Result()
	return e, err
}

// write puts other entries in the place of those that are there.
func (l *ledger) write(ctx context.Context, e entries) error {
	decisions, seals := store.StreamKeys(l.stream)
	for key, list := range map[string][]redis.XMessage{decisions: e.decisions, seals: e.seals} {
		if err := l.s.store.Redis().Del(ctx, key).Err(); err != nil {
			return err
		}
		for _, one := range list {
			if err := l.s.store.Redis().XAdd(ctx, &redis.XAddArgs{Stream: key, ID: one.ID, Values: one.Values}).Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

// clone lets an attack change values.
func (e entries) clone() entries {
	copied := func(list []redis.XMessage) []redis.XMessage {
		list = slices.Clone(list)
		for i := range list {
			list[i].Values = maps.Clone(list[i].Values)
		}
		return list
	}
	return entries{copied(e.decisions), copied(e.seals)}
}

// rewrite makes numbers and hashes right from a decision on, as somebody does who knows
// how and has no key.
func (e entries) rewrite(from int) {
	text := func(v any) string { s, _ := v.(string); return s }
	for i := from; i < len(e.decisions); i++ {
		one, prev := e.decisions[i], ""
		if i > 0 {
			prev = text(e.decisions[i-1].Values["hash"])
		}
		l := delivery.Link{
			ID: one.ID, N: int64(i + 1), What: text(one.Values["what"]), Key: text(one.Values["key"]), Actor: text(one.Values["actor"]),
			Reason: text(one.Values["reason"]), Before: text(one.Values["before"]), After: text(one.Values["after"]), Prev: prev,
		}
		one.Values["n"], one.Values["prev"], one.Values["hash"] = fmt.Sprint(l.N), prev, l.Sum()
	}
}

// attacks are what somebody does who can write to Redis. The ledger has 12 decisions,
// sealed up to the 5th and the 10th.
var attacks = []struct {
	name   string
	do     func(e *entries)
	seals  bool // found only beside seals that were exported before
	honest bool // what cannot be found: it says so by what is not sealed
}{
	{name: "edited", do: func(e *entries) { e.decisions[3].Values["actor"] = "eve" }},
	{name: "cut out of the middle", do: func(e *entries) { e.decisions = slices.Delete(e.decisions, 3, 4) }},
	{name: "cut out, and the rest made right", do: func(e *entries) { e.decisions = slices.Delete(e.decisions, 3, 4); e.rewrite(3) }},
	{name: "cut off at the beginning", do: func(e *entries) { e.decisions = e.decisions[5:] }},
	{name: "cut off at the end", do: func(e *entries) { e.decisions = e.decisions[:8] }},
	{name: "reordered", do: func(e *entries) {
		a, b := e.decisions[2].Values, e.decisions[6].Values
		e.decisions[2].Values, e.decisions[6].Values = b, a
	}},
	{name: "reordered, and made right", do: func(e *entries) {
		a, b := e.decisions[2].Values, e.decisions[6].Values
		e.decisions[2].Values, e.decisions[6].Values = b, a
		e.rewrite(0)
	}},
	{name: "written anew as a whole", do: func(e *entries) { e.decisions[0].Values["reason"] = "none"; e.rewrite(0) }},
	{name: "written anew, with seals of another key", do: func(e *entries) {
		e.decisions[0].Values["reason"] = "none"
		e.rewrite(0)
		for i := range e.seals {
			e.seals[i].Values["key"], e.seals[i].Values["mac"] = "0000000000000000", strings.Repeat("0", 64)
		}
	}},
	{name: "the last seal edited", do: func(e *entries) { e.seals[1].Values["n"] = "9" }},
	{name: "cut off with the last seal", seals: true, do: func(e *entries) { e.decisions, e.seals = e.decisions[:8], e.seals[:1] }},
	{name: "the end that is not sealed", honest: true, do: func(e *entries) { e.decisions = e.decisions[:11] }},
}

func auditTamper(ctx context.Context, s *stage) (observed, evidence string, err error) {
	l, err := s.newLedger()
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, s.store.Drop(context.WithoutCancel(ctx), l.stream)) }()
	if err := errors.Join(l.decide(ctx, 5, true), l.decide(ctx, 5, true), l.decide(ctx, 2, false)); err != nil {
		return "", "", err
	}
	kept, err := s.store.Seals(ctx, l.stream, "", 500)
	if err != nil {
		return "", "", err
	}
	whole, err := l.read(ctx)
	if err != nil {
		return "", "", err
	}
	holds := map[string]bool{}
	untouched, err := l.verify(ctx, kept)
	if err != nil {
		return "", "", err
	}
	holds["what nobody has touched is as it was written, with 2 decisions not sealed"] = untouched.Why == "" && untouched.SealedTo == 10 && untouched.Unsealed == 2
	found, told := 0, []string{}
	for _, a := range attacks {
		f, err := l.attack(ctx, whole, a.do, kept, a.seals)
		if err != nil {
			return "", "", err
		}
		if a.honest {
			holds[a.name+": nothing is found, and what is not sealed is stated"] = f.Why == "" && f.Unsealed == 1
			continue
		}
		holds["found: "+a.name] = f.Why != ""
		if f.Why != "" {
			found++
			told = append(told, a.name+" (at "+f.Broken+")")
		}
	}
	last, err := l.verify(ctx, kept)
	holds["put back as it was, it is as it was written"] = last.Why == ""
	observed = fmt.Sprintf("12 decisions, 10 of them sealed; %d of %d ways to tamper with them found; the end that is not sealed can be cut off, and verify says that it is not sealed", found, len(attacks)-1)
	return observed, "audit verify: " + strings.Join(told, ", "), errors.Join(err, must(holds))
}

// attack does something to the stream, looks at it, and puts back what was there.
func (l *ledger) attack(ctx context.Context, whole entries, do func(*entries), kept []delivery.Seal, withSeals bool) (audit.Finding, error) {
	e := whole.clone()
	do(&e)
	if !withSeals {
		kept = nil
	}
	err := l.write(ctx, e)
	if err != nil {
		return audit.Finding{}, err
	}
	found, err := l.verify(ctx, kept)
	return found, errors.Join(err, l.write(ctx, whole))
}
