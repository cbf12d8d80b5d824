package doctor

// check is one thing that Redis must be.
type check struct {
	name     string
	fails    levels // what it leads to when it is not so
	why, fix string
	judge    func(f *facts) reading
}

// levels are the verdicts of a check that fails, by mode.
type levels struct{ relaxed, strict, replicated Verdict }

var (
	always = levels{Refuse, Refuse, Refuse}
	grave  = levels{Warn, Refuse, Refuse}
	mild   = levels{Warn, Warn, Warn}
)

func (l levels) of(m Mode) Verdict {
	switch m {
	case Strict:
		return l.strict
	case Replicated:
		return l.replicated
	}
	return l.relaxed
}

// reading is what a check finds. An empty value could not be read.
type reading struct {
	value, bound string
	ok           bool
}

const unread = "cannot be read"

// result judges one node. What cannot be read is not known to be right: a warning
// in relaxed mode, and otherwise as bad as what is wrong, until
// PERDURE_ALLOW_UNSAFE_REDIS vouches for it.
func (c *check) result(f *facts) Result {
	r := c.judge(f)
	out := Result{Name: c.name, Verdict: OK, Value: r.value, Bound: r.bound, Why: c.why}
	switch {
	case r.value == "":
		out.Value, out.Verdict, out.Fix = unread, Warn, "allow perdure's user to ask (INFO, CONFIG GET), or see to it by hand: "+c.fix
		if f.mode != Relaxed && c.fails.of(f.mode) == Refuse {
			out.Verdict = Refuse
		}
	case !r.ok && c.fails.of(f.mode) != OK:
		out.Verdict, out.Fix = c.fails.of(f.mode), c.fix
	}
	return out
}

// standing checks only read, and are repeated while workers run.
var standing = []check{
	{"version", always, "older ones lack commands that perdure uses, and keep their append-only file in one piece",
		"install Redis 7.0 or newer", version},
	{"role", always, "a replica takes no writes, and what is read from it is old",
		"set REDIS_URL to the primary", role},
	{"topology", levels{Warn, Refuse, Warn}, "with automatic fail-over an acknowledged write may be lost; without it one machine's loss stops everything",
		"set REDIS_URL to what the mode needs, or PERDURE_DURABILITY to what you have", topology},
	{"append_only", grave, "without the append-only file a restart loses all that came after the last snapshot",
		"CONFIG SET appendonly yes", appendOnly},
	{"append_only_health", grave, "what cannot be written to the file is lost by a restart",
		"look at Redis' log and the disk's free space", appendOnlyHealth},
	{"appendfsync", grave, "what is not synced is lost when power is",
		"CONFIG SET appendfsync always", appendfsync},
	{"no_appendfsync_on_rewrite", grave, "with yes nothing is synced while the file is rewritten",
		"CONFIG SET no-appendfsync-on-rewrite no", setting("no-appendfsync-on-rewrite", "no")},
	{"aof_load_truncated", mild, "with yes Redis starts without an entry that a crash has cut; that is what the mode may lose anyway, but you should know",
		"set aof-load-truncated in redis.conf", known("aof-load-truncated")},
	{"maxmemory", grave, "without a limit the kernel ends Redis when the machine's memory is full",
		"CONFIG SET maxmemory <two thirds of the machine's>", maxmemory},
	{"maxmemory_policy", always, "any other policy deletes jobs without a word when memory is full",
		"CONFIG SET maxmemory-policy noeviction", maxmemoryPolicy},
	{"memory_headroom", grave, "a full Redis refuses every write, also those that end jobs",
		"CONFIG SET maxmemory <more>, or let jobs be forgotten sooner (retention)", memoryHeadroom},
	{"evicted_keys", grave, "Redis has deleted keys to make room: jobs may be missing",
		"CONFIG SET maxmemory-policy noeviction, look for what is missing, then CONFIG RESETSTAT", evictedKeys},
	{"replicas", levels{OK, OK, Refuse}, "without a replica there is nothing to fail over to",
		"REPLICAOF <primary> <port> on a second Redis", replicas},
	{"min_replicas", grave, "a primary that is cut off from its replicas goes on taking jobs, which the fail-over loses",
		"CONFIG SET min-replicas-to-write 1", minReplicas},
	{"replica_lag", grave, "it bounds how much a primary that is cut off can take",
		"CONFIG SET min-replicas-max-lag 10", replicaLag},
	{"good_replicas", grave, "with fewer than min-replicas-to-write close behind, Redis refuses writes",
		"look at the replicas: INFO replication", goodReplicas},
	{"cluster_state", grave, "queues whose slots nobody serves stand still",
		"CLUSTER INFO, CLUSTER NODES; redis-cli --cluster fix", clusterState},
	{"cluster_coverage", mild, "a node that is cut off should not answer for the rest",
		"CONFIG SET cluster-require-full-coverage yes, CONFIG SET cluster-allow-reads-when-down no", clusterCoverage},
	{"clock", mild, "perdure decides by Redis' clock alone, but asynq's tools and people compare times with this machine's",
		"run an NTP client on both machines", clock},
	{"script_limit", mild, "when a script runs longer, others are refused meanwhile; perdure's take milliseconds",
		"CONFIG SET lua-time-limit 5000", scriptLimit},
	{"idle_timeout", mild, "workers keep connections that wait, and Redis would cut them",
		"CONFIG SET timeout 0", setting("timeout", "0")},
	{"tcp_keepalive", mild, "connections of machines that are gone stay open without it",
		"CONFIG SET tcp-keepalive 300", keepalive},
	{"client", grave, "go-redis before 9.7.3 can take one call's answer for another's; a blind re-send can do a thing twice",
		"update github.com/redis/go-redis/v9", client},
	{"identity", mild, "another run_id is a restart, another replid a fail-over: what was written last may be missing",
		"allow perdure's user INFO", identity},
}

// tried are checks that something has to be tried out for.
var tried = []check{
	{"stock_servers", always, "a server of asynq's own takes no heed of who owns a job: it loses and doubles jobs of the queue",
		"stop it, or give it queues of its own", stockServers},
	{"scripts", always, "every change of a job is a script; a proxy or an ACL that breaks them breaks all",
		"allow perdure's user EVAL, EVALSHA and the keys asynq:* and perdure:*", scripts},
	{"auth", grave, "who reaches Redis without a password can read and change every job",
		"ACL SETUSER perdure on ><password> and ACL SETUSER default off (see deploy/redis.conf)", auth},
	{"rights", grave, "a mistake or a break-in with perdure's user could empty or stop Redis",
		"ACL SETUSER perdure -@admin -@dangerous +info +config|get (see deploy/redis.conf)", rights},
	{"tls", grave, "off the machine payloads and passwords travel in clear text",
		"set tls-port in redis.conf, and REDIS_URL to rediss://", encryption},
	{"write_latency", mild, "slow answers make living workers look dead",
		"look at the disk, the network and SLOWLOG GET", writeLatency},
	{"script_latency", mild, "while a script runs Redis answers nobody else",
		"SLOWLOG GET", scriptLatency},
	{"aof_stalls", mild, "a disk that stalls makes every worker wait",
		"LATENCY DOCTOR; give the append-only file a disk of its own", stalls},
}
