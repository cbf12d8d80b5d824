package cli

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/worker"
)

// A job whose message is damaged: its bytes are shown so that a terminal does not
// obey them, it cannot be replayed, and it can be discarded.
func TestAnUnreadableEntryIsShownSafely(t *testing.T) {
	t.Parallel()
	raw := "\xff\x1b[31mred\x00" + strings.Repeat("x", 1000)
	url := redistest.URL(t)
	quarantineRaw(t, url, raw)
	on := func(args ...string) (int, string, string) {
		return run(t.Context(), nil, append(args, "--redis-url="+url)...)
	}

	if code, out, errs := on("dead", "list"); code != 0 || !strings.Contains(out, "echoes  bad") {
		t.Errorf("list: exit %d\n%s%s", code, out, errs)
	}
	code, out, errs := on("dead", "show", "bad")
	if code != 0 || strings.ContainsAny(out, "\x00\x1b") || !strings.Contains(out, "ff 1b 5b 33 31 6d 72 65  64 00") || !strings.Contains(out, "and 498 bytes more") {
		t.Errorf("show: exit %d\n%s%s", code, out, errs)
	}
	code, out, errs = on("dead", "show", "bad", "-o", "json")
	var shown struct {
		Raw  []byte
		Kind string
	}
	if err := json.Unmarshal([]byte(out), &shown); code != 0 || err != nil || string(shown.Raw) != raw || shown.Kind != "" {
		t.Errorf("show -o json: exit %d, %v\n%s%s", code, err, out, errs)
	}
	if code, _, errs := on("dead", "replay", "bad", "--reason", "hope"); code != 4 || !strings.Contains(errs, "cannot be read") || !strings.Contains(errs, "discard it") {
		t.Errorf("replay: exit %d: %s", code, errs)
	}
	if code, out, errs := on("dead", "discard", "bad", "--reason", "no use"); code != 0 {
		t.Errorf("discard: exit %d\n%s%s", code, out, errs)
	}
	if code, _, _ := on("job", "get", "bad"); code != 3 {
		t.Errorf("get after the discard: exit %d", code)
	}
}

// quarantineRaw has a worker meet a job whose message was overwritten.
func quarantineRaw(t *testing.T, url, raw string) {
	t.Helper()
	s, err := store.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Enqueue(t.Context(), echo.New("bad", "x")); err != nil {
		t.Fatal(err)
	}
	if err := s.Redis().HSet(t.Context(), "asynq:{echoes}:t:bad", "msg", raw).Err(); err != nil {
		t.Fatal(err)
	}
	w, err := worker.New(s, worker.Options{Handlers: []jobs.Handler{echo.Do(func(context.Context, string) (string, error) { return "", nil })}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	info, err := s.Wait(ctx, "echoes", "bad")
	stop()
	if err != nil || info.State != jobs.StateQuarantined {
		t.Errorf("%+v, %v", info, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
