package doctor

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

func version(f *facts) reading {
	least, bound := [2]int{6, 2}, "6.2 or newer"
	if f.mode != Relaxed {
		least, bound = [2]int{7, 0}, "7.0 or newer"
	}
	v := f.info["redis_version"]
	return reading{v, bound, !older(v, least[0], least[1], 0)}
}

// older compares the numbers of a version.
func older(version string, least ...int) bool {
	parts := strings.Split(version, ".")
	for i, want := range least {
		have := 0
		if i < len(parts) {
			have, _ = strconv.Atoi(parts[i])
		}
		if have != want {
			return have < want
		}
	}
	return false
}

func role(f *facts) reading {
	return reading{f.info["role"], "master", f.info["role"] == "master"}
}

func topology(f *facts) reading {
	t := f.layout.topology
	if t != "cluster" && f.info["cluster_enabled"] == "1" {
		t = "node of a cluster"
	}
	switch f.mode {
	case Replicated:
		return reading{t, "sentinel or cluster", t == "sentinel" || t == "cluster"}
	case Strict:
		return reading{t, "single", t == "single"}
	}
	return reading{t, "single, or a fail-over that you have thought of", t == "single"}
}

func appendOnly(f *facts) reading {
	return reading{onOff(f.info["aof_enabled"]), "on", f.info["aof_enabled"] == "1"}
}

func onOff(flag string) string {
	return map[string]string{"0": "off", "1": "on"}[flag]
}

func appendOnlyHealth(f *facts) reading {
	write, rewrite, loading := f.info["aof_last_write_status"], f.info["aof_last_bgrewrite_status"], f.info["loading"]
	value := ""
	if write != "" {
		value = fmt.Sprintf("write %s, rewrite %s, loading %s", write, rewrite, loading)
	}
	return reading{value, "write ok, rewrite ok, loading 0", write == "ok" && rewrite == "ok" && loading == "0"}
}

func appendfsync(f *facts) reading {
	v := f.config["appendfsync"]
	if f.mode == Relaxed {
		return reading{v, "everysec or always", v == "everysec" || v == "always"}
	}
	return reading{v, "always", v == "always"}
}

func setting(name, want string) func(*facts) reading {
	return func(f *facts) reading { return reading{f.config[name], want, f.config[name] == want} }
}

func known(name string) func(*facts) reading {
	return func(f *facts) reading { return reading{f.config[name], "known", true} }
}

func maxmemory(f *facts) reading {
	limit, told := f.number("maxmemory")
	switch {
	case !told:
		return reading{"", "a limit", false}
	case limit == 0:
		return reading{"none", "a limit", false}
	}
	return reading{megabytes(limit), "a limit", true}
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func maxmemoryPolicy(f *facts) reading {
	v := f.info["maxmemory_policy"]
	return reading{v, "noeviction", v == "noeviction"}
}

func memoryHeadroom(f *facts) reading {
	const bound = "at most 75% of maxmemory used"
	limit, told := f.number("maxmemory")
	used, alsoTold := f.number("used_memory")
	switch {
	case !told || !alsoTold:
		return reading{"", bound, false}
	case limit == 0:
		return reading{megabytes(used) + " used, no limit", bound, true} // check maxmemory says so
	}
	return reading{fmt.Sprintf("%.0f%% of %s used", 100*float64(used)/float64(limit), megabytes(limit)), bound, used <= limit/4*3}
}

func evictedKeys(f *facts) reading {
	return reading{f.info["evicted_keys"], "0", f.info["evicted_keys"] == "0"}
}

func replicas(f *facts) reading {
	bound := "any"
	if f.mode == Replicated {
		bound = "at least 1"
	}
	return reading{f.info["connected_slaves"], bound, f.replicas() > 0}
}

// spared is for checks of replicas where there are none and none are needed.
func (f *facts) spared() (reading, bool) {
	n, told := f.number("connected_slaves")
	return reading{"no replicas", "only with replicas", true}, told && n == 0 && f.mode != Replicated
}

func minReplicas(f *facts) reading {
	if r, ok := f.spared(); ok {
		return r
	}
	v := f.config["min-replicas-to-write"]
	if v == "" && f.info["min_slaves_good_slaves"] != "" {
		v = "set" // INFO has that field only when it is
	}
	return reading{v, "at least 1", v != "0"}
}

func replicaLag(f *facts) reading {
	if r, ok := f.spared(); ok {
		return r
	}
	v := f.config["min-replicas-max-lag"]
	n, err := strconv.Atoi(v)
	return reading{v, "from 1 to 10", err == nil && n >= 1 && n <= 10}
}

func goodReplicas(f *facts) reading {
	if r, ok := f.spared(); ok {
		return r
	}
	good, told := f.number("min_slaves_good_slaves")
	need, err := strconv.ParseInt(f.config["min-replicas-to-write"], 10, 64)
	if err != nil {
		need = 1
	}
	need = max(need, 1)
	bound := fmt.Sprintf("at least %d", need)
	if !told {
		// Redis does not count them as long as min-replicas-to-write is 0.
		return reading{f.info["connected_slaves"], bound, f.replicas() >= need}
	}
	return reading{strconv.FormatInt(good, 10), bound, good >= need}
}

func clusterState(f *facts) reading {
	const bound = "ok, 16384 slots"
	if f.info["cluster_state"] == "" && f.layout.topology != "cluster" {
		return reading{"no cluster", bound, true}
	}
	state, slots := f.info["cluster_state"], f.info["cluster_slots_assigned"]
	value := ""
	if state != "" {
		value = state + ", " + slots + " slots"
	}
	return reading{value, bound, value == bound}
}

func clusterCoverage(f *facts) reading {
	const bound = "full coverage yes, reads when down no"
	if f.info["cluster_state"] == "" && f.layout.topology != "cluster" {
		return reading{"no cluster", bound, true}
	}
	full, down := f.config["cluster-require-full-coverage"], f.config["cluster-allow-reads-when-down"]
	value := ""
	if full != "" && down != "" {
		value = "full coverage " + full + ", reads when down " + down
	}
	return reading{value, bound, value == bound}
}

func clock(f *facts) reading {
	const bound = "within 500ms of this machine's"
	if f.skew == nil {
		return reading{"", bound, false}
	}
	return reading{fmt.Sprintf("%+.3fs", f.skew.Seconds()), bound, f.skew.Abs() <= 500*time.Millisecond}
}

func scriptLimit(f *facts) reading {
	v := f.config["lua-time-limit"]
	ms, err := strconv.Atoi(v)
	return reading{v, "at least 1000 ms", err == nil && (ms >= 1000 || ms <= 0)} // 0 is no limit
}

func keepalive(f *facts) reading {
	v := f.config["tcp-keepalive"]
	n, err := strconv.Atoi(v)
	return reading{v, "from 1 to 300", err == nil && n >= 1 && n <= 300}
}

func client(f *facts) reading {
	v := redis.Version()
	return reading{fmt.Sprintf("go-redis %s, %d re-sends", v, f.layout.resends), "go-redis 9.7.3 or newer, 0 re-sends",
		!older(v, 9, 7, 3) && f.layout.resends <= 0}
}

func identity(f *facts) reading {
	run, replication := f.info["run_id"], f.info["master_replid"]
	if run == "" {
		return reading{"", "known", false}
	}
	return reading{"run_id " + run + ", replid " + replication, "known", true}
}

func stockServers(f *facts) reading {
	if len(f.probes.stock) == 0 {
		return reading{"none", "none", true}
	}
	return reading{strings.Join(f.probes.stock, ", "), "none", false}
}

func scripts(f *facts) reading {
	if err := f.probes.scripts; err != nil {
		return reading{err.Error(), "works", false}
	}
	return reading{"works", "works", true}
}

func auth(f *facts) reading {
	bound, ok := "closed by a password", f.probes.open == "no"
	if f.mode == Relaxed {
		bound, ok = "closed by a password, or on this machine", ok || f.probes.local()
	}
	return reading{map[string]string{"yes": "open to all", "no": "closed by a password"}[f.probes.open], bound, ok}
}

func rights(f *facts) reading {
	const bound = "none of FLUSHALL, FLUSHDB, SHUTDOWN, KEYS, DEBUG, CONFIG SET"
	p := f.probes
	switch {
	case !p.rights:
		return reading{"", bound, false}
	case len(p.may) == 0:
		return reading{"limited", bound, true}
	}
	return reading{"may use " + strings.Join(p.may, ", "), bound, f.mode == Relaxed && p.local()}
}

func encryption(f *facts) reading {
	const bound = "TLS, or on this machine"
	switch p := f.probes; {
	case p.tls:
		return reading{"TLS", bound, true}
	case p.peer == "":
		return reading{"", bound, false}
	case p.local():
		return reading{"on this machine", bound, true}
	default:
		return reading{"clear text from " + p.peer, bound, false}
	}
}

func writeLatency(f *facts) reading {
	const bound = "99th percentile under 50ms"
	if f.probes.writes == 0 {
		return reading{"", bound, false}
	}
	return reading{fmt.Sprintf("%v of %d", f.probes.write.Round(10*time.Microsecond), f.probes.writes), bound, f.probes.write < 50*time.Millisecond}
}

func scriptLatency(f *facts) reading {
	const bound = "99th percentile under 5ms"
	micros, err := strconv.ParseFloat(f.probes.script, 64)
	if err != nil {
		return reading{"", bound, false}
	}
	return reading{fmt.Sprintf("%.2fms", micros/1000), bound, micros < 5000}
}

func stalls(f *facts) reading {
	const bound = "none over 50ms in the last hour"
	switch {
	case !f.probes.latency:
		return reading{"", bound, false}
	case len(f.probes.stalls) == 0:
		return reading{"none recorded", bound, true}
	}
	return reading{strings.Join(f.probes.stalls, ", "), bound, false}
}
