package cli

import (
	"context"
	"encoding/hex"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/deadletter"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

func (a *App) deadCommand() *cobra.Command {
	return group("dead", "Look at the quarantine; replay or discard entries", a.deadList(), a.deadShow(), a.deadReplay(), a.deadDiscard())
}

func (a *App) deadList() *cobra.Command {
	var q jobs.Query
	c := &cobra.Command{
		Use: "list", Short: "List quarantined jobs, longest there first", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				entries, next, err := deadletter.New(s).List(ctx, q)
				if err != nil {
					return err
				}
				return a.print(map[string]any{"entries": entries, "next": next}, func() { a.deadTable(entries, next) })
			})
		},
	}
	c.Flags().StringVar(&q.Queue, "queue", "", "one queue")
	c.Flags().StringVar(&q.Kind, "kind", "", "one kind")
	c.Flags().IntVar(&q.Limit, "limit", 50, "entries a page, 1 to 500")
	c.Flags().StringVar(&q.Cursor, "cursor", "", "next of the page before")
	return c
}

func (a *App) deadTable(entries []deadletter.Entry, next string) {
	rows := [][]string{{"QUEUE", "KEY", "KIND", "CLASS", "STEP", "SIGNATURE", "WHY"}}
	for _, e := range entries {
		rows = append(rows, []string{e.Queue, e.Key, e.Kind, string(e.Class), e.Step, e.Signature, e.Message + " (" + e.Reason + ")"})
	}
	a.table(rows...)
	if next != "" {
		a.printf("more: --cursor %s\n", next)
	}
}

func (a *App) deadShow() *cobra.Command {
	return a.onJob("show KEY", "Tell a quarantined job's story", func(ctx context.Context, s *store.Store, queue, key string) error {
		entry, err := deadletter.New(s).Show(ctx, queue, key)
		if err != nil {
			return err
		}
		return a.print(entry, func() {
			a.story(entry.Info)
			a.printf("  quarantined: %s; class %s (%s), signature %s\n", oneLine(entry.Reason, 300), entry.Class, entry.Rule, entry.Signature)
			a.raw(entry.Raw)
			for _, f := range entry.Failures {
				if f.Stack != "" {
					a.printf("\n%s\n", f.Stack)
				}
			}
		})
	})
}

// raw shows bytes that mean nothing to us: as hex, with no byte that a terminal
// would obey.
func (a *App) raw(data []byte) {
	const most = 512
	if data == nil {
		return
	}
	a.printf("\n  the message as stored, %d bytes; it can be discarded, not replayed:\n%s", len(data), hex.Dump(data[:min(len(data), most)]))
	if len(data) > most {
		a.printf("... and %d bytes more; -o json has them all, in base64\n", len(data)-most)
	}
}

func (a *App) deadReplay() *cobra.Command {
	var reason string
	var fromStart bool
	c := a.onJob("replay KEY --reason WHY", "Return a quarantined job to its queue", func(ctx context.Context, s *store.Store, queue, key string) error {
		info, err := deadletter.New(s).Replay(ctx, queue, key, fromStart, jobs.Decision{Actor: a.settings.actor(), Reason: reason})
		if err != nil {
			return err
		}
		return a.print(info, func() { a.story(info) })
	})
	c.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	c.Flags().BoolVar(&fromStart, "from-start", false, "forget recorded steps and begin again (default: from the failed step)")
	return c
}

func (a *App) deadDiscard() *cobra.Command {
	var reason string
	c := a.onJob("discard KEY --reason WHY", "Forget a quarantined job for good", func(ctx context.Context, s *store.Store, queue, key string) error {
		info, err := deadletter.New(s).Discard(ctx, queue, key, jobs.Decision{Actor: a.settings.actor(), Reason: reason})
		if err != nil {
			return err
		}
		return a.print(map[string]any{"discarded": info}, func() { a.printf("%s/%s discarded; its key is free\n", queue, key) })
	})
	c.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	return c
}
