//go:build soak

package store

import "time"

const (
	scale     = 1_000_000
	planned   = 10_000
	planTakes = 100 * time.Second
	slowPage  = 50 * time.Millisecond

	mostMemory = "8gb" // of its Redis: more is an error of the test
)
