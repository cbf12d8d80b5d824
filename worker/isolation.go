package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

const (
	childIdles   = 10 * time.Second // how long an isolated process waits for another suspect
	again        = time.Minute      // between two tries to start one, or to have the worker to oneself
	suspectDelay = time.Second      // between two isolated executions of a job
	aloneDeaths  = 2                // so many crashes of a process that ran nothing else are the job's own
)

// suspects notes that a queue has jobs to be run isolated.
func (w *Worker) suspects(q *queue) {
	q.suspects.Store(true)
	select {
	case w.suspect <- struct{}{}:
	default:
	}
}

// isolation runs suspects, one at a time, until ctx ends. A job is one when two
// workers have died while it ran and it recorded no step between. Which of the
// jobs that ran beside each other was the cause is found out here, where a job
// runs by itself: in a process of its own, or alone in this one.
func (w *Worker) isolation(ctx context.Context) {
	lane := &lane{w: w}
	defer lane.closeChild()
	idle := time.NewTimer(childIdles)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-idle.C:
			lane.closeChild()
		case <-w.suspect:
			for _, q := range w.queues {
				if q.suspects.Swap(false) {
					lane.serve(ctx, q)
				}
			}
			idle.Reset(childIdles)
		}
	}
}

// lane is where suspects run.
type lane struct {
	w      *Worker
	child  *child    // nil: none is running
	failed time.Time // when one could not be started
	busy   time.Time // when the worker could not be had alone
}

// serve runs the suspects of a queue until none is left that may run now.
func (l *lane) serve(ctx context.Context, q *queue) {
	for ctx.Err() == nil {
		if !l.ready(ctx) {
			l.serveAlone(ctx, q)
			return
		}
		switch l.next(ctx, q, false) {
		case ranOne:
		case onlyAlone:
			l.serveAlone(ctx, q)
			return
		default:
			return
		}
	}
}

// ready makes sure that there is an isolated process.
func (l *lane) ready(ctx context.Context) bool {
	if l.child != nil || len(l.w.options.Child) == 0 || time.Since(l.failed) < again {
		return l.child != nil
	}
	c, err := startChild(ctx, l.w.options.Child)
	if err != nil {
		l.w.log.Error("cannot start a process for suspects; they run alone in this one", "error", err)
		l.failed = time.Now()
		return false
	}
	l.child = c
	return true
}

func (l *lane) closeChild() {
	if l.child != nil {
		l.child.close()
		l.child = nil
	}
}

// serveAlone runs suspects while nothing else runs in this worker. It gives up
// when that takes longer than a stop would, and tries again a while later. One
// worker of the fleet at a time empties itself for a queue.
func (l *lane) serveAlone(ctx context.Context, q *queue) {
	if time.Since(l.busy) < again {
		return
	}
	release, ok := l.w.reserve(ctx, q)
	defer release()
	if !ok {
		return
	}
	resume, ok := l.w.quiet(ctx)
	defer resume()
	if !ok {
		l.busy = time.Now()
		l.w.log.Warn("suspects wait: this worker's other jobs do not end", "queue", q.name)
		return
	}
	for ctx.Err() == nil && l.next(ctx, q, true) == ranOne {
		l.ready(ctx)
	}
}

// reserve makes this the worker that empties itself for a queue's suspects.
func (w *Worker) reserve(ctx context.Context, q *queue) (release func(), ok bool) {
	ok, err := w.store.Reserve(ctx, q.name, w.name, 2*w.options.ShutdownTimeout+time.Second)
	if err != nil && ctx.Err() == nil {
		w.log.Warn("cannot reserve the right to run suspects alone", "queue", q.name, "error", err)
	}
	if err != nil || !ok {
		return func() {}, false
	}
	return func() {
		if err := w.store.Release(context.WithoutCancel(ctx), q.name); err != nil {
			w.log.Warn("the right to run suspects alone ends by itself", "queue", q.name, "error", err)
		}
	}, true
}

// quiet stops claiming and waits until nothing runs.
func (w *Worker) quiet(ctx context.Context) (resume func(), ok bool) {
	w.claims.Lock() // so that no claim is under way from here on
	w.alone.Store(true)
	w.claims.Unlock()
	taken := 0
	resume = func() {
		for range taken {
			<-w.slots
		}
		w.alone.Store(false)
		w.signal()
	}
	timer := time.NewTimer(w.options.ShutdownTimeout)
	defer timer.Stop()
	for taken < cap(w.slots) {
		select {
		case w.slots <- struct{}{}:
			taken++
		case <-timer.C:
			return resume, false
		case <-ctx.Done():
			return resume, false
		}
	}
	return resume, true
}

type progress int

const (
	ranNone progress = iota
	ranOne
	onlyAlone
)

// next takes one suspect and runs it.
func (l *lane) next(ctx context.Context, q *queue, alone bool) progress {
	a, owner, batch, err := l.w.takeSuspect(ctx, q, alone)
	switch {
	case err != nil:
		if ctx.Err() == nil {
			l.w.log.Warn("cannot take a suspect", "queue", q.name, "error", err)
		}
		return ranNone
	case batch.Fenced:
		l.w.fenced(owner)
		return ranOne // the next one with another identity
	case a == nil && batch.Alone:
		return onlyAlone
	case a == nil:
		return ranNone
	}
	defer a.cancel(nil)
	l.run(a)
	return ranOne
}

func (w *Worker) takeSuspect(ctx context.Context, q *queue, alone bool) (a *attempt, owner string, batch delivery.Batch, err error) {
	w.claims.RLock()
	defer w.claims.RUnlock()
	if owner, err = w.claimant(ctx); err != nil {
		return nil, owner, batch, err
	}
	batch, err = w.store.Isolate(context.WithoutCancel(ctx), q.name, owner, alone)
	if err == nil && len(batch.Deliveries) > 0 {
		a = w.enroll(batch.Deliveries[0], false)
	}
	return a, owner, batch, err
}

// run executes a suspect where it harms nobody else.
func (l *lane) run(a *attempt) {
	a.log.Warn("running a suspect by itself", "crashes", a.d.Crashes, "alone", a.d.CrashedAlone)
	a.w.metrics.isolated.Inc()
	refusal, refused := a.refuse()
	switch {
	case a.d.CrashedAlone >= aloneDeaths:
		a.settle(a.poison(lastCrash(a.d.Failures)))
	case refused:
		a.settle(refusal)
	case l.child == nil:
		settled := make(chan struct{})
		go a.supervise(func() { close(settled) })
		<-settled
		return
	default:
		a.settle(l.runInChild(a))
	}
	a.w.finish(a)
}

// runInChild returns the verdict that the isolated process comes to, or the one
// about its end. A process that has shown anything odd is not used again: what an
// earlier job left behind must not count against the next.
func (l *lane) runInChild(a *attempt) delivery.Verdict {
	if a.d.CrashedAlone > 0 && l.child.used {
		l.closeChild()
		if !l.ready(a.ctx) {
			return delivery.Verdict{Outcome: delivery.HandBack}
		}
	}
	end := l.child.run(a)
	if !end.reusable {
		l.closeChild()
	}
	switch {
	case end.verdict != nil:
		return *end.verdict
	case end.err != nil: // it was ended by us
		return a.verdict(outcome{err: end.err})
	}
	crash := jobs.Failure{
		Class: jobs.ClassCrash, Rule: "isolated process ended", Message: "the isolated process ended: " + end.status, Stack: end.stack,
		At: a.now().UTC(), Worker: a.w.name, Attempt: a.d.Run,
	}
	if a.d.CrashedAlone+1 >= aloneDeaths {
		return a.poison(crash)
	}
	return delivery.Verdict{Outcome: delivery.Suspect, Failure: &crash, Delay: suspectDelay}
}

// poison is the verdict on a job that ends the process it runs in.
func (a *attempt) poison(crash jobs.Failure) delivery.Verdict {
	a.w.metrics.poison.Inc()
	reason := fmt.Sprintf("poison: %d processes that ran nothing else ended while it ran", aloneDeaths)
	return delivery.Verdict{Outcome: delivery.Quarantine, Failure: &crash, Entry: a.entry(crash, reason)}
}

func lastCrash(failures []jobs.Failure) jobs.Failure {
	for i := len(failures) - 1; i >= 0; i-- {
		if failures[i].Class == jobs.ClassCrash {
			return failures[i]
		}
	}
	return jobs.Failure{Class: jobs.ClassCrash, Rule: "isolated process ended", Message: "the worker died while the job ran alone"}
}

var errOverdue = errors.New("the isolated process did not end the job in time")
