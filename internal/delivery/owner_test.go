package delivery_test

import (
	"testing"
	"time"

	"github.com/perdure/perdure/internal/delivery"
)

func TestAnOwnerSaysHowLongItMayBeSilent(t *testing.T) {
	t.Parallel()
	a, b := delivery.NewOwner(1600*time.Millisecond), delivery.NewOwner(1600*time.Millisecond)
	if a == b {
		t.Fatalf("two owners are called %s", a)
	}
	for owner, want := range map[string]time.Duration{
		a: 1600 * time.Millisecond, "o": time.Minute, "o~": time.Minute, "o~x": time.Minute, "o~0": time.Minute, "o~-5": time.Minute,
	} {
		if got := delivery.SilenceOf(owner, time.Minute); got != want {
			t.Errorf("silence of %s: %v, want %v", owner, got, want)
		}
	}
}
