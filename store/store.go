package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/jobs"
)

const (
	leaseSeconds  = 30                  // as asynq's; kept for its tools, not used for decisions
	statsTTL      = 90 * 24 * time.Hour // as asynq's daily counters
	keptFailures  = 50                  // of one job, and the first
	maxFields     = 10_000              // of one job's hash
	maxBatch      = 500                 // entries that one script moves
	waitFallback  = 24 * time.Hour      // how often a job looks for itself whether what it waits for is there
	maxRetryField = 1 << 30
)

// Store is perdure's only way to Redis. Make one with [New] or [Connect]. All
// methods are safe for concurrent use.
type Store struct {
	rdb      redis.UniversalClient
	blocking redis.UniversalClient // for waits, so that they hold no connection of the others
	bare     redis.UniversalClient // does not wait for replicas; nil: none does
	asynq    *asynq.Client
	offset   atomic.Int64 // Redis' clock less ours, in ns, as last seen
	known    sync.Map     // queues registered in asynq:queues by this process
	tenants  sync.Map     // queue to a *sync.Map of the tenants registered there by this process
	calls    atomic.Int64 // claims made, for tokens
	close    func() error
}

// New returns a store on clients that the caller keeps and closes. blocking is
// used for commands that wait at the server; it may be the same client.
func New(rdb, blocking redis.UniversalClient) *Store {
	return &Store{rdb: rdb, blocking: blocking, asynq: asynq.NewClientFromRedisClient(rdb), close: func() error { return nil }}
}

// Connect returns a store on the Redis at url: redis://, rediss://,
// redis-sentinel://[user:password@]host:port,host:port/master/db or
// redis+cluster://host:port,host:port. It answers only once Redis has answered,
// or with an error that says what to look at.
func Connect(ctx context.Context, url string, how ...Option) (*Store, error) {
	options, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	var c connection
	for _, option := range how {
		option(&c)
	}
	options.MaxRetries = -1 // a call whose outcome is unknown is decided here, not re-sent blindly
	options.ContextTimeoutEnabled = true
	options.PoolSize = max(options.PoolSize, 64)
	rdb, bare, closeAll := c.connect(options)
	blocking := redis.NewUniversalClient(options)
	if err := rdb.Ping(ctx).Err(); err != nil {
		closeAll()
		blocking.Close()
		return nil, fmt.Errorf("connect to %s: %w", redactURL(url), unreachable(err))
	}
	s := New(rdb, blocking)
	s.bare = bare
	s.close = func() error { return errors.Join(blocking.Close(), closeAll()) }
	return s, nil
}

// Close closes the connections of a store made by [Connect].
func (s *Store) Close() error { return s.close() }

// Ping returns an error matching [jobs.ErrUnavailable] unless Redis runs a
// script and answers.
func (s *Store) Ping(ctx context.Context) error {
	_, err := s.run(ctx, "silent", []string{ownersKey}, int64(365*24*time.Hour/time.Millisecond), 1)
	return err
}

// Redis returns the client, for asynq's Inspector and web UI on the same
// connections.
func (s *Store) Redis() redis.UniversalClient { return s.rdb }

// now is Redis' time as far as this process knows it. It is for day counters and
// for what people read; decisions take time inside the scripts.
func (s *Store) now() time.Time { return time.Now().Add(time.Duration(s.offset.Load())) }

func (s *Store) sawTime(ms int64) {
	s.offset.Store(int64(time.Until(time.UnixMilli(ms))))
}

// register makes a queue known to asynq's tools, once a process.
func (s *Store) register(ctx context.Context, queue string) error {
	if _, ok := s.known.Load(queue); ok {
		return nil
	}
	_, err := surely(ctx, func() (int64, error) {
		added, err := s.rdb.SAdd(ctx, queuesKey, queue).Result()
		return added, unreachable(err)
	})
	if err != nil {
		return fmt.Errorf("register queue %s: %w", queue, err)
	}
	s.known.Store(queue, true)
	return nil
}

// Register makes queues known to asynq's tools. Workers repeat it, because a
// fail-over may have lost it.
func (s *Store) Register(ctx context.Context, queues ...string) error {
	for _, queue := range queues {
		s.known.Delete(queue)
		s.tenants.Delete(queue)
		if err := s.register(ctx, queue); err != nil {
			return err
		}
	}
	return nil
}

// Queues returns the names of all queues, sorted.
func (s *Store) Queues(ctx context.Context) ([]string, error) {
	queues, err := s.rdb.SMembers(ctx, queuesKey).Result()
	if err != nil {
		return nil, fmt.Errorf("list queues: %w", unreachable(err))
	}
	sortStrings(queues)
	return queues, nil
}

// unreachable makes errors of the connection, as against answers of Redis, match
// jobs.ErrUnavailable. A wrong password and a full Redis are answers.
func unreachable(err error) error {
	if err == nil || errors.Is(err, jobs.ErrUnavailable) {
		return err
	}
	var network net.Error
	var answer redis.Error
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, redis.ErrClosed),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, redis.ErrPoolTimeout):
		return fmt.Errorf("%w: %w", jobs.ErrUnavailable, err)
	case errors.As(err, &answer):
		for _, prefix := range []string{"LOADING", "READONLY", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN"} {
			if strings.HasPrefix(err.Error(), prefix) {
				return fmt.Errorf("%w: %w", jobs.ErrUnavailable, err)
			}
		}
	}
	return err
}
