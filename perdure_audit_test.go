package perdure_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/audit"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

func TestWorkSealsDecisions(t *testing.T) {
	t.Parallel()
	url, key := redistest.URL(t), strings.Repeat("a-key-of-", 5)
	if err := perdure.Work(t.Context(), url, options(), perdure.SealAudit("short")); !errors.Is(err, jobs.ErrInvalid) || !strings.Contains(err.Error(), "32 to 512 bytes") {
		t.Errorf("a short key: %v", err)
	}
	s, err := store.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := errors.Join(s.Register(t.Context(), "q"), s.PauseQueue(t.Context(), "q", jobs.Decision{Actor: "ada", Reason: "because"})); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	worked := make(chan error, 1)
	go func() { worked <- perdure.Work(ctx, url, options(), perdure.SealAudit(key)) }()
	keys, err := audit.ParseKeys(key, "")
	if err != nil {
		t.Fatal(err)
	}
	for sealed := false; !sealed; {
		found, err := audit.Verify(t.Context(), s, keys, "q", nil)
		if err != nil || found[0].Why != "" {
			t.Fatalf("%+v, %v", found, err)
		}
		if sealed = found[0].SealedTo == 1; !sealed {
			time.Sleep(20 * time.Millisecond)
		}
	}
	stop()
	if err := <-worked; err != nil {
		t.Error(err)
	}
}
