package delivery

import (
	"fmt"
	"strings"
	"time"

	"github.com/perdure/perdure/jobs"
)

// Entry is what the quarantine keeps besides the job itself.
type Entry struct {
	Class     jobs.Class `json:"class"`
	Rule      string     `json:"rule"`
	Reason    string     `json:"reason"` // why it was not tried again
	Kind      string     `json:"kind"`
	Version   int        `json:"version,omitempty"` // of the kind; 0: not known
	Tenant    string     `json:"tenant,omitempty"`
	Step      string     `json:"step,omitempty"`
	Message   string     `json:"message"`
	Signature string     `json:"signature"` // equal for failures of the same sort
	Worker    string     `json:"worker"`
	Trace     string     `json:"trace,omitempty"`
	// Unreadable: the job's message cannot be read, so it cannot be replayed.
	Unreadable bool `json:"unreadable,omitempty"`
	// Dependencies says how each service that the job needs stood at the time.
	Dependencies map[string]string `json:"dependencies,omitempty"`
}

// Signed returns the entry with its signature, computed where it has none.
func (e Entry) Signed() Entry {
	if e.Signature == "" {
		e.Signature = Signature(e.Kind, jobs.Failure{Class: e.Class, Step: e.Step, Message: e.Message})
	}
	return e
}

// Dead is an entry with the job that it is about, as lists show it.
type Dead struct {
	Entry
	Queue  string    `json:"queue"`
	Key    string    `json:"key"`
	At     time.Time `json:"at"`               // when it was quarantined, by Redis' clock
	Erased string    `json:"erased,omitempty"` // who erased its payload and outputs, and why; empty: nobody did
}

// DeadFilter selects entries of one queue. The zero value of a field selects all.
type DeadFilter struct {
	Key       string     `json:"key,omitempty"`
	Kind      string     `json:"kind,omitempty"`
	Class     jobs.Class `json:"class,omitempty"`
	Signature string     `json:"signature,omitempty"`
	Version   int        `json:"version,omitempty"`
	Tenant    string     `json:"tenant,omitempty"`
	Text      string     `json:"text,omitempty"`  // in message, reason, step or key; case does not count
	Since     time.Time  `json:"since,omitzero"`  // quarantined then or later
	Before    time.Time  `json:"before,omitzero"` // quarantined earlier
}

// Match reports whether an entry is selected.
func (f DeadFilter) Match(d Dead) bool {
	switch {
	case f.Key != "" && f.Key != d.Key, f.Kind != "" && f.Kind != d.Kind, f.Class != "" && f.Class != d.Class,
		f.Signature != "" && f.Signature != d.Signature, f.Version != 0 && f.Version != d.Version, f.Tenant != "" && f.Tenant != d.Tenant,
		!f.Since.IsZero() && d.At.Before(f.Since), !f.Before.IsZero() && !d.At.Before(f.Before):
		return false
	}
	return f.Text == "" || strings.Contains(strings.ToLower(strings.Join([]string{d.Message, d.Reason, d.Step, d.Key}, "\n")), strings.ToLower(f.Text))
}

// Check returns an error matching [jobs.ErrInvalid] when the filter cannot be one.
func (f DeadFilter) Check() error {
	if f.Version < 0 {
		return &jobs.InvalidError{Field: "version", Value: f.Version, Bound: "0 or more"}
	}
	if len(f.Text) > 1000 {
		return &jobs.InvalidError{Field: "text", Value: fmt.Sprintf("of %d bytes", len(f.Text)), Bound: "at most 1000 bytes"}
	}
	if f.Class != "" {
		if err := jobs.CheckClass(f.Class); err != nil {
			return err
		}
	}
	if f.Signature != "" && !isSignature(f.Signature) {
		return &jobs.InvalidError{Field: "signature", Value: f.Signature, Bound: "twelve hexadecimal digits"}
	}
	if !f.Since.IsZero() && !f.Before.IsZero() && !f.Since.Before(f.Before) {
		return &jobs.InvalidError{Field: "since", Value: f.Since.Format(time.RFC3339), Bound: "earlier than before, " + f.Before.Format(time.RFC3339)}
	}
	return nil
}

func isSignature(text string) bool {
	return len(text) == 12 && strings.Trim(text, "0123456789abcdef") == ""
}

// String tells people what is selected.
func (f DeadFilter) String() string {
	var all []string
	for _, field := range []struct{ name, value string }{
		{"key", f.Key}, {"kind", f.Kind}, {"class", string(f.Class)}, {"signature", f.Signature}, {"tenant", f.Tenant}, {"text", f.Text},
	} {
		if field.value != "" {
			all = append(all, field.name+"="+field.value)
		}
	}
	if f.Version != 0 {
		all = append(all, fmt.Sprint("version=", f.Version))
	}
	if !f.Since.IsZero() {
		all = append(all, "since="+f.Since.UTC().Format(time.RFC3339))
	}
	if !f.Before.IsZero() {
		all = append(all, "before="+f.Before.UTC().Format(time.RFC3339))
	}
	if len(all) == 0 {
		return "everything"
	}
	return strings.Join(all, " ")
}

// GroupState is how people look at a group.
type GroupState string

// The states of a group.
const (
	GroupOpen     GroupState = "open"
	GroupResolved GroupState = "resolved" // opens again by itself when it recurs
	GroupIgnored  GroupState = "ignored"  // stays so when it recurs
)

// DeadGroup is the entries of one signature, and their history.
type DeadGroup struct {
	Queue     string        `json:"queue"`
	Signature string        `json:"signature"`
	Kind      string        `json:"kind"`
	Class     jobs.Class    `json:"class"`
	Step      string        `json:"step,omitempty"`
	Message   string        `json:"message"` // normalised
	State     GroupState    `json:"state"`
	By        string        `json:"by,omitempty"` // who set the state, and why
	Entries   int64         `json:"entries"`      // that are there now
	Seen      int64         `json:"seen"`         // ever
	Reopened  int64         `json:"reopened"`
	First     time.Time     `json:"first_seen"`
	Last      time.Time     `json:"last_seen"`
	Versions  map[int]int64 `json:"versions"` // of the kind: how often each was seen
}

// DeadQuery selects a page of entries of one queue, longest there first.
type DeadQuery struct {
	Queue  string
	Filter DeadFilter
	Newest bool   // latest first instead
	Limit  int    // 1 to 500; 0: 50
	Cursor string // the next of the page before
}

// DeadPage is a page of entries. One call reads at most some thousand entries, so
// that a rare one cannot make it long: a page may have few entries, or none, and a
// Next all the same.
type DeadPage struct {
	Entries []Dead `json:"entries"`
	Next    string `json:"next"`
	Read    int    `json:"read"` // entries looked at
}

// DeadMemory is how much memory a queue's quarantine takes.
type DeadMemory struct {
	Queue   string `json:"queue"`
	Entries int64  `json:"entries"`
	Groups  int64  `json:"groups"`
	Bytes   int64  `json:"bytes"` // about
}
