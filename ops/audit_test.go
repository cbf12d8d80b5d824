package ops

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/perdure/perdure/audit"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// newAudit returns the API on a Redis with three decisions by an operator, and two of
// them sealed.
func newAudit(t *testing.T, seals bool) (*store.Store, http.Handler) {
	t.Helper()
	rdb := redistest.Client(t)
	s := store.New(rdb, rdb)
	keys, err := audit.ParseKeys(strings.Repeat("k", 32), "")
	if err != nil {
		t.Fatal(err)
	}
	h := newAPI(t, Options{Store: s, Audit: s, AuditKeys: keys, Tokens: testTokens(t)})
	if err := s.Register(t.Context(), "q"); err != nil {
		t.Fatal(err)
	}
	for i, verb := range []string{"pause", "resume", "pause"} {
		r := request("POST", "/api/v1/queues/q/"+verb, fmt.Sprintf(`{"reason":"reason %d"}`, i))
		r.Header.Set("Authorization", "Bearer "+operatorSecret)
		if got := do(h, r); got.Code != 200 {
			t.Fatal(got.Code, got.text)
		}
		if i != 1 || !seals {
			continue
		}
		sealer, err := audit.NewSealer(s, audit.Options{Keys: keys})
		if err == nil {
			_, err = sealer.SealAll(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return s, h
}

func askAudit(h http.Handler, target string) reply {
	r := request("GET", "/api/v1/audit"+target, "")
	r.Header.Set("Authorization", "Bearer "+viewerSecret)
	return do(h, r)
}

func TestAuditAPI(t *testing.T) {
	t.Parallel()
	s, h := newAudit(t, true)
	var page audit.Page
	askAudit(h, "?limit=2").decode(t, &page)
	if len(page.Decisions) != 2 || page.Next == "" || page.Decisions[0].Actor != "ola (operator)" || page.Decisions[0].Before != "open" || page.Decisions[0].After != "paused" {
		t.Errorf("%+v", page)
	}
	next := page.Next
	page = audit.Page{}
	askAudit(h, "?limit=2&cursor="+next).decode(t, &page)
	if len(page.Decisions) != 1 || page.Next != "" || page.Decisions[0].N != 3 {
		t.Errorf("the next: %+v", page)
	}
	for query, want := range map[string]int{
		"?what=pause+queue": 2, "?by=ola": 3, "?by=ola+(operator)": 3, "?by=pia": 0, "?queue=q&since=2020-01-01T00:00:00Z": 3, "?before=2020-01-01T00:00:00Z": 0, "?queue=@dep": 0,
	} {
		page = audit.Page{}
		if askAudit(h, query).decode(t, &page); len(page.Decisions) != want {
			t.Errorf("%s: %+v", query, page)
		}
	}
	var found struct {
		AsWritten bool            `json:"as_written"`
		Checked   bool            `json:"seals_checked"`
		Streams   []audit.Finding `json:"streams"`
	}
	askAudit(h, "/verify?queue=q").decode(t, &found)
	if !found.AsWritten || !found.Checked || len(found.Streams) != 1 || found.Streams[0].SealedTo != 2 || found.Streams[0].Unsealed != 1 {
		t.Errorf("%+v", found)
	}
	var sealed struct {
		Seals []delivery.Seal `json:"seals"`
		Next  string          `json:"next"`
	}
	askAudit(h, "/seals?limit=1").decode(t, &sealed)
	if len(sealed.Seals) != 1 || sealed.Seals[0].N != 2 || sealed.Next == "" {
		t.Errorf("%+v", sealed)
	}
	if got := askAudit(h, "/seals?cursor="+sealed.Next); got.Code != 200 || !strings.Contains(got.text, `"seals":[]`) {
		t.Errorf("%d %s", got.Code, got.text)
	}
	got := askAudit(h, "/export")
	if got.Code != 200 || strings.Count(got.text, "\n") != 4 || got.Header().Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("%d %s", got.Code, got.text)
	}
	keys, _ := audit.ParseKeys(strings.Repeat("k", 32), "")
	if inFile, err := audit.VerifyFile(strings.NewReader(got.text), keys, nil); err != nil || len(inFile) != 1 || inFile[0].Why != "" || inFile[0].SealedTo != 2 {
		t.Errorf("what was exported: %+v, %v", inFile, err)
	}
	if got := askAudit(h, "/export?queue=@cron"); got.Code != 200 || got.text != "" {
		t.Errorf("nothing: %d %q", got.Code, got.text)
	}
	events, err := s.Events(t.Context(), "q", 1)
	if err != nil || events[0].After != "paused" {
		t.Errorf("%+v %v", events, err)
	}
	page = audit.Page{}
	askAudit(h, "").decode(t, &page)
	s.Redis().XDel(t.Context(), "perdure:{q}:events", page.Decisions[1].ID)
	askAudit(h, "/verify").decode(t, &found)
	if found.AsWritten {
		t.Errorf("a decision is gone: %+v", found)
	}
}

func TestAuditAPIRefuses(t *testing.T) {
	t.Parallel()
	_, h := newAudit(t, false)
	for target, field := range map[string]string{
		"?limit=0": "limit", "?since=yesterday": "since", "?before=1h": "before", "?queue=a+b": "queue", "?queue=@fleet": "queue", "?cursor=x": "cursor", "?cursor=@x/1": "cursor",
		"?cursor=@cron/zz": "cursor", "/seals?cursor=@cron/zz": "cursor", "?cursor=@cron/5": "cursor", "?cursor=@cron/%2B5-0": "cursor", "/seals?cursor=@cron/18446744073709551615-18446744073709551615": "cursor",
		"?actor=ada": "query", "/verify?queue=@x": "queue", "/export?queue=@x": "queue", "/export?limit=1": "query", "/seals?limit=x": "limit", "/seals?cursor=x": "cursor", "/seals?queue=@x": "queue",
	} {
		got := askAudit(h, target)
		var p problem
		if got.decode(t, &p); got.Code != 400 || p.Field != field {
			t.Errorf("%s: %d %s", target, got.Code, got.text)
		}
	}
	if got := call(newAPI(t, Options{}), "GET", "/api/v1/audit", ""); got.Code != 404 {
		t.Errorf("not served: %d", got.Code)
	}
}

// halfway fails once some decisions are read.
type halfway struct {
	audit.Chains
	read int
}

func (h *halfway) Chain(ctx context.Context, stream, after string, limit int) ([]delivery.Link, error) {
	if h.read++; h.read > 2 {
		return nil, fmt.Errorf("%w: away", jobs.ErrUnavailable)
	}
	links := make([]delivery.Link, limit)
	for i := range links {
		links[i] = delivery.Link{Stream: stream, ID: fmt.Sprint(h.read, "-", i), Reason: strings.Repeat("r", 500)}
	}
	return links, nil
}

func (h *halfway) StreamHead(context.Context, string) (delivery.Head, error) {
	return delivery.Head{Last: delivery.Link{ID: "9-9"}}, nil
}

func (h *halfway) Seals(context.Context, string, string, int) ([]delivery.Seal, error) {
	return nil, nil
}

// An export that cannot be ended does not look like a whole one.
func TestAuditExportIsCutShort(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newAPI(t, Options{Audit: &halfway{}}))
	defer server.Close()
	answer, err := server.Client().Get(server.URL + "/api/v1/audit/export?queue=q")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	buffer := make([]byte, 1<<20)
	for err == nil {
		_, err = answer.Body.Read(buffer)
	}
	if !strings.Contains(err.Error(), "EOF") || err.Error() == "EOF" {
		t.Errorf("it ends with %v", err)
	}
	if got := call(newAPI(t, Options{Audit: &halfway{read: 2}}), "GET", "/api/v1/audit/export?queue=q", ""); got.Code != 503 {
		t.Errorf("before it begins: %d %s", got.Code, got.text)
	}
}
