package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
)

// of enqueues n jobs of a tenant, named after it and numbered from 1.
func (f *fixture) of(tenant string, n int) {
	f.t.Helper()
	for i := range n {
		f.ofNumber(tenant, i+1)
	}
}

func (f *fixture) ofNumber(tenant string, n int) {
	f.t.Helper()
	var options []jobs.JobOption
	if tenant != nobody {
		options = append(options, jobs.Tenant(tenant))
	}
	f.enqueue(strings.TrimPrefix(fmt.Sprint(tenant, n), "-"), options...)
}

func (f *fixture) claimed(most int) []string {
	f.t.Helper()
	batch, err := f.Claim(f.ctx, "q", "o", most)
	f.ok(err)
	return keysOf(batch)
}

func (f *fixture) wantClaimed(most int, want ...string) {
	f.t.Helper()
	if got := f.claimed(most); !slices.Equal(got, want) {
		f.t.Errorf("claimed %v, want %v", got, want)
	}
}

// waits are the keys of the jobs that wait their turn, as each index has them.
func (f *fixture) waits() []string {
	f.t.Helper()
	keys := f.rdb.ZRange(f.ctx, queuedKey("q"), 0, -1).Val()
	slices.Sort(keys)
	retries := f.rdb.ZRange(f.ctx, retryKey("q"), 0, -1).Val()
	if slices.Sort(retries); !slices.Equal(keys, retries) {
		f.t.Errorf("waiting their turn %v, in asynq's retry set %v", keys, retries)
	}
	return keys
}

func (f *fixture) pending() []string {
	keys := f.rdb.LRange(f.ctx, pendingKey("q"), 0, -1).Val()
	slices.Reverse(keys) // the head is the right end
	return keys
}

func (f *fixture) wantWaiting(pending []string, waiting ...string) {
	f.t.Helper()
	if got := f.pending(); !slices.Equal(got, pending) {
		f.t.Errorf("pending %v, want %v", got, pending)
	}
	if got := f.waits(); !slices.Equal(got, waiting) {
		f.t.Errorf("waiting their turn %v, want %v", got, waiting)
	}
}

// wantClean takes a census, which must find nothing.
func (f *fixture) wantClean() {
	f.t.Helper()
	for _, owner := range []string{"o", "p"} {
		_, err := f.Beat(f.ctx, owner, true)
		f.ok(err)
	}
	if drift := f.census(); len(drift) > 0 {
		f.t.Errorf("the census finds %v", drift)
	}
}

func TestOneTenantsQueueIsClaimedInOrder(t *testing.T) {
	t.Parallel()
	for _, tenant := range []string{nobody, "acme"} {
		f := open(t)
		f.of(tenant, 4)
		before := f.dump()
		f.claimed(2)
		for _, change := range changes(before, f.dump()) {
			if strings.Contains(change, "turn") || strings.Contains(change, "queued") || strings.Contains(change, "retry") {
				t.Errorf("a queue of one tenant: %s", change)
			}
		}
	}
}

// shared is a queue where a1 runs, a2 and a3 wait their turn, and b1 is left in the
// queue.
func shared(f *fixture) any {
	f.of("a", 3)
	f.of("b", 1)
	return f.take()
}

func TestASharedQueueIsClaimedInTurn(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.of("a", 6)
	f.of("b", 2)
	f.of(nobody, 2)
	f.wantClaimed(4, "1", "a1", "b1", "2")
	f.wantWaiting([]string{"b2"}, "a2", "a3", "a4", "a5", "a6") // while jobs wait, the queue is not empty
	f.ofNumber("c", 1)
	f.wantClaimed(3, "a2", "b2", "c1")
	f.wantWaiting([]string{"a6"}, "a3", "a4", "a5")
	f.ofNumber("c", 2)
	f.wantClaimed(1, "a3")
	f.ofNumber("b", 3)
	f.wantClaimed(2, "b3", "c2")
	f.wantClean()
	batch, err := f.Claim(f.ctx, "q", "o", 10)
	f.ok(err)
	if !slices.Equal(keysOf(batch), []string{"a4", "a5", "a6"}) || !batch.Emptied {
		t.Errorf("the rest: %+v", batch)
	}
	f.wantWaiting([]string{})
	f.wantClean()
	for path := range f.dump() {
		if strings.HasPrefix(path, "perdure:{q}:turn") || strings.HasPrefix(path, queuedKey("q")) {
			t.Errorf("%s stays behind", path)
		}
	}
}

// TestWhatIsFewIsClaimedInOrder: nothing waits that the claim can take.
func TestWhatIsFewIsClaimedInOrder(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.of("b", 2)
	f.of("a", 2)
	f.wantClaimed(4, "b1", "b2", "a1", "a2")
}

func TestWaitingATurnWrites(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.of("acme", 2)
	f.of("b", 1)
	before := f.dump()
	f.wantClaimed(1, "acme1")
	got := slices.DeleteFunc(changes(before, f.dump()), func(line string) bool { return strings.Contains(line, "acme1") })
	want := []string{
		"+asynq:{q}:retry acme2=<time>", "+asynq:{q}:t:acme2 p:due=<time>", "+asynq:{q}:t:acme2 p:pn=1", "+asynq:{q}:t:acme2 p:wait=1 <time> turn acme",
		"+perdure:{q}:queued acme2=<time>", "+perdure:{q}:tokens=1", "+perdure:{q}:turn:acme=1 <time> acme2", "+perdure:{q}:turns acme=1", "+perdure:{q}:turns b=0",
		"~asynq:{q}:pending=b1", "~asynq:{q}:t:acme2 msg", "~asynq:{q}:t:acme2 state=retry",
	}
	if !slices.Equal(got, want) {
		t.Errorf("wrote\n%s", strings.Join(got, "\n"))
	}
	due := f.dump()[retryKey("q")+" acme2"]
	if now := f.redisMilli(); hash(f.rdb.HGetAll(f.ctx, taskKey("q", "acme2")).Val()).ms("p:due").UnixMilli()-now > 86400000 || due == "" {
		t.Errorf("it is due at %s", due)
	}
	original := before[taskKey("q", "acme2")+" msg"]
	f.wantClaimed(2, "b1", "acme2")
	if got := f.field("acme2", "msg"); got != original {
		t.Errorf("its message is %q, was %q", got, original)
	}
	if h := f.rdb.HGetAll(f.ctx, taskKey("q", "acme2")).Val(); h["p:wait"] != "" || h["p:due"] != "" || h["pending_since"] != "" {
		t.Errorf("claimed with %v", h)
	}
}

// TestWaitingATurnIsPending: what perdure shows of such a job.
func TestWaitingATurnIsPending(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.settle(held(f, shared(f)), delivery.Retry)
	info, err := f.Get(f.ctx, "q", "a2")
	f.ok(err)
	if w := info.WaitingOn; info.State != jobs.StatePending || w == nil || w.Type != "turn" || w.Name != "a" || w.Since.IsZero() || !info.DueAt.IsZero() {
		t.Errorf("info %+v", info)
	}
	q, err := f.QueueInfo(f.ctx, "q")
	f.ok(err)
	if q.Pending != 3 || q.Retrying != 1 || q.Parked != 0 || q.Running != 0 {
		t.Errorf("queue %+v", q)
	}
	tallies, err := f.Tallies(f.ctx)
	f.ok(err)
	if got := tallies[0]; got.States[jobs.StatePending] != 3 || got.States[jobs.StateRetrying] != 1 || got.States[jobs.StatePaused] != 0 || got.Accepted != 4 {
		t.Errorf("tally %+v", got)
	}
	for state, want := range map[jobs.State][]string{
		jobs.StatePending: {"a2", "a3", "b1"}, jobs.StateRetrying: {"a1"}, jobs.StatePaused: {},
	} {
		if got := f.pages(jobs.Query{Queue: "q", State: state, Limit: 1}, nil); !slices.Equal(got, want) && len(got)+len(want) > 0 {
			t.Errorf("%s: %v, want %v", state, got, want)
		}
	}
	if h, err := f.Enqueue(f.ctx, jobs.Raw(kindA, "a3", json.RawMessage(`{"a":1,"b":2}`), jobs.Tenant("a"))); err != nil || !h.Duplicate || h.State != jobs.StatePending {
		t.Errorf("a duplicate %+v, %v", h, err)
	}
}

// TestAsynqAndJobsThatWaitTheirTurn: asynq's tools see a retry, and do what they do.
func TestAsynqAndJobsThatWaitTheirTurn(t *testing.T) {
	t.Parallel()
	redistest.Foreign(t)
	f := open(t)
	f.of("a", 7)
	f.of("b", 1)
	f.wantClaimed(1, "a1")
	i := f.inspector()
	info, err := i.GetTaskInfo("q", "a2")
	f.ok(err)
	if info.State != asynq.TaskStateRetry || info.LastErr != "waits its turn: tenant a has more jobs queued" || info.NextProcessAt.Before(time.Now().Add(23*time.Hour)) {
		t.Errorf("a2 is %+v", info)
	}
	listed, err := i.ListRetryTasks("q")
	f.ok(err)
	if q, err := i.GetQueueInfo("q"); err != nil || len(listed) != 6 || q.Size != 8 || q.Retry != 6 || q.Pending != 1 || q.Active != 1 {
		t.Errorf("listed %d, queue %+v, %v", len(listed), q, err)
	}
	f.ok(i.RunTask("q", "a5"))
	f.ok(i.DeleteTask("q", "a2"))
	f.ok(i.ArchiveTask("q", "a3"))
	f.wantClaimed(3, "b1", "a5", "a4") // whom people ask for goes before others of its tenant
	f.wantDecisions()                  // it was pending before
	if got := f.census(); got["gone"] != 1 || got["archived elsewhere"] != 1 {
		t.Errorf("the census finds %v", got)
	}
	f.wantClean()
	f.wantWaiting([]string{"a7"}, "a6")
	n, err := i.ArchiveAllRetryTasks("q")
	f.ok(err)
	f.wantClaimed(9, "a7")
	if n != 1 || f.state("a6") != jobs.StateQuarantined {
		t.Errorf("archived %d, a6 is %s", n, f.state("a6"))
	}
	f.census()
	_, err = f.Replay(f.ctx, "q", "a6", false, why)
	f.ok(err)
	f.wantClaimed(9, "a6")
	f.wantClean()
	if d := f.field("a6", "p:wait"); d != "" {
		t.Errorf("it still waits: %q", d)
	}
}

// TestAllThatWaitAreRunOrDeleted by asynq's tools.
func TestAllThatWaitAreRunOrDeleted(t *testing.T) {
	t.Parallel()
	redistest.Foreign(t)
	f := open(t)
	f.of("a", 4)
	f.of("b", 3)
	f.wantClaimed(2, "a1", "b1")
	f.wantWaiting([]string{"b3"}, "a2", "a3", "a4", "b2")
	_, err := f.inspector().RunAllRetryTasks("q")
	f.ok(err)
	f.wantClean()
	if got := len(f.claimed(3)) + len(f.claimed(9)); got != 5 {
		t.Errorf("claimed %d", got)
	}
	f.wantClean()
	f.of("c", 4)
	f.wantClaimed(1, "c1")
	if n, err := f.inspector().DeleteAllRetryTasks("q"); err != nil || n != 2 {
		t.Errorf("deleted %d, %v", n, err)
	}
	f.wantClaimed(9, "c4")
	if got := f.census(); got["gone"] != 2 {
		t.Errorf("the census finds %v", got)
	}
	f.of("d", 2)
	f.wantClaimed(9, "d1", "d2")
	f.wantClean()
}

// TestADecisionMeetsAWaitingJob: it is taken as for a pending one.
func TestADecisionMeetsAWaitingJob(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.of("a", 5)
	f.of("b", 1)
	f.wantClaimed(1, "a1")
	info, err := f.Cancel(f.ctx, "q", "a2", why)
	if err != nil || info.State != jobs.StateCancelled {
		t.Errorf("cancelled %+v, %v", info, err)
	}
	info, err = f.Pause(f.ctx, "q", "a3", why)
	if err != nil || info.State != jobs.StatePaused {
		t.Errorf("paused %+v, %v", info, err)
	}
	f.ok(f.Signal(f.ctx, "q", "a4", jobs.Signal{Name: "go"}))
	f.wantClean()
	f.wantClaimed(3, "b1", "a4", "a5")
	info, err = f.Resume(f.ctx, "q", "a3", why)
	if err != nil || info.State != jobs.StatePending {
		t.Errorf("resumed %+v, %v", info, err)
	}
	f.wantClaimed(3, "a3")
	f.wantClean()
}

// TestWhatWasUnderWayGoesFirst: a job that a worker has died of does not stand behind
// those that its tenant has queued since.
func TestWhatWasUnderWayGoesFirst(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.of("a", 6)
	f.of("b", 3)
	f.wantClaimed(4, "a1", "b1", "a2", "b2")
	_, err := f.Reclaim(f.ctx, "q", "o")
	f.ok(err)
	f.wantClean()
	var got []string
	for range 3 {
		batch, err := f.Claim(f.ctx, "q", "p", 2)
		f.ok(err)
		got = append(got, keysOf(batch)...)
	}
	if !slices.Contains([][2]string{{"a1", "b1"}, {"a2", "b1"}, {"a1", "b2"}, {"a2", "b2"}}, [2]string(got[:2])) || slices.Index(got, "a3") < max(slices.Index(got, "a1"), slices.Index(got, "a2")) {
		t.Errorf("claimed %v", got)
	}
	f.wantClean()
}

// TestAQueueIsNotEmptyWhileJobsWait, so that whoever waits for work finds some.
func TestAQueueIsNotEmptyWhileJobsWait(t *testing.T) {
	t.Parallel()
	f := open(t)
	shared(f)
	for _, want := range []string{"b1", "a3"} {
		if ready, err := f.AwaitWork(f.ctx, "q", time.Second); err != nil || !ready {
			t.Fatalf("no work is found: %v", err)
		}
		if got := f.pending(); !slices.Equal(got, []string{want}) {
			t.Errorf("pending %v, want %s", got, want)
		}
		_, err := f.Cancel(f.ctx, "q", want, why) // what stood there is gone
		f.ok(err)
		_, err = f.Promote(f.ctx, "q")
		f.ok(err)
	}
	f.wantWaiting([]string{"a2"})
	f.wantClean()
	f.wantClaimed(5, "a2")
}

// TestALongSharedQueueIsSortedWithoutAClaim, while all workers are busy.
func TestALongSharedQueueIsSortedWithoutAClaim(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.of("a", maxBatch+maxSorted)
	f.take()
	sorted := func(want int64) {
		t.Helper()
		p, err := f.Promote(f.ctx, "q")
		if n := f.rdb.ZCard(f.ctx, queuedKey("q")).Val(); err != nil || n != want || p.Moved != 0 {
			t.Errorf("promoted %+v, %v; %d wait", p, err, n)
		}
	}
	sorted(0)
	f.of("b", 1)
	f.ok(f.PauseQueue(f.ctx, "q", why))
	sorted(0)
	_, err := f.ResumeQueue(f.ctx, "q", why)
	f.ok(err)
	sorted(maxBatch)
	sorted(maxBatch) // what is left a claim looks at
	f.wantClaimed(2, "a2", "b1")
	f.wantClean()
}

// TestTheDayIsOver: a job that has waited for a day looks for itself, and keeps its
// place before the others of its tenant.
func TestTheDayIsOver(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.of("a", 5)
	f.of("b", 1)
	f.wantClaimed(2, "a1", "b1")
	for _, key := range []string{"a3", "a4"} {
		f.due(key)
	}
	since := f.field("a3", "pending_since")
	if p, err := f.Promote(f.ctx, "q"); err != nil || p.Moved != 2 || f.field("a3", "pending_since") != since {
		t.Errorf("promoted %+v, %v", p, err)
	}
	f.wantClean()
	f.of("b", 2) // the first is there
	f.wantClaimed(2, "a3", "b2")
	f.wantClaimed(9, "a4", "a2", "a5")
	f.wantClean()
}

// TestTheRoundsAreLost: a tenant whose jobs wait has its turn again.
func TestTheRoundsAreLost(t *testing.T) {
	t.Parallel()
	f := open(t)
	shared(f)
	f.rdb.Del(f.ctx, turnsKey("q"))
	f.of("c", 2)
	f.wantClaimed(2, "b1", "c1") // nobody knows of a
	p, err := f.Promote(f.ctx, "q")
	f.ok(err)
	f.wantClaimed(3, "a2", "c2", "a3")
	f.wantClean()
	if p.Moved != 0 {
		t.Errorf("promoted %+v", p)
	}
}

// TestTheListsAreLost: waiting jobs are found by their index.
func TestTheListsAreLost(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(f *fixture){
		"the lists":   func(f *fixture) { f.rdb.Del(f.ctx, turnsKey("q"), turnKey("q", "a")) },
		"a list":      func(f *fixture) { f.rdb.Del(f.ctx, turnKey("q", "a")) },
		"the tenants": func(f *fixture) { f.rdb.Del(f.ctx, tenantsKey("q")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			shared(f)
			lose(f)
			if p, err := f.Promote(f.ctx, "q"); err != nil || p.Moved != 2 {
				t.Errorf("promoted %+v, %v", p, err)
			}
			f.wantWaiting([]string{"b1", "a2", "a3"})
			f.wantClaimed(9, "b1", "a2", "a3")
			f.wantClean()
		})
	}
}

// TestEntriesWithoutAJobInASharedQueue are dropped, and hold nobody up.
func TestEntriesWithoutAJobInASharedQueue(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.of("b", 1)
	f.of("a", 3)
	for i := range 150 {
		f.rdb.RPush(f.ctx, pendingKey("q"), fmt.Sprint("gone:", i))
	}
	f.rdb.RPush(f.ctx, pendingKey("q"), "a1", "a1")
	f.rdb.Set(f.ctx, taskKey("q", "gone:3"), "no job", 0)
	batch, err := f.Claim(f.ctx, "q", "o", 3)
	f.ok(err)
	if !slices.Equal(keysOf(batch), []string{"a1", "b1", "a2"}) || batch.Dropped != 152 {
		t.Errorf("claimed %v, dropped %d", keysOf(batch), batch.Dropped)
	}
}

// TestWhatIsNotToRunInASharedQueue goes where it belongs, and what people have asked for
// goes first.
func TestWhatIsNotToRunInASharedQueue(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.settle(f.running("completed"), delivery.Complete)
	f.quarantined("dead")
	f.settle(f.running("paused"), delivery.Pause)
	f.suspectNow("suspect")
	f.of("b", 2)
	f.of("a", 2)
	f.due("suspect")
	_, err := f.Promote(f.ctx, "q")
	f.ok(err)
	for _, key := range []string{"completed", "dead", "paused"} {
		f.ok(f.inspector().RunTask("q", key))
	}
	batch, err := f.Claim(f.ctx, "q", "o", 4)
	f.ok(err)
	if !slices.Equal(keysOf(batch), []string{"dead", "paused", "a1", "b1"}) || batch.Suspects != 1 || batch.Dropped != 1 {
		t.Errorf("claimed %v: %+v", keysOf(batch), batch)
	}
	f.wantDecisions("quarantine dead by perdure: exhausted", "run refused completed by asynq: the job has ended; its result stands",
		"replay dead by asynq: run now was asked for a quarantined job", "resume paused by asynq: run now was asked for a paused job")
	if suspect, err := f.Get(f.ctx, "q", "suspect"); err != nil || suspect.State != jobs.StatePaused || suspect.WaitingOn.Type != "isolation" {
		t.Errorf("suspect %+v, %v", suspect, err)
	}
	f.wantClean()
}

// TestManyAreGone of those that waited their turn: a call passes over some, and says
// that there is more.
func TestManyAreGone(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.of("b", 1)
	f.wantClaimed(1, "b1")
	for i := range 700 {
		f.rdb.RPush(f.ctx, turnKey("q", "a"), fmt.Sprint("1 1700000000000 gone:", i))
	}
	f.rdb.ZAdd(f.ctx, turnsKey("q"), redis.Z{Member: "a"})
	f.of("a", 1)
	for call, want := range []string{"[] false", "[a1] true"} {
		batch, err := f.Claim(f.ctx, "q", "o", 2)
		f.ok(err)
		if got := fmt.Sprint(keysOf(batch), " ", batch.Emptied); got != want {
			t.Errorf("call %d: %s, want %s", call, got, want)
		}
	}
}

// TestASortThatCannotSortEnds: what people have asked for is not made to wait.
func TestASortThatCannotSortEnds(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.of("b", 1)
	f.of("a", 100)
	f.claimAll("o")
	h, err := f.Holdings(f.ctx, "q", "o")
	f.ok(err)
	for _, one := range h.Held {
		f.ok(f.Settle(f.ctx, delivery.Delivery{Hold: one.Hold, Message: []byte(f.field(one.Key, "msg"))}, verdicts[delivery.Pause]))
	}
	_, err = f.inspector().RunAllRetryTasks("q")
	f.ok(err)
	batch, err := f.claim(f.ctx, "q", "", 0, 10)
	f.ok(err)
	if !batch.Emptied || len(f.pending()) != 101 {
		t.Errorf("sorted %+v, %d pending", batch, len(f.pending()))
	}
	f.wantClean()
}
