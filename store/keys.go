package store

import (
	"fmt"
	"time"
)

// asynq's keys (asynq v0.26.0, internal/base), all in the queue's hash slot.

func asynqKey(queue, name string) string { return "asynq:{" + queue + "}:" + name }

func taskKey(queue, key string) string { return asynqKey(queue, "t:"+key) }

func pendingKey(queue string) string   { return asynqKey(queue, "pending") }
func activeKey(queue string) string    { return asynqKey(queue, "active") }
func leaseKey(queue string) string     { return asynqKey(queue, "lease") }
func scheduledKey(queue string) string { return asynqKey(queue, "scheduled") }
func retryKey(queue string) string     { return asynqKey(queue, "retry") }
func archivedKey(queue string) string  { return asynqKey(queue, "archived") }
func completedKey(queue string) string { return asynqKey(queue, "completed") }
func pausedKey(queue string) string    { return asynqKey(queue, "paused") }

func processedKey(queue string) string { return asynqKey(queue, "processed") }
func failedKey(queue string) string    { return asynqKey(queue, "failed") }

func dayKey(counter string, now time.Time) string {
	return counter + ":" + now.UTC().Format("2006-01-02")
}

const (
	queuesKey  = "asynq:queues"
	serversKey = "asynq:servers"
	workersKey = "asynq:workers"
)

func serverKey(host string, pid int, id string) string {
	return fmt.Sprintf("asynq:servers:{%s:%d:%s}", host, pid, id)
}

func serverJobsKey(host string, pid int, id string) string {
	return fmt.Sprintf("asynq:workers:{%s:%d:%s}", host, pid, id)
}

// perdure's own keys. Those of a queue share its hash slot.

func ownKey(queue, name string) string { return "perdure:{" + queue + "}:" + name }

func tokensKey(queue string) string       { return ownKey(queue, "tokens") }     // counter, never deleted
func parkedKey(queue string) string       { return ownKey(queue, "parked") }     // zset: key by the time it was parked (ms)
func suspectsKey(queue string) string     { return ownKey(queue, "suspects") }   // zset: key by the time from which it may run alone (ms)
func forgottenKey(queue string) string    { return ownKey(queue, "forgotten") }  // counter: jobs accepted once and gone by now
func reservedKey(queue string) string     { return ownKey(queue, "reserved") }   // string: the worker that empties itself for suspects
func tenantsKey(queue string) string      { return ownKey(queue, "tenants") }    // set: whose jobs were enqueued here, '-': nobody's
func turnsKey(queue string) string        { return ownKey(queue, "turns") }      // zset: tenant whose jobs may wait their turn, by its round
func queuedKey(queue string) string       { return ownKey(queue, "queued") }     // zset: key of a job that waits its turn by since when (ms)
func deadKey(queue string) string         { return ownKey(queue, "dead") }       // zset: key by the time it was quarantined (ms)
func groupsKey(queue string) string       { return ownKey(queue, "groups") }     // zset: signature by when it was last seen (ms); and the beginning of each group's own keys
func plansKey(queue string) string        { return ownKey(queue, "plans") }      // zset: replay plan by when it was made (ms)
func planningKey(queue string) string     { return ownKey(queue, "planning") }   // set: plans that have not ended
func planKey(queue, id string) string     { return ownKey(queue, "plan:"+id) }   // hash: a plan; and the beginning of its two sets
func eventsKey(queue string) string       { return ownKey(queue, "events") }     // stream of decisions
func sealsKey(queue string) string        { return ownKey(queue, "seals") }      // stream of seals, by the ID of the decision that each seals
func anchorKey(queue string) string       { return ownKey(queue, "anchor") }     // string: the last decision that was moved out, JSON
func reportsKey(queue string) string      { return ownKey(queue, "reports") }    // zset: p:parent of children that have ended, by when (ms)
func orphansKey(queue string) string      { return ownKey(queue, "orphans") }    // zset: key of a cancelled job with children, by when (ms)
func holdsKey(queue string) string        { return ownKey(queue, "holds") }      // hash: reasons why the queue is paused
func lanesKey(queue string) string        { return ownKey(queue, "lanes") }      // set: lanes, '<name> <kind>', in which jobs wait for a dependency or a limit
func laneKey(queue, lane string) string   { return ownKey(queue, "lane:"+lane) } // zset: key by since when it waits (ms)
func probesKey(queue string) string       { return ownKey(queue, "probes") }     // hash: dependency to the pass of the probe that a job of the queue is to be, until it is claimed
func ownerKey(queue, owner string) string { return ownKey(queue, "own:"+owner) } // hash: key to token

// turnKey is a list of the jobs of a tenant that wait their turn, in order: '<pause
// number> <since ms> <key>', as in p:wait.
func turnKey(queue, tenant string) string { return ownKey(queue, "turn:"+tenant) }

// decidedKey is a string of one decision: what its script answered, for ten minutes.
func decidedKey(queue, nonce string) string { return ownKey(queue, "decided:"+nonce) }

// droveKey is a string of what was granted, from a number on: how many jobs were sent
// with it, for ten seconds.
func droveKey(queue, id string, first int) string {
	return ownKey(queue, fmt.Sprintf("drove:%s:%d", id, first))
}

const (
	ownersKey = "perdure:owners" // zset: owner by its last beat (ms)
	kindsKey  = "perdure:kinds"  // hash: kind to what workers say of it
	censusKey = "perdure:census" // string: what the last census found, JSON
	takerKey  = "perdure:taker"  // strings, by purpose: somebody takes the census

	streamsKey = "perdure:streams" // set: streams of decisions that have been sealed, so that none is forgotten with its queue
)

// The three keys of decisions are also those of the streams that no queue has, such as
// perdure:{@dep}:events.

// Keys of the schedules. They share one hash slot, which no queue can have: a queue's
// name has no @.

func cronKey(name string) string { return "perdure:{@cron}:" + name }

func scheduleKey(name string) string         { return cronKey("s:" + name) }        // hash: schedules.go lists its fields
func scheduleTicksKey(name string) string    { return cronKey("ticks:" + name) }    // stream: what became of its ticks
func scheduleDecidedKey(nonce string) string { return cronKey("decided:" + nonce) } // string: as decidedKey

const (
	schedulesKey        = "perdure:{@cron}:names"    // set
	scheduleChangesKey  = "perdure:{@cron}:changes"  // counter
	scheduleEventsKey   = "perdure:{@cron}:events"   // stream of decisions
	scheduleDeclaredKey = "perdure:{@cron}:declared" // zset: schedule by when a process has declared it (ms)
)

// Keys of dependencies and limits. They share one hash slot, which no queue can have.

func depKey(name string) string { return "perdure:{@dep}:" + name }

func dependencyKey(name string) string         { return depKey("d:" + name) }        // hash: dependencies.go lists its fields
func votesKey(name string) string              { return depKey("votes:" + name) }    // hash: owner to what it has seen
func leasesKey(name string) string             { return depKey("leases:" + name) }   // zset: places that are taken, by when they end (ms)
func dependencyDecidedKey(nonce string) string { return depKey("decided:" + nonce) } // string: as decidedKey

const (
	boardKey            = "perdure:{@dep}:board"  // hash: name to where it stands, of those that are not closed or bound something
	dependencyNamesKey  = "perdure:{@dep}:names"  // zset: name by when it was last heard of (ms)
	dependencyEventsKey = "perdure:{@dep}:events" // stream of decisions
	newsChannel         = "perdure:{@dep}:news"   // channel: name of what the board says something new of
)

// firedKey is a zset of a queue: a schedule's ticks, or its triggers, by the last
// instant that has fired (ms).
func firedKey(queue string) string { return ownKey(queue, "fired") }
