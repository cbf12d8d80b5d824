package jobs

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Migrate turns the payload of a job that was enqueued for version from of the kind
// into that of version from+1, for a job that has not begun: a producer that knows the
// old version and a worker that only has the new one. Migrations follow each other up
// to the version that runs; a version without one takes the payload as it is. What
// comes out is validated like any payload. An error quarantines the job as invalid.
// Both are encoded by the kind's codec. from is at least 1 and below the kind's
// [Version].
//
// A message of a stock asynq producer says no version and is never migrated, unless
// it carries one in the header perdure-version.
func Migrate[Old, New any](from int, fn func(Old) (New, error)) Option {
	return defineOption(func(d *Definition) error {
		if d.migrations == nil {
			d.migrations = map[int]migration{}
		}
		if _, again := d.migrations[from]; again {
			return &InvalidError{Field: "migrate from", Value: from, Bound: "given once"}
		}
		d.migrations[from] = func(c Codec, payload []byte) ([]byte, error) {
			var before Old
			if err := c.Decode(payload, &before); err != nil {
				return nil, fmt.Errorf("it does not decode as %T: %w", before, err)
			}
			after, err := fn(before)
			if err != nil {
				return nil, err
			}
			return c.Encode(after)
		}
		return bounded("migrate from", from, 1, 1_000_000)
	})
}

type migration func(c Codec, payload []byte) ([]byte, error)

// checkMigrations runs once all options are known.
func (d Definition) checkMigrations() error {
	for from := range d.migrations {
		if from >= d.Version {
			return &InvalidError{Field: "migrate from", Value: from, Bound: fmt.Sprintf("below the kind's version %d", d.Version)}
		}
	}
	return nil
}

// migrated is the payload as this version of the kind knows it; from 0: not known.
func (d Definition) migrated(payload []byte, from int) ([]byte, error) {
	for v := from; v > 0 && v < d.Version; v++ {
		step := d.migrations[v]
		if step == nil {
			continue
		}
		var err error
		if payload, err = step(d.Codec, payload); err != nil {
			return nil, invalidPayload(fmt.Errorf("payload of version %d of kind %s, on its way from version %d to %d: %w", from, d.Name, v, v+1, err))
		}
	}
	return payload, nil
}

// payloadVersion is the version that the payload of the job in ctx was made for.
func payloadVersion(ctx context.Context) int {
	about, _ := Current(ctx)
	return about.PayloadVersion
}

// checkMet refuses the success of an execution that has not come to all that is
// recorded of its job: code that goes by other names has done things twice.
func (h Handler) checkMet(ctx context.Context) error {
	a, ok := ctx.Value(attemptKey).(Attempt)
	if !ok {
		return nil
	}
	steps := a.Unmet()
	if len(steps) == 0 {
		return nil
	}
	more := ""
	if len(steps) > 10 {
		more = fmt.Sprintf(" and %d more", len(steps)-10)
		steps = steps[:10]
	}
	return Permanent(fmt.Errorf("the handler has ended without coming to recorded steps: %s%s. Were they renamed or removed? Put them back beside those that took their place, or give this code a new version of kind %s and keep the old one for jobs that have begun; then replay the job",
		strings.Join(steps, ", "), more, h.Definition.Name))
}

// ContinueAs ends this execution and has the job begin anew with another payload:
// return it. Key and incarnation stay; recorded steps, waits that are not over,
// progress, children and attempts used are forgotten in the same write, and signals
// that nobody has waited for yet are kept. It is the way of a job without an end, which
// would else record more and more. The new round begins in the kind's newest version,
// [About] counts it, and idempotency keys differ from those of the rounds before.
//
// What the round has done is final: it is not undone any more ([Compensate]). Children
// that still run go on by themselves. A payload that cannot be encoded, is out of
// bounds or invalid is a permanent failure of the job.
func ContinueAs(payload any) error { return &continuation{payload: payload} }

type continuation struct {
	payload any
	encoded []byte
}

// Error says what it is, for whoever meets it as an error.
func (c *continuation) Error() string {
	return "the job continues with another payload; return this error"
}

// Continuation returns the encoded payload when an error that [Handler.Run] has
// returned is a [ContinueAs].
func Continuation(err error) (payload []byte, ok bool) {
	var c *continuation
	if !errors.As(err, &c) {
		return nil, false
	}
	return c.encoded, true
}

// continued encodes what the next round works on.
func (h Handler) continued(err error) error {
	var c *continuation
	if !errors.As(err, &c) {
		return err
	}
	data, err := h.Definition.Codec.Encode(c.payload)
	if err == nil {
		err = errors.Join(checkPayload(h.Definition, data), h.Check(data))
	}
	if err != nil {
		return Permanent(fmt.Errorf("continue with another payload: %w", err))
	}
	return &continuation{encoded: data}
}

// Bounds of what is recorded of one job.
const (
	DefaultMaxSteps    = 2000
	DefaultMaxRecorded = 16 << 20
)

// MaxSteps bounds how many steps and waits are recorded of one job: 1 to 4,000, 2,000
// by default. One more is a permanent failure before anything is written; see
// [ContinueAs].
func MaxSteps(n int) Option {
	return defineOption(func(d *Definition) error {
		d.MaxSteps = n
		return bounded("max steps", n, 1, 4000)
	})
}

// MaxRecorded bounds the outputs, waits and progress recorded of one job, in bytes:
// 1 KiB to 256 MiB, 16 MiB by default. More is a permanent failure before anything is
// written; see [ContinueAs].
func MaxRecorded(bytes int) Option {
	return defineOption(func(d *Definition) error {
		d.MaxRecorded = bytes
		return bounded("max recorded", bytes, 1<<10, 256<<20)
	})
}

// CheckRecord returns a permanent error unless so many recorded steps and bytes are
// within the kind's bounds. Implementations of [Attempt] call it before they write.
func (d Definition) CheckRecord(steps, bytes int) error {
	if most := d.MaxSteps; most > 0 && steps > most {
		return Permanent(&InvalidError{Field: "recorded steps of the job", Value: steps, Bound: fmt.Sprintf("at most %d for kind %s; begin a new round with ContinueAs, or raise MaxSteps", most, d.Name)})
	}
	if most := d.MaxRecorded; most > 0 && bytes > most {
		return Permanent(&InvalidError{Field: "recorded bytes of the job", Value: bytes, Bound: fmt.Sprintf("at most %d for kind %s; record less, begin a new round with ContinueAs, or raise MaxRecorded", most, d.Name)})
	}
	return nil
}
