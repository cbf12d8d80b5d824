package store

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
)

var (
	kindA = jobs.Define[map[string]any, string]("kind.a", jobs.Queue("q")).Definition()
	kindB = jobs.Define[map[string]any, string]("kind.b", jobs.Queue("q")).Definition()
	why   = jobs.Decision{Actor: "ada", Reason: "because"}
)

// fixture is a store on a database of the test's own.
type fixture struct {
	*Store
	t   testing.TB
	ctx context.Context
}

func open(t testing.TB) *fixture {
	rdb := redistest.Client(t)
	return &fixture{Store: New(rdb, rdb), t: t, ctx: context.Background()}
}

func (f *fixture) ok(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) enqueue(key string, options ...jobs.JobOption) jobs.Handle {
	f.t.Helper()
	h, err := f.Enqueue(f.ctx, jobs.Raw(kindA, key, json.RawMessage(`{"a":1,"b":2}`), options...))
	f.ok(err)
	return h
}

// take claims one job for owner o.
func (f *fixture) take() delivery.Delivery {
	f.t.Helper()
	return f.takeAs("o")
}

func (f *fixture) takeAs(owner string) delivery.Delivery {
	f.t.Helper()
	batch, err := f.Claim(f.ctx, "q", owner, 1)
	f.ok(err)
	if len(batch.Deliveries) != 1 {
		f.t.Fatalf("claimed %d jobs: %+v", len(batch.Deliveries), batch)
	}
	d := batch.Deliveries[0]
	d.Version = 1
	return d
}

// running enqueues and claims a job.
func (f *fixture) running(key string) delivery.Delivery {
	f.t.Helper()
	f.enqueue(key)
	return f.take()
}

var failed = jobs.Failure{Class: jobs.ClassTransient, Rule: "r", Message: "boom", At: time.Unix(1700000000, 0).UTC(), Worker: "w", Attempt: 1}

// verdicts is one verdict of each outcome.
var verdicts = map[delivery.Outcome]delivery.Verdict{
	delivery.Complete:   {Outcome: delivery.Complete, Result: []byte(`"done"`)},
	delivery.Retry:      {Outcome: delivery.Retry, Failure: &failed, Delay: time.Hour},
	delivery.Pause:      {Outcome: delivery.Pause, Failure: &failed, Delay: time.Hour, Waiting: jobs.Waiting{Type: "kind", Name: "pay ments"}},
	delivery.Quarantine: {Outcome: delivery.Quarantine, Failure: &failed, Entry: delivery.Entry{Class: failed.Class, Reason: "exhausted", Message: "boom"}},
	delivery.Cancel:     {Outcome: delivery.Cancel, Reason: "not wanted", Actor: "ada"},
	delivery.HandBack:   {Outcome: delivery.HandBack},
	delivery.Park:       {Outcome: delivery.Park, Waiting: jobs.Waiting{Type: "signal", Name: "go"}, Waits: []string{"go"}},
	delivery.Continue:   {Outcome: delivery.Continue, Payload: []byte(`{"a":7}`)},
	delivery.Takeback: {Outcome: delivery.Takeback, Failure: &failed, Reason: "exhausted", Undo: &delivery.Undo{
		Outcome: delivery.Quarantine, Reason: "exhausted", Entry: delivery.Entry{Class: failed.Class, Reason: "exhausted", Message: "boom"}, Since: failed.At,
	}},
	delivery.Suspect: {Outcome: delivery.Suspect, Failure: &failed},
}

func outcomes() []delivery.Outcome { return slices.Sorted(maps.Keys(verdicts)) }

// settle sends a verdict and returns its script's code.
func (f *fixture) settle(d delivery.Delivery, outcome delivery.Outcome) int64 {
	f.t.Helper()
	v := verdicts[outcome]
	var code int64
	var err error
	switch outcome {
	case delivery.Complete:
		code, err = f.complete(f.ctx, d, v)
	case delivery.Retry:
		code, err = f.retry(f.ctx, d, v)
	case delivery.Pause:
		code, err = f.pause(f.ctx, d, v)
	case delivery.Quarantine:
		code, err = f.quarantine(f.ctx, d, v)
	case delivery.Cancel:
		code, err = f.cancelled(f.ctx, d, v)
	case delivery.Park:
		code, err = f.park(f.ctx, d, v)
	case delivery.Continue:
		code, err = f.continueAs(f.ctx, d, v)
	case delivery.Takeback:
		code, err = f.takeback(f.ctx, d, v)
	case delivery.Suspect:
		code, err = f.suspect(f.ctx, d, v)
	case delivery.HandBack:
		code, err = f.runCode(f.ctx, "handback", append(heldKeys(d.Hold), pendingKey(d.Queue)), d.Key, d.Token)
	}
	f.ok(err)
	return code
}

// quarantined makes a job, runs it and quarantines it.
func (f *fixture) quarantined(key string) delivery.Delivery {
	f.t.Helper()
	d := f.running(key)
	f.settle(d, delivery.Quarantine)
	return d
}

// keyspace is a database as text: a string by its key, a list by its key from
// left to right, a member of a hash or sorted set by key and member.
type keyspace map[string]string

func (f *fixture) dump() keyspace {
	f.t.Helper()
	all := keyspace{}
	keys, err := f.rdb.Keys(f.ctx, "*").Result()
	f.ok(err)
	for _, key := range keys {
		kind, err := f.rdb.Type(f.ctx, key).Result()
		f.ok(err)
		if ttl := f.rdb.TTL(f.ctx, key).Val(); ttl > 0 {
			all[key+" ttl"] = "set"
		}
		switch kind {
		case "string":
			all[key] = f.rdb.Get(f.ctx, key).Val()
		case "list":
			all[key] = strings.Join(f.rdb.LRange(f.ctx, key, 0, -1).Val(), ",")
		case "set":
			members := f.rdb.SMembers(f.ctx, key).Val()
			slices.Sort(members)
			all[key] = strings.Join(members, ",")
		case "hash":
			for field, value := range f.rdb.HGetAll(f.ctx, key).Val() {
				all[key+" "+field] = value
			}
		case "zset":
			for _, z := range f.rdb.ZRangeWithScores(f.ctx, key, 0, -1).Val() {
				all[fmt.Sprintf("%s %v", key, z.Member)] = fmt.Sprintf("%.0f", z.Score)
			}
		case "stream":
			for i, entry := range f.rdb.XRange(f.ctx, key, "-", "+").Val() {
				v := entry.Values
				all[fmt.Sprintf("%s %d", key, i)] = fmt.Sprintf("%v %v by %v: %v", v["what"], v["key"], v["actor"], v["reason"])
				if v["after"] != nil {
					all[fmt.Sprintf("%s %d", key, i)] += fmt.Sprintf(" (%v -> %v)", v["before"], v["after"])
				}
				if v["mac"] != nil {
					all[fmt.Sprintf("%s %d", key, i)] = fmt.Sprintf("%v after %q", v["mac"], v["prev"])
				}
			}
		}
	}
	return all
}

var (
	dayText   = regexp.MustCompile(`\d{4}-\d\d-\d\d`)
	timeText  = regexp.MustCompile(`\b\d{10,19}\b`)
	nonceText = regexp.MustCompile(`:decided:\w+`)
	sigText   = regexp.MustCompile(`\b[0-9a-f]{12}\b`)
	jsonField = regexp.MustCompile(`^([-~+]\S+ (msg|p:dead|[fe]:\d+|about))=(?s:.*)$`)
)

// changes says how b differs from a, one change a line, with times and stored
// messages left out.
func changes(a, b keyspace) []string {
	var all []string
	for path, was := range a {
		if is, ok := b[path]; !ok {
			all = append(all, "-"+path)
		} else if is != was {
			all = append(all, "~"+path+"="+is)
		}
	}
	for path, is := range b {
		if _, ok := a[path]; !ok {
			all = append(all, "+"+path+"="+is)
		}
	}
	for i, line := range all {
		line = jsonField.ReplaceAllString(line, "$1")
		line = sigText.ReplaceAllString(line, "<signature>")
		all[i] = timeText.ReplaceAllString(dayText.ReplaceAllString(nonceText.ReplaceAllString(line, ":decided:<nonce>"), "<day>"), "<time>")
	}
	slices.Sort(all)
	return all
}

// nextMilli returns in a later millisecond, by Redis' clock.
func (f *fixture) nextMilli() {
	f.t.Helper()
	for began := f.redisMilli(); f.redisMilli() == began; {
	}
}

func (f *fixture) redisMilli() int64 {
	f.t.Helper()
	now, err := f.rdb.Time(f.ctx).Result()
	f.ok(err)
	return now.UnixMilli()
}

// same fails unless nothing has changed since before.
func (f *fixture) same(before keyspace, what string) {
	f.t.Helper()
	if changed := changes(before, f.dump()); len(changed) > 0 {
		f.t.Errorf("%s changed:\n%s", what, strings.Join(changed, "\n"))
	}
}

func (f *fixture) field(key, field string) string {
	return f.rdb.HGet(f.ctx, taskKey("q", key), field).Val()
}

func (f *fixture) state(key string) jobs.State {
	f.t.Helper()
	info, err := f.Get(f.ctx, "q", key)
	f.ok(err)
	return info.State
}

// due makes a waiting job due now.
func (f *fixture) due(key string) {
	for _, set := range []string{scheduledKey("q"), retryKey("q")} {
		f.rdb.ZAddXX(f.ctx, set, redis.Z{Score: 1, Member: key})
	}
	if f.field(key, "p:due") != "" {
		f.rdb.HSet(f.ctx, taskKey("q", key), "p:due", 1000)
	}
}

// decisions returns the recorded ones as text, oldest first.
func (f *fixture) decisions() []string {
	f.t.Helper()
	events, err := f.Events(f.ctx, "q", 500)
	f.ok(err)
	slices.Reverse(events)
	var all []string
	for _, e := range events {
		all = append(all, fmt.Sprintf("%s %s by %s: %s", e.What, e.Key, e.Actor, e.Reason))
	}
	return all
}

func (f *fixture) wantDecisions(want ...string) {
	f.t.Helper()
	if got := f.decisions(); !slices.Equal(got, want) {
		f.t.Errorf("decisions %q, want %q", got, want)
	}
}
