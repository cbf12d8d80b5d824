package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/audit"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

func (a *App) auditCommand() *cobra.Command {
	return group("audit", "Look at recorded decisions, and whether they are as they were written", a.auditList(), a.auditVerify())
}

func (a *App) auditList() *cobra.Command {
	var f audit.Filter
	var since, before string
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "List decisions, oldest first", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > 100_000 {
				return usage(&jobs.InvalidError{Field: "limit", Value: limit, Bound: "from 1 to 100000"})
			}
			for text, to := range map[*string]*time.Time{&since: &f.Since, &before: &f.Before} {
				var err error
				if *to, err = instant(*text); err != nil {
					return usage(err)
				}
			}
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				links := []delivery.Link{}
				err := audit.List(ctx, s, f, func(l delivery.Link) bool {
					links = append(links, l)
					return len(links) < limit
				})
				if err != nil {
					return err
				}
				return a.print(map[string]any{"decisions": links}, func() { a.auditTable(links) })
			})
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.Stream, "queue", "", `one queue, or "@cron" for schedules`)
	flags.StringVar(&f.What, "what", "", "one sort of decision, for example replay")
	flags.StringVar(&f.Key, "key", "", "about one job, schedule or group")
	flags.StringVar(&f.Actor, "by", "", "of one actor")
	flags.StringVar(&since, "since", "", "decided then or later: a time such as 2026-01-31T09:00:00Z, or how long ago, such as 24h")
	flags.StringVar(&before, "before", "", "decided earlier, likewise")
	flags.IntVar(&limit, "limit", 100, "at most so many, 1 to 100000")
	return c
}

// instant reads a time, or how long ago it was; "" is none.
func instant(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(-ago).UTC(), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, &jobs.InvalidError{Field: "time", Value: text, Bound: "a time such as 2026-01-31T09:00:00Z, or a duration such as 24h"}
	}
	return at, nil
}

func (a *App) auditTable(links []delivery.Link) {
	rows := [][]string{{"AT", "QUEUE", "N", "WHAT", "ABOUT", "BY", "WHY"}}
	for _, l := range links {
		rows = append(rows, []string{clock(l.At()), l.Stream, fmt.Sprint(l.N), oneLine(l.What, 60), l.Key, oneLine(l.Actor, 60), oneLine(l.Reason, 120)})
	}
	a.table(rows...)
}

func (a *App) auditVerify() *cobra.Command {
	var queue string
	c := &cobra.Command{
		Use: "verify", Short: "Find the first decision that was edited, put in, moved or cut out", Args: exactly(0, "no arguments"),
		Long: "Walks the chain of decisions. What was cut off at its end, or a chain that was written anew as a whole, is not found. Ends with 1 when something is wrong.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				findings, err := audit.Verify(ctx, s, queue)
				if err != nil {
					return err
				}
				if err := a.print(map[string]any{"streams": findings}, func() { a.findings(findings) }); err != nil {
					return err
				}
				for _, f := range findings {
					if f.Broken != "" {
						return &exitError{code: exitFailed}
					}
				}
				return nil
			})
		},
	}
	c.Flags().StringVar(&queue, "queue", "", `one queue, or "@cron" for schedules`)
	return c
}

func (a *App) findings(findings []audit.Finding) {
	rows := [][]string{{"QUEUE", "DECISIONS", "BEFORE THE CHAIN", "FINDING"}}
	for _, f := range findings {
		finding := "as written"
		if f.Broken != "" {
			finding = "BROKEN at " + f.Broken + ": " + f.Why
		}
		rows = append(rows, []string{f.Stream, fmt.Sprint(f.Events), fmt.Sprint(f.Unchained), finding})
	}
	a.table(rows...)
}
