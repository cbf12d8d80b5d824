package chaos

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Report is what a run found.
type Report struct {
	Options  Options
	Took     time.Duration
	Faults   []Count  // how often each happened
	Found    []Figure // what was counted afterwards
	Problems []string // what must not be
	Seldom   []string // faults that happened too seldom for the run to prove what it says
	Dir      string   // where its files are; empty: removed
}

// Count says how often a fault happened and how often it must have.
type Count struct {
	Name    string
	Fired   int
	Minimum int
}

// Figure is a number that was counted.
type Figure struct {
	Name  string
	Value int64
}

// Good reports that nothing was found that must not be, and that the faults were
// there.
func (r *Report) Good() bool { return len(r.Problems) == 0 && len(r.Seldom) == 0 }

func (r *Report) found(name string, value int) {
	r.Found = append(r.Found, Figure{name, int64(value)})
}

// mustNot adds a figure that has to be 0.
func (r *Report) mustNot(name string, examples []string) {
	r.found(name, len(examples))
	if len(examples) > 0 {
		r.problem("%s: %d, among them: %s", name, len(examples), strings.Join(examples[:min(5, len(examples))], "; "))
	}
}

func (r *Report) problem(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// Write writes the report for people, in Markdown.
func (r *Report) Write(w io.Writer) {
	fmt.Fprintf(w, "Seed %d, %d workflows of 5 steps, %d worker processes, faults for %v; %v in all.\n\n",
		r.Options.Seed, r.Options.Workflows, r.Options.Workers, r.Options.Duration, r.Took.Round(time.Second))
	fmt.Fprintf(w, "| fault | happened | at least |\n|---|--:|--:|\n")
	for _, c := range r.Faults {
		fmt.Fprintf(w, "| %s | %d | %d |\n", c.Name, c.Fired, c.Minimum)
	}
	fmt.Fprintf(w, "\n| found afterwards | |\n|---|--:|\n")
	for _, f := range r.Found {
		fmt.Fprintf(w, "| %s | %d |\n", f.Name, f.Value)
	}
	for _, p := range append(r.Problems[:len(r.Problems):len(r.Problems)], r.Seldom...) {
		fmt.Fprintf(w, "\nPROBLEM: %s\n", p)
	}
}

// counters count faults as they happen.
type counters struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *counters) add(name string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[name] += n
}

// judge fills in how often each fault happened.
func (c *counters) judge(r *Report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, count := range minima(r.Options) {
		count.Fired = c.n[count.Name]
		r.Faults = append(r.Faults, count)
		if count.Fired < count.Minimum {
			r.Seldom = append(r.Seldom, fmt.Sprintf("%s: happened %d times instead of at least %d", count.Name, count.Fired, count.Minimum))
		}
	}
}
