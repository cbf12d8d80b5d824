package jobs

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Job is one durable unit of work on its way to a queue. Make one with
// [Kind.New] or [Raw] and give it to [Client.Enqueue].
type Job struct {
	Kind      string
	Queue     string
	Key       string
	Payload   []byte // encoded by the kind's codec
	Version   int    // of the kind that the payload was made for
	Digest    string // equal for equal kind and payload
	Tenant    string
	Headers   map[string]string
	Delay     time.Duration // from acceptance; not together with At
	At        time.Time     // not before; whole seconds are kept, rounded up
	Deadline  time.Time     // a job not begun by then is quarantined as expired
	Timeout   time.Duration
	Retention time.Duration

	detached bool // of a child: cancelling its parent does not cancel it
	err      error
}

// Err returns what is wrong with the job, or nil.
func (j Job) Err() error { return j.err }

// JobOption changes one job as it is made.
type JobOption interface{ makes(*Job) error }

type jobOption func(*Job) error

func (o jobOption) makes(j *Job) error { return o(j) }

// QueueOption is returned by [Queue]; it serves [Define] and [Kind.New].
type QueueOption string

// Queue names the queue: of a kind in [Define], of one job in [Kind.New].
func Queue(name string) QueueOption { return QueueOption(name) }

func (q QueueOption) defines(d *Definition) error {
	d.Queue = string(q)
	return CheckQueue(d.Queue)
}

func (q QueueOption) makes(j *Job) error {
	j.Queue = string(q) // checked with the rest of the job
	return nil
}

// RetentionOption is returned by [Retention]; it serves [Define] and [Kind.New].
type RetentionOption time.Duration

// Retention says how long key and result are kept after the job has ended: of a
// kind in [Define], of one job in [Kind.New]. At least 10 minutes, 24 h by
// default.
func Retention(d time.Duration) RetentionOption { return RetentionOption(d) }

func (r RetentionOption) check() error {
	return between("retention", time.Duration(r), MinRetention, 10*365*24*time.Hour)
}

func (r RetentionOption) defines(d *Definition) error {
	d.Retention = time.Duration(r)
	return r.check()
}

func (r RetentionOption) makes(j *Job) error {
	j.Retention = time.Duration(r)
	return r.check()
}

// Delay starts the job no sooner than d after it is enqueued.
func Delay(d time.Duration) JobOption {
	return jobOption(func(j *Job) error {
		j.Delay = d
		return between("delay", d, 0, 10*365*24*time.Hour)
	})
}

// At starts the job no sooner than t. A time in the past starts it at once.
func At(t time.Time) JobOption {
	return jobOption(func(j *Job) error {
		j.At = t
		if year := t.UTC().Year(); year < 1970 || year > 9999 {
			return &InvalidError{Field: "at", Value: t.String(), Bound: "a time from 1970 to 9999"}
		}
		return nil
	})
}

// Deadline quarantines the job as expired when it has not begun by t.
func Deadline(t time.Time) JobOption {
	return jobOption(func(j *Job) error {
		j.Deadline = t
		if !t.After(time.Unix(0, 0)) || t.UTC().Year() > 9999 {
			return &InvalidError{Field: "deadline", Value: t.String(), Bound: "a time from 1970 to 9999"}
		}
		return nil
	})
}

// Tenant says on whose behalf the job runs: 1 to 64 of a-z 0-9 _ . -.
func Tenant(name string) JobOption {
	return jobOption(func(j *Job) error {
		j.Tenant = name
		return CheckTenant(name)
	})
}

// HeaderPrefix begins the names of the headers that perdure itself sets.
const HeaderPrefix = "perdure-"

// Header adds a header that travels with the job and that the handler can read
// with [Current]: at most 32, each name at most 64 bytes, each value at most
// 1 KiB. Names that begin with "perdure-" are perdure's own.
func Header(name, value string) JobOption {
	return jobOption(func(j *Job) error {
		if err := checkHeader(name, value); err != nil {
			return err
		}
		if j.Headers == nil {
			j.Headers = map[string]string{}
		}
		j.Headers[name] = value
		return bounded("number of headers", len(j.Headers), 0, 32)
	})
}

func checkHeader(name, value string) error {
	if strings.HasPrefix(strings.ToLower(name), HeaderPrefix) {
		return &InvalidError{Field: "header", Value: name, Bound: `a name that does not begin with "perdure-"`}
	}
	if len(name) == 0 || len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 127 }) {
		return &InvalidError{Field: "header", Value: name, Bound: "1 to 64 printable ASCII characters"}
	}
	if len(value) > 1024 {
		return &InvalidError{Field: "header " + name, Value: fmt.Sprintf("of %d bytes", len(value)), Bound: "at most 1024 bytes"}
	}
	return nil
}

// Raw makes a job from a payload that is JSON already, for callers that do not
// have the kind's types: the HTTP API and the command line. A codec other than
// JSON encodes it as a json.RawMessage.
func Raw(d Definition, key string, payload json.RawMessage, options ...JobOption) Job {
	j := newJob(d, key, options).attached()
	if len(payload) == 0 {
		payload = json.RawMessage("null")
	}
	if !json.Valid(payload) {
		j.err = errors.Join(j.err, &InvalidError{Field: "payload", Value: fmt.Sprintf("of %d bytes", len(payload)), Bound: "valid JSON"})
		return j
	}
	if _, plain := d.Codec.(jsonCodec); !plain && d.Codec != nil {
		j.encode(d, payload)
		return j
	}
	j.Payload = payload
	j.Digest = Digest(d.Name, payload)
	j.err = errors.Join(j.err, checkPayload(d, payload))
	return j
}

func newJob(d Definition, key string, options []JobOption) Job {
	j := Job{Kind: d.Name, Version: d.Version, Queue: d.Queue, Key: key, Timeout: d.Timeout, Retention: d.Retention}
	errs := []error{CheckKind(d.Name), CheckKey(key)}
	for _, option := range options {
		errs = append(errs, option.makes(&j))
	}
	if j.Delay > 0 && !j.At.IsZero() {
		errs = append(errs, &InvalidError{Field: "delay", Value: j.Delay, Bound: "absent when at is given"})
	}
	errs = append(errs, CheckQueue(j.Queue))
	j.err = errors.Join(errs...)
	return j
}

func (j *Job) encode(d Definition, payload any) {
	data, err := d.Codec.Encode(payload)
	if err != nil {
		j.err = errors.Join(j.err, &payloadError{fmt.Errorf("encode payload of kind %q: %w", d.Name, err)})
		return
	}
	j.Payload = data
	j.err = errors.Join(j.err, checkPayload(d, data))
	if digester, ok := d.Codec.(Digester); ok {
		j.Digest, err = digester.Digest(d.Name, payload)
		if err != nil {
			j.err = errors.Join(j.err, &payloadError{fmt.Errorf("digest payload of kind %q: %w", d.Name, err)})
		}
		return
	}
	j.Digest = Digest(d.Name, data)
}

func checkPayload(d Definition, payload []byte) error {
	if len(payload) > d.MaxPayload {
		return &InvalidError{
			Field: "payload", Value: fmt.Sprintf("of %d bytes", len(payload)), Bound: fmt.Sprintf("at most %d bytes for kind %s", d.MaxPayload, d.Name),
		}
	}
	return nil
}
