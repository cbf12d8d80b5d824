package delivery

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// NewOwner returns a fresh identity for a worker that may be silent for that long
// before it is taken for dead. The limit is part of the name, so that whoever watches
// goes by it.
func NewOwner(silence time.Duration) string {
	return fmt.Sprintf("%s~%d", strings.ToLower(rand.Text()[:16]), silence.Milliseconds())
}

// SilenceOf returns how long an owner may be silent; for one that does not say, the
// limit that is given.
func SilenceOf(owner string, otherwise time.Duration) time.Duration {
	_, text, _ := strings.Cut(owner, "~")
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ms <= 0 {
		return otherwise
	}
	return time.Duration(ms) * time.Millisecond
}
