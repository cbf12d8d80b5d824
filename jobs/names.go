package jobs

import (
	"errors"
	"fmt"
	"strings"
)

// Bounds of names, in bytes.
const (
	MaxKeyLength  = 255 // a job's key
	MaxNameLength = 64  // a queue or a kind
	MaxStepLength = 128 // a step
)

// ErrInvalid is matched by every error that refuses an argument, a payload or
// a setting outside its bounds.
var ErrInvalid = errors.New("invalid")

// InvalidError names the field that was refused, the value it had and the bound
// it broke. It matches [ErrInvalid].
type InvalidError struct {
	Field string // what was refused, as the caller knows it: "key", "delay", "PERDURE_CONCURRENCY"
	Value any    // the value as given; long text is cut when printed
	Bound string // what it must be
}

// Error says field, value and bound in one line.
func (e *InvalidError) Error() string {
	value := fmt.Sprint(e.Value)
	if text, ok := e.Value.(string); ok {
		value = fmt.Sprintf("%q", text)
	}
	if runes := []rune(value); len(runes) > 80 {
		value = string(runes[:77]) + "..."
	}
	return fmt.Sprintf("%s %s: must be %s", e.Field, value, e.Bound)
}

// Is reports that the error matches [ErrInvalid].
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

// CheckKey returns an *[InvalidError] unless key is a valid key for a new job:
// [A-Za-z0-9][A-Za-z0-9._:@+=~-]{0,254}. For one that exists see [CheckTaskID].
func CheckKey(key string) error {
	return checkName("key", key, MaxKeyLength, isAlnum, func(c byte) bool {
		return isAlnum(c) || oneOf(c, "._:@+=~-")
	}, "1 to 255 of A-Z a-z 0-9 . _ : @ + = ~ -, beginning with a letter or digit")
}

// CheckTaskID returns an *[InvalidError] unless key can be that of a job that exists:
// asynq's own clients take any task ID but an empty one.
func CheckTaskID(key string) error {
	if key == "" {
		return &InvalidError{Field: "key", Value: key, Bound: "the key of a job, which is its task ID"}
	}
	return nil
}

// CheckQueue returns an *[InvalidError] unless name is a valid queue name:
// [a-z0-9][a-z0-9_.-]{0,63}.
func CheckQueue(name string) error { return checkLower("queue", name) }

// CheckKind returns an *[InvalidError] unless name is a valid kind name:
// [a-z0-9][a-z0-9_.-]{0,63}.
func CheckKind(name string) error { return checkLower("kind", name) }

// CheckTenant returns an *[InvalidError] unless name is a valid name of a tenant:
// [a-z0-9][a-z0-9_.-]{0,63}.
func CheckTenant(name string) error { return checkLower("tenant", name) }

// CheckStep returns an *[InvalidError] unless name is a valid step name:
// [A-Za-z0-9][A-Za-z0-9._:@+=~/-]{0,127}. Names that begin with undo/ are those of
// the steps that undo others.
func CheckStep(name string) error {
	if strings.HasPrefix(name, undoPrefix) {
		return &InvalidError{Field: "step", Value: name, Bound: "not beginning with " + undoPrefix + ", which is for steps that undo others"}
	}
	return checkName("step", name, MaxStepLength, isAlnum, func(c byte) bool {
		return isAlnum(c) || oneOf(c, "._:@+=~/-")
	}, "1 to 128 of A-Z a-z 0-9 . _ : @ + = ~ / -, beginning with a letter or digit")
}

func checkLower(field, name string) error {
	return checkName(field, name, MaxNameLength, isLowerAlnum, func(c byte) bool {
		return isLowerAlnum(c) || oneOf(c, "_.-")
	}, "1 to 64 of a-z 0-9 _ . -, beginning with a letter or digit")
}

func checkName(field, name string, most int, first, rest func(byte) bool, bound string) error {
	ok := len(name) > 0 && len(name) <= most && first(name[0])
	for i := 1; ok && i < len(name); i++ {
		ok = rest(name[i])
	}
	if !ok {
		return &InvalidError{Field: field, Value: name, Bound: bound}
	}
	return nil
}

func isLowerAlnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

func isAlnum(c byte) bool { return isLowerAlnum(c) || c >= 'A' && c <= 'Z' }

func oneOf(c byte, set string) bool {
	for i := 0; i < len(set); i++ {
		if set[i] == c {
			return true
		}
	}
	return false
}
