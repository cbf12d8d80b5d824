package ops

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/perdure/perdure/jobs"
)

const (
	maxBody   = 1 << 20 // of a request, besides a payload
	maxParam  = 2 << 10 // bytes of one query parameter
	maxListed = 500
	maxWait   = 60 * time.Second
)

// member is one member that a body may have, and where it goes.
type member struct {
	name string
	to   any
	must string // what it must be, for people
}

func text(name string, to *string) member { return member{name, to, "a text"} }

// readBody reads a JSON object of at most limit bytes with the given members and
// no others, each at most once and written exactly so. Errors never show what was
// sent.
func readBody(w http.ResponseWriter, r *http.Request, limit int64, members ...member) error {
	if r.ContentLength > limit {
		return tooLarge(fmt.Sprintf("of %d bytes", r.ContentLength), limit)
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return bodyError(err, limit)
	}
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return bodyError(err, limit)
		}
		name, _ := token.(string)
		i := slices.IndexFunc(members, func(m member) bool { return m.name == name })
		if i < 0 || seen[name] {
			return &jobs.InvalidError{Field: "body", Value: name, Bound: "an object of " + names(members) + ", each at most once"}
		}
		seen[name] = true
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return bodyError(err, limit)
		}
		if json.Unmarshal(value, members[i].to) != nil {
			return &jobs.InvalidError{Field: name, Value: jsonType(value), Bound: members[i].must}
		}
	}
	if _, err := decoder.Token(); err != nil {
		return bodyError(err, limit)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return bodyError(err, limit)
	}
	return nil
}

func names(members []member) string {
	var all []string
	for _, m := range members {
		all = append(all, m.name)
	}
	return strings.Join(all, ", ")
}

func bodyError(err error, limit int64) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return tooLarge(fmt.Sprintf("of more than %d bytes", limit), limit)
	}
	return &jobs.InvalidError{Field: "body", Value: "unreadable", Bound: "one JSON object"}
}

func tooLarge(value string, limit int64) error {
	return fmt.Errorf("%w: %w", errTooLarge, &jobs.InvalidError{Field: "body", Value: value, Bound: fmt.Sprintf("at most %d bytes", limit)})
}

// jsonType names the type of a JSON value.
func jsonType(value json.RawMessage) string {
	switch strings.TrimSpace(string(value[:1])) {
	case "{":
		return "an object"
	case "[":
		return "an array"
	case `"`:
		return "a text"
	case "t", "f":
		return "a boolean"
	case "n":
		return "null"
	}
	return "a number"
}

// params reads the query: the given parameters and no others, each at most once.
func params(r *http.Request, allowed ...string) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &jobs.InvalidError{Field: "query", Value: "unreadable", Bound: "name=value, separated by &"}
	}
	for name, given := range values {
		if !slices.Contains(allowed, name) {
			return nil, &jobs.InvalidError{Field: "query", Value: name, Bound: "of " + strings.Join(append(allowed, "nothing else"), ", ")}
		}
		if len(given) > 1 {
			return nil, &jobs.InvalidError{Field: name, Value: fmt.Sprintf("given %d times", len(given)), Bound: "given once"}
		}
		if len(given[0]) > maxParam {
			return nil, &jobs.InvalidError{Field: name, Value: fmt.Sprintf("of %d bytes", len(given[0])), Bound: fmt.Sprintf("at most %d bytes", maxParam)}
		}
	}
	return values, nil
}

// limitOf reads the parameter limit; 50 when it is absent.
func limitOf(values url.Values) (int, error) {
	text := values.Get("limit")
	if text == "" {
		return 50, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxListed {
		return 0, &jobs.InvalidError{Field: "limit", Value: text, Bound: fmt.Sprintf("a number from 1 to %d", maxListed)}
	}
	return n, nil
}

// queryOf reads what lists of jobs are selected by.
func queryOf(r *http.Request, allowed ...string) (jobs.Query, error) {
	values, err := params(r, allowed...)
	if err != nil {
		return jobs.Query{}, err
	}
	q := jobs.Query{Queue: values.Get("queue"), Kind: values.Get("kind"), State: jobs.State(values.Get("state")), Cursor: values.Get("cursor")}
	if q.Limit, err = limitOf(values); err != nil {
		return q, err
	}
	if q.Queue != "" {
		if err := jobs.CheckQueue(q.Queue); err != nil {
			return q, err
		}
	}
	if q.Kind != "" {
		if err := jobs.CheckKind(q.Kind); err != nil {
			return q, err
		}
	}
	if q.State != "" && !slices.Contains(jobs.States(), q.State) {
		return q, &jobs.InvalidError{Field: "state", Value: string(q.State), Bound: fmt.Sprintf("one of %v", jobs.States())}
	}
	return q, nil
}

// place reads queue and key from the path.
func place(r *http.Request) (queue, key string, err error) {
	queue, key = r.PathValue("queue"), r.PathValue("key")
	return queue, key, errors.Join(jobs.CheckQueue(queue), jobs.CheckTaskID(key))
}

// decisionOf reads a decision: who asks, and the body's reason.
func decisionOf(w http.ResponseWriter, r *http.Request, more ...member) (jobs.Decision, error) {
	by, err := askedBy(w, r, more...)
	if err != nil {
		return by, err
	}
	return by, by.Check()
}

// askedBy is decisionOf for a body that may ask only to look, and needs no reason then.
func askedBy(w http.ResponseWriter, r *http.Request, more ...member) (jobs.Decision, error) {
	by := jobs.Decision{Actor: visitOf(r).who.actor()}
	return by, readBody(w, r, maxBody, append([]member{text("reason", &by.Reason)}, more...)...)
}
