// Package bench measures perdure beside stock asynq on the same Redis, in the same
// run: rounds are interleaved and medians are compared, so that a machine whose
// speed drifts does not decide.
package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/worker"
)

// concurrency is that of enqueuers and of workers, ours and stock.
const concurrency = 50

// Options say how much is measured.
type Options struct {
	Jobs   int // a round, 100 to 1000000
	Rounds int // 1 to 100
}

func (o Options) check() error {
	if o.Jobs < 100 || o.Jobs > 1_000_000 {
		return &jobs.InvalidError{Field: "jobs", Value: o.Jobs, Bound: "from 100 to 1000000"}
	}
	if o.Rounds < 1 || o.Rounds > 100 {
		return &jobs.InvalidError{Field: "rounds", Value: o.Rounds, Bound: "from 1 to 100"}
	}
	return nil
}

// Row is one measurement over all rounds, in jobs a second.
type Row struct {
	Name   string  `json:"name"`
	Who    string  `json:"who"` // perdure or asynq
	Median float64 `json:"median_per_second"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	Ratio  float64 `json:"ratio,omitempty"` // of the medians, to asynq's of the same name
}

// measure is one thing measured for one of the two.
type measure struct {
	name, who string
	run       func(ctx context.Context, b *bench) (time.Duration, error)
}

var measures = []measure{
	{"enqueue", "asynq", enqueueStock},
	{"enqueue", "perdure", enqueueOurs},
	{"drain", "asynq", drainStock},
	{"drain", "perdure", drainOurs},
	{"5-step job", "perdure", drainSteps},
}

var (
	noop  = jobs.Define[int, int]("bench.noop", jobs.Queue("bench"))
	steps = jobs.Define[int, int]("bench.steps", jobs.Queue("bench"))
)

// bench is what a run works with.
type bench struct {
	store *store.Store
	redis redis.UniversalClient
	jobs  int
	queue string // of the round
}

// Run measures all on the Redis at url, in queues of its own that it removes.
func Run(ctx context.Context, url string, o Options) ([]Row, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	s, err := store.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	rates := make([][]float64, len(measures))
	for range o.Rounds {
		for i, m := range measures {
			rate, err := once(ctx, s, m, o.Jobs)
			if err != nil {
				return nil, fmt.Errorf("bench %s of %s: %w", m.name, m.who, err)
			}
			rates[i] = append(rates[i], rate)
		}
	}
	return rows(rates), nil
}

func once(ctx context.Context, s *store.Store, m measure, n int) (rate float64, err error) {
	b := &bench{store: s, redis: s.Redis(), jobs: n, queue: delivery.PassingQueue("bench")}
	defer func() {
		for _, kind := range []string{noop.Definition().Name, steps.Definition().Name} {
			err = errors.Join(err, s.Unpublish(context.WithoutCancel(ctx), kind))
		}
		err = errors.Join(err, s.Drop(context.WithoutCancel(ctx), b.queue))
	}()
	took, err := m.run(ctx, b)
	return float64(n) / took.Seconds(), err
}

func rows(rates [][]float64) []Row {
	stock := map[string]float64{}
	var all []Row
	for i, m := range measures {
		slices.Sort(rates[i])
		row := Row{Name: m.name, Who: m.who, Median: median(rates[i]), Min: rates[i][0], Max: rates[i][len(rates[i])-1]}
		if m.who == "asynq" {
			stock[m.name] = row.Median
		} else if base := stock[m.name]; base > 0 {
			row.Ratio = row.Median / base
		}
		all = append(all, row)
	}
	return all
}

func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// each calls do for every job, from as many goroutines as enqueuers.
func (b *bench) each(do func(i int) error) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	for range concurrency {
		all.Go(func() {
			for i := next.Add(1); i <= int64(b.jobs) && failed.Load() == nil; i = next.Add(1) {
				if err := do(int(i)); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

func enqueueStock(ctx context.Context, b *bench) (time.Duration, error) {
	client := asynq.NewClientFromRedisClient(b.redis)
	began := time.Now()
	err := b.each(func(i int) error {
		_, err := client.EnqueueContext(ctx, asynq.NewTask("bench.noop", []byte("1")), asynq.Queue(b.queue), asynq.TaskID(fmt.Sprint("k", i)), asynq.Retention(time.Hour))
		return err
	})
	return time.Since(began), err
}

func enqueueOurs(ctx context.Context, b *bench) (time.Duration, error) {
	began := time.Now()
	err := b.fill(ctx, noop)
	return time.Since(began), err
}

func (b *bench) fill(ctx context.Context, kind jobs.Kind[int, int]) error {
	return b.each(func(i int) error {
		_, err := b.store.Enqueue(ctx, kind.New(fmt.Sprint("k", i), 1, jobs.Queue(b.queue)))
		return err
	})
}

// countdown is closed when all jobs have run.
func (b *bench) countdown() (hit func(), done chan struct{}) {
	var ran atomic.Int64
	done = make(chan struct{})
	return func() {
		if ran.Add(1) == int64(b.jobs) {
			close(done)
		}
	}, done
}

func drainStock(ctx context.Context, b *bench) (time.Duration, error) {
	if err := b.fill(ctx, noop); err != nil {
		return 0, err
	}
	hit, done := b.countdown()
	server := asynq.NewServerFromRedisClient(b.redis, asynq.Config{
		Concurrency: concurrency, Queues: map[string]int{b.queue: 1}, LogLevel: asynq.FatalLevel,
	})
	began := time.Now()
	if err := server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error { hit(); return nil })); err != nil {
		return 0, err
	}
	defer server.Shutdown()
	return await(ctx, began, done)
}

func drainOurs(ctx context.Context, b *bench) (time.Duration, error) {
	hit, done := b.countdown()
	return b.drain(ctx, noop, done, func(context.Context, int) (int, error) { hit(); return 0, nil })
}

func drainSteps(ctx context.Context, b *bench) (time.Duration, error) {
	hit, done := b.countdown()
	return b.drain(ctx, steps, done, func(ctx context.Context, n int) (int, error) {
		for _, name := range []string{"one", "two", "three", "four", "five"} {
			if _, err := jobs.Step(ctx, name, func(context.Context) (int, error) { return n, nil }); err != nil {
				return 0, err
			}
		}
		hit()
		return n, nil
	})
}

func (b *bench) drain(ctx context.Context, kind jobs.Kind[int, int], done chan struct{}, fn func(context.Context, int) (int, error)) (time.Duration, error) {
	if err := b.fill(ctx, kind); err != nil {
		return 0, err
	}
	w, err := worker.New(b.store, worker.Options{Handlers: []jobs.Handler{kind.Do(fn)}, Queues: map[string]int{b.queue: 1}, Concurrency: concurrency})
	if err != nil {
		return 0, err
	}
	working, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	began := time.Now()
	go func() { ended <- w.Run(working) }()
	took, err := await(ctx, began, done)
	stop()
	return took, errors.Join(err, <-ended)
}

func await(ctx context.Context, began time.Time, done chan struct{}) (time.Duration, error) {
	select {
	case <-done:
		return time.Since(began), nil
	case <-ctx.Done():
		return time.Since(began), ctx.Err()
	}
}
