package cron

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/perdure/perdure/jobs"
)

// maxFile is how many bytes a file of schedules may have.
const maxFile = 4 << 20

// ReadFile reads the schedules of a perdure.yaml:
//
//	schedules:
//	  - name: nightly
//	    when: 0 2 * * *
//	    kind: report
//
// Fields are those of [jobs.Timetable] and no others. Errors match [jobs.ErrInvalid]
// and name file, line, field, value and bound.
func ReadFile(name string, text []byte) ([]jobs.Timetable, error) {
	f := file{name: name}
	if len(text) > maxFile {
		return nil, &jobs.InvalidError{Field: name, Value: fmt.Sprintf("of %d bytes", len(text)), Bound: fmt.Sprintf("at most %d bytes", maxFile)}
	}
	var document, second yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&document); err != nil && err != io.EOF {
		return nil, &jobs.InvalidError{Field: name, Value: strings.TrimPrefix(err.Error(), "yaml: "), Bound: "YAML"}
	}
	if len(document.Content) == 0 {
		return nil, nil
	}
	if err := decoder.Decode(&second); err != io.EOF {
		return nil, &jobs.InvalidError{Field: name, Value: "another document after ---", Bound: "one document with all schedules"}
	}
	var list []jobs.Timetable
	err := f.members(document.Content[0], "the file", map[string]func(*yaml.Node) error{
		"schedules": func(n *yaml.Node) (err error) {
			list, err = f.schedules(n)
			return err
		},
	})
	return list, err
}

// file reads one file.
type file struct{ name string }

func (f file) bad(n *yaml.Node, field, bound string) error {
	value := n.Value
	if n.Kind != yaml.ScalarNode {
		value = map[yaml.Kind]string{yaml.MappingNode: "an object", yaml.SequenceNode: "a list", yaml.AliasNode: "an alias"}[n.Kind]
	}
	return &jobs.InvalidError{Field: fmt.Sprintf("%s line %d: %s", f.name, n.Line, field), Value: value, Bound: bound}
}

// members reads an object of the given members and no others, each at most once.
func (f file) members(n *yaml.Node, what string, read map[string]func(*yaml.Node) error) error {
	known := make([]string, 0, len(read))
	for name := range read {
		known = append(known, name)
	}
	slices.Sort(known)
	if n.Kind != yaml.MappingNode {
		return f.bad(n, what, "an object of "+strings.Join(known, ", "))
	}
	seen := map[string]bool{}
	var errs []error
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		set := read[key.Value]
		switch {
		case set == nil:
			errs = append(errs, f.bad(key, "field", "one of "+strings.Join(known, ", ")))
		case seen[key.Value]:
			errs = append(errs, f.bad(key, "field", "given once"))
		default:
			errs = append(errs, set(value))
		}
		seen[key.Value] = true
	}
	return errors.Join(errs...)
}

func (f file) schedules(n *yaml.Node) ([]jobs.Timetable, error) {
	if n.Kind != yaml.SequenceNode {
		return nil, f.bad(n, "schedules", "a list of schedules")
	}
	if len(n.Content) > jobs.MaxTimetables {
		return nil, f.bad(n, "schedules", fmt.Sprintf("at most %d schedules", jobs.MaxTimetables))
	}
	var list []jobs.Timetable
	var errs []error
	lines := map[string]int{}
	for _, one := range n.Content {
		t, err := f.schedule(one)
		if err == nil {
			_, err = Parse(t)
			if err != nil {
				err = fmt.Errorf("%s line %d: %w", f.name, one.Line, err)
			}
		}
		if line, known := lines[t.Name]; known && err == nil {
			err = f.bad(one, "name "+t.Name, fmt.Sprintf("given once; line %d has it too", line))
		}
		lines[t.Name] = one.Line
		list, errs = append(list, t), append(errs, err)
	}
	return list, errors.Join(errs...)
}

func (f file) schedule(n *yaml.Node) (t jobs.Timetable, err error) {
	err = f.members(n, "schedule", map[string]func(*yaml.Node) error{
		"name": f.text("name", &t.Name), "when": f.text("when", (*string)(&t.When)), "zone": f.text("zone", &t.Zone),
		"kind": f.text("kind", &t.Kind), "queue": f.text("queue", &t.Queue), "tenant": f.text("tenant", &t.Tenant),
		"payload": f.payload(&t.Payload),
		"skipped": f.text("skipped", &t.Skipped), "repeated": f.text("repeated", &t.Repeated), "jitter": f.span("jitter", &t.Jitter),
		"overlap": f.text("overlap", (*string)(&t.Overlap)),
		"catch_up": func(n *yaml.Node) error {
			t.CatchUp = &jobs.CatchUp{}
			return f.members(n, "catch_up", map[string]func(*yaml.Node) error{
				"most": f.number("catch_up.most", &t.CatchUp.Most), "oldest": f.span("catch_up.oldest", &t.CatchUp.Oldest),
			})
		},
		"replay": func(n *yaml.Node) error {
			t.Replay = &jobs.DeadFilter{}
			return f.filter(n, t.Replay)
		},
	})
	return t, err
}

func (f file) filter(n *yaml.Node, d *jobs.DeadFilter) error {
	return f.members(n, "replay", map[string]func(*yaml.Node) error{
		"queue": f.text("replay.queue", &d.Queue), "kind": f.text("replay.kind", &d.Kind), "class": f.text("replay.class", (*string)(&d.Class)),
		"signature": f.text("replay.signature", &d.Signature), "version": f.number("replay.version", &d.Version), "tenant": f.text("replay.tenant", &d.Tenant),
		"text": f.text("replay.text", &d.Text), "newer": f.span("replay.newer", &d.Newer), "older": f.span("replay.older", &d.Older),
		"rate": f.number("replay.rate", &d.Rate), "most": f.number("replay.most", &d.Most), "reason": f.text("replay.reason", &d.Reason),
		"from_start": f.yes("replay.from_start", &d.FromStart), "no_canary": f.yes("replay.no_canary", &d.NoCanary),
	})
}

func (f file) text(field string, to *string) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
			return f.bad(n, field, "a text")
		}
		*to = n.Value
		return nil
	}
}

func (f file) number(field string, to *int) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		if n.Tag != "!!int" || !asWritten(n) || n.Decode(to) != nil {
			return f.bad(n, field, "a whole number")
		}
		return nil
	}
}

func (f file) yes(field string, to *bool) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		if n.Tag != "!!bool" || n.Decode(to) != nil {
			return f.bad(n, field, "true or false")
		}
		return nil
	}
}

func (f file) span(field string, to *jobs.Span) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		if n.Kind != yaml.ScalarNode || to.UnmarshalText([]byte(n.Value)) != nil {
			return f.bad(n, field, `a text such as "90s" or "24h"`)
		}
		return nil
	}
}

// payload turns YAML into JSON that says the same.
func (f file) payload(to *json.RawMessage) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		var v any
		err := n.Decode(&v)
		var data []byte
		if err == nil {
			data, err = json.Marshal(v)
		}
		if err != nil {
			return f.bad(n, "payload", "what JSON can say")
		}
		*to = data
		return f.kept(n)
	}
}

// kept returns an error for what YAML makes something else of in a payload that was
// decoded, so that its aliases are known to end.
func (f file) kept(n *yaml.Node) error {
	if n.Kind == yaml.AliasNode {
		return f.kept(n.Alias)
	}
	switch {
	case n.Kind != yaml.ScalarNode:
	case n.Tag == "!!timestamp":
		return f.bad(n, "payload", "in quotes: YAML makes an instant of it")
	case !asWritten(n):
		return f.bad(n, "payload", "a decimal number without zeros before it that keeps all its digits, or in quotes")
	}
	var errs []error
	for _, part := range n.Content {
		errs = append(errs, f.kept(part))
	}
	return errors.Join(errs...)
}

var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// asWritten reports whether a number is for YAML what it looks like, and keeps its
// digits.
func asWritten(n *yaml.Node) bool {
	switch n.Tag {
	case "!!int":
		return decimal.MatchString(n.Value)
	case "!!float":
		v, err := strconv.ParseFloat(strings.ReplaceAll(n.Value, "_", ""), 64)
		return err == nil && digits(n.Value) == digits(strconv.FormatFloat(v, 'e', -1, 64))
	}
	return true
}

// digits are those of a number that count, without its sign, point and exponent.
func digits(number string) string {
	mantissa, _, _ := strings.Cut(strings.ToLower(number), "e")
	return strings.Trim(strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, mantissa), "0")
}
