package delivery

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The names of the streams of decisions that no queue has; no queue is named so.
const (
	Schedules    = "@cron" // about schedules
	Dependencies = "@dep"  // about dependencies, which all queues share
)

// Link is a recorded decision as a part of its stream's chain.
type Link struct {
	Stream string `json:"stream"` // a queue, [Schedules] or [Dependencies]
	ID     string `json:"id"`     // '<ms>-<n>'
	N      int64  `json:"n"`      // from 1; 0: it was written before decisions were chained
	What   string `json:"what"`
	Key    string `json:"key,omitempty"`
	Actor  string `json:"actor"`
	Reason string `json:"reason"`
	Before string `json:"before,omitempty"` // what it was about was so; "": that does not apply
	After  string `json:"after,omitempty"`  // and is so since
	Prev   string `json:"prev"`             // the hash of the one before; "": it is the first
	Hash   string `json:"hash"`             // hex SHA-1
}

// At is when it was decided, by Redis' clock.
func (l Link) At() time.Time {
	ms, _, _ := strings.Cut(l.ID, "-")
	n, _ := strconv.ParseInt(ms, 10, 64)
	return time.UnixMilli(n).UTC()
}

// Sum is the hash that the link must have.
func (l Link) Sum() string {
	texts := []string{l.Prev, l.ID, number(l.N), l.What, l.Key, l.Actor, l.Reason}
	if l.Before != "" || l.After != "" {
		texts = append(texts, l.Before, l.After)
	}
	sum := sha1.Sum(parts(texts...))
	return hex.EncodeToString(sum[:])
}

// Text is all of the link, as a seal takes it in.
func (l Link) Text() []byte {
	return parts(l.ID, number(l.N), l.What, l.Key, l.Actor, l.Reason, l.Before, l.After, l.Prev, l.Hash)
}

// Follows returns what is wrong with a link that comes after another, "" when nothing
// is. The zero Link comes before the first.
func (l Link) Follows(before Link) string {
	switch {
	case l.N == 0 && before.N == 0:
		return "" // of a time before the chain
	case l.Sum() != l.Hash:
		return "it was edited"
	case before.N > 0 && l.N != before.N+1:
		return fmt.Sprintf("it is number %d after number %d: one was cut out, put in or moved", l.N, before.N)
	case before.N > 0 && l.Prev != before.Hash:
		return "it does not continue the one before: that one was exchanged"
	}
	return ""
}
