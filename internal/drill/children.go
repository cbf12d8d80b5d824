package drill

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/perdure/perdure/examples/orders"
)

var serviceNames = []string{"payments", "warehouse", "mail"}

// Services are the order example's three services, each a process of its own.
type Services struct {
	dir      string
	urls     map[string]string
	children []*child
}

// StartServices starts the services as children of this binary, with their
// ledgers in dir. They stop with Stop.
func StartServices(ctx context.Context, executable, dir string, log io.Writer) (*Services, error) {
	s := &Services{dir: dir, urls: map[string]string{}}
	for _, name := range serviceNames {
		c, err := start(log, os.Environ(), executable, "example", "service", name, "--ledger", s.Ledger(name))
		if err != nil {
			return nil, errors.Join(err, s.Stop())
		}
		s.children = append(s.children, c)
		address, err := c.announced(ctx)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("service %s: %w", name, err), s.Stop())
		}
		s.urls[name] = "http://" + address
	}
	return s, nil
}

// URL is where a service listens.
func (s *Services) URL(name string) string { return s.urls[name] }

// Ledger is the file in which a service keeps its effects.
func (s *Services) Ledger(name string) string { return filepath.Join(s.dir, name+".jsonl") }

// Client returns what the example's handler calls the services with.
func (s *Services) Client() orders.Services {
	return orders.Services{Payments: s.URL("payments"), Warehouse: s.URL("warehouse"), Mail: s.URL("mail")}
}

// Variables are the services' addresses as the example's worker reads them from
// its environment.
func (s *Services) Variables() map[string]string {
	variables := map[string]string{}
	for name, url := range s.urls {
		variables["ORDERS_"+strings.ToUpper(name)+"_URL"] = url
	}
	return variables
}

// Environ is this process's environment with the services' addresses, and without
// settings of perdure: those of a drill's workers are the drill's.
func (s *Services) Environ() []string {
	var env []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "PERDURE_") && !strings.HasPrefix(entry, "REDIS_URL=") {
			env = append(env, entry)
		}
	}
	for name, value := range s.Variables() {
		env = append(env, name+"="+value)
	}
	return env
}

// Stop ends the services.
func (s *Services) Stop() error {
	var errs []error
	for _, c := range s.children {
		errs = append(errs, c.stop())
	}
	return errors.Join(errs...)
}

// child is a process of the own binary.
type child struct {
	cmd  *exec.Cmd
	out  io.ReadCloser
	name string
	gone bool // it has ended and was waited for
}

func start(log io.Writer, env []string, executable string, args ...string) (*child, error) {
	c := &child{cmd: exec.Command(executable, args...), name: strings.Join(args, " ")}
	c.cmd.Env, c.cmd.Stderr = env, log
	var err error
	if c.out, err = c.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	return c, nil
}

// announced reads the address that a service prints once it listens.
func (c *child) announced(ctx context.Context) (string, error) {
	type line struct {
		text string
		err  error
	}
	read := make(chan line, 1)
	go func() {
		text, err := bufio.NewReader(c.out).ReadString('\n')
		read <- line{text, err}
	}()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case <-time.After(10 * time.Second):
		return "", errors.New("did not listen within 10 s")
	case l := <-read:
		address, ok := strings.CutPrefix(strings.TrimSpace(l.text), "listening ")
		if l.err != nil || !ok {
			return "", fmt.Errorf("did not say where it listens: %q: %w", l.text, errors.Join(l.err))
		}
		return address, nil
	}
}

// stop asks a child to end, and makes it end after ten seconds.
func (c *child) stop() error {
	if c.gone {
		return nil
	}
	c.gone = true
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return c.cmd.Wait()
	}
	_ = c.cmd.Process.Signal(syscall.SIGCONT) // one that a drill has stopped would not hear it
	timer := time.AfterFunc(10*time.Second, func() { c.cmd.Process.Kill() })
	defer timer.Stop()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	return nil
}

// kill ends a child as kill -9 does, and returns when that was.
func (c *child) kill() (time.Time, error) {
	at := time.Now()
	if err := c.cmd.Process.Kill(); err != nil {
		return at, fmt.Errorf("kill %s: %w", c.name, err)
	}
	c.gone = true
	_ = c.cmd.Wait() // it says only that it was killed
	return at, nil
}

// signal sends a signal to a child and returns when that was.
func (c *child) signal(sig syscall.Signal) (time.Time, error) {
	at := time.Now()
	if err := c.cmd.Process.Signal(sig); err != nil {
		return at, fmt.Errorf("send %s to %s: %w", sig, c.name, err)
	}
	return at, nil
}
