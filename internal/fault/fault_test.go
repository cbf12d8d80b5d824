package fault_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/fault"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/store"
)

func TestMain(m *testing.M) { redistest.Main(m) }

func hooked(t *testing.T, o fault.Options) (*redis.Client, *fault.Hook) {
	rdb, h := redistest.Client(t), fault.New(o)
	rdb.AddHook(h)
	return rdb, h
}

// failed fails unless a call came back as a fault of that sort.
func failed(t *testing.T, err error, name string, when fault.When) {
	t.Helper()
	var injected *fault.Error
	if !errors.As(err, &injected) || injected.Name != name || injected.When != when {
		t.Fatalf("%v, want a fault %s %s", err, when, name)
	}
	var network net.Error
	if isEOF, isNet := errors.Is(err, io.EOF), errors.As(err, &network); !isEOF && !isNet {
		t.Errorf("%v is no error of the network", err)
	}
	if refused := errors.Is(err, syscall.ECONNREFUSED); refused != (when == fault.Before) {
		t.Errorf("%s: %v", when, err)
	}
}

func TestPlannedFaults(t *testing.T) {
	t.Parallel()
	rdb, h := hooked(t, fault.Options{})
	ctx := t.Context()
	h.Fail("incr", 2, fault.Before)
	h.Fail("incr", 3, fault.After)
	h.Fail("incr", 4, fault.Twice)
	for i, want := range []fault.When{"", fault.Before, fault.After, fault.Twice, ""} {
		switch n, err := rdb.Incr(ctx, "n").Result(); {
		case want == fault.Twice && n != 4, (want == "" || want == fault.Twice) && err != nil:
			t.Fatalf("call %d: %d, %v", i+1, n, err)
		case want == fault.Before, want == fault.After:
			failed(t, err, "incr", want)
		}
	}
	if n, err := rdb.Get(ctx, "n").Int(); err != nil || n != 5 {
		t.Errorf("%d executed, %v; want 5: one never, one twice", n, err)
	}
	if got, want := h.Counts()["incr"], (fault.Count{Calls: 5, Before: 1, After: 1, Twice: 1}); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
	h.Fail("incr", 1, fault.Before)
	h.Forget()
	if err := rdb.Incr(ctx, "n").Err(); err != nil {
		t.Errorf("a forgotten fault happened: %v", err)
	}
}

// A script fails by its name, also while Redis does not have it: what says so has
// executed nothing, and is not the call that was meant.
func TestScripts(t *testing.T) {
	t.Parallel()
	rdb, h := hooked(t, fault.Options{Script: store.ScriptName})
	ctx, s := t.Context(), store.New(rdb, rdb)
	beat := func(owner string) func() error {
		return func() error { _, err := s.Beat(ctx, owner, true); return err }
	}
	enqueue := func(key string) func() error { // by a script of asynq's
		return func() error {
			_, err := asynq.NewClientFromRedisClient(rdb).Enqueue(asynq.NewTask("kind", nil), asynq.TaskID(key))
			return err
		}
	}
	for _, c := range []struct {
		name string
		when fault.When
		call func() error
		left string // a key that is there once the call was executed
	}{
		{"beat", fault.After, beat("a"), "perdure:owners"}, {"evalsha", fault.After, enqueue("a"), "asynq:{default}:t:a"},
		{"beat", fault.Before, beat("b"), ""}, {"evalsha", fault.Before, enqueue("b"), "asynq:{default}:t:b"},
		{"beat", fault.After, beat("c"), ""},
	} {
		if err := rdb.ScriptFlush(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		h.Fail(c.name, 1, c.when)
		if err := c.call(); err == nil || !strings.Contains(err.Error(), "injected fault, "+string(c.when)+" "+c.name) {
			t.Fatalf("%s %s: %v", c.when, c.name, err)
		}
		if n := rdb.Exists(ctx, c.left).Val(); c.left != "" && (n == 1) != (c.when == fault.After) {
			t.Errorf("%s %s: %s is there: %d", c.when, c.name, c.left, n)
		}
	}
	if got, want := h.Counts()["beat"], (fault.Count{Calls: 3, Before: 1, After: 2}); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
	if owners := rdb.ZRange(ctx, "perdure:owners", 0, -1).Val(); !slices.Equal(owners, []string{"a", "c"}) {
		t.Errorf("beats of %v", owners)
	}
}

func TestPipelinesFailWhole(t *testing.T) {
	t.Parallel()
	for name, pipelined := range map[string]func(*redis.Client, context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error){
		"plain": (*redis.Client).Pipelined, "transaction": (*redis.Client).TxPipelined,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb, h := hooked(t, fault.Options{})
			for i, when := range []fault.When{fault.Before, fault.After} {
				h.Fail("decr", 1, when)
				cmds, err := pipelined(rdb, t.Context(), func(p redis.Pipeliner) error {
					p.Incr(t.Context(), "n")
					p.Decr(t.Context(), "m")
					return nil
				})
				failed(t, err, "decr", when)
				for _, cmd := range cmds {
					failed(t, cmd.Err(), "decr", when)
				}
				if n, _ := rdb.Get(t.Context(), "n").Int(); n != i {
					t.Errorf("%s: %d executed, want %d", when, n, i)
				}
			}
		})
	}
}

func TestBlockingCallsFail(t *testing.T) {
	t.Parallel()
	rdb, h := hooked(t, fault.Options{})
	ctx := t.Context()
	rdb.RPush(ctx, "from", "a")
	h.Fail("blmove", 1, fault.Before)
	failed(t, rdb.BLMove(ctx, "from", "to", "LEFT", "LEFT", time.Second).Err(), "blmove", fault.Before)
	if n := rdb.LLen(ctx, "to").Val(); n != 0 {
		t.Errorf("%d moved", n)
	}
	h.Fail("blmove", 1, fault.After)
	failed(t, rdb.BLMove(ctx, "from", "to", "LEFT", "LEFT", time.Second).Err(), "blmove", fault.After)
	if n := rdb.LLen(ctx, "to").Val(); n != 1 {
		t.Errorf("%d moved", n)
	}
}

// outcomes sends calls and returns how each came back.
func outcomes(t *testing.T, seed uint64, calls int) ([]fault.When, fault.Count, int) {
	rdb, h := hooked(t, fault.Options{Seed: seed, Before: 0.2, After: 0.3, Twice: 0.1})
	var all []fault.When
	for range calls {
		var injected *fault.Error
		errors.As(rdb.Incr(t.Context(), "n").Err(), &injected)
		if injected == nil {
			all = append(all, "")
			continue
		}
		all = append(all, injected.When)
	}
	executed, count := 0, h.Total()
	for executed == 0 { // this call may fail too
		executed, _ = rdb.Get(t.Context(), "n").Int()
	}
	return all, count, executed
}

func TestRandomFaultsFollowTheirSeed(t *testing.T) {
	t.Parallel()
	const calls = 1000
	first, count, executed := outcomes(t, 7, calls)
	again, _, _ := outcomes(t, 7, calls)
	other, _, _ := outcomes(t, 8, calls)
	same, differ := 0, 0
	for i := range first {
		if first[i] == again[i] {
			same++
		}
		if first[i] != other[i] {
			differ++
		}
	}
	if same != calls || differ == 0 {
		t.Errorf("%d of %d alike by the same seed, %d unlike by another", same, calls, differ)
	}
	if count.Calls != calls || executed != calls-count.Before+count.Twice {
		t.Errorf("%d executed of %+v", executed, count)
	}
	if count.Before < 150 || count.Before > 250 || count.After < 240 || count.After > 360 || count.Twice < 60 || count.Twice > 140 {
		t.Errorf("%+v, want about 200 before, 300 after and 100 twice", count)
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	rdb, h := hooked(t, fault.Options{Seed: 1, After: 0.1})
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			for range 50 {
				rdb.Incr(t.Context(), "n")
				h.Fail("incr", 3, fault.Before)
				h.Counts()
			}
		})
	}
	calls.Wait()
	if count := h.Counts()["incr"]; count.Calls != 400 || count.Before == 0 || count.After == 0 {
		t.Errorf("%+v", count)
	}
}
