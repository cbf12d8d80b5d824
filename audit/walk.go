package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"time"

	"github.com/perdure/perdure/internal/delivery"
)

// Finding is what was found in one stream.
type Finding struct {
	Stream        string    `json:"stream"` // a queue, or "@cron" and "@dep" for decisions about schedules and dependencies
	Events        int64     `json:"events"`
	Unchained     int64     `json:"unchained"`               // of them, from before decisions were chained: only a seal proves them
	MovedOut      int64     `json:"moved_out,omitempty"`     // decisions up to this number are in a file and not here
	MovedAt       time.Time `json:"moved_at,omitzero"`       // when the last of them were moved
	Seals         int64     `json:"seals"`                   // that are here
	Checked       bool      `json:"seals_checked"`           // there was a key to check them by
	SealedTo      int64     `json:"sealed_to,omitempty"`     // the number of the last decision that a seal vouches for
	SealedAt      time.Time `json:"sealed_at,omitzero"`      // when it was sealed
	Unsealed      int64     `json:"unsealed"`                // decisions after it: their end can be cut off, or written anew, and nobody sees it
	UnsealedSince time.Time `json:"unsealed_since,omitzero"` // when the first of these was taken
	Broken        string    `json:"broken,omitempty"`        // the ID of the first event or seal that is not as it was written; empty: none
	Why           string    `json:"why,omitempty"`
}

// walk reads a stream from its beginning: an anchor first if there is one, and each seal
// after the decision that it seals.
type walk struct {
	keys  Keys
	known map[string]delivery.Seal // seals from elsewhere that must hold here too, by the ID of their decision
	last  delivery.Link
	seal  delivery.Seal
	sum   hash.Hash // of the decisions since the last seal
	f     Finding
}

func newWalk(stream string, keys Keys, known []delivery.Seal) *walk {
	w := &walk{keys: keys, known: map[string]delivery.Seal{}, sum: sha256.New(), f: Finding{Stream: stream, Checked: keys.Checks()}}
	for _, s := range known {
		w.known[s.ID] = s
		if why := keys.wrong(s.Key, s.Text(), s.MAC); why != "" {
			w.broken(s.ID, fmt.Sprintf("the given seal of decision %d: %s", s.N, why))
		}
	}
	return w
}

func (w *walk) broken(id, why string) {
	if w.f.Why == "" {
		w.f.Broken, w.f.Why = id, why
	}
}

// anchor begins after what was moved out. In a file it may come again where what was
// moved out before ends.
func (w *walk) anchor(a delivery.Anchor) {
	if why := w.keys.wrong(a.Key, a.Text(), a.MAC); why != "" {
		w.broken(a.ID, "the anchor of what was moved out: "+why)
	}
	if w.f.Events > 0 || w.last.ID != "" {
		if a.N != w.seal.N || a.ID != w.seal.ID || a.Seal != w.seal.MAC {
			w.broken(a.ID, fmt.Sprintf("decisions up to %d are not in this file before those that follow them", a.N))
		}
		return
	}
	w.last = a.Link()
	w.seal = delivery.Seal{Stream: a.Stream, N: a.N, ID: a.ID, Hash: a.Hash, MAC: a.Seal}
	w.f.MovedOut, w.f.MovedAt, w.f.SealedTo, w.f.SealedAt = a.N, a.At, a.N, a.At
}

func (w *walk) event(l delivery.Link) {
	w.f.Events++
	if l.N == 0 {
		w.f.Unchained++
	}
	w.sum.Write(l.Text())
	if why := wrong(l, w.last); why != "" {
		w.broken(l.ID, why)
	} else if w.last.ID != "" && delivery.CompareIDs(l.ID, w.last.ID) <= 0 {
		w.broken(l.ID, "it is not later than the one before: one was moved or put in")
	}
	if s, ok := w.known[l.ID]; ok && (s.N != l.N || s.Hash != l.Hash) {
		w.broken(l.ID, fmt.Sprintf("the given seal of decision %d is of another one: it was written anew", s.N))
	}
	if w.f.Unsealed++; w.f.Unsealed == 1 {
		w.f.UnsealedSince = l.At()
	}
	w.last = l
}

// wrong says what is wrong with a decision that comes after another.
func wrong(l, before delivery.Link) string {
	if before.N == 0 && l.N > 1 {
		return "the chain begins with it, and it is not the first: those before it were cut off"
	}
	return l.Follows(before)
}

func (w *walk) sealed(s delivery.Seal) {
	if s.MAC != "" && s.MAC == w.seal.MAC && s.ID == w.seal.ID {
		return // of the last one that was moved out: it stays
	}
	w.f.Seals++
	w.matches(s)
	why := w.keys.wrong(s.Key, s.Text(), s.MAC)
	switch {
	case why != "":
	case s.Prev != w.seal.MAC && w.seal.MAC == "":
		why = "it is not the first, and those before it were cut off"
	case s.Prev != w.seal.MAC:
		why = "it does not continue the seal before: one was cut out, put in or moved"
	case s.ID != w.last.ID:
		why = "its decision is gone: cut out, or cut off at the end"
	case s.N == w.last.N && s.Hash == w.last.Hash && s.Sum != hex.EncodeToString(w.sum.Sum(nil)):
		why = "what it seals was edited: the decisions since the seal before are others by now"
	case s.N != w.last.N || s.Hash != w.last.Hash:
		why = "its decision is another one by now: the chain was written anew"
	}
	w.seal = s
	w.sum.Reset()
	if why != "" {
		w.broken(s.ID, fmt.Sprintf("the seal of decision %d: %s", s.N, why))
		return
	}
	w.f.SealedTo, w.f.SealedAt, w.f.Unsealed, w.f.UnsealedSince = s.N, s.At, 0, time.Time{}
}

// matches compares a seal with the one of the same decision from elsewhere.
func (w *walk) matches(s delivery.Seal) {
	given, ok := w.known[s.ID]
	if !ok {
		return
	}
	if given.MAC != s.MAC {
		w.broken(s.ID, fmt.Sprintf("the given seal of decision %d is another one", s.N))
	}
	delete(w.known, s.ID)
}

// end says what is wrong once all was read. head is how far the stream had come before
// that; zero when that is not known.
func (w *walk) end(head delivery.Head) Finding {
	if delivery.CompareIDs(head.Top, w.last.ID) > 0 {
		w.broken(w.last.ID, "later decisions, up to "+head.Top+", were cut off after it")
	}
	if delivery.CompareIDs(head.SealTop, w.seal.ID) > 0 {
		w.broken(w.seal.ID, "later seals, up to that of "+head.SealTop+", were cut off after it")
	}
	for _, s := range w.known {
		if s.N > w.f.MovedOut {
			w.broken(s.ID, fmt.Sprintf("the given seal of decision %d is not here: seals were cut off", s.N))
		}
	}
	return w.f
}
