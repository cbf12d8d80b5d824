package cron

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Headers of the jobs of ticks, for their handlers.
const (
	HeaderSchedule = "schedule"      // the schedule's name
	HeaderInstant  = "scheduled-for" // the tick's instant, RFC 3339
)

// TickKey is the key of the job of a schedule's tick.
func TickKey(schedule string, at time.Time) string { return delivery.TickKey(schedule, at) }

// finish carries out a schedule's open tick: at once when it was opened here, else
// when its opener had time to and has not.
func (r *Runner) finish(ctx context.Context, e *entry) (wait time.Duration, err error) {
	if !e.mine {
		if left := e.Open.Decided.Add(othersHave).Sub(r.now); left > 0 {
			return left, nil
		}
		if err := r.reload(ctx, e.Name); err != nil {
			return 0, err
		}
		now := r.table[e.Name]
		if now == nil || now.Open == nil || now.Open.Text != e.Open.Text {
			return 0, nil
		}
		e = now
	}
	end, err := fire(ctx, r.store, e.Scheduled, e.times, r.time())
	if err != nil {
		return 0, err
	}
	first, err := r.store.CloseTick(ctx, end)
	if err != nil {
		return 0, err
	}
	if e.Open, e.mine = nil, false; end.Run != nil {
		e.Run = end.Run
	}
	if first {
		r.record(e, end)
	}
	return 0, nil
}

func (r *Runner) record(e *entry, end delivery.TickEnd) {
	if end.Refused != "" {
		r.skipped(e, 1, end.Refused, end.Tick.At)
		return
	}
	r.metrics.fired.WithLabelValues(e.Name).Inc()
	r.metrics.late.Observe(end.Late.Seconds())
	r.log.Debug("a schedule has fired", "schedule", e.Name, "at", end.Tick.At, "late", end.Late)
}

// fire enqueues the job of an open tick, or makes its replay plan. It may be called
// by several and again: the queue remembers what has fired.
func fire(ctx context.Context, store Store, s delivery.Scheduled, times *Times, now time.Time) (delivery.TickEnd, error) {
	tick := *s.Open
	end := delivery.TickEnd{Name: s.Name, Tick: tick, Late: max(now.Sub(times.Due(tick.At)), 0)}
	if tick.Trigger {
		end.Late = 0
	}
	if tick.Cancel != nil {
		if err := cancel(ctx, store, *tick.Cancel, s); err != nil {
			return end, err
		}
	}
	do := enqueue
	if s.Replay != nil {
		do = replay
	}
	var err error
	if end.Run, err = do(ctx, store, s); err == nil && end.Run == nil {
		end.Note = "nothing to replay"
	}
	if errors.Is(err, jobs.ErrInvalid) || errors.Is(err, jobs.ErrUnknownKind) || errors.Is(err, delivery.ErrOvertaken) {
		end.Refused, end.Run = fmt.Sprintf("refused: %v", err), nil
		return end, nil
	}
	return end, err
}

// enqueue enqueues the job of an open tick and returns where it is.
func enqueue(ctx context.Context, store Store, s delivery.Scheduled) (*delivery.JobPlace, error) {
	kind, err := store.KindDefinition(ctx, s.Kind)
	if err != nil {
		return nil, err
	}
	job := tickJob(s, kind, *s.Open)
	_, err = store.FireTick(ctx, delivery.Series(s.Name, s.Open.Trigger), s.Open.At, job)
	return &delivery.JobPlace{Queue: job.Queue, Key: job.Key}, err
}

// tickJob is the job of an open tick, in the queue that was decided with it.
func tickJob(s delivery.Scheduled, kind jobs.Definition, tick delivery.OpenTick) jobs.Job {
	job := s.Timetable.Job(kind, TickKey(s.Name, tick.At))
	if tick.Queue != "" {
		job.Queue = tick.Queue
	}
	job.Headers = map[string]string{HeaderSchedule: s.Name, HeaderInstant: tick.At.UTC().Format(time.RFC3339Nano)}
	return job
}
