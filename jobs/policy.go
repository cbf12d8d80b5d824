package jobs

import (
	"fmt"
	"time"
)

// Action is what becomes of a job after a failure.
type Action int

// The actions.
const (
	ActionQuarantine Action = iota // isolate it with its story
	ActionRetry                    // another attempt after Wait; one attempt used
	ActionPause                    // park it for Wait; no attempt used
)

// Ruling is the policy's answer to a failure.
type Ruling struct {
	Action Action
	Wait   time.Duration
	Reason string // for people: "attempts exhausted (12 of 12)"
}

// Defaults by class, used where the kind sets nothing of its own.
var (
	waitRetry   = Exponential(2*time.Second, time.Minute, 10_000) // unavailable and throttled: by consecutive waits
	panicRetry  = Exponential(time.Second, time.Minute, 4)        // retried three times
	deniedRetry = Exponential(time.Minute, 30*time.Minute, 5)
)

// Rule applies the kind's policy to a failure. used is the number of attempts
// used including this one, ofClass how many failures of this class the job has
// including this one, waits the number of pauses in a row before this one.
func (d Definition) Rule(c Classification, used, ofClass, waits int) Ruling {
	if !c.Class.known() {
		c.Class = ClassUnknown
	}
	switch c.Class {
	case ClassInvalid, ClassExpired:
		if _, own := d.ClassRetry[c.Class]; !own {
			return Ruling{Action: ActionQuarantine, Reason: string(c.Class) + ": trying again cannot help"}
		}
	case ClassUnavailable, ClassThrottled:
		return d.pause(c, waits)
	}
	if schedule, own := d.classSchedule(c.Class); own {
		if wait, more := schedule.Next(ofClass); more {
			return Ruling{Action: ActionRetry, Wait: max(wait, c.Wait)}
		}
		return Ruling{Action: ActionQuarantine, Reason: exhausted("attempts for class "+string(c.Class), ofClass, schedule.Attempts())}
	}
	if wait, more := d.Retry.Next(used); more {
		return Ruling{Action: ActionRetry, Wait: max(wait, c.Wait)}
	}
	return Ruling{Action: ActionQuarantine, Reason: exhausted("attempts", used, d.Retry.Attempts())}
}

func exhausted(what string, n, of int) string {
	return fmt.Sprintf("%s exhausted (%d of %d)", what, n, of)
}

func (d Definition) classSchedule(c Class) (Schedule, bool) {
	if s, ok := d.ClassRetry[c]; ok {
		return s, true
	}
	switch c {
	case ClassPanic:
		return panicRetry, true
	case ClassDenied:
		return deniedRetry, true
	}
	return Schedule{}, false
}

func (d Definition) pause(c Classification, waits int) Ruling {
	schedule, own := d.ClassRetry[c.Class]
	if !own {
		schedule = waitRetry
	}
	wait, more := schedule.Next(waits + 1)
	if !more {
		return Ruling{Action: ActionQuarantine, Reason: exhausted("waits for class "+string(c.Class), waits, schedule.Attempts()-1)}
	}
	if c.Wait > 0 {
		wait = c.Wait
	}
	return Ruling{Action: ActionPause, Wait: wait}
}
