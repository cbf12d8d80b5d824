package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

const (
	// ourMark is a field of ServerInfo that asynq does not have, and that its tools
	// therefore pass over: it tells a worker of ours from a server of asynq's own.
	ourMark = 2026
	// maxServers is how many announced servers are looked at, those announced last
	// first.
	maxServers = 1000
	// scratchStands is how long the scratch jobs stay when the process dies in the
	// middle of a self-test.
	scratchStands = time.Minute
)

// StockServers returns the servers of asynq's own, as "host:pid serves queue",
// that serve one of the given queues or, when none is given, a queue that perdure
// has worked on. They would run perdure's jobs without regard to who owns them. A
// server that was killed is still listed for some ten seconds.
func (s *Store) StockServers(ctx context.Context, queues ...string) ([]string, error) {
	keys, err := s.rdb.ZRevRange(ctx, serversKey, 0, maxServers-1).Result()
	if err != nil {
		return nil, fmt.Errorf("list servers: %w", unreachable(err))
	}
	infos := make([]*redis.StringCmd, len(keys))
	_, err = s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, key := range keys {
			infos[i] = pipe.Get(ctx, key)
		}
		return nil
	})
	if err != nil && err != redis.Nil { // Nil: one that has stopped is still on the list
		return nil, fmt.Errorf("read servers: %w", unreachable(err))
	}
	var found []string
	for _, info := range infos {
		server, served := stockServer([]byte(info.Val()))
		for _, queue := range served {
			ours, err := s.isOurs(ctx, queue, queues)
			if err != nil {
				return nil, err
			}
			if ours {
				found = append(found, server+" serves "+queue)
			}
		}
	}
	slices.Sort(found)
	return found, nil
}

// isOurs reports whether a queue is among the given ones, or perdure has handed
// out a token in it when none are given.
func (s *Store) isOurs(ctx context.Context, queue string, given []string) (bool, error) {
	if len(given) > 0 {
		return slices.Contains(given, queue), nil
	}
	n, err := s.rdb.Exists(ctx, tokensKey(queue)).Result()
	if err != nil {
		return false, fmt.Errorf("look at queue %s: %w", queue, unreachable(err))
	}
	return n > 0, nil
}

// stockServer returns who a ServerInfo is of and the queues it serves; no queues
// when it is one of ours or cannot be read.
func stockServer(info []byte) (who string, queues []string) {
	var host string
	var pid uint64
	for len(info) > 0 {
		field, kind, n := protowire.ConsumeField(info)
		if n < 0 || field == ourMark {
			return "", nil
		}
		_, _, tag := protowire.ConsumeTag(info)
		value := info[tag:n]
		info = info[n:]
		switch {
		case field == 1 && kind == protowire.BytesType:
			data, _ := protowire.ConsumeBytes(value)
			host = string(data)
		case field == 2 && kind == protowire.VarintType:
			pid, _ = protowire.ConsumeVarint(value)
		case field == 5 && kind == protowire.BytesType:
			entry, _ := protowire.ConsumeBytes(value)
			queues = append(queues, mapKey(entry))
		}
	}
	return fmt.Sprintf("%s:%d", host, pid), queues
}

// mapKey returns the key of one entry of a protobuf map with text keys.
func mapKey(entry []byte) string {
	field, kind, n := protowire.ConsumeTag(entry)
	if n < 0 || field != 1 || kind != protowire.BytesType {
		return ""
	}
	key, _ := protowire.ConsumeString(entry[n:])
	return key
}

// TryScripts takes two scratch jobs, in a queue of their own that nobody serves
// and that is removed at the end, through claim, step, a stale token, success and
// failure, and looks whether Redis says NOSCRIPT of a script that it does not
// have, by which a restarted one is given the scripts again. The error says what
// went otherwise; ErrUnavailable when Redis could not be reached.
func (s *Store) TryScripts(ctx context.Context) error {
	if s.bare != nil {
		s = New(s.bare, s.blocking) // whether replicas confirm writes is another question
	}
	queue := "doctor." + strings.ToLower(rand.Text()[:16])
	defer s.removeScratch(context.WithoutCancel(ctx), queue)
	for _, try := range []func(context.Context, string) error{s.tryLoading, s.tryJobs} {
		if err := try(ctx, queue); err != nil {
			return fmt.Errorf("self-test of the scripts: %w", unreachable(err))
		}
	}
	return nil
}

// tryLoading asks for a script that cannot be loaded, and sends the text of one.
// The server's scripts stay as they are: others are using them.
func (s *Store) tryLoading(ctx context.Context, queue string) error {
	err := s.rdb.EvalSha(ctx, fmt.Sprintf("%040x", []byte(rand.Text()[:20])), []string{ownKey(queue, "none")}).Err()
	if err == nil || !redis.HasErrorPrefix(err, "NOSCRIPT") {
		return fmt.Errorf("a script that is not loaded answers %w, not NOSCRIPT", orNothing(err))
	}
	return scripts["silent"].Eval(ctx, s.rdb, []string{ownersKey}, int64(time.Hour/time.Millisecond), 1).Err() // only reads
}

func orNothing(err error) error {
	if err == nil {
		return errors.New("a value")
	}
	return err
}

// tryJobs lets one scratch job complete and one fail.
func (s *Store) tryJobs(ctx context.Context, queue string) error {
	if err := s.scratch(ctx, queue, "a", "b"); err != nil {
		return err
	}
	batch, err := s.Claim(ctx, queue, scratchOwner, 2)
	if err != nil {
		return err
	}
	if len(batch.Deliveries) != 2 {
		return fmt.Errorf("claimed %d of 2 jobs", len(batch.Deliveries))
	}
	a, b := batch.Deliveries[0], batch.Deliveries[1]
	if err := s.Checkpoint(ctx, a.Hold, delivery.Checkpoint{Step: "step", Run: a.Run, Output: []byte("1")}); err != nil {
		return fmt.Errorf("record a step: %w", err)
	}
	done := delivery.Verdict{Outcome: delivery.Complete, Result: []byte("1")}
	stale := a
	stale.Token = b.Token
	if err := s.Settle(ctx, stale, done); !errors.Is(err, jobs.ErrLost) {
		return fmt.Errorf("a stale token was answered with %w", orNothing(err))
	}
	if err := s.Settle(ctx, a, done); err != nil {
		return err
	}
	failure := &jobs.Failure{Class: jobs.ClassTransient, Rule: "self-test", Message: "self-test"}
	return s.Settle(ctx, b, delivery.Verdict{Outcome: delivery.Retry, Failure: failure, Delay: time.Hour})
}

const scratchOwner = "doctor"

// scratch makes pending jobs without making their queue known to anyone.
func (s *Store) scratch(ctx context.Context, queue string, keys ...string) error {
	_, err := s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, key := range keys {
			m := message{Type: "perdure.doctor", ID: key, Queue: queue, Timeout: 60}
			pipe.HSet(ctx, taskKey(queue, key), "msg", m.encode(), "state", "pending")
			pipe.Expire(ctx, taskKey(queue, key), scratchStands)
			pipe.LPush(ctx, pendingKey(queue), key)
			pipe.Expire(ctx, pendingKey(queue), scratchStands)
		}
		return nil
	})
	return err
}

// removeScratch removes every key that the scratch jobs have made.
func (s *Store) removeScratch(ctx context.Context, queue string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	day, total, failedDay, failed, _ := s.counters(queue)
	s.rdb.Del(ctx, taskKey(queue, "a"), taskKey(queue, "b"), pendingKey(queue), activeKey(queue), leaseKey(queue), retryKey(queue),
		completedKey(queue), tokensKey(queue), forgottenKey(queue), ownerKey(queue, scratchOwner), day, total, failedDay, failed, tenantsKey(queue))
}
