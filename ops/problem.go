package ops

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/perdure/perdure/jobs"
)

// What a request itself can have wrong; the rest are errors of package jobs.
var (
	errUnauthenticated = errors.New("this service asks for an access token: Authorization: Bearer <secret>")
	errForbidden       = errors.New("the access token's role does not allow this")
	errForeignOrigin   = errors.New("requests from web pages of another origin are refused")
	errForeignHost     = errors.New("the Host header names neither this machine nor a listed host")
	errMediaType       = errors.New("the body must be sent with Content-Type: application/json")
	errTooLarge        = errors.New("the request is too large")
	errNoRoute         = errors.New("nothing is served at this path")
	errMethod          = errors.New("this method is not served at this path")
	errTooManyWaits    = errors.New("too many requests wait at the moment; ask without wait, or again later")
)

// answer says how an error is told to a caller.
type answer struct {
	is     error
	status int
	name   string // ends the problem's type
	title  string
	tell   bool // the error's own text is fit for callers
}

// answers is the only place where errors become statuses. The first match counts.
var answers = []answer{
	{errUnauthenticated, http.StatusUnauthorized, "unauthenticated", "An access token is needed", true},
	{errForbidden, http.StatusForbidden, "forbidden", "Not allowed", true},
	{errForeignOrigin, http.StatusForbidden, "foreign-origin", "Foreign origin", true},
	{errForeignHost, http.StatusForbidden, "foreign-host", "Foreign host name", true},
	{errMediaType, http.StatusUnsupportedMediaType, "media-type", "Unsupported media type", true},
	{errTooLarge, http.StatusRequestEntityTooLarge, "too-large", "Too large", true},
	{errNoRoute, http.StatusNotFound, "no-route", "No such path", true},
	{errMethod, http.StatusMethodNotAllowed, "method", "Method not allowed", true},
	{errTooManyWaits, http.StatusServiceUnavailable, "busy", "Too many waits", true},
	{jobs.ErrUnknownKind, http.StatusUnprocessableEntity, "unknown-kind", "Unknown kind", true},
	{jobs.ErrOtherPayload, http.StatusConflict, "other-payload", "The key is taken", true},
	{jobs.ErrConflict, http.StatusConflict, "conflict", "The job is in another state", true},
	{jobs.ErrNotFound, http.StatusNotFound, "not-found", "Not found", true},
	{jobs.ErrInvalid, http.StatusBadRequest, "invalid", "Out of bounds", true},
	{jobs.ErrUnavailable, http.StatusServiceUnavailable, "unavailable", "Redis cannot be reached", false},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, "unavailable", "The answer took too long", false},
	{context.Canceled, http.StatusServiceUnavailable, "unavailable", "The request was given up", false},
}

// internal is the answer to every other error; its text goes to the log alone.
var internal = answer{nil, http.StatusInternalServerError, "internal", "Internal error", false}

func answerTo(err error) answer {
	for _, a := range answers {
		if errors.Is(err, a.is) {
			return a
		}
	}
	return internal
}

// problem is an RFC 9457 answer.
type problem struct {
	Type   string   `json:"type"`
	Title  string   `json:"title"`
	Status int      `json:"status"`
	Detail string   `json:"detail,omitempty"`
	Field  string   `json:"field,omitempty"` // what was refused
	Value  string   `json:"value,omitempty"` // as given, cut
	Bound  string   `json:"bound,omitempty"` // what it must be
	Kinds  []string `json:"kinds,omitempty"` // of an unknown kind: those that are known
}

// unknownKind is jobs.ErrUnknownKind with the kinds that are known.
type unknownKind struct {
	kind  string
	known []string
}

func (e *unknownKind) Error() string {
	return fmt.Sprintf("kind %q is not known here or to any worker; known: %s", shortText(e.kind, 80), cmp.Or(strings.Join(e.known, ", "), "none"))
}

func (e *unknownKind) Unwrap() error { return jobs.ErrUnknownKind }

func problemOf(err error) problem {
	a := answerTo(err)
	p := problem{Type: "urn:perdure:problem:" + a.name, Title: a.title, Status: a.status, Detail: a.title}
	if !a.tell {
		if a.status == http.StatusServiceUnavailable {
			p.Detail = "whether the request took effect may be unknown; it is safe to repeat it"
		} else {
			p.Detail = "the service's log says more"
		}
		return p
	}
	p.Detail = shortText(strings.ReplaceAll(err.Error(), "\n", "; "), 1000)
	var unknown *unknownKind
	if errors.As(err, &unknown) {
		p.Field, p.Value, p.Bound, p.Kinds = "kind", shortText(unknown.kind, 80), "a known kind", unknown.known
	}
	var bad *jobs.InvalidError
	if errors.As(err, &bad) {
		p.Field, p.Value, p.Bound = shortText(bad.Field, 200), shortText(fmt.Sprint(bad.Value), 80), shortText(bad.Bound, 1000)
	}
	return p
}

// shortText cuts a text to a number of characters.
func shortText(text string, most int) string {
	runes := []rune(strings.ToValidUTF8(text, "?"))
	if len(runes) > most {
		return string(runes[:most-3]) + "..."
	}
	return string(runes)
}

// refuse answers with the problem that an error makes.
func (s *service) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	switch p.Status {
	case http.StatusUnauthorized:
		w.Header().Add("WWW-Authenticate", `Bearer realm="perdure"`)
		if !strings.HasPrefix(r.URL.Path, "/api/") {
			w.Header().Add("WWW-Authenticate", `Basic realm="perdure", charset="UTF-8"`) // browsers ask their user
		}
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	case http.StatusRequestEntityTooLarge:
		w.Header().Set("Connection", "close") // the rest of the body is not read
	}
	visitOf(r).err = err
	body, _ := json.Marshal(p) // strings and a number only
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n'))
}

// writeJSON answers with a value.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // who has gone away needs no answer
	return nil
}
