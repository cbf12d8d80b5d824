// Package history records what was done to jobs, call by call, for a checker to
// judge afterwards. Any number of processes append to one file; the order of its
// lines is the order of the events, so that no clock is asked.
package history

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
)

// The operations of an event.
const (
	Enqueue    = "enqueue"
	Claim      = "claim"
	Commit     = "commit"     // of a step
	Settle     = "settle"     // a verdict
	Unanswered = "unanswered" // a command that Redis executed and whose answer was withheld
)

// The outcomes of an event that returned.
const (
	OK        = "ok"
	Duplicate = "duplicate" // an enqueue found the key taken
	Refused   = "refused"   // a stale write
	Gone      = "gone"      // there is no such job
	Unknown   = "unknown"   // an error that leaves open what happened
)

// Event is one line: a call that is about to be made (Outcome is empty) or one
// that has returned. A claim returns once for each job it took.
type Event struct {
	ID      string            `json:"id"` // equal for a call and its return
	Op      string            `json:"op"`
	Key     string            `json:"key,omitempty"`
	Token   string            `json:"token,omitempty"`
	Run     int               `json:"run,omitempty"`     // the execution, from 1
	What    string            `json:"what,omitempty"`    // the step, or the verdict
	Value   string            `json:"value,omitempty"`   // digest of a step's output
	Steps   map[string]string `json:"steps,omitempty"`   // what a claim found recorded: digests by step
	Outcome string            `json:"outcome,omitempty"` // empty: about to be made
}

// Digest stands for a value in an event.
func Digest(value []byte) string {
	sum := sha256.Sum256(value)
	return hex.EncodeToString(sum[:8])
}

// File is a history that is being written. It is safe for concurrent use.
type File struct {
	file    *os.File
	process string
	calls   atomic.Int64
}

// Open opens or creates the history at path to append to it.
func Open(path string) (*File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	return &File{file: f, process: strings.ToLower(rand.Text()[:10])}, nil
}

// Call writes an event with a new ID, and returns the event with it. When that
// fails the call must not be made.
func (f *File) Call(e Event) (Event, error) {
	e.ID = fmt.Sprintf("%s-%d", f.process, f.calls.Add(1))
	return e, f.Add(e)
}

// Add writes an event.
func (f *File) Add(e Event) error {
	text, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	// The line's end comes first, so that what a killed process left half written
	// spoils no line but its own.
	if _, err := f.file.Write(append([]byte{'\n'}, text...)); err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	return nil
}

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }

// Read returns the events in order. A line that a killed process left half
// written is no event.
func Read(path string) ([]Event, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	var events []Event
	for line := range bytes.Lines(text) {
		var e Event
		if json.Unmarshal(line, &e) == nil {
			events = append(events, e)
		}
	}
	return events, nil
}
