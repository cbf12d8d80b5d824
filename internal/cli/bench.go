package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/internal/bench"
	"github.com/perdure/perdure/internal/devredis"
)

func (a *App) benchCommand() *cobra.Command {
	var o bench.Options
	c := &cobra.Command{
		Use: "bench", Short: "Measure perdure beside stock asynq on the same Redis", Args: exactly(0, "no arguments"),
		Long: "Measure perdure beside stock asynq, in interleaved rounds of one run, on a Redis of the bench's own or, with\n" +
			"--redis-url, on that one (in queues of its own, removed at the end).",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withOwnRedis(cmd.Context(), "bench", func(url string, _ *devredis.Server) error {
				rows, err := bench.Run(cmd.Context(), url, o)
				if err != nil {
					return err
				}
				return a.print(map[string]any{"rows": rows, "jobs": o.Jobs, "rounds": o.Rounds}, func() { a.benchTable(rows) })
			})
		},
	}
	c.Flags().IntVar(&o.Jobs, "jobs", 10_000, "jobs a round, 100 to 1000000")
	c.Flags().IntVar(&o.Rounds, "rounds", 5, "rounds, 1 to 100")
	return c
}

func (a *App) benchTable(rows []bench.Row) {
	table := [][]string{{"WHAT", "WHO", "JOBS/S (MEDIAN)", "MIN", "MAX", "TIMES ASYNQ"}}
	for _, r := range rows {
		ratio := ""
		if r.Ratio > 0 {
			ratio = fmt.Sprintf("%.2f", r.Ratio)
		}
		table = append(table, []string{r.Name, r.Who, fmt.Sprintf("%.0f", r.Median), fmt.Sprintf("%.0f", r.Min), fmt.Sprintf("%.0f", r.Max), ratio})
	}
	a.table(table...)
}

// withOwnRedis runs do on the Redis that the settings name, or on one that is
// started for it and removed; own is nil for the former.
func (a *App) withOwnRedis(ctx context.Context, what string, do func(url string, own *devredis.Server) error) error {
	if a.settings.RedisURL != "" {
		return do(a.settings.RedisURL, nil)
	}
	dir, err := os.MkdirTemp("", "perdure-"+what+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	redis, err := devredis.Start(ctx, filepath.Join(dir, "data"), a.quiet())
	if err != nil {
		return err
	}
	defer redis.Close()
	return do(redis.URL(), redis)
}
