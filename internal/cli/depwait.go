package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/doctor"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// tellJob prints a job's story, and why it does not run.
func (a *App) tellJob(ctx context.Context, s *store.Store, i jobs.Info) error {
	return a.print(i, func() { a.story(i); a.whyItWaits(ctx, s, i) })
}

// whyItWaits tells below a job's story how what it waits for stands: the dependency, the
// limit, or its queue. When that cannot be read the story stands alone.
func (a *App) whyItWaits(ctx context.Context, s *store.Store, i jobs.Info) {
	switch {
	case i.State == jobs.StatePending:
		q, err := s.QueueInfo(ctx, i.Queue)
		if err != nil || !q.Paused {
			return
		}
		a.printf("  its queue is paused by %s\n", oneLine(reasonsOf(q), 500))
		for _, reason := range slices.Sorted(maps.Keys(q.Reasons)) {
			if name, ok := strings.CutPrefix(reason, "dependency:"); ok {
				a.whatHolds(ctx, s, name)
			}
		}
	case i.WaitingOn != nil && (i.WaitingOn.Type == "dependency" || i.WaitingOn.Type == "limit"):
		a.whatHolds(ctx, s, i.WaitingOn.Name)
	}
}

// whatHolds tells how a dependency or limit stands, and whether those who wait for it go on
// by themselves.
func (a *App) whatHolds(ctx context.Context, s *store.Store, name string) {
	d, err := s.Dependency(ctx, name)
	switch {
	case err != nil:
		return
	case delivery.IsLimit(d.Name):
		a.printf("  limit %s: %s; %d running, %d waiting, the first since %s\n", d.Name, d.Limit, d.Running, d.Waiting, clock(d.Oldest))
	default:
		a.printf("  %s is %s%s: %s\n", d.Name, depState(d), strings.Replace(depFor(d, s.Now()), "  ", " ", 1), oneLine(depWhy(d), 300))
	}
	if next := d.Next(); next != "" {
		a.printf("  %s\n", inClock(next))
	}
}

// Bounds of what is worth telling: who looks at a system in order should be told nothing.
const (
	openLong   = 10 * time.Minute // a breaker may be open for so long before that is worth a word
	closedLong = time.Minute      // nobody waits for what has been closed for so long, unless they are sent back one after the other
	unlooked   = 10 * time.Second // somebody looks after those who wait ten times a second
)

// ailment is something about dependencies that somebody should look at.
type ailment struct {
	Name    string         `json:"name"`
	Verdict doctor.Verdict `json:"verdict"`
	Value   string         `json:"value"`
	Why     string         `json:"why"`
	Fix     string         `json:"fix"`
}

// ailments looks at all that is waited for. What seems to stand still is looked at twice,
// a second apart.
func ailments(ctx context.Context, s *store.Store) ([]ailment, error) {
	infos, err := s.DependenciesWatched(ctx)
	if err != nil {
		return nil, err
	}
	found := []ailment{}
	for _, i := range infos {
		one := ailing(i, s.Now())
		if one == nil && stands(i, s.Now()) {
			if one, err = standsStill(ctx, s, i); err != nil {
				return nil, err
			}
		}
		if one != nil {
			one.Name, one.Verdict = i.Name, doctor.Warn
			found = append(found, *one)
		}
	}
	return found, nil
}

// ailing returns what a look at a dependency tells, or nil.
func ailing(i delivery.DependencyInfo, now time.Time) *ailment {
	long := now.Sub(i.Since).Round(time.Second)
	switch {
	case i.Waiting > 0 && now.Sub(i.Looked) > unlooked && now.Sub(i.Oldest) > unlooked:
		return &ailment{
			Value: does(i.Waiting, "job", "waits") + " for it, and nobody looks after them", Why: "schedulers send back who waits; without one they look for themselves, after 10 to 20 minutes",
			Fix: "start `perdure scheduler`, or a worker, which runs one too; if one runs, its log says why it cannot reach Redis",
		}
	case i.State == jobs.DependencyOpen && i.Forced && long > openLong:
		return &ailment{
			Value: fmt.Sprintf("opened by %s %s ago (%s); %s", i.By, long, i.Reason, does(i.AllWaiting(), "job", "waits")), Why: "what somebody has opened stays open until somebody closes it",
			Fix: "when it is over: perdure dep close " + i.Name + " --reason WHY",
		}
	case i.State == jobs.DependencyOpen && long > openLong:
		return &ailment{
			Value: fmt.Sprintf("open for %s (%s); %s", long, i.Reason, does(i.AllWaiting(), "job", "waits")), Why: "it closes by itself once a probe finds the service well; none has",
			Fix: "ask whoever runs " + i.Name + "; `perdure dep show " + i.Name + "` tells what the last probe has found",
		}
	}
	return nil
}

// stands reports whether jobs wait for what lets everything through, for long.
func stands(i delivery.DependencyInfo, now time.Time) bool {
	return i.State == jobs.DependencyClosed && i.Waiting > 0 && i.Limit.None() && i.Throttled.IsZero() && now.Sub(i.Since) > closedLong && now.Sub(i.Oldest) > closedLong
}

// standsStill tells those who are being sent back, as fast as their rate allows, from those
// who are not.
func standsStill(ctx context.Context, s *store.Store, before delivery.DependencyInfo) (*ailment, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(max(time.Second, time.Duration(2*float64(time.Second)/before.Resume))):
	}
	i, err := s.Dependency(ctx, before.Name)
	if err != nil || i.Resumed > before.Resumed || !stands(i, s.Now()) {
		return nil, err
	}
	return &ailment{
		Value: fmt.Sprintf("closed since %s, and %s for it, the first since %s", clock(i.Since), does(i.Waiting, "job", "waits"), clock(i.Oldest)), Why: "this must never happen: who waits for what is closed is sent back at once",
		Fix: "`perdure dep open " + i.Name + "` and then `dep close` send them back anew; please report this with the output of `perdure dep show " + i.Name + " -o json`",
	}, nil
}

func (a *App) ailmentTable(found []ailment) {
	for _, f := range found {
		a.printf("\nWARN: dependency %s\n  is   %s\n  why  %s\n  fix  %s\n", f.Name, oneLine(f.Value, 500), f.Why, f.Fix)
	}
	if len(found) == 0 {
		a.printf("dependencies: none is open for long, nobody waits for what is closed\n")
	}
}
