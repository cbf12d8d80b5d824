package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/internal/devredis"
	"github.com/perdure/perdure/store"
)

func (a *App) devCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "dev", Short: "Run everything in one process, with a Redis of its own", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.dev(cmd.Context()) },
	}
	a.settings.workerFlags(c.Flags())
	a.settings.keeperFlags(c.Flags())
	a.settings.opsFlags(c.Flags())
	return c
}

// dev runs worker, scheduler and ops on a Redis that lives in the data directory.
func (a *App) dev(ctx context.Context) error {
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
	p := a.newProcess(s)
	handlers, err := a.handlers(true)
	if err != nil {
		return err
	}
	if err := errors.Join(a.addOps(p, handlers), a.addHealth(p)); err != nil {
		return err
	}
	if err := a.addWorker(p, handlers); err != nil {
		return err
	}
	p.add("redis", func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return nil
		case err := <-redis.Died():
			return fmt.Errorf("redis ended: %w", err)
		}
	})
	a.printf("Redis      %s\n           %s\nAPI        http://%s/api/v1/\nPages      http://%s/\nasynq UI   http://%s/asynq/\n",
		redis.URL(), redis.Description(), a.settings.Listen, a.settings.Listen, a.settings.Listen)
	a.printf("Try        perdure job enqueue http.request --key k1 --data '{\"url\":\"http://127.0.0.1:8000/\"}' --wait\n")
	return p.run(ctx)
}
