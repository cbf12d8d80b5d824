// Package worker runs jobs: it claims them from the queues, runs each attempt in
// a goroutine of its own, records steps the moment they end, and ends every
// attempt with exactly one verdict.
//
// One job walks through the package like this: the dispatcher (dispatch.go)
// claims it when a slot is free; supervise (attempt.go) runs its handler and
// watches over it; the verdict (verdict.go) follows from what came back and from
// the kind's policy; settle sends it until Redis has answered. Beats (beats.go)
// say that the worker lives and compare what Redis says it holds with what it
// really runs.
package worker
