package devredis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// Options changes how Start chooses. The zero value is what `perdure dev` uses.
type Options struct {
	// ForceMiniredis uses miniredis even where redis-server is on PATH.
	ForceMiniredis bool
}

// Server is a running Redis and the lock on its data directory.
type Server struct {
	dir         string
	lock        *os.File
	backend     backend
	url         string
	description string
	died        chan error

	closing sync.Once
	closed  error
}

// backend is what answers: a redis-server or a miniredis.
type backend interface {
	// addr is host:port.
	addr() string
	// describe says what it is and what survives a restart, in one line.
	describe() string
	// stop returns when it has ended.
	stop() error
}

// Start starts a Redis whose data live in dir, which is created where it is
// missing. ctx bounds the start; the server then runs until Close.
func Start(ctx context.Context, dir string, log *slog.Logger) (*Server, error) {
	return Options{}.Start(ctx, dir, log)
}

// Start is the package's Start with options.
func (o Options) Start(ctx context.Context, dir string, log *slog.Logger) (*Server, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find the data directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the data directory: %w", err)
	}
	lock, err := acquire(ctx, dir)
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, lock: lock, died: make(chan error, 1)}
	if err := s.open(ctx, o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	log.InfoContext(ctx, "redis for development started", "redis", s.description)
	return s, nil
}

func (s *Server) open(ctx context.Context, o Options) error {
	var err error
	path, missing := exec.LookPath("redis-server")
	if o.ForceMiniredis || missing != nil {
		s.backend, err = startMiniredis()
	} else {
		s.backend, err = startChild(ctx, path, s.dir, s.lock, s.died)
	}
	if err != nil {
		return err
	}
	s.url = "redis://" + s.backend.addr() + "/0"
	s.description = s.backend.describe()
	return writeAddress(s.dir, s.url)
}

// URL returns the server's URL, redis://host:port/0.
func (s *Server) URL() string { return s.url }

// Description says in one line which Redis this is and what survives a restart.
func (s *Server) Description() string { return s.description }

// Died receives one error when redis-server ends although nobody asked it to.
func (s *Server) Died() <-chan error { return s.died }

// Durable reports that the server keeps what it holds when it ends: it is a
// redis-server and no miniredis.
func (s *Server) Durable() bool {
	_, ok := s.backend.(*child)
	return ok
}

// Crash ends redis-server with SIGKILL and starts it again after a while, at the
// same URL and on the same data; ctx bounds that. What it had answered is there
// afterwards. The error of a server that is not durable matches
// [errors.ErrUnsupported]. It must not be called together with Close.
func (s *Server) Crash(ctx context.Context, down time.Duration) error {
	c, ok := s.backend.(*child)
	if !ok {
		return fmt.Errorf("crash %s: %w", s.url, errors.ErrUnsupported)
	}
	var err error
	s.backend, err = c.crash(ctx, down)
	if err != nil {
		return fmt.Errorf("crash redis-server: %w", err)
	}
	return nil
}

// Close stops the server and lets go of the data directory. Closing it again
// returns the first call's result.
func (s *Server) Close() error {
	s.closing.Do(func() { s.closed = s.close() })
	return s.closed
}

// close releases the lock last: the next owner must find the data at rest.
func (s *Server) close() error {
	err := removeAddress(s.dir)
	if s.backend != nil {
		err = errors.Join(err, s.backend.stop())
	}
	return errors.Join(err, s.lock.Close())
}
