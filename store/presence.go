package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Announce shows a worker to asynq's tools for the given time, as one of asynq's
// servers (ServerInfo and WorkerInfo of asynq v0.26.0).
func (s *Store) Announce(ctx context.Context, p delivery.Presence, stands time.Duration) error {
	server, active := serverKey(p.Host, p.PID, p.ID), serverJobsKey(p.Host, p.PID, p.ID)
	now, err := s.rdb.Time(ctx).Result() // our own clock may be off, and an idle worker has not seen Redis' yet
	if err != nil {
		return fmt.Errorf("announce worker: %w", unreachable(err))
	}
	s.sawTime(now.UnixMilli())
	until := float64(now.Add(stands).Unix())
	pipe := s.rdb.Pipeline()
	pipe.ZAdd(ctx, serversKey, redis.Z{Score: until, Member: server})
	pipe.ZAdd(ctx, workersKey, redis.Z{Score: until, Member: active})
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("announce worker: %w", unreachable(err))
	}
	args := []any{int64(stands / time.Second), encodeServer(p)}
	for _, job := range p.Active {
		args = append(args, job.Key, encodeActive(p, job))
	}
	_, err = s.runCode(ctx, "presence", []string{server, active}, args...)
	return err
}

// Withdraw takes a worker off asynq's list of servers.
func (s *Store) Withdraw(ctx context.Context, p delivery.Presence) error {
	server, active := serverKey(p.Host, p.PID, p.ID), serverJobsKey(p.Host, p.PID, p.ID)
	pipe := s.rdb.Pipeline()
	pipe.ZRem(ctx, serversKey, server)
	pipe.ZRem(ctx, workersKey, active)
	pipe.Del(ctx, server)
	pipe.Del(ctx, active)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("withdraw worker: %w", unreachable(err))
	}
	return nil
}

func encodeServer(p delivery.Presence) []byte {
	b := appendText(nil, 1, p.Host)
	b = appendNumber(b, 2, int64(p.PID))
	b = appendText(b, 3, p.ID)
	b = appendNumber(b, 4, int64(p.Concurrency))
	for queue, priority := range p.Queues {
		b = appendText(b, 5, string(appendNumber(appendText(nil, 1, queue), 2, int64(priority))))
	}
	if p.StrictPriority {
		b = appendNumber(b, 6, 1)
	}
	b = appendText(b, 7, p.Status)
	b = appendTime(b, 8, p.Started)
	b = appendNumber(b, 9, int64(len(p.Active)))
	return appendText(b, ourMark, "perdure")
}

// encodeActive leaves the payload out: asynq's own server uploads it at every
// beat, and it may hold what is not for everyone's eyes.
func encodeActive(p delivery.Presence, job delivery.ActiveJob) []byte {
	b := appendText(nil, 1, p.Host)
	b = appendNumber(b, 2, int64(p.PID))
	b = appendText(b, 3, p.ID)
	b = appendText(b, 4, job.Key)
	b = appendText(b, 5, job.Kind)
	b = appendText(b, 7, job.Queue)
	b = appendTime(b, 8, job.Started)
	return appendTime(b, 9, job.Deadline)
}

func appendTime(b []byte, field protowire.Number, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	stamp := appendNumber(nil, 1, t.Unix())
	return appendText(b, field, string(appendNumber(stamp, 2, int64(t.Nanosecond()))))
}

// Publish says which kinds a worker runs, for the commands and the API.
func (s *Store) Publish(ctx context.Context, kinds []delivery.PublishedKind) error {
	fields := map[string]any{}
	for _, kind := range kinds {
		kind.At = s.now().UTC()
		fields[kind.Name] = mustJSON(kind)
	}
	if len(fields) == 0 {
		return nil
	}
	if err := s.rdb.HSet(ctx, kindsKey, fields).Err(); err != nil {
		return fmt.Errorf("publish kinds: %w", unreachable(err))
	}
	return nil
}

// Kinds returns every published kind by name.
func (s *Store) Kinds(ctx context.Context) (map[string]delivery.PublishedKind, error) {
	flat, err := s.rdb.HGetAll(ctx, kindsKey).Result()
	if err != nil {
		return nil, fmt.Errorf("read kinds: %w", unreachable(err))
	}
	kinds := map[string]delivery.PublishedKind{}
	for name, text := range flat {
		var kind delivery.PublishedKind
		if json.Unmarshal([]byte(text), &kind) == nil {
			kinds[name] = kind
		}
	}
	return kinds, nil
}

// KindDefinition returns a published kind as a definition to enqueue by.
// ErrUnknownKind: no worker has published it.
func (s *Store) KindDefinition(ctx context.Context, name string) (jobs.Definition, error) {
	kinds, err := s.Kinds(ctx)
	if err != nil {
		return jobs.Definition{}, err
	}
	kind, ok := kinds[name]
	if !ok {
		return jobs.Definition{}, fmt.Errorf("kind %q: %w", name, jobs.ErrUnknownKind)
	}
	return jobs.Definition{
		Name: kind.Name, Queue: kind.Queue, Version: kind.Version, Schema: kind.Schema, Timeout: kind.Timeout,
		Retention: kind.Retention, MaxPayload: kind.MaxPayload, MaxOutput: jobs.DefaultMaxOutput, Codec: jobs.JSON,
	}, nil
}

// Unpublish forgets what workers said of a kind.
func (s *Store) Unpublish(ctx context.Context, kind string) error {
	return unreachable(s.rdb.HDel(ctx, kindsKey, kind).Err())
}
