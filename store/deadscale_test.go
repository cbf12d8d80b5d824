package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/deadletter"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
)

func TestMain(m *testing.M) {
	if url := os.Getenv("PERDURE_TEST_RUN_PLANS"); url != "" {
		runPlans(url)
	}
	if url := os.Getenv("PERDURE_TEST_MOVE"); url != "" {
		os.Exit(moveAll(url, os.Getenv("PERDURE_TEST_FILE")))
	}
	redistest.Main(m)
}

func openURL(t testing.TB, url string) *fixture {
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(options)
	t.Cleanup(func() { _ = rdb.Close() })
	return &fixture{Store: New(rdb, rdb), t: t, ctx: context.Background()}
}

// bulkDead puts n entries into quarantine, of 20 kinds and 100 signatures, a
// millisecond apart.
func (f *fixture) bulkDead(n int) {
	f.t.Helper()
	var all sync.WaitGroup
	began := time.Now().Add(-time.Duration(n) * time.Millisecond).Truncate(time.Millisecond)
	const writers = 8
	for w := range writers {
		all.Go(func() {
			for i := w; i < n; i += writers {
				if _, err := f.Restore(f.ctx, bulkRecord(i, began.Add(time.Duration(i)*time.Millisecond)), why); err != nil {
					f.t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

func bulkRecord(i int, at time.Time) delivery.DeadRecord {
	key := fmt.Sprintf("job-%07d", i)
	m := &message{Type: fmt.Sprintf("kind.%d", i%20), Payload: fmt.Appendf(nil, `{"n":%d}`, i), ID: key, Queue: "q", Headers: map[string]string{headerIncarnation: key}}
	words := []string{"red", "green", "blue", "black", "white"}
	e := delivery.Entry{Class: jobs.ClassInvalid, Kind: m.Type, Version: 1, Tenant: fmt.Sprint("t", i%7), Message: "bad " + words[i/20%5]}.Signed()
	return delivery.DeadRecord{
		Dead:   delivery.Dead{Entry: e, Queue: "q", Key: key, At: at},
		Fields: map[string]string{"msg": string(m.encode()), "state": "archived", "p:dead": mustJSON(e), "s:first": "1 1700000000000 1700000000001 \xff\x00"},
	}
}

// TestALargeQuarantine lists, groups and counts, and moves everything out and back
// in while the process that moves is killed again and again.
func TestALargeQuarantine(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	f := openURL(t, url)
	f.bulkDead(scale)
	f.pagesAreFast(t)
	before := f.fingerprint()
	if len(before) != scale {
		t.Fatalf("%d entries, want %d", len(before), scale)
	}
	path := filepath.Join(t.TempDir(), "moved")
	f.moveWithKills(t, url, path)
	if n := f.rdb.ZCard(f.ctx, deadKey("q")).Val() + f.rdb.ZCard(f.ctx, archivedKey("q")).Val(); n != 0 {
		t.Fatalf("%d are left", n)
	}
	file, err := os.Open(path)
	f.ok(err)
	defer file.Close()
	done, err := deadletter.New(f.Store).Import(f.ctx, file, why, nil)
	if err != nil || done.Restored != scale || done.Broken+done.Conflict != 0 {
		t.Fatalf("import: %v %+v", err, done)
	}
	if after := f.fingerprint(); !maps.Equal(before, after) {
		t.Errorf("what came back is not what went out: %d entries, want %d", len(after), len(before))
	}
}

// pagesAreFast: the fastest of a few is taken, because the machine does other things
// too.
func (f *fixture) pagesAreFast(t *testing.T) {
	t.Helper()
	groups, _, err := f.DeadGroups(f.ctx, "q", "", 500, "")
	if err != nil || len(groups) != 100 {
		t.Fatalf("%d groups, %v", len(groups), err)
	}
	middle, err := f.rdb.ZRange(f.ctx, deadKey("q"), scale/2, scale/2).Result()
	f.ok(err)
	at := f.rdb.ZScore(f.ctx, deadKey("q"), middle[0]).Val()
	deep := cursor{Queue: "q", State: jobs.StateQuarantined, Member: middle[0], Score: fmt.Sprintf("%.0f", at)}.encode()
	for name, look := range map[string]func() (int, error){
		"first page":   f.look(delivery.DeadQuery{Queue: "q"}),
		"deep page":    f.look(delivery.DeadQuery{Queue: "q", Cursor: deep}),
		"latest first": f.look(delivery.DeadQuery{Queue: "q", Newest: true}),
		"of a group":   f.look(delivery.DeadQuery{Queue: "q", Filter: delivery.DeadFilter{Signature: groups[50].Signature}}),
		"of a kind":    f.look(delivery.DeadQuery{Queue: "q", Filter: delivery.DeadFilter{Kind: "kind.3"}}),
		"of a time":    f.look(delivery.DeadQuery{Queue: "q", Filter: delivery.DeadFilter{Since: time.UnixMilli(int64(at))}}),
		"with a text":  f.look(delivery.DeadQuery{Queue: "q", Filter: delivery.DeadFilter{Text: "BLACK"}}),
		"page of groups": func() (int, error) {
			groups, _, err := f.DeadGroups(f.ctx, "q", "", 50, "")
			return len(groups), err
		},
	} {
		best := time.Hour
		for range 5 {
			began := time.Now()
			n, err := look()
			if best = min(best, time.Since(began)); err != nil || n != 50 {
				t.Fatalf("%s: %d entries, %v", name, n, err)
			}
		}
		if t.Logf("%s: %v", name, best); best > slowPage {
			t.Errorf("%s takes %v, at most %v", name, best, slowPage)
		}
	}
}

func (f *fixture) look(q delivery.DeadQuery) func() (int, error) {
	return func() (int, error) {
		page, err := f.Dead(f.ctx, q)
		return len(page.Entries), err
	}
}

// fingerprint is what each entry is made of, by its key.
func (f *fixture) fingerprint() map[string]string {
	f.t.Helper()
	found := map[string]string{}
	for q := (delivery.DeadQuery{Queue: "q", Limit: maxBatch}); ; {
		page, err := f.Dead(f.ctx, q)
		f.ok(err)
		keys := []string{}
		for _, d := range page.Entries {
			keys = append(keys, d.Key)
		}
		records, err := f.DeadRecords(f.ctx, "q", keys)
		f.ok(err)
		for _, r := range records {
			h := sha256.New()
			for _, field := range slices.Sorted(maps.Keys(r.Fields)) {
				fmt.Fprintf(h, "%q=%q ", field, r.Fields[field])
			}
			fmt.Fprint(h, r.At)
			found[r.Key] = hex.EncodeToString(h.Sum(nil))
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return found
		}
	}
}

// moveAll moves everything out of quarantine, in a process of its own.
func moveAll(url, path string) int {
	options, err := redis.ParseURL(url)
	if err == nil {
		rdb := redis.NewClient(options)
		_, err = deadletter.New(New(rdb, rdb)).MoveOut(context.Background(), "q", delivery.DeadFilter{}, path, why, nil)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// moveWithKills kills the process that moves entries ten times, each time after some
// more of them have left, and lets the last one end.
func (f *fixture) moveWithKills(t *testing.T, url, path string) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	for kills := range 10 {
		mover := child(t, "PERDURE_TEST_MOVE="+url, "PERDURE_TEST_FILE="+path)
		until := int64(scale - scale/12*kills - random.IntN(scale/12))
		for f.rdb.ZCard(f.ctx, deadKey("q")).Val() > until {
			time.Sleep(time.Duration(random.IntN(2000)) * time.Microsecond)
		}
		kill(t, mover)
	}
	mover := child(t, "PERDURE_TEST_MOVE="+url, "PERDURE_TEST_FILE="+path)
	if err := mover.Wait(); err != nil {
		t.Fatal(errors.Join(errors.New("the last move"), err))
	}
}
