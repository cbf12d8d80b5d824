package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

func (a *App) depCommand() *cobra.Command {
	return group("dep", "Look at the services that jobs need; hold them, let them go, set how",
		a.depList(), a.depShow(), a.depWatch(), a.depForce("open"), a.depForce("close"), a.depSet(), a.depEvents())
}

func (a *App) depList() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use: "list", Short: "List dependencies, those that are not closed first", Args: exactly(0, "no arguments"),
		Long: "List dependencies, those that are not closed first. Without --all: those that kinds need, that were called within a minute, or that are not closed.\n" +
			"Limits of kinds and tenants are listed by `limit list`.",
		Example: "  perdure dep list\n  perdure dep list --all -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				read := s.DependenciesInUse
				if all {
					read = s.Dependencies
				}
				infos, err := read(ctx)
				if err != nil {
					return err
				}
				delivery.WorstFirst(infos)
				return a.print(map[string]any{"dependencies": infos}, func() { a.depTable(infos) })
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "also those that nobody calls now")
	return c
}

func (a *App) depTable(infos []delivery.DependencyInfo) {
	rows := [][]string{{"NAME", "STATE", "SINCE", "WAITING", "RATE", "CALLS", "FAILED", "WORKERS", "NEXT TRY", "WHY"}}
	for _, i := range infos {
		rows = append(rows, []string{
			i.Name, depState(i), clock(i.Since), fmt.Sprint(i.AllWaiting()), depRate(i), fmt.Sprint(i.Calls), fmt.Sprint(i.Failed), depWorkers(i), dash(inClock(i.NextTry)), depWhy(i),
		})
	}
	a.table(rows...)
}

func dash(text string) string { return cmp.Or(text, "-") }

func depState(i delivery.DependencyInfo) string {
	switch {
	case i.Forced:
		return string(i.State) + " (forced)"
	case !i.Throttled.IsZero():
		return string(i.State) + " (throttled)"
	}
	return string(i.State)
}

// depRate says how fast jobs go now, and what bounds them.
func depRate(i delivery.DependencyInfo) string {
	var parts []string
	switch {
	case i.State == jobs.DependencyRecovering:
		parts = append(parts, fmt.Sprintf("%g of %g/s", i.Rate, i.Resume))
	case i.State == jobs.DependencyClosed && i.Waiting > 0 && i.Limit.None():
		parts = append(parts, fmt.Sprintf("%g/s", i.Resume))
	}
	if !i.Limit.None() {
		parts = append(parts, "limit "+i.Limit.String())
	}
	return dash(strings.Join(parts, ", "))
}

func depWorkers(i delivery.DependencyInfo) string {
	switch {
	case i.Workers == 0:
		return "-" // they do not vote while it is open
	case i.Against == 0:
		return fmt.Sprint(i.Workers)
	}
	return fmt.Sprintf("%d of %d see it fail", i.Against, i.Workers)
}

func depWhy(i delivery.DependencyInfo) string {
	why := i.Reason
	if !i.Throttled.IsZero() {
		why = "wants no calls until " + clock(i.Throttled) + ": " + why
	}
	if i.By != "" && i.By != "perdure" {
		why = i.By + ": " + why
	}
	return why
}

func (a *App) depShow() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Tell how a dependency stands, who waits for it, and what happens next", Args: exactly(1, "the dependency's name"),
		Example: "  perdure dep show payments",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error { return a.tellDependency(ctx, s, args[0]) })
		},
	}
}

// tellDependency prints a dependency's story.
func (a *App) tellDependency(ctx context.Context, s *store.Store, name string) error {
	if err := onlyService(name); err != nil {
		return err
	}
	story, err := s.DependencyStory(ctx, name)
	if err != nil {
		return err
	}
	return a.print(story, func() { a.depStory(story, s.Now()) })
}

// onlyService refuses names of limits with the command that is about them.
func onlyService(name string) error {
	if delivery.IsLimit(name) && delivery.CheckLimitName(name) == nil {
		return &jobs.InvalidError{Field: "dependency", Value: name, Bound: "the name of a service: kinds and tenants have limits, see `perdure limit`"}
	}
	return jobs.CheckDependency(name)
}

func (a *App) depStory(s store.DependencyStory, now time.Time) {
	a.printf("%s  %s%s\n", s.Name, strings.ToUpper(depState(s.DependencyInfo)), depFor(s.DependencyInfo, now))
	if why := depWhy(s.DependencyInfo); why != "" {
		a.printf("  %s\n", oneLine(why, 500))
	}
	a.printf("  %s\n", inClock(cmp.Or(s.Next(), "Calls are made")))
	if len(s.Kinds) > 0 {
		a.printf("  needed by %s\n", oneLine(strings.Join(s.Kinds, ", "), 500))
	}
	if s.Waiting > 0 {
		a.printf("  %s for it, the first since %s; no attempt is used\n", does(s.Waiting, "job", "waits"), clock(s.Oldest))
	}
	for _, lane := range s.Lanes {
		a.printf("    %s/%s %d\n", lane.Queue, lane.Kind, lane.Jobs)
	}
	if len(s.Queues) > 0 {
		a.printf("  paused whole until it is back: %s, with %s\n", strings.Join(s.Queues, ", "), count(s.Held, "pending job"))
	}
	if s.State != jobs.DependencyClosed {
		a.printf("  since it opened: %s, %s sent back\n", count(s.Probes, "probe"), count(s.Resumed, "job"))
	}
	if s.Workers > 0 {
		a.printf("  %s it, %d seeing it fail; %s in 30 s, %d failed\n", does(s.Workers, "worker", "calls"), s.Against, count(s.Calls, "call"), s.Failed)
	}
	a.printf("  resumes at %g/s; opens when %g of the calls fail, of %d at least, seen by %s; limit %s\n", s.Resume, s.Ratio, s.MinCalls, count(s.Quorum, "worker"), s.Limit)
	if len(s.Set) > 0 {
		a.printf("  set by an operator, taken back with `default`: %s\n", strings.Join(s.Set, ", "))
	}
	for _, e := range s.Events {
		a.printf("  %s\n", eventLine(e))
	}
}

func depFor(i delivery.DependencyInfo, now time.Time) string {
	if i.Since.IsZero() {
		return ""
	}
	return "  since " + clock(i.Since) + " (" + max(now.Sub(i.Since), 0).Round(time.Second).String() + ")"
}

func eventLine(e store.Event) string {
	change := changeOf(e)
	if change != "" {
		change = " (" + change + ")"
	}
	return fmt.Sprintf("%s %s%s by %s: %s", clock(e.At), e.What, oneLine(change, 100), oneLine(e.Actor, 60), oneLine(e.Reason, 300))
}

// changeOf says what a decision has changed.
func changeOf(e store.Event) string {
	if e.Before == "" && e.After == "" {
		return ""
	}
	return strings.TrimSpace(e.Before + " -> " + e.After)
}

func (a *App) depForce(verb string) *cobra.Command {
	var reason string
	var unknown bool
	short, long := "Hold a service's jobs until somebody closes it", "Open a breaker. Jobs that need the service are paused before they run or at the step, no attempt used, until somebody closes it: no probe is made meanwhile."
	if verb == "close" {
		short, long = "Let a service's jobs go, a few a second at first", "Close a breaker that is open, whoever opened it: its jobs resume, 1 a second, then 2, 4 ... up to the rate of `dep set --resume`. When calls fail again, it opens again."
	}
	c := &cobra.Command{
		Use: verb + " NAME --reason WHY", Short: short, Long: long, Args: exactly(1, "the dependency's name"),
		Example: "  perdure dep " + verb + " payments --reason 'their maintenance, ticket 4711'",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				if err := a.known(ctx, s, args[0], unknown, onlyService); err != nil {
					return err
				}
				changed, err := s.ForceDependency(ctx, args[0], verb == "open", a.decision(reason))
				if err != nil {
					return err
				}
				if !changed {
					a.note("%s: nothing changed, it was so before", args[0])
				}
				return a.tellDependency(ctx, s, args[0])
			})
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	if verb == "open" {
		c.Flags().BoolVar(&unknown, "unknown", false, "also when nothing is known of that name yet")
	}
	return c
}

// known refuses a name that nothing is known of, most likely misspelt, unless it may be
// unknown.
func (a *App) known(ctx context.Context, s *store.Store, name string, unknown bool, check func(string) error) error {
	if err := check(name); err != nil || unknown {
		return err
	}
	return s.CheckDependencyKnown(ctx, name)
}

// note tells people something beside a command's answer.
func (a *App) note(format string, args ...any) {
	if a.settings.Output != "json" {
		fmt.Fprintf(a.Err, format+"\n", args...)
	}
}

func (a *App) depEvents() *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use: "events [NAME]", Short: "List decisions about dependencies and limits, newest first", Args: upTo(1, "at most a name"),
		Example: "  perdure dep events\n  perdure dep events payments -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 1 || limit > 500 {
				return &jobs.InvalidError{Field: "limit", Value: limit, Bound: "from 1 to 500"}
			}
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				events, err := s.DependencyEvents(ctx, 500)
				if err != nil {
					return err
				}
				if len(args) > 0 {
					events = slices.DeleteFunc(events, func(e store.Event) bool { return e.Key != args[0] })
				}
				events = events[:min(len(events), limit)]
				return a.print(map[string]any{"events": events}, func() {
					rows := [][]string{{"AT", "WHAT", "ABOUT", "CHANGE", "BY", "WHY"}}
					for _, e := range events {
						rows = append(rows, []string{clock(e.At), e.What, e.Key, changeOf(e), e.Actor, e.Reason})
					}
					a.table(rows...)
				})
			})
		},
	}
	c.Flags().IntVar(&limit, "limit", 50, "at most so many of the last 500, 1 to 500")
	return c
}
