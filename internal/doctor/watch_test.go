package doctor

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/devredis"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

func TestStartNamesAllThatIsWrong(t *testing.T) {
	t.Parallel()
	server := redistest.NewServer(t, "--appendfsync", "no", "--maxmemory-policy", "allkeys-lru")
	rdb := dial(t, server.URL(), "", "")
	err := New(store.New(rdb, rdb), Options{Mode: Strict}).Start(t.Context())
	if err == nil || strings.Contains(err.Error(), "\n") || errors.Is(err, jobs.ErrUnavailable) {
		t.Fatal(err)
	}
	for _, says := range []string{
		"PERDURE_DURABILITY=strict", "appendfsync: found no, must be always (fix: CONFIG SET appendfsync always)",
		"maxmemory_policy: found allkeys-lru, must be noeviction", "auth: found open to all", "PERDURE_ALLOW_UNSAFE_REDIS=true",
	} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("%q does not say %q", err, says)
		}
	}
	if err := New(store.New(rdb, rdb), Options{}).Start(t.Context()); err == nil || strings.Contains(err.Error(), "appendfsync") {
		t.Errorf("relaxed: %v", err)
	}
}

func TestTheOverrideIsLoud(t *testing.T) {
	t.Parallel()
	rdb := dial(t, redistest.NewServer(t, "--maxmemory-policy", "allkeys-lru").URL(), "", "")
	j, metrics := newJournal(), prometheus.NewRegistry()
	d := New(store.New(rdb, rdb), Options{AllowUnsafe: true, Log: j.log(), Registerer: metrics})
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if lines := j.all(); len(lines) != 2 || !strings.Contains(lines[0], "level=ERROR") || !strings.Contains(lines[0], "PERDURE_ALLOW_UNSAFE_REDIS") ||
		!strings.Contains(lines[0], "maxmemory_policy") || strings.Contains(lines[1], "maxmemory_policy") || !strings.Contains(lines[1], "maxmemory") {
		t.Errorf("logged %q", lines)
	}
	if metric(t, metrics, "perdure_redis_check", "maxmemory_policy") != 1 || metric(t, metrics, "perdure_redis_check", "version") != 0 {
		t.Error("the gauges do not show which check fails")
	}
}

func TestStartWithoutRedis(t *testing.T) {
	t.Parallel()
	server := redistest.NewServer(t)
	rdb := dial(t, server.URL(), "", "")
	server.Kill()
	d := New(store.New(rdb, rdb), Options{Mode: Strict})
	if err := d.Start(t.Context()); !errors.Is(err, jobs.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Start(ended); err != nil {
		t.Errorf("told to stop: %v", err)
	}
}

// failOnce loses one call's answer.
type failOnce struct {
	answers
	word string
	left int
}

func (f *failOnce) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if f.left > 0 && words(cmd) == f.word {
			f.left--
			cmd.SetErr(context.DeadlineExceeded)
			return cmd.Err()
		}
		return next(ctx, cmd)
	}
}

func TestStartTriesAgain(t *testing.T) {
	t.Parallel()
	url := redistest.NewServer(t).URL()
	for times, want := range map[int]error{2: nil, 3: jobs.ErrUnavailable} {
		rdb := dial(t, url, "", "", &failOnce{word: "time", left: times})
		if err := New(store.New(rdb, rdb), Options{}).Start(t.Context()); !errors.Is(err, want) {
			t.Errorf("%d answers lost: %v", times, err)
		}
	}
}

// watched is a doctor at work on a Redis of its own.
type watched struct {
	server  *redistest.Server
	rdb     *redis.Client
	journal *journal
	metrics *prometheus.Registry
	changes chan struct{}
}

func watch(t *testing.T) watched {
	t.Helper()
	w := watched{server: redistest.NewServer(t, "--maxmemory", "256mb"), journal: newJournal(), metrics: prometheus.NewRegistry(), changes: make(chan struct{}, 100)}
	w.rdb = dial(t, w.server.URL(), "", "")
	d := New(store.New(w.rdb, w.rdb), Options{
		Log: w.journal.log(), Registerer: w.metrics, Every: 5 * time.Millisecond, OnChange: func() { w.changes <- struct{}{} },
	})
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if lines := w.journal.all(); len(lines) != 0 {
		t.Fatalf("a good Redis is logged: %q", lines)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return w
}

// rounds waits until the doctor has looked some more times.
func (w watched) rounds(t *testing.T) {
	t.Helper()
	asked := func() string {
		for line := range strings.Lines(w.rdb.Info(t.Context(), "commandstats").Val()) {
			if strings.HasPrefix(line, "cmdstat_time:") {
				return strings.Split(line, ",")[0]
			}
		}
		return ""
	}
	for range 5 {
		before := asked()
		eventually(t, "it looks again", func() bool { return asked() != before })
	}
}

func TestChangesAreLoggedOnce(t *testing.T) {
	t.Parallel()
	w := watch(t)
	for range 2 {
		do(t, w.rdb, "CONFIG SET maxmemory-policy allkeys-lru")
		if line := w.journal.next(t); !strings.Contains(line, "level=ERROR") || !strings.Contains(line, "check=maxmemory_policy value=allkeys-lru bound=noeviction") ||
			!strings.Contains(line, "fix=") {
			t.Errorf("logged %q", line)
		}
		w.rounds(t)
		if metric(t, w.metrics, "perdure_redis_check", "maxmemory_policy") != 1 {
			t.Error("the gauge does not show it")
		}
		do(t, w.rdb, "CONFIG SET maxmemory-policy noeviction")
		if line := w.journal.next(t); !strings.Contains(line, "level=INFO") || !strings.Contains(line, "check=maxmemory_policy") {
			t.Errorf("logged %q", line)
		}
		w.rounds(t)
		if metric(t, w.metrics, "perdure_redis_check", "maxmemory_policy") != 0 {
			t.Error("the gauge still shows it")
		}
	}
	if lines := w.journal.all(); len(lines) != 4 {
		t.Errorf("%d lines: %q", len(lines), lines)
	}
	if len(w.changes) != 0 || metric(t, w.metrics, "perdure_redis_changed_total", "") != 0 {
		t.Error("taken for a restart")
	}
	do(t, w.rdb, "CONFIG SET appendfsync no")
	if line := w.journal.next(t); !strings.Contains(line, "level=WARN") || !strings.Contains(line, "check=appendfsync") {
		t.Errorf("logged %q", line)
	}
}

func TestARestartIsSeenOnce(t *testing.T) {
	t.Parallel()
	w := watch(t)
	for n := range 2 {
		w.server.Restart()
		select {
		case <-w.changes:
		case <-time.After(time.Minute):
			t.Fatal("the restart was not seen")
		}
		w.rounds(t)
		if lines := w.journal.all(); len(lines) != n+1 || !strings.Contains(lines[n], "restarted") {
			t.Errorf("logged %q", lines)
		}
		if len(w.changes) != 0 || metric(t, w.metrics, "perdure_redis_changed_total", "") != float64(n+1) {
			t.Errorf("restart %d counted as %v", n+1, metric(t, w.metrics, "perdure_redis_changed_total", ""))
		}
	}
}

// TestARefusalIsTakenForAnAnswer: Redis counts and logs what it refuses.
func TestARefusalIsTakenForAnAnswer(t *testing.T) {
	t.Parallel()
	_, rdb, admin := safe(t)
	do(t, admin, "ACL SETUSER perdure -config")
	j := newJournal()
	d := New(store.New(rdb, rdb), Options{Log: j.log()})
	if err := d.Start(t.Context()); err != nil || len(j.all()) != 1 || !strings.Contains(j.all()[0], "appendfsync") {
		t.Fatalf("%v, logged %q", err, j.all())
	}
	do(t, admin, "ACL LOG RESET")
	d.look(t.Context())
	d.look(t.Context())
	if entries := admin.ACLLog(t.Context(), 10).Val(); len(entries) != 0 || len(j.all()) != 1 {
		t.Errorf("refused again: %+v; logged %q", entries, j.all())
	}
}

func TestAFrozenRedisIsNoChange(t *testing.T) {
	t.Parallel()
	server := redistest.NewServer(t, "--maxmemory", "256mb")
	rdb := redis.NewClient(&redis.Options{Addr: address(server.URL()), MaxRetries: -1, ReadTimeout: 50 * time.Millisecond})
	t.Cleanup(func() { _ = rdb.Close() })
	changed, j := 0, newJournal()
	d := New(store.New(rdb, rdb), Options{Log: j.log(), OnChange: func() { changed++ }})
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.Freeze()
	d.look(t.Context())
	server.Thaw()
	eventually(t, "redis answers", func() bool { return rdb.Ping(t.Context()).Err() == nil })
	d.look(t.Context())
	if changed != 0 || len(j.all()) != 0 {
		t.Errorf("%d changes, logged %q", changed, j.all())
	}
}

// TestMiniredisTellsLittle: perdure dev runs on it where there is no redis-server.
func TestMiniredisTellsLittle(t *testing.T) {
	t.Parallel()
	mini, err := devredis.Options{ForceMiniredis: true}.Start(t.Context(), t.TempDir(), newJournal().log())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mini.Close() })
	rdb := dial(t, mini.URL(), "", "")
	j := newJournal()
	d := New(store.New(rdb, rdb), Options{Log: j.log()})
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.look(t.Context())
	d.look(t.Context())
	if lines := j.all(); len(lines) != 1 || !strings.Contains(lines[0], "level=WARN") || !strings.Contains(lines[0], "version") {
		t.Errorf("logged %q", lines)
	}
	report := examine(t, rdb, Options{})
	if v := find(t, report, "version"); v.Verdict != Warn || v.Value != unread || find(t, report, "scripts").Verdict != OK {
		t.Error(bad(report))
	}
	if err := New(store.New(rdb, rdb), Options{Mode: Strict}).Start(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("strict: %v", err)
	}
}

func TestAnotherKindOfClientIsRefused(t *testing.T) {
	t.Parallel()
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": address(redistest.NewServer(t).URL())}})
	t.Cleanup(func() { _ = ring.Close() })
	if _, err := New(store.New(ring, ring), Options{}).Examine(t.Context()); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}
