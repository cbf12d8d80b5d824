package perdure_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
)

func TestMain(m *testing.M) { redistest.Main(m) }

var double = jobs.Define[int, int]("test.double")

func options() perdure.WorkerOptions {
	return perdure.WorkerOptions{Handlers: []jobs.Handler{double.Do(func(_ context.Context, n int) (int, error) { return 2 * n, nil })}}
}

func TestAWorkerInsideAProgram(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	ended := make(chan error, 1)
	working, end := context.WithCancel(ctx)
	go func() { ended <- perdure.Work(working, url, options()) }()
	client, err := perdure.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	h, err := client.Enqueue(ctx, double.New("k", 21))
	if err != nil {
		t.Fatal(err)
	}
	info, err := h.Wait(ctx)
	if n, resultErr := double.Result(info); err != nil || resultErr != nil || n != 42 {
		t.Fatalf("%d, %v; %+v, %v", n, resultErr, info, err)
	}
	end()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestWorkRefusesARedisThatForgets(t *testing.T) {
	t.Parallel()
	evicts := redistest.NewServer(t, "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
	err := perdure.Work(t.Context(), evicts.URL(), options())
	if err == nil || !strings.Contains(err.Error(), "noeviction") || !strings.Contains(err.Error(), "allkeys-lru") {
		t.Errorf("it evicts: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	time.AfterFunc(time.Second, stop)
	if err := perdure.Work(ctx, evicts.URL(), options(), perdure.AllowUnsafeRedis()); err != nil {
		t.Errorf("allowed: %v", err)
	}
	lazy := redistest.NewServer(t, "--appendfsync", "everysec")
	if err := perdure.Work(t.Context(), lazy.URL(), options(), perdure.Strict()); err == nil || !strings.Contains(err.Error(), "appendfsync") {
		t.Errorf("strict: %v", err)
	}
	if err := perdure.Work(t.Context(), lazy.URL(), options(), perdure.Replicated()); err == nil || !strings.Contains(err.Error(), "replica") {
		t.Errorf("replicated: %v", err)
	}
}

func TestBadAddresses(t *testing.T) {
	t.Parallel()
	if _, err := perdure.Connect(t.Context(), "http://example.com"); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("%v", err)
	}
	if err := perdure.Work(t.Context(), "redis://127.0.0.1:1", options()); !errors.Is(err, jobs.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(".perdure"); err == nil {
		t.Error("something was left behind")
	}
}
