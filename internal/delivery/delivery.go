// Package delivery is the contract between the store and those who drive it:
// what a claim hands to a worker, the proof that the worker still owns it, and
// the verdict that ends it. Applications never see it.
package delivery

import (
	"cmp"
	"slices"
	"time"

	"github.com/perdure/perdure/jobs"
)

// Hold is the proof that one attempt owns one job. The token is compared whole
// by every script that writes; it is never looked up by key.
type Hold struct {
	Queue string
	Key   string
	Token string // <n>-<owner>-<seq>, never repeated
}

// Delivery is a claimed job: asynq's message and perdure's record in one.
type Delivery struct {
	Hold
	Kind        string
	Payload     []byte
	Headers     map[string]string // the producer's own
	Incarnation string
	Tenant      string
	Run         int // this execution, from 1
	Round       int // how often it has continued with another payload
	Attempts    int // attempts used before this execution
	Crashes     int
	Waits       int // pauses in a row before this execution
	Version     int // pinned by the first attempt; 0 before it
	Encoded     int // version of the kind that the payload was made for; 0: not known

	CrashedAlone int // crashes of a process that ran nothing else

	Child bool // of a job that is told when this one has ended

	Failures    []jobs.Failure
	Steps       map[string][]byte // recorded outputs by step
	Progress    map[string][]byte // saved progress by step; "" is outside of any step
	Timeout     time.Duration     // of the attempt; 0: the kind's
	Deadline    time.Time         // zero: none
	Retention   time.Duration     // 0: forget the job when it ends (a stock task without retention)
	MaxAttempts int               // bound set by a stock producer; 0: the kind's schedule alone
	Ready       time.Time         // since when it could have been claimed; zero: unknown
	Claimed     time.Time         // by Redis' clock

	// CancelAsked says who asked to cancel it before this execution, and why; empty:
	// nobody.
	CancelAsked string

	Pass *Pass // with which it was sent back by a dependency or a limit; nil: none

	Undoable map[string]int // recorded steps that can be undone, and how many such were recorded up to each
	Undone   map[string]int // how often a step was undone and begun anew
	Undo     *Undo          // it is being undone; nil: it is not

	// Undecodable says why the message cannot be read; such a delivery can only
	// be quarantined.
	Undecodable error
	// Message is the message as stored, for the store.
	Message []byte
}

// Outcome is how an execution ends.
type Outcome string

// The outcomes. Each is one script.
const (
	Complete   Outcome = "complete"   // keep the result until retention ends
	Retry      Outcome = "retry"      // run again after Delay; one attempt used
	Pause      Outcome = "pause"      // park for at most Delay; no attempt used
	Quarantine Outcome = "quarantine" // isolate with its story
	Cancel     Outcome = "cancel"     // end it as decided
	HandBack   Outcome = "handback"   // to the head of the queue; nothing used
	Park       Outcome = "park"       // wait for what the handler waits for; no attempt used
	Continue   Outcome = "continue"   // begin anew with another payload; no attempt used
	Takeback   Outcome = "takeback"   // undo its steps, and end it as Undo says; no attempt used
	Suspect    Outcome = "suspect"    // it took its isolated process with it; run it so again after Delay
)

// Verdict ends an execution. Which fields matter depends on the outcome.
type Verdict struct {
	Outcome Outcome
	Result  []byte        // Complete
	Payload []byte        // Continue
	Failure *jobs.Failure // Retry, Quarantine, Suspect; Pause when a failure led to it
	Delay   time.Duration // Retry, Pause, Suspect: from Redis' now
	Waiting jobs.Waiting  // Pause, Park: Type and Name
	Waits   []string      // Park: the names of the waits that are not over
	Lane    bool          // Pause: in the lane of the dependency or limit that Waiting names, to be sent back from there
	Said    string        // Pause in a lane: what asynq's tools show
	Since   int64         // Pause in a lane: when it first took its place there, ms; 0: now
	Entry   Entry         // Quarantine
	Reason  string        // Cancel
	Actor   string        // Cancel, Quarantine, Takeback: who decided; empty: perdure
	Undo    *Undo         // Takeback
	Undid   bool          // Quarantine, Cancel: a job that was being undone is undone whole
}

// Undo is what becomes of a job once its steps are undone. It is kept in the record
// meanwhile.
type Undo struct {
	Outcome  Outcome   `json:"outcome"` // Cancel or Quarantine
	Reason   string    `json:"reason"`
	Actor    string    `json:"actor,omitempty"` // Cancel: who decided; empty: perdure
	Entry    Entry     `json:"entry,omitzero"`  // Quarantine
	Since    time.Time `json:"since"`
	Attempts int       `json:"attempts"` // used before
}

// ToUndo returns the recorded steps that are to be undone, the last one first.
func (d Delivery) ToUndo() []string {
	steps := []string{}
	for step := range d.Undoable {
		if _, done := d.Steps["undo/"+step]; !done {
			steps = append(steps, step)
		}
	}
	slices.SortFunc(steps, func(a, b string) int { return cmp.Compare(d.Undoable[b], d.Undoable[a]) })
	return steps
}

// Batch is what one claim returns.
type Batch struct {
	Deliveries []Delivery
	Paused     bool // the queue is paused; nothing was claimed
	Fenced     bool // the owner was declared dead; it must take a new identity
	Dropped    int  // entries of the pending list that stood for no claimable job
	Emptied    bool // nothing claimable is left in the queue
	Suspects   int  // jobs met that may only run isolated; they wait for that now
	Alone      bool // the suspects that are left may run only in a worker that runs nothing else
}

// Checkpoint is a step's end.
type Checkpoint struct {
	Step     string
	Output   []byte
	Run      int
	Elapsed  time.Duration
	Undoable bool // it has a way to be undone
}

// Holding is one entry of an owner's list in a queue.
type Holding struct {
	Hold
	Asked error // jobs.ErrCancelled or jobs.ErrPaused: somebody wants the execution to end
}

// Holdings are what Redis says that an owner holds in a queue.
type Holdings struct {
	Held     []Holding
	Fenced   bool // the owner was declared dead; it holds nothing
	Suspects int  // jobs of the queue that wait to be run isolated, by any worker
}

// Presence is what a worker says of itself to asynq's tools.
type Presence struct {
	Host           string
	PID            int
	ID             string
	Concurrency    int
	Queues         map[string]int
	StrictPriority bool
	Status         string // "active", "stopped"
	Started        time.Time
	Active         []ActiveJob
}

// ActiveJob is one running job of a [Presence].
type ActiveJob struct {
	Queue, Key, Kind string
	Started          time.Time
	Deadline         time.Time
}

// PublishedKind is what workers say of a kind, for the commands and the API.
type PublishedKind struct {
	Name       string        `json:"name"`
	Queue      string        `json:"queue"`
	Version    int           `json:"version"`
	Schema     string        `json:"schema"`
	Timeout    time.Duration `json:"timeout"` // nanoseconds
	Retention  time.Duration `json:"retention"`
	MaxPayload int           `json:"max_payload"`
	Needs      []string      `json:"needs,omitempty"`
	At         time.Time     `json:"at"` // when a worker last said so
}

// Census is what a census has found: the jobs that were not where they should be,
// by queue and by what was wrong. All of it was put right.
type Census struct {
	At    time.Time                 `json:"at"`
	Took  time.Duration             `json:"took"`  // nanoseconds
	Jobs  int                       `json:"jobs"`  // looked at
	Drift map[string]map[string]int `json:"drift"` // empty: nothing was wrong
	Age   time.Duration             `json:"-"`     // since then, by Redis' clock
}

// Promoted is what a look at a queue's waiting jobs has come to.
type Promoted struct {
	Moved int           // due jobs that are in the queue now
	Next  time.Duration // until the next one is due; negative: none waits
	Mail  bool          // jobs of the queue have something to tell other jobs, to be relayed
	Waits bool          // jobs may wait for a dependency or a limit, or the queue may be paused for one
}

// Tally is a queue in numbers.
type Tally struct {
	Queue    string
	States   map[jobs.State]int64 // cancelled jobs count as completed
	Accepted int64                // ever: those that are there, and those that are gone by now
}
