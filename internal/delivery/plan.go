package delivery

import (
	"errors"
	"fmt"
	"time"

	"github.com/perdure/perdure/jobs"
)

// PlanState is where a replay plan stands.
type PlanState string

// The states of a plan.
const (
	PlanSelecting PlanState = "selecting" // its entries are being chosen
	PlanRunning   PlanState = "running"
	PlanPaused    PlanState = "paused"  // by somebody, until resumed
	PlanStopped   PlanState = "stopped" // by itself: the failure is back; until resumed
	PlanAborted   PlanState = "aborted" // for good; what was not replayed stays quarantined
	PlanDone      PlanState = "done"
)

// Ended reports that a plan does nothing any more.
func (s PlanState) Ended() bool { return s == PlanAborted || s == PlanDone }

// The bounds of a plan's rate, in entries a second.
const (
	DefaultPlanRate = 20
	MinPlanRate     = 0.01
	MaxPlanRate     = 5000
)

// maxPlanMost bounds PlanRequest.Most.
const maxPlanMost = 100_000_000

// PlanRequest asks for a replay plan over the entries of one queue that a filter
// selects and that are in quarantine when it is made.
type PlanRequest struct {
	// ID names the plan, 1 to 128 letters, digits, '.', '_' or '-'. The same ID again is
	// the same plan, whatever else is asked. Empty: a random one.
	ID        string     `json:"id"`
	Queue     string     `json:"queue"`
	Filter    DeadFilter `json:"filter"`
	FromStart bool       `json:"from_start"` // forget recorded steps; else from the failed step
	Rate      float64    `json:"rate"`       // entries a second at most, 0.01 to 5000; 0: 20
	// NoCanary replays all at the rate from the beginning; else 1 and then 10 entries go
	// ahead, and the others follow when none of those came back.
	NoCanary bool `json:"no_canary"`
	// KeepGoing goes on when the same failure returns.
	KeepGoing bool `json:"keep_going"`
	// Most is how many entries it takes, those that are there longest; 0: all of them.
	Most int `json:"most,omitempty"`
	// Kept is how long the plan is known after its end, in whole seconds; 0: 90 days.
	Kept time.Duration `json:"-"`
}

// Check returns an error matching [jobs.ErrInvalid] when the request cannot be one.
func (r PlanRequest) Check() error {
	if err := errors.Join(jobs.CheckQueue(r.Queue), r.CheckSpeed()); err != nil {
		return err
	}
	if r.ID != "" {
		if err := CheckPlanID(r.ID); err != nil {
			return err
		}
	}
	return r.Filter.Check()
}

// CheckSpeed returns an error matching [jobs.ErrInvalid] when a bound of the plan
// cannot be one, wherever its entries are.
func (r PlanRequest) CheckSpeed() error {
	if r.Rate != 0 && !(r.Rate >= MinPlanRate && r.Rate <= MaxPlanRate) {
		return &jobs.InvalidError{Field: "rate", Value: r.Rate, Bound: fmt.Sprintf("from %v to %v entries a second", MinPlanRate, MaxPlanRate)}
	}
	if r.Most < 0 || r.Most > maxPlanMost {
		return &jobs.InvalidError{Field: "most", Value: r.Most, Bound: fmt.Sprintf("from 0 to %d entries", maxPlanMost)}
	}
	return nil
}

// CheckPlanID returns an error matching [jobs.ErrInvalid] for what cannot name a plan.
func CheckPlanID(id string) error {
	for _, c := range id {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			id = ""
			break
		}
	}
	if id == "" || len(id) > 128 {
		return &jobs.InvalidError{Field: "plan", Value: id, Bound: "1 to 128 letters, digits, '.', '_' or '-'"}
	}
	return nil
}

// Plan is a replay that goes on by itself, whichever scheduler runs, until each of
// its entries was replayed once.
type Plan struct {
	PlanRequest
	State   PlanState `json:"state"`
	Why     string    `json:"why,omitempty"` // it is paused, stopped or aborted
	By      string    `json:"by"`            // who asked for it, and why
	Created time.Time `json:"created"`
	Ended   time.Time `json:"ended,omitzero"`
	Stage   string    `json:"stage"` // "1", "10" or "all": how many go ahead now

	Selected int64 `json:"selected"` // so far, while it selects
	Skipped  int64 `json:"skipped"`  // not replayed: changed or gone since, erased or unreadable
	Left     int64 `json:"left"`     // to be replayed
	Replayed int64 `json:"replayed"`

	UnderWay  int64 `json:"under_way"` // replayed and not ended
	Completed int64 `json:"completed"`
	Cancelled int64 `json:"cancelled"`
	Returned  int64 `json:"returned"` // to quarantine, with the same signature
	Failed    int64 `json:"failed"`   // to quarantine, with another
	Gone      int64 `json:"gone"`     // forgotten, discarded, deleted or replayed by others since

	// For whoever runs it.
	Cursor string `json:"-"` // how far it has selected
}

// PlanStep is what one step of a plan did.
type PlanStep struct {
	State    PlanState
	Replayed int
	More     bool // there is more to do at once
}
