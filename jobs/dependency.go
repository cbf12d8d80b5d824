package jobs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// MaxDependencyLength is the longest name of a dependency, in bytes.
const MaxDependencyLength = 128

// ErrHeld says that a service which a step needs is not available now, or at its
// limit: the step was not begun. See [StepNeeds] and [Fallback].
var ErrHeld = errors.New("a service that the step needs is not available now")

// CheckDependency returns an *[InvalidError] unless name is a valid name of a
// dependency: [a-z0-9][a-z0-9_.:-]{0,127}.
func CheckDependency(name string) error { return checkDependency("dependency", name) }

func checkDependency(field, name string) error {
	return checkName(field, name, MaxDependencyLength, isLowerAlnum, func(c byte) bool {
		return isLowerAlnum(c) || oneOf(c, "_.:-")
	}, "1 to 128 of a-z 0-9 _ . : -, beginning with a letter or digit")
}

// Dependency describes a service that jobs need: how its breaker judges, how fast
// its jobs come back, and what it can bear. The zero value of each field has a
// default. What an operator sets (`perdure dep set`) goes before.
type Dependency struct {
	Name     string
	Resume   float64 // most jobs a second that come back after an outage; default 100
	Ratio    float64 // of calls that fail, from which on the breaker opens, over 0 and up to 1; default 0.5
	MinCalls int     // that the judgement needs; default 5
	Quorum   int     // workers that must agree, where so many call it; default 2
	Limit    Limit   // for all workers together; zero: none
	// Health asks the service whether it is well, instead of letting a job find out. It
	// is called by one worker at a time, while the breaker is open.
	Health func(ctx context.Context) error
}

// HealthURL is a [Dependency.Health] that gets a URL, without following redirects: a 2xx
// answer is well.
func HealthURL(url string) func(ctx context.Context) error {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		return CheckResponse(response)
	}
}

// Limit bounds how often something begins, in the whole fleet. What is over it waits,
// without an attempt and without a slot.
type Limit struct {
	Rate        float64 `json:"rate,omitempty"`        // a second; 0: no bound
	Concurrency int     `json:"concurrency,omitempty"` // at a time; 0: no bound
}

// None reports that the limit bounds nothing.
func (l Limit) None() bool { return l.Rate == 0 && l.Concurrency == 0 }

// String is the limit for people: "50 a second, 10 at a time", or "none".
func (l Limit) String() string {
	switch {
	case l.None():
		return "none"
	case l.Rate > 0 && l.Concurrency > 0:
		return fmt.Sprintf("%g a second, %d at a time", l.Rate, l.Concurrency)
	case l.Rate > 0:
		return fmt.Sprintf("%g a second", l.Rate)
	}
	return fmt.Sprintf("%d at a time", l.Concurrency)
}

// Check returns an error matching [ErrInvalid] unless the limit is within its bounds.
func (l Limit) Check(field string) error {
	var errs []error
	if l.Rate != 0 && (l.Rate < 0.001 || l.Rate > 1_000_000) || l.Rate != l.Rate {
		errs = append(errs, &InvalidError{Field: field + " rate", Value: plain(l.Rate), Bound: "from 0.001 to 1000000 a second, or 0 for none"})
	}
	if l.Concurrency != 0 {
		errs = append(errs, bounded(field+" concurrency", l.Concurrency, 1, 1_000_000))
	}
	return errors.Join(errs...)
}

// plain writes a number without an exponent.
func plain(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

// Check returns an error matching [ErrInvalid] that names each field which is out of
// its bounds.
func (d Dependency) Check() error {
	errs := []error{CheckDependency(d.Name), d.Limit.Check("limit of " + d.Name)}
	if d.Resume != 0 && (d.Resume < 0.1 || d.Resume > 100_000) || d.Resume != d.Resume {
		errs = append(errs, &InvalidError{Field: "resume rate of " + d.Name, Value: plain(d.Resume), Bound: "from 0.1 to 100000 jobs a second"})
	}
	if d.Ratio < 0 || d.Ratio > 1 || d.Ratio != d.Ratio {
		errs = append(errs, &InvalidError{Field: "failure ratio of " + d.Name, Value: d.Ratio, Bound: "over 0, at most 1"})
	}
	if d.MinCalls != 0 {
		errs = append(errs, bounded("min calls of "+d.Name, d.MinCalls, 1, 10_000))
	}
	if d.Quorum != 0 {
		errs = append(errs, bounded("quorum of "+d.Name, d.Quorum, 1, 1_000))
	}
	return errors.Join(errs...)
}

// Describe says more of a service than its name; for all kinds of a program, so say it
// once. It does not make the kind need the service: see [Needs].
func Describe(d Dependency) Option {
	return defineOption(func(k *Definition) error {
		k.Dependencies = append(k.Dependencies, d)
		return d.Check()
	})
}

// LimitKind bounds the jobs of the kind in the whole fleet.
func LimitKind(l Limit) Option {
	return defineOption(func(d *Definition) error {
		d.Limit = l
		return l.Check("limit of the kind")
	})
}

// StepNeeds names the services that a step calls. Each of its calls counts for them,
// and while the breaker of one is open, or one is at its limit, the step is not begun:
// the job is parked there, keeps what is recorded, uses no attempt, and goes on by
// itself. A kind that [Needs] several services should say so at each step that calls
// one, because a failure is not held against a service that may be innocent.
func StepNeeds(services ...string) StepOption {
	return func(s *stepSettings) { s.needs = append(s.needs, services...) }
}

// Fallback gives a step another way to its output for when a service of its
// [StepNeeds] is held: fn is called with an error matching [ErrHeld] instead of the
// step's function, and what it returns is recorded as the step's output, for good. An
// error of fn is the step's. T must be the step's type.
func Fallback[T any](fn func(ctx context.Context, held error) (T, error)) StepOption {
	return func(s *stepSettings) { s.fallback = fn }
}

// fallbackOf returns the step's other way; it must be for a step of its type.
func fallbackOf[T any](name string, fallback any) (func(context.Context, error) (T, error), error) {
	if fallback == nil {
		return nil, nil
	}
	fn, ok := fallback.(func(context.Context, error) (T, error))
	if !ok || fn == nil {
		var zero T
		return nil, Permanent(&InvalidError{Field: "fallback of step " + name, Value: fmt.Sprintf("%T", fallback), Bound: fmt.Sprintf("a function that returns %T", zero)})
	}
	return fn, nil
}

// callServices runs a step's function as a call of the services that it needs.
func callServices[T any](ctx context.Context, a Attempt, name string, fn func(ctx context.Context) (T, error), settings stepSettings) (T, error) {
	var zero T
	fallback, err := fallbackOf[T](name, settings.fallback)
	if err != nil {
		return zero, err
	}
	for _, service := range settings.needs {
		if err := CheckDependency(service); err != nil {
			return zero, Permanent(err)
		}
	}
	done, err := a.Call(ctx, name, settings.needs)
	if errors.Is(err, ErrHeld) && fallback != nil {
		return fallback(ctx, err)
	}
	if errors.Is(err, ErrHeld) {
		flowOf(ctx).park()
		return zero, fmt.Errorf("%w: %w", ErrParked, err)
	}
	if err != nil {
		return zero, err
	}
	ended := errors.New("the step's function did not return")
	defer func() { done(ended) }()
	value, err := fn(ctx)
	ended = err
	return value, err
}

// passed tells whoever runs the job, if it wants to know, that a step which calls services
// was recorded before: this execution does not call them by it.
func passed(a Attempt, services []string) {
	if runner, wants := a.(interface{ Passed(services []string) }); wants && len(services) > 0 {
		runner.Passed(services)
	}
}

// Standing is where a dependency, or a limit, stands: what `perdure dep list` shows.
type Standing struct {
	Name      string          `json:"name"`
	State     DependencyState `json:"state"`
	Since     time.Time       `json:"since,omitzero"`
	Reason    string          `json:"reason,omitempty"` // why it is not closed
	By        string          `json:"by,omitempty"`     // who opened or closed it; "perdure" by itself
	Forced    bool            `json:"forced,omitempty"` // opened by somebody: stays so until somebody closes it
	Turn      int64           `json:"turn"`             // how often it has opened
	Resume    float64         `json:"resume"`           // most jobs a second that come back
	Limit     Limit           `json:"limit,omitzero"`
	Throttled time.Time       `json:"throttled_until,omitzero"` // the service has said so
}

// DependencyState is the state of a breaker.
type DependencyState string

// The states.
const (
	DependencyClosed     DependencyState = "closed"     // calls are made
	DependencyOpen       DependencyState = "open"       // none but a probe
	DependencyRecovering DependencyState = "recovering" // so many a second, more each second
)
