package delivery

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"regexp"
	"strings"
)

// PassingQueue names a queue that its maker removes in the end: a drill's or a
// benchmark's. It ends with a sum of what is before, which no queue of a user has by
// accident.
func PassingQueue(maker string) string {
	name := maker + "-" + strings.ToLower(rand.Text()[:10])
	return name + sum(name)
}

func sum(name string) string {
	all := sha256.Sum256([]byte("passing " + name))
	return strings.ToLower(base32.StdEncoding.EncodeToString(all[:])[:6])
}

var passing = regexp.MustCompile(`^((?:drill|bench)-[a-z2-7]{10})([a-z2-7]{6})(-.*)?$`)

// Passes reports whether a queue is named by [PassingQueue], or after one that is.
func Passes(queue string) bool {
	parts := passing.FindStringSubmatch(queue)
	return parts != nil && parts[2] == sum(parts[1])
}
