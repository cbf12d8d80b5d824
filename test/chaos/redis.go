package chaos

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed shim/powerloss.c
var powerLossSource []byte

// server is a redis-server that harm is done to. It keeps its port and its files.
type server struct {
	dir, name, shim string
	port            int
	fsync           string // appendfsync
	args            []string
	rdb             *redis.Client // past the proxies

	mu    sync.Mutex
	child *child
	cut   int64 // bytes that losses of power have taken
}

// compileShim builds the library that notes what is on disk.
func compileShim(ctx context.Context, dir string) (string, error) {
	source, library := filepath.Join(dir, "powerloss.c"), filepath.Join(dir, "powerloss.so")
	if err := os.WriteFile(source, powerLossSource, 0o600); err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, "gcc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("compile the power-loss shim with gcc (install it): %w\n%s", err, out)
	}
	return library, nil
}

// startServer starts a redis-server with its files in <dir>/<name>.
func startServer(ctx context.Context, dir, name, shim, fsync string, args ...string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &server{dir: filepath.Join(dir, name), name: name, shim: shim, port: port, fsync: fsync, args: args}
	if err := os.MkdirAll(filepath.Join(s.dir, "synced"), 0o700); err != nil {
		return nil, err
	}
	s.rdb = redis.NewClient(&redis.Options{Addr: s.addr(), MaxRetries: -1, DialTimeout: time.Second, ReadTimeout: 2 * time.Second})
	return s, s.start(ctx)
}

func (s *server) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// start runs redis-server on its files and returns when it answers.
func (s *server) start(ctx context.Context) error {
	args := append([]string{
		"--bind", "127.0.0.1", "--port", strconv.Itoa(s.port), "--dir", s.dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", s.fsync, "--maxmemory-policy", "noeviction",
	}, s.args...)
	environ := append(os.Environ(), "LD_PRELOAD="+s.shim, "POWERLOSS_DIR="+filepath.Join(s.dir, "synced"))
	c, err := launch(s.dir, s.name, environ, "redis-server", args...)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.child = c
	s.mu.Unlock()
	return s.awaitReady(ctx, c)
}

func (s *server) awaitReady(ctx context.Context, c *child) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := s.rdb.Ping(ctx).Err()
		if err == nil {
			return nil
		}
		select {
		case <-c.ended:
			return fmt.Errorf("%s ended at its start (%v); see %s", s.name, c.cmd.ProcessState, logOf(s.dir, s.name))
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w", s.name, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// kill reports whether there was something to kill.
func (s *server) kill() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.child != nil && s.child.kill()
}

// freeze stops the server for a while: its connections stay open, and nothing
// answers.
func (s *server) freeze(ctx context.Context, d time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.child.signal(syscall.SIGSTOP) {
		return false
	}
	sleep(ctx, d)
	return s.child.signal(syscall.SIGCONT)
}

// losePower kills the server and cuts each of its append-only files to what was on
// disk. A file that was never synced is empty then.
func (s *server) losePower() (bool, error) {
	killed := s.kill()
	files, err := filepath.Glob(filepath.Join(s.dir, "appendonlydir", "*.incr.aof"))
	if err != nil {
		return killed, err
	}
	for _, file := range files {
		size, err := s.synced(filepath.Base(file))
		if err != nil {
			return killed, err
		}
		info, err := os.Stat(file)
		if err != nil {
			return killed, err
		}
		if info.Size() > size {
			s.cut += info.Size() - size
			if err := os.Truncate(file, size); err != nil {
				return killed, err
			}
		}
	}
	return killed, nil
}

func (s *server) synced(file string) (int64, error) {
	text, err := os.ReadFile(filepath.Join(s.dir, "synced", file))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

func (s *server) close() {
	s.kill()
	s.rdb.Close()
}

// freePort returns a port of loopback below the range that kernels take for
// outgoing connections, so that no client sits on it during a restart.
func freePort() (int, error) {
	for range 50 {
		port := 20000 + rand.IntN(12000)
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, listener.Close()
		}
	}
	return 0, errors.New("no free port between 20000 and 32000: end other servers on this machine")
}

// sleep waits unless the context ends first; it reports whether it waited.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
