// Package drill runs perdure's promises for real: the order example's services
// and a worker as processes of their own, faults switched on, and the ledgers of
// the services as witnesses of what happened.
package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/devredis"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// Options say where a drill runs.
type Options struct {
	Names      []string         // scenarios; none: all
	Executable string           // the binary that runs services and workers as its children
	RedisURL   string           // queues of its own are made there, and removed at the end
	Redis      *devredis.Server // the Redis at RedisURL when it is the drill's own, to be killed; nil: it is not
	Log        io.Writer
}

// Result is what became of a scenario.
type Result struct {
	Name     string `json:"name"`
	Expected string `json:"expected"`
	Observed string `json:"observed"`
	Evidence string `json:"evidence"`
	Passed   bool   `json:"passed"`
	Skipped  string `json:"skipped,omitempty"` // why it cannot run here
}

// Report is a whole drill.
type Report struct {
	Scenarios []Result `json:"scenarios"`
	Passed    int      `json:"passed"`
	Failed    int      `json:"failed"`
	Skipped   int      `json:"skipped"`
}

// scenario is one promise.
type scenario struct {
	name     string
	expected string
	run      func(ctx context.Context, s *stage) (observed, evidence string, err error)
}

// Names returns the names of all scenarios in order.
func Names() []string {
	var names []string
	for _, sc := range scenarios {
		names = append(names, sc.name)
	}
	return names
}

// Run plays the scenarios one after the other and calls done after each. The
// error is about the stage (Redis, children); a broken promise is a Result.
func Run(ctx context.Context, o Options, done func(Result)) (Report, error) {
	report := Report{Scenarios: []Result{}}
	chosen, err := choose(o.Names)
	if err != nil {
		return report, err
	}
	s, err := openStage(ctx, o)
	if err != nil {
		return report, fmt.Errorf("set the stage: %w", err)
	}
	for _, sc := range chosen {
		result := s.play(ctx, sc)
		switch {
		case result.Passed:
			report.Passed++
		case result.Skipped != "":
			report.Skipped++
		default:
			report.Failed++
		}
		report.Scenarios = append(report.Scenarios, result)
		done(result)
	}
	return report, s.close()
}

func choose(names []string) ([]scenario, error) {
	if len(names) == 0 {
		return scenarios, nil
	}
	var chosen []scenario
	for _, name := range names {
		found := false
		for _, sc := range scenarios {
			if sc.name == name {
				chosen, found = append(chosen, sc), true
			}
		}
		if !found {
			return nil, &jobs.InvalidError{Field: "scenario", Value: name, Bound: "one of " + strings.Join(Names(), ", ")}
		}
	}
	return chosen, nil
}

// stage is what the scenarios play on: three services, a worker, a queue.
type stage struct {
	store      *store.Store
	redis      *devredis.Server
	url        string
	executable string
	log        io.Writer
	variables  []string // of workers that are started from now on, besides
	queue      string
	queues     []string // of all workers there have been; the prefixes of their dependencies
	dir        string
	services   *Services
	worker     *hand
	steady     time.Time // from then on the worker takes over from dead ones
	crews      int
	began      time.Time // the scenario
	orders     []orders.Order
	made       int      // orders beside those
	newKinds   []string // that were not known before
	newCensus  bool     // none was taken before
	newCron    bool     // there was no schedule before
	newNeeds   bool     // nothing was decided about dependencies before
}

// steadyAfter is over twice the silence at which a worker is taken for dead, as
// the settings have it by default.
const steadyAfter = 3500 * time.Millisecond

func openStage(ctx context.Context, o Options) (*stage, error) {
	s := &stage{queue: delivery.PassingQueue("drill"), redis: o.Redis, url: o.RedisURL, executable: o.Executable, log: o.Log}
	var err error
	if s.orders, err = orders.Sample(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "perdure-drill-"); err != nil {
		return nil, err
	}
	if s.store, err = store.Connect(ctx, o.RedisURL); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	if err := errors.Join(s.look(ctx), s.populate(ctx, o)); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// look notes what is in Redis before the drill, and so is not the drill's.
func (s *stage) look(ctx context.Context) error {
	kinds, err := s.store.Kinds(ctx)
	if err != nil {
		return err
	}
	names := []string{ownOrder.Definition().Name}
	for _, h := range append((orders.Services{}).Handlers(), Handlers()...) {
		names = append(names, h.Definition.Name)
	}
	for _, name := range names {
		if _, known := kinds[name]; !known {
			s.newKinds = append(s.newKinds, name)
		}
	}
	census, err := s.store.LastCensus(ctx)
	s.newCensus = err == nil && census.At.IsZero()
	changes, _, cronErr := s.store.ScheduleChanges(ctx)
	s.newCron = cronErr == nil && changes == 0
	decisions, needsErr := s.store.DependencyEvents(ctx, 1)
	s.newNeeds = needsErr == nil && len(decisions) == 0
	return errors.Join(err, cronErr, needsErr)
}

// populate starts the services and then the worker that calls them.
func (s *stage) populate(ctx context.Context, o Options) error {
	var err error
	if s.services, err = StartServices(ctx, o.Executable, s.dir, o.Log); err != nil {
		return err
	}
	s.queues = append(s.queues, s.queue)
	s.worker, err = s.startWorker(ctx, s.queue)
	s.steady = time.Now().Add(steadyAfter)
	return err
}

// environ is the environment of a queue's workers. The services that they need have
// names of their own as dependencies: those of somebody else stay as they are.
func (s *stage) environ(queue string) []string {
	return append(append(s.services.Environ(), "PERDURE_REDIS_URL="+s.url, "ORDERS_PREFIX="+queue), s.variables...)
}

// cannotRun is the error of a scenario that cannot be played here: it says why.
type cannotRun string

func (c cannotRun) Error() string { return "cannot run here: " + string(c) }

// play runs one scenario. When all that is wrong is that something came late, it is run
// once more, and the result says so: this machine may have stood still. That jobs are lost
// or doubled is never put down to that.
func (s *stage) play(ctx context.Context, sc scenario) Result {
	result := Result{Name: sc.name, Expected: sc.expected}
	observed, evidence, err := s.once(ctx, sc)
	if first := err; err != nil && onlyLate(err) {
		before := observed
		observed, evidence, err = s.once(ctx, sc)
		evidence += fmt.Sprintf("; played twice, the first time: %s; %s", before, strings.ReplaceAll(first.Error(), "\n", ", "))
	}
	var cannot cannotRun
	if errors.As(err, &cannot) {
		result.Skipped = string(cannot)
		return result
	}
	result.Observed, result.Evidence, result.Passed = observed, evidence, err == nil
	if err != nil {
		result.Observed = strings.TrimPrefix(observed+"; ", "; ") + err.Error()
	}
	return result
}

// once runs a scenario within three minutes, on services without faults.
func (s *stage) once(ctx context.Context, sc scenario) (observed, evidence string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for _, name := range serviceNames {
		if err := orders.ClearFaults(ctx, s.services.URL(name)); err != nil {
			return "", "", fmt.Errorf("could not prepare: %w", err)
		}
	}
	s.began = time.Now()
	return sc.run(ctx, s)
}

// close ends the children and removes what the drill left in Redis.
func (s *stage) close() error {
	var errs []error
	if s.worker != nil {
		errs = append(errs, s.worker.stop())
	}
	if s.services != nil {
		errs = append(errs, s.services.Stop())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	errs = append(errs, s.store.Drop(ctx, s.queue))
	if s.newCensus {
		errs = append(errs, s.store.ForgetCensus(ctx))
	}
	if s.newCron {
		errs = append(errs, s.store.ForgetSchedules(ctx))
	}
	errs = append(errs, s.forgetNeeds(ctx))
	for _, kind := range s.newKinds {
		errs = append(errs, s.store.Unpublish(ctx, kind))
	}
	return errors.Join(append(errs, s.store.Close(), os.RemoveAll(s.dir))...)
}

// forgetNeeds removes what is kept of the services as dependencies, once no worker is
// left that would write it anew.
func (s *stage) forgetNeeds(ctx context.Context) error {
	var errs []error
	for _, queue := range s.queues {
		for _, name := range serviceNames {
			errs = append(errs, s.store.ForgetDependency(ctx, orders.Services{Prefix: queue}.DependencyName(name)))
		}
	}
	if s.newNeeds {
		errs = append(errs, s.store.ForgetDependencyEvents(ctx))
	}
	return errors.Join(errs...)
}
