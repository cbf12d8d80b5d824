package devredis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	readyLimit = 10 * time.Second
	stopLimit  = 10 * time.Second
	// logTail is how much of redis-server's log an error carries.
	logTail = 2000
)

// child is a redis-server that this process started.
type child struct {
	cmd      *exec.Cmd
	dir      string
	address  string
	version  string
	stopping atomic.Bool
	started  chan error
	ended    chan struct{}
	died     chan<- error
}

// startChild runs redis-server in dir until stop, and reports on died when it ends
// before.
func startChild(ctx context.Context, path, dir string, lock *os.File, died chan<- error) (backend, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	return startChildOn(ctx, port, path, dir, lock, died)
}

func startChildOn(ctx context.Context, port, path, dir string, lock *os.File, died chan<- error) (backend, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readyLimit, fmt.Errorf("redis-server did not answer within %s", readyLimit))
	defer cancel()
	c := &child{
		cmd:     exec.Command(path, arguments(port)...),
		dir:     dir,
		address: net.JoinHostPort("127.0.0.1", port),
		started: make(chan error, 1),
		ended:   make(chan struct{}),
		died:    died,
	}
	c.cmd.Dir = dir // data go to the working directory, whatever characters its name has
	c.cmd.SysProcAttr = childAttr()
	c.cmd.ExtraFiles = []*os.File{lock} // see the package comment
	go c.own()
	if err := <-c.started; err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	if err := c.waitReady(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, c.logEnd()), c.stop())
	}
	return c, nil
}

func arguments(port string) []string {
	return []string{
		"--bind", "127.0.0.1", "--port", port,
		"--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
		"--maxmemory-policy", "noeviction",
	}
}

// own starts the child and waits for it on one locked thread: the kernel sends
// the parent-death signal when the thread that forked ends, not the process.
func (c *child) own() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(c.ended)
	out, err := os.OpenFile(c.logPath(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		c.started <- err
		return
	}
	defer out.Close()
	c.cmd.Stdout, c.cmd.Stderr = out, out
	err = c.cmd.Start()
	c.started <- err
	if err != nil {
		return
	}
	_ = c.cmd.Wait() // ProcessState says how it ended
	if !c.stopping.Load() {
		c.died <- fmt.Errorf("redis-server ended unexpectedly (%v): restart perdure dev; jobs are kept in %s\n%s", c.cmd.ProcessState, c.dir, c.logEnd())
	}
}

func (c *child) waitReady(ctx context.Context) error {
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for {
		err := c.probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-c.ended:
			return errors.New("redis-server ended before it was ready")
		case <-ctx.Done():
			return fmt.Errorf("%w: %v", context.Cause(ctx), err)
		case <-retry.C:
		}
	}
}

// probe asks for the process ID as well as for a PING: when another process took
// the port first, a PING alone would be answered by a stranger.
func (c *child) probe(ctx context.Context) error {
	// go-redis logs each refused connection, and early refusals are expected here.
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.address)
	if err != nil {
		return err
	}
	_ = conn.Close()
	rdb := redis.NewClient(&redis.Options{Addr: c.address, MaxRetries: -1})
	defer rdb.Close()
	if err := rdb.Ping(ctx).Err(); err != nil {
		return err
	}
	info, err := rdb.Info(ctx, "server").Result()
	if err != nil {
		return err
	}
	if field(info, "process_id") != strconv.Itoa(c.cmd.Process.Pid) {
		return fmt.Errorf("another redis-server answers on %s", c.address)
	}
	c.version = field(info, "redis_version")
	return nil
}

// field reads one "name:value" line of INFO.
func field(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (c *child) addr() string { return c.address }

func (c *child) describe() string {
	return fmt.Sprintf("redis-server %s (pid %d) on %s; jobs are kept in %s and survive a restart (a power loss may take the last 2 seconds)",
		c.version, c.cmd.Process.Pid, c.address, c.dir)
}

// stop asks redis-server to write its file and end, and kills it when it takes too
// long.
func (c *child) stop() error {
	c.stopping.Store(true)
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // fails only when it has ended
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	select {
	case <-c.ended:
		return nil
	case <-limit.C:
	}
	_ = c.cmd.Process.Kill()
	<-c.ended
	return fmt.Errorf("redis-server did not stop within %s and was killed: the last 2 seconds may be missing from %s", stopLimit, c.dir)
}

// crash kills redis-server and starts it again in its place after a while.
func (c *child) crash(ctx context.Context, down time.Duration) (backend, error) {
	c.stopping.Store(true)
	_ = c.cmd.Process.Kill() // fails only when it has ended
	<-c.ended
	select {
	case <-time.After(down):
	case <-ctx.Done():
		return c, context.Cause(ctx)
	}
	_, port, err := net.SplitHostPort(c.address)
	if err != nil {
		return c, err
	}
	next, err := startChildOn(ctx, port, c.cmd.Path, c.dir, c.cmd.ExtraFiles[0], c.died)
	if err != nil {
		return c, err
	}
	return next, nil
}

func (c *child) logPath() string { return filepath.Join(c.dir, "redis.log") }

func (c *child) logEnd() string {
	text, err := os.ReadFile(c.logPath())
	if err != nil {
		return fmt.Sprintf("its log cannot be read: %v", err)
	}
	return fmt.Sprintf("%s ends with:\n%s", c.logPath(), text[max(0, len(text)-logTail):])
}

// freePort returns a port that nobody listens on. It stays below the range that
// kernels take for outgoing connections, so that no client sits on it.
func freePort() (string, error) {
	const first, count, tries = 20000, 12000, 50
	for range tries {
		port := strconv.Itoa(first + rand.IntN(count))
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			continue
		}
		return port, listener.Close()
	}
	return "", fmt.Errorf("no free port between %d and %d after %d tries: end other servers on this machine", first, first+count, tries)
}
