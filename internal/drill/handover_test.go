package drill

import (
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
)

// set opens a stage on a Redis of the test's own.
func set(t *testing.T, executable string) *stage {
	t.Helper()
	s, err := openStage(t.Context(), Options{Executable: executable, RedisURL: redistest.URL(t), Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// self is this test binary, which is also the command line that drills start.
func self(t *testing.T) string {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return executable
}

// handsOver plays a stop of a worker in the middle of a call, and returns the
// job's calls, when the worker was told and how long it took to end.
func handsOver(t *testing.T, fault orders.Fault, args ...string) (calls []orders.Entry, told time.Time, took time.Duration) {
	t.Helper()
	var info jobs.Info
	s := set(t, self(t))
	b := orders.Batch{First: 11, Lines: 3}
	list := s.lines(b)
	fault.Path, fault.Match, fault.Count = "/reserve", list[1].ID, 1
	if err := orders.SetFault(t.Context(), s.services.URL("warehouse"), fault); err != nil {
		t.Fatal(err)
	}
	_, _, err := withCrew(2, func(ctx context.Context, c *crew) (string, string, error) {
		h, err := c.batch(ctx, b)
		if err != nil {
			return "", "", err
		}
		first, err := c.awaitCalls(ctx, 1, "/reserve", list[1])
		if err != nil {
			return "", "", err
		}
		w, err := c.by(first[0])
		if err != nil {
			return "", "", err
		}
		told = time.Now()
		if err := w.stop(); err != nil {
			return "", "", err
		}
		took = time.Since(told)
		if info, err = h.Wait(ctx); err != nil {
			return "", "", err
		}
		calls, err = c.calls("/reserve", list...)
		return "", "", err
	}, args...)(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if info.State != jobs.StateCompleted || info.Attempts != 0 || info.Crashes != 0 || info.Runs != 2 || len(info.Failures) != 0 {
		t.Errorf("%+v", info)
	}
	return calls, told, took
}

// A call that does not end is cut off by a short shutdown timeout, and the job
// goes on elsewhere at its last record.
func TestAStopHandsOverWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	calls, told, _ := handsOver(t, orders.Fault{Mode: "hang"}, "--shutdown-timeout", "200ms")
	last, next := switched(calls)
	if len(calls) != 4 || next.Order != last.Order {
		t.Fatalf("the line that was cut off is not the one that is called again: %+v", calls)
	}
	if stood := next.At.Sub(told); stood > handOver {
		t.Errorf("the job ran elsewhere %v after SIGTERM", stood)
	}
}

// By default a call may end: it is not repeated, and the job goes on elsewhere at
// once when it has.
func TestAStopLetsACallEnd(t *testing.T) {
	t.Parallel()
	const call = 3 * time.Second
	calls, told, took := handsOver(t, orders.Fault{Mode: "slow", DelayMS: int(call / time.Millisecond)})
	last, next := switched(calls)
	if len(calls) != 3 || last.Order == next.Order || next.Caller == "" {
		t.Fatalf("want each line called once, the last one by another worker: %+v", calls)
	}
	if took < call/2 {
		t.Errorf("the worker was gone after %v, before its call had ended", took)
	}
	if stood := next.At.Sub(last.At.Add(call)); stood > handOver || next.At.Before(told) {
		t.Errorf("the job went on %v after the call had ended", stood)
	}
}
