package store

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// turnsMachine enqueues for several tenants, claims, and has people and schedulers
// interfere. What it checks: each job is claimed once; those of a tenant that nobody
// has touched in order; tenants that both have jobs all the time get as many, but for
// two; and no call leaves the queue empty while jobs wait.
type turnsMachine struct {
	f       *fixture
	look    int
	next    map[string]int
	left    map[string][]string // by tenant, in order
	touched map[string]bool
	taken   map[string]int // since a tenant has had none left
}

var turnTenants = []string{nobody, "a", "b", "c"}

func (m *turnsMachine) reset(t *rapid.T) {
	m.f.rdb.FlushDB(m.f.ctx)
	m.f.tenants.Clear()
	want(t, "register", m.f.Register(m.f.ctx, "q"), nil)
	m.look = rapid.SampledFrom([]int{2, 5, maxSorted}).Draw(t, "look")
	m.next, m.left, m.touched, m.taken = map[string]int{}, map[string][]string{}, map[string]bool{}, map[string]int{}
}

func (m *turnsMachine) enqueue(t *rapid.T) {
	tenant := rapid.SampledFrom(turnTenants).Draw(t, "tenant")
	for range rapid.IntRange(1, 12).Draw(t, "jobs") {
		m.next[tenant]++
		key := fmt.Sprint("k", tenant, m.next[tenant])
		var options []jobs.JobOption
		if tenant != nobody {
			options = append(options, jobs.Tenant(tenant))
		}
		m.f.enqueue(key, options...)
		if m.left[tenant] = append(m.left[tenant], key); len(m.left[tenant]) == 1 {
			clear(m.taken)
		}
	}
}

func (m *turnsMachine) all() (n int) {
	for _, keys := range m.left {
		n += len(keys)
	}
	return n
}

func (m *turnsMachine) claim(t *rapid.T) {
	most := rapid.IntRange(1, 6).Draw(t, "most")
	before := m.all()
	batch, err := m.f.claim(m.f.ctx, "q", "o", most, m.look)
	want(t, "claim", err, nil)
	if n := len(batch.Deliveries); n > most || n == 0 && before > 0 || n < most && batch.Emptied != (n == before) || batch.Dropped > 0 {
		t.Fatalf("claimed %v of %d, most %d: %+v", keysOf(batch), before, most, batch)
	}
	m.beacon(t)
	for _, d := range batch.Deliveries {
		m.took(t, d)
	}
	for _, d := range batch.Deliveries {
		m.settle(t, d)
	}
}

// beacon finds the queue not to be empty while jobs wait.
func (m *turnsMachine) beacon(t *rapid.T) {
	if pending, waiting := m.f.pending(), m.f.rdb.ZCard(m.f.ctx, retryKey("q")).Val(); waiting > 0 && len(pending) == 0 {
		t.Fatalf("the queue is empty, and %d wait", waiting)
	}
}

func (m *turnsMachine) took(t *rapid.T, d delivery.Delivery) {
	tenant := tenantOf(d.Tenant)
	at := slices.Index(m.left[tenant], d.Key)
	if at < 0 {
		t.Fatalf("claimed %s of %s, which is not left of %v", d.Key, tenant, m.left)
	}
	for _, earlier := range m.left[tenant][:at] {
		if !m.touched[d.Key] && !m.touched[earlier] {
			t.Fatalf("claimed %s before %s", d.Key, earlier)
		}
	}
	if m.left[tenant] = slices.Delete(m.left[tenant], at, at+1); d.Waits != 0 || d.Run != 1 && !m.touched[d.Key] {
		t.Fatalf("claimed %+v", d)
	}
	if m.taken[tenant]++; len(m.left[tenant]) == 0 {
		clear(m.taken)
	}
}

func (m *turnsMachine) settle(t *rapid.T, d delivery.Delivery) {
	tenant := tenantOf(d.Tenant)
	if rapid.IntRange(0, 9).Draw(t, "hand back") == 0 {
		want(t, "hand back", m.f.HandBack(m.f.ctx, d.Hold), nil)
		m.left[tenant] = append(m.left[tenant], d.Key)
		m.touched[d.Key] = true
		clear(m.taken)
		return
	}
	d.Retention = 0
	want(t, "complete", m.f.Settle(m.f.ctx, d, verdicts[delivery.Complete]), nil)
}

// interfere does something about one job that is left.
func (m *turnsMachine) interfere(t *rapid.T) {
	tenant := rapid.SampledFrom(turnTenants).Draw(t, "tenant")
	if len(m.left[tenant]) == 0 {
		t.Skip("none is left")
	}
	key := rapid.SampledFrom(m.left[tenant]).Draw(t, "key")
	waits := m.f.rdb.ZScore(m.f.ctx, retryKey("q"), key).Err() == nil
	m.touched[key] = true
	clear(m.taken)
	switch what := rapid.SampledFrom([]string{"cancel", "pause", "run now", "day"}).Draw(t, "what"); {
	case what == "cancel":
		_, err := m.f.Cancel(m.f.ctx, "q", key, why)
		want(t, what, err, nil)
		m.left[tenant] = slices.DeleteFunc(m.left[tenant], func(k string) bool { return k == key })
	case what == "pause":
		_, err := m.f.Pause(m.f.ctx, "q", key, why)
		want(t, what, err, nil)
		_, err = m.f.Resume(m.f.ctx, "q", key, why)
		want(t, "resume", err, nil)
	case what == "run now" && waits:
		want(t, what, m.f.inspector().RunTask("q", key), nil)
	case what == "day" && waits:
		m.f.due(key)
		_, err := m.f.Promote(m.f.ctx, "q")
		want(t, what, err, nil)
	}
}

func (m *turnsMachine) promote(t *rapid.T) {
	p, err := m.f.Promote(m.f.ctx, "q")
	want(t, "promote", err, nil)
	if p.Moved > 0 {
		t.Fatalf("promoted %+v", p)
	}
}

func (m *turnsMachine) sort(t *rapid.T) {
	_, err := m.f.claim(m.f.ctx, "q", "", 0, m.look)
	want(t, "sort", err, nil)
	m.beacon(t)
}

func (m *turnsMachine) check(t *rapid.T) {
	f := m.f
	pipe := f.rdb.Pipeline()
	pending, retries := pipe.LRange(f.ctx, pendingKey("q"), 0, -1), pipe.ZRange(f.ctx, retryKey("q"), 0, -1)
	queued, active := pipe.ZCard(f.ctx, queuedKey("q")), pipe.LLen(f.ctx, activeKey("q"))
	_, err := pipe.Exec(f.ctx)
	want(t, "look", err, nil)
	got := slices.Sorted(slices.Values(append(pending.Val(), retries.Val()...)))
	var left []string
	for _, keys := range m.left {
		left = append(left, keys...)
	}
	if slices.Sort(left); !slices.Equal(got, left) {
		t.Fatalf("in the queue are %v, want %v", got, left)
	}
	if queued.Val() < int64(len(retries.Val())) || active.Val() != 0 {
		t.Fatalf("%d wait, the index has %d; %d run", len(retries.Val()), queued.Val(), active.Val())
	}
	for tenant, n := range m.taken {
		for _, other := range turnTenants {
			if of := m.taken[other]; n > of+2 && m.look == maxSorted && len(m.left[tenant]) > 0 && len(m.left[other]) > 0 {
				t.Fatalf("%s has had %d turns, %s %d", tenant, n, other, m.taken[other])
			}
		}
	}
}

// end drains the queue, and finds nothing left and nothing wrong.
func (m *turnsMachine) end(t *rapid.T) {
	m.interlude(t)
	for range 200 {
		if m.all() == 0 {
			break
		}
		m.claim(t)
		m.check(t)
	}
	if m.all() > 0 {
		t.Fatalf("%v are never claimed", m.left)
	}
	batch, err := m.f.claim(m.f.ctx, "q", "o", 1, m.look)
	if want(t, "claim", err, nil); !batch.Emptied {
		t.Fatalf("an empty queue: %+v", batch)
	}
	m.interlude(t)
	if n := m.f.rdb.Exists(m.f.ctx, turnsKey("q"), queuedKey("q"), retryKey("q")).Val(); n != 0 {
		t.Fatalf("%d indexes are left", n)
	}
}

// interlude takes a census.
func (m *turnsMachine) interlude(t *rapid.T) {
	_, err := m.f.Beat(m.f.ctx, "o", true)
	want(t, "beat", err, nil)
	if drift := m.f.census(); len(drift) > 0 {
		t.Fatalf("the census finds %v", drift)
	}
}

// TestTurns plays histories of a shared queue.
func TestTurns(t *testing.T) {
	t.Parallel()
	m := &turnsMachine{f: open(t)}
	rapid.Check(t, func(t *rapid.T) {
		m.reset(t)
		t.Repeat(map[string]func(*rapid.T){
			"": m.check, "enqueue": m.enqueue, "enqueue more": m.enqueue, "claim": m.claim, "claim again": m.claim, "interfere": m.interfere,
			"promote": m.promote, "sort": m.sort,
		})
		m.end(t)
	})
}
