package jobs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Class is what kind of failure an error is; policy follows from it. Classes are
// stored as text; one that this version does not know is treated as
// [ClassUnknown].
type Class string

// The classes and their default policy (design.md, Classification).
const (
	ClassUnknown     Class = "unknown"     // retry on the kind's schedule
	ClassUnavailable Class = "unavailable" // pause; no attempt used
	ClassThrottled   Class = "throttled"   // wait as told; no attempt used
	ClassTimeout     Class = "timeout"     // retry on the kind's schedule
	ClassTransient   Class = "transient"   // retry on the kind's schedule
	ClassPanic       Class = "panic"       // retry at most 3 times, then quarantine
	ClassDenied      Class = "denied"      // slow retry, then quarantine
	ClassInvalid     Class = "invalid"     // quarantine at once
	ClassExpired     Class = "expired"     // quarantine at once
	ClassCrash       Class = "crash"       // the worker died; resume, no attempt used
)

var classes = []Class{
	ClassUnknown, ClassUnavailable, ClassThrottled, ClassTimeout, ClassTransient, ClassPanic, ClassDenied, ClassInvalid, ClassExpired, ClassCrash,
}

func (c Class) known() bool { return slices.Contains(classes, c) }

// CheckClass returns an error matching [ErrInvalid] for what is no class.
func CheckClass(c Class) error { return checkClass("class", c) }

func checkClass(field string, c Class) error {
	if c.known() {
		return nil
	}
	names := make([]string, len(classes))
	for i, known := range classes {
		names[i] = string(known)
	}
	return &InvalidError{Field: field, Value: string(c), Bound: "one of the classes " + strings.Join(names, ", ")}
}

// Classification is a class, and why.
type Classification struct {
	Class Class
	Rule  string        // which rule matched, for people
	Wait  time.Duration // as told by the error; 0 when it says nothing
	On    string        // the service it is about, when the error says so
	Step  string        // the step it came out of, if any
}

// Classify finds the class of an error by the first rule that matches: what the
// author said (Permanent, RetryAfter, Pause, WithClass), panics, HTTP and gRPC
// statuses, the network, TLS, timeouts, decoding, databases. A nil error is
// ClassUnknown, and so is an error whose own methods panic.
func Classify(err error) (c Classification) {
	defer func() {
		if recover() != nil {
			c = Classification{Class: ClassUnknown, Rule: "the error's own methods panic"}
		}
	}()
	c = Classification{Class: ClassUnknown, Rule: "no rule matched"}
	if err == nil {
		return c
	}
	for _, rule := range rules {
		if found, ok := rule(err); ok {
			c = found
			break
		}
	}
	c.Step = stepOf(err)
	return c
}

var rules = []func(error) (Classification, bool){
	byAuthor, byPanic, byChild, byStore, byHTTP, byGRPC, byTLS, byTimeout, byNetwork, byDecoding, byDatabase,
}

func is(class Class, rule string) (Classification, bool) {
	return Classification{Class: class, Rule: rule}, true
}

func none() (Classification, bool) { return Classification{}, false }

func byAuthor(err error) (Classification, bool) {
	var o *overrideError
	if !errors.As(err, &o) {
		return none()
	}
	return Classification{Class: o.class, Rule: o.rule, Wait: o.delay, On: o.on}, true
}

func byPanic(err error) (Classification, bool) {
	var p *PanicError
	if errors.As(err, &p) {
		return is(ClassPanic, "panic")
	}
	return none()
}

// byStore knows this package's own sentinel, whatever made Redis unreachable.
func byStore(err error) (Classification, bool) {
	if errors.Is(err, ErrUnavailable) {
		return is(ClassUnavailable, ErrUnavailable.Error())
	}
	return none()
}

// HTTPError is an HTTP response that a handler treats as a failure. Make one from
// a response with [CheckResponse].
type HTTPError struct {
	Status     int
	RetryAfter time.Duration // as told by the server; 0 when it says nothing
	URL        string        // without query and credentials
}

// Error says the status, and where from.
func (e *HTTPError) Error() string {
	return strings.TrimSpace("http status " + strconv.Itoa(e.Status) + " " + http.StatusText(e.Status) + " from " + e.URL)
}

// CheckResponse returns nil for a 2xx response and an *[HTTPError] for any other.
// It does not touch the body.
func CheckResponse(resp *http.Response) error {
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	e := &HTTPError{Status: resp.StatusCode, RetryAfter: ParseRetryAfter(resp.Header)}
	if resp.Request != nil && resp.Request.URL != nil {
		u := *resp.Request.URL
		u.User, u.RawQuery, u.Fragment = nil, "", ""
		e.URL = u.String()
	}
	return e
}

// ParseRetryAfter reads Retry-After of a reply's header, seconds or an HTTP date,
// bounded to 24 h. Anything else is 0. A date counts from the reply's own Date, so
// that a wrong clock here does not matter; without one, from our time.
func ParseRetryAfter(header http.Header) time.Duration {
	const most = 24 * time.Hour
	value := strings.TrimSpace(header.Get("Retry-After"))
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(max(seconds, 0), int64(most/time.Second))) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	from, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		from = time.Now()
	}
	return min(max(at.Sub(from), 0), most)
}

func byHTTP(err error) (Classification, bool) {
	var h *HTTPError
	if !errors.As(err, &h) {
		return none()
	}
	c := Classification{Rule: "http " + strconv.Itoa(h.Status), Wait: h.RetryAfter}
	if h.Status >= 400 && h.RetryAfter > 0 {
		c.Class, c.Rule = ClassThrottled, c.Rule+" with Retry-After"
		return c, true
	}
	switch h.Status {
	case 429:
		c.Class = ClassThrottled
	case 502, 503, 504:
		c.Class = ClassUnavailable
	case 408:
		c.Class = ClassTimeout
	case 409, 425, 500:
		c.Class = ClassTransient
	case 401, 403, 407:
		c.Class = ClassDenied
	default:
		c.Class = classOfOtherStatus(h.Status)
	}
	return c, true
}

func classOfOtherStatus(code int) Class {
	switch {
	case code >= 400 && code < 500:
		return ClassInvalid
	case code >= 500:
		return ClassTransient
	default:
		return ClassUnknown
	}
}

var grpcClasses = map[codes.Code]Class{
	codes.Unavailable:        ClassUnavailable,
	codes.ResourceExhausted:  ClassThrottled,
	codes.DeadlineExceeded:   ClassTimeout,
	codes.Aborted:            ClassTransient,
	codes.Internal:           ClassTransient,
	codes.Canceled:           ClassTransient,
	codes.DataLoss:           ClassTransient,
	codes.Unauthenticated:    ClassDenied,
	codes.PermissionDenied:   ClassDenied,
	codes.InvalidArgument:    ClassInvalid,
	codes.NotFound:           ClassInvalid,
	codes.AlreadyExists:      ClassInvalid,
	codes.FailedPrecondition: ClassInvalid,
	codes.OutOfRange:         ClassInvalid,
	codes.Unimplemented:      ClassInvalid,
}

func byGRPC(err error) (Classification, bool) {
	var carrier interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &carrier) || carrier.GRPCStatus() == nil {
		return none()
	}
	code := carrier.GRPCStatus().Code()
	class, ok := grpcClasses[code]
	if !ok {
		return is(ClassUnknown, "grpc "+code.String())
	}
	return is(class, "grpc "+code.String())
}

func byTLS(err error) (Classification, bool) {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		verify    *tls.CertificateVerificationError
		alert     tls.AlertError // over QUIC
		op        *net.OpError   // over TCP: the alert's type is not exported
	)
	if errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid) || errors.As(err, &verify) {
		return is(ClassDenied, "bad certificate")
	}
	if errors.As(err, &alert) || errors.As(err, &op) && op.Op == "remote error" {
		return is(ClassDenied, "tls alert")
	}
	return none()
}

func byTimeout(err error) (Classification, bool) {
	var network net.Error
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return is(ClassTimeout, "context deadline")
	case errors.As(err, &dns):
		return none()
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return is(ClassTimeout, "network timeout")
	}
	return none()
}

func byNetwork(err error) (Classification, bool) {
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return is(ClassUnavailable, "connection refused")
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED):
		return is(ClassUnavailable, "connection reset")
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return is(ClassUnavailable, "unreachable")
	case errors.As(err, &dns):
		return is(ClassUnavailable, "dns")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return is(ClassTransient, "reply cut short")
	case errors.Is(err, io.EOF):
		return is(ClassUnavailable, "connection closed without a reply")
	case errors.Is(err, context.Canceled):
		return is(ClassTransient, "context cancelled")
	}
	return none()
}

func byDecoding(err error) (Classification, bool) {
	var (
		syntax      *json.SyntaxError
		mismatch    *json.UnmarshalTypeError
		unsupported *json.UnsupportedTypeError
		value       *json.UnsupportedValueError
	)
	if errors.As(err, &syntax) || errors.As(err, &mismatch) || errors.As(err, &unsupported) || errors.As(err, &value) {
		return is(ClassInvalid, "json")
	}
	if errors.Is(err, ErrInvalid) {
		return is(ClassInvalid, "validation")
	}
	return none()
}

// byDatabase knows the SQLSTATE classes of serialization failures, deadlocks and
// lost connections (40, 08, 57P), by the method that pgx and lib/pq errors have.
func byDatabase(err error) (Classification, bool) {
	var coded interface{ SQLState() string }
	if errors.As(err, &coded) {
		code := coded.SQLState()
		switch {
		case strings.HasPrefix(code, "40"):
			return is(ClassTransient, "sqlstate "+code)
		case strings.HasPrefix(code, "08"), strings.HasPrefix(code, "57P"):
			return is(ClassUnavailable, "sqlstate "+code)
		}
	}
	if strings.Contains(strings.ToLower(err.Error()), "deadlock") {
		return is(ClassTransient, "deadlock")
	}
	return none()
}
