package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/internal/devredis"
	"github.com/perdure/perdure/internal/drill"
)

func (a *App) drillCommand() *cobra.Command {
	var verbose bool
	c := &cobra.Command{
		Use: "drill [NAME...]", Short: "Play the promises for real: services fail, the ledgers tell what happened",
		Long: "Play the promises for real, with child processes of this binary, on a Redis of the drill's own or, with\n" +
			"--redis-url, on that one (in queues of its own, removed at the end). Exit code 1 when a promise is broken.",
		RunE: func(cmd *cobra.Command, args []string) error { return a.drill(cmd.Context(), args, verbose) },
	}
	c.Flags().BoolVar(&verbose, "verbose", false, "show what services and worker log")
	return c
}

func (a *App) drill(ctx context.Context, names []string, verbose bool) error {
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this binary, which the drill runs as its children: %w", err)
	}
	o := drill.Options{Names: names, Executable: executable, Log: io.Discard}
	if verbose {
		o.Log = a.Err
	}
	return a.withOwnRedis(ctx, "drill", func(url string, own *devredis.Server) error {
		o.RedisURL, o.Redis = url, own
		return a.playDrill(ctx, o)
	})
}

// playDrill runs a drill and shows each scenario as it ends.
func (a *App) playDrill(ctx context.Context, o drill.Options) error {
	report, err := drill.Run(ctx, o, func(r drill.Result) {
		if a.settings.Output != "json" {
			a.printf("%-18s %s\n  should    %s\n  happened  %s\n  evidence  %s\n", r.Name, verdict(r), r.Expected, r.Observed, r.Evidence)
		}
	})
	if err != nil {
		return err
	}
	if err := a.print(report, func() { a.printf("%d passed, %d failed, %d skipped\n", report.Passed, report.Failed, report.Skipped) }); err != nil {
		return err
	}
	if report.Failed > 0 {
		return &exitError{code: exitFailed}
	}
	return nil
}

func verdict(r drill.Result) string {
	switch {
	case r.Passed:
		return "passed"
	case r.Skipped != "":
		return "skipped: " + r.Skipped
	}
	return "FAILED"
}

// exampleCommand holds what drills and `dev --samples` run as child processes.
func (a *App) exampleCommand() *cobra.Command {
	c := group("example", "Processes of the order example", a.exampleService(), a.exampleWorker())
	c.Hidden = true
	return c
}

func (a *App) exampleService() *cobra.Command {
	var listen, ledger string
	c := &cobra.Command{
		Use: "service NAME --ledger FILE", Short: "Run payments, warehouse or mail", Args: exactly(1, "the service's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return orders.Serve(cmd.Context(), args[0], listen, ledger)
		},
	}
	c.Flags().StringVar(&listen, "address", "127.0.0.1:0", "where to listen")
	c.Flags().StringVar(&ledger, "ledger", "", "file of effects")
	return c
}
