package delivery

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/perdure/perdure/jobs"
)

// maxNormalised is how many bytes of a normalised text count.
const maxNormalised = 500

// varying matches what differs between two failures of the same sort; the name of
// the group that matches is what the text becomes. The first that fits wins.
var varying = regexp.MustCompile(strings.Join([]string{
	`(?P<text>"[^"]*"|` + "`[^`]*`" + `|\B'[^']*'\B)`,
	`(?P<address>[\w.+-]+@[\w-]+(?:\.[\w-]+)+|\[[0-9a-fA-F:]*:[0-9a-fA-F:.]*\](?::\d+)?|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|\b(?:localhost|[\w-]+(?:\.[\w-]+)+):\d+\b)`,
	`(?P<time>\b\d{4}[-/]\d\d[-/]\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d:?\d\d)?\b)`,
	`(?P<duration>\b(?:\d+(?:\.\d+)?(?:ns|µs|us|ms|s|m|h))+\b)`,
	`(?P<id>\b0[xX][0-9a-fA-F]+\b|\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b|\b[A-Za-z_-]*\d[\w-]{15,}\b)`,
	`(?P<n>\d+(?:\.\d+)*)`,
}, "|"))

// Normalise returns a message with what differs from one failure to the next left
// out: quoted text, addresses, times, durations, identifiers and numbers.
func Normalise(message string) string {
	message = strings.Join(strings.Fields(strings.ToValidUTF8(message, "?")), " ")
	var b strings.Builder
	end := 0
	for _, found := range varying.FindAllStringSubmatchIndex(message, -1) {
		b.WriteString(message[end:found[0]])
		for group, name := range varying.SubexpNames() {
			if group > 0 && found[2*group] >= 0 {
				b.WriteString("<" + name + ">")
			}
		}
		end = found[1]
	}
	b.WriteString(message[end:])
	return cut(b.String(), maxNormalised)
}

// cut returns at most most bytes of a text, whole runes.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}

// Signature is equal for failures of the same sort: same kind and class, the same
// step but for numbers, and the same message but for what [Normalise] leaves out.
// It is twelve hexadecimal digits.
func Signature(kind string, f jobs.Failure) string {
	text := strings.Join([]string{kind, string(f.Class), Normalise(f.Step), Normalise(f.Message)}, "\x00")
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:6])
}
