package devredis

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// variants are the ways to get a Redis. redis-server must be there: the tests of
// this package fail without it and never skip.
var variants = map[string]Options{
	"redis-server": {},
	"miniredis":    {ForceMiniredis: true},
}

func TestServerAnswers(t *testing.T) {
	t.Parallel()
	for name, options := range variants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, t.TempDir(), options)
			ctx := context.Background()
			rdb := connect(t, s.URL())
			if err := rdb.Set(ctx, "k", "v", 50*time.Millisecond).Err(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the key expires", func() bool { return rdb.Exists(ctx, "k").Val() == 0 })
			if !strings.HasPrefix(s.Description(), name) || !strings.Contains(s.Description(), "restart") {
				t.Errorf("description %q does not say what it is and what survives", s.Description())
			}
			if strings.Contains(s.Description(), "\n") {
				t.Errorf("description is not one line: %q", s.Description())
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatalf("second close: %v", err)
			}
			if err := rdb.Ping(ctx).Err(); err == nil {
				t.Error("a closed server answers")
			}
			select {
			case err := <-s.Died():
				t.Errorf("a closed server is reported as dead: %v", err)
			default:
			}
		})
	}
}

func TestWithoutRedisServerItIsMiniredis(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	s := start(t, t.TempDir(), Options{})
	if !strings.HasPrefix(s.Description(), "miniredis") {
		t.Fatalf("got %q", s.Description())
	}
}

func TestRedisServerIsSafeForJobs(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), Options{})
	rdb := connect(t, s.URL())
	for name, want := range map[string]string{
		"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "save": "", "bind": "127.0.0.1",
	} {
		got, err := rdb.ConfigGet(context.Background(), name).Result()
		if err != nil || got[name] != want {
			t.Errorf("%s is %q (%v), want %q", name, got[name], err, want)
		}
	}
}

func TestDataDirectoryIsPrivate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "with space", "data")
	s := start(t, dir, Options{})
	for path, want := range map[string]os.FileMode{dir: 0o700, lockPath(dir): 0o600, addressPath(dir): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "appendonlydir")); err != nil {
		t.Errorf("no append-only file of %s: %v", s.URL(), err)
	}
}

func TestDataSurviveARestart(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	first := start(t, dir, Options{})
	if err := connect(t, first.URL()).Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := start(t, dir, Options{})
	if v, err := connect(t, second.URL()).Get(ctx, "k").Result(); err != nil || v != "v" {
		t.Fatalf("after the restart: %q, %v", v, err)
	}
}

func TestDataSurviveACrash(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := start(t, t.TempDir(), Options{})
	url, rdb := s.URL(), connect(t, s.URL())
	if !s.Durable() {
		t.Fatal("a redis-server is durable")
	}
	if err := rdb.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := s.Crash(ctx, 10*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if v, err := connect(t, s.URL()).Get(ctx, "k").Result(); err != nil || v != "v" || s.URL() != url {
		t.Fatalf("after the crash: %q, %v, at %s", v, err, s.URL())
	}
	select {
	case err := <-s.Died():
		t.Errorf("a crash that was asked for is reported as a death: %v", err)
	default:
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := rdb.Ping(ctx).Err(); err == nil {
		t.Error("a closed server answers")
	}
}

func TestMiniredisDoesNotCrash(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), Options{ForceMiniredis: true})
	if err := s.Crash(context.Background(), 0); s.Durable() || !errors.Is(err, errors.ErrUnsupported) {
		t.Fatalf("durable: %v, crash: %v", s.Durable(), err)
	}
}

func TestSecondStartNamesTheFirst(t *testing.T) {
	t.Parallel()
	for name, options := range variants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			first := start(t, dir, options)
			second, err := options.Start(context.Background(), dir, slog.New(slog.DiscardHandler))
			if err == nil {
				second.Close()
				t.Fatal("two servers share a data directory")
			}
			for _, want := range []string{"another perdure dev", "pid " + strconv.Itoa(os.Getpid()), dir, "another data directory"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not mention %q", err, want)
				}
			}
			if url, ok := Address(dir); !ok || url != first.URL() {
				t.Errorf("the refused start changed the address to %q, %v", url, ok)
			}
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			start(t, dir, options)
		})
	}
}

func TestAddress(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if url, ok := Address(dir); ok {
		t.Fatalf("an empty directory has the address %q", url)
	}
	s := start(t, dir, Options{ForceMiniredis: true})
	if url, ok := Address(dir); !ok || url != s.URL() {
		t.Fatalf("address %q, %v; want %q", url, ok, s.URL())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(addressPath(dir)); !os.IsNotExist(err) {
		t.Errorf("the address is still there after Close: %v", err)
	}
	if err := writeAddress(dir, s.URL()); err != nil {
		t.Fatal(err)
	}
	// A process that another test starts in this moment has the lock, too, until it executes.
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		url, ok := Address(dir)
		if !ok {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("a stale address counts: %q", url)
		}
	}
}

func TestDeathIsReported(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), Options{})
	if err := s.backend.(*child).cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-s.Died():
		if !strings.Contains(err.Error(), "ended unexpectedly") {
			t.Errorf("got %q", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("nobody was told that redis-server died")
	}
	if err := s.Close(); err != nil {
		t.Errorf("close after the death: %v", err)
	}
}

func TestFailedStartQuotesTheLogAndFreesTheDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// A file where redis-server wants its directory.
	blocker := filepath.Join(dir, "appendonlydir")
	if err := os.WriteFile(blocker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(context.Background(), dir, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "appendonlydir") {
		t.Fatalf("want an error that quotes the log, got %v", err)
	}
	if err := os.Remove(blocker); err != nil {
		t.Fatal(err)
	}
	start(t, dir, Options{})
}

// TestKilledOwnerLeavesNothingRunning kills a process that owns a data directory
// and takes the directory over.
func TestKilledOwnerLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	const env = "DEVREDIS_CHILD"
	if dir := os.Getenv(env); dir != "" {
		start(t, dir, Options{})
		select {} // until it is killed
	}
	dir := t.TempDir()
	owner := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	owner.Env = append(os.Environ(), env+"="+dir)
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	url := ""
	eventually(t, "the owner records its address", func() bool {
		var ok bool
		url, ok = Address(dir)
		return ok
	})
	rdb := connect(t, url)
	if err := rdb.Set(context.Background(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Process.Signal(syscall.SIGKILL)
	_ = owner.Wait()
	s := start(t, dir, Options{})
	if v, err := connect(t, s.URL()).Get(context.Background(), "k").Result(); err != nil || v != "v" {
		t.Errorf("after the owner was killed: %q, %v", v, err)
	}
	if err := rdb.Ping(context.Background()).Err(); err == nil && url != s.URL() {
		t.Error("the killed owner's redis-server still answers")
	}
}

func start(t *testing.T, dir string, options Options) *Server {
	t.Helper()
	s, err := options.Start(context.Background(), dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func connect(t *testing.T, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.MaxRetries, o.DialerRetries = -1, 1
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not within 20 seconds: %s", what)
		case <-retry.C:
		}
	}
}
