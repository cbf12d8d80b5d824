package ops

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
)

func TestHome(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.paused["default"] = true
	h := newAPI(t, Options{Store: f, Version: "1.2.3"})
	got := call(h, "GET", "/", "")
	if got.Code != 200 || !strings.Contains(got.text, "&lt;b&gt;ann&lt;/b&gt;") || strings.Contains(got.text, "<script") || strings.Contains(got.text, "style=") {
		t.Errorf("%d %s", got.Code, got.text)
	}
	if strings.Contains(got.text, "/asynq/") || strings.Contains(got.text, "/metrics") {
		t.Errorf("links to what is not served: %s", got.text)
	}
	f.fail = jobs.ErrUnavailable
	if got := call(h, "GET", "/", ""); got.Code != 503 || !strings.Contains(got.text, "Redis cannot be reached") {
		t.Errorf("without Redis: %d %s", got.Code, got.text)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	h := newAPI(t, Options{Metrics: testRegistry()})
	if got := call(h, "GET", "/metrics", ""); got.Code != 200 || !strings.Contains(got.text, "perdure_test 1") {
		t.Errorf("%d %s", got.Code, got.text)
	}
	if got := call(h, "GET", "/", ""); !strings.Contains(got.text, `href="/metrics"`) {
		t.Errorf("page has no link: %s", got.text)
	}
}

func testRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "perdure_test"})
	gauge.Set(1)
	registry.MustRegister(gauge)
	return registry
}

func TestHealth(t *testing.T) {
	t.Parallel()
	var redis, ready error
	pings := 0
	h := Health(func(context.Context) error { pings++; return redis }, func() error { return ready }, testRegistry())
	check := func(target string, want int, text string) {
		t.Helper()
		if got := call(h, http.MethodGet, target, ""); got.Code != want || !strings.Contains(got.text, text) || strings.Contains(got.text, "10.0.0.9") {
			t.Errorf("%s: %d %q, want %d", target, got.Code, got.text, want)
		}
	}
	check("/readyz", 200, "ok")
	check("/metrics", 200, "perdure_test 1")
	redis, pings = errors.New("dial tcp 10.0.0.9:6379: refused"), 0
	check("/livez", 200, "ok")
	if pings != 0 {
		t.Error("livez asked Redis")
	}
	check("/readyz", 503, "Redis cannot be reached")
	redis, ready = nil, errors.New("draining")
	check("/readyz", 503, "draining")
	check("/", 404, "")
	if got := call(h, http.MethodPost, "/livez", ""); got.Code != 405 {
		t.Errorf("POST /livez: %d", got.Code)
	}
	bare := Health(nil, nil, nil)
	if ok, none := call(bare, "GET", "/readyz", ""), call(bare, "GET", "/metrics", ""); ok.Code != 200 || none.Code != 404 {
		t.Errorf("bare: %d, %d", ok.Code, none.Code)
	}
}

func TestAsynqUI(t *testing.T) {
	t.Parallel()
	h := newAPI(t, Options{AsynqUI: redistest.Client(t)})
	for _, target := range []string{"/asynq/", "/asynq/queues/default", "/asynq/static/js/main.5adda2da.chunk.js", "/asynq/api/queues", "/asynq/api/servers", "/asynq/api/scheduler_entries", "/asynq/api/queue_stats", "/asynq/api/redis_info"} {
		got := call(h, http.MethodGet, target, "")
		if got.Code != 200 || got.text == "" {
			t.Errorf("GET %s: %d %s", target, got.Code, got.text)
		}
		scripts, _, _ := strings.Cut(got.Header().Get("Content-Security-Policy"), "style-src")
		if strings.Count(scripts, "'sha256-") != 2 || strings.Contains(scripts, "unsafe") || got.Header().Get("X-Frame-Options") != "DENY" {
			t.Errorf("GET %s: %v", target, got.Header())
		}
	}
	if got := call(h, http.MethodGet, "/asynq/static/media/logo-color.c2b0c1f3.svg", "").Header().Get("Content-Type"); got != "image/svg+xml" {
		t.Errorf("logo is %q", got)
	}
	if got := call(h, http.MethodGet, "/asynq/", ""); !strings.Contains(got.text, `FLAG_READ_ONLY="true"`) {
		t.Errorf("the UI offers to change things: %.1500s", got.text)
	}
	if got := call(h, http.MethodGet, "/asynq", ""); got.Code/100 != 3 || got.Header().Get("Location") != "/asynq/" {
		t.Errorf("GET /asynq: %d %v", got.Code, got.Header())
	}
	if got := call(h, http.MethodGet, "/", ""); !strings.Contains(got.text, `href="/asynq/"`) {
		t.Errorf("page has no link: %s", got.text)
	}
	for _, method := range []string{http.MethodPost, http.MethodDelete, http.MethodPut, http.MethodPatch} {
		for _, target := range []string{"/asynq/", "/asynq/api/queues/default", "/asynq/api/queues/default:pause", "/asynq/api/queues/default/archived_tasks:delete_all", "/asynq/api/queues/default/retry_tasks:run_all"} {
			if got := call(h, method, target, `{}`); got.Code != 405 {
				t.Errorf("%s %s: %d %s", method, target, got.Code, got.text)
			}
		}
	}
	for target, want := range map[string]int{
		"/asynq/api/metrics": 404, "/asynq/api/queues/default/pending_tasks?size=100000": 400, "/asynq/api/queues/default/pending_tasks?page=-1": 400, "/asynq/api/queues?size=x": 400,
	} {
		if got := call(h, http.MethodGet, target, ""); got.Code != want {
			t.Errorf("GET %s: %d %s", target, got.Code, got.text)
		}
	}
}

func TestShowBytes(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		`{"a":1}`: `{"a":1}`, "\xff\xfe": "2 bytes that are not text", strings.Repeat("é", maxAsynqText): "... (8192 bytes in all)",
	} {
		if got := showBytes("", []byte(given)); !strings.HasSuffix(got, want) || len(got) > maxAsynqText+100 {
			t.Errorf("%.20q is shown as %.60q", given, got)
		}
	}
}
