package delivery

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"

	"github.com/perdure/perdure/jobs"
)

var varying = regexp.MustCompile(`0x[0-9a-fA-F]+|[0-9a-fA-F]{8,}(-[0-9a-fA-F]{4,})*|\d+|"[^"]*"|'[^']*'`)

// Signature is equal for failures of the same sort: same kind, class and step,
// and the same message but for numbers, identifiers and quoted text.
func Signature(kind string, f jobs.Failure) string {
	text := kind + "\x00" + string(f.Class) + "\x00" + f.Step + "\x00" + varying.ReplaceAllString(f.Message, "#")
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:6])
}
