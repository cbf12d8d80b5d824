package delivery

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Seal says which decision was the last of a stream at a time, under a key that Redis
// does not have. Each names the one before, so the seals of a stream are a chain too.
type Seal struct {
	Stream string    `json:"stream"`
	N      int64     `json:"n"`    // of the decision
	ID     string    `json:"id"`   // of the decision
	Hash   string    `json:"hash"` // of the decision
	Sum    string    `json:"sum"`  // hex SHA-256 of the [Link.Text] of all decisions since the seal before
	Prev   string    `json:"prev"` // the MAC of the seal before; "": it is the first
	At     time.Time `json:"at"`   // by Redis' clock
	Key    string    `json:"key"`  // which key: a name that is made from it
	MAC    string    `json:"mac"`  // hex HMAC-SHA256 of [Seal.Text]
}

// Text is what the MAC is of.
func (s Seal) Text() []byte {
	return parts("perdure seal 1", s.Stream, number(s.N), s.ID, s.Hash, s.Sum, s.Prev, number(s.At.UnixMilli()), s.Key)
}

// Link is the sealed decision as what follows it sees it.
func (s Seal) Link() Link { return Link{Stream: s.Stream, N: s.N, ID: s.ID, Hash: s.Hash} }

// Anchor stands for the decisions that were moved out of a stream to a file: it is the
// last of them, with its seal.
type Anchor struct {
	Stream string    `json:"stream"`
	N      int64     `json:"n"`
	ID     string    `json:"id"`
	Hash   string    `json:"hash"`
	Seal   string    `json:"seal"` // the MAC of its seal
	At     time.Time `json:"at"`   // when they were moved out, by Redis' clock
	Key    string    `json:"key"`  // as of [Seal]
	MAC    string    `json:"mac"`  // hex HMAC-SHA256 of [Anchor.Text]
}

// Text is what the MAC is of.
func (a Anchor) Text() []byte {
	return parts("perdure anchor 1", a.Stream, number(a.N), a.ID, a.Hash, a.Seal, number(a.At.UnixMilli()), a.Key)
}

// Link is the last decision that was moved out as what follows it sees it.
func (a Anchor) Link() Link { return Link{Stream: a.Stream, N: a.N, ID: a.ID, Hash: a.Hash} }

// Head is how far a stream and its seals have come. What is not there is zero.
type Head struct {
	Last    Link      // the last decision
	Top     string    // the last ID that the stream has handed out, also of a decision that is gone
	Seal    Seal      // the last seal
	SealTop string    // the last ID of a decision that a seal was written for, likewise
	Anchor  Anchor    // of what was moved out
	Now     time.Time // Redis' clock
}

// parts joins texts so that no two lists of texts are joined to the same.
func parts(texts ...string) []byte {
	var b bytes.Buffer
	for _, text := range texts {
		fmt.Fprintf(&b, "%d:%s", len(text), text)
	}
	return b.Bytes()
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

// CompareIDs orders the IDs of decisions; "" comes first.
func CompareIDs(a, b string) int {
	read := func(id string) (ms, seq uint64) {
		left, right, _ := strings.Cut(id, "-")
		ms, _ = strconv.ParseUint(left, 10, 64)
		seq, _ = strconv.ParseUint(right, 10, 64)
		return ms, seq
	}
	aMs, aSeq := read(a)
	bMs, bSeq := read(b)
	switch {
	case aMs < bMs || aMs == bMs && aSeq < bSeq:
		return -1
	case aMs == bMs && aSeq == bSeq:
		return 0
	}
	return 1
}
