package cli

import (
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/internal/drill"
	"github.com/perdure/perdure/internal/history"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/worker"
)

func (a *App) exampleWorker() *cobra.Command {
	c := &cobra.Command{
		Use: "worker", Short: "Run a worker of the order example", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			handlers := append(orders.ServicesFromEnv().Handlers(), drill.Handlers()...)
			if worker.Isolated() {
				return a.runWorker(cmd, handlers)
			}
			return a.runProcess(cmd, func(p *process) error { return errors.Join(a.watch(p), a.addWorker(p, handlers)) })
		},
	}
	a.settings.workerFlags(c.Flags())
	a.settings.keeperFlags(c.Flags())
	a.settings.durabilityFlags(c.Flags())
	return c
}

// watch does what the chaos suite (test/chaos) tells this worker: with
// CHAOS_HISTORY=<file> it records there what it does to jobs, and does not get
// the answer of a share CHAOS_UNANSWERED of Redis' commands, chosen by CHAOS_SEED.
func (a *App) watch(p *process) error {
	told := map[string]string{}
	for _, entry := range a.Environ {
		name, value, _ := strings.Cut(entry, "=")
		told[name] = value
	}
	path := told["CHAOS_HISTORY"]
	if path == "" {
		return nil
	}
	share, err := strconv.ParseFloat(told["CHAOS_UNANSWERED"], 64)
	if err != nil {
		return &jobs.InvalidError{Field: "CHAOS_UNANSWERED", Value: told["CHAOS_UNANSWERED"], Bound: "a share from 0 to 1"}
	}
	seed, err := strconv.ParseUint(told["CHAOS_SEED"], 10, 64)
	if err != nil {
		return &jobs.InvalidError{Field: "CHAOS_SEED", Value: told["CHAOS_SEED"], Bound: "a whole number"}
	}
	file, err := history.Open(path)
	if err != nil {
		return err
	}
	p.works = file.Watch(p.works)
	p.store.Redis().AddHook(file.Withhold(seed, share))
	return nil
}
