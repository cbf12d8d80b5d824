package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// child is a process that this one started.
type child struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{} // closed once it is gone
}

// launch starts a child that writes what it says to <dir>/<name>.log, after what
// those before it of that name have said. When it ends, so does whatever it has
// started itself.
func launch(dir, name string, environ []string, program string, args ...string) (*child, error) {
	c := &child{name: name, cmd: exec.Command(program, args...), ended: make(chan struct{})}
	c.cmd.Dir, c.cmd.Env, c.cmd.SysProcAttr = dir, environ, childAttr()
	out, err := os.OpenFile(logOf(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	c.cmd.Stdout, c.cmd.Stderr = out, out
	started := make(chan error, 1)
	go func() {
		// The kernel sends the parent-death signal when the thread that forked ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(c.ended)
		defer out.Close()
		err := c.cmd.Start()
		started <- err
		if err == nil {
			_ = c.cmd.Wait() // ProcessState says how it ended
			_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return c, nil
}

func logOf(dir, name string) string { return filepath.Join(dir, name+".log") }

// signal reports whether the child was there to get it.
func (c *child) signal(s syscall.Signal) bool {
	select {
	case <-c.ended:
		return false
	default:
		return c.cmd.Process.Signal(s) == nil
	}
}

// kill ends the child with SIGKILL, and returns when it is gone: true when this was
// what ended it.
func (c *child) kill() bool {
	select {
	case <-c.ended:
		return false
	default:
	}
	_ = c.cmd.Process.Kill()
	<-c.ended
	return c.killed()
}

// killed reports that a SIGKILL ended it.
func (c *child) killed() bool {
	status, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// stop asks the child to end, and kills it when it takes too long.
func (c *child) stop(limit time.Duration) error {
	if !c.signal(syscall.SIGTERM) {
		return nil
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-c.ended:
		if code := c.cmd.ProcessState.ExitCode(); code != 0 {
			return fmt.Errorf("%s ended with %v", c.name, c.cmd.ProcessState)
		}
		return nil
	case <-timer.C:
		c.kill()
		return errors.New(c.name + " did not stop within " + limit.String())
	}
}
