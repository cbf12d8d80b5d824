package cli

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/deadletter"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

func (a *App) deadCommand() *cobra.Command {
	return group("dead", "Look at the quarantine; replay, discard, move or erase entries",
		a.deadList(), a.deadGroups(), a.deadShow(), a.deadReplay(), a.deadPlans(), a.deadDiscard(), a.deadExport(), a.deadImport(), a.deadMove(), a.deadErase(),
		a.deadJudge("resolve", "Mark a group as mended; it opens again when it recurs", delivery.GroupResolved),
		a.deadJudge("ignore", "Mark a group as known; it stays so when it recurs", delivery.GroupIgnored),
		a.deadJudge("open", "Take a resolve or an ignore back", delivery.GroupOpen))
}

func (a *App) deadList() *cobra.Command {
	var sel selection
	var q deadletter.Query
	c := &cobra.Command{
		Use: "list", Short: "List quarantined jobs, longest there first", Args: exactly(0, "no arguments"),
		Example: "  perdure dead list --kind order.fulfil --since 24h\n  perdure dead list --text 'card declined' --newest",
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := sel.filter()
			if err != nil {
				return err
			}
			q.Queue, q.Filter = sel.queue, filter
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				if err := a.knownQueue(ctx, s, q.Queue); err != nil {
					return err
				}
				page, err := a.fullPage(ctx, s, q)
				if err != nil {
					return err
				}
				if len(page.Entries) == 0 {
					a.noteUnknownKind(ctx, s, filter.Kind)
				}
				return a.print(page, func() { a.deadTable(page) })
			})
		},
	}
	sel.flags(c.Flags())
	c.Flags().BoolVar(&q.Newest, "newest", false, "latest first")
	c.Flags().IntVar(&q.Limit, "limit", 50, "entries a page, 1 to 500")
	c.Flags().StringVar(&q.Cursor, "cursor", "", "next of the page before")
	return c
}

// fullPage goes on reading until the page is full: the store looks at some thousand
// entries at a time.
func (a *App) fullPage(ctx context.Context, s *store.Store, q deadletter.Query) (deadletter.Page, error) {
	page := deadletter.Page{Entries: []delivery.Dead{}}
	show := a.progress("looked at")
	defer show.done()
	for want := q.Limit; ; q.Limit = want - len(page.Entries) {
		more, err := deadletter.New(s).List(ctx, q)
		if err != nil {
			return page, err
		}
		page.Entries, page.Next, page.Read = append(page.Entries, more.Entries...), more.Next, page.Read+more.Read
		if len(page.Entries) >= want || page.Next == "" {
			return page, nil
		}
		show.at(int64(page.Read), 0)
		q.Cursor = page.Next
	}
}

func (a *App) deadTable(page deadletter.Page) {
	rows := [][]string{{"QUEUE", "KEY", "SINCE", "KIND", "CLASS", "STEP", "SIGNATURE", "WHY"}}
	for _, e := range page.Entries {
		rows = append(rows, []string{
			e.Queue, e.Key, clock(e.At), cmp.Or(e.Kind, "(unreadable)"), string(e.Class), e.Step, e.Signature, e.Message + " (" + e.Reason + ")",
		})
	}
	a.table(rows...)
	if page.Next != "" {
		a.printf("more: --cursor %s\n", page.Next)
	}
}

func (a *App) deadGroups() *cobra.Command {
	var queue, state, from string
	var limit int
	c := &cobra.Command{
		Use: "groups", Short: "List groups of quarantined jobs that failed in the same way, last seen first", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkGroupState(state); err != nil {
				return err
			}
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				if err := a.knownQueue(ctx, s, queue); err != nil {
					return err
				}
				groups, next, err := s.DeadGroups(ctx, queue, delivery.GroupState(state), limit, from)
				if err != nil {
					return err
				}
				return a.print(map[string]any{"groups": groups, "next": next}, func() { a.groupTable(groups, next) })
			})
		},
	}
	c.Flags().StringVar(&queue, "queue", "", "one queue")
	c.Flags().StringVar(&state, "state", "", "open, resolved or ignored, also without entries (default: all that have entries)")
	c.Flags().IntVar(&limit, "limit", 50, "groups a page, 1 to 500")
	c.Flags().StringVar(&from, "cursor", "", "next of the page before")
	return c
}

func checkGroupState(state string) error {
	if state != "" && !slices.Contains([]delivery.GroupState{delivery.GroupOpen, delivery.GroupResolved, delivery.GroupIgnored}, delivery.GroupState(state)) {
		return &jobs.InvalidError{Field: "state", Value: state, Bound: "open, resolved or ignored"}
	}
	return nil
}

func (a *App) groupTable(groups []delivery.DeadGroup, next string) {
	rows := [][]string{{"QUEUE", "SIGNATURE", "STATE", "ENTRIES", "SEEN", "FIRST", "LAST", "KIND", "VERSIONS", "CLASS", "STEP", "MESSAGE"}}
	for _, g := range groups {
		var versions []string
		for _, v := range slices.Sorted(maps.Keys(g.Versions)) {
			versions = append(versions, fmt.Sprint(v))
		}
		rows = append(rows, []string{
			g.Queue, g.Signature, string(g.State), fmt.Sprint(g.Entries), fmt.Sprint(g.Seen), clock(g.First), clock(g.Last), g.Kind,
			strings.Join(versions, ","), string(g.Class), g.Step, g.Message,
		})
	}
	a.table(rows...)
	if next != "" {
		a.printf("more: --cursor %s\n", next)
	}
}

func (a *App) deadJudge(verb, short string, state delivery.GroupState) *cobra.Command {
	var queue, reason string
	c := &cobra.Command{
		Use: verb + " SIGNATURE --reason WHY", Short: short, Args: exactly(1, "the group's signature"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				queue, err := a.queueOfGroup(ctx, s, queue, args[0])
				if err != nil {
					return err
				}
				before, err := s.DeadGroup(ctx, queue, args[0])
				if err != nil {
					return err
				}
				g, err := s.JudgeGroup(ctx, queue, args[0], state, a.decision(reason))
				if err != nil {
					return err
				}
				a.noteUnchanged("group "+args[0], string(before.State), string(g.State))
				return a.print(g, func() { a.groupTable([]delivery.DeadGroup{g}, "") })
			})
		},
	}
	c.Flags().StringVar(&queue, "queue", "", "queue (default: the one that has the group)")
	c.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	return c
}

// queueOfGroup finds the queue that has a group.
func (a *App) queueOfGroup(ctx context.Context, s *store.Store, queue, signature string) (string, error) {
	return a.only(ctx, s, queue, "group "+signature, func(queue string) error {
		_, err := s.DeadGroup(ctx, queue, signature)
		return err
	})
}

func (a *App) deadShow() *cobra.Command {
	return a.onJob("show KEY", "Tell a quarantined job's story", func(ctx context.Context, s *store.Store, queue, key string) error {
		entry, err := deadletter.New(s).Show(ctx, queue, key)
		if err != nil {
			return err
		}
		return a.print(entry, func() { a.deadStory(entry) })
	})
}

func (a *App) deadStory(e deadletter.Entry) {
	a.story(e.Info)
	a.printf("  quarantined %s: %s; class %s (%s), signature %s\n", clock(e.At), oneLine(e.Reason, 300), e.Class, e.Rule, e.Signature)
	if e.Version != 0 {
		a.printf("  version %d\n", e.Version)
	}
	if e.Worker != "" {
		a.printf("  worker %s\n", oneLine(e.Worker, 200))
	}
	if e.Trace != "" {
		a.printf("  trace %s\n", oneLine(e.Trace, 200))
	}
	for _, name := range slices.Sorted(maps.Keys(e.Headers)) {
		a.printf("  header %s: %s\n", oneLine(name, 100), oneLine(e.Headers[name], 300))
	}
	for _, name := range slices.Sorted(maps.Keys(e.Dependencies)) {
		a.printf("  dependency %s was %s\n", oneLine(name, 100), oneLine(inClock(e.Dependencies[name]), 300))
	}
	if e.Payload != nil {
		a.printf("  payload %s\n", oneLine(string(e.Payload), 2000))
	} else if e.PayloadBytes != nil {
		a.printf("  payload of %s, which is no JSON; -o json has it\n", count(len(e.PayloadBytes), "byte"))
	}
	for _, edit := range e.Edits {
		a.printf("  payload edited %s by %s: %s (%s)\n", clock(edit.At), oneLine(edit.Actor, 100), delivery.Paths(edit.Changes), oneLine(edit.Reason, 200))
	}
	if e.Erased != "" {
		a.printf("  payload and outputs erased by %s\n", oneLine(e.Erased, 300))
	}
	a.raw(e.Raw)
	for _, f := range e.Failures {
		if f.Stack != "" {
			a.printf("\n%s\n", f.Stack)
		}
	}
}

// raw shows bytes that mean nothing to us: as hex, with no byte that a terminal
// would obey.
func (a *App) raw(data []byte) {
	const most = 512
	if data == nil {
		return
	}
	a.printf("\n  the message as stored, %s; it can be discarded, not replayed:\n%s", count(len(data), "byte"), hex.Dump(data[:min(len(data), most)]))
	if len(data) > most {
		a.printf("... and %s more; -o json has them all, in base64\n", count(len(data)-most, "byte"))
	}
}

func (a *App) deadErase() *cobra.Command {
	var reason string
	c := a.onJob("erase KEY --reason WHY", "Erase a quarantined job's payload and step outputs for good, and keep the rest of its story", func(ctx context.Context, s *store.Store, queue, key string) error {
		info, err := s.Erase(ctx, queue, key, a.decision(reason))
		if err != nil {
			return err
		}
		return a.print(info, func() {
			a.printf("%s/%s: payload, progress and step outputs erased; it can be replayed with another payload, from the start\n", queue, key)
		})
	})
	c.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	return c
}

// readPayload is readData for another payload of a job.
func readPayload(text string) ([]byte, error) {
	payload, err := readJSON("payload", text)
	if err != nil {
		return nil, usage(err)
	}
	return payload, nil
}
