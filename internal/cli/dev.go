package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/internal/devredis"
	"github.com/perdure/perdure/internal/doctor"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/worker"
)

func (a *App) devCommand() *cobra.Command {
	var samples bool
	c := &cobra.Command{
		Use: "dev", Short: "Run everything in one process, with a Redis of its own", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.dev(cmd.Context(), samples) },
	}
	a.settings.workerFlags(c.Flags())
	a.settings.keeperFlags(c.Flags())
	a.settings.opsFlags(c.Flags())
	c.Flags().BoolVar(&samples, "samples", false, "run a few sample orders, with their services, and show what becomes of them")
	return c
}

// dev runs worker, scheduler and ops on a Redis that lives in the data directory.
func (a *App) dev(ctx context.Context, samples bool) error {
	if worker.Isolated() {
		return a.devIsolated()
	}
	redis, err := devredis.Start(ctx, a.settings.DataDir, a.log)
	if err != nil {
		return err
	}
	defer redis.Close()
	s, err := store.Connect(ctx, redis.URL())
	if err != nil {
		return err
	}
	defer s.Close()
	a.settings.Durability = string(doctor.Relaxed) // whatever is set for production: jobs end with this Redis
	p := a.newProcess(s)
	handlers, err := a.handlers(true)
	if err != nil {
		return err
	}
	if samples {
		services, err := a.startSamples(ctx)
		if err != nil {
			return fmt.Errorf("sample services: %w", err)
		}
		defer services.Stop()
		handlers = append(handlers, services.Client().Handlers()...)
		p.add("samples", func(ctx context.Context) error {
			err := a.playSamples(ctx, s, services)
			if err == nil {
				<-ctx.Done()
			}
			return ignoreEnd(ctx, err)
		})
	}
	p.add("redis", func(ctx context.Context) error { return untilDeath(ctx, redis) })
	if err := errors.Join(a.addOps(p, handlers), a.addHealth(p), a.addWorker(p, handlers)); err != nil {
		return err
	}
	a.welcome(redis)
	return p.run(ctx)
}

// devIsolated runs suspects of dev. What they need of the samples is in the
// environment.
func (a *App) devIsolated() error {
	handlers, err := a.handlers(true)
	if err != nil {
		return err
	}
	return worker.ServeIsolated(a.workerOptions(append(handlers, orders.ServicesFromEnv().Handlers()...)))
}

func (a *App) welcome(redis *devredis.Server) {
	a.printf("Redis      %s\n           %s\n", redis.URL(), redis.Description())
	a.printf("API        http://%[1]s/api/v1/\nPages      http://%[1]s/\nasynq UI   http://%[1]s/asynq/\n", a.settings.Listen)
	a.printf("Try        perdure job enqueue http.request --key k1 --data '{\"url\":\"http://%s/api/v1/version\",\"method\":\"GET\"}' --wait\n", a.settings.Listen)
}

// untilDeath returns when ctx ends, or with an error when Redis does.
func untilDeath(ctx context.Context, redis *devredis.Server) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-redis.Died():
		return fmt.Errorf("redis ended: %w", err)
	}
}

// ignoreEnd makes an error that only says that ctx has ended no error.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
