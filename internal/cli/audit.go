package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/audit"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

func (a *App) auditCommand() *cobra.Command {
	return group("audit", "Look at recorded decisions, seal and export them, and see whether they are as they were written",
		a.auditList(), a.auditVerify(), a.auditExport(), a.auditSeals(), a.auditSeal())
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
			var errs [2]error
			f.Since, errs[0] = instant("since", since)
			f.Before, errs[1] = instant("before", before)
			if err := errors.Join(errs[:]...); err != nil {
				return usage(err)
			}
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				if err := a.knownStream(ctx, s, f.Stream); err != nil {
					return err
				}
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
	flags.StringVar(&f.Stream, "queue", "", streamUsage)
	flags.StringVar(&f.What, "what", "", "one sort of decision, for example replay")
	flags.StringVar(&f.Key, "key", "", "about one job, schedule or group")
	flags.StringVar(&f.Actor, "by", "", "of one actor; without the role in brackets: in any role")
	flags.StringVar(&since, "since", "", "decided then or later: a time such as 2026-01-31T09:00:00Z, or how long ago, such as 24h")
	flags.StringVar(&before, "before", "", "decided earlier, likewise")
	flags.IntVar(&limit, "limit", 100, "at most so many, 1 to 100000")
	return c
}

// instant reads a time, or how long ago it was; "" is none.
func instant(field, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return time.Now().Add(-ago).UTC(), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, &jobs.InvalidError{Field: field, Value: text, Bound: "a time such as 2026-01-31T09:00:00Z, or a duration such as 24h"}
	}
	return at, nil
}

func (a *App) auditTable(links []delivery.Link) {
	rows := [][]string{{"AT", "QUEUE", "N", "WHAT", "ABOUT", "BY", "CHANGE", "WHY"}}
	for _, l := range links {
		change := ""
		if l.Before != "" || l.After != "" {
			change = strings.TrimSpace(l.Before + " -> " + l.After)
		}
		rows = append(rows, []string{clock(l.At()), l.Stream, fmt.Sprint(l.N), oneLine(l.What, 60), l.Key, oneLine(l.Actor, 60), change, oneLine(l.Reason, 120)})
	}
	a.table(rows...)
}

func (a *App) auditVerify() *cobra.Command {
	var queue, file, sealed string
	c := &cobra.Command{
		Use: "verify", Short: "Find the first decision or seal that was edited, put in, moved, cut out or off", Args: exactly(0, "no arguments"),
		Long: "Walks the chain of decisions and its seals, in Redis or in a file that was exported. Up to the last seal it finds whatever was\n" +
			"changed, by the key in PERDURE_AUDIT_KEY or PERDURE_AUDIT_CHECK_KEYS. What is not sealed yet is chained only: it says how much that is.\n" +
			"With --seals it also finds that the last seals were cut off with their decisions. Ends with 1 when something is wrong.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			keys, err := a.settings.auditKeys()
			if err != nil {
				return err
			}
			known, err := readSeals(sealed)
			if err != nil {
				return err
			}
			if file != "" {
				return a.verifyFile(file, queue, keys, known)
			}
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				if len(known) == 0 { // else it is a finding that there is nothing
					if err := a.knownStream(ctx, s, queue); err != nil {
						return err
					}
				}
				show := a.progress("decisions read")
				findings, err := audit.Verify(ctx, &counted{s, show, 0}, keys, queue, known)
				show.done()
				if err != nil {
					return err
				}
				return a.showFindings(findings, keys)
			})
		},
	}
	c.Flags().StringVar(&queue, "queue", "", streamUsage)
	c.Flags().StringVar(&file, "file", "", "look at this file of audit export instead of Redis")
	c.Flags().StringVar(&sealed, "seals", "", "seals that must be there: a file of audit seals or audit export")
	return c
}

// counted shows how many decisions were read.
type counted struct {
	audit.Chains
	show *progress
	n    int64
}

// Chain implements [audit.Chains].
func (c *counted) Chain(ctx context.Context, stream, after string, limit int) ([]delivery.Link, error) {
	links, err := c.Chains.Chain(ctx, stream, after, limit)
	c.n += int64(len(links))
	c.show.at(c.n, 0)
	return links, err
}

const streamUsage = `one queue, "@cron" for schedules or "@dep" for dependencies`

func readSeals(path string) ([]delivery.Seal, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, usage(err)
	}
	defer file.Close()
	return audit.ReadSeals(file)
}

func (a *App) verifyFile(path, queue string, keys audit.Keys, known []delivery.Seal) error {
	if queue != "" {
		if err := audit.CheckStream(queue); err != nil {
			return err
		}
	}
	file, err := os.Open(path)
	if err != nil {
		return usage(err)
	}
	defer file.Close()
	findings, err := audit.VerifyFile(file, keys, known)
	if err != nil {
		return err
	}
	if queue != "" {
		findings = slices.DeleteFunc(findings, func(f audit.Finding) bool { return f.Stream != queue && f.Stream != audit.InFile })
		if len(findings) == 0 {
			return fmt.Errorf("%s has no decision of %s: %w", path, queue, jobs.ErrNotFound)
		}
	}
	return a.showFindings(findings, keys)
}

// showFindings ends with 1 when something is wrong.
func (a *App) showFindings(findings []audit.Finding, keys audit.Keys) error {
	told := map[string]any{"streams": findings, "seals_checked": keys.Checks()}
	if err := a.print(told, func() { a.findings(findings, keys) }); err != nil {
		return err
	}
	for _, f := range findings {
		if f.Why != "" {
			return &exitError{code: exitFailed}
		}
	}
	return nil
}

func (a *App) findings(findings []audit.Finding, keys audit.Keys) {
	rows := [][]string{{"QUEUE", "DECISIONS", "UNCHAINED", "MOVED OUT", "SEALS", "SEALED TO", "NOT SEALED", "FINDING"}}
	var broken []string
	for _, f := range findings {
		finding := "as written"
		switch {
		case f.Why != "":
			finding = "BROKEN at " + f.Broken
			broken = append(broken, fmt.Sprintf("%s: BROKEN at %s: %s\n", f.Stream, f.Broken, f.Why))
		case f.Events > 0 && !f.Checked:
			finding = "chained; no key to check seals by"
		case f.Events > 0 && f.SealedTo == 0:
			finding = "chained; not sealed"
		}
		unsealed := fmt.Sprint(f.Unsealed)
		if f.Unsealed > 0 {
			unsealed += " since " + clock(f.UnsealedSince)
		}
		rows = append(rows, []string{f.Stream, fmt.Sprint(f.Events), fmt.Sprint(f.Unchained), fmt.Sprint(f.MovedOut), fmt.Sprint(f.Seals), fmt.Sprint(f.SealedTo), unsealed, finding})
	}
	a.table(rows...)
	for _, text := range broken {
		a.printf("%s", oneLine(text, 500)+"\n")
	}
	if !keys.Checks() {
		a.printf("No PERDURE_AUDIT_KEY: seals were not checked, so a chain that was written anew as a whole, or cut off at its end, is not found.\n")
	}
}
