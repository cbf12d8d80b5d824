package audit_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/audit"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/fault"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

func TestSealerOptions(t *testing.T) {
	t.Parallel()
	f := open(t)
	for _, every := range []time.Duration{time.Millisecond, 25 * time.Hour, -time.Second} {
		if _, err := audit.NewSealer(f.Store, audit.Options{Every: every}); !errors.Is(err, jobs.ErrInvalid) {
			t.Errorf("%v: %v", every, err)
		}
	}
}

func TestSealAllStreams(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.decide(2)
	f.ok(f.Record(t.Context(), delivery.Dependencies, "n", "open breaker", "pay", why))
	f.ok(f.Record(t.Context(), delivery.Schedules, "n", "backfill schedule", "nightly", why))
	seals, err := f.sealer().SealAll(t.Context())
	if err != nil || len(seals) != 3 {
		t.Fatalf("%+v, %v", seals, err)
	}
	f.rdb.Del(t.Context(), "asynq:queues") // the queue was removed with other tools
	found, err := audit.Verify(t.Context(), f.Store, f.keys, "", nil)
	if err != nil || len(found) != 3 || found[0].Stream != "@cron" || found[1].Stream != "@dep" || found[2].Stream != "q" {
		t.Fatalf("%+v, %v", found, err)
	}
	for _, one := range found {
		if one.Why != "" || one.Seals != 1 || one.Unsealed != 0 {
			t.Errorf("%+v", one)
		}
	}
	if seals, err = f.sealer().SealAll(t.Context()); err != nil || len(seals) != 0 {
		t.Errorf("again: %+v, %v", seals, err)
	}
}

// A drill on this Redis removes its queues at its end, and nobody is alarmed.
func TestQueuesOfDrillsAreNotSealed(t *testing.T) {
	t.Parallel()
	f := open(t)
	drill, bench := delivery.PassingQueue("drill"), delivery.PassingQueue("bench")
	users := []string{"bench-production", "bench-production-abcdef", "drill-abcdefgh27", "drill-abcdefghij234567", "q", "x" + drill}
	for _, queue := range append([]string{drill, drill + "-2", bench}, users...) {
		f.ok(f.Register(t.Context(), queue))
		f.ok(f.Record(t.Context(), queue, "n", "what", "", why))
	}
	seals, err := f.sealer().SealAll(t.Context())
	var sealed []string
	for _, seal := range seals {
		sealed = append(sealed, seal.Stream)
	}
	if err != nil || !slices.Equal(sealed, users) {
		t.Errorf("sealed %v, want %v; %v", sealed, users, err)
	}
}

// sealedOnce tells when a seal is written.
type sealedOnce struct {
	*store.Store
	told chan delivery.Seal
}

func (s sealedOnce) AddSeal(ctx context.Context, seal delivery.Seal) (bool, error) {
	made, err := s.Store.AddSeal(ctx, seal)
	if made {
		s.told <- seal
	}
	return made, err
}

func TestRunSeals(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.decide(1)
	s := sealedOnce{f.Store, make(chan delivery.Seal, 10)}
	sealer, err := audit.NewSealer(s, audit.Options{Keys: f.keys, Every: time.Second})
	f.ok(err)
	idle, err := audit.NewSealer(s, audit.Options{})
	f.ok(err)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.ok(sealer.Run(ctx)) })
	running.Go(func() { f.ok(idle.Run(ctx)) }) // has no key
	<-s.told
	f.decide(1)
	if seal := <-s.told; seal.N != 2 {
		t.Errorf("%+v", seal)
	}
	stop()
	running.Wait()
	f.wantWhole(f.verify(), 2, 2, 0)
}

// Ten sealers at once: each decision is sealed, and the seals are one chain.
func TestManySealersAtOnce(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.decide(5)
	var running sync.WaitGroup
	for range 10 {
		s := f.sealer()
		running.Go(func() {
			for range 5 {
				if _, _, err := s.Seal(t.Context(), "q"); err != nil {
					t.Error(err)
				}
				if err := f.Record(t.Context(), "q", rand.Text(), "what", "", why); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	f.seal()
	found := f.verify()
	if found.Why != "" || found.Events != 55 || found.Unsealed != 0 || found.Seals < 2 {
		t.Errorf("%+v", found)
	}
}

// Nothing is called broken because others decide, seal and move out meanwhile.
func TestVerifyWhileOthersWrite(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	repeat := func(do func() error) {
		running.Go(func() {
			for ctx.Err() == nil {
				if err := do(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 2 {
		repeat(func() error { return f.Record(t.Context(), "q", rand.Text(), "what", "", why) })
	}
	sealer, path := f.sealer(), filepath.Join(t.TempDir(), "moved")
	repeat(func() error {
		_, _, err := sealer.Seal(t.Context(), "q")
		return err
	})
	repeat(func() error {
		_, err := audit.MoveOut(t.Context(), f.Store, f.keys, "q", path, time.Time{}, why, nil)
		return err
	})
	repeat(func() error {
		var out bytes.Buffer
		_, err := audit.Export(t.Context(), f.Store, "q", &out, nil)
		if errors.Is(err, jobs.ErrConflict) { // it says that something is missing
			return nil
		}
		if found, bad := audit.VerifyFile(&out, f.keys, nil); bad != nil || len(found) > 0 && found[0].Why != "" {
			err = errors.Join(err, fmt.Errorf("exported: %+v, %v", found, bad))
		}
		return err
	})
	moved := int64(0)
	for moved < 300 {
		found := f.verify()
		if moved = found.MovedOut; found.Why != "" {
			t.Errorf("%+v", found)
			break
		}
	}
	stop()
	running.Wait()
	if found := f.verify(); found.Why != "" {
		t.Errorf("%+v", found)
	}
	if found := f.verifyFile(f.read(path)); found.Why != "" || found.Unsealed != 0 {
		t.Errorf("in the file: %+v", found)
	}
}

// With calls that fail before and after they ran, and go out twice.
func TestSealingOverABadNetwork(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.rdb.AddHook(fault.New(fault.Options{Seed: 5, Before: 0.1, After: 0.1, Twice: 0.1, Script: store.ScriptName}))
	s, refused := f.sealer(), 0
	for range 30 {
		for f.Record(t.Context(), "q", rand.Text(), "what", "", why) != nil {
			refused++
		}
		if _, _, err := s.Seal(t.Context(), "q"); err != nil {
			if refused++; !errors.Is(err, jobs.ErrUnavailable) {
				t.Fatal(err)
			}
		}
	}
	for {
		found, err := audit.Verify(t.Context(), f.Store, f.keys, "q", nil)
		if err != nil {
			continue
		}
		if found[0].Why != "" || found[0].Events < 30 || found[0].Seals < 15 {
			t.Errorf("%+v after %d errors", found, refused)
		}
		return
	}
}

// What a sealer that runs has seen is missed by it, also when nobody has kept a seal.
func TestASealerTellsWhatItMisses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do     func(f *fixture, events, seals []redis.XMessage)
		want   string
		hidden bool // nothing but the alarm is left of it
	}{
		"the last seal and its decisions": {func(f *fixture, events, seals []redis.XMessage) {
			f.replace(eventsKey, events[:3])
			f.replace(sealsKey, seals[:1])
		}, "the seal of decision 6, which was there, is gone", true},
		"all seals": {func(f *fixture, _, _ []redis.XMessage) { f.rdb.Del(context.Background(), sealsKey) }, "the seal of decision 6, which was there, is gone", true},
		"another seal": {func(f *fixture, _, seals []redis.XMessage) {
			seals[1].Values["mac"] = "00"
			f.replace(sealsKey, seals)
		}, "the seal of decision 6, which was there, is gone", false},
		"the sealed decision": {func(f *fixture, events, _ []redis.XMessage) { f.replace(eventsKey, events[:4]) }, "decision 6, which is sealed, is gone", false},
		"one that is not sealed": {func(f *fixture, events, _ []redis.XMessage) {
			f.rdb.XDel(context.Background(), eventsKey, events[7].ID)
		}, "its end was cut off", true},
		"one in the middle": {func(f *fixture, events, _ []redis.XMessage) {
			f.rdb.XDel(context.Background(), eventsKey, events[6].ID)
		}, "it is number 8 after number 6", false},
		"a chain written anew": {func(f *fixture, events, _ []redis.XMessage) {
			f.replace(eventsKey, anew(events, 0, map[string]string{"actor": "eve"}))
		}, "it does not continue the one before", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			var log bytes.Buffer
			registry := prometheus.NewRegistry()
			s, err := audit.NewSealer(f.Store, audit.Options{Keys: f.keys, Log: slog.New(slog.NewTextHandler(&log, nil)), Registerer: registry})
			f.ok(err)
			for range 2 {
				f.decide(3)
				if _, made, err := s.Seal(t.Context(), "q"); !made || err != nil {
					t.Fatal(made, err)
				}
			}
			f.decide(2)
			c.do(f, f.stream(eventsKey), f.stream(sealsKey))
			f.nextMilli()
			for range 2 {
				if _, _, err := s.Seal(t.Context(), "q"); err != nil {
					t.Fatal(err)
				}
			}
			if !strings.Contains(log.String(), c.want) || strings.Contains(log.String(), keyText) {
				t.Errorf("logged %s", log.String())
			}
			var alarms []delivery.Link
			f.ok(audit.List(t.Context(), f.Store, audit.Filter{Stream: "q", What: "audit alarm"}, func(l delivery.Link) bool {
				alarms = append(alarms, l)
				return true
			}))
			if len(alarms) != 1 || !strings.Contains(alarms[0].Reason, c.want) || alarms[0].Actor != "perdure" {
				t.Errorf("recorded %+v", alarms)
			}
			if n := testutil.ToFloat64(counterOf(t, registry, "perdure_audit_alarms_total")); n != 1 {
				t.Errorf("counted %v", n)
			}
			if found := f.verify(); (found.Why == "") != c.hidden {
				t.Errorf("%+v", found)
			}
		})
	}
}

// A stream that was deleted, with all that names it.
func TestASealerMissesAStream(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.decide(2)
	s := f.sealer()
	if seals, err := s.SealAll(t.Context()); err != nil || len(seals) != 1 {
		t.Fatal(seals, err)
	}
	f.rdb.FlushDB(t.Context())
	if seals, err := s.SealAll(t.Context()); err != nil || len(seals) != 1 {
		t.Errorf("%+v, %v", seals, err)
	}
	events := f.stream(eventsKey)
	if len(events) != 1 || events[0].Values["what"] != "audit alarm" {
		t.Errorf("%+v", events)
	}
}

// metric is one that a registry has gathered.
type metric struct {
	prometheus.Collector
	value float64
}

func (m metric) Describe(d chan<- *prometheus.Desc) { d <- prometheus.NewDesc("m", "m", nil, nil) }

func (m metric) Collect(all chan<- prometheus.Metric) {
	all <- prometheus.MustNewConstMetric(prometheus.NewDesc("m", "m", nil, nil), prometheus.CounterValue, m.value)
}

func counterOf(t *testing.T, r *prometheus.Registry, name string) prometheus.Collector {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return metric{value: family.GetMetric()[0].GetCounter().GetValue()}
		}
	}
	t.Fatalf("no metric %s", name)
	return nil
}

func TestStandings(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.decide(3)
	f.seal()
	f.decide(2)
	all, err := audit.Standings(t.Context(), f.Store, "")
	if err != nil || len(all) != 1 || all[0].Decisions != 5 || all[0].SealedTo != 3 || all[0].Unsealed != 2 || all[0].UnsealedSince.IsZero() || all[0].SealedAt.IsZero() {
		t.Errorf("%+v, %v", all, err)
	}
}
