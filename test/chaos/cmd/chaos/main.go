// Command chaos runs the chaos suite and says what it found.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/perdure/perdure/test/chaos"
)

func main() { os.Exit(run()) }

func run() int {
	o := chaos.Options{Log: os.Stderr}
	flag.Uint64Var(&o.Seed, "seed", rand.Uint64N(1_000_000), "repeats a plan of faults")
	flag.IntVar(&o.Workflows, "workflows", 2000, "jobs of five steps")
	flag.IntVar(&o.Workers, "workers", 5, "worker processes")
	flag.DurationVar(&o.Duration, "duration", 3*time.Minute, "of the faults")
	flag.DurationVar(&o.Freeze, "freeze", 10*time.Second, "how long Redis is frozen")
	flag.DurationVar(&o.Settle, "settle", 3*time.Minute, "how long all may take to end after the faults")
	flag.StringVar(&o.Mutant, "mutant", "", "token or fsync: break that, and exit 0 only if the run finds it")
	flag.BoolVar(&o.Replicated, "replicated", false, "the run with sentinels and fail-overs instead")
	flag.BoolVar(&o.Keep, "keep", false, "keep the files of a good run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Fprintf(os.Stderr, "seed %d\n", o.Seed)
	report, err := chaos.Run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 1
	}
	report.Write(os.Stdout)
	if report.Dir != "" {
		fmt.Fprintln(os.Stderr, "files:", report.Dir)
	}
	good := report.Good()
	if o.Mutant != "" {
		good = len(report.Problems) > 0
		fmt.Printf("\nmutant %s was found: %v\n", o.Mutant, good)
	}
	if !good {
		return 1
	}
	return 0
}
