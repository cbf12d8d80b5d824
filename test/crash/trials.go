package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/devredis"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

const (
	patience = 30 * time.Second // a job that stands still for longer counts as lost
	steps    = 5
)

// trials is one measurement.
type trials struct {
	options options
	store   *store.Store
	fleet   *fleet
	witness *witness
	random  *rand.Rand
	keys    []string
	hits    map[string]int // how often each job's worker was killed

	within    int             // jobs that were hit inside a step
	elsewhere []time.Duration // from the kill until another process ran the job
	takenOver []time.Duration // from the kill until the job was back in its queue
}

// run measures and reports; the error says what was violated.
func run(ctx context.Context, o options, out io.Writer) error {
	dir, err := os.MkdirTemp("", "perdure-crash-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	redis, err := devredis.Start(ctx, filepath.Join(dir, "data"), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer redis.Close()
	s, err := store.Connect(ctx, redis.URL())
	if err != nil {
		return err
	}
	defer s.Close()
	fmt.Fprintf(out, "%s\n%d trials, %d workers of %d slots, %d jobs of %d steps of %v, seed %d\n",
		redis.Description(), o.trials, o.workers, o.slots, o.jobs, steps, o.step, o.seed)
	t := &trials{
		options: o, store: s, witness: newWitness(), random: rand.New(rand.NewPCG(o.seed, 0)), hits: map[string]int{},
	}
	t.fleet = &fleet{options: o, url: redis.URL(), told: t.witness.tell}
	err = t.all(ctx, out)
	if err = errors.Join(err, t.fleet.stop()); err != nil {
		return err
	}
	return t.report(out)
}

// all holds the load up through all trials, and then lets every job end.
func (t *trials) all(ctx context.Context, out io.Writer) error {
	for range t.options.workers {
		if err := t.fleet.start(); err != nil {
			return err
		}
	}
	for n := 1; n <= t.options.trials; n++ {
		slowest, err := t.one(ctx)
		if err != nil {
			return fmt.Errorf("trial %d: %w", n, err)
		}
		fmt.Fprintf(out, "trial %d: %d jobs so far, the slowest of this trial after %v\n", n, len(t.elsewhere), slowest.Round(time.Millisecond))
	}
	return t.finish(ctx)
}

// one is one trial. It returns how long the slowest job stood still.
func (t *trials) one(ctx context.Context) (time.Duration, error) {
	// Long enough for each job to record a step since the trial before, and ending
	// anywhere between two beats and two looks of the schedulers.
	calm := t.options.step*3/2 + time.Duration(t.random.Int64N(int64(1200*time.Millisecond)))
	if err := t.load(ctx, calm); err != nil {
		return 0, err
	}
	running := t.witness.running()
	var pids []int
	for pid := range running {
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	victim := t.fleet.take(pids[t.random.IntN(len(pids))])
	if victim == nil {
		return 0, errors.New("a job runs in a process that was killed before")
	}
	at, err := victim.kill()
	if err != nil {
		return 0, err
	}
	hit := t.witness.running()[victim.cmd.Process.Pid]
	if err := t.fleet.start(); err != nil {
		return 0, err
	}
	var slowest time.Duration
	for key, before := range hit {
		took, err := t.follow(ctx, key, before, at)
		if err != nil {
			return 0, err
		}
		slowest = max(slowest, took)
	}
	return slowest, nil
}

// follow waits until a job that was hit runs elsewhere.
func (t *trials) follow(ctx context.Context, key string, before story, killed time.Time) (time.Duration, error) {
	t.hits[key]++
	if before.within != "" {
		t.within++
	}
	late := time.After(patience - time.Since(killed))
	for {
		now, changed := t.witness.story(key)
		if now.run > before.run {
			took := now.at.Sub(killed)
			t.elsewhere = append(t.elsewhere, took)
			return took, t.check(ctx, key, now, before.pid, killed)
		}
		select {
		case <-changed:
		case <-late:
			t.witness.violated("job %s does not run %v after its worker was killed", key, patience)
			return patience, nil
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// check holds a resumed job to what perdure promises.
func (t *trials) check(ctx context.Context, key string, now story, pid int, killed time.Time) error {
	info, err := t.store.Get(ctx, queue, key)
	if err != nil {
		return err
	}
	if now.pid == pid {
		t.witness.violated("job %s runs in the process that was killed", key)
	}
	// It may have been hit once more, between its claim and the first word of its handler.
	if info.Attempts != 0 || info.Crashes < t.hits[key] || info.Crashes != info.Runs-1 {
		t.witness.violated("job %s has used %d attempts and counts %d crashes of %d executions; its worker was killed %d times",
			key, info.Attempts, info.Crashes, info.Runs, t.hits[key])
	}
	if f := info.LastFailure(); f != nil && f.Class == jobs.ClassCrash {
		t.takenOver = append(t.takenOver, f.At.Sub(killed))
	}
	return nil
}

// load keeps as many jobs under way as it should be, for a while.
func (t *trials) load(ctx context.Context, calm time.Duration) error {
	over := time.After(calm)
	for {
		done, changed := t.witness.ended()
		for len(t.keys)-done < t.options.jobs {
			if err := t.enqueue(ctx); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-over:
			if len(t.witness.running()) > 0 {
				return t.fleet.dead()
			}
			over = time.After(calm) // nothing runs yet
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (t *trials) enqueue(ctx context.Context) error {
	w := work{}
	for range steps {
		w.Steps = append(w.Steps, t.options.step/2+time.Duration(t.random.Int64N(int64(t.options.step))))
	}
	key := fmt.Sprintf("job:%d", len(t.keys)+1)
	_, err := t.store.Enqueue(ctx, kind.New(key, w))
	t.keys = append(t.keys, key)
	return err
}

// finish waits for every job's end and looks at all of them.
func (t *trials) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for _, key := range t.keys {
		info, err := t.store.Wait(ctx, queue, key)
		if err != nil {
			return fmt.Errorf("job %s was accepted and does not end: %w", key, err)
		}
		if info.State != jobs.StateCompleted || len(info.Steps) != steps || info.Attempts != 0 {
			t.witness.violated("job %s is %s with %d steps recorded and %d attempts used", key, info.State, len(info.Steps), info.Attempts)
		}
	}
	return t.fleet.dead()
}

// report prints what was measured; the error lists what was violated.
func (t *trials) report(out io.Writer) error {
	fmt.Fprintf(out, "\n%d workers killed; %d jobs hit, %d of them inside a step; %d jobs in all\n", t.options.trials, len(t.elsewhere), t.within, len(t.keys))
	fmt.Fprintf(out, "%-24s %9s %9s %9s %9s\n", "after kill -9", "p50", "p90", "p99", "max")
	for _, row := range []struct {
		name  string
		times []time.Duration
	}{{"back in the queue", t.takenOver}, {"running elsewhere", t.elsewhere}} {
		slices.Sort(row.times)
		fmt.Fprintf(out, "%-24s %8.2fs %8.2fs %8.2fs %8.2fs\n", row.name, quantile(row.times, 50).Seconds(), quantile(row.times, 90).Seconds(),
			quantile(row.times, 99).Seconds(), quantile(row.times, 100).Seconds())
	}
	violations := t.witness.violations
	if p50 := quantile(t.elsewhere, 50); p50 > t.options.p50 {
		violations = append(violations, fmt.Sprintf("p50 is %v, the goal %v", p50, t.options.p50))
	}
	if p99 := quantile(t.elsewhere, 99); p99 > t.options.p99 {
		violations = append(violations, fmt.Sprintf("p99 is %v, the goal %v", p99, t.options.p99))
	}
	if len(violations) > 0 {
		return fmt.Errorf("%d violations:\n%s", len(violations), strings.Join(violations, "\n"))
	}
	fmt.Fprintln(out, "no job lost, no attempt used, no finished step repeated")
	return nil
}

// quantile returns the smallest of sorted times that percent of them do not
// exceed; 0 when there are none.
func quantile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)*percent+99)/100-1]
}
