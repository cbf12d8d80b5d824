package jobs

import (
	"encoding/json"
	"slices"
	"time"
)

// State is where a job stands. Each accepted key is in exactly one state until
// its retention ends. A state that this version does not know reads as
// [StateUnknown], never as a panic.
type State string

// UnmarshalText reads a state; one that this version does not know becomes
// [StateUnknown]. Empty stays empty.
func (s *State) UnmarshalText(text []byte) error {
	*s = State(text)
	if *s != "" && !slices.Contains(States(), *s) {
		*s = StateUnknown
	}
	return nil
}

// The states, as design.md §4 lists them.
const (
	StateUnknown     State = "unknown"
	StateScheduled   State = "scheduled"   // waits for its delay or time
	StatePending     State = "pending"     // waits for a worker
	StateRunning     State = "running"     // an attempt owns it
	StateRetrying    State = "retrying"    // waits for its next attempt after a failure
	StatePaused      State = "paused"      // parked on a dependency, a timer, a signal or an operator
	StateQuarantined State = "quarantined" // isolated with its whole story; kept until replayed or discarded
	StateCompleted   State = "completed"   // done; result kept until retention ends
	StateCancelled   State = "cancelled"   // ended by a decision; kept until retention ends
)

// States lists every state a job can be found in.
func States() []State {
	return []State{
		StatePending, StateRunning, StateScheduled, StateRetrying, StatePaused,
		StateQuarantined, StateCompleted, StateCancelled,
	}
}

// Ended reports that no attempt will follow unless someone decides so:
// completed, cancelled or quarantined.
func (s State) Ended() bool {
	return s == StateCompleted || s == StateCancelled || s == StateQuarantined
}

// Failure is an error as it is kept with its job.
type Failure struct {
	Class   Class     `json:"class"`
	Rule    string    `json:"rule"`            // which rule of the classification matched
	Message string    `json:"message"`         // at most 1 KiB, control characters and URL queries removed
	Step    string    `json:"step,omitempty"`  // the step it came out of, if any
	Stack   string    `json:"stack,omitempty"` // of a panic, at most 8 KiB
	At      time.Time `json:"at"`
	Worker  string    `json:"worker"`  // host:pid of the worker
	Attempt int       `json:"attempt"` // the execution that failed, from 1
}

// StepInfo is what is known of one step of a job.
type StepInfo struct {
	Name    string          `json:"name"`
	State   string          `json:"state"` // "done" or "in progress" (progress was saved, the step has not ended)
	Started time.Time       `json:"started,omitzero"`
	Ended   time.Time       `json:"ended,omitzero"`
	Attempt int             `json:"attempt,omitempty"` // the execution that recorded it
	Output  json.RawMessage `json:"output,omitempty"`  // only in [Client] answers that ask for data
}

// Waiting says what a paused job waits for, or that a pending one waits its turn
// among the jobs of other tenants.
type Waiting struct {
	Type  string    `json:"type"` // "timer", "signal", "children", "kind", "version", "isolation"; "turn"
	Name  string    `json:"name"` // what exactly: "unavailable: connection refused"
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"` // when it wakes at the latest
}

// UndoInfo says what of a job is undone, of the steps with a [Compensate].
type UndoInfo struct {
	Outcome State     `json:"outcome"`          // what the job ends as, or has ended as
	Reason  string    `json:"reason,omitempty"` // while it is being undone: why
	Since   time.Time `json:"since,omitzero"`   // while it is being undone
	Undone  []string  `json:"undone"`
	Left    []string  `json:"left"` // the next one to be undone first
}

// Info is a job as it stands: what `perdure job get` and the HTTP API show.
type Info struct {
	Queue       string          `json:"queue"`
	Key         string          `json:"key"`
	Kind        string          `json:"kind"`
	Incarnation string          `json:"incarnation"`
	Tenant      string          `json:"tenant,omitempty"`
	State       State           `json:"state"`
	Version     int             `json:"version"`         // of the kind, pinned at the first attempt; 0 before it
	Attempts    int             `json:"attempts"`        // attempts used: those that count against the schedule
	Runs        int             `json:"runs"`            // executions begun, whatever became of them
	Round       int             `json:"round,omitempty"` // how often it has continued with another payload
	Crashes     int             `json:"crashes"`
	WaitingOn   *Waiting        `json:"waiting_on,omitempty"`
	Parent      *ParentInfo     `json:"parent,omitempty"`   // of a child
	Children    []ChildrenInfo  `json:"children,omitempty"` // by name
	Undo        *UndoInfo       `json:"undo,omitempty"`     // of one that is or was being undone, or has ended with steps that were not
	Steps       []StepInfo      `json:"steps"`
	Failures    []Failure       `json:"failures"` // oldest first: the first, and the last 10
	Result      json.RawMessage `json:"result,omitempty"`
	EnqueuedAt  time.Time       `json:"enqueued_at,omitzero"`
	DueAt       time.Time       `json:"due_at,omitzero"`        // scheduled, retrying, paused: when it is next looked at
	ExpiresAt   time.Time       `json:"expires_at,omitzero"`    // completed, cancelled: when key and result are forgotten
	CancelAsked bool            `json:"cancel_asked,omitempty"` // someone asked to cancel a running job
	PauseAsked  bool            `json:"pause_asked,omitempty"`  // someone asked to pause it; it pauses when its execution ends

	raw []byte // the result as stored, for Kind.Result
}

// WithResult returns the Info carrying a result in its stored form. The Result
// shown is that form when it is JSON, else its base64 text in a JSON string.
func (i Info) WithResult(stored []byte) Info {
	i.raw = stored
	if len(stored) == 0 {
		return i
	}
	if json.Valid(stored) {
		i.Result = stored
	} else {
		i.Result, _ = json.Marshal(stored)
	}
	return i
}

// LastFailure returns the most recent failure, or nil.
func (i Info) LastFailure() *Failure {
	if len(i.Failures) == 0 {
		return nil
	}
	return &i.Failures[len(i.Failures)-1]
}
