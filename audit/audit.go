// Package audit reads the recorded decisions of people and of perdure itself, and
// tells whether they are as they were written.
package audit

import (
	"context"
	"time"

	"github.com/perdure/perdure/internal/delivery"
)

// Chains is what this package needs of the store.
type Chains interface {
	Streams(ctx context.Context) ([]string, error)
	Chain(ctx context.Context, stream, after string, limit int) ([]delivery.Link, error)
}

const page = 500

// Finding is what Verify has found in one stream.
type Finding struct {
	Stream    string `json:"stream"` // a queue, or "@cron" for decisions about schedules
	Events    int64  `json:"events"`
	Unchained int64  `json:"unchained"`        // of them, from before decisions were chained
	Broken    string `json:"broken,omitempty"` // the ID of the first event that is not as it was written; empty: none
	Why       string `json:"why,omitempty"`
}

// Verify walks the chain of every stream, or of one. An event that was edited, put in,
// moved or cut out from between others is found. What was cut off at the end is not, nor
// is a chain that was written anew as a whole.
func Verify(ctx context.Context, c Chains, stream string) ([]Finding, error) {
	streams := []string{stream}
	if stream == "" {
		var err error
		if streams, err = c.Streams(ctx); err != nil {
			return nil, err
		}
	}
	findings := make([]Finding, len(streams))
	for i, stream := range streams {
		f := &findings[i]
		f.Stream = stream
		var before delivery.Link
		err := each(ctx, c, stream, func(l delivery.Link) bool {
			f.Events++
			if l.N == 0 {
				f.Unchained++
			}
			if f.Broken == "" {
				if f.Why = wrong(l, before); f.Why != "" {
					f.Broken = l.ID
				}
			}
			before = l
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	return findings, nil
}

func wrong(l, before delivery.Link) string {
	if before.N == 0 && l.N > 1 {
		return "the chain begins with it, and it is not the first: those before it were cut off"
	}
	return l.Follows(before)
}

// Filter selects decisions. The zero value of a field selects all.
type Filter struct {
	Stream, What, Key, Actor string
	Since, Before            time.Time
}

func (f Filter) match(l delivery.Link) bool {
	return (f.What == "" || f.What == l.What) && (f.Key == "" || f.Key == l.Key) && (f.Actor == "" || f.Actor == l.Actor) &&
		(f.Since.IsZero() || !l.At().Before(f.Since)) && (f.Before.IsZero() || l.At().Before(f.Before))
}

// List hands the decisions that a filter selects to show, each stream's oldest first,
// until show returns false.
func List(ctx context.Context, c Chains, f Filter, show func(delivery.Link) bool) error {
	streams := []string{f.Stream}
	if f.Stream == "" {
		var err error
		if streams, err = c.Streams(ctx); err != nil {
			return err
		}
	}
	for _, stream := range streams {
		ended := false
		err := each(ctx, c, stream, func(l delivery.Link) bool {
			ended = f.match(l) && !show(l)
			return !ended
		})
		if err != nil || ended {
			return err
		}
	}
	return nil
}

// each hands all links of a stream to do, until it returns false.
func each(ctx context.Context, c Chains, stream string, do func(delivery.Link) bool) error {
	for after := ""; ; {
		links, err := c.Chain(ctx, stream, after, page)
		if err != nil {
			return err
		}
		for _, l := range links {
			if after = l.ID; !do(l) {
				return nil
			}
		}
		if len(links) < page {
			return nil
		}
	}
}
