package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/drill"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
)

// TestMain lets the test binary be the child that drills start.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "example" {
		os.Exit(Main(nil))
	}
	redistest.Main(m)
}

var echo = jobs.Define[string, string]("echo", jobs.Queue("echoes"))

// run executes a command line and returns its exit code and what it wrote.
func run(ctx context.Context, environ []string, args ...string) (code int, out, errs string) {
	var stdout, stderr bytes.Buffer
	handler := echo.Do(func(_ context.Context, text string) (string, error) {
		if text == "bad" {
			return "", jobs.Permanent(context.Canceled)
		}
		return text, nil
	})
	app := &App{Handlers: []jobs.Handler{handler}, Args: args, Environ: environ, Out: &stdout, Err: &stderr}
	code = app.Run(ctx)
	return code, stdout.String(), stderr.String()
}

func TestBadInputIsOneClearLine(t *testing.T) {
	t.Parallel()
	url := "--redis-url=" + redistest.URL(t)
	long := strings.Repeat("x", 70<<10)
	for _, row := range []struct {
		name string
		code int
		says string // every word must be there
		args []string
	}{
		{"unknown command", 2, "unknown", []string{"job", "frobnicate"}},
		{"unknown flag", 2, "unknown flag --frob", []string{"job", "list", "--frob"}},
		{"bad number", 2, "--limit x must be a whole number", []string{"job", "list", "--limit", "x"}},
		{"bad duration", 2, "--timeout 7 must be a duration such as", []string{"job", "wait", "k", "--timeout", "7"}},
		{"no kind", 2, "kind", []string{"job", "enqueue", url}},
		{"unknown kind", 2, "nokind unknown kind known: echo, http.request", []string{"job", "enqueue", "nokind", "--key", "a", url}},
		{"malformed JSON", 2, "data valid JSON", []string{"job", "enqueue", "echo", "--key", "a", "--data", "{bad", url}},
		{"wrong payload", 2, "payload", []string{"job", "enqueue", "echo", "--key", "a", "--data", "{}", url}},
		{"oversized payload", 2, "payload 71682 bytes 65536", []string{"job", "enqueue", "echo", "--key", "a", "--data", `"` + long + `"`, url}},
		{"illegal key", 2, "key a b 255", []string{"job", "enqueue", "echo", "--key", "a b", "--data", `"x"`, url}},
		{"no key", 2, "key", []string{"job", "enqueue", "echo", "--data", `"x"`, url}},
		{"negative delay", 2, "delay -1s", []string{"job", "enqueue", "echo", "--key", "a", "--data", `"x"`, "--delay", "-1s", url}},
		{"bad time", 2, "at tomorrow", []string{"job", "enqueue", "echo", "--key", "a", "--data", `"x"`, "--at", "tomorrow", url}},
		{"bad header", 2, "header nope", []string{"job", "enqueue", "echo", "--key", "a", "--data", `"x"`, "--header", "nope", url}},
		{"bad state", 2, "state asleep", []string{"job", "list", "--state", "asleep", url}},
		{"bad limit", 2, "limit 501 500", []string{"job", "list", "--limit", "501", url}},
		{"bad cursor", 2, "cursor ???", []string{"job", "list", "--cursor", "???", url}},
		{"bad output", 2, "PERDURE_OUTPUT xml table json", []string{"version", "-o", "xml"}},
		{"bad concurrency", 2, "PERDURE_CONCURRENCY 0 10000", []string{"worker", "--concurrency", "0", url}},
		{"beat over silence", 2, "PERDURE_SILENCE", []string{"worker", "--beat", "5s", url}},
		{"bad queues", 2, "queues", []string{"worker", "--queues", "a=b", url}},
		{"bad url", 2, "REDIS_URL", []string{"job", "list", "--redis-url", "http://:secret@x"}},
		{"no redis", 5, "redis cannot be reached", []string{"job", "list", "--redis-url", "redis://127.0.0.1:1"}},
		{"no job", 3, "not found", []string{"job", "get", "nope", url}},
		{"no reason", 2, "reason", []string{"queue", "pause", "echoes", url}},
		{"no queue", 3, "echoes", []string{"queue", "pause", "echoes", "--reason", "x", url}},
		{"foreign listen", 2, "PERDURE_LISTEN PERDURE_ACCESS_TOKENS", []string{"ops", "--listen", "0.0.0.0:0", url}},
		{"bad durability", 2, "PERDURE_DURABILITY sometimes relaxed, strict, replicated", []string{"worker", "--durability", "sometimes", url}},
		{"unknown scenario", 2, "scenario nope", []string{"drill", "nope", url}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			code, _, errs := run(t.Context(), nil, row.args...)
			if code != row.code || strings.Count(errs, "\n") != 1 || strings.Contains(errs, "secret") {
				t.Errorf("exit %d, want %d: %q", code, row.code, errs)
			}
			for _, word := range strings.Fields(row.says) {
				if !strings.Contains(errs, word) {
					t.Errorf("%q does not say %q", errs, word)
				}
			}
		})
	}
}

// What the environment says about Redis may have a password.
func TestHelpShowsNoPassword(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"REDIS_URL", "PERDURE_REDIS_URL"} {
		code, out, errs := run(t.Context(), []string{name + "=redis://ann:sesame@127.0.0.1:1"}, "dead", "list", "--help")
		if code != 0 || strings.Contains(out+errs, "sesame") || !strings.Contains(out, "--redis-url") {
			t.Errorf("%s: exit %d: %s%s", name, code, out, errs)
		}
	}
}

func TestUnknownSettingsAreNamed(t *testing.T) {
	t.Parallel()
	kubernetes := []string{"PERDURE_SERVICE_HOST=1", "PERDURE_PORT=tcp://1", "PERDURE_OPS_SERVICE_PORT_HTTP=1", "PERDURE_PORT_80_TCP_ADDR=1", "PERDURE_KEY=a"}
	if code, _, errs := run(t.Context(), kubernetes, "version"); code != 0 {
		t.Errorf("exit %d: %s", code, errs)
	}
	if code, _, errs := run(t.Context(), []string{"PERDURE_CONCURENCY=3"}, "version"); code != 2 || !strings.Contains(errs, "PERDURE_CONCURENCY") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if code, _, errs := run(t.Context(), []string{"PERDURE_DELAY=soon"}, "job", "enqueue", "echo"); code != 2 || !strings.Contains(errs, "PERDURE_DELAY") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

func TestAJobFromTheCommandLine(t *testing.T) {
	t.Parallel()
	url := "--redis-url=" + redistest.URL(t)
	ctx, stop := context.WithCancel(t.Context())
	worked := make(chan int)
	go func() {
		code, _, _ := run(ctx, nil, "worker", url, "--log-level=error")
		worked <- code
	}()
	t.Cleanup(func() {
		stop()
		if code := <-worked; code != 0 {
			t.Errorf("worker exit %d", code)
		}
	})
	code, out, errs := run(t.Context(), nil, "job", "enqueue", "echo", "--key", "k", "--data", `"hello"`, "--wait", url, "-o", "json")
	var info jobs.Info
	if err := json.Unmarshal([]byte(out), &info); code != 0 || err != nil || string(info.Result) != `"hello"` {
		t.Fatalf("exit %d, %v: %s %s", code, err, out, errs)
	}
	if code, out, _ := run(t.Context(), nil, "job", "enqueue", "echo", "--key", "k", "--data", `"hello"`, url); code != 0 || !strings.Contains(out, "duplicate") {
		t.Errorf("duplicate: exit %d, %s", code, out)
	}
	if code, _, errs := run(t.Context(), nil, "job", "enqueue", "echo", "--key", "k", "--data", `"other"`, url); code != 4 {
		t.Errorf("other payload: exit %d, %s", code, errs)
	}
	if code, out, _ := run(t.Context(), nil, "job", "enqueue", "echo", "--key", "dead", "--data", `"bad"`, "--wait", url); code != exitQuarantined {
		t.Errorf("quarantined: exit %d, %s", code, out)
	}
	for _, command := range [][]string{
		{"job", "get", "dead"}, {"job", "list", "--state", "quarantined"}, {"dead", "list"}, {"dead", "show", "dead"},
	} {
		if code, out, errs := run(t.Context(), nil, append(command, url)...); code != 0 || !strings.Contains(out, "dead") {
			t.Errorf("%v: exit %d, %s %s", command, code, out, errs)
		}
	}
	if code, _, errs := run(t.Context(), nil, "dead", "replay", "k", "--reason", "x", url); code != 4 {
		t.Errorf("replay of a completed job: exit %d, %s", code, errs)
	}
	if code, _, errs := run(t.Context(), nil, "dead", "replay", "dead", "--reason", "mended", url); code != 0 {
		t.Errorf("replay: exit %d, %s", code, errs)
	}
	if code, _, errs := run(t.Context(), nil, "job", "wait", "dead", url); code != exitQuarantined {
		t.Errorf("replayed: exit %d, %s", code, errs)
	}
	if code, out, errs := run(t.Context(), nil, "dead", "discard", "dead", "--reason", "test", url); code != 0 || !strings.Contains(out, "free") {
		t.Errorf("discard: exit %d, %s %s", code, out, errs)
	}
	if code, _, _ := run(t.Context(), nil, "job", "get", "dead", url); code != exitNotFound {
		t.Errorf("discarded: exit %d", code)
	}
}

func TestPauseCancelAndTimeOut(t *testing.T) {
	t.Parallel()
	url := "--redis-url=" + redistest.URL(t)
	steps := []struct {
		code int
		says string
		args []string
	}{
		{0, "accepted", []string{"job", "enqueue", "echo", "--key", "k", "--data", `"x"`}},
		{0, "moving", []string{"queue", "pause", "echoes", "--reason", "moving"}},
		{0, "paused by operator", []string{"queue", "list"}},
		{exitTimedOut, "PENDING", []string{"job", "wait", "k", "--timeout", "50ms"}},
		{0, "paused since", []string{"job", "pause", "k", "--reason", "not now"}},
		{0, "goes on when it is resumed", []string{"job", "get", "k"}},
		{0, "PENDING", []string{"job", "resume", "k", "--reason", "now"}},
		{exitConflict, "", []string{"job", "resume", "k", "--reason", "now"}},
		{0, "open", []string{"queue", "resume", "echoes", "--reason", "moved"}},
		{0, "CANCELLED", []string{"job", "cancel", "k", "--reason", "not wanted"}},
		{exitCancelled, "CANCELLED", []string{"job", "wait", "k"}},
		{0, "asynq", []string{"version"}},
	}
	for _, step := range steps {
		code, out, errs := run(t.Context(), nil, append(step.args, url)...)
		if code != step.code || !strings.Contains(out, step.says) {
			t.Errorf("%v: exit %d, %s %s", step.args, code, out, errs)
		}
	}
}

// The issue's own first example: the same enqueue twice makes one call.
func TestHTTPRequestIsCalledOnce(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { calls.Add(1) }))
	t.Cleanup(endpoint.Close)
	url := "--redis-url=" + redistest.URL(t)
	ctx, stop := context.WithCancel(t.Context())
	worked := make(chan int)
	go func() {
		code, _, _ := run(ctx, nil, "worker", url, "--log-level=error", "--http-allow-nets=127.0.0.0/8")
		worked <- code
	}()
	t.Cleanup(func() { stop(); <-worked })
	data := `{"url":"` + endpoint.URL + `","method":"POST","body":{"hello":1}}`
	for range 2 {
		if code, out, errs := run(t.Context(), nil, "job", "enqueue", "http.request", "--key", "k1", "--data", data, "--wait", url); code != 0 || !strings.Contains(out, "COMPLETED") {
			t.Fatalf("exit %d: %s %s", code, out, errs)
		}
	}
	if calls.Load() != 1 {
		t.Errorf("%d calls", calls.Load())
	}
}

func TestDrillKeepsEveryPromise(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	defer client.Close()
	code, out, errs := run(t.Context(), nil, "drill", "--redis-url", url, "-o", "json")
	var report struct {
		Passed, Failed, Skipped int
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 0 || report.Passed != len(drill.Names())-1 || report.Failed != 0 || report.Skipped != 1 {
		t.Fatalf("exit %d, %v: %s %s", code, err, out, errs)
	}
	if left := client.DBSize(t.Context()).Val(); left != 0 {
		t.Errorf("%d keys left", left)
	}
}

func TestDrillKillsOnlyARedisOfItsOwn(t *testing.T) {
	t.Parallel()
	code, out, errs := run(t.Context(), nil, "drill", "redis-restart")
	if code != 0 || !strings.Contains(out, "1 passed, 0 failed, 0 skipped") {
		t.Fatalf("exit %d: %s %s", code, out, errs)
	}
	code, out, errs = run(t.Context(), nil, "drill", "redis-restart", "--redis-url", redistest.URL(t))
	if code != 0 || !strings.Contains(out, "skipped: would have to kill a server that is not ours") {
		t.Fatalf("exit %d: %s %s", code, out, errs)
	}
}

func TestDevRunsEverythingOnItsOwnRedis(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan string)
	go func() {
		_, out, errs := run(ctx, nil, "dev", "--data-dir", dir, "--listen", "127.0.0.1:0", "--log-level=error")
		ended <- out + errs
	}()
	deadline := time.Now().Add(time.Minute)
	for {
		code, out, _ := run(t.Context(), nil, "job", "enqueue", "echo", "--key", "k", "--data", `"hi"`, "--wait", "--data-dir", dir)
		if code == 0 && strings.Contains(out, "COMPLETED") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("exit %d: %s", code, out)
		}
		time.Sleep(50 * time.Millisecond) // until dev has written its address
	}
	if code, _, errs := run(t.Context(), nil, "dev", "--data-dir", dir, "--listen", "127.0.0.1:0"); code != 1 || !strings.Contains(errs, "another") {
		t.Errorf("second start: exit %d, %s", code, errs)
	}
	stop()
	if out := <-ended; !strings.Contains(out, "asynq UI") {
		t.Errorf("dev said %q", out)
	}
}
