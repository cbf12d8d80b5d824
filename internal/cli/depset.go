package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// tuningFlags are the settings of a dependency or a limit: "" is one that stays.
type tuningFlags struct {
	resume, ratio, minCalls, quorum, rate, concurrency string
}

func (f *tuningFlags) ofLimit(flags *pflag.FlagSet) {
	flags.StringVar(&f.rate, "rate", "", "most that begin a second, 0.001 to 1000000, none or default")
	flags.StringVar(&f.concurrency, "concurrency", "", "most at a time, 1 to 1000000, none or default")
}

func (f *tuningFlags) ofBreaker(flags *pflag.FlagSet) {
	flags.StringVar(&f.resume, "resume", "", "most jobs a second that come back after an outage, 0.1 to 100000, or default")
	flags.StringVar(&f.ratio, "ratio", "", "of calls that fail, from which on it opens, over 0 and up to 1, or default")
	flags.StringVar(&f.minCalls, "min-calls", "", "calls that the judgement needs, 1 to 10000, or default")
	flags.StringVar(&f.quorum, "quorum", "", "workers that must agree, where so many call it, 1 to 1000, or default")
}

// takenBack and unbounded are what `default` and `none` are to the store.
const (
	takenBack = -1
	unbounded = 0
)

func (f tuningFlags) tuning() (t delivery.Tuning, err error) {
	for _, one := range []struct {
		field, text string
		bounds      bool // it can be none
		whole       **int
		number      **float64
	}{
		{"resume", f.resume, false, nil, &t.Resume}, {"ratio", f.ratio, false, nil, &t.Ratio}, {"min-calls", f.minCalls, false, &t.MinCalls, nil},
		{"quorum", f.quorum, false, &t.Quorum, nil}, {"rate", f.rate, true, nil, &t.Rate}, {"concurrency", f.concurrency, true, &t.Concurrency, nil},
	} {
		if one.text == "" {
			continue
		}
		n, err := settingOf(one.field, one.text, one.bounds, one.whole != nil)
		if err != nil {
			return t, err
		}
		if one.whole != nil {
			whole := int(n)
			*one.whole = &whole
		} else {
			*one.number = &n
		}
	}
	return t, nil
}

// settingOf reads a number, `default` or, where it is a bound, `none`.
func settingOf(field, text string, bounds, whole bool) (float64, error) {
	switch {
	case text == "default":
		return takenBack, nil
	case text == "none" && bounds:
		return unbounded, nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err == nil && whole {
		_, err = strconv.Atoi(text)
	}
	if err != nil || n < 0 || n == 0 && !bounds {
		must := "a number over 0"
		if whole {
			must = "a whole number over 0"
		}
		if bounds {
			must += ", none"
		}
		return 0, &jobs.InvalidError{Field: field, Value: text, Bound: must + ", or default: that of the programs"}
	}
	return n, nil
}

func (a *App) depSet() *cobra.Command {
	var f tuningFlags
	var reason string
	var unknown bool
	c := &cobra.Command{
		Use: "set NAME [--resume N] [--ratio N] [--min-calls N] [--quorum N] [--rate N] [--concurrency N] --reason WHY", Short: "Set how a breaker judges, how fast jobs come back, and what the service can bear",
		Long: "Set how a breaker judges, how fast jobs come back, and what the service can bear. It holds for the whole fleet at once, and goes before what programs\n" +
			"say with jobs.Describe. A setting of `default` is taken back: what the programs say holds again. A rate or concurrency of `none` is no bound.",
		Example: "  perdure dep set payments --resume 20 --reason 'they are still warming up'\n" +
			"  perdure dep set payments --resume default --reason 'they are well again'\n" +
			"  perdure dep set api.example.com --rate 50 --concurrency 10 --reason 'our contract'",
		Args: exactly(1, "the dependency's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := f.tuning()
			if err != nil {
				return err
			}
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				known := func(ctx context.Context, s *store.Store) error { return a.known(ctx, s, args[0], unknown, onlyService) }
				if err := a.tune(ctx, s, args[0], t, reason, onlyService, known); err != nil {
					return err
				}
				return a.tellDependency(ctx, s, args[0])
			})
		},
	}
	f.ofBreaker(c.Flags())
	f.ofLimit(c.Flags())
	c.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	c.Flags().BoolVar(&unknown, "unknown", false, "also when nothing is known of that name yet")
	return c
}

func (a *App) tune(ctx context.Context, s *store.Store, name string, t delivery.Tuning, reason string, check func(string) error, known func(context.Context, *store.Store) error) error {
	if err := check(name); err != nil {
		return err
	}
	if err := t.Check(name); err != nil {
		return err // before it is said that nothing is known of it
	}
	if err := known(ctx, s); err != nil {
		return err
	}
	changed, err := s.TuneDependency(ctx, name, t, a.decision(reason))
	if err == nil && !changed {
		a.note("%s: nothing changed, it was so before", name)
	}
	return err
}

func (a *App) limitCommand() *cobra.Command {
	return group("limit", "Bound how often jobs of a kind or a tenant begin, in the whole fleet", a.limitList(), a.limitSet(), a.limitClear())
}

// onlyLimit refuses names of services with the command that is about them.
func onlyLimit(name string) error {
	if !delivery.IsLimit(name) {
		return &jobs.InvalidError{Field: "limit", Value: name, Bound: "kind/KIND or tenant/TENANT; a service's limit is set with `perdure dep set`"}
	}
	return delivery.CheckLimitName(name)
}

func (a *App) limitList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List limits of kinds and tenants, and who waits", Args: exactly(0, "no arguments"),
		Long:    "List limits of kinds and tenants, and who waits. Limits of services are shown by `dep list`.",
		Example: "  perdure limit list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				infos, err := s.Limits(ctx)
				if err != nil {
					return err
				}
				return a.print(map[string]any{"limits": infos}, func() { a.limitTable(infos...) })
			})
		},
	}
}

func (a *App) limitTable(infos ...delivery.LimitInfo) {
	rows := [][]string{{"LIMIT", "RATE", "AT A TIME", "RUNNING", "WAITING", "FIRST SINCE", "SET BY"}}
	for _, i := range infos {
		by := "-"
		switch {
		case len(i.Set) > 0:
			by = "operator"
		case i.Declared:
			by = "program"
		}
		rate, places := "none", "none"
		if i.Limit.Rate > 0 {
			rate = fmt.Sprintf("%g/s", i.Limit.Rate)
		}
		if i.Limit.Concurrency > 0 {
			places = fmt.Sprint(i.Limit.Concurrency)
		}
		rows = append(rows, []string{i.Name, rate, places, fmt.Sprint(i.Running), fmt.Sprint(i.Waiting), clock(i.Oldest), by})
	}
	a.table(rows...)
}

func (a *App) limitSet() *cobra.Command {
	var f tuningFlags
	var reason string
	var unknown bool
	c := &cobra.Command{
		Use: "set kind/KIND|tenant/TENANT [--rate N] [--concurrency N] --reason WHY", Short: "Bound how often jobs of a kind or a tenant begin",
		Long: "Bound how often jobs of a kind or a tenant begin, in the whole fleet. Jobs over it wait, no attempt used, and begin by themselves, longest waiting first.\n" +
			"It goes before what programs say. A setting of `default` is taken back; `none` is no bound.",
		Example: "  perdure limit set kind/mail --rate 50 --reason 'what the provider allows'\n  perdure limit set tenant/acme --concurrency 20 --reason 'their batch of today'",
		Args:    exactly(1, "kind/KIND or tenant/TENANT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := f.tuning()
			if err != nil {
				return err
			}
			return a.limit(cmd, args[0], t, reason, func(ctx context.Context, s *store.Store) error {
				return a.known(ctx, s, args[0], unknown, onlyLimit)
			})
		},
	}
	f.ofLimit(c.Flags())
	c.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	c.Flags().BoolVar(&unknown, "unknown", false, "also when no worker has said that it has the kind")
	return c
}

func (a *App) limitClear() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "clear kind/KIND|tenant/TENANT --reason WHY", Short: "Take back what was set of a limit; what the programs say holds again",
		Example: "  perdure limit clear tenant/acme --reason 'their batch is done'",
		Args:    exactly(1, "kind/KIND or tenant/TENANT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			rate, places := float64(takenBack), takenBack
			return a.limit(cmd, args[0], delivery.Tuning{Rate: &rate, Concurrency: &places}, reason, func(ctx context.Context, s *store.Store) error {
				_, err := s.Limit(ctx, args[0])
				return err
			})
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	return c
}

// limit changes a limit that known does not refuse.
func (a *App) limit(cmd *cobra.Command, name string, t delivery.Tuning, reason string, known func(context.Context, *store.Store) error) error {
	return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
		if err := a.tune(ctx, s, name, t, reason, onlyLimit, known); err != nil {
			return err
		}
		info, err := s.Limit(ctx, name)
		if errors.Is(err, jobs.ErrNotFound) { // it was all that was known
			info, err = delivery.LimitInfo{Name: name}, nil
		}
		if err != nil {
			return err
		}
		return a.print(info, func() { a.limitTable(info) })
	})
}

func (a *App) depWatch() *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use: "watch NAME", Short: "Show how a dependency recovers until it is closed and nobody waits", Args: exactly(1, "the dependency's name"),
		Long: "Show how a dependency recovers, until it is closed and nobody waits for it any more. Ends with 12 when --timeout is over before.\n" +
			"Looking changes nothing: what it shows goes on without it.",
		Example: "  perdure dep watch payments\n  perdure dep watch payments --timeout 10m && echo well again",
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout < 0 {
				return &jobs.InvalidError{Field: "timeout", Value: timeout, Bound: "over 0s, or 0s for none"}
			}
			if err := onlyService(args[0]); err != nil {
				return err
			}
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error { return a.watchAndTell(ctx, s, args[0], timeout) })
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 0, "how long to watch; 0s: as long as it takes")
	return c
}

func (a *App) watchAndTell(ctx context.Context, s *store.Store, name string, timeout time.Duration) error {
	info, err := a.watchDependency(ctx, s, name, timeout)
	if err != nil {
		return err
	}
	if err := a.print(info, func() { a.depTable([]delivery.DependencyInfo{info}) }); err != nil {
		return err
	}
	if timeout > 0 && !recovered(info) && ctx.Err() == nil {
		return &exitError{exitTimedOut, fmt.Errorf("%s is %s, with %s waiting, after %v", name, info.State, count(info.AllWaiting(), "job"), timeout)}
	}
	return nil
}

// recovered reports whether there is nothing more to be watched. Under a limit some may
// wait at any time.
func recovered(i delivery.DependencyInfo) bool {
	return i.State == jobs.DependencyClosed && (i.AllWaiting() == 0 || !i.Limit.None())
}

// watchDependency shows on the error output how a dependency fares, until it has recovered
// or time is over: each change in a line of its own, and on a terminal how far it has come.
func (a *App) watchDependency(ctx context.Context, s *store.Store, name string, timeout time.Duration) (delivery.DependencyInfo, error) {
	show := a.progress("")
	defer show.done()
	began, was := time.Now(), ""
	for {
		info, err := s.Dependency(ctx, name)
		if err != nil {
			return info, err
		}
		if now := depState(info); now != was {
			show.done()
			a.note("%s %s %s %s", clock(time.Now()), name, now, oneLine(depWhy(info), 200))
			was = now
		}
		if recovered(info) || timeout > 0 && time.Since(began) >= timeout {
			return info, nil
		}
		show.what = strings.TrimSuffix(fmt.Sprintf("%s at %s, resumed", info.State, depRate(info)), "at -, resumed")
		show.at(info.Resumed, info.Resumed+info.AllWaiting())
		select {
		case <-ctx.Done():
			return info, nil // it goes on without us
		case <-time.After(250 * time.Millisecond):
		}
	}
}
