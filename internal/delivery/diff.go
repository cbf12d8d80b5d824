package delivery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Edit is one change of a job's payload by people.
type Edit struct {
	At      time.Time `json:"at"`
	Actor   string    `json:"actor"`
	Reason  string    `json:"reason"`
	Changes []Change  `json:"changes"`
}

// Change is one difference between two payloads. From is empty for what is new, To
// for what is gone.
type Change struct {
	Path string          `json:"path"` // JSON Pointer; "" is the whole payload
	From json.RawMessage `json:"from,omitempty"`
	To   json.RawMessage `json:"to,omitempty"`
}

// Diff returns what to change in one payload to get the other. Payloads that are not
// both JSON are one change of the whole, in base64.
func Diff(from, to []byte) []Change {
	changes := []Change{}
	old, okOld := decode(from)
	edited, okEdited := decode(to)
	if !okOld || !okEdited {
		if !bytes.Equal(from, to) {
			changes = append(changes, Change{From: encode(from), To: encode(to)})
		}
		return changes
	}
	return diff(changes, "", old, edited)
}

func decode(payload []byte) (value any, ok bool) {
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	err := decoder.Decode(&value)
	return value, err == nil && json.Valid(payload)
}

// encode writes a value that came from JSON, or bytes.
func encode(value any) json.RawMessage {
	data, err := json.Marshal(value)
	if err != nil {
		return json.RawMessage("null")
	}
	return data
}

func diff(changes []Change, path string, from, to any) []Change {
	switch old := from.(type) {
	case map[string]any:
		if edited, ok := to.(map[string]any); ok {
			return diffObjects(changes, path, old, edited)
		}
	case []any:
		if edited, ok := to.([]any); ok && len(old) == len(edited) {
			for i := range old {
				changes = diff(changes, fmt.Sprintf("%s/%d", path, i), old[i], edited[i])
			}
			return changes
		}
	}
	if a, b := encode(from), encode(to); !bytes.Equal(a, b) {
		changes = append(changes, Change{Path: path, From: a, To: b})
	}
	return changes
}

func diffObjects(changes []Change, path string, from, to map[string]any) []Change {
	names := maps.Clone(from)
	maps.Copy(names, to)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		at := path + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
		old, had := from[name]
		edited, has := to[name]
		switch {
		case !has:
			changes = append(changes, Change{Path: at, From: encode(old)})
		case !had:
			changes = append(changes, Change{Path: at, To: encode(edited)})
		default:
			changes = diff(changes, at, old, edited)
		}
	}
	return changes
}

// Paths tells people which parts were changed, and not to what: '~' another value,
// '+' new, '-' gone.
func Paths(changes []Change) string {
	const most = 20
	var all []string
	for _, c := range changes[:min(len(changes), most)] {
		mark := "~"
		switch {
		case len(c.From) == 0:
			mark = "+"
		case len(c.To) == 0:
			mark = "-"
		}
		path := c.Path
		if path == "" {
			path = "all of it"
		}
		all = append(all, mark+path)
	}
	if len(changes) > most {
		all = append(all, fmt.Sprintf("and %d more", len(changes)-most))
	}
	if len(changes) == 0 {
		return "nothing"
	}
	return strings.Join(all, " ")
}
