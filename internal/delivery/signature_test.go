package delivery

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/perdure/perdure/jobs"
)

func TestNormalise(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		"":                                                "",
		"row 17 is bad":                                   "row <n> is bad",
		"took 1.50 of 3":                                  "took <n> of <n>",
		"  two\n\twords ":                                 "two words",
		`no such user "ada"`:                              "no such user <text>",
		"no such user 'ada'":                              "no such user <text>",
		"no such user `ada`":                              "no such user <text>",
		"it can't and won't":                              "it can't and won't",
		"dial tcp 10.0.0.7:5432: refused":                 "dial tcp <address>: refused",
		"dial tcp [fe80::1]:443: refused":                 "dial tcp <address>: refused",
		"dial tcp db-3.internal:5432: reset":              "dial tcp <address>: reset",
		"dial tcp localhost:5432: reset":                  "dial tcp <address>: reset",
		"mail to ada@example.org bounced":                 "mail to <address> bounced",
		"at 2026-03-01T10:11:12.5Z it broke":              "at <time> it broke",
		"at 2026-03-01 it broke":                          "at <time> it broke",
		"no answer within 1m30.5s":                        "no answer within <duration>",
		"at 0xDEADbeef":                                   "at <id>",
		"order 7d444840-9dc0-11d1-b245-5ffdce74fad2 gone": "order <id> gone",
		"charge ch_3MtwBwLkdIwHu7ix28a3tqPa failed":       "charge <id> failed",
		"order:1042 has no lines":                         "order:<n> has no lines",
		"invalid byte \xff":                               "invalid byte ?",
		strings.Repeat("é", 400):                          strings.Repeat("é", 250),
	} {
		if got := Normalise(message); got != want {
			t.Errorf("%q becomes %q, want %q", message, got, want)
		}
	}
}

func TestSignature(t *testing.T) {
	t.Parallel()
	first := jobs.Failure{Class: jobs.ClassInvalid, Step: "ship/1", Message: "order 1 is bad"}
	sign := func(kind string, change func(*jobs.Failure)) string {
		f := first
		change(&f)
		return Signature(kind, f)
	}
	base := sign("a", func(*jobs.Failure) {})
	if len(base) != 12 {
		t.Errorf("signature %q", base)
	}
	if got := sign("a", func(f *jobs.Failure) { f.Step, f.Message, f.Worker = "ship/22", "order 99 is bad", "w" }); got != base {
		t.Errorf("another order has signature %s, want %s", got, base)
	}
	for what, other := range map[string]string{
		"kind":    sign("b", func(*jobs.Failure) {}),
		"class":   sign("a", func(f *jobs.Failure) { f.Class = jobs.ClassDenied }),
		"step":    sign("a", func(f *jobs.Failure) { f.Step = "pay" }),
		"message": sign("a", func(f *jobs.Failure) { f.Message = "order 1 is odd" }),
	} {
		if other == base {
			t.Errorf("another %s has the same signature", what)
		}
	}
}

var digit = regexp.MustCompile(`[0-9]`)

// FuzzNormalise: whatever comes in, what comes out is short, has no digit, and
// is not told apart by a number.
func FuzzNormalise(f *testing.F) {
	for _, seed := range []string{"row 17", `a "b" 'c'`, "dial tcp [::1]:80", "x\xff", "2026-03-01T10:11:12Z", "1h2m", "'a' 0x1 b@c.de"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, message string) {
		once := Normalise(message)
		if len(once) > maxNormalised || !utf8.ValidString(once) || digit.MatchString(once) {
			t.Errorf("%q becomes %q", message, once)
		}
		if a, b := Normalise(message+" 1"), Normalise(message+" 22"); a != b {
			t.Errorf("%q is told apart by a number: %q and %q", message, a, b)
		}
	})
}
