package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/audit"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/doctor"
	"github.com/perdure/perdure/store"
)

func (a *App) doctorCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "doctor", Short: "Look whether Redis keeps what the durability mode promises, and whether jobs wait for nothing", Args: exactly(0, "no arguments"),
		Long: "Look whether Redis keeps what the durability mode promises, and whether breakers are open for long or jobs wait for what is closed.\n" +
			"Nothing is changed but for scratch keys, which are removed.\n" +
			"Exit code 1 when workers of that mode would refuse to start, 5 when Redis cannot be reached; warnings are no failure.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				report, err := a.newDoctor(s, doctor.Options{}).Examine(ctx)
				if err != nil {
					return err
				}
				memory, err := s.DeadMemory(ctx)
				if err != nil {
					a.log.Warn("cannot measure the quarantine", "error", err) // such as where MEMORY is refused
				}
				ailing, err := ailments(ctx, s)
				if err != nil {
					return err
				}
				keys, err := a.settings.auditKeys()
				if err != nil {
					return err
				}
				sealed, err := audit.Standings(ctx, s, "")
				if err != nil {
					return err
				}
				told := struct {
					doctor.Report
					Quarantine   []delivery.DeadMemory `json:"quarantine"`
					AuditKey     bool                  `json:"audit_key"` // this process has one
					Audit        []audit.Standing      `json:"audit"`
					Dependencies []ailment             `json:"dependencies"`
				}{report, memory, keys.Seals(), sealed, ailing}
				if err := a.print(told, func() { a.diagnosis(report); a.deadMemory(memory); a.standings(sealed, keys); a.ailmentTable(ailing) }); err != nil {
					return err
				}
				if report.Verdict == doctor.Refuse {
					return &exitError{code: exitFailed}
				}
				return nil
			})
		},
	}
	a.settings.durabilityFlags(c.Flags())
	return c
}

// deadMemory tells how much memory the quarantine takes: nothing trims it.
func (a *App) deadMemory(memory []delivery.DeadMemory) {
	for _, m := range memory {
		a.printf("quarantine of %s: %s in %s, about %.1f MiB of memory\n", m.Queue, count(m.Entries, "entry"), count(m.Groups, "group"), float64(m.Bytes)/(1<<20))
	}
}

// newDoctor returns a doctor for the mode that the settings say.
func (a *App) newDoctor(s *store.Store, o doctor.Options) *doctor.Doctor {
	o.Mode, o.AllowUnsafe = doctor.Mode(a.settings.Durability), a.settings.AllowUnsafeRedis
	return doctor.New(s, o)
}

// diagnosis shows a report to people: every check, then those that are not ok in
// full, with what to do.
func (a *App) diagnosis(report doctor.Report) {
	rows := [][]string{{"CHECK", "VALUE", "BOUND", "VERDICT"}}
	for _, c := range report.Checks {
		rows = append(rows, []string{c.Name, oneLine(c.Value, 44), oneLine(c.Bound, 44), string(c.Verdict)})
	}
	a.table(rows...)
	count := map[doctor.Verdict]int{}
	for _, c := range report.Checks {
		count[c.Verdict]++
		if c.Verdict != doctor.OK {
			a.printf("\n%s: %s\n  is   %s\n  must %s\n  why  %s\n  fix  %s\n",
				strings.ToUpper(string(c.Verdict)), c.Name, oneLine(c.Value, 500), c.Bound, c.Why, c.Fix)
		}
	}
	if report.Verdict != doctor.OK {
		a.printf("\nWhat CONFIG SET changes ends with Redis' next restart: CONFIG REWRITE keeps it.\n")
	}
	a.printf("\ndurability %s: %d ok, %d to look at, %d refused", report.Mode, count[doctor.OK], count[doctor.Warn], count[doctor.Refuse])
	if report.AllowUnsafe {
		a.printf(", %d OVERRIDDEN by PERDURE_ALLOW_UNSAFE_REDIS", count[doctor.Overridden])
	}
	fmt.Fprintln(a.Out)
}
