package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/scheduler/cron"
	"github.com/perdure/perdure/store"
)

func (a *App) cronCommand() *cobra.Command {
	return group("cron", "Look at schedules and decide about them", a.cronList(), a.cronShow(), a.cronAdd(), a.cronRemove(),
		a.cronDecision("pause", "Skip a schedule's ticks until it is resumed", (*cron.Desk).Pause),
		a.cronDecision("resume", "Take a schedule's pause back; ticks of the time between are not made up for", (*cron.Desk).Resume),
		a.cronTrigger(), a.cronBackfill())
}

// withDesk runs do at the desk of an open store.
func (a *App) withDesk(cmd *cobra.Command, do func(ctx context.Context, d *cron.Desk) error) error {
	return a.withStore(cmd, func(ctx context.Context, s *store.Store) error { return do(ctx, cron.NewDesk(s)) })
}

// decision is who decides and why, of a command with --reason.
func (a *App) decision(reason string) jobs.Decision {
	return jobs.Decision{Actor: a.settings.actor(), Reason: reason}
}

func (a *App) cronList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List schedules", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withDesk(cmd, func(ctx context.Context, d *cron.Desk) error {
				views, err := d.List(ctx)
				if err != nil {
					return err
				}
				return a.print(map[string]any{"schedules": views}, func() { a.cronTable(views) })
			})
		},
	}
}

func (a *App) cronTable(views []cron.View) {
	rows := [][]string{{"NAME", "WHEN", "ZONE", "DOES", "NEXT", "STATE", "FIRED", "SKIPPED", "SET BY"}}
	for _, v := range views {
		next := "-"
		if len(v.Next) > 0 && v.State == "active" {
			next = clock(v.Next[0])
		}
		rows = append(rows, []string{v.Name, string(v.When), zone(v.Timetable), v.Work, next, v.State, fmt.Sprint(v.Fired), fmt.Sprint(v.Left), origin(v)})
	}
	a.table(rows...)
}

// origin says who a schedule is from: the command line and HTTP are both an operator's.
func origin(v cron.View) string {
	switch v.Origin {
	case delivery.FromAPI:
		return "operator"
	case delivery.FromCode:
		return "program"
	}
	return v.Origin
}

func zone(t jobs.Timetable) string {
	if t.Zone == "" {
		return "UTC"
	}
	return t.Zone
}

func (a *App) cronShow() *cobra.Command {
	var next int
	c := &cobra.Command{
		Use: "show NAME", Short: "Tell a schedule's story: its next runs and its last ticks", Args: exactly(1, "the schedule's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withDesk(cmd, func(ctx context.Context, d *cron.Desk) error {
				story, err := d.Show(ctx, args[0], next)
				if err != nil {
					return err
				}
				return a.print(story, func() { a.cronStory(story) })
			})
		},
	}
	c.Flags().IntVar(&next, "next", 5, "how many next runs to show, 0 to 100")
	return c
}

// cronStory tells a schedule to people.
func (a *App) cronStory(s cron.Story) {
	a.printf("%s  %s  %s (%s)  %s\n", s.Name, strings.ToUpper(s.State), s.When, zone(s.Timetable), oneLine(s.Work, 200))
	a.printf("  set by %s, revision %d, decided up to %s; %d fired, %d skipped\n", origin(s.View), s.Revision, clock(s.Last), s.Fired, s.Left)
	if s.Paused != nil {
		a.printf("  paused since %s by %s: %s\n", clock(s.Paused.At), oneLine(s.Paused.Actor, 200), oneLine(s.Paused.Reason, 300))
	}
	if s.State == "resting" {
		a.printf("  it came with a program or its file, and none that runs has it; last one at %s\n", clock(s.Declared))
	}
	if s.Open != nil {
		a.printf("  the tick of %s is under way\n", clock(s.Open.At))
	}
	if s.Run != nil && s.Run.Key != "" {
		a.printf("  last job %s/%s\n", s.Run.Queue, s.Run.Key)
	}
	for _, p := range s.Plans {
		a.printf("  last plan %s\n", planLine(p))
	}
	for _, at := range s.Next {
		a.printf("  next %s\n", a.inZone(at, s.Timetable))
	}
	for _, t := range s.Ticks {
		a.printf("  %s\n", tickLine(t))
	}
}

// inZone shows an instant as the schedule's clocks and the machine's show it.
func (a *App) inZone(at time.Time, t jobs.Timetable) string {
	there := at.UTC()
	if location, err := time.LoadLocation(t.Zone); err == nil {
		there = at.In(location)
	}
	return there.Format("Mon 2006-01-02 15:04:05 -07:00") + " (here " + clock(at) + ")"
}

func tickLine(t delivery.TickRecord) string {
	line := fmt.Sprintf("%s %s", t.What, clock(t.At))
	if t.Count > 1 {
		line = fmt.Sprintf("%s %s, %s to %s", t.What, count(t.Count, "tick"), clock(t.From), clock(t.At))
	}
	switch {
	case t.Key != "":
		line += "  " + t.Queue + "/" + t.Key
	case t.Plan != "":
		line += "  plan " + t.Plan
	}
	if t.Late >= time.Second {
		line += "  late by " + t.Late.Round(time.Second).String()
	}
	if t.Reason != "" {
		line += "  (" + oneLine(t.Reason, 200) + ")"
	}
	return line
}

// scheduleFlags are what a schedule is made of.
type scheduleFlags struct {
	when, zone, kind, queue, tenant, data, replay string
	skipped, repeated, overlap, reason            string
	jitter, oldest                                time.Duration
	catchUp                                       int
}

func (a *App) cronAdd() *cobra.Command {
	var f scheduleFlags
	c := &cobra.Command{
		Use: "add NAME --when WHEN --kind KIND --reason WHY", Short: "Add a schedule, or change one that was added so",
		Example: `  perdure cron add nightly --when '0 2 * * *' --zone Europe/Berlin --kind report --data '{"days":1}' --reason 'as agreed'
  perdure cron add retry-mail --when '@every 1h' --replay '{"kind":"mail","class":"timeout"}' --reason 'the mail service recovers by itself'`,
		Args: exactly(1, "the schedule's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := f.timetable(args[0], cmd.Flags().Changed("catch-up") || cmd.Flags().Changed("catch-up-oldest"))
			if err != nil {
				return err
			}
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				story, err := cron.NewDesk(s).Add(ctx, t, a.decision(f.reason))
				if err != nil {
					return err
				}
				a.noteUnknownReplay(ctx, s, t.Replay)
				return a.print(story, func() { a.cronStory(story) })
			})
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.when, "when", "", `five fields, six with seconds, a descriptor such as @daily, or "@every 90s" (required)`)
	flags.StringVar(&f.zone, "zone", "", "time zone, for example Europe/Berlin (default UTC)")
	flags.StringVar(&f.kind, "kind", "", "the kind of job to enqueue")
	flags.StringVar(&f.data, "data", "", "payload as JSON; @FILE reads a file, - standard input")
	flags.StringVar(&f.queue, "queue", "", "queue (default: the kind's)")
	flags.StringVar(&f.tenant, "tenant", "", "on whose behalf")
	flags.StringVar(&f.replay, "replay", "", "instead of a kind: which dead letters to replay, a JSON object of queue, kind, class, signature, version, tenant, text, newer, older, rate, most, from_start, no_canary, reason")
	flags.StringVar(&f.skipped, "skipped", "", "a local time that a change of the clocks leaves out: next or skip")
	flags.StringVar(&f.repeated, "repeated", "", "a local time that a change of the clocks repeats: once or twice")
	flags.StringVar(&f.overlap, "overlap", "", "while the run before is not over: allow, skip, queue or cancel (default allow, of a replay skip)")
	flags.DurationVar(&f.jitter, "jitter", 0, "late by up to this, to spread schedules of the same time")
	flags.IntVar(&f.catchUp, "catch-up", 1, "how many missed ticks are made up for, 0 to 1000")
	flags.DurationVar(&f.oldest, "catch-up-oldest", 24*time.Hour, "how old they may be, at most 168h")
	flags.StringVar(&f.reason, "reason", "", "why, for the record (required)")
	return c
}

func (f scheduleFlags) timetable(name string, catchUp bool) (jobs.Timetable, error) {
	t := jobs.Timetable{
		Name: name, When: jobs.Timing(f.when), Zone: f.zone, Kind: f.kind, Queue: f.queue, Tenant: f.tenant,
		Skipped: f.skipped, Repeated: f.repeated, Jitter: jobs.Span(f.jitter), Overlap: jobs.Overlap(f.overlap),
	}
	if catchUp {
		t.CatchUp = &jobs.CatchUp{Most: f.catchUp, Oldest: jobs.Span(f.oldest)}
	}
	if f.data != "" {
		data, err := readData(f.data)
		if err != nil {
			return t, usage(err)
		}
		t.Payload = data
	}
	if f.replay != "" {
		t.Replay = &jobs.DeadFilter{}
		if err := cron.ReadPart("replay", f.replay, t.Replay); err != nil {
			return t, err
		}
	}
	return t, nil
}

// noteUnknownReplay notes a queue or kind that a schedule is to replay and nobody knows. Both
// may come later, so it is no error.
func (a *App) noteUnknownReplay(ctx context.Context, s *store.Store, replay *jobs.DeadFilter) {
	if replay == nil {
		return
	}
	if err := a.knownQueue(ctx, s, replay.Queue); errors.Is(err, jobs.ErrNotFound) {
		a.note("%v", err)
	}
	a.noteUnknownKind(ctx, s, replay.Kind)
}

func (a *App) cronRemove() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "remove NAME --reason WHY", Short: "Forget a schedule; its jobs stay", Args: exactly(1, "the schedule's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withDesk(cmd, func(ctx context.Context, d *cron.Desk) error {
				if err := d.Remove(ctx, args[0], a.decision(reason)); err != nil {
					return err
				}
				return a.print(map[string]any{"removed": args[0]}, func() { a.printf("schedule %s removed\n", args[0]) })
			})
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	return c
}

func (a *App) cronDecision(verb, short string, decide func(*cron.Desk, context.Context, string, jobs.Decision) (cron.Story, error)) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: verb + " NAME --reason WHY", Short: short, Args: exactly(1, "the schedule's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withDesk(cmd, func(ctx context.Context, d *cron.Desk) error {
				before, err := d.Show(ctx, args[0], 0)
				if err != nil {
					return err
				}
				story, err := decide(d, ctx, args[0], a.decision(reason))
				if err != nil {
					return err
				}
				a.noteUnchanged("schedule "+args[0], before.State, story.State)
				return a.print(story, func() { a.cronTable([]cron.View{story.View}) })
			})
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	return c
}

func (a *App) cronTrigger() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "trigger NAME --reason WHY", Short: "Do now what the schedule does at a tick", Args: exactly(1, "the schedule's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withDesk(cmd, func(ctx context.Context, d *cron.Desk) error {
				did, err := d.Trigger(ctx, args[0], a.decision(reason))
				if err != nil {
					return err
				}
				return a.print(did, func() {
					a.printf("%s triggered%s\n", did.Schedule, triggered(did))
				})
			})
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	return c
}

// triggered tells what came of a trigger.
func triggered(did cron.Triggered) string {
	switch {
	case did.Job != nil:
		return ": " + did.Job.Queue + "/" + did.Job.Key
	case did.Plan != nil:
		return ": plan " + did.Plan.Plan + "; perdure dead plans watch shows how far it has come"
	case did.Note != "":
		return ": " + did.Note
	}
	return "; a scheduler carries it out within seconds"
}

// planLine tells in a line how far a replay plan has come.
func planLine(p delivery.Plan) string {
	line := fmt.Sprintf("%s in %s: %s, %d of %d replayed, %d back", p.ID, p.Queue, p.State, p.Replayed, p.Selected, p.Returned+p.Failed)
	if p.Why != "" {
		line += "  (" + oneLine(p.Why, 200) + ")"
	}
	return line
}

// largeBackfill is from where on a backfill asks to be confirmed.
const largeBackfill = 100

func (a *App) cronBackfill() *cobra.Command {
	var from, until, reason string
	var dry, yes, forgotten bool
	c := &cobra.Command{
		Use: "backfill NAME --from TIME --until TIME --reason WHY", Short: "Enqueue the jobs of past ticks that have not fired",
		Long: "Enqueue the jobs of the ticks from one time to another, both included, that have not fired; at most 1000.\n" +
			"--dry-run says which. Ticks that are still to come are not among them.\n" +
			fmt.Sprintf("Ticks that the record of the last %d does not reach are \"forgotten\": they may have fired.\n", delivery.KeptTicks) +
			"Where their jobs are gone too, nothing can tell, and only --forgotten enqueues them.",
		Args: exactly(1, "the schedule's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			begin, end, err := span(from, until)
			if err != nil {
				return err
			}
			in := cron.Range{From: begin, Until: end, Forgotten: forgotten, Dry: true}
			return a.withDesk(cmd, func(ctx context.Context, d *cron.Desk) error {
				filled, err := d.Backfill(ctx, args[0], in, jobs.Decision{})
				if err != nil {
					return err
				}
				if n := tally(filled, "new"); n > largeBackfill && !yes && !dry {
					return usage(fmt.Errorf("%s would be enqueued: confirm with --yes, or see them with --dry-run", count(n, "job")))
				}
				if !dry {
					in.Dry = false
					if filled, err = d.Backfill(ctx, args[0], in, a.decision(reason)); err != nil {
						return err
					}
				}
				return a.print(map[string]any{"dry_run": dry, "enqueued": tally(filled, "new"), "ticks": filled}, func() { a.backfillTable(filled, dry) })
			})
		},
	}
	c.Flags().StringVar(&from, "from", "", "the first instant, RFC 3339 (required)")
	c.Flags().StringVar(&until, "until", "", "the last instant, RFC 3339 (required)")
	c.Flags().StringVar(&reason, "reason", "", "why, for the record (required, unless --dry-run)")
	c.Flags().BoolVar(&dry, "dry-run", false, "only say which jobs would be enqueued")
	c.Flags().BoolVar(&forgotten, "forgotten", false, "enqueue forgotten ticks too: some may run a second time")
	c.Flags().BoolVar(&yes, "yes", false, fmt.Sprintf("do not ask to confirm more than %d jobs", largeBackfill))
	return c
}

func span(from, until string) (begin, end time.Time, err error) {
	for _, one := range []struct {
		field, text string
		to          *time.Time
	}{{"from", from, &begin}, {"until", until, &end}} {
		if *one.to, err = time.Parse(time.RFC3339, one.text); err != nil {
			return begin, end, &jobs.InvalidError{Field: one.field, Value: one.text, Bound: "a time such as 2026-01-31T09:00:00Z"}
		}
	}
	return begin, end, nil
}

// tally counts the ticks of a state.
func tally(filled []cron.Filled, state string) (n int) {
	for _, f := range filled {
		if f.State == state {
			n++
		}
	}
	return n
}

func (a *App) backfillTable(filled []cron.Filled, dry bool) {
	rows := [][]string{{"INSTANT", "QUEUE", "KEY", "STATE"}}
	for _, f := range filled {
		rows = append(rows, []string{clock(f.At), f.Job.Queue, f.Job.Key, f.State})
	}
	a.table(rows...)
	done := "enqueued"
	if dry {
		done = "would be enqueued"
	}
	a.printf("%d of %s %s\n", tally(filled, "new"), count(len(filled), "tick"), done)
	if n := tally(filled, "forgotten"); n > 0 {
		a.printf("%d forgotten: the record does not reach back so far, they may have fired; --forgotten enqueues them too\n", n)
	}
}
