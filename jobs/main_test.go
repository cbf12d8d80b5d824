package jobs_test

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
	_ "pgregory.net/rapid" // defines the flag
)

// TestMain pins the seed of the property tests, unless one is given by
// -rapid.seed or RAPID_SEED.
func TestMain(m *testing.M) {
	flag.Parse()
	if seed := flag.Lookup("rapid.seed").Value; seed.String() == "0" {
		if err := seed.Set("20240229"); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}
