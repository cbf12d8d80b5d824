// Package chaos runs workers, schedulers and a Redis as processes of their own,
// does them harm by a plan that a seed repeats, and proves afterwards, from what
// was written down outside of Redis, that no job was lost, doubled or left behind.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/perdure/perdure/jobs"
)

// The mutants: runs that must fail, or the checks prove nothing.
const (
	MutantToken = "token" // scripts that do not compare tokens
	MutantFsync = "fsync" // a Redis that does not sync its files
)

// Options say how to run. Seed and Log have no default.
type Options struct {
	Seed      uint64        // the same seed makes the same plan
	Workflows int           // jobs of five steps, 10 to 1000000
	Workers   int           // processes, 2 to 64
	Duration  time.Duration // of the faults, 26 s and the freeze to 24 h
	Freeze    time.Duration // of Redis, 2 s to 10 min
	Settle    time.Duration // how long all may take to end once the faults are over
	Mutant    string        // empty, MutantToken or MutantFsync
	Keep      bool          // leave the files of a good run too
	Log       io.Writer

	// Replicated has another run: a primary with a replica and sentinels, and
	// fail-overs as the only faults. What they lose is counted, and has to end once
	// the producer has sent it again.
	Replicated bool
}

func (o Options) check() error {
	bad := func(field string, value any, bound string) error {
		return &jobs.InvalidError{Field: field, Value: value, Bound: bound}
	}
	switch {
	case o.Workflows < 10 || o.Workflows > 1_000_000:
		return bad("workflows", o.Workflows, "from 10 to 1000000")
	case o.Workers < 2 || o.Workers > 64:
		return bad("workers", o.Workers, "from 2 to 64")
	case o.Duration < leastDuration(o) || o.Duration > 24*time.Hour:
		return bad("duration", o.Duration, fmt.Sprintf("from %v to 24h, for every fault to happen", leastDuration(o)))
	case o.Freeze < 2*time.Second || o.Freeze > 10*time.Minute:
		return bad("freeze", o.Freeze, "from 2s to 10m")
	case o.Settle < time.Second || o.Settle > time.Hour:
		return bad("settle", o.Settle, "from 1s to 1h")
	case o.Mutant != "" && o.Mutant != MutantToken && o.Mutant != MutantFsync:
		return bad("mutant", o.Mutant, "token or fsync")
	}
	return nil
}

// Run does it all: it builds, starts, harms, waits and judges. The error says that
// the run could not be made; what the run found is in the report. Everything it
// starts ends with it, and its files go unless it failed.
func Run(ctx context.Context, o Options) (Report, error) {
	report := Report{Options: o}
	if err := o.check(); err != nil {
		return report, err
	}
	began := time.Now()
	dir, err := os.MkdirTemp("", "perdure-chaos-")
	if err != nil {
		return report, err
	}
	report.Dir = dir
	s, err := openStage(ctx, dir, o)
	if err != nil {
		return report, fmt.Errorf("set the stage (files in %s): %w", dir, err)
	}
	defer s.close()
	err = s.play(ctx, &report)
	report.Took = time.Since(began)
	if ctx.Err() != nil {
		s.close()
		return report, errors.Join(context.Cause(ctx), os.RemoveAll(dir))
	}
	if err != nil {
		return report, fmt.Errorf("chaos (files in %s): %w", dir, err)
	}
	if report.Good() && !o.Keep {
		report.Dir = ""
		s.close()
		return report, os.RemoveAll(dir)
	}
	return report, nil
}

func historyPath(dir string) string { return filepath.Join(dir, "history.jsonl") }
func ledgerPath(dir string) string  { return filepath.Join(dir, "accepted.txt") }
