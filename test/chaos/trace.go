package chaos

import (
	"fmt"
	"math"
	"strings"

	"github.com/anishathalye/porcupine"

	"github.com/perdure/perdure/internal/history"
)

// never is when a call returns that did not.
const never = math.MaxInt64

// traced is a history by job, and what can be counted without a model.
type traced struct {
	histories                        map[string][]porcupine.Operation
	calls, open, unanswered          int
	refused, gone, repeated, doubled []string

	begun    map[string]int64         // when a call was made, by its ID
	enqueues map[string]history.Event // calls without a sure outcome, by their ID
	writes   map[string]*write
	names    []string // of the writes, in order
	tokens   map[string]bool
}

// write is a step or verdict that an execution wrote, with all the calls it took:
// they are one operation, because sending it again is to change nothing.
type write struct {
	event   history.Event
	call    int64
	back    int64 // of the first good answer
	ok      bool
	pending int // calls without a sure outcome
}

// trace turns events into operations. The number of a line is its time.
func trace(events []history.Event) *traced {
	t := &traced{
		histories: map[string][]porcupine.Operation{}, begun: map[string]int64{}, enqueues: map[string]history.Event{},
		writes: map[string]*write{}, tokens: map[string]bool{},
	}
	for i, e := range events {
		now := int64(i)
		if e.Op == history.Unanswered {
			t.unanswered++
			continue
		}
		if e.Outcome == "" {
			t.calls++
			t.begun[e.ID] = now
		}
		switch e.Op {
		case history.Claim:
			t.claim(e, now)
		case history.Enqueue:
			t.enqueue(e, now)
		default:
			t.write(e, now)
		}
	}
	t.finish()
	return t
}

func (t *traced) add(key string, a act, outcome string, call, back int64) {
	t.histories[key] = append(t.histories[key], porcupine.Operation{Input: a, Output: outcome, Call: call, Return: back})
}

func (t *traced) claim(e history.Event, now int64) {
	if e.Outcome == "" {
		return
	}
	if t.tokens[e.Token+" "+e.Key] {
		t.repeated = append(t.repeated, e.Token+" "+e.Key)
	}
	t.tokens[e.Token+" "+e.Key] = true
	a := act{op: history.Claim, token: e.Token, run: e.Run}
	for i, step := range stepNames {
		a.steps[i] = e.Steps[step]
	}
	t.add(e.Key, a, history.OK, t.begun[e.ID], now)
}

func (t *traced) enqueue(e history.Event, now int64) {
	if e.Outcome == history.OK || e.Outcome == history.Duplicate {
		delete(t.enqueues, e.ID)
		t.add(e.Key, act{op: history.Enqueue}, e.Outcome, t.begun[e.ID], now)
		return
	}
	t.enqueues[e.ID] = e
}

func (t *traced) write(e history.Event, now int64) {
	name := strings.Join([]string{e.Op, e.Key, e.Token, e.What}, " ")
	w := t.writes[name]
	if w == nil {
		w = &write{event: e, call: now, back: never}
		t.writes[name], t.names = w, append(t.names, name)
	}
	switch e.Outcome {
	case "":
		w.pending++
	case history.OK:
		w.pending--
		w.ok, w.back = true, min(w.back, now)
	case history.Refused:
		w.pending--
		t.refused = append(t.refused, name)
	case history.Gone:
		w.pending--
		t.gone = append(t.gone, name)
	}
}

// finish adds what is only known once all lines are read.
func (t *traced) finish() {
	// Of calls that may or may not have made a job the earliest can stand for all: a
	// job is made once, and the others change nothing after it. Checking each would take
	// time that doubles with every one.
	earliest := map[string]int64{}
	for id, e := range t.enqueues {
		t.open++
		if at, known := earliest[e.Key]; !known || t.begun[id] < at {
			earliest[e.Key] = t.begun[id]
		}
	}
	for key, at := range earliest {
		t.add(key, act{op: history.Enqueue}, maybe, at, never)
	}
	committed := map[string]int{}
	for _, name := range t.names {
		w := t.writes[name]
		t.open += w.pending
		a := act{op: w.event.Op, token: w.event.Token, run: w.event.Run, what: w.event.What, value: w.event.Value}
		if a.op == history.Commit {
			if a.step = stepOf(a.what); w.ok {
				committed[w.event.Key+" "+a.what]++
			}
		}
		switch {
		case w.ok:
			t.add(w.event.Key, a, history.OK, w.call, w.back)
		case w.pending > 0:
			t.add(w.event.Key, a, maybe, w.call, never)
		}
	}
	for name, n := range committed {
		if n > 1 {
			t.doubled = append(t.doubled, fmt.Sprintf("%s %d times", name, n))
		}
	}
}
