package jobstest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/jobs"
)

// Serve gives the job's children, and theirs, the handlers that run them. They run
// in memory when the job waits for them, and time goes on by what the longest takes.
func (j *Job) Serve(handlers ...jobs.Handler) {
	for _, h := range handlers {
		j.served[h.Definition.Name] = h
	}
}

// EndChild has a child end in a state without being run, for example quarantined, of
// that error. item is "" for [jobs.Spawn] and [jobs.Call], and the item's key for
// [jobs.CallEach].
func (j *Job) EndChild(name, item string, state jobs.State, err error) {
	ended := jobs.Ended{State: state}
	if err != nil {
		failure, _ := jobs.NewFailure(err, j.now, "jobstest", 1)
		ended.Class, ended.Message = failure.Class, failure.Message
	}
	j.faked[jobs.ChildKey(j.key, name, item)] = ended
}

// CompleteChild has a child complete with that result without being run; see
// [Job.EndChild]. A result that is no JSON fails the test.
func (j *Job) CompleteChild(name, item string, result any) {
	j.t.Helper()
	data, err := jobs.JSON.Encode(result)
	if err != nil {
		j.t.Fatalf("jobstest: result of child %q: %v", name, err)
	}
	j.faked[jobs.ChildKey(j.key, name, item)] = jobs.Ended{State: jobs.StateCompleted, Result: data}
}

// Child returns a child that the job has made, for a look at what became of it or to
// signal it. One that was not made, or was not to be run, fails the test.
func (j *Job) Child(name, item string) *Job {
	j.t.Helper()
	child := j.children[jobs.ChildKey(j.key, name, item)]
	if child == nil {
		j.t.Fatalf("jobstest: no child %q of item %q was made; there are %v", name, item, slices.Sorted(maps.Keys(j.children)))
	}
	return child
}

// Outcome returns what has become of the job so far.
func (j *Job) Outcome() Outcome { return j.outcome }

// Children implements [jobs.Attempt].
func (e *execution) Children(_ context.Context, g jobs.Group, wait bool) (ended []jobs.Ended, ready bool, err error) {
	if e.dead.Load() {
		return nil, false, jobs.ErrLost
	}
	ended, all := e.family(g)
	if err := e.crash(g.Name, AfterMaking); err != nil {
		return nil, false, err
	}
	if wait && !all {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.waits[g.Name] = armed(g.Name)
		e.waiting[g.Name] = true
	}
	return ended, wait && all, nil
}

func armed(name string) wait { return wait{Wait: jobs.Wait{Name: name, Type: "children"}} }

// family makes the children of a group that are not made yet, and returns how they
// have ended, and whether all of them have.
func (e *execution) family(g jobs.Group) (ended []jobs.Ended, all bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	all, e.groups[g.Name] = true, true
	for _, job := range g.Jobs {
		outcome, over := e.child(job)
		all = all && over
		ended = append(ended, outcome)
	}
	return ended, all
}

// child makes a child that is not made yet, and returns how it has ended.
func (j *Job) child(job jobs.Job) (jobs.Ended, bool) {
	if ended, faked := j.faked[job.Key]; faked {
		return ended, true
	}
	child := j.children[job.Key]
	if child == nil {
		handler, known := j.served[job.Kind]
		if !known {
			j.t.Fatalf("jobstest: nothing runs child %s of kind %s: give the job its handler with Serve, or say how it ends with EndChild", job.Key, job.Kind)
		}
		child = newJob(j.t, handler, job.Key, job.Payload, job.Version, j.now)
		j.inherit(child)
		j.children[job.Key] = child
	}
	o := child.outcome
	if !o.State.Ended() {
		return jobs.Ended{State: o.State}, false
	}
	ended := jobs.Ended{State: o.State, Result: o.result}
	switch o.State {
	case jobs.StateQuarantined:
		last := o.Failures[len(o.Failures)-1]
		ended.Class, ended.Message = last.Class, last.Message
	case jobs.StateCancelled:
		ended.Message = strings.TrimPrefix(o.Reason, jobs.ErrCancelled.Error()+": ")
	}
	return ended, true
}

// runChildren runs what has not ended of the job's children, as far as it goes.
// They run beside each other, so time goes on by the longest.
func (j *Job) runChildren() {
	var longest time.Time
	for _, key := range slices.Sorted(maps.Keys(j.children)) {
		child := j.children[key]
		if child.outcome.State.Ended() {
			continue
		}
		child.Run()
		if child.now.After(longest) {
			longest = child.now
		}
	}
	if j.run != nil && j.waitsForChildren() {
		j.skip(longest.Sub(j.now))
	}
}

func (j *Job) waitsForChildren() bool {
	for name := range j.run.waiting {
		if j.waits[name].Type == "children" {
			return true
		}
	}
	return false
}

// childrenCanGoOn reports whether some child waits for nothing but to be run.
func (j *Job) childrenCanGoOn() bool {
	for _, child := range j.children {
		if o := child.outcome; !o.State.Ended() && o.State != jobs.StatePaused {
			return true
		}
	}
	return false
}
