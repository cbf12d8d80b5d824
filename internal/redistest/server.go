package redistest

import (
	"context"
	"sync"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Server is a redis-server of one test's own, for a test that does harm to it. It
// writes every command to disk before it answers, so that what it acknowledged is
// there after Kill and Restart. Its methods may be called from any goroutine of
// the test.
type Server struct {
	t    testing.TB
	dir  string
	port int
	args []string

	mu   sync.Mutex
	proc *process
	down bool // killed, and not started again
}

// NewServer starts a server that ends with the test. args are further options of
// redis-server and win over the ones set here.
func NewServer(t testing.TB, args ...string) *Server {
	t.Helper()
	s := &Server{t: t, dir: t.TempDir()}
	s.args = append([]string{"--save", "", "--appendonly", "yes", "--appendfsync", "always"}, debugArgs()...)
	s.args = append(s.args, args...)
	var err error
	if s.proc, s.port, err = launchAnywhere(s.dir, s.args); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.end)
	return s
}

// URL returns the server's URL. It stays the same through Restart.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return "redis://" + s.proc.addr + "/0"
}

// Kill ends the server with SIGKILL and returns when it is gone. Killing it again
// does nothing.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc.stop()
	s.down = true
}

// end looks at what the test has left in quarantine, where the server still answers,
// and kills it.
func (s *Server) end() {
	defer s.Kill()
	if _, foreign := shared.foreign.LoadAndDelete(s.t.Name()); foreign || s.down || s.t.Failed() {
		return
	}
	s.Thaw()
	ctx, cancel := context.WithTimeout(context.Background(), endLimit)
	defer cancel()
	rdb := redis.NewClient(&redis.Options{Addr: s.proc.addr, ReadTimeout: endLimit})
	defer rdb.Close()
	if err := rdb.Ping(ctx).Err(); err != nil {
		s.t.Logf("the quarantine of this test's own server is not looked at: %v", err) // it asks for a password, for example
		return
	}
	checkQuarantine(ctx, s.t, rdb)
}

// Restart kills the server where it still runs, starts it on the same port and
// data, and returns when it answers.
func (s *Server) Restart() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc.stop()
	p, err := launch(s.dir, s.port, s.args)
	if err != nil {
		// Errorf, because Fatal may only be called from the test's own goroutine.
		s.t.Errorf("restart: %v", err)
		return
	}
	s.proc, s.down = p, false
}

// Freeze stops the server with SIGSTOP: connections stay open, and nothing
// answers.
func (s *Server) Freeze() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
}

// Thaw lets a frozen server go on.
func (s *Server) Thaw() {
	s.t.Helper()
	s.signal(syscall.SIGCONT)
}

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.proc.cmd.Process.Signal(sig); err != nil {
		s.t.Errorf("send %s to redis-server: %v", sig, err)
	}
}
