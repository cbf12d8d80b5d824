package store

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
)

// cachedScripts is how many scripts the server keeps.
func cachedScripts(t *testing.T, rdb *redis.Client) int {
	t.Helper()
	for line := range strings.Lines(rdb.Info(t.Context(), "memory").Val()) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(line), "number_of_cached_scripts:"); ok {
			count, _ := strconv.Atoi(n)
			return count
		}
	}
	t.Fatal("INFO has no number_of_cached_scripts")
	return 0
}

func TestTryScriptsWorksAndLeavesNothing(t *testing.T) {
	t.Parallel()
	s, err := Connect(t.Context(), redistest.NewServer(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rdb := s.rdb.(*redis.Client)
	for range 2 { // the second time after the scripts were forgotten
		if err := s.TryScripts(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := rdb.DBSize(t.Context()).Val(); n != 0 {
			t.Errorf("%d keys left: %v", n, rdb.Keys(t.Context(), "*").Val())
		}
		if err := rdb.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.TryScripts(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := cachedScripts(t, rdb)
	if err := s.TryScripts(t.Context()); err != nil || cachedScripts(t, rdb) != before || before == 0 {
		t.Errorf("%v: %d scripts are kept, %d before", err, cachedScripts(t, rdb), before)
	}
}

func TestTryScriptsSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	server := redistest.NewServer(t)
	options, err := redis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	admin := redis.NewClient(options)
	for rights, says := range map[string]string{
		"-eval ~*": "no permissions to run the 'eval'", "-evalsha ~*": "no permissions to run the 'evalsha'", "~asynq:*": "keys", "~*": "",
	} {
		rules := append([]string{"u", "reset", "on", ">p", "+@all"}, strings.Fields(rights)...)
		if err := admin.ACLSetUser(t.Context(), rules[0], rules[1:]...).Err(); err != nil {
			t.Fatal(err)
		}
		as := *options
		as.Username, as.Password = "u", "p"
		rdb := redis.NewClient(&as)
		err := New(rdb, rdb).TryScripts(t.Context())
		rdb.Close()
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says) || errors.Is(err, jobs.ErrUnavailable)) {
			t.Errorf("%s: %v", rights, err)
		}
	}
	admin.Close()
	if err := New(admin, admin).TryScripts(t.Context()); !errors.Is(err, jobs.ErrUnavailable) {
		t.Errorf("no redis: %v", err)
	}
}

// quietLog keeps asynq's servers from writing to the tests' output.
type quietLog struct{}

func (quietLog) Debug(...any) {}
func (quietLog) Info(...any)  {}
func (quietLog) Warn(...any)  {}
func (quietLog) Error(...any) {}
func (quietLog) Fatal(...any) {}

func TestStockServersAreToldFromOurs(t *testing.T) {
	t.Parallel()
	f := open(t)
	ours := delivery.Presence{Host: "h", PID: 7, ID: "owner", Concurrency: 3, Queues: map[string]int{"q": 1, "other": 2}, Status: "active", Started: time.Now()}
	f.ok(f.Announce(f.ctx, ours, time.Minute))
	f.running("a") // perdure has worked on q
	if found, err := f.StockServers(f.ctx, "q", "other"); err != nil || len(found) != 0 {
		t.Fatalf("ours is taken for a stock server: %v, %v", found, err)
	}
	listed, err := f.inspector().Servers()
	if err != nil || len(listed) != 1 || listed[0].Host != "h" || listed[0].Queues["other"] != 2 {
		t.Fatalf("asynq's tools see %+v, %v", listed, err)
	}

	stock := asynq.NewServerFromRedisClient(f.rdb, asynq.Config{
		Queues: map[string]int{"other": 1, "third": 1}, Logger: quietLog{}, HealthCheckInterval: time.Hour,
	})
	if err := stock.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error { return nil })); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); len(listed) < 2 && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		listed, _ = f.inspector().Servers() // it announces itself after Start has returned
	}
	who := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		queues []string
		want   int
	}{{nil, 0}, {[]string{"q"}, 0}, {[]string{"other"}, 1}, {[]string{"q", "third", "other"}, 2}} {
		found, err := f.StockServers(f.ctx, c.queues...)
		if err != nil || len(found) != c.want || c.want > 0 && !strings.Contains(found[0], who+" serves other") {
			t.Errorf("queues %v: %q, %v", c.queues, found, err)
		}
	}
	f.ok(f.rdb.Incr(f.ctx, tokensKey("third")).Err()) // as a claim of ours does
	if found, err := f.StockServers(f.ctx); err != nil || len(found) != 1 || !strings.HasSuffix(found[0], "serves third") {
		t.Errorf("a queue that we have worked on: %q, %v", found, err)
	}
	stock.Shutdown()
	if found, err := f.StockServers(f.ctx, "other"); err != nil || len(found) != 0 {
		t.Errorf("after it has stopped: %q, %v", found, err)
	}
}

func TestServerInfoOfAnySort(t *testing.T) {
	t.Parallel()
	for _, info := range []string{"", "\xff\xff", "plain text", string(encodeServer(delivery.Presence{Host: "h", Queues: map[string]int{"q": 1}}))} {
		if who, queues := stockServer([]byte(info)); len(queues) > 0 && slices.Contains(queues, "q") {
			t.Errorf("%q is taken for %s, which serves %v", info, who, queues)
		}
	}
}
