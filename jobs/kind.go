package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"
)

// Definition is a kind without its types: what the store, the worker and the
// commands need to know. Make one with [Define].
type Definition struct {
	Name        string
	Queue       string             // default "default"
	Version     int                // default 1
	Retry       Schedule           // default DefaultRetry
	ClassRetry  map[Class]Schedule // per class, instead of Retry and of the class's default
	Timeout     time.Duration      // of one attempt, default 30 min
	StepTimeout time.Duration      // of one step, default none beyond Timeout
	Retention   time.Duration      // of key and result after the end, default 24 h, at least 10 min
	Needs       []string           // the named services it depends on
	Limit       Limit              // of its jobs in the whole fleet; default none
	MaxPayload  int                // bytes as stored, default 64 KiB
	MaxOutput   int                // bytes of one step's output or of the result, default 1 MiB
	MaxSteps    int                // recorded steps and waits of one job, default 2,000
	MaxRecorded int                // bytes of all that is recorded of one job, default 16 MiB
	Codec       Codec              // default JSON
	Schema      string             // digest of the payload and result types' shape

	Dependencies []Dependency // what is known of services, its own or others

	migrations map[int]migration // of payloads, from each version to the next
}

// Limits and defaults of a Definition.
const (
	DefaultTimeout    = 30 * time.Minute
	DefaultRetention  = 24 * time.Hour
	MinRetention      = 10 * time.Minute
	DefaultMaxPayload = 64 << 10
	DefaultMaxOutput  = 1 << 20
)

// Option changes a kind's definition.
type Option interface{ defines(*Definition) error }

type defineOption func(*Definition) error

func (o defineOption) defines(d *Definition) error { return o(d) }

// Retry sets the schedule for failures that count: timeouts, transient and
// unknown errors.
func Retry(s Schedule) Option {
	return defineOption(func(d *Definition) error {
		d.Retry = s
		return s.check("retry")
	})
}

// RetryClass sets the schedule for one class of failure, instead of the kind's
// own or the class's default. The attempts counted are those that failed with
// that class; for unavailable and throttled, the waits in a row.
func RetryClass(c Class, s Schedule) Option {
	return defineOption(func(d *Definition) error {
		if d.ClassRetry == nil {
			d.ClassRetry = map[Class]Schedule{}
		}
		d.ClassRetry[c] = s
		if !c.known() {
			return &InvalidError{Field: "retry class", Value: string(c), Bound: "one of the classes of this package"}
		}
		return s.check("retry " + string(c))
	})
}

// Version sets the version of the kind's code, from 1. Raise it when a job that
// has begun under the old code must not continue under the new one: it goes on in
// the version that it began in, on a worker that has that one, and is paused until
// there is one. A worker may have several versions of a kind.
func Version(n int) Option {
	return defineOption(func(d *Definition) error {
		d.Version = n
		return bounded("version", n, 1, 1_000_000)
	})
}

// Timeout bounds one attempt. The handler's context ends then; a second at least.
func Timeout(t time.Duration) Option {
	return defineOption(func(d *Definition) error {
		d.Timeout = t
		return between("timeout", t, time.Second, 30*24*time.Hour)
	})
}

// StepTimeout bounds each step of the kind that sets no bound of its own by
// [Within].
func StepTimeout(t time.Duration) Option {
	return defineOption(func(d *Definition) error {
		d.StepTimeout = t
		return between("step timeout", t, time.Millisecond, 30*24*time.Hour)
	})
}

// Needs names the services that the kind depends on, for example "payments". While the
// breaker of one is open, or one is at its limit, its jobs are parked before they
// begin: they use no attempt and hold no slot, and go on by themselves. Each execution
// counts as a call of the service, when it is the only one; of a kind that needs
// several, the steps say which they call ([StepNeeds]).
func Needs(services ...string) Option {
	return defineOption(func(d *Definition) error {
		d.Needs = append(d.Needs, services...)
		for _, name := range services {
			if err := checkDependency("needs", name); err != nil {
				return err
			}
		}
		return nil
	})
}

// MaxPayload bounds the stored payload, in bytes.
func MaxPayload(bytes int) Option {
	return defineOption(func(d *Definition) error {
		d.MaxPayload = bytes
		return bounded("max payload", bytes, 1, 64<<20)
	})
}

// MaxOutput bounds the stored output of one step, and the result, in bytes.
func MaxOutput(bytes int) Option {
	return defineOption(func(d *Definition) error {
		d.MaxOutput = bytes
		return bounded("max output", bytes, 1, 64<<20)
	})
}

// WithCodec replaces JSON for the kind's payload, step outputs, progress and
// result. Producer and worker must use the same.
func WithCodec(c Codec) Option {
	return defineOption(func(d *Definition) error {
		if c == nil {
			return &InvalidError{Field: "codec", Value: "nil", Bound: "a codec"}
		}
		d.Codec = c
		return nil
	})
}

// Kind is a job type with its payload type P and result type R. Make one with
// [Define], once, usually in a package variable that producer and worker share.
type Kind[P, R any] struct {
	definition Definition
	err        error
}

// Define makes a kind. A definition that is out of bounds is reported by
// [Kind.Err], by enqueuing it and by starting a worker with it, not by a panic.
func Define[P, R any](name string, options ...Option) Kind[P, R] {
	d := Definition{
		Name: name, Queue: "default", Version: 1, Retry: DefaultRetry,
		Timeout: DefaultTimeout, Retention: DefaultRetention,
		MaxPayload: DefaultMaxPayload, MaxOutput: DefaultMaxOutput, MaxSteps: DefaultMaxSteps, MaxRecorded: DefaultMaxRecorded, Codec: JSON,
		Schema: schemaDigest(reflect.TypeFor[P](), reflect.TypeFor[R]()),
	}
	errs := []error{CheckKind(name)}
	for _, option := range options {
		errs = append(errs, option.defines(&d))
	}
	err := errors.Join(append(errs, d.checkMigrations())...)
	if err != nil {
		err = fmt.Errorf("kind %q: %w", name, err)
	}
	return Kind[P, R]{definition: d, err: err}
}

// Definition returns the kind without its types.
func (k Kind[P, R]) Definition() Definition { return k.definition }

// Err returns what is wrong with the definition, or nil.
func (k Kind[P, R]) Err() error { return k.err }

// New makes a job of the kind, to be given to [Client.Enqueue]. What is wrong
// with key, payload or options is returned by Enqueue.
func (k Kind[P, R]) New(key string, payload P, options ...JobOption) Job {
	return k.job(key, payload, options).attached()
}

// Do binds the kind to the function that runs its jobs. Middleware wraps the
// whole attempt, the first outermost.
func (k Kind[P, R]) Do(fn func(ctx context.Context, payload P) (R, error), middleware ...Middleware) Handler {
	codec := k.definition.Codec
	decode := func(payload []byte) (P, error) {
		var p P
		if err := codec.Decode(payload, &p); err != nil {
			return p, invalidPayload(fmt.Errorf("payload does not decode as %T: %w", p, err))
		}
		if err := validate(&p); err != nil {
			return p, invalidPayload(fmt.Errorf("payload: %w", err))
		}
		return p, nil
	}
	run := func(ctx context.Context, payload []byte) ([]byte, error) {
		payload, err := k.definition.migrated(payload, payloadVersion(ctx))
		if err != nil {
			return nil, err
		}
		p, err := decode(payload)
		if err != nil {
			return nil, err
		}
		result, err := fn(ctx, p)
		if err != nil {
			return nil, err
		}
		return encodeOutput(k.definition, "result", result)
	}
	check := func(payload []byte) error {
		_, err := decode(payload)
		return err
	}
	return Handler{Definition: k.definition, err: k.err, run: run, check: check, middleware: middleware}
}

// Result decodes the result of a completed job. It returns an error matching
// [ErrNotCompleted] when the job has not completed.
func (k Kind[P, R]) Result(info Info) (R, error) {
	var r R
	if info.State != StateCompleted {
		return r, fmt.Errorf("result of %s/%s, which is %s: %w", info.Queue, info.Key, info.State, ErrNotCompleted)
	}
	stored := info.raw
	if stored == nil {
		stored = info.Result
	}
	if len(stored) == 0 {
		return r, nil
	}
	if err := k.definition.Codec.Decode(stored, &r); err != nil {
		return r, fmt.Errorf("decode result of %s/%s as %T: %w", info.Queue, info.Key, r, err)
	}
	return r, nil
}

// encodeOutput encodes a step's output or a result within the kind's bound.
func encodeOutput(d Definition, what string, v any) ([]byte, error) {
	data, err := d.Codec.Encode(v)
	if err != nil {
		return nil, Permanent(fmt.Errorf("encode %s: %w", what, err))
	}
	if err := checkOutput(d, what, data); err != nil {
		return nil, err
	}
	return data, nil
}

func checkOutput(d Definition, what string, data []byte) error {
	if len(data) > d.MaxOutput {
		return Permanent(&InvalidError{
			Field: what, Value: fmt.Sprintf("of %d bytes", len(data)), Bound: fmt.Sprintf("at most %d bytes", d.MaxOutput),
		})
	}
	return nil
}

// validate calls the payload's own Validate method, if P or *P has one.
func validate[P any](payload *P) error {
	type validator interface{ Validate() error }
	if v, ok := any(payload).(validator); ok {
		return v.Validate()
	}
	if v, ok := any(*payload).(validator); ok { // P is a pointer or an interface
		return v.Validate()
	}
	return nil
}

// schemaDigest is a short digest of the members and types that JSON sees.
func schemaDigest(types ...reflect.Type) string {
	var shape []any
	for _, t := range types {
		shape = append(shape, shapeOf(t, map[reflect.Type]bool{}))
	}
	text, _ := json.Marshal(shape)
	return Digest("schema", text)[:16]
}

func shapeOf(t reflect.Type, seen map[reflect.Type]bool) any {
	if seen[t] {
		return t.String()
	}
	seen[t] = true
	defer delete(seen, t)
	switch t.Kind() {
	case reflect.Struct:
		members := map[string]any{}
		for _, f := range reflect.VisibleFields(t) {
			if f.IsExported() && !f.Anonymous && f.Tag.Get("json") != "-" {
				members[f.Name+" "+f.Tag.Get("json")] = shapeOf(f.Type, seen)
			}
		}
		if len(members) == 0 {
			return t.String()
		}
		return members
	case reflect.Slice, reflect.Array:
		return []any{shapeOf(t.Elem(), seen)}
	case reflect.Map:
		return map[string]any{"*": shapeOf(t.Elem(), seen)}
	case reflect.Pointer:
		return shapeOf(t.Elem(), seen)
	default:
		return t.Kind().String()
	}
}

func bounded(field string, n, least, most int) error {
	if n < least || n > most {
		return &InvalidError{Field: field, Value: n, Bound: fmt.Sprintf("from %d to %d", least, most)}
	}
	return nil
}

func between(field string, d, least, most time.Duration) error {
	if d < least || d > most {
		return &InvalidError{Field: field, Value: d, Bound: fmt.Sprintf("from %v to %v", least, most)}
	}
	return nil
}
