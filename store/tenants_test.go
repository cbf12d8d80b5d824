package store

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"

	"github.com/perdure/perdure/internal/fault"
	"github.com/perdure/perdure/jobs"
)

var tenantScript = redis.NewScript(readLua("prelude") + "\nreturn tenant_of(ARGV[1])")

func (f *fixture) tenantIn(msg string) string {
	f.t.Helper()
	tenant, err := tenantScript.Run(f.ctx, f.rdb, []string{"k"}, msg).Text()
	f.ok(err)
	return tenant
}

// looksLikeOne is what the header's entry looks like in a message.
const looksLikeOne = "\x7a\x17\x0a\x0eperdure-tenant\x12\x05other"

// TestTheTenantOfAMessage: Lua and Go read the same one.
func TestTheTenantOfAMessage(t *testing.T) {
	t.Parallel()
	f := open(t)
	text := rapid.OneOf(rapid.StringN(0, 20, 200), rapid.SampledFrom([]string{looksLikeOne, looksLikeOne[2:], "\n\x0eperdure-tenant"}))
	rapid.Check(t, func(t *rapid.T) {
		m := message{
			Type: text.Draw(t, "type"), Payload: []byte(text.Draw(t, "payload")), ID: text.Draw(t, "id"), Queue: "q", Retry: rapid.Int64Range(0, 1<<40).Draw(t, "retry"),
			ErrorMsg: text.Draw(t, "error"), Deadline: rapid.Int64().Draw(t, "deadline"), GroupKey: text.Draw(t, "group"),
			Headers: map[string]string{text.Draw(t, "header"): text.Draw(t, "value")},
		}
		if rapid.Bool().Draw(t, "large") {
			m.Payload = []byte(strings.Repeat(string(m.Payload)+"x", 300))
		}
		if rapid.Bool().Draw(t, "tenant") {
			m.Headers[headerTenant] = rapid.OneOf(text, rapid.StringMatching(`[a-z0-9][a-z0-9_.-]{0,70}`)).Draw(t, "name")
		}
		if rapid.Bool().Draw(t, "unknown") {
			m.unknown = protowire.AppendTag(m.unknown, protowire.Number(rapid.IntRange(16, 5000).Draw(t, "field")), protowire.Fixed64Type)
			m.unknown = protowire.AppendFixed64(m.unknown, 7)
			m.unknown = protowire.AppendFixed32(protowire.AppendTag(m.unknown, 1000, protowire.Fixed32Type), 7)
		}
		msg := string(m.encode())
		if got, want := f.tenantIn(msg), tenantOf(m.Headers[headerTenant]); got != want {
			t.Fatalf("Lua reads %q, want %q", got, want)
		}
		if shown := msg + ":\x04boom" + "0\x00"; f.tenantIn(shown) != tenantOf(m.Headers[headerTenant]) {
			t.Fatal("a field behind it counts")
		}
		cut := rapid.IntRange(0, len(msg)).Draw(t, "cut")
		f.tenantIn(msg[:cut]) // ends
		f.tenantIn(looksLikeOne + msg[cut:])
	})
}

func TestTheTenantOfAMessageThatIsNoMessage(t *testing.T) {
	t.Parallel()
	f := open(t)
	entry := looksLikeOne[2:]
	for msg, want := range map[string]string{
		"":                                   nobody,
		looksLikeOne:                         "other",
		looksLikeOne + "\xff":                "other",
		looksLikeOne + "\x7b" + looksLikeOne: "other",
		looksLikeOne[:20]:                    nobody,
		entry:                                nobody,
		"\x12" + string(rune(len(looksLikeOne))) + looksLikeOne:           nobody,
		looksLikeOne + strings.ReplaceAll(looksLikeOne, "r", "r")[:]:      "other",
		looksLikeOne + strings.Replace(looksLikeOne, "other", "third", 1): "third",
		looksLikeOne + strings.Replace(looksLikeOne, "other", "Third", 1): nobody,
		"\x08": nobody, "\x08\xff": nobody, "\x09": nobody, "\x0d" + looksLikeOne: nobody, "\xff\xff" + looksLikeOne: nobody,
	} {
		if got := f.tenantIn(msg); got != want {
			t.Errorf("%q is of %q, want %q", msg, got, want)
		}
	}
}

func (f *fixture) wantTenants(want ...string) {
	f.t.Helper()
	got := f.rdb.SMembers(f.ctx, tenantsKey("q")).Val()
	if slices.Sort(got); !slices.Equal(got, want) {
		f.t.Errorf("tenants %v, want %v", got, want)
	}
}

// TestTenantsAreKnown: whoever makes a job says whose it is, before it is there.
func TestTenantsAreKnown(t *testing.T) {
	t.Parallel()
	f, hook := hooked(t)
	job := jobs.Raw(kindA, "k", json.RawMessage(`{}`), jobs.Tenant("acme"))
	f.ok(f.Register(f.ctx, "q"))
	for n := range 3 {
		hook.Fail("sadd", n+1, fault.Before)
	}
	if _, err := f.Enqueue(f.ctx, job); !errors.Is(err, jobs.ErrUnavailable) || f.rdb.Exists(f.ctx, taskKey("q", "k")).Val() != 0 {
		t.Errorf("enqueued without its tenant: %v", err)
	}
	hook.Forget()
	_, err := f.Enqueue(f.ctx, job)
	f.ok(err)
	f.wantTenants("acme")
	calls := hook.Counts()["sadd"]
	f.of("acme", 3)
	if again := hook.Counts()["sadd"]; again != calls {
		t.Errorf("a tenant is registered more than once: %+v, %+v", calls, again)
	}
	f.enqueue("mine")
	f.wantTenants("-", "acme")
	_, err = f.FireTick(f.ctx, "daily", time.Now(), jobs.Raw(kindA, "tick", json.RawMessage(`{}`), jobs.Tenant("cron")))
	f.ok(err)
	f.wantTenants("-", "acme", "cron")
	stock := asynq.NewTaskWithHeaders("kind.a", nil, map[string]string{headerTenant: "stock"})
	odd := asynq.NewTaskWithHeaders("kind.a", nil, map[string]string{headerTenant: "no such Name"})
	for _, task := range []*asynq.Task{stock, odd} {
		_, err = asynq.NewClientFromRedisClient(f.rdb).EnqueueContext(f.ctx, task, asynq.Queue("q"))
		f.ok(err)
	}
	f.rdb.Del(f.ctx, tenantsKey("q"))
	f.ok(f.Register(f.ctx, "q")) // as workers do, for what a fail-over has lost
	f.claimAll("o")
	f.wantTenants("-", "acme", "cron", "stock")
	f.ok(f.Drop(f.ctx, "q"))
	if left := f.dump(); len(left) != 0 {
		t.Errorf("a dropped queue leaves %v", left)
	}
	f.enqueue("anew", jobs.Tenant("acme"))
	f.wantTenants("acme")
}

// TestChildrenOfTenants: a parent's children make a queue shared.
func TestChildrenOfTenants(t *testing.T) {
	t.Parallel()
	f := open(t)
	g := kids("k", "x")
	g.Jobs[0].Tenant = "acme"
	_, _, err := f.Children(f.ctx, f.running("k"), g, true)
	f.ok(err)
	got := f.rdb.SMembers(f.ctx, tenantsKey(g.Queue)).Val()
	if !slices.Contains(got, "acme") {
		t.Errorf("tenants of %s: %v", g.Queue, got)
	}
}
