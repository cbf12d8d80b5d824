package store

import (
	"context"
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
)

// pair starts a Redis and its replica.
func pair(t *testing.T) (primary, replica *redistest.Server) {
	t.Helper()
	primary = redistest.NewServer(t)
	at, err := url.Parse(primary.URL())
	if err != nil {
		t.Fatal(err)
	}
	return primary, redistest.NewServer(t, "--replicaof", at.Hostname()+" "+at.Port())
}

func connectReplicated(t *testing.T, server *redistest.Server) *fixture {
	t.Helper()
	s, err := Connect(t.Context(), server.URL(), Replicated(1, time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &fixture{Store: s, t: t, ctx: context.Background()}
}

func TestWritesAreConfirmedByAReplica(t *testing.T) {
	t.Parallel()
	primary, replica := pair(t)
	f := connectReplicated(t, primary)
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, err := f.Enqueue(f.ctx, jobs.Raw(kindA, "k", []byte(`{}`))); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the replica never confirmed")
		}
	}
	d := f.take()
	f.ok(f.Checkpoint(f.ctx, d.Hold, delivery.Checkpoint{Step: "s", Run: d.Run, Output: []byte("1")}))
	f.ok(f.Settle(f.ctx, d, verdicts[delivery.Complete]))
	if info, err := f.Get(f.ctx, "q", "k"); err != nil || info.State != jobs.StateCompleted {
		t.Fatalf("%+v, %v", info, err)
	}

	replica.Kill()
	f.rdb.ConfigSet(f.ctx, "min-replicas-to-write", "0")
	_, err := f.Enqueue(f.ctx, jobs.Raw(kindA, "k2", []byte(`{}`)))
	if !errors.Is(err, jobs.ErrUnavailable) {
		t.Fatalf("without the replica: %v", err)
	}
	d = f.take() // a claim needs no confirmation
	if err := f.Settle(f.ctx, d, verdicts[delivery.Complete]); d.Key != "k2" || !errors.Is(err, jobs.ErrUnavailable) {
		t.Fatalf("a verdict without the replica: %v", err)
	}
	// The write is there all the same; sent again it is confirmed once a replica is back.
	if err := f.Settle(f.ctx, d, verdicts[delivery.Complete]); !errors.Is(err, jobs.ErrUnavailable) {
		t.Fatalf("again: %v", err)
	}
	replica.Restart()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if err = f.Settle(f.ctx, d, verdicts[delivery.Complete]); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("never confirmed: %v", err)
		}
	}
	if h, err := f.Enqueue(f.ctx, jobs.Raw(kindA, "k2", []byte(`{}`))); err != nil || !h.Duplicate || h.State != jobs.StateCompleted {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestKeysOfTheSameSlot(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{"asynq:{q}:t:k": "perdure:{q}:sync", "perdure:{a.b}:own:o": "perdure:{a.b}:sync", "plain": "perdure:sync", "x{}y": "perdure:sync"} {
		if got := syncKey(key); got != want {
			t.Errorf("%s: %s", key, got)
		}
	}
}
