package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/audit"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/store"
)

// exporting are the flags of audit export.
type exporting struct {
	queue, path, reason, before string
	trim, yes                   bool
}

func (a *App) auditExport() *cobra.Command {
	var e exporting
	c := &cobra.Command{
		Use: "export", Short: "Write decisions and seals, one JSON object a line; --trim moves sealed ones out of Redis", Args: exactly(0, "no arguments"),
		Long: "Write decisions and seals, one JSON object a line. Nothing is changed. A file is written, synced, read back and compared.\n\n" +
			"With --trim, --file and --reason, sealed decisions are moved to the end of that file: they leave Redis only when they are on the disk, were\n" +
			"read back and hold. That is the only way in which a stream gets shorter. Stopped half way, the same command goes on.",
		Example: `  perdure audit export --file decisions.ndjson
  perdure audit export --trim --file archive-2026.ndjson --before 720h --reason 'kept for ten years' --yes`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := e.check(); err != nil {
				return usage(err)
			}
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				if err := a.knownStream(ctx, s, e.queue); err != nil {
					return err
				}
				if e.trim {
					return a.moveDecisions(ctx, s, e)
				}
				return a.exportDecisions(ctx, s, e)
			})
		},
	}
	flags := c.Flags()
	flags.StringVar(&e.queue, "queue", "", streamUsage)
	flags.StringVar(&e.path, "file", "", "a new file, or with --trim one to write on (default: standard output)")
	flags.BoolVar(&e.trim, "trim", false, "move what is sealed out of Redis")
	flags.StringVar(&e.before, "before", "", "with --trim, decided earlier only: a time such as 2026-01-31T09:00:00Z, or how long ago, such as 720h")
	flags.StringVar(&e.reason, "reason", "", "why, for the record (required with --trim)")
	flags.BoolVar(&e.yes, "yes", false, fmt.Sprintf("go on although more than %d decisions would be moved", many))
	return c
}

func (e exporting) check() error {
	switch {
	case e.trim && e.path == "":
		return errors.New("say --file: what leaves Redis must be somewhere")
	case !e.trim && (e.reason != "" || e.before != "" || e.yes):
		return errors.New("--reason, --before and --yes are for --trim")
	}
	return nil
}

func (a *App) exportDecisions(ctx context.Context, s *store.Store, e exporting) error {
	show := a.progress("written")
	var done audit.Exported
	err := a.writing(e.path, func(w io.Writer) (err error) {
		done, err = audit.Export(ctx, s, e.queue, w, func(so audit.Exported) { show.at(so.Events, 0) })
		return err
	})
	show.done()
	if err != nil || e.path == "" {
		return err
	}
	if err := a.readBack(e.path, done.Events, done.Seals); err != nil {
		return err
	}
	return a.print(map[string]any{"written": done, "file": e.path}, func() {
		a.printf("%s and %s of %s written to %s and read back\n", count(done.Events, "decision"), count(done.Seals, "seal"), count(done.Streams, "queue"), e.path)
	})
}

// readBack looks whether a file that was just written has what was written. Whether it
// holds is verify's to say: what is broken in Redis is exported as it is.
func (a *App) readBack(path string, events, seals int64) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines, err := audit.Count(file)
	if err == nil && (lines.Events != events || lines.Seals != seals) {
		err = fmt.Errorf("%s and %s went into it, and %d and %d are read", count(events, "decision"), count(seals, "seal"), lines.Events, lines.Seals)
	}
	if err != nil {
		return fmt.Errorf("read %s back: %w", path, err)
	}
	return nil
}

// moveDecisions asks to confirm what is much.
func (a *App) moveDecisions(ctx context.Context, s *store.Store, e exporting) error {
	keys, err := a.settings.auditKeys()
	if err != nil {
		return err
	}
	before, err := instant("before", e.before)
	if err != nil {
		return usage(err)
	}
	standings, err := audit.Standings(ctx, s, e.queue)
	if err != nil {
		return err
	}
	total := int64(0)
	for _, one := range standings {
		total += max(one.SealedTo-one.MovedOut, 0)
	}
	if total > many && !e.yes {
		return usage(fmt.Errorf("up to %s would be moved out of Redis; look with audit verify, then say --yes", count(total, "decision")))
	}
	show, done := a.progress("moved"), int64(0)
	moved, err := audit.MoveOut(ctx, s, keys, e.queue, e.path, before, a.decision(e.reason), func(m audit.Moved) {
		done += m.To - m.From + 1
		show.at(done, total)
	})
	show.done()
	if err != nil {
		return err
	}
	return a.print(map[string]any{"moved": moved, "file": e.path}, func() {
		rows := [][]string{{"QUEUE", "FROM", "TO"}}
		for _, m := range moved {
			rows = append(rows, []string{m.Stream, fmt.Sprint(m.From), fmt.Sprint(m.To)})
		}
		a.table(rows...)
		a.printf("%s moved to %s; look there with audit verify --file\n", count(done, "decision"), e.path)
	})
}

func (a *App) auditSeals() *cobra.Command {
	var queue, path string
	c := &cobra.Command{
		Use: "seals", Short: "List seals, or write them to a file that verify compares with what is there later", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				if err := a.knownStream(ctx, s, queue); err != nil {
					return err
				}
				if path != "" {
					return a.exportSeals(ctx, s, queue, path)
				}
				seals := []delivery.Seal{}
				err := audit.ListSeals(ctx, s, queue, func(seal delivery.Seal) error {
					seals = append(seals, seal)
					return nil
				})
				if err != nil {
					return err
				}
				return a.print(map[string]any{"seals": seals}, func() { a.sealTable(seals) })
			})
		},
	}
	c.Flags().StringVar(&queue, "queue", "", streamUsage)
	c.Flags().StringVar(&path, "file", "", "a new file, one JSON object a line (default: show them)")
	return c
}

func (a *App) exportSeals(ctx context.Context, s *store.Store, queue, path string) error {
	var done audit.Exported
	err := a.writing(path, func(w io.Writer) (err error) {
		done, err = audit.ExportSeals(ctx, s, queue, w)
		return err
	})
	if err == nil {
		err = a.readBack(path, 0, done.Seals)
	}
	if err != nil {
		return err
	}
	return a.print(map[string]any{"seals": done.Seals, "file": path}, func() {
		a.printf("%s written to %s; keep it where nobody who can write to Redis can\n", count(done.Seals, "seal"), path)
	})
}

func (a *App) sealTable(seals []delivery.Seal) {
	rows := [][]string{{"AT", "QUEUE", "DECISIONS TO", "OF", "KEY", "MAC"}}
	for _, s := range seals {
		rows = append(rows, []string{clock(s.At), s.Stream, fmt.Sprint(s.N), clock(s.Link().At()), s.Key, s.MAC})
	}
	a.table(rows...)
}

func (a *App) auditSeal() *cobra.Command {
	return &cobra.Command{
		Use: "seal", Short: "Seal now what is not sealed yet; workers and schedulers with PERDURE_AUDIT_KEY do so by themselves", Args: exactly(0, "no arguments"),
		Long: "Seal now what is not sealed yet; workers and schedulers with PERDURE_AUDIT_KEY do so by themselves. What is not as it was written since\n" +
			"the last seal, and a last seal that no given key has made, is recorded as an alarm, sealed too, and told: it ends with 1 then.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			keys, err := a.settings.auditKeys()
			if err != nil {
				return err
			}
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				sealer, err := audit.NewSealer(s, audit.Options{Keys: keys})
				if err != nil {
					return err
				}
				seals, err := sealer.SealAll(ctx)
				if err != nil {
					return err
				}
				alarms := sealer.Alarms()
				err = a.print(map[string]any{"seals": seals, "alarms": alarms}, func() { a.sealTable(seals) })
				return errors.Join(err, alarmed(alarms))
			})
		},
	}
}

// alarmed is the exit code and the text of what sealing has found to be wrong.
func alarmed(alarms map[string]string) error {
	var all []string
	for _, stream := range slices.Sorted(maps.Keys(alarms)) {
		all = append(all, stream+": "+oneLine(alarms[stream], 300))
	}
	if len(all) == 0 {
		return nil
	}
	return &exitError{exitFailed, fmt.Errorf("audit alarm, recorded and sealed: %s; see perdure audit verify", strings.Join(all, "; "))}
}

// standings tells people how much of the recorded decisions is sealed. keys are those
// of this process; others may have one.
func (a *App) standings(all []audit.Standing, keys audit.Keys) {
	if !keys.Seals() && !keys.Checks() {
		a.printf("audit: no PERDURE_AUDIT_KEY here; where no worker or scheduler has one, decisions are chained and not sealed\n")
	}
	for _, one := range all {
		sealed := "none of them sealed"
		if one.SealedTo > 0 {
			sealed = fmt.Sprintf("sealed up to %d at %s", one.SealedTo, clock(one.SealedAt))
		}
		a.printf("audit of %s: %s, %s", one.Stream, count(one.Decisions, "decision"), sealed)
		if one.Unsealed > 0 {
			a.printf(", %d not sealed since %s", one.Unsealed, clock(one.UnsealedSince))
		}
		if keys.Seals() && one.Unsealed > 0 && time.Since(one.UnsealedSince) > 3*a.settings.AuditEvery {
			a.printf(": does a worker or scheduler with the key run?")
		}
		a.printf("\n")
	}
}
