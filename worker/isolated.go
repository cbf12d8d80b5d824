package worker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// Isolated reports that a worker has started this process to run suspects in it.
// A program that does costly things before it calls [Worker.Run] may ask, and
// call [ServeIsolated] right away.
func Isolated() bool { return os.Getenv(isolatedMark) != "" }

// ServeIsolated runs jobs for the worker that has started this process, one at a
// time, until that worker has no more or ends. It needs no Redis: what a job
// records goes through the worker. Only Handlers, Fallback, Grace and Log of the
// options matter.
func ServeIsolated(options Options) error {
	// Children of a handler are not to think that they are isolated processes.
	if err := os.Unsetenv(isolatedMark); err != nil {
		return err
	}
	return serveIsolated(options, os.NewFile(3, "orders"), os.NewFile(4, "reports"))
}

func serveIsolated(options Options, orders io.Reader, reports io.Writer) error {
	p := &pipe{encoder: json.NewEncoder(reports), waiting: map[int]chan reply{}}
	options.Registerer = nil
	w, err := New(p, options)
	if err != nil {
		return err
	}
	w.guard = nil
	w.giveUp = func(error) {} // a stuck handler's process is not used again
	if err := p.send(report{Ready: true}); err != nil {
		return fmt.Errorf("serve isolated jobs: %w", err)
	}
	var a *attempt
	decoder := json.NewDecoder(bufio.NewReader(orders))
	for {
		var o order
		if err := decoder.Decode(&o); err != nil {
			return nil // the worker has ended, or needs no more
		}
		switch {
		case o.Job != nil:
			a = w.enroll(*o.Job, false)
			go func() {
				defer a.cancel(nil)
				a.supervise(func() {})
				_ = p.send(report{Idle: true}) // if it cannot be told, the orders end too
			}()
		case o.Reply != nil:
			p.replied(*o.Reply)
		case o.End != "" && a != nil:
			a.end(causedBy(o.End, o.End))
		}
	}
}

// pipe is the store of an isolated process: its worker. An attempt uses five
// methods of a store; the others are not called here.
type pipe struct {
	Store

	mu      sync.Mutex
	encoder *json.Encoder
	last    int
	waiting map[int]chan reply
}

// Checkpoint implements [Steps].
func (p *pipe) Checkpoint(ctx context.Context, _ delivery.Hold, c delivery.Checkpoint) error {
	_, err := p.request(ctx, report{Checkpoint: &c})
	return err
}

// SaveProgress implements [Steps].
func (p *pipe) SaveProgress(ctx context.Context, _ delivery.Hold, step string, data []byte) error {
	_, err := p.request(ctx, report{Progress: &savedProgress{step, data}})
	return err
}

// Await implements [Steps].
func (p *pipe) Await(ctx context.Context, _ delivery.Hold, _ int, w jobs.Wait) (output []byte, ready bool, err error) {
	r, err := p.request(ctx, report{Await: &w})
	return r.Output, r.Ready, err
}

// Children implements [Steps].
func (p *pipe) Children(ctx context.Context, _ delivery.Delivery, g jobs.Group, wait bool) ([]jobs.Ended, bool, error) {
	r, err := p.request(ctx, report{Children: &g, Wait: wait})
	return r.Ended, r.Ready, err
}

// Settle implements [Queue].
func (p *pipe) Settle(_ context.Context, _ delivery.Delivery, v delivery.Verdict) error {
	return p.send(report{Verdict: &v})
}

func (p *pipe) send(r report) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.encoder.Encode(r)
}

// request sends a report and waits for the worker's reply.
func (p *pipe) request(ctx context.Context, r report) (reply, error) {
	answer := make(chan reply, 1)
	p.mu.Lock()
	p.last++
	r.ID = p.last
	p.waiting[r.ID] = answer
	p.mu.Unlock()
	if err := p.send(r); err != nil {
		return reply{}, errors.Join(jobs.ErrLost, err)
	}
	select {
	case got := <-answer:
		if got.Cause != "" {
			return got, causedBy(got.Cause, got.Text)
		}
		return got, nil
	case <-ctx.Done():
		return reply{}, errors.Join(jobs.ErrUnavailable, ctx.Err())
	}
}

func (p *pipe) replied(r reply) {
	p.mu.Lock()
	answer := p.waiting[r.ID]
	delete(p.waiting, r.ID)
	p.mu.Unlock()
	if answer != nil {
		answer <- r
	}
}
