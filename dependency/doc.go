// Package dependency is a worker's side of what the fleet knows of the services that
// jobs need: it keeps the fleet's view of each breaker at hand, so that a call that is
// made costs nothing, counts how calls end and votes with that, asks where there is a
// limit, and holds jobs whose service is gone. Where a breaker stands is decided by
// scripts of the store; jobs that wait are sent back by the scheduler.
package dependency
