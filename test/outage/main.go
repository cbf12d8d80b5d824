// Command outage takes a service away from many jobs and gives it back. Worker processes
// run jobs that call it; scheduler processes are killed with kill -9 all the time, and one
// worker hears late of what becomes of the service. It measures how many calls are made in
// vain, how soon the fleet holds and resumes, and how fast the jobs come back; it fails
// when a job is forgotten, served twice or uses an attempt, or a goal is missed.
//
//	make outage                    # 100,000 jobs, some four minutes
//	go run ./test/outage --jobs 10000 --rate 500
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// options are the command's flags.
type options struct {
	jobs       int
	rate       float64       // a second, at which they come back
	away       time.Duration // for which the service is gone
	workers    int           // processes; one of them hears late
	late       time.Duration // by how much
	kill       time.Duration // between two kills of the scheduler
	executable string        // this program
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) > 1 && (os.Args[1] == "worker" || os.Args[1] == "scheduler") {
		err = serve(ctx, os.Args[1], slog.New(slog.DiscardHandler))
	} else {
		var o options
		if o, err = parse(os.Args[1:]); err == nil {
			err = run(ctx, o, os.Stdout)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "outage:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("outage", flag.ContinueOnError)
	f.IntVar(&o.jobs, "jobs", 100_000, "jobs that wait for the service")
	f.Float64Var(&o.rate, "rate", 1000, "jobs a second that come back")
	f.DurationVar(&o.away, "away", time.Minute, "for which the service is gone; longer when it takes longer to enqueue the jobs")
	f.IntVar(&o.workers, "workers", 3, "worker processes, 2 or more")
	f.DurationVar(&o.late, "late", time.Second, "how late one of them hears of the service")
	f.DurationVar(&o.kill, "kill", 2*time.Second, "between two kills of the scheduler")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.jobs < 1 || o.rate < 1 || o.workers < 2 || o.away < time.Second || o.kill < 100*time.Millisecond || f.NArg() > 0 {
		return o, fmt.Errorf("jobs and rate must be 1 or more, workers 2 or more, away 1s or more, kill 100ms or more, and nothing else be given: %q", args)
	}
	var err error
	o.executable, err = os.Executable()
	return o, err
}
