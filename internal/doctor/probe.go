package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/jobs"
)

// probes are what has to be tried out, and is so only at start and by the command.
type probes struct {
	stock   []string // servers of asynq's own on our queues
	scripts error    // of the scripts' self-test
	open    string   // "yes", "no"; "" when it could not be tried
	may     []string // dangerous commands that our user may use
	rights  bool     // whether may is known
	tls     bool
	peer    string        // our address as Redis sees it; "" when it is not told
	write   time.Duration // 99th percentile of small writes; 0 when none was answered
	writes  int
	script  string   // 99th percentile of EVALSHA in µs, by INFO latencystats
	stalls  []string // of the append-only file, in the last hour
	latency bool     // whether stalls is known
}

// try tries a node out. It leaves nothing behind.
func (d *Doctor) try(ctx context.Context, node *redis.Client) (*probes, error) {
	p := &probes{tls: node.Options().TLSConfig != nil}
	var err error
	if p.stock, err = d.store.StockServers(ctx, d.options.Queues...); lost(err) != nil {
		return nil, err
	}
	p.scripts = d.store.TryScripts(ctx)
	if p.scripts != nil && errors.Is(p.scripts, jobs.ErrUnavailable) && !answered(p.scripts) {
		return nil, p.scripts
	}
	p.tryDoor(ctx, node)
	p.tryRights(ctx, node)
	p.tryWrites(ctx, node)
	p.readLatency(ctx, node)
	return p, nil
}

func answered(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer)
}

// tryDoor looks whether Redis lets in who has no password, and from where we come.
func (p *probes) tryDoor(ctx context.Context, node *redis.Client) {
	if text, err := node.Do(ctx, "CLIENT", "INFO").Text(); err == nil {
		for field := range strings.FieldsSeq(text) {
			if addr, ok := strings.CutPrefix(field, "addr="); ok {
				p.peer = addr
			}
		}
	}
	o := *node.Options()
	o.Username, o.Password, o.CredentialsProvider, o.CredentialsProviderContext, o.StreamingCredentialsProvider = "", "", nil, nil, nil
	o.PoolSize, o.MinIdleConns, o.MaxRetries, o.DB, o.OnConnect = 1, 0, -1, 0, nil
	stranger := redis.NewClient(&o)
	defer stranger.Close()
	err := stranger.Ping(ctx).Err()
	switch {
	case err == nil:
		p.open = "yes"
	case answered(err):
		p.open = "no"
	}
}

// dangerous are commands that a worker never needs and that end or empty Redis.
var dangerous = [][]any{
	{"FLUSHALL"}, {"FLUSHDB"}, {"SHUTDOWN"}, {"KEYS", "*"}, {"DEBUG", "JMAP"}, {"CONFIG", "SET", "timeout", "0"},
}

// tryRights asks which dangerous commands our user may use, without using them.
func (p *probes) tryRights(ctx context.Context, node *redis.Client) {
	user, err := node.Do(ctx, "ACL", "WHOAMI").Text()
	if err != nil {
		return
	}
	for _, command := range dangerous {
		answer, err := node.Do(ctx, append([]any{"ACL", "DRYRUN", user}, command...)...).Text()
		if err != nil {
			p.may = nil
			p.readRights(ctx, node, user)
			return
		}
		if answer == "OK" {
			p.may = append(p.may, command[0].(string))
		}
	}
	p.rights = true
}

// readRights is for Redis before 7.0, and for users who may not ask: those have
// few rights.
func (p *probes) readRights(ctx context.Context, node *redis.Client, user string) {
	answer, err := node.Do(ctx, "ACL", "GETUSER", user).Result()
	if err != nil {
		p.rights = redis.HasErrorPrefix(err, "NOPERM")
		return
	}
	if all := fmt.Sprint(answer); strings.Contains(all, "+@all") && !strings.Contains(all, "-@dangerous") {
		p.may = []string{"everything"}
	}
	p.rights = true
}

// tryWrites times small writes, a hundred or as many as a second allows.
func (p *probes) tryWrites(ctx context.Context, node *redis.Client) {
	key := "perdure:doctor:" + rand.Text()
	var took []time.Duration
	for begun := time.Now(); len(took) < 100 && time.Since(begun) < time.Second; {
		asked := time.Now()
		if node.Set(ctx, key, "", time.Minute).Err() != nil {
			break
		}
		took = append(took, time.Since(asked))
	}
	if len(took) == 0 {
		return
	}
	node.Del(ctx, key)
	slices.Sort(took)
	p.write, p.writes = took[(len(took)-1)*99/100], len(took)
}

// readLatency reads what Redis has measured of itself.
func (p *probes) readLatency(ctx context.Context, node *redis.Client) {
	stats := map[string]string{}
	addFields(stats, node.Info(ctx, "latencystats").Val())
	for part := range strings.SplitSeq(stats["latency_percentiles_usec_evalsha"], ",") {
		if micros, ok := strings.CutPrefix(part, "p99="); ok {
			p.script = micros
		}
	}
	events, err := node.Do(ctx, "LATENCY", "LATEST").Slice()
	p.latency = err == nil
	for _, event := range events {
		row, _ := event.([]any)
		if len(row) < 3 {
			continue
		}
		name, _ := row[0].(string)
		at, _ := row[1].(int64)
		ms, _ := row[2].(int64)
		if strings.HasPrefix(name, "aof") && time.Since(time.Unix(at, 0)) < time.Hour && ms >= 50 {
			p.stalls = append(p.stalls, fmt.Sprintf("%s %d ms", name, ms))
		}
	}
}

// local reports whether we are on the machine of Redis.
func (p *probes) local() bool {
	host, _, err := net.SplitHostPort(p.peer)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return strings.HasPrefix(host, "/") || err == nil && addr.Unmap().IsLoopback()
}
