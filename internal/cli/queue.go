package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

func (a *App) queueCommand() *cobra.Command {
	return group("queue", "Look at queues; pause and resume them", a.queueList(), a.queueHold("pause"), a.queueHold("resume"))
}

func (a *App) queueList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List queues in numbers", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				names, err := s.Queues(ctx)
				if err != nil {
					return err
				}
				infos := []store.QueueInfo{}
				for _, name := range names {
					info, err := s.QueueInfo(ctx, name)
					if err != nil {
						return err
					}
					infos = append(infos, info)
				}
				return a.print(map[string]any{"queues": infos}, func() { a.queueTable(infos) })
			})
		},
	}
}

func (a *App) queueTable(infos []store.QueueInfo) {
	rows := [][]string{{"QUEUE", "PENDING", "RUNNING", "SCHEDULED", "RETRYING", "PAUSED", "QUARANTINED", "ENDED", "STATE"}}
	for _, q := range infos {
		state := "open"
		if q.Paused {
			state = "paused by " + reasonsOf(q)
		}
		row := []string{q.Queue}
		for _, n := range []int64{q.Pending, q.Running, q.Scheduled, q.Retrying, q.Parked, q.Quarantined, q.Ended} {
			row = append(row, fmt.Sprint(n))
		}
		rows = append(rows, append(row, state))
	}
	a.table(rows...)
}

// reasonsOf lists why a queue is paused.
func reasonsOf(q store.QueueInfo) string {
	var all []string
	for _, reason := range slices.Sorted(maps.Keys(q.Reasons)) {
		all = append(all, reason+" ("+q.Reasons[reason]+")")
	}
	return strings.Join(all, ", ")
}

func (a *App) queueHold(verb string) *cobra.Command {
	var reason string
	short := "Stop claims from a queue; running jobs go on"
	if verb == "resume" {
		short = "Take the operator's pause of a queue back"
	}
	c := &cobra.Command{
		Use: verb + " QUEUE --reason WHY", Short: short, Args: exactly(1, "the queue"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				return a.holdQueue(ctx, s, verb, args[0], jobs.Decision{Actor: a.settings.actor(), Reason: reason})
			})
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	return c
}

// heldBefore says how a queue stood before a decision that changes nothing of it; "": it
// changes something.
func heldBefore(verb string, q store.QueueInfo) string {
	_, held := q.Reasons["operator"]
	_, elsewhere := q.Reasons["asynq"] // paused with asynq's tools: resume takes that back
	switch {
	case verb == "pause" && held:
		return "paused by " + reasonsOf(q)
	case verb == "resume" && !q.Paused:
		return "not paused"
	case verb == "resume" && !held && !elsewhere:
		return "not paused by an operator, but by " + reasonsOf(q)
	}
	return ""
}

func (a *App) holdQueue(ctx context.Context, s *store.Store, verb, queue string, by jobs.Decision) error {
	before, err := s.QueueInfo(ctx, queue)
	if err != nil {
		return err
	}
	if verb == "pause" {
		err = s.PauseQueue(ctx, queue, by)
	} else {
		_, err = s.ResumeQueue(ctx, queue, by)
	}
	if err != nil {
		return err
	}
	if why := heldBefore(verb, before); why != "" {
		a.note("%s: nothing changed, it was %s", queue, oneLine(why, 500))
	}
	info, err := s.QueueInfo(ctx, queue)
	if err != nil {
		return err
	}
	return a.print(info, func() { a.queueTable([]store.QueueInfo{info}) })
}
