package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/dependency"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Queue is what the worker needs of the store to take and end jobs.
type Queue interface {
	Claim(ctx context.Context, queue, owner string, most int) (delivery.Batch, error)
	AwaitWork(ctx context.Context, queue string, limit time.Duration) (bool, error)
	Settle(ctx context.Context, d delivery.Delivery, v delivery.Verdict) error
	HandBack(ctx context.Context, hold delivery.Hold) error
	Relay(ctx context.Context, queue string) (more bool, err error)
	Holdings(ctx context.Context, queue, owner string) (delivery.Holdings, error)
}

// Steps is what the worker needs of the store while a job runs.
type Steps interface {
	Checkpoint(ctx context.Context, hold delivery.Hold, c delivery.Checkpoint) error
	SaveProgress(ctx context.Context, hold delivery.Hold, step string, data []byte) error
	Await(ctx context.Context, hold delivery.Hold, run int, w jobs.Wait) (output []byte, ready bool, err error)
	Children(ctx context.Context, d delivery.Delivery, g jobs.Group, wait bool) (ended []jobs.Ended, ready bool, err error)
}

// Isolation is what the worker needs of the store to run jobs that are suspected
// of killing workers, and to clear those that were suspected wrongly.
type Isolation interface {
	Isolate(ctx context.Context, queue, owner string, alone bool) (delivery.Batch, error)
	Reserve(ctx context.Context, queue, worker string, limit time.Duration) (bool, error)
	Release(ctx context.Context, queue string) error
	Absolve(ctx context.Context, hold delivery.Hold) error
}

// Registry is what the worker needs of the store to be known.
type Registry interface {
	Register(ctx context.Context, queues ...string) error
	Publish(ctx context.Context, kinds []delivery.PublishedKind) error
	Beat(ctx context.Context, owner string, first bool) (bool, error)
	Retire(ctx context.Context, owner string) error
	Announce(ctx context.Context, p delivery.Presence, stands time.Duration) error
	Withdraw(ctx context.Context, p delivery.Presence) error
}

// Store is all of them, and what the guard of its dependencies needs, as *store.Store
// is.
type Store interface {
	dependency.Store
	Queue
	Steps
	Isolation
	Registry
}

// Options say how a worker runs. The zero value of each field has a default.
type Options struct {
	Handlers        []jobs.Handler        // several of a kind when their versions differ: a job goes on in the one it began in
	Fallback        *jobs.Handler         // runs kinds that have no handler of their own; nil: such jobs are paused
	Queues          map[string]int        // queue to priority, 1 to 100; default: the queues of the handlers, priority 1
	StrictPriority  bool                  // a queue is served only when those of higher priority are empty
	Concurrency     int                   // attempts at a time, 1 to 10000; default 16
	ShutdownTimeout time.Duration         // how long attempts may finish on stop, up to 1 h; default 25 s
	Grace           time.Duration         // how long a handler may go on after its context has ended; default 5 s
	Beat            time.Duration         // between signs of life, 50 ms to 10 s; default 400 ms
	Silence         time.Duration         // after which it is taken for dead, from three beats, and 500 ms, to 10 min; default four beats
	MaxStuck        int                   // when so many handlers ignore the end of their context, Run returns [ErrStuck], 1 to Concurrency; default half of it
	Child           []string              // command that starts this program again, up to Run or [ServeIsolated], to run jobs suspected of killing workers; default: they run alone in this process
	Log             *slog.Logger          // default: none
	Registerer      prometheus.Registerer // default: none
}

func (o *Options) fill() error {
	if o.Concurrency == 0 {
		o.Concurrency = 16
	}
	if o.ShutdownTimeout == 0 {
		o.ShutdownTimeout = 25 * time.Second
	}
	if o.Grace == 0 {
		o.Grace = 5 * time.Second
	}
	if o.Beat == 0 {
		o.Beat = 400 * time.Millisecond
	}
	if o.Silence == 0 {
		o.Silence = max(4*o.Beat, 500*time.Millisecond)
	}
	if o.MaxStuck == 0 {
		o.MaxStuck = (o.Concurrency + 1) / 2
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if len(o.Queues) == 0 {
		o.Queues = map[string]int{}
		for _, h := range o.Handlers {
			o.Queues[h.Definition.Queue] = 1
		}
	}
	return o.check()
}

func (o *Options) check() error {
	errs := []error{
		within("concurrency", o.Concurrency, 1, 10_000),
		within("max stuck", o.MaxStuck, 1, max(o.Concurrency, 1)),
		lasting("shutdown timeout", o.ShutdownTimeout, 0, time.Hour),
		lasting("grace", o.Grace, 0, time.Hour),
		lasting("beat", o.Beat, 50*time.Millisecond, 10*time.Second),
		lasting("silence", o.Silence, max(3*o.Beat, 500*time.Millisecond), 10*time.Minute),
	}
	if o.Fallback != nil {
		errs = append(errs, o.Fallback.Err())
	}
	for queue, priority := range o.Queues {
		errs = append(errs, jobs.CheckQueue(queue), within("priority of queue "+queue, priority, 1, 100))
	}
	seen := map[code]bool{}
	for _, h := range o.Handlers {
		errs = append(errs, h.Err())
		c := codeOf(h)
		if seen[c] {
			errs = append(errs, &jobs.InvalidError{Field: "handler", Value: c.kind, Bound: "given once for each version of a kind"})
		}
		seen[c] = true
	}
	if len(o.Queues) == 0 {
		errs = append(errs, &jobs.InvalidError{Field: "queues", Value: "none", Bound: "at least one queue or handler"})
	}
	return errors.Join(errs...)
}

func within(field string, n, least, most int) error {
	if n < least || n > most {
		return &jobs.InvalidError{Field: field, Value: n, Bound: fmt.Sprintf("from %d to %d", least, most)}
	}
	return nil
}

func lasting(field string, d, least, most time.Duration) error {
	if d < least || d > most {
		return &jobs.InvalidError{Field: field, Value: d, Bound: fmt.Sprintf("from %v to %v", least, most)}
	}
	return nil
}

// Worker runs jobs until it is told to stop. Make one with [New].
type Worker struct {
	store    Store
	options  Options
	handlers map[code]jobs.Handler
	newest   map[string]int    // version by kind
	guard    *dependency.Guard // nil in an isolated process: its worker guards
	stepwise sync.Map          // of [stepCall]: which services the steps of kinds have said they call
	metrics  *metrics
	log      *slog.Logger
	name     string // host:pid, for people
	presence delivery.Presence

	owner    atomic.Pointer[string] // random, fresh at each start and after each fence
	listed   atomic.Pointer[string] // the owner that has beaten
	started  atomic.Bool
	stopping atomic.Bool  // jobs leave at their next boundary
	ending   atomic.Bool  // the time to finish is over
	alone    atomic.Bool  // a suspect wants to run alone: nothing is claimed meanwhile
	stuck    atomic.Int64 // handlers that ignore the end of their context
	giveUp   context.CancelCauseFunc
	slots    chan struct{} // one entry for each attempt under way
	wake     chan struct{} // a queue has become ready or a slot free
	suspect  chan struct{} // a queue has suspects
	mail     chan struct{} // jobs have something to tell other jobs
	queues   []*queue
	healthy  atomic.Pointer[time.Time] // of the last successful beat, by the clock that is never set

	mu      sync.Mutex
	running map[delivery.Hold]*attempt
	posted  map[string]bool // queues whose jobs have something to tell
	claims  sync.RWMutex    // held for reading while a claim is under way
	work    sync.WaitGroup
}

// New returns a worker on a store. The error names every option that is out of
// bounds.
func New(store Store, options Options) (*Worker, error) {
	if err := options.fill(); err != nil {
		return nil, fmt.Errorf("worker options: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	w := &Worker{
		store: store, options: options, handlers: map[code]jobs.Handler{}, newest: map[string]int{}, log: options.Log,
		name: fmt.Sprintf("%s:%d", host, os.Getpid()), slots: make(chan struct{}, options.Concurrency),
		wake: make(chan struct{}, 1), suspect: make(chan struct{}, 1), mail: make(chan struct{}, 1), posted: map[string]bool{}, running: map[delivery.Hold]*attempt{}, metrics: newMetrics(options.Registerer),
	}
	for _, h := range options.Handlers {
		w.handlers[codeOf(h)] = h
		w.newest[h.Definition.Name] = max(w.newest[h.Definition.Name], h.Definition.Version)
	}
	for name, priority := range options.Queues {
		w.queues = append(w.queues, &queue{name: name, priority: priority, needs: commonNeeds(options.Handlers, name), empty: make(chan struct{}, 1)})
	}
	w.newOwner()
	if w.guard, err = w.newGuard(); err != nil {
		return nil, fmt.Errorf("worker options: %w", err)
	}
	w.listed.Store(new(string))
	w.presence = delivery.Presence{
		Host: host, PID: os.Getpid(), ID: w.ownerID(), Concurrency: options.Concurrency, Queues: options.Queues,
		StrictPriority: options.StrictPriority, Status: "active", Started: time.Now(),
	}
	return w, nil
}

func (w *Worker) newOwner() {
	owner := delivery.NewOwner(w.options.Silence)
	w.owner.Store(&owner)
}

func (w *Worker) ownerID() string { return *w.owner.Load() }

// Ready returns nil while the worker beats, and says otherwise since when it
// does not.
func (w *Worker) Ready() error {
	last := w.healthy.Load()
	if last == nil {
		return errors.New("worker has not reached redis yet")
	}
	if silent := time.Since(*last); silent > 10*w.options.Beat {
		return fmt.Errorf("worker has not reached redis for %v", silent.Round(time.Millisecond))
	}
	return nil
}

// Run works until ctx ends. Then it claims nothing more, hands each job back when
// it comes to a new step or has saved progress, lets those finish that do neither
// for the shutdown timeout, hands the rest back at their checkpoint, and returns
// nil. What is handed back has used no attempt. It returns an error when Redis
// cannot be reached at the start, and [ErrStuck], after the same orderly stop, when
// MaxStuck handlers ignore the end of their context: only the end of the process
// ends those. It may be called once. In a process that a worker has started to run
// suspects it does what [ServeIsolated] does instead.
func (w *Worker) Run(ctx context.Context) error {
	if Isolated() {
		return ServeIsolated(w.options)
	}
	if !w.started.CompareAndSwap(false, true) {
		return errors.New("start worker: it was started before; make a new one")
	}
	if ctx.Err() != nil {
		return nil
	}
	if err := w.enlist(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("start worker: %w", err)
	}
	w.log.Info("worker started", "owner", w.ownerID(), "queues", w.options.Queues, "concurrency", w.options.Concurrency)
	ctx, w.giveUp = context.WithCancelCause(ctx)
	defer w.giveUp(nil)
	alive, stopBeats := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBeats()
	var beats, claims sync.WaitGroup
	beats.Go(func() { w.beat(alive) })
	beats.Go(func() { w.compare(alive) })
	beats.Go(func() { w.announce(alive) })
	beats.Go(func() { w.relay(alive) })
	beats.Go(func() { w.guard.Run(alive) })
	for _, q := range w.queues {
		claims.Go(func() { w.await(ctx, q) })
	}
	w.work.Go(func() { w.isolation(ctx) })
	w.dispatch(ctx)
	w.drain()
	stopBeats()
	beats.Wait()
	w.leave()
	claims.Wait()
	w.log.Info("worker stopped", "owner", w.ownerID())
	if errors.Is(context.Cause(ctx), ErrStuck) {
		return ErrStuck
	}
	return nil
}

// ErrStuck says that a worker has stopped because too many of its handlers go on
// although their context has ended. The process must end for them to end.
var ErrStuck = errors.New("too many handlers ignore the end of their context; start the process anew")

// countStuck notes that a handler has become stuck, or has returned after all.
func (w *Worker) countStuck(n int64) {
	w.metrics.stuck.Add(float64(n))
	if stuck := w.stuck.Add(n); stuck >= int64(w.options.MaxStuck) {
		w.log.Error("draining, to be started anew", "stuck", stuck, "error", ErrStuck)
		w.giveUp(ErrStuck)
	}
}

// enlist makes queues, kinds and the owner known.
func (w *Worker) enlist(ctx context.Context) error {
	if err := w.store.Register(ctx, w.queueNames()...); err != nil {
		return err
	}
	if err := w.store.Publish(ctx, w.published()); err != nil {
		return err
	}
	if err := w.guard.Start(ctx); err != nil {
		return err
	}
	if err := w.enter(ctx, w.ownerID()); err != nil {
		return err
	}
	w.reached()
	return nil
}

// reached notes that Redis has answered.
func (w *Worker) reached() {
	now := time.Now()
	w.healthy.Store(&now)
}

// enter puts an identity on the list of the living.
func (w *Worker) enter(ctx context.Context, owner string) error {
	if _, err := w.store.Beat(ctx, owner, true); err != nil {
		return err
	}
	w.listed.Store(&owner)
	return nil
}

func (w *Worker) queueNames() []string {
	var names []string
	for _, q := range w.queues {
		names = append(names, q.name)
	}
	return names
}

func (w *Worker) published() []delivery.PublishedKind {
	var kinds []delivery.PublishedKind
	for _, h := range w.options.Handlers {
		d := h.Definition
		if d.Version < w.newest[d.Name] {
			continue // new jobs are of the newest
		}
		kinds = append(kinds, delivery.PublishedKind{
			Name: d.Name, Queue: d.Queue, Version: d.Version, Schema: d.Schema, Timeout: d.Timeout, Retention: d.Retention, MaxPayload: d.MaxPayload,
			Needs: d.Needs,
		})
	}
	return kinds
}

// drain waits for attempts to finish, or to reach a boundary, and then ends the
// rest.
func (w *Worker) drain() {
	w.stopping.Store(true)
	finished := make(chan struct{})
	go func() {
		w.work.Wait()
		close(finished)
	}()
	timer := time.NewTimer(w.options.ShutdownTimeout)
	defer timer.Stop()
	select {
	case <-finished:
		return
	case <-timer.C:
	}
	w.ending.Store(true)
	w.mu.Lock()
	for _, a := range w.running {
		a.end(jobs.ErrShutdown)
	}
	w.mu.Unlock()
	<-finished
}

// leave takes the worker off every list. What it could not hand back is found by
// others once it is silent.
func (w *Worker) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := w.store.Withdraw(ctx, w.presence)
	if left := w.returnAll(ctx); left != nil {
		err = errors.Join(err, left) // still listed, so that its silence is noticed
	} else {
		err = errors.Join(err, w.store.Retire(ctx, w.ownerID()))
	}
	if err != nil {
		w.log.Warn("worker could not take leave", "error", err)
	}
}

// returnAll hands back what Redis says the worker still holds: claims that were
// not answered, and verdicts that Redis could not be given. Nil means that it
// holds nothing.
func (w *Worker) returnAll(ctx context.Context) error {
	var errs []error
	for _, q := range w.queues {
		held, err := w.store.Holdings(ctx, q.name, w.ownerID())
		errs = append(errs, err)
		for _, h := range held.Held {
			err := w.store.HandBack(ctx, h.Hold)
			if !errors.Is(err, jobs.ErrLost) && !errors.Is(err, jobs.ErrNotFound) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
