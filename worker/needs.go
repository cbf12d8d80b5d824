package worker

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/perdure/perdure/dependency"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// needs is what an execution has to do with services and limits.
type needs struct {
	execution *dependency.Call // of what its kind needs, from its beginning to its end

	calls        sync.Mutex
	admitted     bool                // it has been asked whether it may begin
	passed       bool                // its pass has been used
	held         *dependency.Held    // what a step has to wait for; nil: none does
	stepServices map[string][]string // the services of each step that called some
	seen         map[string]bool     // services whose calls steps have counted
	blamed       string              // the service that did not answer; empty: it is not known
	lastFailure  *jobs.Failure       // with which the execution of a job ended that waits for a service now
}

func (w *Worker) newGuard() (*dependency.Guard, error) {
	o := dependency.Options{Owner: w.ownerID, Log: w.log, Registerer: w.options.Registerer, Limits: map[string]jobs.Limit{}}
	for _, h := range w.options.Handlers {
		d := h.Definition
		o.Needs, o.Dependencies = append(o.Needs, d.Needs...), append(o.Dependencies, d.Dependencies...)
		if d.Version == w.newest[d.Name] {
			o.Limits[delivery.KindLimit(d.Name)] = d.Limit
		}
	}
	return dependency.New(w.store, o)
}

// reach says how many jobs of a queue this worker should take: none while it cannot reach
// what all kinds need that it has for the queue, so that others take them; one to find
// out whether it can again.
func (w *Worker) reach(q *queue, most int) int {
	for _, name := range q.needs {
		switch reaches, tries := w.guard.Reaches(name); {
		case tries:
			most = min(most, 1)
		case !reaches:
			return 0
		}
	}
	return most
}

// commonNeeds returns what all kinds need that handlers are for in a queue.
func commonNeeds(handlers []jobs.Handler, queue string) []string {
	var common []string
	first := true
	for _, h := range handlers {
		if h.Definition.Queue != queue {
			continue
		}
		if first {
			common = slices.Clone(h.Definition.Needs)
		}
		common = slices.DeleteFunc(common, func(name string) bool { return !slices.Contains(h.Definition.Needs, name) })
		first = false
	}
	return common
}

// probeStands is how long after its issue a probe may begin.
const probeStands = 4 * time.Second

// pass returns the pass that the job was sent back with, for one of the names, once;
// nil when there is none, or it is too old.
func (a *attempt) pass(names []string) *delivery.Pass {
	p := a.d.Pass
	if p == nil || !slices.Contains(names, p.Name) {
		return nil
	}
	stands := delivery.PassStands
	if p.Probe {
		stands = probeStands
	}
	a.calls.Lock()
	defer a.calls.Unlock()
	if a.passed || a.d.Claimed.Sub(p.Issued) > stands {
		return nil
	}
	a.passed = true
	return p
}

// question asks for names. Of the retries that a service may get, an execution takes one.
func (a *attempt) question(names []string) dependency.Question {
	q := dependency.Question{Names: names, Pass: a.pass(names)}
	a.calls.Lock()
	defer a.calls.Unlock()
	for _, name := range names {
		q.Retry = q.Retry || a.d.Attempts > 0 && !slices.Contains(a.execution.Names(), name)
	}
	return q
}

// admit asks whether the job may begin: what its kind needs, and what limits it.
func (a *attempt) admit() (delivery.Verdict, bool) {
	if a.admitted {
		return delivery.Verdict{}, false
	}
	a.admitted = true
	limits := []string{delivery.KindLimit(a.d.Kind)}
	if a.d.Tenant != "" {
		limits = append(limits, delivery.TenantLimit(a.d.Tenant))
	}
	names := slices.Concat(a.handler.Definition.Needs, a.w.guard.Limited(limits...))
	if a.d.Pass != nil && delivery.IsLimit(a.d.Pass.Name) && !slices.Contains(names, a.d.Pass.Name) && slices.Contains(limits, a.d.Pass.Name) {
		names = append(names, a.d.Pass.Name) // the news of its limit has not come here yet
	}
	call, err := a.w.guard.Begin(a.ctx, a.question(names))
	var held *dependency.Held
	if errors.As(err, &held) {
		return a.hold(held, nil), true
	}
	a.calls.Lock()
	defer a.calls.Unlock()
	a.execution = call
	return delivery.Verdict{}, false
}

// hold is the verdict on a job that has to wait for a dependency or a limit.
func (a *attempt) hold(held *dependency.Held, failure *jobs.Failure) delivery.Verdict {
	v := delivery.Verdict{Outcome: delivery.Pause, Waiting: held.Waiting, Lane: held.Lane, Said: held.Said, Delay: held.Delay, Failure: failure}
	if p := a.d.Pass; p != nil && held.Lane {
		v.Since = p.Since // it keeps its place, also in another line
	}
	return v
}

// Call implements [jobs.Attempt].
func (a *attempt) Call(ctx context.Context, step string, services []string) (func(error), error) {
	question := a.question(services)
	a.calls.Lock()
	question.Of = a.execution
	a.calls.Unlock()
	call, err := a.w.guard.Begin(ctx, question)
	a.tells(services)
	a.calls.Lock()
	defer a.calls.Unlock()
	if a.stepServices == nil {
		a.stepServices, a.seen = map[string][]string{}, map[string]bool{}
	}
	a.stepServices[step] = services
	var held *dependency.Held
	if errors.As(err, &held) {
		a.held = held
		return nil, held
	}
	return func(err error) {
		found := a.told(ctx, services, err)
		reason := ""
		if err != nil {
			reason = jobs.Classify(err).Rule
		}
		call.End(found, reason)
		a.calls.Lock()
		defer a.calls.Unlock()
		for _, name := range services {
			a.seen[name] = a.seen[name] || found(name) != dependency.Nothing
		}
	}, nil
}

// Passed is told of the services of a step that an earlier execution has recorded.
func (a *attempt) Passed(services []string) { a.tells(services) }

// stepCall is a service that steps of a kind say they call.
type stepCall struct{ kind, service string }

// tells notes that steps of the kind say which of them calls a service that it needs: then
// an execution that comes to none of these has not called it.
func (a *attempt) tells(services []string) {
	for _, name := range services {
		if slices.Contains(a.handler.Definition.Needs, name) {
			a.w.stepwise.Store(stepCall{a.d.Kind, name}, true)
		}
	}
}

// toldBySteps reports whether nothing but its steps tells of a service.
func (a *attempt) toldBySteps(name string) bool {
	_, told := a.w.stepwise.Load(stepCall{a.d.Kind, name})
	return told
}

// told says what the error of a call of services tells of each.
func (a *attempt) told(ctx context.Context, services []string, err error) func(string) dependency.Finding {
	switch {
	case err == nil:
		return func(string) dependency.Finding { return dependency.Answered }
	case errors.Is(err, context.Canceled), errors.Is(context.Cause(ctx), context.Canceled), a.ctx.Err() != nil:
		return func(string) dependency.Finding { return dependency.Nothing }
	}
	c := jobs.Classify(err)
	blamed := c.On
	if blamed == "" && len(services) == 1 {
		blamed = services[0]
	}
	return findingOf(c.Class, c.Rule, blamed)
}

// findingOf says what a failure tells of a service. Only what came from a service is its
// answer: a handler may refuse a job before it has called anybody.
func findingOf(class jobs.Class, rule, blamed string) func(string) dependency.Finding {
	answered := slices.ContainsFunc([]string{"http ", "grpc ", "sqlstate "}, func(from string) bool { return strings.HasPrefix(rule, from) })
	return func(name string) dependency.Finding {
		switch {
		case class == jobs.ClassUnavailable || class == jobs.ClassTimeout:
			if name == blamed {
				return dependency.Failed
			}
		case answered:
			return dependency.Answered
		}
		return dependency.Nothing
	}
}

// heldAtStep is the verdict on an execution one of whose steps has to wait for a service.
// When others wait for something else, it looks again soon.
func (a *attempt) heldAtStep() (delivery.Verdict, bool) {
	a.calls.Lock()
	held := a.held
	a.calls.Unlock()
	if held == nil {
		return delivery.Verdict{}, false
	}
	v := a.hold(held, nil)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waits) > 0 {
		v.Delay = min(v.Delay, 5*time.Second)
	}
	return v, true
}

// heldByFailure is the verdict on a job whose service did not answer while others know
// that it is gone, or that has been told to wait.
func (a *attempt) heldByFailure(f jobs.Failure, c jobs.Classification) (delivery.Verdict, bool) {
	name := a.blame(f.Step, c.On)
	if name == "" {
		return delivery.Verdict{}, false
	}
	var held *dependency.Held
	switch {
	case c.Class == jobs.ClassUnavailable:
		if a.blameIt(name) {
			a.w.guard.Note(name, dependency.Failed, f.Rule)
		}
		held = a.w.guard.HeldBy(name)
	case c.Class == jobs.ClassTimeout: // it may be the job's own, unless the service is known to be gone
		a.blameIt(name)
		held = a.w.guard.HeldBy(name)
	case c.Class == jobs.ClassThrottled && c.Rule != "retry after": // which is about the one job
		held = a.w.guard.Throttled(name, max(c.Wait, time.Second), f.Rule)
	}
	if held == nil {
		return delivery.Verdict{}, false
	}
	a.calls.Lock()
	defer a.calls.Unlock()
	a.lastFailure = &f
	if a.d.Pass != nil && a.d.Pass.Probe {
		return a.hold(held, nil), true // it is the service's story, told every second, and not the job's
	}
	return a.hold(held, &f), true
}

// blameIt notes which service did not answer, and reports whether nobody has counted
// that, or will.
func (a *attempt) blameIt(name string) (unheard bool) {
	a.calls.Lock()
	defer a.calls.Unlock()
	a.blamed = name
	return !a.seen[name] && !slices.Contains(a.execution.Names(), name)
}

// answered tells what a probe has found as soon as a step is recorded that does not say
// what it calls, of a kind none of whose steps says that it calls the service. Where one
// does, its own call tells it, and the others have not called it.
func (a *attempt) answered(step string) {
	if needs := a.handler.Definition.Needs; len(needs) != 1 || a.toldBySteps(needs[0]) {
		return
	}
	a.calls.Lock()
	call, says := a.execution, a.stepServices[step] != nil
	a.calls.Unlock()
	if !says {
		call.Answered()
	}
}

// blame returns the service that a failure is about: the one that it names, the only one
// of its step, or the only one of its kind.
func (a *attempt) blame(step, on string) string {
	a.calls.Lock()
	services, called := a.stepServices[step]
	a.calls.Unlock()
	switch {
	case on != "" && jobs.CheckDependency(on) == nil:
		return on
	case !called:
		services = a.handler.Definition.Needs
	}
	if len(services) == 1 {
		return services[0]
	}
	if len(services) > 1 {
		a.log.Debug("cannot tell which service a failure is about; say so with jobs.StepNeeds", "step", step, "services", services)
	}
	return ""
}

// endCalls ends what the execution has begun, as its verdict tells.
func (a *attempt) endCalls(v delivery.Verdict) {
	a.calls.Lock()
	call, passed, blamed, failure := a.execution, a.passed, a.blamed, cmp.Or(v.Failure, a.lastFailure)
	a.execution, a.passed = nil, true
	a.calls.Unlock()
	if p := a.d.Pass; p != nil && p.Probe && !passed {
		a.w.guard.Unprobed(p)
	}
	if call == nil {
		return
	}
	found, reason := func(string) dependency.Finding { return dependency.Nothing }, ""
	switch {
	case v.Outcome == delivery.Complete, v.Outcome == delivery.Continue:
		found = func(string) dependency.Finding { return dependency.Answered }
	case failure != nil:
		if blamed == "" {
			blamed = a.blame(failure.Step, "")
		}
		found = findingOf(failure.Class, failure.Rule, blamed)
		reason = failure.Rule
	}
	call.End(func(name string) dependency.Finding {
		a.calls.Lock()
		defer a.calls.Unlock()
		said := found(name)
		if a.seen[name] || said == dependency.Answered && a.toldBySteps(name) {
			return dependency.Nothing // its steps have told, or it has not come to one of them
		}
		return said
	}, reason)
}

// standings says how each service that the job needs stands, for its quarantine entry.
func (a *attempt) standings() map[string]string {
	names := slices.Clone(a.handler.Definition.Needs)
	a.calls.Lock()
	for _, services := range a.stepServices {
		names = append(names, services...)
	}
	a.calls.Unlock()
	if len(names) == 0 {
		return nil
	}
	all := map[string]string{}
	for _, name := range names {
		s := a.w.guard.Standing(name)
		all[name] = string(s.State)
		if s.State != jobs.DependencyClosed {
			all[name] += " since " + s.Since.UTC().Format(time.RFC3339)
		}
	}
	return all
}
