// Package fault makes calls to Redis fail, for tests and chaos runs: before they
// ran, so that Redis never saw them, or after, so that Redis has executed them and
// only the answer is lost. The caller sees an error of the network either way, and
// must not need to know which it was. A call may also be executed twice, as when
// the network or a client sends it again.
//
// A hook fails calls by plan, or at random, or both:
//
//	h := fault.New(fault.Options{Seed: 1, After: 0.01, Script: store.ScriptName})
//	client.AddHook(h)
//	h.Fail("claim", 3, fault.After) // the third claim from now
//	…
//	h.Counts() // what it did, by name
package fault
