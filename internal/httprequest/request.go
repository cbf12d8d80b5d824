package httprequest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/perdure/perdure/jobs"
)

// Bounds of a Request.
const (
	minTimeout     = 100 * time.Millisecond
	maxTimeout     = 10 * time.Minute
	defaultTimeout = 30 * time.Second
	maxURL         = 2048
	maxHeaders     = 32
	maxHeaderName  = 128
	maxHeaderValue = 4096
	maxSent        = jobs.DefaultMaxPayload
)

const defaultSuccess = "2xx"

var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

// ownHeaders are set by perdure or by the connection, never by a job.
var ownHeaders = []string{
	"Connection", "Content-Length", "Expect", "Host", "Idempotency-Key", "Keep-Alive",
	"Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// Request is the payload of http.request: the call to make.
type Request struct {
	// URL is http or https, without user name and password.
	URL string `json:"url"`
	// Method is POST by default.
	Method string `json:"method,omitempty"`
	// Headers are sent as given. A value env:NAME is replaced by that
	// environment variable of the worker, when its name is allowed.
	Headers map[string]string `json:"headers,omitempty"`
	// Body is any JSON, sent as application/json unless Headers say otherwise;
	// null is no body.
	Body json.RawMessage `json:"body,omitempty"`
	// BodyText is sent instead of Body, as text/plain unless Headers say otherwise.
	BodyText string `json:"body_text,omitempty"`
	// Timeout is for the whole call, from 100ms to 10m; "30s" by default.
	Timeout string `json:"timeout,omitempty"`
	// Success lists the statuses that complete the job: "2xx" by default,
	// "200-204,409".
	Success string `json:"success,omitempty"`
	// Secret is a reference env:NAME to the key that signs the call by the
	// Standard Webhooks scheme.
	Secret string `json:"secret,omitempty"`
}

// Validate returns what is wrong with the request, one *[jobs.InvalidError] for
// each problem, or nil. The text has no URL, header value, body or secret in it.
func (r Request) Validate() error {
	_, err := r.plan()
	return err
}

// plan is a Request that was checked, with its defaults filled in.
type plan struct {
	url         *url.URL
	method      string
	headers     map[string]string // canonical name to value or reference
	body        []byte
	contentType string // of the body, unless headers say otherwise
	timeout     time.Duration
	success     statuses
	secret      string // reference, or empty
}

// origin is what errors may say of the URL: paths and queries can hold secrets.
func (p plan) origin() string { return p.url.Scheme + "://" + p.url.Host }

func (r Request) plan() (plan, error) {
	var p plan
	var problems [7]error
	p.url, problems[0] = checkURL(r.URL)
	p.method, problems[1] = checkMethod(r.Method)
	p.headers, problems[2] = checkHeaders(r.Headers)
	p.body, p.contentType, problems[3] = r.checkBody()
	p.timeout, problems[4] = checkTimeout(r.Timeout)
	p.success, problems[5] = checkSuccess(r.Success)
	p.secret, problems[6] = checkSecret(r.Secret)
	return p, errors.Join(problems[:]...)
}

// hidden stands for a value that an error must not show.
type hidden int

func (h hidden) String() string { return fmt.Sprintf("of %d bytes", int(h)) }

func invalid(field string, value any, bound string) error {
	return &jobs.InvalidError{Field: field, Value: value, Bound: bound}
}

func checkURL(text string) (*url.URL, error) {
	size := hidden(len(text))
	if text == "" || len(text) > maxURL {
		return nil, invalid("url", size, fmt.Sprintf("of 1 to %d bytes", maxURL))
	}
	if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return nil, invalid("url", size, "without spaces and control characters")
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, invalid("url", size, "a URL such as https://example.com/path")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, invalid("url", size, "http or https")
	case u.User != nil:
		return nil, invalid("url", size, "without user name and password: use a header")
	case u.Hostname() == "":
		return nil, invalid("url", size, "with a host")
	case !isPort(u.Port()):
		return nil, invalid("url", size, "with a port from 1 to 65535, or none")
	}
	return u, nil
}

func isPort(text string) bool {
	if text == "" {
		return true
	}
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && port > 0
}

func checkMethod(method string) (string, error) {
	if method == "" {
		return http.MethodPost, nil
	}
	if !slices.Contains(methods, method) {
		return "", invalid("method", method, "one of "+strings.Join(methods, ", "))
	}
	return method, nil
}

func checkHeaders(headers map[string]string) (map[string]string, error) {
	if len(headers) > maxHeaders {
		return nil, invalid("number of headers", len(headers), fmt.Sprintf("from 0 to %d", maxHeaders))
	}
	checked := make(map[string]string, len(headers))
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		canonical := http.CanonicalHeaderKey(name)
		if err := checkHeader(name, headers[name]); err != nil {
			problems = append(problems, err)
		} else if _, twice := checked[canonical]; twice {
			problems = append(problems, invalid("header", name, "given once: upper and lower case are the same"))
		}
		checked[canonical] = headers[name]
	}
	return checked, errors.Join(problems...)
}

func checkHeader(name, value string) error {
	if bad := strings.IndexFunc(name, notToken); bad >= 0 || name == "" || len(name) > maxHeaderName {
		if bad >= 0 {
			name = name[:bad] // what follows may be a value: "Authorization: Bearer ..."
		}
		return invalid("header", name, fmt.Sprintf("a name of 1 to %d letters, digits and !#$%%&'*+-.^_`|~", maxHeaderName))
	}
	canonical := http.CanonicalHeaderKey(name)
	if slices.Contains(ownHeaders, canonical) || strings.HasPrefix(canonical, "Webhook-") {
		return invalid("header", name, "one that perdure does not set itself")
	}
	return checkHeaderValue("header "+name, value)
}

func checkHeaderValue(field, value string) error {
	if len(value) > maxHeaderValue {
		return invalid(field, hidden(len(value)), fmt.Sprintf("of at most %d bytes", maxHeaderValue))
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r != '\t' && unicode.IsControl(r) }) {
		return invalid(field, hidden(len(value)), "without control characters")
	}
	if _, ok := referenceName(value); isReference(value) && !ok {
		return invalid(field, hidden(len(value)), "a reference env:NAME, or text that does not begin with env:")
	}
	return nil
}

// notToken reports that r cannot be in a header name (RFC 9110, 5.6.2).
func notToken(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	}
	return !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

func (r Request) checkBody() (body []byte, contentType string, err error) {
	given := len(r.Body) > 0 && string(r.Body) != "null"
	switch {
	case given && r.BodyText != "":
		return nil, "", invalid("body_text", hidden(len(r.BodyText)), "absent when body is given")
	case len(r.Body) > maxSent:
		return nil, "", invalid("body", hidden(len(r.Body)), fmt.Sprintf("of at most %d bytes", maxSent))
	case len(r.BodyText) > maxSent:
		return nil, "", invalid("body_text", hidden(len(r.BodyText)), fmt.Sprintf("of at most %d bytes", maxSent))
	case given && !json.Valid(r.Body):
		return nil, "", invalid("body", hidden(len(r.Body)), "valid JSON")
	case given:
		return r.Body, "application/json", nil
	case r.BodyText != "":
		return []byte(r.BodyText), "text/plain; charset=utf-8", nil
	}
	return nil, "", nil
}

func checkTimeout(text string) (time.Duration, error) {
	if text == "" {
		return defaultTimeout, nil
	}
	timeout, err := time.ParseDuration(text)
	if err != nil || timeout < minTimeout || timeout > maxTimeout {
		return 0, invalid("timeout", text, fmt.Sprintf(`a duration such as "10s", from %v to %v`, minTimeout, maxTimeout))
	}
	return timeout, nil
}

func checkSuccess(text string) (statuses, error) {
	if text == "" {
		text = defaultSuccess
	}
	return parseStatuses(text)
}

func checkSecret(text string) (string, error) {
	if _, ok := referenceName(text); text != "" && !ok {
		return "", invalid("secret", hidden(len(text)), "a reference env:NAME, not the secret itself")
	}
	return text, nil
}
