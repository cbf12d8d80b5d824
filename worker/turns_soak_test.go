//go:build soak

package worker_test

import (
	"testing"
	"time"
)

// TestANoisyTenantSoak: go test -tags soak -run NoisyTenantSoak -v ./worker
func TestANoisyTenantSoak(t *testing.T) { noisyTenant(t, 100_000, 2*time.Second) }
