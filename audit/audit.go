// Package audit reads the recorded decisions of people and of perdure itself, seals
// them, moves them out to files, and tells whether they are as they were written.
package audit

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Chains is what reading needs of the store.
type Chains interface {
	Streams(ctx context.Context) ([]string, error)
	Chain(ctx context.Context, stream, after string, limit int) ([]delivery.Link, error)
	Seals(ctx context.Context, stream, after string, limit int) ([]delivery.Seal, error)
	StreamHead(ctx context.Context, stream string) (delivery.Head, error)
}

const page = 500

// CheckStream returns an error unless a name is a queue's, or that of a stream which no
// queue has.
func CheckStream(name string) error {
	if slices.Contains([]string{delivery.Schedules, delivery.Dependencies}, name) {
		return nil
	}
	if strings.HasPrefix(name, "@") {
		return &jobs.InvalidError{Field: "queue", Value: name, Bound: "a queue, " + delivery.Schedules + " or " + delivery.Dependencies}
	}
	return jobs.CheckQueue(name)
}

// streams are all, or the one that is asked for.
func streams(ctx context.Context, c Chains, stream string) ([]string, error) {
	if stream == "" {
		return c.Streams(ctx)
	}
	return []string{stream}, CheckStream(stream)
}

// Filter selects decisions. The zero value of a field selects all.
type Filter struct {
	Stream, What, Key string
	Actor             string // as it is recorded; without the role in brackets: with any
	Since, Before     time.Time
}

func (f Filter) match(l delivery.Link) bool {
	actor, _, _ := strings.Cut(l.Actor, " (")
	return (f.What == "" || f.What == l.What) && (f.Key == "" || f.Key == l.Key) && (f.Actor == "" || f.Actor == l.Actor || f.Actor == actor) &&
		(f.Since.IsZero() || !l.At().Before(f.Since)) && (f.Before.IsZero() || l.At().Before(f.Before))
}

// List hands the decisions that a filter selects to show, each stream's oldest first,
// until show returns false.
func List(ctx context.Context, c Chains, f Filter, show func(delivery.Link) bool) error {
	names, err := streams(ctx, c, f.Stream)
	if err != nil {
		return err
	}
	for _, stream := range names {
		ended := false
		err := each(ctx, c, stream, "", func(l delivery.Link) bool {
			ended = f.match(l) && !show(l)
			return !ended
		})
		if err != nil || ended {
			return err
		}
	}
	return nil
}

// each hands the links of a stream that follow one to do, until it returns false.
func each(ctx context.Context, c Chains, stream, after string, do func(delivery.Link) bool) error {
	for {
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

// Page is a part of a list.
type Page struct {
	Decisions []delivery.Link `json:"decisions"`
	Next      string          `json:"next"` // "": this was the last page
	Read      int             `json:"read"` // decisions that were looked at
}

// maxRead is how many decisions a page looks at, so that it takes no longer than that.
const maxRead = 5000

// ListPage returns a page of the decisions that a filter selects, at most limit, from a
// page's Next on, "" for the first. A page looks at 5,000 decisions at most, so it may
// be short, even empty, and have a next.
func ListPage(ctx context.Context, c Chains, f Filter, from string, limit int) (Page, error) {
	p := Page{Decisions: []delivery.Link{}}
	names, err := streams(ctx, c, f.Stream)
	if err != nil {
		return p, err
	}
	begin, after, err := ReadCursor(from)
	if err != nil {
		return p, err
	}
	for _, stream := range names {
		if stream < begin {
			continue
		}
		if stream != begin {
			after = ""
		}
		full := false
		err := each(ctx, c, stream, after, func(l delivery.Link) bool {
			if p.Read++; f.match(l) {
				p.Decisions = append(p.Decisions, l)
			}
			if full = len(p.Decisions) >= limit || p.Read >= maxRead; full {
				p.Next = stream + "/" + l.ID
			}
			return !full
		})
		if err != nil || full {
			return p, err
		}
	}
	return p, nil
}

// ReadCursor reads the next of a page, '<stream>/<ID>'; both are empty when it is.
func ReadCursor(cursor string) (stream, id string, err error) {
	if cursor == "" {
		return "", "", nil
	}
	stream, id, _ = strings.Cut(cursor, "/")
	ms, seq, _ := strings.Cut(id, "-")
	_, badMs := strconv.ParseUint(ms, 10, 63)
	_, badSeq := strconv.ParseUint(seq, 10, 63)
	if err := errors.Join(CheckStream(stream), badMs, badSeq); err != nil {
		return "", "", &jobs.InvalidError{Field: "cursor", Value: cursor, Bound: "the next of the page before"}
	}
	return stream, id, nil
}
