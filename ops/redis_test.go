package ops

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

func newRedisAPI(t *testing.T) (*store.Store, http.Handler) {
	t.Helper()
	rdb := redistest.Client(t)
	s := store.New(rdb, rdb)
	return s, newAPI(t, Options{Store: s, AsynqUI: rdb})
}

func post(key string, amount int) string {
	return fmt.Sprintf(`{"kind":"order.fulfil","key":%q,"payload":{"amount":%d}}`, key, amount)
}

func TestRedisEnqueueListCancel(t *testing.T) {
	t.Parallel()
	_, h := newRedisAPI(t)
	for i := range 5 {
		if got := call(h, "POST", "/api/v1/jobs", post(fmt.Sprintf("order:%d", i), i)); got.Code != 201 {
			t.Fatalf("%d %s", got.Code, got.text)
		}
	}
	if got := call(h, "POST", "/api/v1/jobs", post("order:1", 1)); got.Code != 200 || !strings.Contains(got.text, `"duplicate":true`) {
		t.Errorf("again: %d %s", got.Code, got.text)
	}
	if got := call(h, "POST", "/api/v1/jobs", post("order:1", 9)); got.Code != 409 || got.problem(t).Type != "urn:perdure:problem:other-payload" {
		t.Errorf("other payload: %d %s", got.Code, got.text)
	}
	var info jobs.Info
	call(h, "GET", "/api/v1/jobs/orders/order:1?wait=30ms", "").decode(t, &info)
	if info.State != jobs.StatePending || info.Kind != "order.fulfil" || info.EnqueuedAt.IsZero() {
		t.Errorf("job %+v", info)
	}
	var keys []string
	for next, pages := "", 0; ; pages++ {
		var page jobs.Page
		call(h, "GET", "/api/v1/jobs?queue=orders&state=pending&limit=2&cursor="+url.QueryEscape(next), "").decode(t, &page)
		for _, info := range page.Jobs {
			keys = append(keys, info.Key)
		}
		if next = page.Next; next == "" || pages > 5 {
			break
		}
	}
	if strings.Join(keys, " ") != "order:0 order:1 order:2 order:3 order:4" {
		t.Errorf("pages hold %v", keys)
	}
	for _, step := range [][2]string{{"pause", `"type":"operator"`}, {"resume", `"order:1"`}} {
		if got := call(h, "POST", "/api/v1/jobs/orders/order:1/"+step[0], `{"reason":"not now"}`); got.Code != 200 || !strings.Contains(got.text, step[1]) {
			t.Errorf("%s: %d %s", step[0], got.Code, got.text)
		}
	}
	if got := call(h, "POST", "/api/v1/jobs/orders/order:1/resume", `{"reason":"again"}`); got.Code != 409 {
		t.Errorf("resume of a job that is not paused: %d %s", got.Code, got.text)
	}
	if got := call(h, "POST", "/api/v1/jobs/orders/order:1/cancel", `{"reason":"not wanted"}`); got.Code != 200 || !strings.Contains(got.text, `"state":"cancelled"`) {
		t.Errorf("cancel: %d %s", got.Code, got.text)
	}
	if got := call(h, "GET", "/api/v1/jobs/orders/order:1?wait=5s", ""); got.Code != 200 || !strings.Contains(got.text, `"state":"cancelled"`) {
		t.Errorf("wait for the end: %d %s", got.Code, got.text)
	}
	if got := call(h, "GET", "/api/v1/events?queue=orders", ""); !strings.Contains(got.text, `"actor":"api","reason":"not wanted"`) {
		t.Errorf("events: %s", got.text)
	}
	if got := call(h, "GET", "/api/v1/jobs?cursor=abc", ""); got.Code != 400 {
		t.Errorf("broken cursor: %d %s", got.Code, got.text)
	}
}

// quarantined enqueues a job and isolates it as a worker would.
func quarantined(t *testing.T, s *store.Store, h http.Handler, key string) {
	t.Helper()
	ctx := context.Background()
	if got := call(h, "POST", "/api/v1/jobs", post(key, 1)); got.Code != 201 {
		t.Fatalf("%d %s", got.Code, got.text)
	}
	if _, err := s.Beat(ctx, "owner", true); err != nil {
		t.Fatal(err)
	}
	batch, err := s.Claim(ctx, "orders", "owner", 1)
	if err != nil || len(batch.Deliveries) != 1 || batch.Deliveries[0].Key != key {
		t.Fatalf("claim: %+v, %v", batch, err)
	}
	d := batch.Deliveries[0]
	failure := jobs.Failure{Class: jobs.ClassInvalid, Rule: "permanent", Message: "no such article", Stack: "deep", At: time.Now(), Worker: "w", Attempt: 1}
	err = s.Settle(ctx, d, delivery.Verdict{Outcome: delivery.Quarantine, Failure: &failure, Entry: delivery.Entry{
		Class: failure.Class, Rule: failure.Rule, Reason: "invalid", Kind: d.Kind, Message: failure.Message, Signature: "sig", Worker: "w",
	}})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRedisQuarantine(t *testing.T) {
	t.Parallel()
	s, h := newRedisAPI(t)
	for _, key := range []string{"a", "b"} {
		quarantined(t, s, h, key)
	}
	var dead deadPage
	call(h, "GET", "/api/v1/dead?queue=orders&kind=order.fulfil", "").decode(t, &dead)
	if len(dead.Entries) != 2 || dead.Entries[0].Entry == nil || dead.Entries[0].Entry.Message != "no such article" {
		t.Fatalf("dead %+v", dead)
	}
	if got := call(h, "GET", "/api/v1/dead/orders/a", ""); got.Code != 200 || !strings.Contains(got.text, `"stack":"deep"`) {
		t.Errorf("one: %d %s", got.Code, got.text)
	}
	const why = `{"reason":"the article exists now"}`
	if got := call(h, "POST", "/api/v1/dead/orders/a/replay", why); got.Code != 200 || !strings.Contains(got.text, `"state":"pending"`) {
		t.Errorf("replay: %d %s", got.Code, got.text)
	}
	if got := call(h, "POST", "/api/v1/dead/orders/a/replay", why); got.Code != 409 {
		t.Errorf("replay again: %d %s", got.Code, got.text)
	}
	if got := call(h, "POST", "/api/v1/dead/orders/b/discard", why); got.Code != 200 || !strings.Contains(got.text, `"state":"quarantined"`) {
		t.Errorf("discard: %d %s", got.Code, got.text)
	}
	if got := call(h, "GET", "/api/v1/jobs/orders/b", ""); got.Code != 404 {
		t.Errorf("discarded: %d %s", got.Code, got.text)
	}
}

func TestRedisQueuesAndAsynqUI(t *testing.T) {
	t.Parallel()
	_, h := newRedisAPI(t)
	call(h, "POST", "/api/v1/jobs", post("order:1", 1))
	if got := call(h, "POST", "/api/v1/queues/orders/pause", `{"reason":"stock-taking"}`); got.Code != 200 || !strings.Contains(got.text, `"paused":true`) {
		t.Errorf("pause: %d %s", got.Code, got.text)
	}
	if got := call(h, "GET", "/", ""); got.Code != 200 || !strings.Contains(got.text, "stock-taking") {
		t.Errorf("page: %d %s", got.Code, got.text)
	}
	if got := call(h, "POST", "/api/v1/queues/orders/resume", `{"reason":"done"}`); got.Code != 200 || !strings.Contains(got.text, `"paused":false`) {
		t.Errorf("resume: %d %s", got.Code, got.text)
	}
	if got := call(h, "POST", "/api/v1/queues/none/pause", `{"reason":"r"}`); got.Code != 404 {
		t.Errorf("pause of none: %d %s", got.Code, got.text)
	}
	for _, target := range []string{"queues", "queues/orders", "queues/orders/pending_tasks?size=20&page=1", "queues/orders/tasks/order:1", "queue_stats"} {
		if got := call(h, "GET", "/asynq/api/"+target, ""); got.Code != 200 || !strings.Contains(got.text, "order") {
			t.Errorf("asynq %s: %d %s", target, got.Code, got.text)
		}
	}
	if got := call(h, "POST", "/asynq/api/queues/orders:pause", `{}`); got.Code != 405 {
		t.Errorf("asynq pause: %d %s", got.Code, got.text)
	}
}

func TestRedisGone(t *testing.T) {
	t.Parallel()
	server := redistest.NewServer(t)
	s, err := store.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	h := newAPI(t, Options{Store: s, AsynqUI: s.Redis()})
	server.Kill()
	for _, c := range []reply{
		call(h, "POST", "/api/v1/jobs", goodJob), call(h, "GET", "/api/v1/jobs", ""), call(h, "GET", "/api/v1/jobs/orders/a", ""),
		call(h, "GET", "/api/v1/queues", ""), call(h, "POST", "/api/v1/queues/orders/pause", `{"reason":"r"}`),
	} {
		if c.problem(t); c.Code != 503 || c.Header().Get("Retry-After") != "1" || strings.Contains(c.text, "127.0.0.1") {
			t.Errorf("%d %s", c.Code, c.text)
		}
	}
	if got := call(h, "GET", "/", ""); got.Code != 503 || !strings.Contains(got.text, "Redis cannot be reached") {
		t.Errorf("page: %d %s", got.Code, got.text)
	}
}
