package jobstest

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/perdure/perdure/jobs"
)

// World is a workflow and what is around it, made anew for each run.
type World struct {
	Handler  jobs.Handler
	Payload  any
	Children []jobs.Handler     // run the children that it makes; see [Job.Serve]
	Prepare  func(*Job)         // gives signals, makes steps fail; may be nil
	Effects  func() (state any) // what the outside world has come to; compared with reflect.DeepEqual
}

// CrashEverywhere runs a workflow once to learn its steps, waits and children, and then
// once for each moment of each of them, and of those of its children, with a crash there, after which another execution
// resumes it. Each time the job must end as it did without a crash, with the same
// result and the same effects on the world. Where it does not, the test fails and
// the error names the step: most likely its effect is not idempotent, and it should
// give the outside world the [jobs.IdempotencyKey].
//
// world is called for every run and returns everything anew, the outside world
// included.
//
// With [On] the crashes are played on a real Redis.
func CrashEverywhere(t testing.TB, world func() World, options ...Option) {
	t.Helper()
	var s settings
	for _, option := range options {
		option(&s)
	}
	want := play(t, world, Point{}, nil)
	points := want.points
	if len(points) == 0 {
		t.Fatal("jobstest: the workflow has no steps to crash in")
	}
	if s.engine != nil {
		want = play(t, world, Point{}, s.engine)
	}
	for _, at := range points {
		if got := play(t, world, at, s.engine); !got.like(want) {
			t.Errorf("jobstest: after a crash in %v the job ends otherwise%s", at, difference(got, want))
		}
	}
}

// points returns where the job may crash, by what it has done.
func (j *Job) points(child string) (all []Point) {
	for _, step := range j.Steps() {
		for _, when := range []When{BeforeEffect, AfterEffect, AfterRecord} {
			all = append(all, Point{Step: step, When: when, Child: child})
		}
	}
	for _, group := range slices.Sorted(maps.Keys(j.groups)) {
		all = append(all, Point{Step: group, When: AfterMaking, Child: child})
	}
	for _, key := range slices.Sorted(maps.Keys(j.children)) {
		all = append(all, j.children[key].points(key)...)
	}
	return all
}

// played is a run and what came of it.
type played struct {
	points  []Point
	state   jobs.State
	result  string
	effects any
}

// play runs a workflow on an engine; nil: in memory.
func play(t testing.TB, world func() World, at Point, e Engine) played {
	t.Helper()
	w := world()
	job := New(t, w.Handler, w.Payload)
	job.Serve(w.Children...)
	if w.Prepare != nil {
		w.Prepare(job)
	}
	job.CrashAt(at)
	var p played
	if e != nil {
		state, result := e.Play(t, job.script())
		p = played{state: state, result: string(result)}
	} else {
		outcome := job.Run()
		p = played{points: job.points(""), state: outcome.State, result: string(outcome.result)}
	}
	if w.Effects != nil {
		p.effects = w.Effects()
	}
	return p
}

func (p played) like(other played) bool {
	return p.state == other.state && p.result == other.result && reflect.DeepEqual(p.effects, other.effects)
}

func difference(got, want played) string {
	text := ""
	for _, d := range []struct {
		what      string
		got, want any
	}{{"state", got.state, want.state}, {"result", got.result, want.result}, {"effects", got.effects, want.effects}} {
		if !reflect.DeepEqual(d.got, d.want) {
			text += fmt.Sprintf("\n%s: %+v\nwithout the crash: %+v", d.what, d.got, d.want)
		}
	}
	return text
}
