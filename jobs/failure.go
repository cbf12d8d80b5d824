package jobs

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// Bounds of a stored failure, in bytes.
const (
	maxMessage = 1 << 10
	maxRule    = 128
	maxStack   = 8 << 10
)

var (
	quotedOrBareURL = regexp.MustCompile(`"[A-Za-z][A-Za-z0-9+.-]*://(?:\\.|[^"\\\n])*"?|[A-Za-z0-9+.-]*://[^\s"]+`)
	bareQuery       = regexp.MustCompile(`\?[^\s"]+`)
	badPort         = regexp.MustCompile(`invalid port "[^"]*"`) // net/url shows part of an unescaped password
)

// NewFailure makes the record of an error: classified, its text cut to 1 KiB and
// cleared of control characters, URL credentials, URL queries and URL fragments.
func NewFailure(err error, at time.Time, worker string, attempt int) (Failure, Classification) {
	c := Classify(err)
	f := Failure{
		Class: c.Class, Rule: cleanText(c.Rule, maxRule), Message: cleanText(fmt.Sprint(err), maxMessage), // Sprint: Error may panic
		Step: cleanText(c.Step, MaxStepLength), Stack: cut(stackOf(err), maxStack), At: at.UTC(), Worker: worker, Attempt: attempt,
	}
	return f, c
}

func stackOf(err error) (stack string) {
	defer func() { _ = recover() }() // a method of err's chain may panic
	var p *PanicError
	if errors.As(err, &p) {
		return strings.ToValidUTF8(p.Stack, "?")
	}
	return ""
}

func cleanText(text string, most int) string {
	text = quotedOrBareURL.ReplaceAllStringFunc(text, redactURL)
	text = bareQuery.ReplaceAllString(text, "?...")
	text = badPort.ReplaceAllString(text, `invalid port "..."`)
	text = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || !unicode.IsControl(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, "?"))
	return cut(text, most)
}

// redactURL takes userinfo, query and fragment out of a URL, which may be in
// double quotes; one that is not closed ends with its line. What cannot be told from a password with unescaped characters
// goes too.
func redactURL(found string) string {
	scheme, rest, _ := strings.Cut(found, "://")
	quote := ""
	if inside, closed := strings.CutSuffix(rest, `"`); closed {
		rest, quote = inside, `"`
	}
	tail := ""
	if i := strings.IndexAny(rest, "?#"); i >= 0 {
		unescaped := strings.Contains(rest[i:], "@") && strings.Contains(rest[:i], ":") && !strings.Contains(rest[:i], "/")
		rest, tail = rest[:i], "?..."
		if unescaped {
			rest = "..."
		}
	}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		rest = "...@" + rest[i+1:]
	}
	return scheme + "://" + rest + tail + quote
}

func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-3], "") + "..."
}
