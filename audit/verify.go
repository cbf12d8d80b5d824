package audit

import (
	"context"
	"slices"

	"github.com/perdure/perdure/internal/delivery"
)

// Verify walks every stream, or one, with its seals. Up to the last seal it finds what was
// edited, put in, moved, cut out or off, and a chain that was written anew. What follows
// the last seal is chained only: Finding says how much that is. Without keys seals are not checked, and
// whoever can write to Redis can write anew all of it.
//
// known are seals that were exported before: with them it also finds that the last seals
// were cut off together with their decisions.
func Verify(ctx context.Context, c Chains, keys Keys, stream string, known []delivery.Seal) ([]Finding, error) {
	names, err := streams(ctx, c, stream)
	if err != nil {
		return nil, err
	}
	given := map[string][]delivery.Seal{}
	for _, s := range known {
		given[s.Stream] = append(given[s.Stream], s)
		if stream == "" && !slices.Contains(names, s.Stream) {
			names = append(names, s.Stream)
		}
	}
	findings := make([]Finding, len(names))
	for i, name := range names {
		if findings[i], err = verify(ctx, c, keys, name, given[name]); err != nil {
			return nil, err
		}
	}
	return findings, nil
}

// verify looks again when others have moved decisions out while it looked.
func verify(ctx context.Context, c Chains, keys Keys, stream string, known []delivery.Seal) (Finding, error) {
	for {
		w := newWalk(stream, keys, known)
		head, err := follow(ctx, c, w, "")
		if err != nil {
			return w.f, err
		}
		found := w.end(head)
		if found.Why == "" {
			return found, nil
		}
		now, err := c.StreamHead(ctx, stream)
		if err != nil || now.Anchor == head.Anchor {
			return found, err
		}
	}
}

// follow walks a stream up to the decision that was its last when it began, or to one
// that is sealed. It returns how far the stream had come then.
func follow(ctx context.Context, c Chains, w *walk, to string) (delivery.Head, error) {
	return tell(ctx, c, w.f.Stream, to, teller{anchor: w.anchor, event: w.event, seal: w.sealed})
}

// teller is told what is in a stream, in order.
type teller struct {
	anchor func(delivery.Anchor)
	event  func(delivery.Link)
	seal   func(delivery.Seal)
}

func tell(ctx context.Context, c Chains, stream, to string, t teller) (delivery.Head, error) {
	head, err := c.StreamHead(ctx, stream)
	if err != nil {
		return head, err
	}
	last, lastSeal := head.Last.ID, head.Seal.ID
	if to != "" {
		last, lastSeal = to, to
	}
	if head.Anchor.MAC != "" {
		t.anchor(head.Anchor)
	}
	seals := &sealed{ctx: ctx, c: c, stream: stream, last: lastSeal}
	err = each(ctx, c, stream, "", func(l delivery.Link) bool {
		if delivery.CompareIDs(l.ID, last) > 0 || !seals.until(l.ID, t.seal) {
			return false
		}
		t.event(l)
		return true
	})
	if err == nil && seals.err == nil {
		seals.until("", t.seal)
	}
	if err == nil {
		err = seals.err
	}
	return head, err
}

// sealed reads the seals of a stream up to the last.
type sealed struct {
	ctx    context.Context
	c      Chains
	stream string
	last   string
	page   []delivery.Seal
	after  string
	ended  bool
	err    error
}

// until hands on the seals of decisions before one, "" for all that are left. It returns
// false when they cannot be read.
func (s *sealed) until(id string, do func(delivery.Seal)) bool {
	for {
		if len(s.page) == 0 && !s.ended {
			if s.page, s.err = s.c.Seals(s.ctx, s.stream, s.after, page); s.err != nil {
				return false
			}
			s.ended = len(s.page) < page
		}
		if len(s.page) == 0 {
			return true
		}
		next := s.page[0]
		if delivery.CompareIDs(next.ID, s.last) > 0 || id != "" && delivery.CompareIDs(next.ID, id) >= 0 {
			return true
		}
		do(next)
		s.page, s.after = s.page[1:], next.ID
	}
}
