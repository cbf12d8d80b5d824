//go:build soak

package worker_test

import (
	"testing"
	"time"
)

// TestPoisonSoak takes a quarter of an hour: go test -tags soak -run PoisonSoak -timeout 40m ./worker
func TestPoisonSoak(t *testing.T) {
	poisonAmong(t, 20_000, 1000, 35*time.Minute)
}
