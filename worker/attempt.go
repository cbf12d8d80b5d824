package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// attempt is one execution of one job. It implements [jobs.Attempt].
type attempt struct {
	w       *Worker
	d       delivery.Delivery
	handler jobs.Handler
	log     *slog.Logger
	ctx     context.Context
	cancel  context.CancelCauseFunc
	begun   time.Time
	slotted bool // it occupies one of the worker's slots

	decided atomic.Bool // a verdict is on its way, from the handler's return or without it
	leaving atomic.Bool // it was told at a boundary that the worker stops

	mu      sync.Mutex
	entered map[string]bool
	steps   map[string][]byte
	waits   map[string]jobs.Wait // that are not over
	room    room

	needs
}

var _ jobs.Attempt = (*attempt)(nil)

// begin starts an execution; the caller has made sure that a slot is free.
func (w *Worker) begin(d delivery.Delivery) {
	w.slots <- struct{}{}
	a := w.enroll(d, true)
	w.work.Add(1)
	go func() {
		defer a.cancel(nil)
		a.supervise(w.work.Done)
	}()
}

// enroll puts an execution on the list of what the worker runs.
func (w *Worker) enroll(d delivery.Delivery, slotted bool) *attempt {
	a := w.newAttempt(d)
	a.slotted = slotted
	w.mu.Lock()
	w.running[d.Hold] = a
	w.mu.Unlock()
	w.metrics.running.Inc()
	if !d.Ready.IsZero() {
		w.metrics.start.WithLabelValues(d.Kind).Observe(max(d.Claimed.Sub(d.Ready), 0).Seconds())
	}
	return a
}

// finish ends what the worker knows of an attempt that has its verdict.
func (w *Worker) finish(a *attempt) {
	w.forget(a)
	w.free(a)
}

// free frees an attempt's slot; it runs once the handler has returned, however
// late.
func (w *Worker) free(a *attempt) {
	w.metrics.running.Dec()
	if a.slotted {
		<-w.slots
		w.signal()
	}
}

// forget takes an attempt off the list of what the worker runs.
func (w *Worker) forget(a *attempt) {
	w.mu.Lock()
	delete(w.running, a.d.Hold)
	w.mu.Unlock()
}

func (w *Worker) newAttempt(d delivery.Delivery) *attempt {
	a := &attempt{w: w, d: d, begun: time.Now(), entered: map[string]bool{}, steps: d.Steps, waits: map[string]jobs.Wait{}}
	if a.d.Undoable == nil {
		a.d.Undoable = map[string]int{}
	}
	a.room = roomOf(d)
	a.handler, _ = w.handlerOf(d.Kind, d.Version)
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier(d.Headers))
	a.log = w.log.With("queue", d.Queue, "job", d.Key, "kind", d.Kind, "attempt", d.Run)
	if id := trace.SpanContextFromContext(ctx); id.HasTraceID() {
		a.log = a.log.With("trace", id.TraceID().String())
	}
	a.ctx, a.cancel = context.WithCancelCause(jobs.WithAttempt(ctx, a))
	return a
}

// code is a version of a kind: what a job that has begun goes on in.
type code struct {
	kind    string
	version int
}

func codeOf(h jobs.Handler) code { return code{h.Definition.Name, h.Definition.Version} }

// handlerOf returns what runs a kind, in the version that a job began in; 0: it has
// not begun, the newest does.
func (w *Worker) handlerOf(kind string, version int) (jobs.Handler, bool) {
	newest, known := w.newest[kind]
	if !known && w.options.Fallback != nil {
		return *w.options.Fallback, true
	}
	if version == 0 {
		version = newest
	}
	h, ok := w.handlers[code{kind, version}]
	return h, ok
}

// end cancels the handler's context with a cause.
func (a *attempt) end(cause error) { a.cancel(cause) }

type outcome struct {
	result []byte
	err    error
}

// supervise runs the handler and settles what it returns; settled is called once
// the verdict is in. When the handler goes on although its context has ended, the
// job is settled without it.
func (a *attempt) supervise(settled func()) {
	if v, refused := a.refuse(); refused {
		a.settle(v)
		a.w.finish(a)
		settled()
		return
	}
	ctx, cancel := context.WithTimeout(a.ctx, a.timeout())
	defer cancel()
	unwatch := context.AfterFunc(ctx, func() { a.grace(ctx, settled) })
	result, err := a.handler.Run(ctx, a.d.Payload)
	unwatch()
	if !a.decided.CompareAndSwap(false, true) {
		a.w.countStuck(-1)
		a.log.Warn("abandoned handler returned", "after", time.Since(a.begun), "error", err)
		a.w.free(a)
		return
	}
	a.settle(a.verdict(outcome{result, err}))
	a.w.finish(a)
	settled()
}

// grace gives a handler whose context has ended a while to return.
func (a *attempt) grace(ctx context.Context, settled func()) {
	time.AfterFunc(a.w.options.Grace, func() {
		if a.decided.CompareAndSwap(false, true) {
			a.abandon(context.Cause(ctx))
			settled()
		}
	})
}

// abandon settles a job without its handler. The slot stays taken until the
// handler returns; what it writes is refused.
func (a *attempt) abandon(cause error) {
	a.log.Error("handler ignores the end of its context; its late writes will be refused", "cause", cause, "since", time.Since(a.begun))
	a.w.countStuck(1)
	a.settle(a.verdict(outcome{err: cause}))
	a.w.forget(a)
}

// timeout is the attempt's: the job's own where it has one, cut by its deadline.
func (a *attempt) timeout() time.Duration {
	limit := a.handler.Definition.Timeout
	if a.d.Timeout > 0 {
		limit = a.d.Timeout
	}
	if limit <= 0 {
		limit = jobs.DefaultTimeout
	}
	if !a.d.Deadline.IsZero() && a.d.Undo == nil {
		limit = min(limit, a.d.Deadline.Sub(a.now()))
	}
	return limit
}

// now is Redis' time: when the job was claimed, plus what has passed since.
func (a *attempt) now() time.Time { return a.d.Claimed.Add(time.Since(a.begun)) }

// settle sends a verdict until Redis has answered. The scripts know a verdict
// that is sent twice, so an unknown outcome is simply asked again.
func (a *attempt) settle(v delivery.Verdict) {
	a.d.Version = max(a.d.Version, a.handler.Definition.Version)
	a.endCalls(v)
	var err error
	for wait := 50 * time.Millisecond; ; wait = min(wait*2, 2*time.Second) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err = a.w.store.Settle(ctx, a.d, v)
		cancel()
		if err == nil || errors.Is(err, jobs.ErrLost) || errors.Is(err, jobs.ErrNotFound) {
			break
		}
		a.log.Warn("verdict is not in yet; sending it again", "outcome", v.Outcome, "error", err)
		if a.hopeless() {
			a.log.Error("stopping without redis; another worker resumes the job from its last step", "outcome", v.Outcome)
			return
		}
		time.Sleep(wait)
	}
	a.report(v, err)
	if err == nil {
		a.tell(v)
	}
	if errors.Is(err, jobs.ErrLost) {
		a.absolve()
	}
}

// absolve takes back the crash that was counted when the job was reclaimed from
// this worker: it lives. That it does not succeed costs the job at most a run in
// isolation.
func (a *attempt) absolve() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := a.w.store.Absolve(ctx, a.d.Hold); err != nil {
		a.log.Warn("cannot take a wrongly counted crash back", "error", err)
	}
}

// hopeless reports that the worker stops and has waited for Redis long enough.
func (a *attempt) hopeless() bool {
	return a.w.ending.Load()
}

func (a *attempt) report(v delivery.Verdict, err error) {
	outcome, class := string(v.Outcome), ""
	if v.Failure != nil {
		class = string(v.Failure.Class)
	}
	switch {
	case errors.Is(err, jobs.ErrLost):
		outcome = "stale"
		a.w.metrics.stale.Inc()
		a.log.Warn("verdict refused: another attempt owns the job", "outcome", v.Outcome)
	case errors.Is(err, jobs.ErrNotFound):
		outcome = "gone"
		a.log.Warn("verdict refused: the job was deleted while it ran", "outcome", v.Outcome)
	case v.Failure != nil:
		a.log.Warn("job failed", "outcome", v.Outcome, "class", class, "rule", v.Failure.Rule, "step", v.Failure.Step, "error", v.Failure.Message, "in", v.Delay)
	default:
		a.log.Info("job ended", "outcome", v.Outcome, "took", time.Since(a.begun))
	}
	a.w.metrics.jobs.WithLabelValues(a.d.Kind, outcome, class).Inc()
	a.w.metrics.duration.WithLabelValues(a.d.Kind, outcome).Observe(time.Since(a.begun).Seconds())
}

// About implements [jobs.Attempt].
func (a *attempt) About() jobs.About {
	return jobs.About{
		Queue: a.d.Queue, Key: a.d.Key, Kind: a.d.Kind, Incarnation: a.d.Incarnation, Tenant: a.d.Tenant,
		Headers: a.d.Headers, Attempt: a.d.Run, Round: a.d.Round, PayloadVersion: a.d.Encoded,
	}
}

// Definition implements [jobs.Attempt].
func (a *attempt) Definition() jobs.Definition { return a.handler.Definition }

// Enter implements [jobs.Attempt].
func (a *attempt) Enter(step string) ([]byte, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.entered[step] {
		return nil, false, jobs.ErrDuplicateStep
	}
	a.entered[step] = true
	if output, recorded := a.steps[step]; recorded {
		return output, true, nil
	}
	return nil, false, a.boundary()
}

// boundary is where nothing is lost by going on elsewhere: before a step and
// after progress was saved. When the worker stops, the job leaves it here.
func (a *attempt) boundary() error {
	if !a.w.stopping.Load() {
		return nil
	}
	a.leaving.Store(true)
	return jobs.ErrShutdown
}

// Commit implements [jobs.Attempt].
func (a *attempt) Commit(ctx context.Context, step string, output []byte, started time.Time, undoable bool) error {
	return a.record(ctx, delivery.Checkpoint{Step: step, Output: output, Run: a.d.Run, Elapsed: time.Since(started), Undoable: undoable})
}

func (a *attempt) record(ctx context.Context, c delivery.Checkpoint) error {
	if err := a.roomFor(c.Step, c.Output, true); err != nil {
		return err
	}
	err := a.write(ctx, func(ctx context.Context) error { return a.w.store.Checkpoint(ctx, a.d.Hold, c) })
	if err == nil || errors.Is(err, jobs.ErrCancelled) || errors.Is(err, jobs.ErrPaused) {
		a.noteRecorded(c)
		a.answered(c.Step)
		a.w.metrics.steps.WithLabelValues(a.d.Kind).Inc()
		a.log.Debug("step recorded", "step", c.Step, "took", c.Elapsed)
	}
	return err
}

// Progress implements [jobs.Attempt].
func (a *attempt) Progress(step string) []byte { return a.d.Progress[step] }

// SaveProgress implements [jobs.Attempt].
func (a *attempt) SaveProgress(ctx context.Context, step string, data []byte) error {
	if err := a.roomFor(step, data, false); err != nil {
		return err
	}
	err := a.write(ctx, func(ctx context.Context) error { return a.w.store.SaveProgress(ctx, a.d.Hold, step, data) })
	if err == nil {
		err = a.boundary()
	}
	return err
}

// Await implements [jobs.Attempt].
func (a *attempt) Await(ctx context.Context, w jobs.Wait) (output []byte, ready bool, err error) {
	err = a.write(ctx, func(ctx context.Context) (err error) {
		output, ready, err = a.w.store.Await(ctx, a.d.Hold, a.d.Run, w)
		return err
	})
	if err == nil && !ready {
		a.mu.Lock()
		a.waits[w.Name] = w
		a.mu.Unlock()
	}
	return output, ready, err
}

// write repeats a write while Redis cannot be reached. An effect may have
// happened already, so a step's record is tried even when the context has just
// ended, once.
func (a *attempt) write(ctx context.Context, send func(context.Context) error) error {
	return a.writeWithin(ctx, 5*time.Second, send)
}

// writeWithin is write for calls that may take longer.
func (a *attempt) writeWithin(ctx context.Context, limit time.Duration, send func(context.Context) error) error {
	for wait := 50 * time.Millisecond; ; wait = min(wait*2, time.Second) {
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
		err := send(call)
		cancel()
		switch {
		case errors.Is(err, jobs.ErrLost):
			a.w.metrics.stale.Inc()
			a.end(jobs.ErrLost)
			return err
		case errors.Is(err, jobs.ErrCancelled):
			a.end(jobs.ErrCancelled)
			return err
		case errors.Is(err, jobs.ErrPaused):
			a.end(jobs.ErrPaused)
			return err
		case errors.Is(err, jobs.ErrShutdown): // in an isolated process: its worker stops
			a.leaving.Store(true)
			return err
		case !errors.Is(err, jobs.ErrUnavailable):
			return err
		}
		a.log.Warn("redis cannot be reached; the record is sent again", "error", err)
		pause(ctx, wait)
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), err)
		}
	}
}
