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
	"strings"
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
		os.Exit(aside(url, func(q *deadletter.Quarantine) error { return moveAll(q, os.Getenv("PERDURE_TEST_FILE")) }))
	}
	if url := os.Getenv("PERDURE_TEST_IMPORT"); url != "" {
		os.Exit(aside(url, func(q *deadletter.Quarantine) error { return importAll(q, os.Getenv("PERDURE_TEST_FILE")) }))
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
// in while the process that does so is killed again and again.
func TestALargeQuarantine(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	f := openURL(t, url)
	if mostMemory != "" {
		f.ok(f.rdb.ConfigSet(f.ctx, "maxmemory", mostMemory).Err())
	}
	began := time.Now()
	f.bulkDead(scale)
	t.Logf("%d entries put into quarantine in %v", scale, time.Since(began).Round(time.Second))
	f.pagesAreFast(t)
	f.countsAll(t)
	f.saysItsMemory(t)
	before := f.fingerprint()
	if len(before) != scale {
		t.Fatalf("%d entries, want %d", len(before), scale)
	}
	path := filepath.Join(t.TempDir(), "moved")
	began = time.Now()
	f.moveWithKills(t, url, path)
	t.Logf("moved out in %v, with 10 kills", time.Since(began).Round(time.Second))
	if n := f.rdb.ZCard(f.ctx, deadKey("q")).Val() + f.rdb.ZCard(f.ctx, archivedKey("q")).Val(); n != 0 {
		t.Fatalf("%d are left", n)
	}
	began = time.Now()
	f.importWithKills(t, url, path)
	t.Logf("moved back in %v, with 3 kills", time.Since(began).Round(time.Second))
	after := f.fingerprint()
	t.Logf("Redis at its end: %s", f.redisMemory())
	if !maps.Equal(before, after) {
		t.Errorf("what came back is not what went out: %d entries, want %d", len(after), len(before))
	}
	t.Logf("%d entries before, %d after, as they were: %d dropped", len(before), len(after), len(before)-len(after))
}

// pagesAreFast: the median of some is taken, because the machine does other things
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
	for _, page := range []struct {
		name string
		want int
		look func() (int, error)
	}{
		{"first page", 50, f.look(delivery.DeadQuery{Queue: "q"})},
		{"deep page", 50, f.look(delivery.DeadQuery{Queue: "q", Cursor: deep})},
		{"latest first", 50, f.look(delivery.DeadQuery{Queue: "q", Newest: true})},
		{"of a group", 50, f.look(delivery.DeadQuery{Queue: "q", Filter: delivery.DeadFilter{Signature: groups[50].Signature}})},
		{"of a kind", 50, f.look(delivery.DeadQuery{Queue: "q", Filter: delivery.DeadFilter{Kind: "kind.3"}})},
		{"of a time", 50, f.look(delivery.DeadQuery{Queue: "q", Filter: delivery.DeadFilter{Since: time.UnixMilli(int64(at))}})},
		{"with a text", 50, f.look(delivery.DeadQuery{Queue: "q", Filter: delivery.DeadFilter{Text: "BLACK"}})},
		{"with a text that none has", 0, f.look(delivery.DeadQuery{Queue: "q", Filter: delivery.DeadFilter{Text: "violet"}})},
		{"of 500, as counting reads them", 500, f.look(delivery.DeadQuery{Queue: "q", Cursor: deep, Limit: 500})},
		{"page of groups", 50, func() (int, error) {
			groups, _, err := f.DeadGroups(f.ctx, "q", "", 50, "")
			return len(groups), err
		}},
	} {
		var all []time.Duration
		for range 21 {
			began := time.Now()
			n, err := page.look()
			if all = append(all, time.Since(began)); err != nil || n != page.want {
				t.Fatalf("%s: %d entries, %v", page.name, n, err)
			}
		}
		slices.Sort(all)
		if t.Logf("%s: median %v, slowest %v", page.name, all[10], all[20]); all[10] > slowPage {
			t.Errorf("%s takes %v, at most %v", page.name, all[10], slowPage)
		}
	}
}

// countsAll counts everything, a page at a time.
func (f *fixture) countsAll(t *testing.T) {
	t.Helper()
	var pages []time.Duration
	began := time.Now()
	last := began
	n, err := deadletter.New(f.Store).Count(f.ctx, "q", delivery.DeadFilter{}, func(deadletter.Count) {
		pages, last = append(pages, time.Since(last)), time.Now()
	})
	f.ok(err)
	slices.Sort(pages)
	median := pages[len(pages)/2]
	t.Logf("counted %d in %v: %d pages, median %v, slowest %v", n.Entries, time.Since(began).Round(time.Millisecond), len(pages), median, pages[len(pages)-1])
	if n.Entries != scale || n.Replayable != scale || len(n.Signatures) != 100 || median > slowPage {
		t.Errorf("%d entries, %d replayable, %d signatures; a page takes %v, at most %v", n.Entries, n.Replayable, len(n.Signatures), median, slowPage)
	}
}

// saysItsMemory: what doctor reckons from a sample is what Redis has allocated.
func (f *fixture) saysItsMemory(t *testing.T) {
	t.Helper()
	all, err := f.DeadMemory(f.ctx)
	if err != nil || len(all) != 1 || all[0].Entries != scale || all[0].Groups != 100 {
		t.Fatalf("%+v, %v", all, err)
	}
	each := all[0].Bytes / scale
	t.Logf("%d MiB, %d bytes an entry; Redis in all: %s", all[0].Bytes>>20, each, f.redisMemory())
	if each < 300 || each > 3000 {
		t.Errorf("%d bytes an entry", each)
	}
}

// redisMemory is what Redis has allocated, with the record of decisions.
func (f *fixture) redisMemory() string {
	_, text, _ := strings.Cut(f.rdb.Info(f.ctx, "memory").Val(), "used_memory_human:")
	text, _, _ = strings.Cut(text, "\r")
	return text
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

// aside does something to the quarantine in a process of its own.
func aside(url string, do func(*deadletter.Quarantine) error) int {
	options, err := redis.ParseURL(url)
	if err == nil {
		rdb := redis.NewClient(options)
		err = do(deadletter.New(New(rdb, rdb)))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func moveAll(q *deadletter.Quarantine, path string) error {
	_, err := q.MoveOut(context.Background(), "q", delivery.DeadFilter{}, path, why, nil)
	return err
}

func importAll(q *deadletter.Quarantine, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	done, err := q.Import(context.Background(), file, why, nil)
	if err == nil && done.Broken+done.Conflict > 0 {
		err = fmt.Errorf("import: %+v", done)
	}
	return err
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
		if f.rdb.ZCard(f.ctx, deadKey("q")).Val() == 0 {
			t.Fatal("the mover was killed after its work was done")
		}
	}
	mover := child(t, "PERDURE_TEST_MOVE="+url, "PERDURE_TEST_FILE="+path)
	if err := mover.Wait(); err != nil {
		t.Fatal(errors.Join(errors.New("the last move"), err))
	}
}

// importWithKills does the same to the process that puts entries back, three times.
func (f *fixture) importWithKills(t *testing.T, url, path string) {
	t.Helper()
	for kills := range 3 {
		mover := child(t, "PERDURE_TEST_IMPORT="+url, "PERDURE_TEST_FILE="+path)
		for f.rdb.ZCard(f.ctx, deadKey("q")).Val() < int64(scale/10*(kills+1)) {
			time.Sleep(time.Millisecond)
		}
		kill(t, mover)
	}
	mover := child(t, "PERDURE_TEST_IMPORT="+url, "PERDURE_TEST_FILE="+path)
	if err := mover.Wait(); err != nil {
		t.Fatal(errors.Join(errors.New("the last import"), err))
	}
}
