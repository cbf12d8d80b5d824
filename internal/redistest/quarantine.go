package redistest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// checkQuarantine fails a test that leaves a quarantine behind in which asynq's
// archived set, perdure's dead index and its groups are not the same jobs. A job that asynq's
// "run now" has sent back is on the index alone until it is claimed.
func checkQuarantine(ctx context.Context, t testing.TB, rdb *redis.Client) {
	served, err := queues(ctx, rdb)
	if err != nil {
		t.Errorf("check the quarantine: %v", err)
	}
	for _, queue := range served {
		for _, wrong := range unequal(ctx, rdb, queue) {
			t.Errorf("quarantine of %s: %s (a test that means it calls redistest.Foreign)", queue, wrong)
		}
	}
}

// queues are those that perdure has claimed from or quarantined in. What asynq has
// archived in others is nobody's here.
func queues(ctx context.Context, rdb *redis.Client) ([]string, error) {
	found := map[string]bool{}
	for _, suffix := range []string{"}:tokens", "}:dead"} {
		names, err := rdb.Keys(ctx, "perdure:{*"+suffix).Result()
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			found[strings.TrimSuffix(strings.TrimPrefix(name, "perdure:{"), suffix)] = true
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// unequal says which jobs are on one of the two sets alone.
func unequal(ctx context.Context, rdb *redis.Client, queue string) (wrong []string) {
	asynqs, ours := "asynq:{"+queue+"}:", "perdure:{"+queue+"}:"
	for _, pair := range [][2]string{{asynqs + "archived", ours + "dead"}, {ours + "dead", asynqs + "archived"}} {
		alone, err := rdb.ZDiff(ctx, pair[0], pair[1]).Result()
		if err != nil {
			return append(wrong, err.Error())
		}
		for _, key := range alone {
			if pair[0] == ours+"dead" && rdb.HGet(ctx, asynqs+"t:"+key, "state").Val() == "pending" {
				continue
			}
			wrong = append(wrong, fmt.Sprintf("%s is in %s and not in %s", key, pair[0], pair[1]))
		}
	}
	return append(wrong, uncounted(ctx, rdb, ours)...)
}

// uncounted says whether the groups have as many jobs as the index.
func uncounted(ctx context.Context, rdb *redis.Client, ours string) []string {
	groups, err := rdb.ZRange(ctx, ours+"groups", 0, -1).Result()
	if err != nil {
		return []string{err.Error()}
	}
	grouped := int64(0)
	for _, signature := range groups {
		grouped += rdb.ZCard(ctx, ours+"groups:"+signature+":keys").Val()
	}
	if indexed := rdb.ZCard(ctx, ours+"dead").Val(); grouped != indexed {
		return []string{fmt.Sprintf("its groups have %d jobs, its index %d", grouped, indexed)}
	}
	return nil
}
