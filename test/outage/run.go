package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/perdure/perdure/internal/devredis"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// outage is one run.
type outage struct {
	o        options
	store    *store.Store
	payments *payments
	url      string
	out      io.Writer
	kills    int

	began, held, back time.Time // the service was first called; the fleet held; it was back
}

func run(ctx context.Context, o options, out io.Writer) error {
	dir, err := os.MkdirTemp("", "perdure-outage-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	redis, err := devredis.Start(ctx, filepath.Join(dir, "data"), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer redis.Close()
	s, err := store.Connect(ctx, redis.URL())
	if err != nil {
		return err
	}
	defer s.Close()
	p, err := newPayments()
	if err != nil {
		return err
	}
	defer p.server.Close()
	u := &outage{o: o, store: s, payments: p, url: redis.URL(), out: out}
	fmt.Fprintf(out, "%s\n%d jobs, %g a second, %d workers, one of them late by %v, a scheduler killed every %v\n", redis.Description(), o.jobs, o.rate, o.workers, o.late, o.kill)
	var processes sync.WaitGroup
	defer processes.Wait()
	running, stop := context.WithCancel(ctx)
	defer stop()
	for i := range o.workers {
		cmd, err := u.start("worker", i == 0)
		if err != nil {
			return err
		}
		processes.Go(func() {
			<-running.Done()
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
		})
	}
	killed := make(chan error, 1)
	processes.Go(func() { killed <- u.schedulers(running) })
	err = u.play(ctx)
	stop()
	if err = errors.Join(err, <-killed); err != nil {
		return err
	}
	return u.report(ctx)
}

func (u *outage) start(role string, hearsLate bool) (*exec.Cmd, error) {
	cmd := exec.Command(u.o.executable, role)
	cmd.Env = append(os.Environ(), redisSetting+"="+u.url, serviceSetting+"="+u.payments.url(), fmt.Sprintf("%s=%g", rateSetting, u.o.rate))
	if hearsLate {
		cmd.Env = append(cmd.Env, lateSetting+"="+u.o.late.String())
	}
	cmd.Stderr = os.Stderr
	return cmd, cmd.Start()
}

// schedulers runs one after the other, each killed after a while.
func (u *outage) schedulers(ctx context.Context) error {
	for ctx.Err() == nil {
		cmd, err := u.start("scheduler", false)
		if err != nil {
			return err
		}
		wait(ctx, u.o.kill)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		u.kills++
	}
	return nil
}

// play takes the service away from the jobs, and gives it back.
func (u *outage) play(ctx context.Context) error {
	began := time.Now()
	if err := u.enqueue(ctx); err != nil {
		return err
	}
	fmt.Fprintf(u.out, "%d jobs enqueued in %v\n", u.o.jobs, time.Since(began).Round(time.Millisecond))
	wait(ctx, u.o.away-time.Since(began))
	for { // the outage is over once the fleet is at rest, so that the whole backlog comes back from there
		q, err := u.store.QueueInfo(ctx, queue)
		if err != nil {
			return err
		}
		if q.Parked+q.Pending >= int64(u.o.jobs)-int64(q.Retrying) {
			break
		}
		wait(ctx, 100*time.Millisecond)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	u.payments.set(false)
	u.back = time.Now()
	for last := -1; ; {
		wait(ctx, 5*time.Second)
		_, _, served := u.payments.count()
		if served == u.o.jobs || ctx.Err() != nil {
			return ctx.Err()
		}
		if served == last {
			return fmt.Errorf("%d jobs are forgotten: nothing was served for five seconds", u.o.jobs-served)
		}
		if last = served; served == 0 && time.Since(u.back) < 20*time.Second {
			last = -1
		}
	}
}

// enqueue fills the queue, and notes when the fleet holds.
func (u *outage) enqueue(ctx context.Context) error {
	noted := make(chan struct{})
	go func() {
		defer close(noted)
		for ctx.Err() == nil {
			vain, _, _ := u.payments.count()
			if vain > 0 && u.began.IsZero() {
				u.began = u.payments.vain[0]
			}
			if d, err := u.store.Dependency(ctx, "payments"); err == nil && d.State == jobs.DependencyOpen {
				u.held = time.Now()
				return
			}
			wait(ctx, 10*time.Millisecond)
		}
	}()
	var producers sync.WaitGroup
	failed := make(chan error, 16)
	k := kind(u.o.rate)
	for p := range cap(failed) {
		producers.Go(func() {
			for i := p; i < u.o.jobs; i += cap(failed) {
				if _, err := u.store.Enqueue(ctx, k.New(fmt.Sprint(i), i)); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	producers.Wait()
	<-noted
	close(failed)
	return <-failed
}

// report says what was measured, and what is not as it should be.
func (u *outage) report(ctx context.Context) error {
	p := u.payments
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	goal := func(met bool, format string, values ...any) {
		line := fmt.Sprintf(format, values...)
		mark := "ok  "
		if !met {
			mark = "MISS"
			errs = append(errs, errors.New(line))
		}
		fmt.Fprintf(u.out, "%s  %s\n", mark, line)
	}
	twice := 0
	for _, times := range p.times {
		if times != 1 {
			twice++
		}
	}
	info, err := u.store.Dependency(ctx, "payments")
	if err != nil {
		return err
	}
	attempts, ended, err := u.attempts(ctx)
	if err != nil {
		return err
	}
	outage := u.back.Sub(u.began)
	fmt.Fprintf(u.out, "the service was away for %v; the scheduler was killed %d times\n", outage.Round(time.Second), u.kills)
	goal(len(p.times) == u.o.jobs && ended == u.o.jobs, "%d of %d jobs served, %d completed: none forgotten", len(p.times), u.o.jobs, ended)
	goal(twice == 0, "%d jobs served more than once", twice)
	goal(attempts == 0, "%d attempts used", attempts)
	calls := len(p.vain) + len(p.served)
	goal(float64(calls) <= 1.1*float64(u.o.jobs), "%d calls for %d jobs, %d of them in vain: %.3f times", calls, u.o.jobs, len(p.vain), float64(calls)/float64(u.o.jobs))
	late := p.vain
	for len(late) > 0 && late[0].Before(u.held.Add(time.Second+u.o.late)) {
		late = late[1:]
	}
	goal(most(late) <= 2, "%d probes, at most %d calls in one second once the fleet held", info.Probes, most(late))
	goal(u.held.Sub(u.began) <= 2*time.Second, "first refused call to fleet holding: %v", u.held.Sub(u.began).Round(time.Millisecond))
	goal(p.served[0].Sub(u.back) <= 3*time.Second, "service back to first resumed job: %v", p.served[0].Sub(u.back).Round(time.Millisecond))
	rate := steady(p.served, u.o.rate)
	goal(rate >= 0.9*u.o.rate && rate <= 1.1*u.o.rate, "%.1f jobs a second once at the full rate of %g: %+.1f %%", rate, u.o.rate, 100*(rate/u.o.rate-1))
	goal(float64(most(p.served)) <= 1.1*u.o.rate+1, "at most %d jobs in one second: %.3f times the rate", most(p.served), float64(most(p.served))/u.o.rate)
	return errors.Join(errs...)
}

// steady is the rate from when the ramp was at its end until nine tenths of what was left
// then had come back.
func steady(served []time.Time, rate float64) float64 {
	from := 0
	for from < len(served) && float64(most(served[:from+1])) < 0.9*rate && served[from].Sub(served[0]) < 30*time.Second {
		from += max(1, int(rate/10))
	}
	if from >= len(served) {
		return 0
	}
	to := from + (len(served)-from)*9/10 - 1
	if to <= from {
		return 0
	}
	return float64(to-from) / served[to].Sub(served[from]).Seconds()
}

// attempts counts those that all jobs have used.
func (u *outage) attempts(ctx context.Context) (used, ended int, err error) {
	q := jobs.Query{Queue: queue, State: jobs.StateCompleted, Limit: 500}
	for {
		page, err := u.store.List(ctx, q)
		if err != nil {
			return used, ended, err
		}
		for _, info := range page.Jobs {
			used += info.Attempts
			ended++
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return used, ended, nil
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
