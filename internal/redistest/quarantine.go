package redistest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// checkQuarantine fails a test that leaves a quarantine behind in which asynq's
// archived set, perdure's dead index and its groups are not the same jobs. A job that asynq's
// "run now" has sent back is on the index alone until it is claimed.
func checkQuarantine(ctx context.Context, t testing.TB, rdb *redis.Client) {
	served, err := rdb.Keys(ctx, "perdure:{*}:tokens").Result()
	if err != nil {
		t.Errorf("check the quarantine: %v", err)
	}
	for _, counter := range served {
		queue := strings.TrimSuffix(strings.TrimPrefix(counter, "perdure:{"), "}:tokens")
		for _, wrong := range unequal(ctx, rdb, queue) {
			t.Errorf("quarantine of %s: %s (a test that means it calls redistest.Foreign)", queue, wrong)
		}
	}
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
