package drill_test

import (
	"os"
	"testing"

	"github.com/perdure/perdure/internal/cli"
	"github.com/perdure/perdure/internal/redistest"
)

// TestMain lets the test binary be the child that drills start.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "example" {
		os.Exit(cli.Main(nil))
	}
	redistest.Main(m)
}
