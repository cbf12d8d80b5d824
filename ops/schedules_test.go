package ops

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/scheduler/cron"
	"github.com/perdure/perdure/store"
)

// newSchedules returns the API on a Redis where the kind "remote" is published.
func newSchedules(t *testing.T, o Options) (*store.Store, http.Handler) {
	t.Helper()
	rdb := redistest.Client(t)
	s := store.New(rdb, rdb)
	kind := delivery.PublishedKind{Name: "remote", Queue: "q", Version: 1, Timeout: time.Minute, Retention: time.Hour, MaxPayload: 100}
	if err := s.Publish(t.Context(), []delivery.PublishedKind{kind}); err != nil {
		t.Fatal(err)
	}
	o.Store, o.Schedules = s, cron.NewDesk(s)
	return s, newAPI(t, o)
}

func TestSchedules(t *testing.T) {
	t.Parallel()
	s, h := newSchedules(t, Options{})
	ask := func(status int, method, path, body string, want ...string) string {
		t.Helper()
		got := call(h, method, "/api/v1/schedules"+path, body)
		if got.Code != status {
			t.Errorf("%s %s: %d %s", method, path, got.Code, got.text)
		}
		for _, part := range want {
			if !strings.Contains(got.text, part) {
				t.Errorf("%s %s: %s\nhas no %s", method, path, got.text, part)
			}
		}
		return got.text
	}
	ask(200, "POST", "", `{"name":"nightly","when":"30 2 * * *","zone":"Europe/Berlin","kind":"remote","payload":{"days":1},"jitter":"90s",
		"overlap":"skip","catch_up":{"most":3,"oldest":"48h"},"reason":"as agreed"}`, `"state":"active"`, `"jitter":"1m30s"`, `"next":["`, `"days":1`)
	ask(200, "POST", "", `{"name":"again","when":"@every 1h","replay":{"class":"timeout","newer":"24h","no_canary":true},"reason":"it recovers"}`, `"class":"timeout"`, `"no_canary":true`)
	ask(200, "GET", "", "", `"name":"again"`, `"name":"nightly"`)
	ask(200, "GET", "/nightly?next=2", "", `"work":"enqueue remote"`)
	ask(200, "POST", "/nightly/pause", `{"reason":"holidays"}`, `"state":"paused"`, `"reason":"holidays"`)
	ask(200, "POST", "/nightly/trigger", `{"reason":"asked for"}`, `"queue":"q"`)
	ask(200, "POST", "/again/trigger", `{"reason":"asked for"}`, `"note":"nothing to replay"`)
	if err := s.TriggerSchedule(t.Context(), "again", delivery.OpenTick{At: time.Now().Add(time.Minute), Trigger: true, Actor: "ann", Reason: "r"}); err != nil {
		t.Fatal(err)
	}
	ask(409, "POST", "/again/trigger", `{"reason":"and again"}`, "under way")
	ask(200, "POST", "/nightly/resume", `{"reason":"back"}`, `"state":"active"`)
	ask(200, "POST", "/nightly/backfill", `{"from":"2026-01-01T00:00:00Z","until":"2026-01-03T00:00:00Z","forgotten":true,"dry_run":true}`,
		`"nightly@2026-01-01T01:30:00Z"},"state":"new"`, `"nightly@2026-01-02T01:30:00Z"`)
	ask(200, "POST", "/nightly/backfill", `{"from":"2026-01-01T00:00:00Z","until":"2026-01-02T00:00:00Z","reason":"it was down"}`)
	if page, err := s.List(t.Context(), jobs.Query{Queue: "q"}); err != nil || len(page.Jobs) != 2 {
		t.Errorf("jobs %+v %v", page, err)
	}
	ask(200, "POST", "/nightly/remove", `{"reason":"done"}`, `"removed":"nightly"`)
	ask(404, "GET", "/nightly", "", "not-found")
	events, err := s.ScheduleEvents(t.Context(), 100)
	if err != nil || len(events) != 9 || events[0].What != "remove schedule" || events[0].Actor != "api" {
		t.Errorf("%+v %v", events, err)
	}
}

func TestSchedulesRefuse(t *testing.T) {
	t.Parallel()
	_, h := newSchedules(t, Options{})
	with := func(more string) string {
		return `{"name":"s","when":"@daily","kind":"remote","reason":"r"` + more + `}`
	}
	for body, want := range map[string]struct {
		status       int
		field, bound string
	}{
		with(`,"whn":1`):                      {400, "body", "an object of"},
		with(`,"zone":"Mars"`):                {400, "zone", "IANA"},
		with(`,"jitter":"soon"`):              {400, "jitter", "90s"},
		with(`,"catch_up":{"most":2000}`):     {400, "catch_up.most", "from 0 to 1000"},
		with(`,"replay":{"class":"timeout"}`): {400, "replay", "alone"},
		`{"name":"s","when":"@daily","replay":{"clas":"timeout"},"reason":"r"}`: {400, "replay", "unknown field"},
		`{"name":"s","when":"@daily","replay":{"rate":1.5},"reason":"r"}`:       {400, "replay.rate", "a whole number"},
		`{"name":"s","when":"@daily","replay":7,"reason":"r"}`:                  {400, "replay", "a JSON object"},
		with(`,"catch_up":{"mots":1}`):                                          {400, "catch_up", "unknown field"},
		with(`,"payload":"` + strings.Repeat("x", 200) + `"`):                   {400, "payload", "at most 100 bytes"},
		`{"name":"s","when":"@daily","kind":"no","reason":"r"}`:                 {422, "", ""},
		`{"name":"s","when":"@daily","kind":"remote"}`:                          {400, "reason", "1 to 1000 bytes"},
		`{"name":"s","when":"61 * * * *","kind":"remote"}`:                      {400, "when", "five fields"},
	} {
		got := call(h, "POST", "/api/v1/schedules", body)
		if p := got.problem(t); got.Code != want.status || p.Field != want.field || !strings.Contains(p.Bound, want.bound) {
			t.Errorf("%.100s: %d %s", body, got.Code, got.text)
		}
	}
	for _, body := range []string{`{"reason":"r"}`, `{"dry_run":true,"from":"2026-01-01T00:00:00Z"}`, `{"reason":"r","until":"2026-01-01T00:00:00Z"}`} {
		got := call(h, "POST", "/api/v1/schedules/s/backfill", body)
		if p := got.problem(t); got.Code != 400 || p.Field != "from and until" {
			t.Errorf("%s: %d %s", body, got.Code, got.text)
		}
	}
	for _, path := range []string{"/none/pause", "/none/resume", "/none/trigger", "/none/remove"} {
		if got := call(h, "POST", "/api/v1/schedules"+path, `{"reason":"r"}`); got.Code != 404 {
			t.Errorf("%s: %d %s", path, got.Code, got.text)
		}
	}
	for _, query := range []string{"/s?next=x", "/s?next=1000", "?limit=1"} {
		if got := call(h, "GET", "/api/v1/schedules"+query, ""); got.Code != 400 {
			t.Errorf("%s: %d %s", query, got.Code, got.text)
		}
	}
}
