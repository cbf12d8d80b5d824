package cli

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// TestAJobThatWaitsItsTurnIsShown as pending, with why it waits.
func TestAJobThatWaitsItsTurnIsShown(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(options)
	defer rdb.Close()
	s := store.New(rdb, rdb)
	kind := jobs.Define[string, string]("echo", jobs.Queue("echoes"))
	for i, tenant := range []string{"acme", "acme", "other"} {
		if _, err := s.Enqueue(t.Context(), kind.New(fmt.Sprint("k", i), "x", jobs.Tenant(tenant))); err != nil {
			t.Fatal(err)
		}
	}
	if batch, err := s.Claim(t.Context(), "echoes", "o", 1); err != nil || len(batch.Deliveries) != 1 {
		t.Fatal(batch, err)
	}
	for _, step := range []struct {
		says string
		args []string
	}{
		{"waits its turn among the tenants of the queue", []string{"job", "get", "k1"}},
		{"PENDING", []string{"job", "get", "k1"}},
		{"k1", []string{"job", "list", "--state", "pending"}},
		{`"type": "turn"`, []string{"job", "get", "k1", "-o", "json"}},
	} {
		code, out, errs := run(t.Context(), nil, append(step.args, "--redis-url="+url)...)
		if code != 0 || !strings.Contains(out, step.says) {
			t.Errorf("%v: exit %d, %s %s", step.args, code, out, errs)
		}
	}
}
