package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/deadletter"
	"github.com/perdure/perdure/store"
)

func (a *App) deadExport() *cobra.Command {
	var sel selection
	var path string
	c := &cobra.Command{
		Use: "export", Short: "Write quarantined jobs with their whole record, one JSON object a line; changes nothing", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := sel.filter()
			if err != nil {
				return err
			}
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				if err := a.knownQueue(ctx, s, sel.queue); err != nil {
					return err
				}
				return a.writing(path, func(w io.Writer) error {
					show := a.progress("written")
					defer show.done()
					n, err := deadletter.New(s).Export(ctx, sel.queue, filter, w, func(n int) { show.at(int64(n), 0) })
					if err == nil && path != "" {
						err = a.print(map[string]any{"written": n, "file": path}, func() { a.printf("%s written to %s\n", count(n, "entry"), path) })
					}
					return err
				})
			})
		},
	}
	sel.flags(c.Flags())
	c.Flags().StringVar(&path, "file", "", "a new file (default: standard output)")
	return c
}

// writing hands a new file to do, or the output where there is no path.
func (a *App) writing(path string, do func(io.Writer) error) error {
	if path == "" {
		return do(a.Out)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(do(file), file.Sync(), file.Close())
}

func (a *App) deadImport() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "import FILE --reason WHY", Short: "Put exported jobs back into quarantine; - reads standard input", Args: exactly(1, "the file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				in := io.Reader(os.Stdin)
				if args[0] != "-" {
					file, err := os.Open(args[0])
					if err != nil {
						return usage(err)
					}
					defer file.Close()
					in = file
				}
				return a.importFrom(ctx, s, in, reason)
			})
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	return c
}

func (a *App) importFrom(ctx context.Context, s *store.Store, in io.Reader, reason string) error {
	show := a.progress("read")
	done, err := deadletter.New(s).Import(ctx, in, a.decision(reason), func(i deadletter.Imported) {
		show.at(int64(i.Restored+i.There+i.Conflict+i.Broken), 0)
	})
	show.done()
	if err != nil {
		return err
	}
	err = a.print(done, func() {
		a.printf("%d restored, %d there already, %d in conflict, %d broken\n", done.Restored, done.There, done.Conflict, done.Broken)
		for _, problem := range done.Problems {
			a.printf("  %s\n", oneLine(problem, 300))
		}
	})
	switch {
	case err != nil:
		return err
	case done.Broken > 0:
		return &exitError{code: exitFailed}
	case done.Conflict > 0:
		return &exitError{code: exitConflict}
	}
	return nil
}

func (a *App) deadMove() *cobra.Command {
	var b bulk
	var path, reason string
	c := &cobra.Command{
		Use: "move --file FILE --reason WHY", Short: "Move quarantined jobs out of Redis to the end of a file; import puts them back", Args: exactly(0, "no arguments"),
		Long: "Move quarantined jobs out of Redis to the end of a file. An entry leaves Redis only when it is on the disk and was read\n" +
			"back: stopped half way, by whatever, no entry is lost, and the same command goes on.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return usage(errors.New("say --file"))
			}
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error { return a.move(ctx, s, b, path, reason) })
		},
	}
	b.flags(c.Flags())
	c.Flags().StringVar(&path, "file", "", "the file (required)")
	c.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	return c
}

func (a *App) move(ctx context.Context, s *store.Store, b bulk, path, reason string) error {
	found, err := a.targets(ctx, s, b)
	if err != nil {
		return err
	}
	if b.dry {
		return a.print(map[string]any{"targets": found}, func() { a.targetTable(found) })
	}
	if err := b.agreed(found, "move"); err != nil {
		return err
	}
	total := 0
	show := a.progress("moved")
	for _, t := range found {
		n, err := deadletter.New(s).MoveOut(ctx, t.Queue, t.filter, path, a.decision(reason), func(n int) { show.at(int64(n), int64(t.Count.Entries)) })
		total += n
		if err != nil {
			show.done()
			return fmt.Errorf("after %s: %w", count(total, "entry"), err)
		}
	}
	show.done()
	return a.print(map[string]any{"moved": total, "file": path}, func() { a.printf("%s moved to %s; dead import takes it back\n", count(total, "entry"), path) })
}
