package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/perdure/perdure/deadletter"
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
	if got := call(h, "POST", "/api/v1/jobs", post(key, 1)); got.Code != 201 {
		t.Fatalf("%d %s", got.Code, got.text)
	}
	isolated(t, s, key)
}

// isolated isolates the job that is next.
func isolated(t *testing.T, s *store.Store, key string) {
	t.Helper()
	ctx := context.Background()
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
		Class: failure.Class, Rule: failure.Rule, Reason: "invalid", Kind: d.Kind, Message: failure.Message, Worker: "w",
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
	var dead deadletter.Page
	call(h, "GET", "/api/v1/dead?queue=orders&kind=order.fulfil", "").decode(t, &dead)
	if len(dead.Entries) != 2 || dead.Entries[0].Message != "no such article" {
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

// A task ID of another client is one segment of a path, escaped.
func TestRedisKeysOfOtherClients(t *testing.T) {
	t.Parallel()
	s, h := newRedisAPI(t)
	client := asynq.NewClientFromRedisClient(s.Redis())
	const why = `{"reason":"mended"}`
	for key, segment := range map[string]string{
		"tenant/42": "tenant%2F42", "a//b": "a%2F%2Fb", "a/../replay": "a%2F..%2Freplay", "a b": "a%20b", "_x": "_x", "p1#2": "p1%232",
		"mail:ü": "mail:%C3%BC", "50%": "50%25", "%2F": "%252F", "?x=1": "%3Fx=1", ".": "%2E", "..": "%2E%2E", "new\nline": "new%0Aline",
	} {
		if _, err := client.Enqueue(asynq.NewTask("mail:send", nil), asynq.TaskID(key), asynq.Queue("orders")); err != nil {
			t.Fatal(err)
		}
		isolated(t, s, key)
		want, _ := json.Marshal(key)
		for _, ask := range [][3]string{
			{"GET", "/api/v1/jobs/orders/" + segment}, {"GET", "/api/v1/dead/orders/" + segment}, {"POST", "/api/v1/dead/orders/" + segment + "/replay", why},
			{"POST", "/api/v1/jobs/orders/" + segment + "/pause", why}, {"POST", "/api/v1/jobs/orders/" + segment + "/cancel", why},
		} {
			if got := call(h, ask[0], ask[1], ask[2]); got.Code != 200 || !strings.Contains(got.text, `"key":`+string(want)) {
				t.Errorf("%s %s: %d %s", ask[0], ask[1], got.Code, got.text)
			}
		}
	}
	for _, target := range []string{"tenant/42", "%2F"} {
		if got := call(h, "GET", "/api/v1/jobs/orders/"+target, ""); got.Code != 404 || got.problem(t).Type != "urn:perdure:problem:no-route" {
			t.Errorf("%s: %d %s", target, got.Code, got.text)
		}
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

// TestRedisDeadAPI goes the way of somebody who mends a service: looks at groups,
// tries a plan, makes it, steers it, and judges the group.
func TestRedisDeadAPI(t *testing.T) {
	t.Parallel()
	s, h := newRedisAPI(t)
	for _, key := range []string{"a", "b", "c", "d"} {
		quarantined(t, s, h, key)
	}
	var found struct{ Groups []delivery.DeadGroup }
	call(h, "GET", "/api/v1/groups?queue=orders&state=open", "").decode(t, &found)
	if len(found.Groups) != 1 || found.Groups[0].Entries != 4 || found.Groups[0].Message != "no such article" {
		t.Fatalf("groups %+v", found)
	}
	sig := found.Groups[0].Signature
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/api/v1/dead?queue=orders&signature=" + sig + "&order=newest&limit=1", "", 200, `"key":"d"`},
		{"GET", "/api/v1/dead?queue=orders&text=NO+such&version=0&limit=1", "", 200, `"key":"a"`},
		{"GET", "/api/v1/dead?since=2000-01-01T00:00:00Z&before=2001-01-01T00:00:00Z", "", 200, `"entries":[]`},
		{"GET", "/api/v1/dead?since=today", "", 400, `"since"`},
		{"GET", "/api/v1/dead?version=x", "", 400, `"version"`},
		{"GET", "/api/v1/dead?order=odd", "", 400, `"order"`},
		{"GET", "/api/v1/dead?signature=odd", "", 400, `"signature"`},
		{"GET", "/api/v1/dead/orders/a", "", 200, `"payload":{`},
		{"GET", "/api/v1/groups/orders/" + sig, "", 200, `"state":"open"`},
		{"GET", "/api/v1/groups/orders/0123456789ab", "", 404, ""},
		{"GET", "/api/v1/groups?state=odd", "", 400, `"state"`},
		{"POST", "/api/v1/groups/orders/" + sig + "/ignore", `{"reason":"known"}`, 200, `"state":"ignored"`},
		{"POST", "/api/v1/groups/orders/" + sig + "/resolve", `{"reason":"mended"}`, 200, `"state":"resolved"`},
		{"POST", "/api/v1/groups/orders/" + sig + "/open", `{}`, 400, `"reason"`},
		{"POST", "/api/v1/plans", `{"reason":"r","queue":"orders","filter":{"kynd":"x"}}`, 400, `"filter"`},
		{"POST", "/api/v1/plans", `{"reason":"r","queue":"orders"}`, 400, `"filter"`},
		{"POST", "/api/v1/plans", `{"reason":"r","queue":"orders","all":true,"rate":-1}`, 400, `"rate"`},
		{"POST", "/api/v1/plans", `{"reason":"r","queue":"orders","all":true,"from":"middle"}`, 400, `"from"`},
		{"POST", "/api/v1/plans", `{"reason":"r","queue":"none","all":true}`, 404, ""},
		{"POST", "/api/v1/plans", `{"queue":"orders","filter":{"signature":"` + sig + `"},"dry_run":true}`, 200, `"replayable":4,"signatures":{"` + sig + `":4}`},
		{"POST", "/api/v1/plans", `{"reason":"mended","id":"p1","queue":"orders","filter":{"signature":"` + sig + `"},"rate":5}`, 201, `"state":"selecting"`},
		{"GET", "/api/v1/plans?queue=orders", "", 200, `"id":"p1"`},
		{"GET", "/api/v1/plans/orders/p1", "", 200, `"rate":5`},
		{"GET", "/api/v1/plans/orders/p2", "", 404, ""},
		{"POST", "/api/v1/plans/orders/p1/pause", `{"reason":"lunch"}`, 200, `"state":"paused"`},
		{"POST", "/api/v1/plans/orders/p1/resume", `{"reason":"back"}`, 200, `"state":"selecting"`},
		{"POST", "/api/v1/plans/orders/p1/abort", `{"reason":"no"}`, 200, `"state":"aborted"`},
		{"POST", "/api/v1/plans/orders/p1/resume", `{"reason":"yes"}`, 409, ""},
		{"POST", "/api/v1/dead/orders/a/replay", `{"reason":"r","from":"start","payload":{"amount":2}}`, 200, `"state":"pending"`},
		{"POST", "/api/v1/dead/orders/b/erase", `{"reason":"asked for"}`, 200, `"state":"quarantined"`},
		{"POST", "/api/v1/dead/orders/b/replay", `{"reason":"r"}`, 409, "erased"},
		{"POST", "/api/v1/dead/discard", `{"reason":"r","queue":"orders","filter":{}}`, 400, `"filter"`},
		{"POST", "/api/v1/dead/discard", `{"reason":"r","queue":"orders","filter":{"signature":"` + sig + `"}}`, 200, `{"discarded":3,"next":""}`},
		{"GET", "/api/v1/groups/orders/" + sig, "", 200, `"entries":0,"seen":4`},
	} {
		if got := call(h, c.method, c.path, c.body); got.Code != c.status || !strings.Contains(got.text, c.want) {
			t.Errorf("%s %s %s: %d %s, want %d %s", c.method, c.path, c.body, got.Code, got.text, c.status, c.want)
		}
	}
}
