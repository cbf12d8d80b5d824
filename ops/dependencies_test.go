package ops

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// newServices returns the API on a Redis where a kind needs two services.
func newServices(t *testing.T, o Options) (*store.Store, http.Handler) {
	t.Helper()
	rdb := redistest.Client(t)
	s := store.New(rdb, rdb)
	kind := delivery.PublishedKind{Name: "pay", Queue: "q", Version: 1, Timeout: time.Minute, Retention: time.Hour, MaxPayload: 100, Needs: []string{"payments", "api.example.com:8443"}}
	if err := s.Publish(t.Context(), []delivery.PublishedKind{kind}); err != nil {
		t.Fatal(err)
	}
	o.Store = s
	return s, newAPI(t, o)
}

func TestDependenciesAPI(t *testing.T) {
	t.Parallel()
	_, h := newServices(t, Options{})
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "dependencies", "", 200, `"name":"payments","state":"closed"`},
		{"GET", "dependencies?all=true", "", 200, `"kinds":["pay"]`},
		{"GET", "dependencies?all=yes", "", 400, `"all"`},
		{"GET", "dependencies/payments", "", 200, `"lanes":[],"paused_queues":[],"events":[]`},
		{"GET", "dependencies/api.example.com:8443", "", 200, `"resume":100`},
		{"GET", "dependencies/paymnets", "", 404, "dep list --all"},
		{"GET", "dependencies/Payments", "", 400, `"dependency"`},
		{"GET", "dependencies/kind%2Fpay", "", 400, `"dependency"`},
		{"POST", "dependencies/payments/open", `{"reason":"their maintenance"}`, 200, `"state":"open"`},
		{"POST", "dependencies/payments/open", `{"reason":"again"}`, 200, `"reason":"their maintenance","by":"api","forced":true`},
		{"POST", "dependencies/payments/open", `{}`, 400, `"reason"`},
		{"POST", "dependencies/paymnets/open", `{"reason":"r"}`, 404, ""},
		{"POST", "dependencies/later/open", `{"reason":"not yet there","unknown":true}`, 200, `"state":"open"`},
		{"POST", "dependencies/later/close", `{"reason":"r","unknown":true}`, 400, `"body"`},
		{"GET", "dependencies", "", 200, `{"dependencies":[{"name":"later","state":"open"`},
		{"PATCH", "dependencies/payments", `{"reason":"gently","resume":20,"min_calls":3,"rate":50,"concurrency":4}`, 200, `"set":["resume","min_calls","rate","concurrency"]`},
		{"PATCH", "dependencies/payments", `{"reason":"as before","resume":null,"min_calls":null,"rate":0}`, 200, `"set":["rate","concurrency"]`},
		{"PATCH", "dependencies/payments", `{"reason":"r","resume":-1}`, 400, `"field":"resume"`},
		{"PATCH", "dependencies/payments", `{"reason":"r","resume":0}`, 400, `"field":"resume"`},
		{"PATCH", "dependencies/payments", `{"reason":"r","quorum":1.5}`, 400, `"field":"quorum"`},
		{"PATCH", "dependencies/payments", `{"reason":"r","ratio":2}`, 400, `"value":"2"`},
		{"PATCH", "dependencies/payments", `{"reason":"r","speed":2}`, 400, `"body"`},
		{"PATCH", "dependencies/payments", `{"reason":"r"}`, 400, "at least one of"},
		{"PATCH", "dependencies/payments", `{"resume":2}`, 400, `"reason"`},
		{"PATCH", "dependencies/paymnets", `{"reason":"r","resume":2}`, 404, ""},
		{"PATCH", "dependencies/payments?x=1", `{"reason":"r","resume":2}`, 400, `"query"`},
		{"POST", "dependencies/payments/close", `{"reason":"it is over"}`, 200, `"state":"recovering"`},
		{"POST", "dependencies/payments", `{"reason":"r"}`, 405, ""},

		{"PATCH", "limits/kind/pay", `{"reason":"what they allow","rate":12.5}`, 200, `"name":"kind/pay"`},
		{"PATCH", "limits/tenant/acme", `{"reason":"their batch","concurrency":7}`, 200, `"limit":{"concurrency":7}`},
		{"PATCH", "limits/kind/pya", `{"reason":"r","rate":1}`, 404, ""},
		{"PATCH", "limits/kind/pya", `{"reason":"soon","rate":1,"unknown":true}`, 200, `"rate":1`},
		{"PATCH", "limits/kind/pay", `{"reason":"r","resume":1}`, 400, `"body"`},
		{"PATCH", "limits/service/pay", `{"reason":"r","rate":1}`, 400, `"bound":"kind or tenant`},
		{"PATCH", "limits/kind/Pay", `{"reason":"r","rate":1}`, 400, `"kind"`},
		{"GET", "limits", "", 200, `{"limits":[{"name":"kind/pay"`},
		{"GET", "limits/kind/pay", "", 200, `"limit":{"rate":12.5}`},
		{"GET", "limits/tenant/none", "", 404, "limit tenant/none not found: nobody has set it"},
		{"GET", "limits/kind/none", "", 404, "limit kind/none not found: nobody has set it"},
		{"PATCH", "limits/tenant/acme", `{"reason":"done","concurrency":null}`, 200, `{"name":"tenant/acme","limit":{},"running":0,"waiting":0}`},
		{"GET", "limits/tenant/acme", "", 404, ""},

		{"GET", "events?queue=@dep&limit=1", "", 200, `"queue":"@dep","what":"set","key":"tenant/acme","actor":"api"`},
		{"GET", "events", "", 200, `"reason":"it is over"`},
		{"GET", "events?queue=@other", "", 400, `"queue"`},
	} {
		got := call(h, c.method, "/api/v1/"+c.path, c.body)
		if got.Code != c.status || !strings.Contains(got.text, c.want) {
			t.Errorf("%s %s %s: %d %s, want %d %s", c.method, c.path, c.body, got.Code, got.text, c.status, c.want)
		}
		if c.status >= 400 {
			got.problem(t)
		}
	}
	r := request("PATCH", "/api/v1/dependencies/payments", `{"reason":"r","resume":2}`)
	r.Header.Set("Content-Type", "text/plain")
	if got := do(h, r); got.Code != http.StatusUnsupportedMediaType {
		t.Errorf("PATCH of a text: %d", got.Code)
	}
	r = request("PATCH", "/api/v1/dependencies/payments", `{"reason":"r","resume":2}`)
	r.Header.Set("Origin", "https://evil.example")
	if got := do(h, r); got.Code != http.StatusForbidden {
		t.Errorf("PATCH from elsewhere: %d", got.Code)
	}
}

// A limit has no breaker, so its answer says nothing of one.
func TestLimitsHaveNoBreaker(t *testing.T) {
	t.Parallel()
	_, h := newServices(t, Options{})
	call(h, "PATCH", "/api/v1/limits/kind/pay", `{"reason":"r","rate":12.5}`)
	for _, path := range []string{"/api/v1/limits/kind/pay", "/api/v1/limits"} {
		got := call(h, "GET", path, "").text
		if want := `{"name":"kind/pay","limit":{"rate":12.5},"running":0,"waiting":0,"set":["rate"]}`; !strings.Contains(got, want) {
			t.Errorf("%s: %s has no %s", path, got, want)
		}
	}
}

func TestDependencyIsLogged(t *testing.T) {
	t.Parallel()
	var log logBuffer
	_, h := newServices(t, Options{Log: log.logger()})
	call(h, "POST", "/api/v1/dependencies/payments/open", `{"reason":"r"}`)
	call(h, "PATCH", "/api/v1/limits/kind/pay", `{"reason":"r","rate":1}`)
	for _, want := range []string{`"dependency":"payments"`, `"limit":"kind/pay"`, `"method":"PATCH"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %s: %s", want, log.String())
		}
	}
}

func TestHomeShowsServices(t *testing.T) {
	t.Parallel()
	s, h := newServices(t, Options{})
	if _, err := s.ForceDependency(t.Context(), "payments", true, jobs.Decision{Actor: "ann", Reason: "<script>their maintenance"}); err != nil {
		t.Fatal(err)
	}
	got := call(h, "GET", "/", "")
	for _, want := range []string{"Services that jobs need", "open by ann", "&lt;script&gt;their maintenance", "perdure dep close payments", "Last decisions", `href="/api/v1/dependencies"`} {
		if !strings.Contains(got.text, want) {
			t.Errorf("%d: page has no %q: %s", got.Code, want, got.text)
		}
	}
	f := newFake()
	for range 60 {
		f.services = append(f.services, delivery.DependencyInfo{Standing: jobs.Standing{Name: "host", State: jobs.DependencyClosed}})
	}
	if got := call(newAPI(t, Options{Store: f}), "GET", "/", ""); !strings.Contains(got.text, "and 10 more") {
		t.Errorf("%d %s", got.Code, got.text)
	}
}
