//go:build !soak

package store

import "time"

// How much the tests of the quarantine do; with the tag soak it is more.
const (
	scale     = 20_000          // entries
	planned   = 2_000           // entries that a plan replays
	planTakes = 5 * time.Second // and in what time
	slowPage  = time.Second     // a page; the goal of 50 ms is the soak's, without the race detector

	mostMemory = "" // of its Redis: what there is
)
