package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/perdure/perdure/jobs"
)

// print writes v as JSON, or as what people asks for.
func (a *App) print(v any, people func()) error {
	if a.settings.Output != "json" {
		people()
		return nil
	}
	encoder := json.NewEncoder(a.Out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// printf writes lines for people. Text from elsewhere in them has no say over their terminal.
func (a *App) printf(format string, args ...any) {
	fmt.Fprint(a.Out, plain(fmt.Sprintf(format, args...), "\n\t"))
}

// plain replaces the control characters of a text but for some.
func plain(text, but string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && !strings.ContainsRune(but, r) {
			return ' '
		}
		return r
	}, text)
}

// table writes rows in columns, the first row being the headings.
func (a *App) table(rows ...[]string) {
	w := tabwriter.NewWriter(a.Out, 0, 4, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			row[i] = oneLine(cell, 100)
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush()
}

// oneLine makes text from elsewhere safe for a terminal: one line, no control
// characters, cut.
func oneLine(text string, most int) string {
	text = plain(text, "")
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-3]) + "..."
	}
	return text
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

var instants = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)

// inClock shows the times in a text of ours as all others are shown to people.
func inClock(text string) string {
	return instants.ReplaceAllStringFunc(text, func(found string) string {
		at, err := time.Parse(time.RFC3339, found)
		if err != nil {
			return found
		}
		return clock(at)
	})
}

// count is a number of things: 1 job, 2 jobs, 3 entries.
func count[N int | int64](n N, one string) string {
	if n == 1 {
		return "1 " + one
	}
	if stem, ok := strings.CutSuffix(one, "y"); ok {
		return fmt.Sprint(n, " ", stem, "ies")
	}
	return fmt.Sprint(n, " ", one, "s")
}

// does is count with a verb, given as one does it: 1 job waits, 2 jobs wait.
func does[N int | int64](n N, one, verb string) string {
	if n != 1 {
		verb = strings.TrimSuffix(verb, "s")
	}
	return count(n, one) + " " + verb
}

// story tells a job to people.
func (a *App) story(i jobs.Info) {
	a.printf("%s/%s  %s  %s\n", i.Queue, i.Key, oneLine(cmp.Or(i.Kind, "(unreadable)"), 200), strings.ToUpper(string(i.State)))
	a.printf("  incarnation %s, enqueued %s, executions %d, attempts used %d, crashes %d\n", oneLine(i.Incarnation, 100), clock(i.EnqueuedAt), i.Runs, i.Attempts, i.Crashes)
	if i.Tenant != "" {
		a.printf("  tenant %s\n", oneLine(i.Tenant, 200))
	}
	switch {
	case i.WaitingOn != nil && i.WaitingOn.Type == "operator":
		a.printf("  paused since %s by %s; it goes on when it is resumed\n", clock(i.WaitingOn.Since), oneLine(i.WaitingOn.Name, 200))
	case i.WaitingOn != nil && i.WaitingOn.Type == "turn":
		a.printf("  waits its turn among the tenants of the queue since %s: its own has more jobs before it\n", clock(i.WaitingOn.Since))
	case i.WaitingOn != nil && (i.WaitingOn.Type == "dependency" || i.WaitingOn.Type == "limit"):
		a.printf("  waits for the %s %s since %s, no attempt used\n", i.WaitingOn.Type, oneLine(i.WaitingOn.Name, 200), clock(i.WaitingOn.Since))
	case i.WaitingOn != nil:
		a.printf("  waits for %s: %s since %s, until %s at the latest; it resumes by itself\n",
			i.WaitingOn.Type, oneLine(i.WaitingOn.Name, 200), clock(i.WaitingOn.Since), clock(i.WaitingOn.Until))
	case !i.DueAt.IsZero():
		a.printf("  due %s\n", clock(i.DueAt))
	}
	if i.PauseAsked {
		a.printf("  pausing: it stops at its next step\n")
	}
	if i.CancelAsked {
		a.printf("  cancelling: it ends at its next step\n")
	}
	a.family(i)
	for _, step := range i.Steps {
		took := ""
		if !step.Ended.IsZero() {
			took = fmt.Sprintf(" in %v, execution %d", step.Ended.Sub(step.Started).Round(time.Millisecond), step.Attempt)
		}
		a.printf("  step %-20s %s%s\n", step.Name, step.State, took)
	}
	for _, f := range i.Failures {
		a.printf("  failed %s  %s (%s)  %s\n", clock(f.At), f.Class, f.Rule, oneLine(f.Message, 300))
	}
	if len(i.Result) > 0 {
		a.printf("  result %s\n", oneLine(string(i.Result), 2000))
	}
	if !i.ExpiresAt.IsZero() {
		a.printf("  kept until %s\n", clock(i.ExpiresAt))
	}
}

// family tells whose child a job is, and what has become of its own.
func (a *App) family(i jobs.Info) {
	if i.Parent != nil {
		a.printf("  child of %s/%s\n", i.Parent.Queue, i.Parent.Key)
	}
	if u := i.Undo; u != nil {
		what := "undone"
		if !u.Since.IsZero() {
			what = "to be " + string(u.Outcome) + ", undone so far"
		}
		a.printf("  %s %s; not undone %s\n", what, listOf(u.Undone), listOf(u.Left))
	}
	for _, c := range i.Children {
		a.printf("  children %-16s %d of kind %s in %s, %d open, %d failed\n", c.Name, c.Total, c.Kind, c.Queue, c.Open, c.Failed)
	}
}

func jobRows(list []jobs.Info) [][]string {
	rows := [][]string{{"QUEUE", "KEY", "KIND", "STATE", "ATTEMPTS", "DUE", "WAITS FOR", "LAST FAILURE"}}
	for _, i := range list {
		failure := ""
		if f := i.LastFailure(); f != nil {
			failure = string(f.Class) + ": " + f.Message
		}
		rows = append(rows, []string{i.Queue, i.Key, i.Kind, string(i.State), fmt.Sprint(i.Attempts), clock(i.DueAt), waitsFor(i.WaitingOn), failure})
	}
	return rows
}

// waitsFor says in few words what a job waits for, and since when.
func waitsFor(w *jobs.Waiting) string {
	if w == nil {
		return "-"
	}
	return oneLine(w.Type+" "+w.Name, 50) + " since " + clock(w.Since)
}

// listOf is a list of names in a line.
func listOf(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}
