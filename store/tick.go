package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// DecideTick decides what becomes of a schedule's next ticks, once for all
// schedulers. The tick that fires is then open until [Store.CloseTick].
func (s *Store) DecideTick(ctx context.Context, d delivery.TickDecision) (delivery.TickAnswer, error) {
	open := ""
	if d.Open != nil {
		d.Open.Text = mustJSON(d.Open)
		open = d.Open.Text
	}
	keys, nonce := []string{scheduleKey(d.Name), scheduleTicksKey(d.Name)}, rand.Text()
	code, err := surely(ctx, func() (int64, error) {
		return s.runCode(ctx, "tick", keys, nonce, d.Revision, d.Last.UnixMilli(), d.Until.UnixMilli(), open, d.Due.UnixMilli(), msOrNone(d.Now),
			msOrNone(d.From), d.Count, d.Reason, keptTicks, placeText(d.Run))
	})
	switch {
	case err != nil:
		return delivery.TickPassed, fmt.Errorf("decide a tick of schedule %s: %w", d.Name, err)
	case code == 1:
		return delivery.TickDecided, nil
	case code == -5:
		return delivery.TickEarly, nil
	}
	return delivery.TickPassed, nil
}

// FireTick enqueues the job of an instant of a series unless this instant or a later
// one of the series has fired in its queue before, and reports whether it did.
// ErrOvertaken: a later one has.
func (s *Store) FireTick(ctx context.Context, series string, at time.Time, job jobs.Job) (bool, error) {
	if err := job.Err(); err != nil {
		return false, fmt.Errorf("fire %s: %w", job.Key, err)
	}
	if err := errors.Join(s.register(ctx, job.Queue), s.registerTenant(ctx, job.Queue, job.Tenant)); err != nil {
		return false, fmt.Errorf("fire %s: %w", job.Key, err)
	}
	code, err := surely(ctx, func() (int64, error) {
		return s.runCode(ctx, "fire", []string{taskKey(job.Queue, job.Key), pendingKey(job.Queue), firedKey(job.Queue)},
			job.Key, series, at.UnixMilli(), s.tickMessage(ctx, job), keptSeries)
	})
	if err == nil && code == 4 {
		err = delivery.ErrOvertaken
	}
	if err != nil {
		return false, fmt.Errorf("fire %s: %w", job.Key, err)
	}
	return code == 1, nil
}

// tickMessage is the message that asynq's client would store for a job without a
// delay.
func (s *Store) tickMessage(ctx context.Context, job jobs.Job) []byte {
	c := s.newCall(ctx, job)
	m := message{
		Type: job.Kind, Payload: job.Payload, ID: job.Key, Queue: job.Queue, Retry: maxRetryField,
		Timeout: int64(job.Timeout.Seconds()), Retention: int64(job.Retention.Seconds()), Headers: maps.Clone(c.task.Headers()),
	}
	if !job.Deadline.IsZero() {
		m.Deadline = job.Deadline.Unix()
	}
	return m.encode()
}

// CloseTick closes an open tick that was carried out. It reports whether this call
// did, so that each is counted once.
func (s *Store) CloseTick(ctx context.Context, e delivery.TickEnd) (bool, error) {
	what, why := "fired", cmp.Or(e.Refused, e.Note)
	switch {
	case e.Refused != "":
		what = "skipped"
	case e.Tick.Trigger:
		what, why = "triggered", e.Tick.Actor+": "+e.Tick.Reason
		if e.Note != "" {
			why += "; " + e.Note
		}
	}
	queue, run, _ := strings.Cut(placeText(e.Run), " ")
	keys, nonce := []string{scheduleKey(e.Name), scheduleTicksKey(e.Name)}, rand.Text()
	code, err := surely(ctx, func() (int64, error) {
		return s.runCode(ctx, "ticked", keys, nonce, e.Tick.Text, what, e.Tick.At.UnixMilli(), queue, run, why, e.Late.Milliseconds(), keptTicks)
	})
	if err != nil {
		return false, fmt.Errorf("close a tick of schedule %s: %w", e.Name, err)
	}
	return code == 1, nil
}

// planMark tells the ID of a plan from the key of a job, which has no blanks.
const planMark = "plan "

// placeText is the text that readPlace reads; empty: there is none.
func placeText(p *delivery.JobPlace) string {
	switch {
	case p == nil:
		return ""
	case p.Plan != "":
		return p.Queue + " " + planMark + p.Plan
	}
	return p.Queue + " " + p.Key
}

// readPlace reads '<queue> <key>' or '<queue> plan <id>'; nil when there is none.
func readPlace(text string) *delivery.JobPlace {
	queue, key, ok := strings.Cut(text, " ")
	if !ok {
		return nil
	}
	if id, plan := strings.CutPrefix(key, planMark); plan {
		return &delivery.JobPlace{Queue: queue, Plan: id}
	}
	return &delivery.JobPlace{Queue: queue, Key: key}
}

// RecordBackfill records that ticks of a schedule were made up for by hand.
func (s *Store) RecordBackfill(ctx context.Context, name string, from, until time.Time, n int, by jobs.Decision) error {
	if err := by.Check(); err != nil {
		return err
	}
	ticks := "ticks"
	if n == 1 {
		ticks = "tick"
	}
	why := fmt.Sprintf("%s (%d %s from %s to %s)", by.Reason, n, ticks, from.UTC().Format(time.RFC3339), until.UTC().Format(time.RFC3339))
	keys := []string{scheduleEventsKey, scheduleDecidedKey(rand.Text())}
	_, err := surely(ctx, func() (int64, error) {
		return s.runCode(ctx, "note", keys, "backfill schedule", name, by.Actor, why)
	})
	if err != nil {
		return fmt.Errorf("backfill schedule %s: %w", name, err)
	}
	return nil
}
