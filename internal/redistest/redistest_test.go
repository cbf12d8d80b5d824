package redistest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestMain(m *testing.M) { Main(m) }

func TestClientsDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b := Client(t), Client(t)
	if err := a.Set(ctx, "k", "a", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := b.Get(ctx, "k").Err(); !errors.Is(err, redis.Nil) {
		t.Fatalf("second client sees the first one's key: %v", err)
	}
}

func TestURLWorks(t *testing.T) {
	t.Parallel()
	rdb := connect(t, URL(t))
	if err := rdb.Ping(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestDatabaseIsEmptyForTheNextTest(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	var used *redis.Options
	t.Run("first", func(t *testing.T) {
		used = Options(t)
		rdb := redis.NewClient(used)
		defer rdb.Close()
		if err := rdb.Set(ctx, "left", "behind", 0).Err(); err != nil {
			t.Fatal(err)
		}
	})
	rdb := redis.NewClient(used)
	defer rdb.Close()
	if n, err := rdb.DBSize(ctx).Result(); err != nil || n != 0 {
		t.Fatalf("database %d has %d keys (%v), want none", used.DB, n, err)
	}
}

func TestDebugIsAllowed(t *testing.T) {
	t.Parallel()
	if err := Client(t).Do(context.Background(), "DEBUG", "SLEEP", "0").Err(); err != nil {
		t.Fatal(err)
	}
}

func TestDataSurvivesKill(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := NewServer(t)
	url := s.URL()
	rdb := connect(t, url)
	if err := rdb.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	s.Kill()
	if err := rdb.Ping(ctx).Err(); err == nil {
		t.Fatal("a killed server answers")
	}
	s.Restart()
	if s.URL() != url {
		t.Fatalf("URL changed from %s to %s", url, s.URL())
	}
	if v, err := connect(t, url).Get(ctx, "k").Result(); err != nil || v != "v" {
		t.Fatalf("after the restart: %q, %v", v, err)
	}
}

func TestFrozenServerDoesNotAnswer(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := NewServer(t)
	rdb := connect(t, s.URL())
	if err := rdb.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	s.Freeze()
	if err := rdb.Ping(ctx).Err(); err == nil {
		t.Fatal("a frozen server answers")
	}
	s.Thaw()
	if err := connect(t, s.URL()).Ping(ctx).Err(); err != nil {
		t.Fatalf("a thawed server does not answer: %v", err)
	}
}

func TestFrozenServerIsCleanedUp(t *testing.T) {
	t.Parallel()
	var pid int
	t.Run("freeze", func(t *testing.T) {
		s := NewServer(t)
		pid = s.proc.cmd.Process.Pid
		s.Freeze()
	})
	if alive(pid) {
		t.Fatal("a frozen server outlived its test")
	}
}

func TestServerTakesOptions(t *testing.T) {
	t.Parallel()
	rdb := connect(t, NewServer(t, "--maxmemory", "64mb").URL())
	got, err := rdb.ConfigGet(context.Background(), "maxmemory").Result()
	if err != nil || got["maxmemory"] != strconv.Itoa(64<<20) {
		t.Fatalf("maxmemory is %v (%v)", got, err)
	}
}

func TestBadOptionIsReportedWithTheLog(t *testing.T) {
	t.Parallel()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	_, err = launch(t.TempDir(), port, []string{"--no-such-option", "1"})
	if err == nil || !strings.Contains(err.Error(), "no-such-option") {
		t.Fatalf("want an error that quotes the log, got %v", err)
	}
}

func TestTakenPortIsNotMistakenForOurs(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	if _, err := launch(t.TempDir(), s.port, nil); err == nil {
		t.Fatal("a server was started on a taken port")
	}
}

func TestMissingServerSaysWhatToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, _, err := launchAnywhere(t.TempDir(), nil)
	if !errors.Is(err, errNoServer) || !strings.Contains(err.Error(), "make redis") {
		t.Fatalf("got %v", err)
	}
}

func TestMajorVersion(t *testing.T) {
	t.Parallel()
	for banner, want := range map[string]int{
		"Redis server v=7.0.15 sha=00000000:0": 7,
		"Redis server v=6.2.14 sha=00000000:0": 6,
		"something else":                       0,
	} {
		if got := majorVersion(banner); got != want {
			t.Errorf("majorVersion(%q) = %d, want %d", banner, got, want)
		}
	}
}

// TestServerDiesWithTheTestBinary kills a copy of this test binary and looks for
// the server that it had started.
func TestServerDiesWithTheTestBinary(t *testing.T) {
	t.Parallel()
	if os.Getenv("REDISTEST_CHILD") != "" {
		s := NewServer(t)
		pid := strconv.Itoa(s.proc.cmd.Process.Pid)
		if err := os.WriteFile(os.Getenv("REDISTEST_CHILD"), []byte(pid+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		select {} // until it is killed
	}
	note := t.TempDir() + "/pid"
	child := exec.Command(os.Args[0], "-test.run=^TestServerDiesWithTheTestBinary$")
	child.Env = append(os.Environ(), "REDISTEST_CHILD="+note)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	eventually(t, "the child starts its server", func() bool {
		text, _ := os.ReadFile(note)
		line, whole := strings.CutSuffix(string(text), "\n")
		pid, _ = strconv.Atoi(line)
		return whole
	})
	if !alive(pid) {
		t.Fatal("the child's server is not running")
	}
	_ = child.Process.Kill()
	_ = child.Wait()
	eventually(t, "the server ends with the test binary", func() bool { return !alive(pid) })
}

func connect(t *testing.T, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.MaxRetries = -1
	o.ReadTimeout = 300 * time.Millisecond
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// alive reports whether a process runs. One that ended and that nobody has waited
// for does not run: in a container its new parent may never do so.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || !strings.Contains(string(stat), ") Z ")
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
