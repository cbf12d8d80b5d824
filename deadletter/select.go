package deadletter

import (
	"context"
	"errors"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// page is how many entries are read at a time.
const page = 500

// Count is what a filter selects.
type Count struct {
	Entries    int              `json:"entries"`
	Replayable int              `json:"replayable"` // the others are erased or unreadable
	Signatures map[string]int64 `json:"signatures"` // entries by signature, of at most 1,000 of them
	Oldest     time.Time        `json:"oldest,omitzero"`
	Newest     time.Time        `json:"newest,omitzero"`
}

// Count counts what a filter selects now, and changes nothing. told, when not nil, is
// called between pages with what is counted so far.
func (q *Quarantine) Count(ctx context.Context, queue string, filter Filter, told func(Count)) (Count, error) {
	c := Count{Signatures: map[string]int64{}}
	err := q.each(ctx, queue, filter, func(entries []delivery.Dead) error {
		for _, d := range entries {
			c.add(d)
		}
		if told != nil {
			told(c)
		}
		return nil
	})
	return c, err
}

func (c *Count) add(d delivery.Dead) {
	c.Entries++
	if !d.Unreadable && d.Erased == "" {
		c.Replayable++
	}
	if _, known := c.Signatures[d.Signature]; known || len(c.Signatures) < 1000 {
		c.Signatures[d.Signature]++
	}
	if c.Oldest.IsZero() || d.At.Before(c.Oldest) {
		c.Oldest = d.At
	}
	if d.At.After(c.Newest) {
		c.Newest = d.At
	}
}

// DiscardAll forgets the entries that a filter selects and that are there when it
// begins; each is a decision of its own on record. It returns how many: some, when
// there is an error, and the same call goes on with the others. told, when not nil,
// is called between pages.
func (q *Quarantine) DiscardAll(ctx context.Context, queue string, filter Filter, by jobs.Decision, told func(discarded int)) (discarded int, err error) {
	if err := by.Check(); err != nil {
		return 0, err
	}
	err = q.eachBefore(ctx, queue, filter, func(entries []delivery.Dead) error {
		n, err := q.DiscardListed(ctx, entries, by)
		if discarded += n; err == nil && told != nil {
			told(discarded)
		}
		return err
	})
	return discarded, err
}

// DiscardListed forgets entries of a page, but for those that have left or were
// quarantined again since: what they are now, nobody has chosen. It returns how many.
func (q *Quarantine) DiscardListed(ctx context.Context, entries []delivery.Dead, by jobs.Decision) (discarded int, err error) {
	for _, d := range entries {
		err := q.store.DiscardEntry(ctx, d, by)
		switch {
		case err == nil:
			discarded++
		case !left(err):
			return discarded, err
		}
	}
	return discarded, nil
}

// left reports that an entry has left the quarantine meanwhile, by somebody else's
// decision.
func left(err error) bool {
	return errors.Is(err, jobs.ErrNotFound) || errors.Is(err, jobs.ErrConflict)
}

// each hands every entry that a filter selects to do, page by page.
func (q *Quarantine) each(ctx context.Context, queue string, filter Filter, do func([]delivery.Dead) error) error {
	for query := (Query{Queue: queue, Filter: filter, Limit: page}); ; {
		found, err := q.store.Dead(ctx, query)
		if err != nil {
			return err
		}
		if err := do(found.Entries); err != nil {
			return err
		}
		if query.Cursor = found.Next; query.Cursor == "" {
			return nil
		}
	}
}

// eachBefore is each, without entries that come while it goes on.
func (q *Quarantine) eachBefore(ctx context.Context, queue string, filter Filter, do func([]delivery.Dead) error) error {
	last, err := q.newest(ctx, queue)
	if err != nil || last.IsZero() {
		return err
	}
	if limit := last.Add(time.Millisecond); filter.Before.IsZero() || limit.Before(filter.Before) {
		filter.Before = limit
	}
	if !filter.Since.IsZero() && !filter.Since.Before(filter.Before) {
		return nil // all of them are older
	}
	return q.each(ctx, queue, filter, do)
}

// newest is when the last entry came; zero when there is none.
func (q *Quarantine) newest(ctx context.Context, queue string) (last time.Time, err error) {
	for query := (Query{Queue: queue, Newest: true, Limit: 1}); ; {
		found, err := q.store.Dead(ctx, query)
		if err != nil {
			return last, err
		}
		for _, d := range found.Entries {
			if d.At.After(last) {
				last = d.At
			}
		}
		if query.Cursor = found.Next; query.Cursor == "" || queue != "" && !last.IsZero() {
			return last, nil
		}
	}
}
