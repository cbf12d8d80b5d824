package jobstest

import (
	"maps"
	"slices"
	"testing"

	"github.com/perdure/perdure/jobs"
)

// Engine plays a workflow elsewhere than in memory; see package onredis.
type Engine interface {
	// Play runs the job to its end, or to where it waits for a signal in vain, and
	// returns its state and its result. The execution that comes to the script's point
	// is cut off there, and another one resumes the job. What keeps it from playing
	// fails the test.
	Play(t testing.TB, script Script) (state jobs.State, result []byte)
}

// Script is what an [Engine] plays.
type Script struct {
	Handler  jobs.Handler
	Children []jobs.Handler
	Key      string
	Payload  []byte // encoded
	Version  int    // of the kind that the payload was made for
	Signals  map[string][]byte
	Faults   map[string][]error // what the next executions of a step fail with
	At       Point              // zero: nowhere
}

// Option changes how [CrashEverywhere] runs a workflow.
type Option func(*settings)

type settings struct{ engine Engine }

// On plays the crashes on an engine. Where the workflow may crash is learned in
// memory all the same.
func On(e Engine) Option { return func(s *settings) { s.engine = e } }

// script is what the job is before it runs.
func (j *Job) script() Script {
	if len(j.faked) > 0 {
		j.t.Fatalf("jobstest: how a child ends can be made up in memory only: give the world its handler in Children")
	}
	children := []jobs.Handler{}
	for _, kind := range slices.Sorted(maps.Keys(j.served)) {
		children = append(children, j.served[kind])
	}
	return Script{
		Handler: j.handler, Children: children, Key: j.key, Payload: j.payload, Version: j.version,
		Signals: maps.Clone(j.signals), Faults: maps.Clone(j.faults), At: j.cut,
	}
}
