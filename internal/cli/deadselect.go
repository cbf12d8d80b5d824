package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/perdure/perdure/deadletter"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// many is from how many entries on a decision about them takes --yes.
const many = 100

// selection are the flags that select entries.
type selection struct {
	queue, class, since, before string
	f                           delivery.DeadFilter
}

func (s *selection) flags(flags *pflag.FlagSet) {
	flags.StringVar(&s.queue, "queue", "", "one queue")
	flags.StringVar(&s.f.Signature, "group", "", "one group, by its signature")
	flags.StringVar(&s.f.Kind, "kind", "", "one kind")
	flags.StringVar(&s.class, "class", "", "one class of failure")
	flags.IntVar(&s.f.Version, "kind-version", 0, "one version of the kind")
	flags.StringVar(&s.f.Tenant, "tenant", "", "one tenant")
	flags.StringVar(&s.f.Text, "text", "", "with this in message, reason, step or key; case does not count")
	flags.StringVar(&s.since, "since", "", "quarantined then or later: a time such as 2026-01-31T09:00:00Z, or how long ago, such as 24h")
	flags.StringVar(&s.before, "before", "", "quarantined earlier, likewise")
}

// filter reads the flags.
func (s *selection) filter() (delivery.DeadFilter, error) {
	f := s.f
	f.Class = jobs.Class(s.class)
	var errs [2]error
	f.Since, errs[0] = instant("since", s.since)
	f.Before, errs[1] = instant("before", s.before)
	return f, errors.Join(errs[0], errs[1], f.Check())
}

// bulk is a decision about many entries.
type bulk struct {
	selection
	all, yes, dry bool
}

func (b *bulk) flags(flags *pflag.FlagSet) {
	b.selection.flags(flags)
	flags.BoolVar(&b.all, "all", false, "everything in quarantine (of the queue, with --queue)")
	flags.BoolVar(&b.yes, "yes", false, fmt.Sprintf("go on although it is about more than %d entries", many))
	flags.BoolVar(&b.dry, "dry-run", false, "count what it would be about, and change nothing")
}

// target is what is selected in one queue.
type target struct {
	Queue  string           `json:"queue"`
	Filter string           `json:"filter"`
	Count  deadletter.Count `json:"count"`
	filter delivery.DeadFilter
}

// targets counts what is selected, queue by queue.
func (a *App) targets(ctx context.Context, s *store.Store, b bulk) ([]target, error) {
	filter, err := b.filter()
	if err != nil {
		return nil, err
	}
	if filter == (delivery.DeadFilter{}) && !b.all {
		return nil, usage(errors.New("say which entries: a key, --group, --kind or another filter, or --all"))
	}
	if err := a.knownQueue(ctx, s, b.queue); err != nil {
		return nil, err
	}
	queues := []string{b.queue}
	if b.queue == "" {
		if queues, err = s.Queues(ctx); err != nil {
			return nil, err
		}
	}
	show := a.progress("counted")
	defer show.done()
	found := []target{}
	for _, queue := range queues {
		count, err := deadletter.New(s).Count(ctx, queue, filter, func(c deadletter.Count) { show.at(int64(c.Entries), 0) })
		if err != nil {
			return nil, err
		}
		if count.Entries > 0 {
			found = append(found, target{queue, filter.String(), count, filter})
		}
	}
	if len(found) == 0 {
		a.noteUnknownKind(ctx, s, filter.Kind)
	}
	return found, nil
}

// agreed returns an error when a decision is about many entries and --yes is not
// given.
func (b *bulk) agreed(found []target, what string) error {
	total := 0
	for _, t := range found {
		total += t.Count.Entries
	}
	if total > many && !b.yes {
		return usage(fmt.Errorf("this would %s %s; look with --dry-run, then say --yes", what, count(total, "entry")))
	}
	return nil
}

func (a *App) targetTable(found []target) {
	rows := [][]string{{"QUEUE", "ENTRIES", "REPLAYABLE", "GROUPS", "OLDEST", "NEWEST", "FILTER"}}
	for _, t := range found {
		rows = append(rows, []string{
			t.Queue, fmt.Sprint(t.Count.Entries), fmt.Sprint(t.Count.Replayable), fmt.Sprint(len(t.Count.Signatures)), clock(t.Count.Oldest), clock(t.Count.Newest), inClock(t.Filter),
		})
	}
	a.table(rows...)
}

// only finds the queue that has something: the given one, or the only one in which
// look finds it.
func (a *App) only(ctx context.Context, s *store.Store, queue, what string, look func(queue string) error) (string, error) {
	if queue != "" {
		return queue, a.knownQueue(ctx, s, queue)
	}
	queues, err := s.Queues(ctx)
	if err != nil {
		return "", err
	}
	var found []string
	for _, queue := range queues {
		err := look(queue)
		if err == nil {
			found = append(found, queue)
		} else if !errors.Is(err, jobs.ErrNotFound) {
			return "", err
		}
	}
	switch len(found) {
	case 0:
		return "", &exitError{exitNotFound, fmt.Errorf("%s: no queue has it", what)}
	case 1:
		return found[0], nil
	}
	return "", usage(fmt.Errorf("%s is in the queues %s; say --queue", what, strings.Join(found, ", ")))
}
