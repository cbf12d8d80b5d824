package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/internal/history"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/store"
)

func TestWhatChaosTellsAWorkerIsChecked(t *testing.T) {
	t.Parallel()
	url, path := redistest.URL(t), filepath.Join(t.TempDir(), "history")
	for name, environ := range map[string][]string{
		"CHAOS_UNANSWERED": {"CHAOS_HISTORY=" + path, "CHAOS_UNANSWERED=often", "CHAOS_SEED=1"},
		"CHAOS_SEED":       {"CHAOS_HISTORY=" + path, "CHAOS_UNANSWERED=0.01"},
	} {
		code, _, errs := run(t.Context(), environ, "example", "worker", "--redis-url", url)
		if code != exitUsage || !strings.Contains(errs, name) {
			t.Errorf("%s: %d, %s", name, code, errs)
		}
	}
	code, _, errs := run(t.Context(), []string{"CHAOS_HISTORY=" + t.TempDir(), "CHAOS_UNANSWERED=0", "CHAOS_SEED=1"}, "example", "worker", "--redis-url", url)
	if code != exitFailed || !strings.Contains(errs, "open history") {
		t.Errorf("%d, %s", code, errs)
	}
}

func TestAWorkerOfTheExampleWritesItsHistory(t *testing.T) {
	t.Parallel()
	url, path := redistest.URL(t), filepath.Join(t.TempDir(), "history")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan int, 1)
	go func() {
		code, _, _ := run(ctx, []string{"CHAOS_HISTORY=" + path, "CHAOS_UNANSWERED=0", "CHAOS_SEED=1"}, "example", "worker", "--redis-url", url)
		ended <- code
	}()
	s, err := store.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	list, err := orders.Sample()
	if err != nil {
		t.Fatal(err)
	}
	// The services are not there, so that the first step is all that can be done.
	if _, err := s.Enqueue(t.Context(), orders.Fulfil.New(list[0].ID, list[0])); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for limit := time.Now().Add(time.Minute); !seen["settle pause ok"] && time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		events, err := history.Read(path)
		if err != nil && !os.IsNotExist(err) {
			continue
		}
		for _, e := range events {
			seen[strings.Join(strings.Fields(e.Op+" "+e.What+" "+e.Outcome), " ")] = true
		}
	}
	for _, want := range []string{"claim", "claim ok", "commit validate", "commit validate ok", "settle pause", "settle pause ok"} {
		if !seen[want] {
			t.Errorf("no %q in the history: %v", want, seen)
		}
	}
	cancel()
	if code := <-ended; code != exitOK {
		t.Errorf("ended with %d", code)
	}
}
