package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/perdure/perdure/audit"
	"github.com/perdure/perdure/internal/doctor"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/ops"
	"github.com/perdure/perdure/scheduler"
	"github.com/perdure/perdure/scheduler/cron"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/worker"
)

// process is what runs until it is told to stop: parts that all stop when one
// does.
type process struct {
	store   *store.Store
	works   worker.Store // what the worker uses: the store
	metrics *prometheus.Registry
	parts   []part
	first   func(ctx context.Context) error // before any part runs; nil: nothing
	ready   []func() error
}

type part struct {
	name string
	run  func(ctx context.Context) error
}

func (a *App) newProcess(s *store.Store) *process {
	p := &process{store: s, works: s, metrics: prometheus.NewRegistry()}
	p.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return p
}

func (p *process) add(name string, run func(ctx context.Context) error) {
	p.parts = append(p.parts, part{name, run})
}

// run does what comes first, and then runs all parts until ctx ends or one of
// them fails, and waits for all.
func (p *process) run(ctx context.Context) error {
	if p.first != nil {
		if err := p.first(ctx); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(p.parts))
	var all sync.WaitGroup
	for i, part := range p.parts {
		all.Go(func() {
			defer cancel()
			if err := part.run(ctx); err != nil {
				errs[i] = fmt.Errorf("%s: %w", part.name, err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// workerOptions are those of a worker whose suspects run in this very command,
// started again.
func (a *App) workerOptions(handlers []jobs.Handler) worker.Options {
	o := worker.Options{
		Handlers: handlers, Queues: a.settings.Queues, StrictPriority: a.settings.StrictPriority, Concurrency: a.settings.Concurrency,
		ShutdownTimeout: a.settings.ShutdownTimeout, Beat: a.settings.Beat, Silence: a.settings.Silence, MaxStuck: a.settings.MaxStuck, Log: a.log,
	}
	if executable, err := os.Executable(); err == nil {
		o.Child = append([]string{executable}, a.Args...)
	}
	return o
}

// runWorker is the body of a command that runs a worker, also where a worker has
// started it for its suspects.
func (a *App) runWorker(cmd *cobra.Command, handlers []jobs.Handler) error {
	if worker.Isolated() {
		return worker.ServeIsolated(a.workerOptions(handlers))
	}
	return a.runProcess(cmd, func(p *process) error { return a.addWorker(p, handlers) })
}

// addWorker adds a worker, and a scheduler so that a worker alone is enough.
func (a *App) addWorker(p *process, handlers []jobs.Handler) error {
	o := a.workerOptions(handlers)
	o.Registerer = p.metrics
	w, err := worker.New(p.works, o)
	if err != nil {
		return err
	}
	p.add("worker", w.Run)
	p.ready = append(p.ready, w.Ready)
	return errors.Join(a.addScheduler(p, a.served(handlers)...), a.addCron(p, handlers))
}

// served are the queues that a worker with these handlers takes jobs from.
func (a *App) served(handlers []jobs.Handler) []string {
	served := slices.Sorted(maps.Keys(a.settings.Queues))
	for _, h := range handlers {
		if len(a.settings.Queues) == 0 && !slices.Contains(served, h.Definition.Queue) {
			served = append(served, h.Definition.Queue)
		}
	}
	return served
}

// addScheduler adds a scheduler, and has Redis examined before it runs and while
// it does. queues are those that no server of asynq's own may serve; none: all
// that perdure has worked on.
func (a *App) addScheduler(p *process, queues ...string) error {
	s, err := scheduler.New(p.store, scheduler.Options{Silence: a.settings.Silence, Log: a.log, Registerer: p.metrics})
	if err != nil {
		return err
	}
	p.add("scheduler", s.Run)
	keys, err := a.settings.auditKeys()
	if err != nil {
		return err
	}
	sealer, err := audit.NewSealer(p.store, audit.Options{Keys: keys, Every: a.settings.AuditEvery, Log: a.log, Registerer: p.metrics})
	if err != nil {
		return err
	}
	p.add("audit", sealer.Run)
	d := a.newDoctor(p.store, doctor.Options{Queues: queues, Log: a.log, Registerer: p.metrics, OnChange: s.CensusNow})
	p.first = d.Start
	p.add("doctor", d.Run)
	return nil
}

// addHealth adds /livez, /readyz and /metrics when an address is set.
func (a *App) addHealth(p *process) error {
	if a.settings.HealthListen == "" {
		return nil
	}
	ready := func() error {
		var errs []error
		for _, check := range p.ready {
			errs = append(errs, check())
		}
		return errors.Join(errs...)
	}
	return a.addServer(p, "health", "PERDURE_HEALTH_LISTEN", a.settings.HealthListen, ops.Health(p.store.Ping, ready, p.metrics))
}

// addOps adds the API and the pages.
func (a *App) addOps(p *process, handlers []jobs.Handler) error {
	tokens, err := ops.ParseTokens(a.settings.AccessTokens)
	if err != nil {
		return err
	}
	keys, err := a.settings.auditKeys()
	if err != nil {
		return err
	}
	api, err := ops.New(ops.Options{
		Store: p.store, Schedules: cron.NewDesk(p.store), Audit: p.store, AuditKeys: keys, Handlers: handlers, Tokens: tokens, Listen: a.settings.Listen, Hosts: a.settings.Hosts,
		Metrics: p.metrics, AsynqUI: p.store.Redis(), Log: a.log, Version: Version,
	})
	if err != nil {
		return err
	}
	return a.addServer(p, "ops", "PERDURE_LISTEN", a.settings.Listen, api)
}

// addServer listens at once, so that a busy port is an error before anything
// runs.
func (a *App) addServer(p *process, name, setting, addr string, handler http.Handler) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("%s listens on %s: %w (is it in use? set %s to another address)", name, addr, err, setting)
	}
	server := ops.NewServer(handler, a.log)
	p.add(name, func(ctx context.Context) error {
		go func() {
			<-ctx.Done()
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			if server.Shutdown(stop) != nil {
				server.Close()
			}
		}()
		a.log.Info("listening", "what", name, "address", listener.Addr().String())
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return nil
}

// runProcess is the body of a command that runs parts on a store until stopped.
func (a *App) runProcess(cmd *cobra.Command, add func(p *process) error) error {
	return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
		p := a.newProcess(s)
		if err := errors.Join(add(p), a.addHealth(p)); err != nil {
			return err
		}
		return p.run(ctx)
	})
}

func (a *App) workerCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "worker", Short: "Run jobs", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			handlers, err := a.handlers(false)
			if err != nil {
				return err
			}
			return a.runWorker(cmd, handlers)
		},
	}
	a.settings.workerFlags(c.Flags())
	a.settings.keeperFlags(c.Flags())
	a.settings.durabilityFlags(c.Flags())
	return c
}

func (a *App) schedulerCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "scheduler", Short: "Move due jobs, carry out schedules, take over from dead workers, forget ended jobs", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runProcess(cmd, func(p *process) error { return errors.Join(a.addScheduler(p), a.addCron(p, a.Handlers)) })
		},
	}
	a.settings.keeperFlags(c.Flags())
	a.settings.durabilityFlags(c.Flags())
	return c
}

func (a *App) opsCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "ops", Short: "Serve the HTTP API, the pages and asynq's web UI", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runProcess(cmd, func(p *process) error {
				handlers, err := a.handlers(false)
				if err != nil {
					return err
				}
				return a.addOps(p, handlers)
			})
		},
	}
	a.settings.opsFlags(c.Flags())
	a.settings.keeperFlags(c.Flags())
	return c
}
