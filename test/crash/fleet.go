package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// process is one worker.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // it has ended, and all that it has told is known
}

// fleet is the worker processes.
type fleet struct {
	options options
	url     string
	told    func(event)

	mu      sync.Mutex
	workers []*process
}

// start adds a worker.
func (f *fleet) start() error {
	cmd := exec.Command(f.options.executable, "worker", "--queues", queue, "--concurrency", strconv.Itoa(f.options.slots))
	cmd.Env, cmd.Stderr = append(os.Environ(), "PERDURE_REDIS_URL="+f.url), f.options.log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a worker: %w", err)
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		f.listen(out)
		_ = cmd.Wait() // ProcessState says how it ended
	}()
	f.mu.Lock()
	f.workers = append(f.workers, p)
	f.mu.Unlock()
	return nil
}

func (f *fleet) listen(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) == nil { // else it was killed within a line
			f.told(e)
		}
	}
}

// take takes a worker off the fleet.
func (f *fleet) take(pid int) *process {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, p := range f.workers {
		if p.cmd.Process.Pid == pid {
			f.workers = append(f.workers[:i], f.workers[i+1:]...)
			return p
		}
	}
	return nil
}

// dead returns an error when a worker has ended that nobody has killed.
func (f *fleet) dead() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.workers {
		select {
		case <-p.ended:
			return fmt.Errorf("worker %d ended by itself: %s", p.cmd.Process.Pid, p.cmd.ProcessState)
		default:
		}
	}
	return nil
}

// kill ends a worker as kill -9 does, and returns when that was.
func (p *process) kill() (time.Time, error) {
	at := time.Now()
	err := p.cmd.Process.Kill()
	<-p.ended
	return at, err
}

// stop ends the workers in order.
func (f *fleet) stop() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for _, p := range f.workers {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only when it has ended
	}
	for _, p := range f.workers {
		late := time.AfterFunc(time.Minute, func() { _ = p.cmd.Process.Kill() })
		<-p.ended
		late.Stop()
		if !p.cmd.ProcessState.Success() {
			errs = append(errs, fmt.Errorf("worker %d after SIGTERM: %s", p.cmd.Process.Pid, p.cmd.ProcessState))
		}
	}
	f.workers = nil
	return errors.Join(errs...)
}
