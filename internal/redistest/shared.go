package redistest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

// databases is how many tests of one binary can use the shared server at the
// same time.
const databases = 4096

// endLimit is how long it may take to look at what a test has left, and to empty its
// database: a million entries are some.
const endLimit = time.Minute

// shared is the one server of this test binary.
var shared struct {
	start   sync.Once
	err     error
	proc    *process
	dir     string
	foreign sync.Map // names of tests that change the quarantine from outside
	free    chan int // first in, first out: a database rests as long as possible before its next use
}

// Main runs a package's tests, stops the shared server and exits. It fails when a
// goroutine is left behind; ignore lists those that a package cannot end, and
// says why where it is called.
func Main(m *testing.M, ignore ...goleak.Option) {
	code := m.Run()
	stopShared()
	if code == 0 {
		code = checkLeaks(ignore)
	}
	os.Exit(code)
}

// redialer is go-redis's goroutine that looks for a Redis that refused many
// connections. It notices only within a second that its client was closed.
const redialer = "github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"

func checkLeaks(ignore []goleak.Option) int {
	ignore = append(ignore, goleak.IgnoreAnyFunction(redialer))
	if err := goleak.Find(ignore...); err != nil {
		fmt.Fprintf(os.Stderr, "goroutines left behind by the tests: stop what was started, in t.Cleanup: %v\n", err)
		return 1
	}
	return 0
}

// Client returns a client on a database of its own on the shared server. It is
// closed at the end of the test.
func Client(t testing.TB) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(Options(t))
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// URL returns the URL of a database of its own on the shared server.
func URL(t testing.TB) string {
	t.Helper()
	o := Options(t)
	return fmt.Sprintf("redis://%s/%d", o.Addr, o.DB)
}

// Options returns the options of a client on a database of its own on the shared
// server.
func Options(t testing.TB) *redis.Options {
	t.Helper()
	shared.start.Do(startShared)
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	select {
	case db := <-shared.free:
		t.Cleanup(func() { release(t, db) })
		return &redis.Options{Addr: shared.proc.addr, DB: db}
	default:
		t.Fatalf("all %d test databases are in use: ask for one in each test, not in a loop", databases)
		return nil
	}
}

// release empties a database for the next test that gets it.
func release(t testing.TB, db int) {
	ctx, cancel := context.WithTimeout(context.Background(), endLimit)
	defer cancel()
	rdb := redis.NewClient(&redis.Options{Addr: shared.proc.addr, DB: db, ReadTimeout: endLimit})
	defer rdb.Close()
	if _, foreign := shared.foreign.LoadAndDelete(t.Name()); !foreign && !t.Failed() {
		checkQuarantine(ctx, t, rdb)
	}
	if err := rdb.FlushDB(ctx).Err(); err != nil {
		t.Errorf("empty test database %d: %v", db, err)
		return
	}
	shared.free <- db
}

// Foreign says that a test changes what is in quarantine with other tools than
// perdure, or stops before a census has seen it: at its end the two sets of the
// quarantine need not be equal.
func Foreign(t testing.TB) { shared.foreign.Store(t.Name(), true) }

func startShared() {
	shared.dir, shared.err = os.MkdirTemp("", "perdure-redistest-")
	if shared.err != nil {
		return
	}
	args := []string{"--save", "", "--appendonly", "no", "--databases", strconv.Itoa(databases)}
	args = append(args, debugArgs()...)
	shared.proc, _, shared.err = launchAnywhere(shared.dir, args)
	shared.free = make(chan int, databases)
	for db := range databases {
		shared.free <- db
	}
}

func stopShared() {
	if shared.proc != nil {
		shared.proc.stop()
	}
	if shared.dir != "" {
		_ = os.RemoveAll(shared.dir)
	}
}

// debugArgs allows DEBUG commands. Redis before 7.0 always allows them and does
// not know the option.
func debugArgs() []string {
	out, err := exec.Command("redis-server", "--version").Output()
	if err != nil {
		return nil // launch reports what is wrong
	}
	if majorVersion(string(out)) < 7 {
		return nil
	}
	return []string{"--enable-debug-command", "yes"}
}

var versionPattern = regexp.MustCompile(`v=(\d+)\.`)

func majorVersion(banner string) int {
	found := versionPattern.FindStringSubmatch(banner)
	if found == nil {
		return 0
	}
	major, _ := strconv.Atoi(found[1]) // only digits match
	return major
}
