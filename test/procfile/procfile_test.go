// Package procfile_test starts what the Procfile starts, on ports of its own.
package procfile_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/redistest"
)

// The limits are generous: the machine may be busy with other tests.
const (
	readyLimit = 60 * time.Second
	stopLimit  = 40 * time.Second
)

var (
	port   = regexp.MustCompile(`127\.0\.0\.1:(\d+)|--port (\d+)|await-redis\.sh (\d+)`)
	health = regexp.MustCompile(`PERDURE_HEALTH_LISTEN=(\S+)`)
)

func TestMain(m *testing.M) { redistest.Main(m) }

// entry is one line of a Procfile.
type entry struct{ name, command string }

func TestEachProcessStartsAndStops(t *testing.T) {
	t.Parallel()
	entries := read(t, "../../Procfile")
	var names []string
	for _, e := range entries {
		names = append(names, e.name)
	}
	if want := []string{"redis", "worker", "scheduler", "ops"}; !slices.Equal(names, want) {
		t.Fatalf("Procfile has %q, want %q", names, want)
	}

	dir := checkout(t)
	free := freePorts(t, entries)
	var started []*process
	for _, e := range entries {
		command := port.ReplaceAllStringFunc(e.command, func(match string) string {
			number := regexp.MustCompile(`\d+$`).FindString(match)
			return strings.TrimSuffix(match, number) + free[number]
		})
		started = append(started, start(t, dir, entry{e.name, command}))
	}
	for _, p := range started[1:] {
		p.awaitReady(t)
	}
	// Redis last, as the others need it to stop in order.
	slices.Reverse(started)
	for _, p := range started {
		p.stop(t)
	}
	if _, err := os.Stat(filepath.Join(dir, ".perdure/redis/appendonlydir")); err != nil {
		t.Errorf("Redis kept no append-only file where the Procfile says: %v", err)
	}
}

// Each process needs a port of its own: two that share one is a Procfile that
// starts only sometimes.
func TestHealthPortsDiffer(t *testing.T) {
	t.Parallel()
	taken := map[string]string{}
	for _, e := range read(t, "../../Procfile") {
		for _, match := range health.FindAllStringSubmatch(e.command, -1) {
			if other, twice := taken[match[1]]; twice {
				t.Errorf("%s and %s both listen on %s", other, e.name, match[1])
			}
			taken[match[1]] = e.name
		}
	}
	if len(taken) != 3 {
		t.Errorf("%d processes have a health address, want 3", len(taken))
	}
}

func read(t *testing.T, name string) []entry {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var entries []entry
	for line := range strings.Lines(string(text)) {
		name, command, found := strings.Cut(strings.TrimSpace(line), ": ")
		if !found {
			t.Fatalf("Procfile: %q is not name: command", line)
		}
		entries = append(entries, entry{name, command})
	}
	return entries
}

// checkout makes a folder with what the Procfile uses: a fresh bin/perdure, and
// deploy and scripts as they are.
func checkout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"deploy", "scripts"} {
		if err := os.Symlink(filepath.Join(root, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "bin/perdure"), "./cmd/perdure")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return dir
}

// freePorts gives each port of the Procfile one that nobody listens on. They are
// held until all are found, so that they differ.
func freePorts(t *testing.T, entries []entry) map[string]string {
	t.Helper()
	free := map[string]string{}
	for _, e := range entries {
		for _, match := range port.FindAllString(e.command, -1) {
			number := regexp.MustCompile(`\d+$`).FindString(match)
			if free[number] != "" {
				continue
			}
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			_, free[number], _ = net.SplitHostPort(listener.Addr().String())
		}
	}
	return free
}

type process struct {
	entry
	cmd    *exec.Cmd
	log    string
	ended  chan struct{}
	result error
}

func start(t *testing.T, dir string, e entry) *process {
	t.Helper()
	p := &process{entry: e, cmd: exec.Command("sh", "-c", e.command), log: filepath.Join(dir, e.name+".log"), ended: make(chan struct{})}
	p.cmd.Dir = dir
	// Settings of whoever runs the tests must not reach the processes.
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "PERDURE_") && !strings.HasPrefix(variable, "REDIS_URL=") {
			p.cmd.Env = append(p.cmd.Env, variable)
		}
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", e.name, err)
	}
	go func() {
		defer close(p.ended)
		p.result = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // gone already unless the test failed
		<-p.ended
	})
	return p
}

func (p *process) awaitReady(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), readyLimit)
	defer cancel()
	url := "http://" + health.FindStringSubmatch(p.command)[1] + "/readyz"
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := get(ctx, url)
		if err == nil {
			return
		}
		select {
		case <-p.ended:
			t.Fatalf("%s ended before it was ready: %v\n%s", p.name, p.result, p.output())
		case <-ctx.Done():
			t.Fatalf("%s is not ready within %s: %v\n%s", p.name, readyLimit, err, p.output())
		case <-again.C:
		}
	}
}

func get(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	request.Close = true // leaves no idle connection behind
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", response.Status, body)
	}
	return nil
}

// stop sends SIGTERM to the process itself, as a supervisor does.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("%s: %v\n%s", p.name, err, p.output())
	}
	select {
	case <-p.ended:
		if p.result != nil {
			t.Errorf("%s after SIGTERM: %v, want exit code 0\n%s", p.name, p.result, p.output())
		}
	case <-time.After(stopLimit):
		t.Errorf("%s still runs %s after SIGTERM\n%s", p.name, stopLimit, p.output())
	}
}

func (p *process) output() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
