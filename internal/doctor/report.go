package doctor

import (
	"fmt"
	"strings"
)

// Mode is how durable accepted jobs are to be; it decides what a check that fails
// leads to.
type Mode string

// The modes. The empty one is Relaxed.
const (
	Relaxed    Mode = "relaxed"    // a power loss may take the last two seconds
	Strict     Mode = "strict"     // one primary that writes to disk before it answers
	Replicated Mode = "replicated" // replicas take over; a fail-over may take the last writes
)

// Modes returns the names of all modes.
func Modes() []string { return []string{string(Relaxed), string(Strict), string(Replicated)} }

// Verdict is what a check comes to.
type Verdict string

// The verdicts.
const (
	OK         Verdict = "ok"
	Warn       Verdict = "warn"
	Refuse     Verdict = "refuse"
	Overridden Verdict = "overridden" // would be refused; PERDURE_ALLOW_UNSAFE_REDIS lets it pass
)

// Result is one check's.
type Result struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Value   string  `json:"value"` // found; "cannot be read" where Redis does not tell
	Bound   string  `json:"bound"` // what it must be
	Why     string  `json:"why"`
	Fix     string  `json:"fix,omitempty"` // a command or a line of configuration; empty when ok
}

// Report is what one examination found.
type Report struct {
	Mode        Mode     `json:"mode"`
	AllowUnsafe bool     `json:"allow_unsafe"`
	Verdict     Verdict  `json:"verdict"` // the worst of the checks
	Checks      []Result `json:"checks"`
}

// severity orders verdicts.
func severity(v Verdict) int {
	for i, each := range []Verdict{OK, Warn, Overridden, Refuse} {
		if each == v {
			return i
		}
	}
	return 0
}

// add puts a result in, as one with that of the same check of another node: the
// worst of them stands, and the values show which node is which.
func (r *Report) add(result Result) {
	if severity(result.Verdict) > severity(r.Verdict) {
		r.Verdict = result.Verdict
	}
	for i := range r.Checks {
		have := &r.Checks[i]
		if have.Name != result.Name {
			continue
		}
		value := have.Value
		if value != result.Value {
			value += ", " + result.Value
		}
		if severity(result.Verdict) > severity(have.Verdict) {
			*have = result
		}
		have.Value = value
		return
	}
	r.Checks = append(r.Checks, result)
}

// with returns the results of a verdict.
func (r *Report) with(v Verdict) []Result {
	var found []Result
	for _, c := range r.Checks {
		if c.Verdict == v {
			found = append(found, c)
		}
	}
	return found
}

// refusal is the error of a report that refuses, naming each failed check; nil
// for one that does not.
func (r *Report) refusal() error {
	refused := r.with(Refuse)
	if len(refused) == 0 {
		return nil
	}
	var lines []string
	for _, c := range refused {
		lines = append(lines, fmt.Sprintf("%s: found %s, must be %s (fix: %s)", c.Name, c.Value, c.Bound, c.Fix))
	}
	return fmt.Errorf("redis is not safe for PERDURE_DURABILITY=%s, refusing to start: %s; see `perdure doctor`, or set PERDURE_ALLOW_UNSAFE_REDIS=true to start all the same",
		r.Mode, strings.Join(lines, "; "))
}

func names(results []Result) string {
	var all []string
	for _, r := range results {
		all = append(all, r.Name)
	}
	return strings.Join(all, ", ")
}
