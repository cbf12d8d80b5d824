package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/store"
)

// The faults of a replicated run, and what a fail-over takes.
const (
	failovers = "sentinel fail-overs"
	lostTail  = "accepted jobs that fail-overs lost"
)

const (
	masterName = "orders"
	sentinels  = 3
	// tail is how long the primary accepts jobs that its replica does not see.
	tail = 2 * time.Second
)

// pair is a primary and its replica, which change places.
type pair struct {
	servers   [2]*server
	sentinels []string // addresses
	primary   int
}

func (p *pair) url() string {
	return "redis-sentinel://" + strings.Join(p.sentinels, ",") + "/" + masterName
}

// startPair starts primary, replica and sentinels.
func (s *stage) startPair(ctx context.Context) error {
	s.pair = &pair{}
	for i := range s.pair.servers {
		var args []string
		if i > 0 {
			args = []string{"--replicaof", "127.0.0.1 " + strconv.Itoa(s.pair.servers[0].port)}
		}
		redis, err := s.startServer(ctx, fmt.Sprintf("redis-%d", i), "", "everysec", args...)
		if err != nil {
			return err
		}
		s.pair.servers[i] = redis
	}
	s.redis = s.pair.servers[0]
	if err := awaitLinked(ctx, s.pair.servers[1]); err != nil {
		return err
	}
	for i := range sentinels {
		if err := s.startSentinel(i); err != nil {
			return err
		}
	}
	if err := s.awaitSentinels(ctx); err != nil {
		return err
	}
	var err error
	s.store, err = store.Connect(ctx, s.pair.url())
	return err
}

func (s *stage) startSentinel(i int) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	name := fmt.Sprintf("sentinel-%d", i)
	config := filepath.Join(s.dir, name+".conf")
	text := fmt.Sprintf("bind 127.0.0.1\nport %d\ndir %s\nsentinel monitor %[3]s 127.0.0.1 %[4]d 2\n"+
		"sentinel down-after-milliseconds %[3]s 1000\nsentinel failover-timeout %[3]s 6000\n", port, s.dir, masterName, s.redis.port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	c, err := launch(s.dir, name, s.environ(), "redis-server", config, "--sentinel")
	if err != nil {
		return err
	}
	s.services = append(s.services, c)
	s.pair.sentinels = append(s.pair.sentinels, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	return nil
}

// awaitSentinels returns when all of them know each other and the replica.
func (s *stage) awaitSentinels(ctx context.Context) error {
	for _, addr := range s.pair.sentinels {
		err := await(ctx, 30*time.Second, func(ctx context.Context) error {
			about, err := askSentinel(ctx, addr)
			if err == nil && (about["num-other-sentinels"] != strconv.Itoa(sentinels-1) || about["num-slaves"] != "1") {
				err = fmt.Errorf("it knows %s other sentinels and %s replicas", about["num-other-sentinels"], about["num-slaves"])
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("sentinel at %s: %w", addr, err)
		}
	}
	return nil
}

func askSentinel(ctx context.Context, addr string) (map[string]string, error) {
	client := redis.NewSentinelClient(&redis.Options{Addr: addr, MaxRetries: -1})
	defer client.Close()
	return client.Master(ctx, masterName).Result()
}

// await tries again and again until something succeeds.
func await(ctx context.Context, limit time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return err
		}
	}
}

// awaitLinked returns when a replica follows its primary.
func awaitLinked(ctx context.Context, replica *server) error {
	return await(ctx, time.Minute, func(ctx context.Context) error {
		info, err := replica.rdb.Info(ctx, "replication").Result()
		if err == nil && !strings.Contains(info, "master_link_status:up") {
			err = errors.New(replica.name + " does not follow a primary")
		}
		return err
	})
}

// failOvers lets the primary fail twice while jobs flow. What was accepted while
// its replica lagged behind is lost.
func (s *stage) failOvers(ctx context.Context) {
	began := time.Now()
	for n := range 2 {
		sleep(ctx, s.options.Duration*time.Duration(1+2*n)/5-time.Since(began))
		s.fail(s.failOver(ctx))
	}
	sleep(ctx, s.options.Duration-time.Since(began))
}

// failOver lets the replica fall behind, kills the primary, and waits until the
// replica has taken its place and the old primary follows it.
func (s *stage) failOver(ctx context.Context) error {
	p := s.pair
	old, heir := p.servers[p.primary], p.servers[1-p.primary]
	// A password that the primary does not know keeps the replica from coming back.
	if err := heir.rdb.ConfigSet(ctx, "masterauth", "none").Err(); err != nil {
		return err
	}
	if err := old.rdb.ClientKillByFilter(ctx, "TYPE", "replica").Err(); err != nil {
		return err
	}
	sleep(ctx, tail)
	old.kill()
	err := await(ctx, 30*time.Second, func(ctx context.Context) error {
		info, err := heir.rdb.Info(ctx, "replication").Result()
		if err == nil && !strings.Contains(info, "role:master") {
			err = errors.New(heir.name + " was not made the primary")
		}
		return err
	})
	if err != nil {
		return err
	}
	s.counters.add(failovers, 1)
	p.primary = 1 - p.primary
	s.redis = heir
	if err := errors.Join(heir.rdb.ConfigSet(ctx, "masterauth", "").Err(), old.start(ctx)); err != nil {
		return err
	}
	return awaitLinked(ctx, old)
}
