package jobstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/perdure/perdure/jobs"
)

// Client is a [jobs.Client] in memory, for tests of code that enqueues: it accepts
// jobs as Redis would, and runs none. Make one with [NewClient].
type Client struct {
	mu   sync.Mutex
	all  []jobs.Job
	info map[string]*jobs.Info // by queue and key
}

var _ jobs.Client = (*Client)(nil)

// NewClient returns a client that has accepted nothing yet.
func NewClient() *Client { return &Client{info: map[string]*jobs.Info{}} }

// Enqueued returns the accepted jobs of a kind, in their order; "": of all kinds.
func (c *Client) Enqueued(kind string) []jobs.Job {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []jobs.Job
	for _, job := range c.all {
		if kind == "" || job.Kind == kind {
			found = append(found, job)
		}
	}
	return found
}

// WantEnqueued fails the test unless a job of that kind and key was accepted, and
// returns it.
func (c *Client) WantEnqueued(t testing.TB, kind, key string) jobs.Job {
	t.Helper()
	var keys []string
	for _, job := range c.Enqueued(kind) {
		if job.Key == key {
			return job
		}
		keys = append(keys, job.Key)
	}
	t.Fatalf("jobstest: no job %q of kind %q was enqueued; there are %q", key, kind, keys)
	return jobs.Job{}
}

// WantNotEnqueued fails the test when a job of that kind and key was accepted; key
// "": any.
func (c *Client) WantNotEnqueued(t testing.TB, kind, key string) {
	t.Helper()
	for _, job := range c.Enqueued(kind) {
		if key == "" || job.Key == key {
			t.Errorf("jobstest: job %q of kind %q was enqueued", job.Key, kind)
		}
	}
}

// Enqueue implements [jobs.Client].
func (c *Client) Enqueue(_ context.Context, job jobs.Job) (jobs.Handle, error) {
	if err := job.Err(); err != nil {
		return jobs.Handle{}, fmt.Errorf("enqueue %s/%s: %w", job.Queue, job.Key, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	i, taken := c.info[job.Queue+"/"+job.Key]
	if taken && c.digestOf(job.Queue, job.Key) != job.Digest {
		return jobs.Handle{}, fmt.Errorf("enqueue %s/%s: %w", job.Queue, job.Key, jobs.ErrOtherPayload)
	}
	if !taken {
		i = &jobs.Info{Queue: job.Queue, Key: job.Key, Kind: job.Kind, Tenant: job.Tenant, Incarnation: fmt.Sprint("jobstest-", len(c.all)), State: jobs.StatePending}
		if job.Delay > 0 || !job.At.IsZero() {
			i.State = jobs.StateScheduled
		}
		c.info[job.Queue+"/"+job.Key] = i
		c.all = append(c.all, job)
	}
	h := jobs.Handle{Queue: i.Queue, Key: i.Key, Kind: i.Kind, Incarnation: i.Incarnation, State: i.State, Duplicate: taken}
	return jobs.NewHandle(c, h), nil
}

func (c *Client) digestOf(queue, key string) string {
	at := slices.IndexFunc(c.all, func(j jobs.Job) bool { return j.Queue == queue && j.Key == key })
	return c.all[at].Digest
}

// EnqueueMany implements [jobs.Client].
func (c *Client) EnqueueMany(ctx context.Context, all []jobs.Job) []jobs.Enqueued {
	done := make([]jobs.Enqueued, len(all))
	for i, job := range all {
		done[i].Handle, done[i].Err = c.Enqueue(ctx, job)
	}
	return done
}

// Get implements [jobs.Client].
func (c *Client) Get(_ context.Context, queue, key string) (jobs.Info, error) {
	return c.change(queue, key, func(*jobs.Info) error { return nil })
}

// List implements [jobs.Client], all on one page.
func (c *Client) List(_ context.Context, q jobs.Query) (jobs.Page, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	page := jobs.Page{Jobs: []jobs.Info{}}
	for _, job := range c.all {
		i := *c.info[job.Queue+"/"+job.Key]
		if (q.Queue == "" || q.Queue == i.Queue) && (q.Kind == "" || q.Kind == i.Kind) && (q.State == "" || q.State == i.State) {
			page.Jobs = append(page.Jobs, i)
		}
	}
	return page, nil
}

// Wait implements [jobs.Client]: a job that was not cancelled never ends here.
func (c *Client) Wait(ctx context.Context, queue, key string) (jobs.Info, error) {
	i, err := c.Get(ctx, queue, key)
	if err != nil || i.State.Ended() {
		return i, err
	}
	<-ctx.Done()
	return i, ctx.Err()
}

// Cancel implements [jobs.Client].
func (c *Client) Cancel(_ context.Context, queue, key string, by jobs.Decision) (jobs.Info, error) {
	return c.change(queue, key, func(i *jobs.Info) error { i.State = jobs.StateCancelled; return by.Check() })
}

// Pause implements [jobs.Client].
func (c *Client) Pause(_ context.Context, queue, key string, by jobs.Decision) (jobs.Info, error) {
	return c.change(queue, key, func(i *jobs.Info) error {
		if i.State.Ended() {
			return jobs.ErrConflict
		}
		i.State = jobs.StatePaused
		return by.Check()
	})
}

// Resume implements [jobs.Client].
func (c *Client) Resume(_ context.Context, queue, key string, by jobs.Decision) (jobs.Info, error) {
	return c.change(queue, key, func(i *jobs.Info) error {
		if i.State != jobs.StatePaused {
			return jobs.ErrConflict
		}
		i.State = jobs.StatePending
		return by.Check()
	})
}

// Signal implements [jobs.Client]; the signal goes nowhere.
func (c *Client) Signal(_ context.Context, queue, key string, s jobs.Signal) error {
	_, err := c.change(queue, key, func(i *jobs.Info) error {
		if i.State.Ended() {
			return jobs.ErrConflict
		}
		return s.Check()
	})
	return err
}

// change applies what succeeds.
func (c *Client) change(queue, key string, do func(*jobs.Info) error) (jobs.Info, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, ok := c.info[queue+"/"+key]
	err := jobs.ErrNotFound
	if ok {
		changed := *i
		if err = do(&changed); err == nil {
			*i = changed
			return changed, nil
		}
	}
	return jobs.Info{}, errors.Join(fmt.Errorf("%s/%s", queue, key), err)
}
