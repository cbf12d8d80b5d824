package cron

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

const (
	turnOf      = 5 * time.Second // for which one process of the fleet replays, before it asks again
	replayRate  = 10
	replayMost  = 1000
	replayPages = 100 // entries a page
)

// replayBeside runs the replay of an open tick beside the other schedules, unless it
// runs here already.
func (r *Runner) replayBeside(ctx context.Context, s delivery.Scheduled) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running[s.Name] {
		return
	}
	r.running[s.Name] = true
	tick := *s.Open // the turns go on with theirs
	s.Open = &tick
	now, began := r.time(), time.Now()
	clock := func() time.Time { return now.Add(time.Since(began)) }
	r.replays.Go(func() {
		defer func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.running, s.Name)
		}()
		if err := r.replay(ctx, s, clock); err != nil && ctx.Err() == nil {
			r.log.Warn("a scheduled replay goes on later", "schedule", s.Name, "error", err)
		}
	})
}

// replay replays what the filter selects and was dead before the tick, and closes
// the tick. Whoever takes over from one that died begins again: what was replayed is
// dead no more, or was dead later than the tick.
func (r *Runner) replay(ctx context.Context, s delivery.Scheduled, clock func() time.Time) error {
	p := &replaying{
		store: r.store, s: s, moved: s.Open.Moved, most: cmp.Or(s.Replay.Most, replayMost),
		pace: time.Second / time.Duration(cmp.Or(s.Replay.Rate, replayRate)), note: r.store.CloseTick, clock: clock,
	}
	if mine, err := p.take(ctx); err != nil || !mine {
		return err
	}
	if err := p.run(ctx); err != nil {
		return err
	}
	end := delivery.TickEnd{Name: s.Name, Tick: *s.Open, Moved: p.moved}
	first, err := r.store.CloseTick(ctx, end)
	if first {
		r.metrics.fired.WithLabelValues(s.Name).Inc()
		r.log.Info("a schedule has replayed dead letters", "schedule", s.Name, "at", s.Open.At, "replayed", p.moved)
	}
	return err
}

// errNotMine ends a replay that another process goes on with.
var errNotMine = errors.New("another process goes on with it")

// replaying is one run of a scheduled replay.
type replaying struct {
	store Dead
	s     delivery.Scheduled
	moved int
	most  int
	pace  time.Duration // between two
	note  func(context.Context, delivery.TickEnd) (bool, error)
	clock func() time.Time // Redis', as it was when this began and as time went on
	until time.Time        // this process' turn ends
}

// take asks for the next turn. Turns are periods of Redis' clock; who has one asks for
// the one after before it is over.
func (p *replaying) take(ctx context.Context) (bool, error) {
	turn := p.until
	if turn.IsZero() {
		turn = p.clock().Truncate(turnOf)
	}
	purpose := fmt.Sprintf("cron:%s:%d", TickKey(p.s.Name, p.s.Open.At), turn.Unix())
	mine, err := p.store.TakeCensus(ctx, purpose, 4*turnOf)
	if mine {
		p.until = turn.Add(turnOf)
	}
	return mine, err
}

func (p *replaying) run(ctx context.Context) error {
	q := jobs.Query{Queue: p.s.Replay.Queue, Kind: p.s.Replay.Kind, State: jobs.StateQuarantined, Limit: replayPages}
	for p.moved < p.most {
		page, err := p.store.List(ctx, q)
		if err != nil {
			return err
		}
		for _, info := range page.Jobs {
			if err := p.one(ctx, info); err != nil {
				return err
			}
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return nil
		}
	}
	return nil
}

// one replays a job if it is selected.
func (p *replaying) one(ctx context.Context, info jobs.Info) error {
	selected, err := p.selects(ctx, info)
	if err != nil || !selected || p.moved >= p.most {
		return err
	}
	if p.until.Sub(p.clock()) < turnOf/2 {
		if mine, err := p.take(ctx); err != nil || !mine {
			return errors.Join(err, errNotMine)
		}
		if _, err := p.note(ctx, delivery.TickEnd{Name: p.s.Name, Tick: *p.s.Open, Moved: p.moved, More: true}); err != nil {
			return err
		}
	}
	reason := cmp.Or(p.s.Replay.Reason, "its schedule replays dead letters; tick "+p.s.Open.At.UTC().Format(time.RFC3339))
	_, err = p.store.Replay(ctx, info.Queue, info.Key, false, jobs.Decision{Actor: "schedule " + p.s.Name, Reason: reason})
	if errors.Is(err, jobs.ErrConflict) || errors.Is(err, jobs.ErrNotFound) {
		return nil // someone else has decided, or it cannot be read
	}
	if err != nil {
		return err
	}
	p.moved++
	timer := time.NewTimer(p.pace)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// selects reports whether the filter selects a dead job.
func (p *replaying) selects(ctx context.Context, info jobs.Info) (bool, error) {
	f, tick := p.s.Replay, p.s.Open.At
	at, err := p.store.DeadAt(ctx, info.Queue, info.Key)
	if err != nil || at.IsZero() || !at.Before(tick) {
		return false, err
	}
	if f.Newer > 0 && at.Before(tick.Add(-time.Duration(f.Newer))) || f.Older > 0 && !at.Before(tick.Add(-time.Duration(f.Older))) {
		return false, nil
	}
	if f.Tenant != "" && f.Tenant != info.Tenant || f.Version != 0 && f.Version != info.Version {
		return false, nil
	}
	entry, err := p.store.Entry(ctx, info.Queue, info.Key)
	if errors.Is(err, jobs.ErrNotFound) {
		return f.Class == "" && f.Signature == "" && f.Text == "", nil // archived by others' tools
	}
	if err != nil || f.Class != "" && f.Class != entry.Class || f.Signature != "" && f.Signature != entry.Signature {
		return false, err
	}
	text := strings.ToLower(strings.Join([]string{entry.Message, entry.Reason, entry.Step, info.Key}, "\n"))
	return strings.Contains(text, strings.ToLower(f.Text)), nil
}
