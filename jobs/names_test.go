package jobs_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/perdure/perdure/jobs"
)

// nameRules are the documented ones, word for word.
var nameRules = []struct {
	field string
	check func(string) error
	rule  *regexp.Regexp
}{
	{"key", jobs.CheckKey, regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9._:@+=~-]{0,254}\z`)},
	{"queue", jobs.CheckQueue, regexp.MustCompile(`\A[a-z0-9][a-z0-9_.-]{0,63}\z`)},
	{"kind", jobs.CheckKind, regexp.MustCompile(`\A[a-z0-9][a-z0-9_.-]{0,63}\z`)},
	{"step", jobs.CheckStep, regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9._:@+=~/-]{0,127}\z`)},
}

func TestNames(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("a", n) }
	tests := []struct {
		name string
		ok   string // the fields that accept it
	}{
		{"", ""},
		{"a", "key queue kind step"},
		{"0", "key queue kind step"},
		{"A", "key step"},
		{"order:1042", "key step"},
		{"user@example.com+tag=1~2", "key step"},
		{"order.fulfil_v2-eu", "key queue kind step"},
		{"fetch/page-3", "step"},
		{"/a", ""}, {"-a", ""}, {".a", ""}, {"_a", ""}, {":a", ""}, {"~a", ""},
		{"a b", ""}, {"a\n", ""}, {"\na", ""}, {"a\x00", ""}, {"a\x7f", ""}, {"a\xff", ""},
		{"é", ""}, {"aé", ""}, {"a{b}", ""}, {"a*", ""}, {"a,b", ""}, {`a\b`, ""}, {`a"b`, ""}, {"a?b", ""}, {"a#b", ""}, {"a%20", ""},
		{long(64), "key queue kind step"},
		{long(65), "key step"},
		{long(128), "key step"},
		{long(129), "key"},
		{long(255), "key"},
		{long(256), ""},
		{long(1 << 16), ""},
	}
	for _, test := range tests {
		for _, rule := range nameRules {
			err := rule.check(test.name)
			want := strings.Contains(" "+test.ok+" ", " "+rule.field+" ")
			if (err == nil) != want {
				t.Errorf("%s %.40q: accepted %v, want %v", rule.field, test.name, err == nil, want)
			}
			if err != nil {
				requireInvalid(t, err, rule.field)
			}
		}
	}
}

func TestTaskIDs(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"order:1", "tenant/42", "a b", "_x", "p1#2", "mail:ü", ".", "\xff", strings.Repeat("a", 1<<16)} {
		if err := jobs.CheckTaskID(key); err != nil {
			t.Errorf("%.40q: %v", key, err)
		}
	}
	requireInvalid(t, jobs.CheckTaskID(""), "key")
}

func FuzzNames(f *testing.F) {
	for _, seed := range []string{"", "a", "A.b", "order:1", "a/b", "a\n", "é", strings.Repeat("a", 65), strings.Repeat("a", 256)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		for _, rule := range nameRules {
			if got, want := rule.check(name) == nil, rule.rule.MatchString(name); got != want {
				t.Errorf("%s %q: accepted %v, but %v by %v", rule.field, name, got, want, rule.rule)
			}
		}
	})
}

// TestInvalidErrorText checks that the text says field, value and bound in one
// line of bounded length, whatever the value.
func TestInvalidErrorText(t *testing.T) {
	t.Parallel()
	tests := []struct {
		value any
		want  string
	}{
		{"a b", `field "a b": must be bound`},
		{"a\nb\x1b[31m", `field "a\nb\x1b[31m": must be bound`},
		{42, `field 42: must be bound`},
		{nil, `field <nil>: must be bound`},
		{strings.Repeat("é", 1000), `field "` + strings.Repeat("é", 76) + `...: must be bound`},
	}
	for _, test := range tests {
		err := &jobs.InvalidError{Field: "field", Value: test.value, Bound: "bound"}
		if got := err.Error(); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

// requireInvalid checks that err is an *InvalidError of the field, and that its
// text names field, value and bound.
func requireInvalid(t testing.TB, err error, field string) {
	t.Helper()
	if !errors.Is(err, jobs.ErrInvalid) {
		t.Fatalf("%v does not match ErrInvalid", err)
	}
	var invalid *jobs.InvalidError
	if !errors.As(err, &invalid) {
		t.Fatalf("%v is no *InvalidError", err)
	}
	if invalid.Field != field {
		t.Errorf("field %q, want %q (%v)", invalid.Field, field, err)
	}
	if invalid.Bound == "" || !strings.Contains(err.Error(), invalid.Field) || !strings.Contains(err.Error(), invalid.Bound) {
		t.Errorf("the text %q does not name field and bound", err)
	}
}
