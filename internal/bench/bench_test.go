package bench

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

func TestMain(m *testing.M) { redistest.Main(m) }

func TestEveryMeasureIsTakenAndCleanedUp(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	rows, err := Run(t.Context(), url, Options{Jobs: 100, Rounds: 1})
	if err != nil || len(rows) != len(measures) {
		t.Fatalf("%v %+v", err, rows)
	}
	for _, row := range rows {
		if row.Median <= 0 || row.Min > row.Median || row.Max < row.Median || (row.Name != "5-step job" && row.Who == "perdure") != (row.Ratio > 0) {
			t.Errorf("%+v", row)
		}
	}
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	defer client.Close()
	if left := client.Keys(t.Context(), "*bench*").Val(); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestOptionsAreBounded(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{Jobs: 99, Rounds: 1}, {Jobs: 2_000_000, Rounds: 1}, {Jobs: 100}, {Jobs: 100, Rounds: 101}} {
		if _, err := Run(t.Context(), "redis://127.0.0.1:1", o); !errors.Is(err, jobs.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// Each benchmark is one measure; the time of an operation is that of one job.
func benchmark(b *testing.B, run func(context.Context, *bench) (time.Duration, error)) {
	client := redistest.Client(b)
	s := store.New(client, client)
	w := &bench{store: s, redis: client, jobs: b.N, queue: "bench"}
	took, err := run(b.Context(), w)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/took.Seconds(), "jobs/s")
	b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), "ns/op")
}

func BenchmarkEnqueueStock(b *testing.B) { benchmark(b, enqueueStock) }
func BenchmarkEnqueue(b *testing.B)      { benchmark(b, enqueueOurs) }
func BenchmarkDrainStock(b *testing.B)   { benchmark(b, drainStock) }
func BenchmarkDrain(b *testing.B)        { benchmark(b, drainOurs) }
func BenchmarkFiveSteps(b *testing.B)    { benchmark(b, drainSteps) }
