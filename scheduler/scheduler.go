// Package scheduler does what happens without an attempt: it moves due jobs to
// their queue, takes over what dead workers left, forgets ended jobs when their
// retention is over, sends jobs back that wait for a dependency, takes replay plans further, and takes stock of all jobs. Any number of schedulers may run; each step is one
// idempotent script, so no leader is needed. Worker processes run one too, so
// that a worker alone is enough.
package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/deadletter"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Store is what the scheduler needs of the store.
type Store interface {
	Upkeep
	Stock
	Redrive
	Hold
	Dependencies
	deadletter.Plans
}

// Upkeep is what the scheduler needs of the store to keep jobs moving.
type Upkeep interface {
	Queues(ctx context.Context) ([]string, error)
	Promote(ctx context.Context, queue string) (delivery.Promoted, error)
	Relay(ctx context.Context, queue string) (more bool, err error)
	Expire(ctx context.Context, queue string) (int, error)
	Silent(ctx context.Context, limit time.Duration) ([]string, error)
	Reclaim(ctx context.Context, queue, owner string) (int, error)
	Retire(ctx context.Context, owner string) error
}

// Options say how a scheduler runs. The zero value of each field has a default.
type Options struct {
	Silence    time.Duration         // how long an owner may be silent that does not say, and twice as often as this is looked: 500 ms to 10 min; default 1.6 s
	Census     time.Duration         // between two censuses of the fleet, 1 s to 24 h; default 1 min, and longer when one takes long
	Log        *slog.Logger          // default: none
	Registerer prometheus.Registerer // default: none
}

// Scheduler looks after all queues. Make one with [New].
type Scheduler struct {
	store     Store
	silence   time.Duration
	every     time.Duration
	now       chan struct{} // a census was asked for
	mail      chan string   // a queue with something to relay
	waits     chan struct{} // jobs wait for a dependency or a limit
	log       *slog.Logger
	promoted  prometheus.Counter
	reclaimed prometheus.Counter
	expired   prometheus.Counter
	mended    prometheus.Counter
	replayed  prometheus.Counter
	redriven  prometheus.Counter
}

// New returns a scheduler on a store.
func New(store Store, options Options) (*Scheduler, error) {
	if options.Silence == 0 {
		options.Silence = 1600 * time.Millisecond
	}
	if options.Silence < 500*time.Millisecond || options.Silence > 10*time.Minute {
		return nil, fmt.Errorf("scheduler options: %w", &jobs.InvalidError{Field: "silence", Value: options.Silence, Bound: "from 500ms to 10m"})
	}
	if options.Census == 0 {
		options.Census = time.Minute
	}
	if options.Census < time.Second || options.Census > 24*time.Hour {
		return nil, fmt.Errorf("scheduler options: %w", &jobs.InvalidError{Field: "census", Value: options.Census, Bound: "from 1s to 24h"})
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		if options.Registerer != nil {
			options.Registerer.MustRegister(c)
		}
		return c
	}
	if options.Registerer != nil {
		options.Registerer.MustRegister(tally{store}, standings{store})
	}
	return &Scheduler{
		store: store, silence: options.Silence, every: options.Census, now: make(chan struct{}, 1), mail: make(chan string, 16), waits: make(chan struct{}, 1), log: options.Log,
		promoted:  counter("perdure_promoted_total", "Due jobs moved to their queue."),
		reclaimed: counter("perdure_reclaimed_total", "Jobs taken over from dead workers."),
		expired:   counter("perdure_expired_total", "Ended jobs forgotten at the end of their retention."),
		mended:    counter("perdure_mended_total", "Jobs that a census of this process has put right."),
		redriven:  counter("perdure_redriven_total", "Jobs that this process has sent back after they had waited for a dependency or a limit."),
		replayed:  counter("perdure_replayed_total", "Quarantined jobs that this process has replayed for a plan."),
	}, nil
}

// Run looks after the queues until ctx ends, and then returns nil. While Redis
// cannot be reached it keeps trying.
func (s *Scheduler) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	loops.Go(func() { s.promote(ctx) })
	loops.Go(func() { s.relay(ctx) })
	loops.Go(func() { s.expire(ctx) })
	loops.Go(func() { s.reclaim(ctx) })
	loops.Go(func() { s.census(ctx) })
	loops.Go(func() { s.replay(ctx) })
	loops.Go(func() { s.redrive(ctx) })
	loops.Wait()
	return nil
}

// promote sleeps until the next job is due, a second at most: a job that was
// parked meanwhile may be due sooner than any known.
func (s *Scheduler) promote(ctx context.Context) {
	for ctx.Err() == nil {
		wait := time.Second
		err := s.eachQueue(ctx, func(queue string) error {
			p, err := s.store.Promote(ctx, queue)
			s.promoted.Add(float64(p.Moved))
			if p.Next >= 0 {
				wait = min(wait, p.Next)
			}
			if p.Mail {
				s.post(queue)
			}
			if p.Waits {
				s.lookAtLanes()
			}
			return err
		})
		s.complain(ctx, "cannot promote due jobs", err)
		pause(ctx, max(wait, 10*time.Millisecond))
	}
}

func (s *Scheduler) expire(ctx context.Context) {
	for ctx.Err() == nil {
		again := false
		err := s.eachQueue(ctx, func(queue string) error {
			n, err := s.store.Expire(ctx, queue)
			s.expired.Add(float64(n))
			again = again || n >= 500
			return err
		})
		s.complain(ctx, "cannot forget ended jobs", err)
		if again {
			pause(ctx, 20*time.Millisecond)
			continue
		}
		pause(ctx, 8*time.Second)
	}
}

// replay takes replay plans further: ten times a second while one is open, else it
// looks for a new one every three seconds.
func (s *Scheduler) replay(ctx context.Context) {
	for ctx.Err() == nil {
		open, replayed, err := deadletter.Advance(ctx, s.store)
		s.replayed.Add(float64(replayed))
		s.complain(ctx, "cannot take replay plans further", err)
		wait := 3 * time.Second
		if open > 0 && err == nil {
			wait = 100 * time.Millisecond
		}
		pause(ctx, wait)
	}
}

// reclaim takes over from owners that are silent for too long. It does so only
// after twice their limit of unbroken contact of its own: after a restart or a
// freeze of Redis every owner looks silent, and the living need time to beat.
func (s *Scheduler) reclaim(ctx context.Context) {
	contact, last := time.Now(), time.Now()
	for ctx.Err() == nil {
		asked := time.Now()
		silent, err := s.store.Silent(ctx, s.silence)
		if gap := time.Since(last); err != nil || gap > s.silence || time.Since(asked) > s.silence/4 {
			contact = time.Now()
		}
		last = time.Now()
		s.complain(ctx, "cannot look for dead workers", err)
		if err == nil {
			for _, owner := range silent {
				if time.Since(contact) < 2*delivery.SilenceOf(owner, s.silence) {
					continue
				}
				s.complain(ctx, "cannot take over from a dead worker", s.takeOver(ctx, owner))
			}
			last = time.Now()
		}
		pause(ctx, s.silence/2)
	}
}

// takeOver moves what an owner held back to the queues, and only then forgets it,
// so that one who dies half way is followed by another.
func (s *Scheduler) takeOver(ctx context.Context, owner string) error {
	err := s.eachQueue(ctx, func(queue string) error {
		moved, err := s.store.Reclaim(ctx, queue, owner)
		s.reclaimed.Add(float64(moved))
		if moved > 0 {
			s.log.Warn("took jobs over from a dead worker", "queue", queue, "owner", owner, "jobs", moved)
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.store.Retire(ctx, owner)
}

// eachQueue goes through all queues; one queue's error does not stop the others.
func (s *Scheduler) eachQueue(ctx context.Context, do func(queue string) error) error {
	queues, err := s.store.Queues(ctx)
	for _, queue := range queues {
		if ctx.Err() != nil {
			return err
		}
		if e := do(queue); e != nil {
			err = e
		}
	}
	return err
}

func (s *Scheduler) complain(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		s.log.Warn(what, "error", err)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
