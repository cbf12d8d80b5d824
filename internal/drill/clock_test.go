package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/jobs"
)

// crooked builds the perdure binary with a clock that is off by the seconds in the
// variable CLOCK_OFF: every time.Now of the process, whoever calls it. What is
// measured between two calls is right, as it is with a clock that is set wrong.
func crooked(t *testing.T) string {
	t.Helper()
	root := goTool(t, "env", "GOROOT")
	clock := filepath.Join(root, "src/time/time.go")
	text, err := os.ReadFile(clock)
	if err != nil {
		t.Fatal(err)
	}
	const reads = "\tsec, nsec, mono := runtimeNow()\n\tif mono == 0 {"
	if strings.Count(string(text), reads) != 1 {
		t.Fatalf("%s does not read the clock as it did in Go 1.26: say here how it does now", clock)
	}
	dir := t.TempDir()
	replaced := map[string]string{clock: filepath.Join(dir, "time.go"), filepath.Join(root, "src/time/off.go"): filepath.Join(dir, "off.go")}
	write(t, replaced[clock], strings.Replace(string(text), reads, strings.Replace(reads, "\n", "\n\tsec += clockOff\n", 1), 1))
	write(t, filepath.Join(dir, "off.go"), clockOff)
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "overlay.json"), string(overlay))
	goTool(t, "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", filepath.Join(dir, "perdure"), "../../cmd/perdure")
	return filepath.Join(dir, "perdure")
}

// clockOff is in package time, which can import little.
const clockOff = `package time

import "syscall"

var clockOff = func() (off int64) {
	text, _ := syscall.Getenv("CLOCK_OFF")
	sign := int64(1)
	for _, c := range []byte(text) {
		if c == '-' {
			sign = -1
			continue
		}
		off = off*10 + int64(c-'0')
	}
	return sign * off
}()
`

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func goTool(t *testing.T, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", args...)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out))
}

// Two workers, one with its clock 25 h ahead and one 25 h behind, and nobody else
// to look after due jobs and dead workers: everything happens as and when it
// should.
func TestAWrongClockChangesNothing(t *testing.T) {
	t.Parallel()
	binary := crooked(t)
	s := set(t, self(t))
	if err := s.worker.stop(); err != nil { // its clock is right
		t.Fatal(err)
	}
	s.executable = binary
	_, _, err := withCrew(0, func(ctx context.Context, c *crew) (string, string, error) {
		for _, off := range []time.Duration{25 * time.Hour, -25 * time.Hour} {
			c.variables = []string{fmt.Sprintf("CLOCK_OFF=%d", int(off.Seconds()))}
			if _, err := c.hire(ctx); err != nil {
				return "", "", err
			}
		}
		c.steady = time.Now().Add(steadyAfter)
		return "", "", errors.Join(wrongClocks(t, ctx, c), dies(t, ctx, c))
	})(t.Context(), s)
	if err != nil {
		t.Error(err)
	}
}

// wrongClocks runs jobs that depend on time: retries, pauses, delays, deadlines.
func wrongClocks(t *testing.T, ctx context.Context, c *crew) error {
	list := c.orders[900:930]
	warehouse := c.services.URL("warehouse")
	err := errors.Join(
		orders.SetFault(ctx, warehouse, orders.Fault{Mode: "500", Count: 2, Path: "/reserve", Match: list[0].ID}),
		orders.SetFault(ctx, warehouse, orders.Fault{Mode: "503", Count: 1, Path: "/reserve", Match: list[1].ID}),
		orders.SetFault(ctx, warehouse, orders.Fault{Mode: "429", Count: 1, RetryAfterMS: 1000, Path: "/reserve", Match: list[2].ID}))
	if err != nil {
		return err
	}
	began := time.Now()
	const delay = 2 * time.Second
	options := map[int][]jobs.JobOption{
		3: {jobs.Delay(delay)},
		4: {jobs.Deadline(began.Add(time.Hour))},
		5: {jobs.Delay(delay), jobs.Deadline(began.Add(delay / 2))}, // expires before it begins
	}
	var handles []jobs.Handle
	for i, o := range list {
		h, err := c.store.Enqueue(ctx, orders.Fulfil.New(o.ID, o, append(options[i], jobs.Queue(c.queue))...))
		if err != nil {
			return err
		}
		handles = append(handles, h)
	}
	infos, err := ends(ctx, handles)
	if err != nil {
		return err
	}
	for i, info := range infos {
		onTime(t, info, began)
		state, attempts := jobs.StateCompleted, 0
		switch i {
		case 0:
			attempts = 2
		case 5:
			state, attempts = jobs.StateQuarantined, 1
		}
		if info.State != state || info.Attempts != attempts || info.Crashes != 0 {
			t.Errorf("job %d is %s with %d attempts used and %d crashes, want %s and %d", i, info.State, info.Attempts, info.Crashes, state, attempts)
		}
	}
	if f := infos[5].LastFailure(); f == nil || f.Class != jobs.ClassExpired {
		t.Errorf("a job past its deadline failed with %+v", f)
	}
	calls, err := c.calls("/charge", list[3])
	if err != nil || len(calls) != 1 || calls[0].At.Sub(began) < delay || calls[0].At.Sub(began) > delay+5*time.Second {
		t.Errorf("a job delayed by %v: %+v, %v", delay, calls, err)
	}
	return seen(t, c)
}

func ends(ctx context.Context, handles []jobs.Handle) ([]jobs.Info, error) {
	var infos []jobs.Info
	for _, h := range handles {
		info, err := h.Wait(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", h.Key, err)
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// onTime holds what is recorded of a job to the right time.
func onTime(t *testing.T, info jobs.Info, began time.Time) {
	t.Helper()
	times := map[string]time.Time{"enqueued": info.EnqueuedAt}
	for _, step := range info.Steps {
		times["step "+step.Name] = step.Ended
	}
	for i, f := range info.Failures {
		times[fmt.Sprint("failure ", i)] = f.At
	}
	if info.State == jobs.StateCompleted {
		times["end of retention"] = info.ExpiresAt.Add(-jobs.DefaultRetention)
	}
	for what, at := range times {
		if at.Before(began.Add(-2*time.Second)) || at.After(time.Now().Add(2*time.Second)) {
			t.Errorf("%s: %s is put down for %v", info.Key, what, at)
		}
	}
}

// seen looks for the workers with asynq's own tools.
func seen(t *testing.T, c *crew) error {
	servers, err := asynq.NewInspectorFromRedisClient(c.store.Redis()).Servers()
	if err != nil {
		return err
	}
	if len(servers) != len(c.workers) {
		t.Errorf("asynq's tools show %d workers, want %d", len(servers), len(c.workers))
	}
	return nil
}

// dies kills the worker that runs a job; the other one takes over, with its own
// wrong clock.
func dies(t *testing.T, ctx context.Context, c *crew) error {
	observed, evidence, err := workerCrash(ctx, c)
	t.Log(observed)
	t.Log(evidence)
	return err
}
