// Package replay_test resumes jobs that each release has left behind, with today's code.
//
// testdata has a file for each release: the Redis of jobs that a release's worker has
// brought to a rest, each in another way. Before a release, write its file with
//
//	go test ./test/replay -record v1.2
//
// and commit it. It is never changed again: a job that a customer has in Redis does
// not change either.
package replay_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/worker"
)

var record = flag.String("record", "", "write the records of this release instead of checking those that are there")

func TestMain(m *testing.M) { redistest.Main(m) }

var by = jobs.Decision{Actor: "test", Reason: "the shop is open again"}

// one is a recorded job: how it came to a rest, and what becomes of it from there.
type one struct {
	what   string
	rest   jobs.State
	signal string // that it is given after its rest
	ahead  string // and before it waits
	result string
	ran    string // steps whose function runs after the rest
	state  jobs.State
}

var ones = []one{
	{what: "sleep", rest: jobs.StatePaused, result: "sleep, ok charge, slept"},
	{what: "signal", rest: jobs.StatePaused, signal: "paid", result: "signal, ok charge, cash"},
	{what: "kept signal", rest: jobs.StatePaused, signal: "first", ahead: "paid", result: "kept-signal, ok charge, cash"},
	{what: "child", rest: jobs.StatePaused, result: "child, ok charge, label child"},
	{what: "progress", rest: jobs.StatePaused, result: "progress, ok charge, counted on from 7"},
	{what: "refused", rest: jobs.StateQuarantined, ran: "undo/pack undo/charge", state: jobs.StateQuarantined},
	{what: "rounds", rest: jobs.StatePaused, signal: "paid", result: "rounds+, ok charge, cash"},
}

func (o one) key() string { return strings.ReplaceAll(o.what, " ", "-") }

// TestRecordsOfEachReleaseResume fails when a job that a release has left behind does
// not come to its end any more, or repeats a step.
func TestRecordsOfEachReleaseResume(t *testing.T) {
	if *record != "" {
		write(t, *record)
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no records: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			t.Parallel()
			rdb := redistest.Client(t)
			load(t, rdb, file)
			s := store.New(rdb, rdb)
			open := &shop{ran: map[string][]string{}}
			resume(t, s)
			stop := run(t, s, open)
			for _, o := range ones {
				o.check(t, s, open)
			}
			stop()
		})
	}
}

// resume does what people do once the shop is open.
func resume(t *testing.T, s *store.Store) {
	t.Helper()
	for _, o := range ones {
		if o.rest == jobs.StateQuarantined {
			_, err := s.Replay(t.Context(), "default", o.key(), false, by)
			ok(t, err)
		}
		if o.signal != "" {
			give(t, s, "default", o.key(), o.signal)
		}
	}
	paper, err := jobs.NewSignal("paper", true)
	ok(t, err)
	ok(t, s.Signal(t.Context(), "labels", "child~label", paper))
}

func (o one) check(t *testing.T, s *store.Store, open *shop) {
	t.Helper()
	want := o.state
	if want == "" {
		want = jobs.StateCompleted
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	info, err := s.Wait(ctx, "default", o.key())
	ok(t, err)
	result, err := fulfil.Result(info)
	open.mu.Lock()
	ran := strings.Join(open.ran[o.key()], " ")
	open.mu.Unlock()
	if info.State != want || want == jobs.StateCompleted && (err != nil || result != o.result) || ran != o.ran {
		t.Errorf("%s is %s with %q (%v) after it ran %q, want %s with %q after %q: %+v", o.key(), info.State, result, err, ran, want, o.result, o.ran, info)
	}
}

// write brings a job of each sort to a rest and keeps the Redis.
func write(t *testing.T, release string) {
	t.Helper()
	if !regexp.MustCompile(`^[a-z0-9.-]+$`).MatchString(release) {
		t.Fatalf("-record %q: must be of a-z 0-9 . -", release)
	}
	rdb := redistest.Client(t)
	s := store.New(rdb, rdb)
	stop := run(t, s, &shop{closed: true, ran: map[string][]string{}})
	for _, o := range ones {
		_, err := s.Enqueue(t.Context(), fulfil.New(o.key(), order{ID: o.key(), What: o.what}))
		ok(t, err)
		if o.ahead != "" {
			give(t, s, "default", o.key(), o.ahead)
		}
	}
	for _, o := range ones {
		atRest(t, s, "default", o.key(), o.rest)
	}
	atRest(t, s, "labels", "child~label", jobs.StatePaused)
	stop()
	save(t, rdb, filepath.Join("testdata", release+".json"))
}

func atRest(t *testing.T, s *store.Store, queue, key string, state jobs.State) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		info, err := s.Get(t.Context(), queue, key)
		if err == nil && info.State == state && (key != "rounds" || info.Round == 1) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s/%s is %+v, %v", queue, key, info, err)
		}
	}
}

func give(t *testing.T, s *store.Store, queue, key, name string) {
	t.Helper()
	signal, err := jobs.NewSignal(name, "cash")
	ok(t, err)
	ok(t, s.Signal(t.Context(), queue, key, signal))
}

func run(t *testing.T, s *store.Store, open *shop) (stop func()) {
	t.Helper()
	w, err := worker.New(s, worker.Options{Handlers: open.handlers()})
	ok(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	go keepHouse(ctx, s)
	return func() { cancel(); ok(t, <-done) }
}

// keepHouse has due jobs and what they have to tell go on.
func keepHouse(ctx context.Context, s *store.Store) {
	for ctx.Err() == nil {
		for _, queue := range []string{"default", "labels"} {
			_, _ = s.Promote(ctx, queue)
			_, _ = s.Relay(ctx, queue)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// value is a Redis key's.
type value struct {
	Type   string            `json:"type"`
	String []byte            `json:"string,omitempty"`
	List   [][]byte          `json:"list,omitempty"` // of a set too
	Hash   map[string][]byte `json:"hash,omitempty"`
	Scores map[string]string `json:"scores,omitempty"`
}

func save(t *testing.T, rdb *redis.Client, file string) {
	t.Helper()
	all := map[string]value{}
	keys, err := rdb.Keys(t.Context(), "*").Result()
	ok(t, err)
	slices.Sort(keys)
	for _, key := range keys {
		if v := read(t, rdb, key); v.Type != "stream" && rdb.TTL(t.Context(), key).Val() < 0 { // what people decided, and what goes by itself
			all[key] = v
		}
	}
	data, err := json.MarshalIndent(all, "", " ")
	ok(t, err)
	ok(t, os.WriteFile(file, append(data, '\n'), 0o644))
}

func read(t *testing.T, rdb *redis.Client, key string) value {
	t.Helper()
	ctx := t.Context()
	v := value{Type: rdb.Type(ctx, key).Val()}
	bytes := func(texts []string) (list [][]byte) {
		for _, text := range texts {
			list = append(list, []byte(text))
		}
		return list
	}
	switch v.Type {
	case "string":
		v.String = []byte(rdb.Get(ctx, key).Val())
	case "list":
		v.List = bytes(rdb.LRange(ctx, key, 0, -1).Val())
	case "set":
		v.List = bytes(rdb.SMembers(ctx, key).Val())
	case "hash":
		v.Hash = map[string][]byte{}
		for field, text := range rdb.HGetAll(ctx, key).Val() {
			v.Hash[field] = []byte(text)
		}
	case "zset":
		v.Scores = map[string]string{}
		for _, z := range rdb.ZRangeWithScores(ctx, key, 0, -1).Val() {
			v.Scores[fmt.Sprint(z.Member)] = fmt.Sprintf("%.3f", z.Score)
		}
	}
	return v
}

func load(t *testing.T, rdb *redis.Client, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	ok(t, err)
	all := map[string]value{}
	ok(t, json.Unmarshal(data, &all))
	ctx := t.Context()
	for key, v := range all {
		switch v.Type {
		case "string":
			ok(t, rdb.Set(ctx, key, v.String, 0).Err())
		case "list":
			for _, item := range v.List {
				ok(t, rdb.RPush(ctx, key, item).Err())
			}
		case "set":
			for _, item := range v.List {
				ok(t, rdb.SAdd(ctx, key, item).Err())
			}
		case "hash":
			for field, text := range v.Hash {
				ok(t, rdb.HSet(ctx, key, field, text).Err())
			}
		case "zset":
			for member, score := range v.Scores {
				ok(t, rdb.Do(ctx, "ZADD", key, score, member).Err())
			}
		default:
			t.Fatalf("%s is a %s", key, v.Type)
		}
	}
}
