package redistest

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
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// startLimit is generous: on a busy machine a fork alone may take a second.
	startLimit = 20 * time.Second
	// logTail is how much of the server's log an error carries.
	logTail = 2000
)

var errNoServer = errors.New("redis-server is not on PATH: install it with `make redis` or `apt-get install -y redis-server`")

// process is one run of redis-server.
type process struct {
	cmd     *exec.Cmd
	addr    string
	log     string
	started chan error
	ended   chan struct{}
}

// launch starts redis-server in dir and returns once it answers.
func launch(dir string, port int, args []string) (*process, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errNoServer
	}
	args = append([]string{"--bind", "127.0.0.1", "--port", strconv.Itoa(port)}, args...)
	p := &process{
		cmd:     exec.Command(path, args...),
		addr:    net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		log:     filepath.Join(dir, "redis.log"),
		started: make(chan error, 1),
		ended:   make(chan struct{}),
	}
	p.cmd.Dir = dir
	p.cmd.SysProcAttr = childAttr()
	go p.own()
	if err := <-p.started; err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	if err := p.waitReady(); err != nil {
		p.stop()
		return nil, fmt.Errorf("redis-server on port %d: %w; its log ends with:\n%s", port, err, p.tail())
	}
	return p, nil
}

// own starts the child and waits for it on one locked thread: the kernel sends
// the parent-death signal when the thread that forked ends, not the process.
func (p *process) own() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.ended)
	// A file and no pipe, so that no goroutine copies the output.
	out, err := os.Create(p.log)
	if err != nil {
		p.started <- err
		return
	}
	defer out.Close()
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		p.started <- err
		return
	}
	p.started <- nil
	_ = p.cmd.Wait() // how it ended is in its log
}

// stop kills the server, frozen or not, and waits until it is gone.
func (p *process) stop() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// waitReady returns when this very process serves commands.
func (p *process) waitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	retry := time.NewTicker(5 * time.Millisecond)
	defer retry.Stop()
	for {
		err := p.probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return errors.New("ended before it was ready")
		case <-ctx.Done():
			return fmt.Errorf("not ready within %s: %w", startLimit, err)
		case <-retry.C:
		}
	}
}

// probe asks for the process ID as well as for a PING: when another process took
// the port first, a PING alone would be answered by a stranger.
func (p *process) probe(ctx context.Context) error {
	// go-redis logs each refused connection, and early refusals are expected here.
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.addr)
	if err != nil {
		return err
	}
	_ = conn.Close()
	rdb := redis.NewClient(&redis.Options{Addr: p.addr, MaxRetries: -1})
	defer rdb.Close()
	if err := rdb.Ping(ctx).Err(); err != nil {
		return err
	}
	info, err := rdb.Info(ctx, "server").Result()
	if err != nil {
		return err
	}
	if !strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", p.cmd.Process.Pid)) {
		return errors.New("another redis-server answers on this port")
	}
	return nil
}

func (p *process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-logTail):])
}

// freePort returns a port that nobody listens on. It stays below the range that
// kernels take for outgoing connections: while a server of ours is down for a
// restart, no client's connection can sit on its port.
func freePort() (int, error) {
	const first, count, tries = 20000, 12000, 50
	for range tries {
		port := first + rand.IntN(count)
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		return port, listener.Close()
	}
	return 0, fmt.Errorf("no free port between %d and %d after %d tries: end other servers on this machine", first, first+count, tries)
}

// launchAnywhere launches on a free port, and on another one when it was taken
// between the choice and the start.
func launchAnywhere(dir string, args []string) (p *process, port int, err error) {
	for range 3 {
		if port, err = freePort(); err != nil {
			return nil, 0, err
		}
		p, err = launch(dir, port, args)
		if err == nil || errors.Is(err, errNoServer) {
			return p, port, err
		}
	}
	return nil, 0, err
}
