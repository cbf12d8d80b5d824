package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/store"
)

// verdicts are what a check comes to in the three modes.
type verdicts [3]Verdict

var (
	refused  = verdicts{Refuse, Refuse, Refuse}
	graveBad = verdicts{Warn, Refuse, Refuse}
	warned   = verdicts{Warn, Warn, Warn}
	green    = verdicts{OK, OK, OK}
)

// expect examines in every mode.
func expect(t *testing.T, rdb redis.UniversalClient, name, value string, want verdicts) {
	t.Helper()
	for i, mode := range []Mode{Relaxed, Strict, Replicated} {
		c := find(t, examine(t, rdb, Options{Mode: mode}), name)
		if c.Verdict != want[i] || !strings.Contains(c.Value, value) || c.Why == "" || c.Bound == "" || (c.Fix == "") != (c.Verdict == OK) {
			t.Errorf("%s in %s: want %s and %q: %+v", name, mode, want[i], value, c)
		}
	}
}

// TestASafeRedis: what deploy/redis.conf advises is enough for strict mode, every
// check is green there, and none needs more rights than its user has.
func TestASafeRedis(t *testing.T) {
	t.Parallel()
	_, rdb, admin := safe(t)
	report := examine(t, rdb, Options{Mode: Strict})
	if wrong := bad(report); wrong != "" {
		t.Error(wrong)
	}
	if n := admin.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys left: %v", n, admin.Keys(t.Context(), "*").Val())
	}
}

// TestTheShapeForMachines holds the JSON that scripts rely on.
func TestTheShapeForMachines(t *testing.T) {
	t.Parallel()
	rdb := dial(t, redistest.NewServer(t, "--appendfsync", "everysec").URL(), "", "")
	text, err := json.Marshal(examine(t, rdb, Options{Mode: Strict}))
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Mode        string           `json:"mode"`
		AllowUnsafe *bool            `json:"allow_unsafe"`
		Verdict     string           `json:"verdict"`
		Checks      []map[string]any `json:"checks"`
	}
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&report); err != nil || report.Mode != "strict" || report.AllowUnsafe == nil || report.Verdict != "refuse" {
		t.Fatalf("%v: %s", err, text)
	}
	var names []string
	for _, c := range report.Checks {
		names = append(names, c["name"].(string))
		want := []string{"bound", "fix", "name", "value", "verdict", "why"}
		if c["verdict"] == "ok" {
			want = slices.Delete(want, 1, 2)
		}
		if fields := slices.Sorted(maps.Keys(c)); !slices.Equal(fields, want) {
			t.Errorf("%s has fields %v", c["name"], fields)
		}
	}
	want := strings.Fields(`version role topology append_only append_only_health appendfsync no_appendfsync_on_rewrite aof_load_truncated
		maxmemory maxmemory_policy memory_headroom evicted_keys replicas min_replicas replica_lag good_replicas cluster_state cluster_coverage
		clock script_limit idle_timeout tcp_keepalive client identity stock_servers scripts auth rights tls write_latency script_latency aof_stalls`)
	if !slices.Equal(names, want) {
		t.Errorf("checks %v\nwant   %v", names, want)
	}
	got, _ := json.Marshal(report.Checks[5])
	golden := `{"bound":"always","fix":"CONFIG SET appendfsync always","name":"appendfsync","value":"everysec","verdict":"refuse","why":"what is not synced is lost when power is"}`
	if string(got) != golden {
		t.Errorf("%s\nwant %s", got, golden)
	}
}

// TestWrongConfigurations starts a Redis with each wrong setting. TestASafeRedis
// has the right ones.
func TestWrongConfigurations(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		check, args, value string
		want               verdicts
	}{
		{"append_only", "--appendonly no", "off", graveBad},
		{"append_only", "--appendonly yes", "on", green},
		{"appendfsync", "--appendfsync no", "no", graveBad},
		{"appendfsync", "--appendfsync everysec", "everysec", verdicts{OK, Refuse, Refuse}},
		{"appendfsync", "--appendfsync always", "always", green},
		{"no_appendfsync_on_rewrite", "--no-appendfsync-on-rewrite yes", "yes", graveBad},
		{"aof_load_truncated", "--aof-load-truncated no", "no", green},
		{"maxmemory", "--maxmemory 0", "none", graveBad},
		{"maxmemory", "--maxmemory 64mb", "64.0 MiB", green},
		{"maxmemory_policy", "--maxmemory-policy allkeys-lru", "allkeys-lru", refused},
		{"maxmemory_policy", "--maxmemory-policy volatile-ttl --maxmemory 64mb", "volatile-ttl", refused},
		{"maxmemory_policy", "--maxmemory-policy noeviction", "noeviction", green},
		{"memory_headroom", "--maxmemory 64mb", "% of 64.0 MiB used", green},
		{"memory_headroom", "--maxmemory 1000000", "of 1.0 MiB used", graveBad},
		{"script_limit", "--lua-time-limit 100", "100", warned},
		{"script_limit", "--lua-time-limit 5000", "5000", green},
		{"idle_timeout", "--timeout 60", "60", warned},
		{"idle_timeout", "--timeout 0", "0", green},
		{"tcp_keepalive", "--tcp-keepalive 0", "0", warned},
		{"tcp_keepalive", "--tcp-keepalive 300", "300", green},
		{"replicas", "--min-replicas-to-write 0", "0", verdicts{OK, OK, Refuse}},
		{"min_replicas", "--min-replicas-to-write 0", "", verdicts{OK, OK, Refuse}},
		{"good_replicas", "--min-replicas-to-write 0", "", verdicts{OK, OK, Refuse}},
		{"evicted_keys", "--maxmemory 64mb", "0", green},
	} {
		t.Run(c.check+" "+c.args, func(t *testing.T) {
			t.Parallel()
			server := redistest.NewServer(t, strings.Fields(c.args)...)
			expect(t, dial(t, server.URL(), "", ""), c.check, c.value, c.want)
		})
	}
}

func TestEvictedKeysAreSeenAfterwards(t *testing.T) {
	t.Parallel()
	rdb := dial(t, redistest.NewServer(t, "--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru").URL(), "", "")
	value := strings.Repeat("x", 100<<10)
	for i := range 100 {
		if err := rdb.Set(t.Context(), fmt.Sprint(i), value, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	do(t, rdb, "CONFIG SET maxmemory-policy noeviction maxmemory 64mb")
	c := find(t, examine(t, rdb, Options{Mode: Strict}), "evicted_keys")
	if c.Verdict != Refuse || c.Value == "0" {
		t.Errorf("%+v", c)
	}
	do(t, rdb, "CONFIG RESETSTAT")
	expect(t, rdb, "evicted_keys", "0", green)
}

// TestWrongAnswers is for what a test cannot bring a Redis to.
func TestWrongAnswers(t *testing.T) {
	t.Parallel()
	url := redistest.NewServer(t).URL()
	fast := func(d time.Duration) answers {
		return answers{"time": func(cmd redis.Cmder) { cmd.(*redis.TimeCmd).SetVal(time.Now().Add(d)) }}
	}
	latency := func(rows ...any) answers {
		return answers{"latency latest": func(cmd redis.Cmder) { cmd.(*redis.Cmd).SetVal(rows) }}
	}
	evalsha := func(percentiles string) answers {
		return answers{"info latencystats": func(cmd redis.Cmder) {
			cmd.(*redis.StringCmd).SetVal("latency_percentiles_usec_evalsha:" + percentiles + "\r\n")
		}}
	}
	peer := func(addr string) answers {
		return answers{"client info": func(cmd redis.Cmder) { cmd.(*redis.Cmd).SetVal("id=1 addr=" + addr + " laddr=x:1") }}
	}
	now := time.Now().Unix()
	for _, c := range []struct {
		check, value string
		hook         answers
		want         verdicts
	}{
		{"version", "6.0.16", info("redis_version", "6.0.16"), refused},
		{"version", "6.2.14", info("redis_version", "6.2.14"), verdicts{OK, Refuse, Refuse}},
		{"version", "7.0.0", info("redis_version", "7.0.0"), green},
		{"version", "10.1", info("redis_version", "10.1"), green},
		{"append_only_health", "write err", info("aof_last_write_status", "err"), graveBad},
		{"append_only_health", "rewrite err", info("aof_last_bgrewrite_status", "err"), graveBad},
		{"append_only_health", "loading 1", info("loading", "1"), graveBad},
		{"append_only_health", "write ok", info(), green},
		{"clock", "+25.0", fast(25 * time.Second), warned},
		{"clock", "-2", fast(-25 * time.Second), warned},
		{"clock", "0.", fast(0), green},
		{"aof_stalls", "aof-fsync-always 80 ms", latency([]any{"aof-fsync-always", now, int64(80), int64(90)}), warned},
		{"aof_stalls", "none", latency([]any{"aof-write", now - 7200, int64(80), int64(90)}, []any{"command", now, int64(80), int64(90)}), green},
		{"script_latency", "7.50ms", evalsha("p50=13.055,p99=7500.5,p99.9=9000"), warned},
		{"script_latency", "0.06ms", evalsha("p50=13.055,p99=57.087,p99.9=9000"), green},
		{"tls", "clear text from 10.0.0.3:41000", peer("10.0.0.3:41000"), graveBad},
		{"tls", "on this machine", peer("127.0.0.1:41000"), green},
		{"tls", "on this machine", peer("[::1]:41000"), green},
		{"tls", "on this machine", peer("/run/redis.sock:0"), green},
		{"auth", "open", peer("10.0.0.3:41000"), graveBad},
		{"rights", "FLUSHALL", peer("10.0.0.3:41000"), graveBad},
		{"identity", "run_id abc", info("run_id", "abc"), green},
	} {
		t.Run(c.check+" "+c.value, func(t *testing.T) {
			t.Parallel()
			expect(t, dial(t, url, "", "", c.hook), c.check, c.value, c.want)
		})
	}
}

func TestSlowWrites(t *testing.T) {
	t.Parallel()
	for took, want := range map[time.Duration]Verdict{time.Millisecond: OK, 60 * time.Millisecond: Warn} {
		f := &facts{probes: &probes{write: took, writes: 100}}
		for _, c := range tried {
			if c.name == "write_latency" && c.result(f).Verdict != want {
				t.Errorf("%v: %+v", took, c.result(f))
			}
		}
	}
}

func TestWhoMayComeIn(t *testing.T) {
	t.Parallel()
	rdb := dial(t, redistest.NewServer(t).URL(), "", "")
	expect(t, rdb, "auth", "open to all", verdicts{OK, Refuse, Refuse}) // relaxed: it is on this machine
	expect(t, rdb, "rights", "may use FLUSHALL, FLUSHDB, SHUTDOWN, KEYS, DEBUG, CONFIG", verdicts{OK, Refuse, Refuse})
	server := redistest.NewServer(t)
	do(t, dial(t, server.URL(), "", ""), "CONFIG SET requirepass secret")
	rdb = dial(t, server.URL(), "", "secret")
	expect(t, rdb, "auth", "closed by a password", green)
	_, rdb, admin := safe(t)
	expect(t, rdb, "auth", "closed by a password", green)
	expect(t, rdb, "rights", "limited", green)
	do(t, admin, "ACL SETUSER perdure +acl +keys")
	expect(t, rdb, "rights", "may use KEYS", verdicts{OK, Refuse, Refuse})
}

// TestWhatRedisKeepsToItself: CONFIG is forbidden on many a managed Redis.
func TestWhatRedisKeepsToItself(t *testing.T) {
	t.Parallel()
	_, rdb, admin := safe(t)
	do(t, admin, "ACL SETUSER perdure -config -latency")
	for _, name := range []string{"appendfsync", "no_appendfsync_on_rewrite"} {
		expect(t, rdb, name, unread, graveBad)
	}
	expect(t, rdb, "aof_stalls", unread, warned)
	expect(t, rdb, "maxmemory_policy", "noeviction", green) // INFO has it
	do(t, admin, "ACL SETUSER perdure -info")
	for _, name := range []string{"version", "role", "maxmemory_policy", "append_only"} {
		expect(t, rdb, name, unread, graveBad)
	}
	report := examine(t, rdb, Options{Mode: Strict, AllowUnsafe: true})
	if c := find(t, report, "appendfsync"); report.Verdict != Overridden || c.Verdict != Overridden || c.Fix == "" {
		t.Errorf("%s: %+v", report.Verdict, c)
	}
}

func TestScriptsThatMayNotRun(t *testing.T) {
	t.Parallel()
	_, rdb, admin := safe(t)
	expect(t, rdb, "scripts", "works", green)
	do(t, admin, "ACL SETUSER perdure -evalsha")
	expect(t, rdb, "scripts", "evalsha", refused)
}

func TestClientThatSendsTwice(t *testing.T) {
	t.Parallel()
	o := redistest.Options(t)
	o.MaxRetries = 3
	twice := redis.NewClient(o)
	t.Cleanup(func() { _ = twice.Close() })
	expect(t, twice, "client", "3 re-sends", graveBad)
	o.MaxRetries = -1
	once := redis.NewClient(o)
	t.Cleanup(func() { _ = once.Close() })
	expect(t, once, "client", "0 re-sends", green)
}

func TestReplicas(t *testing.T) {
	t.Parallel()
	server := redistest.NewServer(t, "--repl-diskless-sync-delay", "0")
	primary := dial(t, server.URL(), "", "")
	host, port, _ := strings.Cut(address(server.URL()), ":")
	replica := dial(t, redistest.NewServer(t, "--replicaof", host+" "+port).URL(), "", "")
	eventually(t, "the replica is in step", func() bool {
		return strings.Contains(primary.Info(t.Context(), "replication").Val(), "state=online")
	})
	expect(t, replica, "role", "slave", refused)
	expect(t, replica, "scripts", "READONLY", refused)
	expect(t, primary, "role", "master", green)
	expect(t, primary, "replicas", "1", green)
	expect(t, primary, "min_replicas", "0", graveBad)
	expect(t, primary, "replica_lag", "10", green)
	expect(t, primary, "good_replicas", "1", green)
	do(t, primary, "CONFIG SET min-replicas-to-write 1 min-replicas-max-lag 60")
	expect(t, primary, "min_replicas", "1", green)
	expect(t, primary, "replica_lag", "60", graveBad)
	eventually(t, "the replica counts as good", func() bool {
		return strings.Contains(primary.Info(t.Context(), "replication").Val(), "min_slaves_good_slaves:1")
	})
	expect(t, primary, "good_replicas", "1", green)
	do(t, primary, "CONFIG SET min-replicas-to-write 2")
	expect(t, primary, "good_replicas", "1", graveBad)
}

func TestStockServers(t *testing.T) {
	t.Parallel()
	rdb := redistest.Client(t)
	stock := asynq.NewServerFromRedisClient(rdb, asynq.Config{Queues: map[string]int{"orders": 1}, LogLevel: asynq.FatalLevel})
	if err := stock.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error { return nil })); err != nil {
		t.Fatal(err)
	}
	var stop = stock.Shutdown
	t.Cleanup(func() { stop() })
	eventually(t, "asynq's server announces itself", func() bool { return rdb.ZCard(t.Context(), "asynq:servers").Val() == 1 })
	c := Result{}
	eventually(t, "it is found", func() bool {
		c = find(t, examine(t, rdb, Options{Queues: []string{"orders"}}), "stock_servers")
		return c.Verdict == Refuse
	})
	if !strings.Contains(c.Value, "serves orders") || c.Fix == "" {
		t.Errorf("%+v", c)
	}
	if c := find(t, examine(t, rdb, Options{Queues: []string{"mail"}}), "stock_servers"); c.Verdict != OK {
		t.Errorf("another queue: %+v", c)
	}
	stop()
	stop = func() {}
	expect(t, rdb, "stock_servers", "none", green)
}

func TestTopology(t *testing.T) {
	t.Parallel()
	server := redistest.NewServer(t)
	expect(t, dial(t, server.URL(), "", ""), "topology", "single", verdicts{OK, OK, Warn})
	failover := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: []string{sentinel(t, server.URL())}, MaxRetries: -1})
	t.Cleanup(func() { _ = failover.Close() })
	expect(t, failover, "topology", "sentinel", verdicts{Warn, Refuse, OK})
	expect(t, failover, "auth", "open to all", verdicts{OK, Refuse, Refuse}) // the stranger comes in by the same way
	expect(t, failover, "tls", "on this machine", green)
}

func TestCluster(t *testing.T) {
	t.Parallel()
	server := redistest.NewServer(t, "--cluster-enabled", "yes")
	node := dial(t, server.URL(), "", "")
	do(t, node, "CLUSTER ADDSLOTSRANGE 0 16383")
	eventually(t, "the cluster serves", func() bool {
		return strings.Contains(node.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
	})
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{address(server.URL())}, MaxRedirects: -1, MaxRetries: -1})
	t.Cleanup(func() { _ = cluster.Close() })
	expect(t, cluster, "topology", "cluster", verdicts{Warn, Refuse, OK})
	expect(t, node, "topology", "node of a cluster", warnRefuseWarn)
	expect(t, cluster, "cluster_state", "ok, 16384 slots", green)
	expect(t, cluster, "cluster_coverage", "full coverage yes", green)
	expect(t, cluster, "scripts", "works", green)
	do(t, node, "CONFIG SET cluster-require-full-coverage no")
	expect(t, cluster, "cluster_coverage", "full coverage no", warned)
	do(t, node, "CLUSTER DELSLOTS 16383")
	expect(t, cluster, "cluster_state", "16383 slots", graveBad)
}

var warnRefuseWarn = verdicts{Warn, Refuse, Warn}

// TestOneOfSeveralNodes: the worst node decides, and all values are shown.
func TestOneOfSeveralNodes(t *testing.T) {
	t.Parallel()
	report := Report{Verdict: OK}
	for _, r := range []Result{
		{Name: "a", Verdict: OK, Value: "1"}, {Name: "b", Verdict: OK, Value: "1"},
		{Name: "a", Verdict: Refuse, Value: "2", Fix: "f"}, {Name: "b", Verdict: OK, Value: "1"},
		{Name: "a", Verdict: Warn, Value: "3", Fix: "g"},
	} {
		report.add(r)
	}
	a, b := find(t, report, "a"), find(t, report, "b")
	if report.Verdict != Refuse || a.Verdict != Refuse || a.Value != "1, 2, 3" || a.Fix != "f" || b.Value != "1" || len(report.Checks) != 2 {
		t.Errorf("%+v", report)
	}
}

var _ Store = (*store.Store)(nil)
