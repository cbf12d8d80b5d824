// Package redistest gives tests the real redis-server.
//
// A test binary shares one server, started on the first use, and each test
// works in a database of its own, so that tests run in parallel:
//
//	func TestMain(m *testing.M) { redistest.Main(m) }
//
//	func TestClaim(t *testing.T) {
//		t.Parallel()
//		rdb := redistest.Client(t)
//		…
//	}
//
// A test that kills, restarts or freezes Redis asks for a server of its own with
// [NewServer].
//
// Where redis-server is missing the test fails: a skipped test proves nothing
// and looks like one that passed.
package redistest
