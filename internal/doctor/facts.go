package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/jobs"
)

// facts are what one node of Redis says. A managed Redis may keep some of it to
// itself; what it does not tell is absent.
type facts struct {
	mode   Mode
	info   map[string]string // fields of INFO
	config map[string]string // parameters of CONFIG GET
	skew   *time.Duration    // the node's clock less ours
	layout layout
	probes *probes // nil when only what costs nothing was asked
}

// layout is how perdure reaches Redis.
type layout struct {
	topology string // "single", "sentinel" or "cluster"
	resends  int    // by the client, of calls whose outcome is unknown
}

// parameters are asked of CONFIG GET, one at a time: Redis before 7.0 takes no
// list.
var parameters = []string{
	"appendfsync", "no-appendfsync-on-rewrite", "aof-load-truncated", "min-replicas-to-write", "min-replicas-max-lag",
	"timeout", "tcp-keepalive", "lua-time-limit", "cluster-require-full-coverage", "cluster-allow-reads-when-down",
}

// read asks a node what it says of itself, in two or three round trips. Answers
// that refuse to tell are no errors. configured: CONFIG is asked too.
func read(ctx context.Context, node *redis.Client, configured bool) (*facts, error) {
	f := &facts{info: map[string]string{}, config: map[string]string{}}
	pipe := node.Pipeline()
	info := pipe.Info(ctx)
	var config []*redis.MapStringStringCmd
	for _, parameter := range parameters {
		if configured {
			config = append(config, pipe.ConfigGet(ctx, parameter))
		}
	}
	_, _ = pipe.Exec(ctx) // each command has its own answer
	if err := lost(info.Err()); err != nil {
		return nil, err
	}
	addFields(f.info, info.Val())
	for _, answer := range config {
		if err := lost(answer.Err()); err != nil {
			return nil, err
		}
		for name, value := range answer.Val() {
			f.config[name] = value
		}
	}
	return f, f.ask(ctx, node)
}

// ask asks what is no part of INFO: the time, and the cluster's state where there
// is one.
func (f *facts) ask(ctx context.Context, node *redis.Client) error {
	if f.info["cluster_enabled"] == "1" {
		cluster := node.ClusterInfo(ctx)
		if err := lost(cluster.Err()); err != nil {
			return err
		}
		addFields(f.info, cluster.Val())
	}
	asked := time.Now()
	there, err := node.Time(ctx).Result()
	if err == nil {
		skew := there.Sub(asked.Add(time.Since(asked) / 2))
		f.skew = &skew
	}
	return lost(err)
}

// addFields reads the "name:value" lines of INFO and its like.
func addFields(fields map[string]string, text string) {
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
}

// lost returns an error when Redis has not answered; an answer may be a refusal.
func lost(err error) error {
	var answer redis.Error
	switch {
	case err == nil, errors.As(err, &answer):
		return nil
	case errors.Is(err, jobs.ErrUnavailable), errors.Is(err, context.Canceled):
		return err
	}
	return fmt.Errorf("%w: %w", jobs.ErrUnavailable, err)
}

// number returns a field of INFO as a number; false when it is not told.
func (f *facts) number(field string) (int64, bool) {
	n, err := strconv.ParseInt(f.info[field], 10, 64)
	return n, err == nil
}

// replicas is how many are connected; 0 when that is not told.
func (f *facts) replicas() int64 {
	n, _ := f.number("connected_slaves")
	return n
}

// nodes returns the primaries that hold jobs.
func nodes(ctx context.Context, rdb redis.UniversalClient) ([]*redis.Client, layout, error) {
	switch client := rdb.(type) {
	case *redis.Client:
		l := layout{topology: "single", resends: client.Options().MaxRetries}
		if client.Options().Addr == failoverAddr {
			l.topology = "sentinel"
		}
		return []*redis.Client{client}, l, nil
	case *redis.ClusterClient:
		found, err := primaries(ctx, client)
		return found, layout{topology: "cluster", resends: client.Options().MaxRetries}, err
	}
	return nil, layout{}, fmt.Errorf("examine redis: a client of type %T is not known: %w", rdb, jobs.ErrInvalid)
}

// failoverAddr is what go-redis says for the address of a client that asks
// Sentinel.
const failoverAddr = "FailoverClient"

func primaries(ctx context.Context, client *redis.ClusterClient) ([]*redis.Client, error) {
	var mu sync.Mutex
	var found []*redis.Client
	err := client.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		found = append(found, node)
		return nil
	})
	if err == nil && len(found) == 0 {
		err = errors.New("the cluster has no primaries")
	}
	if err != nil {
		return nil, fmt.Errorf("examine redis: %w: %w", jobs.ErrUnavailable, err)
	}
	slices.SortFunc(found, func(a, b *redis.Client) int { return strings.Compare(a.Options().Addr, b.Options().Addr) })
	return found, nil
}
