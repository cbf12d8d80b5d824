package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/jobs"
)

// Option changes how [Connect] connects.
type Option func(*connection)

type connection struct {
	replicas int
	limit    time.Duration
}

// Replicated makes every call that accepts, records or ends something wait until
// that many replicas have it, for at most the limit (1 s when it is 0). A call that
// they do not confirm returns an error that matches [jobs.ErrUnavailable]: its
// outcome is open, and it is safe to repeat. This makes a loss by a fail-over
// unlikely, not impossible: replication stays asynchronous.
func Replicated(replicas int, limit time.Duration) Option {
	return func(c *connection) {
		c.replicas = replicas
		if c.limit = limit; limit <= 0 {
			c.limit = time.Second
		}
	}
}

// confirmed are the scripts whose effect has to outlive a fail-over. That of the
// others comes back by itself: a claim that is forgotten is a job that is claimed
// again.
var confirmed = map[string]bool{
	"checkpoint": true, "progress": true, "await": true, "signal": true,
	"complete": true, "retry": true, "pause": true, "park": true, "suspect": true, "quarantine": true, "cancelled": true,
	"cancel": true, "replay": true, "discard": true, "continue": true, "takeback": true,
	"suspend": true, "resume": true, "hold": true, "force": true, "tune": true,
	"": true, // asynq's own: the enqueue
}

// confirmation is a hook that has replicas confirm what scripts have written.
// WAIT speaks of what its own connection has written, so script and WAIT go out
// together, on a connection of a client without the hook. A write of no meaning
// goes between: it makes WAIT cover what was there before, as for a duplicate.
type confirmation struct {
	connection
	bare redis.UniversalClient
}

// DialHook implements [redis.Hook].
func (c confirmation) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessPipelineHook implements [redis.Hook]; perdure writes by scripts, one at a
// time.
func (c confirmation) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// ProcessHook implements [redis.Hook].
func (c confirmation) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		key, ok := c.concerns(cmd)
		if !ok {
			return next(ctx, cmd)
		}
		client, err := c.master(ctx, key)
		if err != nil {
			cmd.SetErr(err)
			return err
		}
		pipe := client.Pipeline()
		_ = pipe.Process(ctx, cmd) // queued
		pipe.Set(ctx, syncKey(key), 1, 0)
		acks := pipe.Do(ctx, "wait", c.replicas, c.limit.Milliseconds())
		_, _ = pipe.Exec(ctx) // each command has its own error
		if cmd.Err() != nil && cmd.Err() != redis.Nil {
			return cmd.Err()
		}
		if got, err := acks.Int(); err != nil || got < c.replicas {
			cmd.SetErr(fmt.Errorf("%w: %d of %d replicas %s within %v", errors.Join(jobs.ErrUnavailable, err), got, c.replicas, confirmText, c.limit))
		}
		return cmd.Err()
	}
}

const confirmText = "have confirmed the write"

// unconfirmed reports that a write was made and no replica has said that it has it.
// asynq passes such errors on as text.
func unconfirmed(err error) bool { return strings.Contains(err.Error(), confirmText) }

// concerns returns the first key of a script that is to be confirmed.
func (c confirmation) concerns(cmd redis.Cmder) (key string, ok bool) {
	args := cmd.Args()
	if len(args) < 4 {
		return "", false
	}
	name := ""
	switch strings.ToLower(cmd.Name()) {
	case "evalsha":
		sha, _ := args[1].(string)
		name = ScriptName(sha)
	case "eval":
		text, _ := args[1].(string)
		name = ScriptName(redis.NewScript(text).Hash())
	default:
		return "", false
	}
	key, isText := args[3].(string)
	return key, isText && confirmed[name]
}

// master returns the client to talk to the key's master with.
func (c confirmation) master(ctx context.Context, key string) (redis.UniversalClient, error) {
	if cluster, ok := c.bare.(*redis.ClusterClient); ok {
		return cluster.MasterForKey(ctx, key)
	}
	return c.bare, nil
}

// syncKey is a key of the same slot.
func syncKey(key string) string {
	if _, rest, ok := strings.Cut(key, "{"); ok {
		if tag, _, ok := strings.Cut(rest, "}"); ok && tag != "" {
			return ownKey(tag, "sync")
		}
	}
	return "perdure:sync"
}

// connect makes the client for calls, and where that one waits for replicas another
// one that does not.
func (c connection) connect(options *redis.UniversalOptions) (rdb, bare redis.UniversalClient, closeAll func() error) {
	rdb = redis.NewUniversalClient(options)
	if c.replicas == 0 {
		return rdb, nil, rdb.Close
	}
	bare = redis.NewUniversalClient(options)
	rdb.AddHook(confirmation{c, bare})
	return rdb, bare, func() error { return errors.Join(rdb.Close(), bare.Close()) }
}
