package doctor

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/store"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	redistest.Main(m)
}

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func address(url string) string { return strings.TrimSuffix(strings.TrimPrefix(url, "redis://"), "/0") }

// dial returns a client as perdure makes them.
func dial(t testing.TB, url, user, password string, hooks ...redis.Hook) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: address(url), Username: user, Password: password, MaxRetries: -1, ContextTimeoutEnabled: true})
	for _, hook := range hooks {
		rdb.AddHook(hook)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func do(t testing.TB, rdb redis.UniversalClient, command string) {
	t.Helper()
	var args []any
	for _, word := range strings.Fields(command) {
		args = append(args, word)
	}
	if err := rdb.Do(t.Context(), args...).Err(); err != nil {
		t.Fatalf("%s: %v", command, err)
	}
}

// limited is what deploy/redis.conf lets perdure's user do.
const limited = "ACL SETUSER perdure on >secret ~asynq:* ~perdure:* &asynq:* +@all -@admin -@dangerous +info +config|get +latency|latest"

// safe is a Redis that strict mode is content with, and a client of it. admin may
// do anything there.
func safe(t testing.TB, args ...string) (server *redistest.Server, rdb, admin *redis.Client) {
	t.Helper()
	server = redistest.NewServer(t, append([]string{"--maxmemory", "256mb"}, args...)...)
	open := dial(t, server.URL(), "", "")
	do(t, open, limited)
	do(t, open, "ACL SETUSER admin on >boss ~* &* +@all")
	admin = dial(t, server.URL(), "admin", "boss")
	do(t, admin, "ACL SETUSER default off")
	return server, dial(t, server.URL(), "perdure", "secret"), admin
}

// examine returns what a doctor finds.
func examine(t testing.TB, rdb redis.UniversalClient, o Options) Report {
	t.Helper()
	report, err := New(store.New(rdb, rdb), o).Examine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func find(t testing.TB, report Report, name string) Result {
	t.Helper()
	for _, c := range report.Checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no check %s", name)
	return Result{}
}

func bad(report Report) string {
	var text string
	for _, c := range report.Checks {
		if c.Verdict != OK && !busy.MatchString(c.Name) {
			text += fmt.Sprintf("%s %s: %s, not %s\n", c.Verdict, c.Name, c.Value, c.Bound)
		}
	}
	return text
}

// answers replaces Redis' answer to commands, by their words.
type answers map[string]func(redis.Cmder)

func (answers) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a answers) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if change := a[words(cmd)]; change != nil {
			change(cmd)
			return cmd.Err()
		}
		return err
	}
}

func (a answers) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			if change := a[words(cmd)]; change != nil {
				change(cmd)
			}
		}
		return err
	}
}

func words(cmd redis.Cmder) string {
	return strings.ToLower(strings.Trim(fmt.Sprint(cmd.Args()), "[]"))
}

// info replaces fields of INFO.
func info(pairs ...string) answers {
	return answers{"info": func(cmd redis.Cmder) {
		answer := cmd.(*redis.StringCmd)
		text := answer.Val()
		for i := 0; i < len(pairs); i += 2 {
			var lines []string
			for line := range strings.Lines(text) {
				if strings.HasPrefix(line, pairs[i]+":") {
					line = pairs[i] + ":" + pairs[i+1] + "\r\n"
				}
				lines = append(lines, line)
			}
			text = strings.Join(lines, "")
		}
		answer.SetVal(text)
	}}
}

// busy is what a test does not look at: how fast this machine is just now.
var busy = regexp.MustCompile(`(, )?\b(write|script)_latency`)

// journal keeps what is logged.
type journal struct {
	mu    sync.Mutex
	lines []string
	added chan struct{}
}

func newJournal() *journal { return &journal{added: make(chan struct{}, 1000)} }

func (j *journal) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	text := busy.ReplaceAllString(string(line), "")
	if regexp.MustCompile(`checks?=(""|\s)`).MatchString(text) {
		return len(line), nil
	}
	j.lines = append(j.lines, text)
	j.added <- struct{}{}
	return len(line), nil
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string{}, j.lines...)
}

// next returns the next line logged.
func (j *journal) next(t testing.TB) string {
	t.Helper()
	select {
	case <-j.added:
	case <-time.After(time.Minute):
		t.Fatalf("nothing was logged after %q", j.all())
	}
	lines := j.all()
	return lines[len(lines)-1-len(j.added)]
}

// metric returns the value of a metric, -1 when there is none; label is the value
// of its label.
func metric(t testing.TB, r *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() != name || label != "" && (len(m.GetLabel()) != 1 || m.GetLabel()[0].GetValue() != label) {
				continue
			}
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return -1
}

// sentinel starts a Sentinel that watches the Redis at url under the name main,
// and returns its address.
func sentinel(t testing.TB, url string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	_, port, _ := net.SplitHostPort(addr)
	host, watched, _ := net.SplitHostPort(address(url))
	conf := filepath.Join(t.TempDir(), "sentinel.conf")
	text := fmt.Sprintf("bind 127.0.0.1\nport %s\nsentinel monitor main %s %s 1\n", port, host, watched)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("redis-server", conf, "--sentinel")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	rdb := dial(t, "redis://"+addr+"/0", "", "")
	eventually(t, "the sentinel answers", func() bool { return rdb.Ping(t.Context()).Err() == nil })
	return addr
}

func eventually(t testing.TB, what string, ok func() bool) {
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
