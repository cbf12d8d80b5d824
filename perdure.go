// Package perdure is the front door: connect a client, run a worker, or build a
// binary with every command around your own kinds. What jobs are made of is in
// package jobs.
//
//	func main() { perdure.Main(Fulfil.Do(fulfil)) }
package perdure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/perdure/perdure/audit"
	"github.com/perdure/perdure/internal/cli"
	"github.com/perdure/perdure/internal/doctor"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/scheduler"
	"github.com/perdure/perdure/scheduler/cron"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/worker"
)

// Main makes the program the perdure command line around the given kinds: worker,
// dev, job enqueue and all the others. It does not return.
func Main(handlers ...jobs.Handler) { os.Exit(cli.Main(handlers)) }

// Client is a connected [jobs.Client].
type Client interface {
	jobs.Client
	// Close closes the connections.
	Close() error
}

// Connect returns a client on the Redis at url: redis://, rediss://,
// redis-sentinel://host:port,host:port/master or redis+cluster://host:port,….
// It returns once Redis has answered; [jobs.ErrUnavailable] when it does not,
// [jobs.ErrInvalid] for a url that cannot be read.
func Connect(ctx context.Context, url string, how ...Option) (Client, error) {
	return open(ctx, url, chosen(how))
}

// Option says how much is relied on Redis; see docs/durability.md. Without one it
// is the relaxed mode, and recorded decisions are not sealed.
type Option func(*reliance)

type reliance struct {
	mode        doctor.Mode
	allowUnsafe bool
	auditKey    string
}

// Strict has [Work] refuse a Redis that may lose what it has accepted when the
// power fails.
func Strict() Option { return func(r *reliance) { r.mode = doctor.Strict } }

// Replicated has [Work] refuse a Redis without replicas, and clients and workers
// wait until a replica has what they enqueue and record. A call that none confirms
// within a second matches [jobs.ErrUnavailable] and is safe to repeat.
func Replicated() Option { return func(r *reliance) { r.mode = doctor.Replicated } }

// AllowUnsafeRedis lets [Work] go on where it would refuse; it is logged as an
// error.
func AllowUnsafeRedis() Option { return func(r *reliance) { r.allowUnsafe = true } }

// SealAudit has [Work] seal recorded decisions every minute under a key of 32 to 512
// bytes of printable ASCII, such as `openssl rand -hex 32` makes. Whoever has it can
// forge seals, so a program that need not have it is better without: any
// worker or scheduler with PERDURE_AUDIT_KEY seals for all.
func SealAudit(key string) Option { return func(r *reliance) { r.auditKey = key } }

func chosen(how []Option) reliance {
	r := reliance{mode: doctor.Relaxed}
	for _, option := range how {
		option(&r)
	}
	return r
}

func open(ctx context.Context, url string, r reliance) (*store.Store, error) {
	if r.mode == doctor.Replicated {
		return store.Connect(ctx, url, store.Replicated(1, 0))
	}
	return store.Connect(ctx, url)
}

// WorkerOptions say how a worker runs; the zero value of each field has a default.
type WorkerOptions = worker.Options

// Work runs a worker on the Redis at url, inside a program of your own, until ctx
// ends; then it finishes or hands back what runs, and returns nil. It also does
// what the scheduler does, so that nothing else has to run.
//
// It returns an error at once when this Redis does not keep what the options rely
// on, naming each check that fails, its value, its bound and what to do, and goes
// on checking while it runs.
//
// Jobs that two workers have died of run by themselves, so that they harm nobody
// else: in a process of their own when Child says how to start this program again
// up to this call, else alone in this one.
func Work(ctx context.Context, url string, options WorkerOptions, how ...Option) error {
	if worker.Isolated() {
		return worker.ServeIsolated(options)
	}
	r := chosen(how)
	s, err := open(ctx, url, r)
	if err != nil {
		return err
	}
	defer s.Close()
	w, err := worker.New(s, options)
	if err != nil {
		return err
	}
	keeper, err := scheduler.New(s, scheduler.Options{Log: options.Log, Registerer: options.Registerer})
	if err != nil {
		return err
	}
	timetables, err := cron.New(s, cron.Options{Code: jobs.Timetables(options.Handlers), Log: options.Log, Registerer: options.Registerer})
	if err != nil {
		return err
	}
	watch := doctor.New(s, doctor.Options{
		Mode: r.mode, AllowUnsafe: r.allowUnsafe, Log: options.Log, Registerer: options.Registerer, OnChange: keeper.CensusNow,
	})
	keys, err := audit.ParseKeys(r.auditKey, "")
	if err != nil {
		return fmt.Errorf("work: %w", err)
	}
	sealer, err := audit.NewSealer(s, audit.Options{Keys: keys, Log: options.Log, Registerer: options.Registerer})
	if err != nil {
		return fmt.Errorf("work: %w", err)
	}
	if err := watch.Start(ctx); err != nil {
		return fmt.Errorf("work: %w", err)
	}
	keeping, stop := context.WithCancel(ctx)
	var keepers sync.WaitGroup
	var kept, timed, watched, sealed error
	keepers.Go(func() { kept = keeper.Run(keeping) })
	keepers.Go(func() { timed = timetables.Run(keeping) })
	keepers.Go(func() { watched = watch.Run(keeping) })
	keepers.Go(func() { sealed = sealer.Run(keeping) })
	worked := w.Run(ctx)
	stop()
	keepers.Wait()
	if err := errors.Join(worked, kept, timed, watched, sealed); err != nil {
		return fmt.Errorf("work: %w", err)
	}
	return nil
}
