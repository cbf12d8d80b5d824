// Command crash measures how long a job stands still when its worker is killed.
// Worker processes run jobs of five steps; again and again one of them is killed
// with kill -9, and for each job that it ran the time is taken until another
// process runs it. It fails when a job is lost, when an attempt is used, when a
// finished step is repeated or when it takes longer than the goals.
//
//	make crash                     # 200 trials, about a quarter of an hour
//	go run ./test/crash --trials 20 --seed 7
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/perdure/perdure"
)

// options are the command's flags.
type options struct {
	trials     int           // workers to kill
	workers    int           // processes
	slots      int           // of each worker
	jobs       int           // under way or waiting, all the time
	step       time.Duration // how long a step takes, half as long to half as long again
	seed       uint64
	p50, p99   time.Duration // goals
	executable string        // what is started as a worker: this program
	log        io.Writer     // of the workers
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		perdure.Main(handler(os.Stdout))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	if err == nil {
		err = run(ctx, o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("crash", flag.ContinueOnError)
	f.IntVar(&o.trials, "trials", 200, "workers to kill")
	f.IntVar(&o.workers, "workers", 3, "worker processes, 2 or more")
	f.IntVar(&o.slots, "slots", 24, "slots of each worker; the workers that are left must have room for all jobs, or these wait for a slot")
	f.IntVar(&o.jobs, "jobs", 48, "jobs under way all the time")
	f.DurationVar(&o.step, "step", time.Second, "how long each of a job's five steps takes, on average")
	f.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of what is random: lengths of steps, whom to kill and when")
	f.DurationVar(&o.p50, "p50", 2500*time.Millisecond, "goal: half of the jobs run elsewhere within this")
	f.DurationVar(&o.p99, "p99", 3500*time.Millisecond, "goal: 99 of 100 jobs run elsewhere within this")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.trials < 1 || o.workers < 2 || o.slots < 1 || o.jobs < 1 || o.step < 10*time.Millisecond || f.NArg() > 0 {
		return o, fmt.Errorf("trials, slots and jobs must be 1 or more, workers 2 or more, step 10ms or more, and nothing else be given: %q", args)
	}
	var err error
	o.executable, err = os.Executable()
	o.log = io.Discard
	return o, err
}
