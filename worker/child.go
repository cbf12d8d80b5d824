package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// isolatedMark is the environment variable that tells a program that it was
// started to run suspects. It reads orders from descriptor 3 and reports on 4.
const isolatedMark = "PERDURE_ISOLATED"

const (
	childStarts = 20 * time.Second // how long a program may take to be ready
	childEnds   = 2 * time.Second  // how much longer than a handler's grace its process gets
)

// order is what a worker tells an isolated process: one of its fields.
type order struct {
	Job   *delivery.Delivery `json:"job,omitempty"`
	Reply *reply             `json:"reply,omitempty"`
	End   string             `json:"end,omitempty"` // why the job is to end: a cause
}

// reply answers a request of the handler's.
type reply struct {
	ID    int    `json:"id"`
	Cause string `json:"cause,omitempty"` // of a failure: one of causes, or "permanent"
	Text  string `json:"text,omitempty"`

	Output []byte       `json:"output,omitempty"` // of a wait that is over
	Ended  []jobs.Ended `json:"ended,omitempty"`  // the children that were asked for
	Ready  bool         `json:"ready,omitempty"`
}

// report is what an isolated process tells its worker: one of its fields.
type report struct {
	Ready      bool                 `json:"ready,omitempty"`
	ID         int                  `json:"id,omitempty"` // of a request, to be replied to
	Checkpoint *delivery.Checkpoint `json:"checkpoint,omitempty"`
	Progress   *savedProgress       `json:"progress,omitempty"`
	Await      *jobs.Wait           `json:"await,omitempty"`
	Children   *jobs.Group          `json:"children,omitempty"`
	Wait       bool                 `json:"wait,omitempty"` // for the children
	Verdict    *delivery.Verdict    `json:"verdict,omitempty"`
	Idle       bool                 `json:"idle,omitempty"` // the handler has returned
}

type savedProgress struct {
	Step string `json:"step"`
	Data []byte `json:"data"`
}

// causes are the errors that cross the pipe, by their name there.
var causes = map[string]error{
	"lost": jobs.ErrLost, "cancelled": jobs.ErrCancelled, "paused": jobs.ErrPaused, "shutdown": jobs.ErrShutdown, "unavailable": jobs.ErrUnavailable,
}

func causeOf(err error) (name, text string) {
	for name, cause := range causes {
		if errors.Is(err, cause) {
			return name, err.Error()
		}
	}
	return "permanent", err.Error()
}

func causedBy(name, text string) error {
	if cause, ok := causes[name]; ok {
		return cause
	}
	return jobs.Permanent(errors.New(text))
}

// child is an isolated process, seen from its worker.
type child struct {
	cmd     *exec.Cmd
	orders  io.WriteCloser
	encoder *json.Encoder
	sending sync.Mutex
	reports chan report // closed when the process has ended
	output  *tail
	used    bool
}

// startChild starts the program again and waits until it is ready to serve.
func startChild(ctx context.Context, command []string) (*child, error) {
	theirOrders, orders, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	reports, theirReports, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, theirOrders.Close(), orders.Close())
	}
	c := &child{orders: orders, encoder: json.NewEncoder(orders), reports: make(chan report), output: &tail{to: os.Stderr}}
	c.cmd = exec.Command(command[0], command[1:]...)
	c.cmd.Env = append(os.Environ(), isolatedMark+"=1")
	c.cmd.ExtraFiles = []*os.File{theirOrders, theirReports}
	c.cmd.Stdout, c.cmd.Stderr = os.Stderr, c.output
	c.cmd.WaitDelay = childEnds                             // what a handler has started may keep the descriptors
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a signal to the worker's group is the worker's
	err = c.cmd.Start()
	theirOrders.Close()
	theirReports.Close()
	if err != nil {
		return nil, errors.Join(err, orders.Close(), reports.Close())
	}
	go c.read(reports)
	if err := c.awaitReady(ctx); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *child) awaitReady(ctx context.Context) error {
	timer := time.NewTimer(childStarts)
	defer timer.Stop()
	select {
	case r := <-c.reports:
		if !r.Ready {
			return fmt.Errorf("%s ended before it was ready: %s", c.cmd.Path, c.cmd.ProcessState)
		}
		return nil
	case <-timer.C:
		return fmt.Errorf("%s was not ready within %v: it has to reach Run, Work, Main or ServeIsolated", c.cmd.Path, childStarts)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// read passes reports on until the process has ended.
func (c *child) read(from io.ReadCloser) {
	defer close(c.reports)
	decoder := json.NewDecoder(from)
	for {
		var r report
		if decoder.Decode(&r) != nil {
			break
		}
		c.reports <- r
	}
	from.Close()
	c.cmd.Wait()
}

// close ends the process: it leaves when its orders end.
func (c *child) close() {
	c.orders.Close()
	timer := time.AfterFunc(childEnds, c.kill)
	defer timer.Stop()
	for range c.reports { // until it has ended
	}
}

// kill ends the process and those that it has started.
func (c *child) kill() { _ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) }

func (c *child) send(o order) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	return c.encoder.Encode(o)
}

// ending is how a job's execution in a child ended.
type ending struct {
	verdict  *delivery.Verdict // the child's own
	err      error             // the child was killed by us, because of this
	status   string            // else: how the process ended
	stack    string            // and of a panic, where
	reusable bool
}

// run has a job run in the child. The caller settles what comes of it.
func (c *child) run(a *attempt) ending {
	c.used = true
	c.output.reset()
	job := a.d
	job.Message = nil // the store's
	if err := c.send(order{Job: &job}); err != nil {
		return ending{verdict: &delivery.Verdict{Outcome: delivery.HandBack}} // it had ended before: not this job's doing
	}
	overdue := time.NewTimer(a.timeout() + a.w.options.Grace + childEnds)
	defer overdue.Stop()
	told := a.ctx.Done()
	for {
		select {
		case r, alive := <-c.reports:
			switch {
			case !alive:
				return c.ended()
			case r.Verdict != nil:
				return ending{verdict: r.Verdict, reusable: c.awaitIdle()}
			case r.Checkpoint != nil:
				go c.answer(reply{ID: r.ID}, a.record(a.ctx, *r.Checkpoint))
			case r.Progress != nil:
				go c.answer(reply{ID: r.ID}, a.SaveProgress(a.ctx, r.Progress.Step, r.Progress.Data))
			case r.Await != nil:
				go func() {
					output, ready, err := a.Await(a.ctx, *r.Await)
					c.answer(reply{ID: r.ID, Output: output, Ready: ready}, err)
				}()
			case r.Children != nil:
				go func() {
					ended, ready, err := a.Children(a.ctx, *r.Children, r.Wait)
					c.answer(reply{ID: r.ID, Ended: ended, Ready: ready}, err)
				}()
			}
		case <-told:
			told = nil
			name, _ := causeOf(context.Cause(a.ctx))
			_ = c.send(order{End: name}) // when it cannot be told it has ended, and that is seen above
			overdue.Reset(a.w.options.Grace + childEnds)
		case <-overdue.C:
			c.kill()
			for range c.reports {
			}
			return ending{err: errors.Join(context.Cause(a.ctx), context.DeadlineExceeded, errOverdue)}
		}
	}
}

func (c *child) answer(r reply, err error) {
	if err != nil {
		r.Cause, r.Text = causeOf(err)
	}
	_ = c.send(order{Reply: &r}) // as above
}

// awaitIdle waits until the handler has returned, which it has by now unless it
// ignores the end of its context.
func (c *child) awaitIdle() bool {
	timer := time.NewTimer(childEnds)
	defer timer.Stop()
	for {
		select {
		case r, alive := <-c.reports:
			if !alive || r.Idle {
				return alive
			}
		case <-timer.C:
			return false
		}
	}
}

func (c *child) ended() ending {
	for range c.reports {
	}
	return ending{status: c.cmd.ProcessState.String(), stack: c.output.stack()}
}

// tail passes on what is written and remembers the end of it.
type tail struct {
	to io.Writer
	mu sync.Mutex
	b  []byte
}

const tailSize = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > 8*tailSize {
		t.b = bytes.Clone(t.b[len(t.b)-4*tailSize:])
	}
	return t.to.Write(p)
}

func (t *tail) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = nil
}

// stack returns the goroutines that a panic or a fatal error of the runtime has
// listed, without its message: that may hold what nobody should read.
func (t *tail) stack() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, begin := range []string{"panic: ", "fatal error: "} {
		if at := bytes.LastIndex(t.b, []byte(begin)); at >= 0 {
			if list := bytes.Index(t.b[at:], []byte("\ngoroutine ")); list >= 0 {
				found := t.b[at+list+1:]
				return string(found[:min(len(found), tailSize)])
			}
		}
	}
	return ""
}
