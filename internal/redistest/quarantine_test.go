package redistest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestTheQuarantineIsCompared(t *testing.T) {
	t.Parallel()
	Foreign(t)
	rdb, ctx := Client(t), t.Context()
	add := func(set string, keys ...string) {
		for _, key := range keys {
			if err := rdb.ZAdd(ctx, set, redis.Z{Score: 1, Member: key}).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	add("asynq:{q}:archived", "both", "asynq")
	add("perdure:{q}:dead", "both", "ours", "sent-back")
	add("perdure:{q}:groups", "s", "t")
	add("perdure:{q}:groups:s:keys", "both")
	add("perdure:{q}:groups:t:keys", "ours")
	if err := rdb.HSet(ctx, "asynq:{q}:t:sent-back", "state", "pending").Err(); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"asynq is in asynq:{q}:archived and not in perdure:{q}:dead", "ours is in perdure:{q}:dead and not in asynq:{q}:archived",
		"its groups have 2 jobs, its index 3",
	}
	if got := unequal(ctx, rdb, "q"); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

// TestWhichQueuesAreCompared: those that perdure knows, also where nothing is left in
// its index.
func TestWhichQueuesAreCompared(t *testing.T) {
	t.Parallel()
	rdb, ctx := Client(t), t.Context()
	for _, name := range []string{"asynq:{theirs}:archived", "perdure:{ours}:dead", "asynq:{ours}:archived"} {
		if err := rdb.ZAdd(ctx, name, redis.Z{Score: 1, Member: "k"}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, add := range [][2]string{{"perdure:{ours}:groups", "s"}, {"perdure:{ours}:groups:s:keys", "k"}} {
		if err := rdb.ZAdd(ctx, add[0], redis.Z{Score: 1, Member: add[1]}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := rdb.Set(ctx, "perdure:{served}:tokens", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := queues(ctx, rdb); err != nil || !slices.Equal(got, []string{"ours", "served"}) {
		t.Errorf("found %q, %v", got, err)
	}
}

// teller is a test that says what it was told.
type teller struct {
	testing.TB
	told []string
}

func (c *teller) Errorf(format string, args ...any) {
	c.told = append(c.told, fmt.Sprintf(format, args...))
}
func (c *teller) Failed() bool { return len(c.told) > 0 }

// TestAnOwnServerIsCompared: also one that was frozen, or killed and started again.
func TestAnOwnServerIsCompared(t *testing.T) {
	t.Parallel()
	for what, harm := range map[string]func(s *Server){"plain": func(*Server) {}, "frozen": (*Server).Freeze, "restarted": (*Server).Restart} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := NewServer(t)
			o, err := redis.ParseURL(s.URL())
			if err != nil {
				t.Fatal(err)
			}
			rdb := redis.NewClient(o)
			defer rdb.Close()
			if err := rdb.ZAdd(t.Context(), "perdure:{q}:dead", redis.Z{Score: 1, Member: "k"}).Err(); err != nil {
				t.Fatal(err)
			}
			harm(s)
			told := &teller{TB: t}
			s.t = told
			s.end()
			if len(told.told) != 2 || !strings.Contains(told.told[0], "k is in perdure:{q}:dead and not in asynq:{q}:archived") {
				t.Errorf("told %q", told.told)
			}
			s.t = t
		})
	}
}
