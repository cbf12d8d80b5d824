package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/doctor"
	"github.com/perdure/perdure/internal/redistest"
)

func TestDoctorSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	good := redistest.NewServer(t, "--maxmemory", "256mb", "--appendfsync", "everysec").URL()
	evicting := redistest.NewServer(t, "--maxmemory-policy", "allkeys-lru").URL()
	for _, row := range []struct {
		name string
		code int
		says string // every word must be there
		args []string
	}{
		{"ok", 0, "CHECK VALUE BOUND VERDICT appendfsync everysec durability relaxed", []string{"--redis-url", good}},
		{"strict", 1, "REFUSE: appendfsync fix CONFIG SET appendfsync always REWRITE durability strict", []string{"--redis-url", good, "--durability", "strict"}},
		{"replicated", 1, "REFUSE: replicas REPLICAOF", []string{"--redis-url", good, "--durability", "replicated"}},
		{"eviction", 1, "REFUSE: maxmemory_policy allkeys-lru noeviction WARN: maxmemory", []string{"--redis-url", evicting}},
		{"override", 0, "OVERRIDDEN: maxmemory_policy OVERRIDDEN by PERDURE_ALLOW_UNSAFE_REDIS", []string{"--redis-url", evicting, "--allow-unsafe-redis"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			code, out, errs := run(t.Context(), nil, append([]string{"doctor"}, row.args...)...)
			if code != row.code || errs != "" {
				t.Errorf("exit %d, want %d: %q", code, row.code, errs)
			}
			for _, word := range strings.Fields(row.says) {
				if !strings.Contains(out, word) {
					t.Errorf("%s\ndoes not say %q", out, word)
				}
			}
		})
	}
	code, out, errs := run(t.Context(), nil, "doctor", "--redis-url", evicting, "-o", "json")
	var report doctor.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 1 || report.Verdict != doctor.Refuse || len(report.Checks) < 30 {
		t.Errorf("exit %d, %v: %s %s", code, err, out, errs)
	}
	if code, _, errs := run(t.Context(), nil, "doctor", "--redis-url", "redis://127.0.0.1:1"); code != exitUnreachable {
		t.Errorf("no redis: exit %d, %s", code, errs)
	}
	if code, _, errs := run(t.Context(), nil, "doctor", "--durability", "sometimes"); code != exitUsage ||
		!strings.Contains(errs, "PERDURE_DURABILITY") || !strings.Contains(errs, "sometimes") || !strings.Contains(errs, "relaxed, strict, replicated") {
		t.Errorf("no such mode: exit %d, %s", code, errs)
	}
}

func TestUnsafeRedisIsRefusedAtStart(t *testing.T) {
	t.Parallel()
	url := redistest.NewServer(t, "--maxmemory-policy", "allkeys-lru").URL()
	for _, command := range []string{"worker", "scheduler"} {
		code, _, errs := run(t.Context(), nil, command, "--redis-url", url, "--log-level=error")
		if code != exitFailed || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "maxmemory_policy: found allkeys-lru, must be noeviction (fix: CONFIG SET") {
			t.Errorf("%s: exit %d, %s", command, code, errs)
		}
	}
}

// TestAStockServerOnOurQueueIsRefused: on the queues that this worker is for, by
// its kinds or its settings, and on no others.
func TestAStockServerOnOurQueueIsRefused(t *testing.T) {
	t.Parallel()
	options := redistest.Options(t)
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	url := fmt.Sprintf("--redis-url=redis://%s/%d", options.Addr, options.DB)
	stock := asynq.NewServerFromRedisClient(client, asynq.Config{Queues: map[string]int{"echoes": 1}, LogLevel: asynq.FatalLevel})
	if err := stock.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error { return nil })); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stock.Shutdown)
	inspector := asynq.NewInspectorFromRedisClient(client)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if servers, _ := inspector.Servers(); len(servers) == 1 { // it announces itself after Start has returned
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("asynq's server does not announce itself")
		}
	}
	for queues, want := range map[string]int{"": exitFailed, "echoes=2,mail": exitFailed, "mail": exitOK} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // a worker that starts is told to stop then
		defer cancel()
		args := []string{"worker", url, "--log-level=error"}
		if queues != "" {
			args = append(args, "--queues", queues)
		}
		code, _, errs := run(ctx, nil, args...)
		if code != want || want != exitOK && !strings.Contains(errs, "stock_servers") {
			t.Errorf("queues %q: exit %d, %s", queues, code, errs)
		}
	}
}

// TestOverriddenAndShown: a worker that starts all the same runs jobs, and its
// metrics show which check fails.
func TestOverriddenAndShown(t *testing.T) {
	t.Parallel()
	url := redistest.NewServer(t, "--maxmemory-policy", "allkeys-lru").URL()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	health := listener.Addr().String()
	listener.Close()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan string)
	go func() {
		_, _, errs := run(ctx, nil, "worker", "--redis-url", url, "--allow-unsafe-redis", "--health-listen", health, "--log-level=error")
		ended <- errs
	}()
	if code, out, errs := run(t.Context(), nil, "job", "enqueue", "echo", "--key", "k", "--data", `"x"`, "--redis-url", url); code != 0 {
		t.Fatalf("exit %d: %s %s", code, out, errs)
	}
	if code, out, errs := run(t.Context(), nil, "job", "wait", "k", "--timeout", "20s", "--redis-url", url); code != 0 {
		t.Errorf("exit %d: %s %s", code, out, errs)
	}
	metrics := get(t, "http://"+health+"/metrics")
	for _, line := range []string{
		`perdure_redis_check{check="maxmemory_policy"} 1`, `perdure_redis_check{check="version"} 0`, "perdure_redis_changed_total 0",
		`perdure_durability{allow_unsafe="true",mode="relaxed"} 1`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("no metric %s", line)
		}
	}
	stop()
	if errs := <-ended; strings.Count(errs, "PERDURE_ALLOW_UNSAFE_REDIS") != 1 || !strings.Contains(errs, "maxmemory_policy") {
		t.Errorf("logged %q", errs)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var text strings.Builder
	if _, err := io.Copy(&text, response.Body); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// TestDevIsRelaxed: what is set for production does not keep dev from starting.
func TestDevIsRelaxed(t *testing.T) {
	t.Setenv("PERDURE_DURABILITY", "strict")
	dir := t.TempDir()
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	ended := make(chan int)
	go func() {
		code, _, _ := run(ctx, nil, "dev", "--data-dir", dir, "--listen", "127.0.0.1:0", "--log-level=error")
		ended <- code
	}()
	for ctx.Err() == nil {
		if code, _, _ := run(ctx, nil, "job", "enqueue", "echo", "--key", "k", "--data", `"hi"`, "--wait", "--data-dir", dir); code == 0 {
			break
		}
		select {
		case code := <-ended:
			t.Fatalf("dev ended with %d", code)
		case <-time.After(50 * time.Millisecond): // until dev has written its address
		}
	}
	if ctx.Err() != nil {
		t.Error("dev runs no job")
	}
	stop()
	if code := <-ended; code != 0 {
		t.Errorf("dev exit %d", code)
	}
}
