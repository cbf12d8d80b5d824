package ops

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/deadletter"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

func TestEnqueue(t *testing.T) {
	t.Parallel()
	f := newFake()
	h := newAPI(t, Options{Store: f})
	const job = `{"kind":"order.fulfil","key":"order:1@x=y","payload":{"amount":1,"note":"n"},"queue":"other","tenant":"acme","delay":"90s","headers":{"a":"b"}}`
	got := call(h, "POST", "/api/v1/jobs", job)
	var handle jobs.Handle
	got.decode(t, &handle)
	if got.Code != 201 || handle.Key != "order:1@x=y" || handle.Queue != "other" || handle.Duplicate || handle.State != jobs.StatePending {
		t.Fatalf("%d %s", got.Code, got.text)
	}
	at, err := url.Parse(got.Header().Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	if got := call(h, "GET", at.String(), ""); got.Code != 200 {
		t.Errorf("GET %s: %d %s", at, got.Code, got.text)
	}
	j := f.seen[0]
	if j.Tenant != "acme" || j.Delay != 90*time.Second || j.Headers["a"] != "b" || j.Retention != jobs.DefaultRetention || string(j.Payload) != `{"amount":1,"note":"n"}` {
		t.Errorf("enqueued %+v", j)
	}
	if got := call(h, "POST", "/api/v1/jobs", job); got.Code != 200 || !strings.Contains(got.text, `"duplicate":true`) {
		t.Errorf("again: %d %s", got.Code, got.text)
	}
	if got := call(h, "POST", "/api/v1/jobs", strings.Replace(job, `"amount":1`, `"amount":2`, 1)); got.Code != 409 || got.problem(t).Type != "urn:perdure:problem:other-payload" {
		t.Errorf("other payload: %d %s", got.Code, got.text)
	}
	if got := call(h, "POST", "/api/v1/jobs", `{"kind":"remote","key":"r","at":"2040-01-02T03:04:05Z"}`); got.Code != 201 || f.seen[1].At.Year() != 2040 || string(f.seen[1].Payload) != "null" {
		t.Errorf("published kind: %d %s", got.Code, got.text)
	}
}

func TestEnqueueRefuses(t *testing.T) {
	t.Parallel()
	f := newFake()
	h := newAPI(t, Options{Store: f})
	with := func(more string) string {
		return `{"kind":"order.fulfil","key":"k","payload":{"amount":1}` + more + `}`
	}
	for body, want := range map[string]struct {
		status       int
		field, bound string
	}{
		``:                                   {400, "body", "one JSON object"},
		`[]`:                                 {400, "body", "one JSON object"},
		`null`:                               {400, "body", "one JSON object"},
		`{"kind":`:                           {400, "body", "one JSON object"},
		with("") + `{}`:                      {400, "body", "one JSON object"},
		with(`,"extra":1`):                   {400, "body", "an object of kind, key"},
		with(`,"Kind":"x"`):                  {400, "body", "an object of kind, key"},
		with(`,"key":"twice"`):               {400, "body", "at most once"},
		with(`,"queue":7`):                   {400, "queue", "a text"},
		with(`,"headers":{"a":1}`):           {400, "headers", "an object of texts"},
		with(`,"queue":"Not OK"`):            {400, "queue", "1 to 64"},
		with(`,"tenant":"a/b"`):              {400, "tenant", "1 to 64"},
		with(`,"delay":"soon"`):              {400, "delay", `"90s"`},
		with(`,"delay":"-1s"`):               {400, "delay", "from 0s"},
		with(`,"delay":"999999h"`):           {400, "delay", "from 0s"},
		with(`,"at":"tomorrow"`):             {400, "at", "2006-01-02"},
		with(`,"at":"1900-01-01T00:00:00Z"`): {400, "at", "1970"},
		with(`,"at":"2040-01-01T00:00:00Z","delay":"1s"`):                                                               {400, "delay", "absent when at"},
		with(`,"headers":{"perdure-nonce":"x"}`):                                                                        {400, "header", "perdure-"},
		`{"key":"k"}`:                                                                                                   {400, "kind", "1 to 64"},
		`{"kind":"order.fulfil"}`:                                                                                       {400, "key", "1 to 255"},
		`{"kind":"order.fulfil","key":"a b"}`:                                                                           {400, "key", "1 to 255"},
		`{"kind":"none","key":"k"}`:                                                                                     {422, "kind", "a known kind"},
		`{"kind":"order.fulfil","key":"k","payload":{"amount":-1}}`:                                                     {400, "payload", "amount -1 is below 0"},
		`{"kind":"order.fulfil","key":"k","payload":{"amount":"many"}}`:                                                 {400, "payload", "order.fulfil"},
		`{"kind":"order.fulfil","key":"k","payload":{"note":"panic"}}`:                                                  {400, "payload", "order.fulfil"},
		`{"kind":"order.fulfil","key":"k","payload":{"note":"` + strings.Repeat("x", 1000) + `"}}`:                      {400, "payload", "at most 1000 bytes"},
		`{"kind":"remote","key":"k","payload":"` + strings.Repeat("x", 100) + `"}`:                                      {400, "payload", "at most 100 bytes"},
		`{"kind":"order.fulfil","key":"k","payload":"` + strings.Repeat("x", maxBody+70<<10) + `"}`:                     {413, "body", "at most 1114112 bytes"},
		`{"kind":"order.fulfil","key":"k","payload":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`: {400, "body", "one JSON object"},
	} {
		got := call(h, "POST", "/api/v1/jobs", body)
		p := got.problem(t)
		if got.Code != want.status || p.Field != want.field || !strings.Contains(p.Bound, want.bound) || p.Value == "" && want.field != "key" && want.field != "kind" {
			t.Errorf("%.120s: %d %s, want %+v", body, got.Code, got.text, want)
		}
		if strings.Contains(got.text, "the note") {
			t.Errorf("%.120s: answer has the panic's text: %s", body, got.text)
		}
	}
	if len(f.seen) > 0 {
		t.Errorf("enqueued %v", f.seen)
	}
	got := call(h, "POST", "/api/v1/jobs", `{"kind":"none","key":"k"}`)
	if p := got.problem(t); !slices.Equal(p.Kinds, []string{"order.fulfil", "remote"}) {
		t.Errorf("known kinds: %s", got.text)
	}
	if got := call(h, "POST", "/api/v1/jobs?kind=x", with("")); got.Code != 400 {
		t.Errorf("query on POST: %d %s", got.Code, got.text)
	}
}

// A body of unknown length is bounded while it is read.
func TestBodyOfUnknownLength(t *testing.T) {
	t.Parallel()
	h := newAPI(t, Options{})
	r := request("POST", "/api/v1/jobs", `{"kind":"`+strings.Repeat("x", maxBody+70<<10))
	r.ContentLength = -1
	if got := do(h, r); got.Code != 413 || got.problem(t).Field != "body" {
		t.Errorf("%d %s", got.Code, got.text)
	}
	r = request("POST", "/api/v1/jobs", goodJob)
	r.ContentLength = -1
	if got := do(h, r); got.Code != 201 {
		t.Errorf("%d %s", got.Code, got.text)
	}
}

func TestGetAndWait(t *testing.T) {
	t.Parallel()
	f := newFake()
	h := newAPI(t, Options{Store: f})
	call(h, "POST", "/api/v1/jobs", goodJob)
	for target, want := range map[string]int{
		"orders/order:1": 200, "orders/order:1?wait=0s": 200, "orders/order:1?wait=10ms": 200, "orders/none": 404, "orders/none?wait=1s": 404,
		"orders/order:1?wait=61s": 400, "orders/order:1?wait=-1s": 400, "orders/order:1?wait=x": 400, "orders/order:1?wait=1s&wait=2s": 400,
		"orders/order:1?other=1": 400, "orders/a%2Fb": 404, "ORDERS/a": 400, "orders/%00": 404, "orders/a?wait=%zz": 400,
	} {
		if got := call(h, "GET", "/api/v1/jobs/"+target, ""); got.Code != want {
			t.Errorf("%s: %d %s, want %d", target, got.Code, got.text, want)
		}
	}
	if got := call(h, "GET", "/api/v1/jobs/orders/order:1?wait=5ms", ""); !strings.Contains(got.text, `"state":"pending"`) {
		t.Errorf("after the wait: %s", got.text)
	}
}

func TestWaitsAreBounded(t *testing.T) {
	t.Parallel()
	s, err := newService(Options{Store: newFake()})
	if err != nil {
		t.Fatal(err)
	}
	for range cap(s.waits) {
		s.waits <- struct{}{}
	}
	h := s.protect(s.routes())
	if got := call(h, "GET", "/api/v1/jobs/orders/a?wait=1s", ""); got.Code != 503 || got.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", got.Code, got.text)
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	f := newFake()
	h := newAPI(t, Options{Store: f})
	for i := range 7 {
		key := fmt.Sprintf("k%d", i)
		f.jobs["default/"+key] = jobs.Info{
			Queue: "default", Key: key, Kind: "remote", State: jobs.StateQuarantined, Result: []byte(`"large"`),
			Failures: []jobs.Failure{{Message: "m", Stack: "deep"}},
		}
	}
	f.jobs["default/foreign"] = jobs.Info{Queue: "default", Key: "foreign", Kind: "remote", State: jobs.StateQuarantined}
	f.jobs["default/z"] = jobs.Info{Queue: "default", Key: "z", Kind: "other", State: jobs.StatePending}
	var keys []string
	for next, pages := "", 0; ; pages++ {
		got := call(h, "GET", "/api/v1/jobs?limit=4&cursor="+url.QueryEscape(next), "")
		var page jobs.Page
		got.decode(t, &page)
		for _, info := range page.Jobs {
			keys = append(keys, info.Key)
		}
		if strings.Contains(got.text, "large") || strings.Contains(got.text, "deep") {
			t.Errorf("list shows results or stacks: %s", got.text)
		}
		if next = page.Next; next == "" || pages > 5 {
			break
		}
	}
	if len(keys) != 9 {
		t.Errorf("pages hold %v", keys)
	}
	if got := call(h, "GET", "/api/v1/jobs?queue=none", ""); strings.TrimSpace(got.text) != `{"jobs":[],"next":""}` {
		t.Errorf("empty list: %s", got.text)
	}
	var dead deadletter.Page
	call(h, "GET", "/api/v1/dead?kind=remote", "").decode(t, &dead)
	if len(dead.Entries) != 8 || dead.Entries[0].Key != "foreign" || dead.Entries[7].Reason != "of k6" {
		t.Errorf("dead: %+v", dead)
	}
	if got := call(h, "GET", "/api/v1/dead?kind=other", ""); strings.TrimSpace(got.text) != `{"entries":[],"next":"","read":0}` {
		t.Errorf("no dead: %s", got.text)
	}
	if got := call(h, "GET", "/api/v1/dead/default/k1", ""); !strings.Contains(got.text, `"stack":"deep"`) || !strings.Contains(got.text, `"reason":"of k1"`) {
		t.Errorf("one dead: %s", got.text)
	}
	if got := call(h, "GET", "/api/v1/dead/default/z", ""); got.Code != 404 {
		t.Errorf("dead that lives: %d %s", got.Code, got.text)
	}
	for _, query := range []string{
		"limit=0", "limit=501", "limit=x", "limit=9999999999999999999", "state=unknown", "state=x", "queue=A", "kind=A", "limit=1&limit=2",
		"sort=key", "cursor=" + strings.Repeat("x", maxParam+1), "queue=%zz", "a;b=c",
	} {
		if got := call(h, "GET", "/api/v1/jobs?"+query, ""); got.Code != 400 || got.problem(t).Field == "" {
			t.Errorf("%.40s: %d %s", query, got.Code, got.text)
		}
	}
}

func TestDecisions(t *testing.T) {
	t.Parallel()
	f := newFake()
	h := newAPI(t, Options{Store: f, Tokens: testTokens(t)})
	for _, key := range []string{"a", "b", "c"} {
		f.jobs["default/"+key] = jobs.Info{Queue: "default", Key: key, State: jobs.StateQuarantined}
	}
	f.jobs["default/p"] = jobs.Info{Queue: "default", Key: "p", State: jobs.StatePending}
	ask := func(target, body string) reply {
		r := request("POST", "/api/v1/"+target, body)
		r.Header.Set("Authorization", "bearer "+operatorSecret)
		return do(h, r)
	}
	const why = `{"reason":"because"}`
	for _, c := range []struct {
		target, body string
		want         int
	}{
		{"dead/default/a/replay", why, 200}, {"dead/default/a/replay", why, 409},
		{"dead/default/b/replay", `{"reason":"r","from":"start"}`, 200}, {"dead/default/c/replay", `{"reason":"r","from":"middle"}`, 400},
		{"dead/default/c/discard", why, 200}, {"dead/default/p/discard", why, 409}, {"dead/default/none/discard", why, 404},
		{"jobs/default/p/cancel", why, 200}, {"jobs/default/none/cancel", why, 404}, {"jobs/DEFAULT/none/cancel", why, 400},
		{"jobs/default/p/cancel", `{}`, 400}, {"jobs/default/p/cancel", `{"reason":""}`, 400}, {"jobs/default/p/cancel", ``, 400},
		{"jobs/default/p/cancel", `{"reason":"` + strings.Repeat("x", 1001) + `"}`, 400}, {"jobs/default/p/cancel", `{"reason":"r","actor":"root"}`, 400},
		{"jobs/default/p/pause", why, 200}, {"jobs/default/none/pause", why, 404}, {"jobs/default/p/pause", `{}`, 400}, {"jobs/default/p/resume", why, 200},
		{"queues/default/pause", why, 200}, {"queues/none/pause", why, 404}, {"queues/NONE/pause", why, 400}, {"queues/default/resume", why, 200}, {"queues/default/pause", `{}`, 400},
	} {
		if got := ask(c.target, c.body); got.Code != c.want {
			t.Errorf("%s %.40s: %d %s, want %d", c.target, c.body, got.Code, got.text, c.want)
		}
	}
	want := []string{"replay from start false", "replay from start true", "discard", "cancel", "pause", "resume", "pause queue"}
	var what []string
	for _, event := range f.events {
		what = append(what, event.What)
		if event.Actor != "ola (operator)" {
			t.Errorf("decided by %q", event.Actor)
		}
	}
	if !slices.Equal(what, want) {
		t.Errorf("decisions %v, want %v", what, want)
	}
	r := request("GET", "/api/v1/events?queue=default&limit=2", "")
	r.Header.Set("Authorization", "Bearer "+viewerSecret)
	var shown struct{ Events []store.Event }
	do(h, r).decode(t, &shown)
	if len(shown.Events) != 2 {
		t.Errorf("events %+v", shown)
	}
}

func TestActorWithoutTokens(t *testing.T) {
	t.Parallel()
	f := newFake()
	if got := call(newAPI(t, Options{Store: f}), "POST", "/api/v1/queues/default/pause", `{"reason":"r"}`); got.Code != 200 || f.events[0].Actor != "api" {
		t.Errorf("%d %+v", got.Code, f.events)
	}
}

func TestKindsQueuesVersion(t *testing.T) {
	t.Parallel()
	h := newAPI(t, Options{Version: "1.2.3"})
	got := call(h, "GET", "/api/v1/kinds", "")
	if !strings.Contains(got.text, `"name":"order.fulfil","queue":"orders","version":1`) || !strings.Contains(got.text, `"timeout":"30m0s"`) || !strings.Contains(got.text, `"name":"remote"`) {
		t.Errorf("kinds: %s", got.text)
	}
	if got := call(h, "GET", "/api/v1/queues", ""); !strings.Contains(got.text, `{"queues":[{"queue":"default"`) {
		t.Errorf("queues: %s", got.text)
	}
	if got := call(h, "GET", "/api/v1/version", ""); !strings.Contains(got.text, `"version":"1.2.3"`) {
		t.Errorf("version: %s", got.text)
	}
}

// FuzzEnqueue: whatever is sent is accepted or refused, never an error of ours.
func FuzzEnqueue(f *testing.F) {
	for _, seed := range []string{
		"", goodJob, `{"kind":"remote","key":"k","payload":[1e999,"\ud800"]}`, `{"kind":"order.fulfil","key":"k","payload":{"note":"panic"}}`,
		`{"kind":"order.fulfil","key":"k","delay":"1s","at":"2040-01-01T00:00:00Z","headers":{"":""}}`, `{"kind":null,"key":null}`, "{\"\x00\":1}",
		`{"kind":"order.fulfil","key":"k","headers":{"a":"b"},"tenant":"t","queue":"q"}`, `{"kind":"order.fulfil","key":"k","delay":"9223372036854775807ns"}`,
	} {
		f.Add([]byte(seed), int64(len(seed)))
	}
	f.Fuzz(func(t *testing.T, body []byte, length int64) {
		h := newAPI(t, Options{})
		r := request(http.MethodPost, "/api/v1/jobs", string(body)+" ")
		r.ContentLength = length
		switch got := do(h, r); got.Code {
		case 201, 200:
		case 400, 409, 413, 422:
			got.problem(t)
		default:
			t.Errorf("%q: %d %s", body, got.Code, got.text)
		}
	})
}

// What a job works on is shown to those who may decide about it.
func TestPayloadsAreForOperators(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.jobs["default/k"] = jobs.Info{Queue: "default", Key: "k", State: jobs.StateQuarantined}
	h := newAPI(t, Options{Store: f, Tokens: testTokens(t)})
	for secret, shown := range map[string]bool{viewerSecret: false, operatorSecret: true} {
		r := request("GET", "/api/v1/dead/default/k", "")
		r.Header.Set("Authorization", "bearer "+secret)
		if got := do(h, r); got.Code != 200 || strings.Contains(got.text, "secret") != shown || !strings.Contains(got.text, "of k") {
			t.Errorf("%d %s", got.Code, got.text)
		}
	}
}
