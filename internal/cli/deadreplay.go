package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/perdure/perdure/deadletter"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// replayFlags say how entries are replayed.
type replayFlags struct {
	bulk
	reason, payload string
	wait            bool
	plan            delivery.PlanRequest
}

func (a *App) deadReplay() *cobra.Command {
	var f replayFlags
	c := &cobra.Command{
		Use: "replay [KEY] --reason WHY", Short: "Return one quarantined job to its queue, or make a plan that returns many",
		Long: "With a key, that job returns to its queue at once. With a filter, a plan returns the jobs that it selects now: first 1,\n" +
			"then 10, then the others at the rate, and it stops when the same failure is back. Any scheduler or worker carries it out.",
		Example: "  perdure dead replay order:1042 --reason 'address mended'\n" +
			"  perdure dead replay --group 3f2a90c1d7e4 --rate 50 --wait --reason 'payments is back'\n" +
			"  perdure dead replay --kind order.fulfil --since 24h --dry-run",
		Args: upTo(1, "at most the job's key"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				if len(args) == 1 {
					if err := planOnly(cmd.Flags()); err != nil {
						return err
					}
					return a.replayOne(ctx, s, args[0], f)
				}
				return a.replayMany(ctx, s, f)
			})
		},
	}
	f.bulk.flags(c.Flags())
	c.Flags().StringVar(&f.reason, "reason", "", "why, for the record (required)")
	c.Flags().BoolVar(&f.plan.FromStart, "from-start", false, "forget recorded steps and begin again (default: from the failed step)")
	c.Flags().StringVar(&f.payload, "payload", "", "of one job: another payload, as JSON; @FILE reads a file, - standard input")
	c.Flags().Float64Var(&f.plan.Rate, "rate", delivery.DefaultPlanRate, "of a plan: entries a second")
	c.Flags().IntVar(&f.plan.Most, "most", 0, "of a plan: how many entries of each queue it takes at most, those that are dead longest (default all)")
	c.Flags().BoolVar(&f.plan.NoCanary, "no-canary", false, "of a plan: let none go ahead")
	c.Flags().BoolVar(&f.plan.KeepGoing, "keep-going", false, "of a plan: do not stop when the same failure is back")
	c.Flags().StringVar(&f.plan.ID, "plan", "", "of a plan: its name; the same again is the same plan (default: a random one)")
	c.Flags().BoolVar(&f.wait, "wait", false, "of a plan: show how far it has come until it ends or stops")
	return c
}

// planOnly refuses what has no meaning for one job.
func planOnly(flags *pflag.FlagSet) error {
	for _, name := range []string{"rate", "most", "no-canary", "keep-going", "plan", "wait"} {
		if flags.Changed(name) {
			return usage(fmt.Errorf("--%s is of a plan, and a job whose key is given returns at once: leave it out, or select by a filter", name))
		}
	}
	return nil
}

// upTo allows at most n arguments.
func upTo(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > n {
			return usage(fmt.Errorf("expects %s, got %s", what, count(len(args), "argument")))
		}
		return nil
	}
}

func (a *App) replayOne(ctx context.Context, s *store.Store, key string, f replayFlags) error {
	filter, err := f.filter()
	if err != nil {
		return err
	}
	if filter != (delivery.DeadFilter{}) || f.all || f.dry {
		return usage(errors.New("give a key or a filter, not both; what a job is tells dead show"))
	}
	queue, err := a.located(ctx, s, f.queue, key)
	if err != nil {
		return err
	}
	var info jobs.Info
	if f.payload == "" {
		info, err = s.Replay(ctx, queue, key, f.plan.FromStart, a.decision(f.reason))
	} else {
		var payload []byte
		if payload, err = readPayload(f.payload); err == nil {
			info, err = s.ReplayEdited(ctx, queue, key, payload, f.plan.FromStart, a.decision(f.reason))
		}
	}
	if err != nil {
		return err
	}
	return a.tellJob(ctx, s, info)
}

func (a *App) replayMany(ctx context.Context, s *store.Store, f replayFlags) error {
	if f.payload != "" {
		return usage(errors.New("another payload is for one job: give its key"))
	}
	if err := f.plan.CheckSpeed(); err != nil {
		return err
	}
	found, err := a.targets(ctx, s, f.bulk)
	if err != nil {
		return err
	}
	found = atMost(found, f.plan.Most)
	if f.dry {
		return a.print(map[string]any{"targets": found}, func() { a.targetTable(found) })
	}
	if err := f.agreed(found, "replay"); err != nil {
		return err
	}
	if len(found) == 0 {
		return &exitError{exitNotFound, errors.New("nothing in quarantine is so; dead groups and dead list tell what is")}
	}
	plans := []delivery.Plan{}
	for _, t := range found {
		request := f.plan
		request.Queue, request.Filter = t.Queue, t.filter
		p, err := s.MakePlan(ctx, request, a.decision(f.reason))
		if err == nil && f.wait {
			p, err = a.watchPlan(ctx, s, p)
		}
		if err != nil {
			return err
		}
		plans = append(plans, p)
	}
	if err := a.print(map[string]any{"plans": plans}, func() { a.planTable(plans) }); err != nil || !f.wait {
		return err
	}
	return unfinished(plans)
}

// atMost is targets of which a plan takes at most so many entries that it can replay;
// 0: all of them.
func atMost(found []target, most int) []target {
	found = slices.Clone(found)
	for i := range found {
		if t := &found[i]; most > 0 && t.Count.Replayable > most {
			t.Count.Entries, t.Count.Replayable = most, most
		}
	}
	return found
}

// unfinished is the exit code of a wait for plans that did not come to their end.
func unfinished(plans []delivery.Plan) error {
	for _, p := range plans {
		if p.State != delivery.PlanDone {
			why := ""
			if p.Why != "" {
				why = ": " + oneLine(p.Why, 300)
			}
			return &exitError{code: exitFailed, err: fmt.Errorf("plan %s is %s%s", p.ID, p.State, why)}
		}
	}
	return nil
}

// watchPlan shows how far a plan has come until it does not go on by itself.
func (a *App) watchPlan(ctx context.Context, s *store.Store, p delivery.Plan) (delivery.Plan, error) {
	show := a.progress("replayed")
	defer show.done()
	for {
		var err error
		if p, err = s.Plan(ctx, p.Queue, p.ID); err != nil {
			return p, err
		}
		if p.State != delivery.PlanRunning && p.State != delivery.PlanSelecting {
			return p, nil
		}
		show.at(p.Replayed+p.Skipped, p.Selected+p.Skipped)
		select {
		case <-ctx.Done():
			return p, nil // the plan goes on without us
		case <-time.After(250 * time.Millisecond):
		}
	}
}

func (a *App) planTable(plans []delivery.Plan) {
	rows := [][]string{{"QUEUE", "PLAN", "STATE", "STAGE", "RATE", "SELECTED", "LEFT", "REPLAYED", "UNDER WAY", "ENDED", "BACK", "SKIPPED", "MADE", "WHY"}}
	for _, p := range plans {
		number := func(n int64) string { return fmt.Sprint(n) }
		why := p.By
		if p.Why != "" {
			why = p.Why
		}
		rows = append(rows, []string{
			p.Queue, p.ID, string(p.State), p.Stage, fmt.Sprint(p.Rate), number(p.Selected), number(p.Left), number(p.Replayed), number(p.UnderWay),
			number(p.Completed + p.Cancelled + p.Gone), number(p.Returned + p.Failed), number(p.Skipped), clock(p.Created), why,
		})
	}
	a.table(rows...)
}

func (a *App) deadPlans() *cobra.Command {
	var queue string
	c := &cobra.Command{
		Use: "plans", Short: "List replay plans; pause, resume, abort or watch one",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(fmt.Errorf("unknown command %q for %q; see %s --help", args[0], cmd.CommandPath(), cmd.CommandPath()))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				if err := a.knownQueue(ctx, s, queue); err != nil {
					return err
				}
				plans, err := s.Plans(ctx, queue)
				if err != nil {
					return err
				}
				return a.print(map[string]any{"plans": plans}, func() { a.planTable(plans) })
			})
		},
	}
	c.Flags().StringVar(&queue, "queue", "", "one queue")
	watch := a.onPlan("watch PLAN", "Show how far a plan has come until it ends or stops", func(ctx context.Context, s *store.Store, queue, id string) (delivery.Plan, error) {
		return a.watchPlan(ctx, s, delivery.Plan{PlanRequest: delivery.PlanRequest{Queue: queue, ID: id}})
	}, func(p delivery.Plan) error { return unfinished([]delivery.Plan{p}) })
	watch.Long = "Show how far a plan has come until it ends or stops. Ends with 0 when it is done, and with 1 and the reason when it has stopped,\n" +
		"was paused or aborted. Looking changes nothing: the plan goes on without it."
	c.AddCommand(
		watch,
		a.steerPlan("pause", "Stop a plan until it is resumed", (*store.Store).PausePlan),
		a.steerPlan("resume", "Let a plan go on that is paused, or that has stopped", (*store.Store).ResumePlan),
		a.steerPlan("abort", "End a plan; what it has not replayed stays in quarantine", (*store.Store).AbortPlan),
	)
	return c
}

// onPlan is a command about one plan; judge makes the exit code of what became of it.
func (a *App) onPlan(use, short string, do func(ctx context.Context, s *store.Store, queue, id string) (delivery.Plan, error), judge func(delivery.Plan) error) *cobra.Command {
	var queue string
	c := &cobra.Command{
		Use: use, Short: short, Args: exactly(1, "the plan"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				queue, err := a.only(ctx, s, queue, "plan "+args[0], func(queue string) error {
					_, err := s.Plan(ctx, queue, args[0])
					return err
				})
				if err != nil {
					return err
				}
				p, err := do(ctx, s, queue, args[0])
				if err != nil {
					return err
				}
				return errors.Join(a.print(p, func() { a.planTable([]delivery.Plan{p}) }), judge(p))
			})
		},
	}
	c.Flags().StringVar(&queue, "queue", "", "queue (default: the one that has the plan)")
	return c
}

func (a *App) steerPlan(verb, short string, steer func(s *store.Store, ctx context.Context, queue, id string, by jobs.Decision) (delivery.Plan, error)) *cobra.Command {
	var reason string
	c := a.onPlan(verb+" PLAN --reason WHY", short, func(ctx context.Context, s *store.Store, queue, id string) (delivery.Plan, error) {
		before, err := s.Plan(ctx, queue, id)
		if err != nil {
			return before, err
		}
		after, err := steer(s, ctx, queue, id, a.decision(reason))
		if err == nil {
			a.noteUnchanged("plan "+id, string(before.State), string(after.State))
		}
		return after, err
	}, func(delivery.Plan) error { return nil })
	c.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	return c
}

func (a *App) deadDiscard() *cobra.Command {
	var b bulk
	var reason string
	c := &cobra.Command{
		Use: "discard [KEY] --reason WHY", Short: "Forget one quarantined job for good, or those that a filter selects", Args: upTo(1, "at most the job's key"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				if len(args) == 1 {
					return a.discardOne(ctx, s, args[0], b, a.decision(reason))
				}
				return a.discardMany(ctx, s, b, a.decision(reason))
			})
		},
	}
	b.flags(c.Flags())
	c.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	return c
}

func (a *App) discardOne(ctx context.Context, s *store.Store, key string, b bulk, by jobs.Decision) error {
	filter, err := b.filter()
	if err != nil {
		return err
	}
	if filter != (delivery.DeadFilter{}) || b.all || b.dry {
		return usage(errors.New("give a key or a filter, not both; what a job is tells dead show"))
	}
	queue, err := a.located(ctx, s, b.queue, key)
	if err != nil {
		return err
	}
	info, err := s.Discard(ctx, queue, key, by)
	if err != nil {
		return err
	}
	return a.print(map[string]any{"discarded": info}, func() { a.printf("%s/%s discarded; its key is free\n", queue, key) })
}

func (a *App) discardMany(ctx context.Context, s *store.Store, b bulk, by jobs.Decision) error {
	if !b.dry {
		if err := by.Check(); err != nil {
			return err
		}
	}
	found, err := a.targets(ctx, s, b)
	if err != nil {
		return err
	}
	if b.dry {
		return a.print(map[string]any{"targets": found}, func() { a.targetTable(found) })
	}
	if err := b.agreed(found, "discard"); err != nil {
		return err
	}
	total := 0
	show := a.progress("discarded")
	for _, t := range found {
		n, err := deadletter.New(s).DiscardAll(ctx, t.Queue, t.filter, by, func(n int) { show.at(int64(n), int64(t.Count.Entries)) })
		total += n
		if err != nil {
			show.done()
			return fmt.Errorf("after %s: %w", count(total, "entry"), err)
		}
	}
	show.done()
	return a.print(map[string]any{"discarded": total}, func() { a.printf("%s discarded\n", count(total, "entry")) })
}
