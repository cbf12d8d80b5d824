package redistest

import (
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestTheQuarantineIsCompared(t *testing.T) {
	t.Parallel()
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
