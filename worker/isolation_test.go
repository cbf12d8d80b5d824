package worker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/scheduler"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/worker"
)

// workerProcess names the Redis of a test's worker process; workerAlone keeps it
// from starting processes of its own.
const (
	workerProcess = "PERDURE_TEST_WORKER"
	workerAlone   = "PERDURE_TEST_ALONE"
)

// deadly is how a job treats the process that it runs in.
var deadly = jobs.Define[string, string]("deadly", append(fast(3), jobs.Timeout(20*time.Second))...)

func deadlyHandler() jobs.Handler {
	return deadly.Do(func(ctx context.Context, how string) (string, error) {
		pid, err := jobs.Step(ctx, "first", func(context.Context) (int, error) { return os.Getpid(), nil })
		if err != nil {
			return "", err
		}
		switch time.Sleep(10 * time.Millisecond); how {
		case "exit":
			os.Exit(0)
		case "kill":
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case "panic":
			go func() { panic("the secret is hunter2") }()
			time.Sleep(10 * time.Second)
		case "fail":
			return "", errors.New("it cannot work")
		case "progress":
			if err := jobs.Heartbeat(ctx, 7); err != nil {
				return "", err
			}
		case "sleep":
			if err := jobs.Sleep(ctx, "nap", 100*time.Millisecond); err != nil {
				return "", err
			}
		case "call":
			return jobs.Call(ctx, "chick", chick, 7)
		case "undo":
			return undone(ctx)
		case "brood":
			return brood(ctx)
		case "wait":
			<-ctx.Done()
			return "", ctx.Err()
		}
		return fmt.Sprintf("first in %d, ended in %d", pid, os.Getpid()), nil
	})
}

func deadlyOptions() worker.Options {
	return worker.Options{
		Handlers: []jobs.Handler{deadlyHandler(), chickHandler()}, Concurrency: 64, Beat: 100 * time.Millisecond, Grace: 100 * time.Millisecond, ShutdownTimeout: 5 * time.Second,
	}
}

func childMain() int {
	if err := worker.ServeIsolated(deadlyOptions()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func workerMain(url string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s, err := store.Connect(ctx, url)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	o := deadlyOptions()
	if os.Getenv(workerAlone) == "" {
		o.Child = []string{os.Args[0]}
	}
	w, err := worker.New(s, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	k, err := scheduler.New(s, scheduler.Options{Silence: 500 * time.Millisecond})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go k.Run(ctx)
	if err := w.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// fleet keeps n worker processes running, whatever ends them.
type fleet struct {
	deaths atomic.Int64
	stop   func()
}

func startFleet(t *testing.T, url string, n int, environ ...string) *fleet {
	t.Helper()
	f := &fleet{}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for ctx.Err() == nil {
				cmd := exec.CommandContext(ctx, os.Args[0])
				cmd.Env = append(append(os.Environ(), workerProcess+"="+url), environ...)
				cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
				cmd.WaitDelay = 10 * time.Second
				begun := time.Now()
				err := cmd.Run()
				if ctx.Err() == nil {
					f.deaths.Add(1)
				} else if err != nil && !errors.Is(err, context.Canceled) && time.Since(begun) > time.Second { // a younger one knows no signals yet
					t.Errorf("worker: %v", err)
				}
			}
		})
	}
	f.stop = sync.OnceFunc(func() { cancel(); all.Wait() })
	t.Cleanup(f.stop)
	return f
}

// ended waits for every job of a list to end.
func ended(t *testing.T, s *store.Store, many []jobs.Job, limit time.Duration) map[string]jobs.Info {
	t.Helper()
	found := map[string]jobs.Info{}
	for end := time.Now().Add(limit); len(found) < len(many); time.Sleep(100 * time.Millisecond) {
		for _, job := range many {
			if _, known := found[job.Key]; known {
				continue
			}
			info, err := s.Get(t.Context(), "default", job.Key)
			if err != nil {
				t.Fatal(err)
			}
			if !info.State.Ended() {
				break
			}
			found[job.Key] = info
		}
		if time.Now().After(end) {
			q, err := s.QueueInfo(t.Context(), "default")
			t.Fatalf("%d of %d jobs have ended; queue %+v, %v", len(found), len(many), q, err)
		}
	}
	return found
}

func connect(t *testing.T, url string) *store.Store {
	t.Helper()
	s, err := store.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func enqueueAll(t *testing.T, s *store.Store, many []jobs.Job) {
	t.Helper()
	for _, e := range s.EnqueueMany(t.Context(), many) {
		if e.Err != nil {
			t.Fatal(e.Err)
		}
	}
}

func TestPoisonIsQuarantinedAndTakesNobodyAlong(t *testing.T) {
	t.Parallel()
	poisonAmong(t, 2000, 100, 3*time.Minute)
}

// poisonAmong runs poison jobs, evenly spread among good ones, on three workers with
// 64 slots each.
func poisonAmong(t *testing.T, good, poison int, limit time.Duration) {
	t.Helper()
	url := redistest.URL(t)
	s := connect(t, url)
	var many []jobs.Job
	how := []string{"exit", "kill", "panic"}
	for i := range good + poison {
		payload := "work"
		if i%((good+poison)/poison) == 7 {
			payload = how[i/((good+poison)/poison)%len(how)]
		}
		many = append(many, deadly.New(fmt.Sprintf("%s:%d", payload, i), payload))
	}
	enqueueAll(t, s, many)
	began := time.Now()
	f := startFleet(t, url, 3)
	quarantined := 0
	for key, info := range ended(t, s, many, limit) {
		want := jobs.StateCompleted
		if !strings.HasPrefix(key, "work:") {
			want = jobs.StateQuarantined
			quarantined++
			checkPoison(t, s, info)
		}
		if info.State != want || info.Attempts != 0 {
			t.Errorf("%+v", info)
		}
	}
	t.Logf("%d poison jobs among %d good ones: %v, %d workers died", quarantined, good, time.Since(began).Round(time.Millisecond), f.deaths.Load())
	if quarantined != poison || f.deaths.Load() > int64(2*poison) {
		t.Errorf("%d quarantined, want %d; %d workers died, at most two for each", quarantined, poison, f.deaths.Load())
	}
}

func checkPoison(t *testing.T, s *store.Store, info jobs.Info) {
	t.Helper()
	entry, err := s.Entry(t.Context(), "default", info.Key)
	if err != nil || entry.Class != jobs.ClassCrash || !strings.HasPrefix(entry.Reason, "poison") || info.Attempts != 0 || len(info.Steps) != 1 {
		t.Errorf("entry %+v, %v; job %+v", entry, err, info)
	}
	last := info.LastFailure()
	if strings.HasPrefix(info.Key, "panic:") && !strings.Contains(last.Stack, "goroutine ") || strings.Contains(last.Stack+last.Message, "hunter2") {
		t.Errorf("failure %+v", last)
	}
}

// Without processes of its own a worker empties itself and runs a suspect alone.
func TestPoisonAloneInItsWorker(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	s := connect(t, url)
	many := []jobs.Job{deadly.New("kill:1", "kill"), deadly.New("exit:1", "exit")}
	for i := range 100 {
		many = append(many, deadly.New(fmt.Sprint("work:", i), "work"))
	}
	enqueueAll(t, s, many)
	startFleet(t, url, 2, workerAlone+"=1")
	for key, info := range ended(t, s, many, time.Minute) {
		if poison := !strings.HasPrefix(key, "work:"); poison != (info.State == jobs.StateQuarantined) {
			t.Errorf("%+v", info)
		} else if poison {
			checkPoison(t, s, info)
		}
	}
}

// suspect makes a job one that two workers died of, on a store without workers.
func suspect(t *testing.T, s *store.Store, job jobs.Job) {
	t.Helper()
	if _, err := s.Enqueue(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	dieOf(t, s, job)
}

// dieOf has two workers die while they run a job that is enqueued.
func dieOf(t *testing.T, s *store.Store, job jobs.Job) {
	t.Helper()
	for i := range 2 {
		owner := fmt.Sprint("dead", job.Key, i)
		if batch, err := s.Claim(t.Context(), "default", owner, 1); err != nil || len(batch.Deliveries) != 1 {
			t.Fatalf("%+v, %v", batch, err)
		}
		if _, err := s.Reclaim(t.Context(), "default", owner); err != nil {
			t.Fatal(err)
		}
	}
}

func TestInnocentSuspectsRunInAProcessOfTheirOwn(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.URL(t))
	for _, how := range []string{"work", "fail", "progress"} {
		suspect(t, s, deadly.New(how, how))
	}
	o := deadlyOptions()
	o.Child = []string{os.Args[0]}
	runScheduler(t, s)
	promote(t, s, "default")
	runWorker(t, s, o)
	for how, state := range map[string]jobs.State{"work": jobs.StateCompleted, "fail": jobs.StateQuarantined, "progress": jobs.StateCompleted} {
		info := inState(t, s, "default", how, state)
		result, _ := deadly.Result(info)
		if state == jobs.StateCompleted && (strings.Contains(result, fmt.Sprint(os.Getpid())) || len(info.Steps) != 1 || info.Runs != 3) {
			t.Errorf("%s %+v", result, info)
		}
		if state == jobs.StateQuarantined && (info.Attempts != 3 || info.Runs != 5 || info.LastFailure().Message != "it cannot work") {
			t.Errorf("%+v", info)
		}
	}
}

// A job that is handed over while it runs by itself goes on elsewhere, and its
// process ends.
func TestStopHandsASuspectBack(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.URL(t))
	suspect(t, s, deadly.New("wait", "wait"))
	o := deadlyOptions()
	o.Child, o.ShutdownTimeout = []string{os.Args[0]}, 10*time.Millisecond
	stop := runWorker(t, s, o)
	var info jobs.Info
	eventually(t, "its first step is recorded", func() bool {
		info, _ = s.Get(t.Context(), "default", "wait")
		return info.State == jobs.StateRunning && len(info.Steps) == 1
	})
	stop()
	info, err := s.Get(t.Context(), "default", "wait")
	if err != nil || info.State != jobs.StatePending || info.Attempts != 0 || info.Crashes != 2 {
		t.Fatalf("%+v, %v", info, err)
	}
}

func TestCancellingASuspectReachesItsProcess(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.URL(t))
	suspect(t, s, deadly.New("wait", "wait"))
	o := deadlyOptions()
	o.Child = []string{os.Args[0]}
	runWorker(t, s, o)
	inState(t, s, "default", "wait", jobs.StateRunning)
	if _, err := s.Cancel(t.Context(), "default", "wait", by); err != nil {
		t.Fatal(err)
	}
	inState(t, s, "default", "wait", jobs.StateCancelled)
}

// A program that does not come to its worker cannot run suspects: they run in the
// worker, alone.
func TestAProgramThatCannotBeStartedAgain(t *testing.T) {
	t.Parallel()
	for name, command := range map[string][]string{"missing": {"/nowhere/to/be/found"}, "another": {"true"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := connect(t, redistest.URL(t))
			suspect(t, s, deadly.New("work", "work"))
			o := deadlyOptions()
			o.Child = command
			runWorker(t, s, o)
			info := inState(t, s, "default", "work", jobs.StateCompleted)
			if result, err := deadly.Result(info); err != nil || !strings.HasSuffix(result, fmt.Sprint("ended in ", os.Getpid())) {
				t.Errorf("%s, %v", result, err)
			}
		})
	}
}

func TestTooManyStuckHandlersEndTheWorker(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.URL(t))
	release := make(chan struct{})
	defer close(release)
	kind := jobs.Define[order, string]("stuck", append(fast(2), jobs.Timeout(time.Second))...)
	w, err := worker.New(s, worker.Options{
		Concurrency: 4, MaxStuck: 2, Grace: 10 * time.Millisecond,
		Handlers: []jobs.Handler{kind.Do(func(context.Context, order) (string, error) { <-release; return "", nil })},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if _, err := s.Enqueue(t.Context(), kind.New(fmt.Sprint("k", i), order{ID: i})); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Run(t.Context()); !errors.Is(err, worker.ErrStuck) {
		t.Fatalf("ended with %v", err)
	}
	for i := range 2 {
		if info := inState(t, s, "default", fmt.Sprint("k", i), jobs.StateRetrying); info.Attempts != 1 || info.LastFailure().Class != jobs.ClassTimeout {
			t.Errorf("%+v", info)
		}
	}
}
