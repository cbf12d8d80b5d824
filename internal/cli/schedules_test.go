package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// publishEcho makes the kind "echo" known on a Redis, as a worker does.
func publishEcho(t *testing.T, url string) *store.Store {
	t.Helper()
	s, err := store.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	d := echo.Definition()
	kind := delivery.PublishedKind{Name: d.Name, Queue: d.Queue, Version: 1, Timeout: d.Timeout, Retention: d.Retention, MaxPayload: d.MaxPayload}
	if err := s.Publish(t.Context(), []delivery.PublishedKind{kind}); err != nil {
		t.Fatal(err)
	}
	return s
}

// bury quarantines a job of the class timeout.
func bury(t *testing.T, s *store.Store) {
	t.Helper()
	if _, err := s.Enqueue(t.Context(), echo.New("dead", "hello")); err != nil {
		t.Fatal(err)
	}
	for {
		batch, err := s.Claim(t.Context(), "echoes", "o", 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range batch.Deliveries {
			verdict := delivery.Verdict{Outcome: delivery.Complete}
			if d.Key == "dead" {
				failure := jobs.Failure{Class: jobs.ClassTimeout, Message: "too slow"}
				verdict = delivery.Verdict{Outcome: delivery.Quarantine, Failure: &failure, Entry: delivery.Entry{Class: failure.Class, Message: failure.Message}}
			}
			if err := s.Settle(t.Context(), d, verdict); err != nil {
				t.Fatal(err)
			}
		}
		if batch.Emptied {
			return
		}
	}
}

func TestCron(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	s := publishEcho(t, url)
	on := func(code int, want string, args ...string) string {
		t.Helper()
		got, out, errs := run(t.Context(), []string{}, append(append([]string{"cron"}, args...), "--redis-url="+url, "--actor=ann")...)
		for _, part := range strings.Split(want, "|") {
			if !strings.Contains(out+errs, part) {
				t.Errorf("%v: %s%s\nhas no %q", args, out, errs, part)
			}
		}
		if got != code {
			t.Errorf("%v: exit %d, want %d\n%s%s", args, got, code, out, errs)
		}
		return out
	}
	on(0, "NAME", "list")
	on(0, "ACTIVE|Europe/Berlin|next |enqueue echo", "add", "nightly", "--when", "30 2 * * *", "--zone", "Europe/Berlin", "--kind", "echo", "--data", `"hello"`,
		"--overlap", "skip", "--catch-up", "3", "--jitter", "1m", "--reason", "as agreed")
	on(0, "replay dead letters: class=timeout", "add", "again", "--when", "@every 1h", "--replay", `{"class":"timeout"}`, "--reason", "it recovers")
	on(0, "nightly|again|active", "list")
	on(0, "paused", "pause", "nightly", "--reason", "holidays")
	on(0, "paused since|by ann: holidays", "show", "nightly")
	on(0, "echoes/nightly@", "trigger", "nightly", "--reason", "now")
	on(0, "again triggered: nothing to replay", "trigger", "again", "--reason", "now")
	bury(t, s)
	on(0, "again triggered: plan again.2|dead plans watch", "trigger", "again", "--reason", "now")
	on(0, "last plan again.2|in echoes: selecting, 0 of 0 replayed|triggered|(ann: now; nothing to replay)|plan again.2", "show", "again")
	if err := s.TriggerSchedule(t.Context(), "again", delivery.OpenTick{At: time.Now().Add(time.Minute), Trigger: true, Actor: "ann", Reason: "r"}); err != nil {
		t.Fatal(err)
	}
	on(4, "under way", "trigger", "again", "--reason", "now")
	on(0, "active", "resume", "nightly", "--reason", "back")
	day := []string{"backfill", "nightly", "--from", "2026-01-01T00:00:00Z", "--until", "2026-01-03T00:00:00Z"}
	on(0, "nightly@2026-01-01T01:30:00Z|2 of 2 ticks would be enqueued", append(day, "--dry-run", "--forgotten")...)
	on(2, "reason", day...)
	on(0, "2 of 2 ticks enqueued", append(day, "--reason", "it was down")...)
	on(0, "0 of 2 ticks enqueued|pending", append(day, "--reason", "it was down")...)
	on(2, "200 jobs would be enqueued: confirm with --yes", "backfill", "nightly", "--from", "2025-01-01T02:00:00Z", "--until", "2025-07-20T01:00:00Z", "--reason", "r")
	var shown struct {
		Name  string
		Fired int
		Next  []time.Time
		Ticks []delivery.TickRecord
	}
	if err := json.Unmarshal([]byte(on(0, "", "show", "nightly", "--next", "3", "-o", "json")), &shown); err != nil || len(shown.Next) != 3 || shown.Fired != 1 || shown.Ticks[0].What != "triggered" {
		t.Errorf("%+v %v", shown, err)
	}
	on(2, "zone|Mars", "add", "x", "--when", "@daily", "--zone", "Mars", "--kind", "echo", "--reason", "r")
	on(2, "unknown kind", "add", "x", "--when", "@daily", "--kind", "none", "--reason", "r")
	on(2, "replay.most|from 0 to 100000", "add", "x", "--when", "@daily", "--replay", `{"most":100001}`, "--reason", "r")
	on(2, `replay.rate "number 0.5": must be a whole number`, "add", "x", "--when", "@daily", "--replay", `{"rate":0.5}`, "--reason", "r")
	on(2, `replay.newer "number": must be a text`, "add", "x", "--when", "@daily", "--replay", `{"newer":7}`, "--reason", "r")
	on(2, `its fields: there is more after it`, "add", "x", "--when", "@daily", "--replay", `{} {}`, "--reason", "r")
	on(2, `null is none`, "add", "x", "--when", "@daily", "--replay", `null`, "--reason", "r")
	on(2, `replay "array": must be a JSON object`, "add", "x", "--when", "@daily", "--replay", `[]`, "--reason", "r")
	on(2, "replay|unknown field", "add", "x", "--when", "@daily", "--replay", `{"clas":"timeout"}`, "--reason", "r")
	on(2, "from|a time such as", "backfill", "nightly", "--from", "yesterday", "--until", "2026-01-03T00:00:00Z")
	on(3, "none", "show", "none")
	on(3, "none", "pause", "none", "--reason", "r")
	on(2, "reason", "remove", "nightly")
	on(0, "removed", "remove", "nightly", "--reason", "done")
	if page, err := s.List(t.Context(), jobs.Query{Queue: "echoes"}); err != nil || len(page.Jobs) != 4 {
		t.Errorf("%+v %v", page, err)
	}
}

// TestSchedulesOfFileAndCode runs a whole worker with both, until their jobs are done.
func TestSchedulesOfFileAndCode(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	file := filepath.Join(t.TempDir(), "perdure.yaml")
	if err := os.WriteFile(file, []byte("schedules:\n  - {name: of-file, when: '@every 1s', kind: echo, payload: hello}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	handler := echo.Do(func(_ context.Context, text string) (string, error) { return text, nil }).
		With(echo.Scheduled("of-code", jobs.Every(time.Second), "hi"))
	app := &App{Handlers: []jobs.Handler{handler}, Args: []string{"worker", "--redis-url=" + url, "--config=" + file, "--log-level=error"}, Out: &strings.Builder{}, Err: &strings.Builder{}}
	go func() { ended <- app.Run(ctx) }()
	s, err := store.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	done := map[string]bool{}
	for deadline := time.Now().Add(time.Minute); len(done) < 2 && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		page, err := s.List(t.Context(), jobs.Query{Queue: "echoes", State: jobs.StateCompleted})
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range page.Jobs {
			name, _, _ := strings.Cut(info.Key, "@")
			done[name] = true
		}
	}
	cancel()
	if code := <-ended; code != 0 || !done["of-file"] || !done["of-code"] {
		t.Errorf("exit %d; done %v\n%s", code, done, app.Err)
	}
	if code, _, errs := run(t.Context(), nil, "cron", "remove", "of-code", "--reason", "r", "--redis-url="+url); code != 4 || !strings.Contains(errs, "comes with a program") {
		t.Errorf("remove one of code: exit %d %s", code, errs)
	}
}

func TestBadConfig(t *testing.T) {
	t.Parallel()
	url := "--redis-url=" + redistest.URL(t)
	file := filepath.Join(t.TempDir(), "perdure.yaml")
	if err := os.WriteFile(file, []byte("schedules:\n  - name: s\n    whn: '@daily'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := run(t.Context(), nil, "scheduler", url, "--config", file); code != 2 || !strings.Contains(errs, `line 3: field "whn"`) {
		t.Errorf("exit %d: %s", code, errs)
	}
	if code, _, errs := run(t.Context(), nil, "scheduler", url, "--config", file+".no"); code != 1 || !strings.Contains(errs, "PERDURE_CONFIG") {
		t.Errorf("exit %d: %s", code, errs)
	}
}
