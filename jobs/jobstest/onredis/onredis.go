// Package onredis plays the crashes of [jobstest.CrashEverywhere] on a real Redis,
// with perdure's own worker: what is cut off there is an owner that is declared dead,
// and another one resumes the job from its record.
package onredis

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/jobs/jobstest"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/worker"
)

// playLimit bounds one play of a workflow.
const playLimit = time.Minute

// Use returns the option that plays on a Redis. Its database must be empty at first,
// which is checked, and is emptied after each play: give it one of the test's own.
// Times that the job and its children sleep or wait to be tried again are skipped;
// what they wait for signals in vain ends the play. How children end cannot be made
// up here ([jobstest.Job.EndChild]): give the world their handlers.
func Use(rdb redis.UniversalClient) jobstest.Option { return jobstest.On(&engine{rdb: rdb}) }

type engine struct{ rdb redis.UniversalClient }

// Play implements [jobstest.Engine].
func (e *engine) Play(t testing.TB, script jobstest.Script) (jobs.State, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), playLimit)
	defer cancel()
	if n, err := e.rdb.DBSize(ctx).Result(); err != nil || n != 0 {
		t.Fatalf("onredis: the database has %d keys (%v); it must be empty, and is emptied after each play", n, err)
	}
	p := &play{engine: e, store: store.New(e.rdb, e.rdb), script: script, ctx: ctx}
	state, result, err := p.run()
	if flushed := e.rdb.FlushDB(context.WithoutCancel(ctx)).Err(); err == nil {
		err = flushed
	}
	if err != nil {
		t.Fatalf("onredis: %v", err)
	}
	return state, result
}

// play is one run of a workflow.
type play struct {
	*engine
	store  *store.Store
	script jobstest.Script
	ctx    context.Context
	queues []string
}

func (p *play) run() (jobs.State, []byte, error) {
	stop, err := p.serve()
	if err != nil {
		return "", nil, err
	}
	d := p.script.Handler.Definition
	job := jobs.Job{
		Kind: d.Name, Queue: d.Queue, Key: p.script.Key, Payload: p.script.Payload, Version: p.script.Version,
		Digest: jobs.Digest(d.Name, p.script.Payload), Timeout: d.Timeout, Retention: d.Retention,
	}
	_, err = p.store.Enqueue(p.ctx, job)
	for name, data := range p.script.Signals {
		if err == nil {
			err = p.store.Signal(p.ctx, job.Queue, job.Key, jobs.Signal{Name: name, Data: data})
		}
	}
	var info jobs.Info
	if err == nil {
		info, err = p.watch(job)
	}
	if stopped := stop(); err == nil {
		err = stopped
	}
	return info.State, []byte(info.Result), err
}

// serve runs a worker with the handlers of the job and its children.
func (p *play) serve() (stop func() error, err error) {
	cut := &cut{play: p, at: p.script.At}
	handlers := []jobs.Handler{p.script.Handler.Use(cut.middleware)}
	p.queues = []string{p.script.Handler.Definition.Queue}
	for _, h := range p.script.Children {
		handlers = append(handlers, h.Use(cut.middleware))
		if !slices.Contains(p.queues, h.Definition.Queue) {
			p.queues = append(p.queues, h.Definition.Queue)
		}
	}
	w, err := worker.New(p.store, worker.Options{Handlers: handlers})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(p.ctx)
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return func() error {
		cancel()
		for _, queue := range p.queues { // the worker waits at its queues for up to a second: something is there
			p.rdb.LPush(p.ctx, "asynq:{"+queue+"}:pending", "end")
		}
		return <-done
	}, nil
}

// watch keeps house until the job has ended, or waits in vain.
func (p *play) watch(job jobs.Job) (jobs.Info, error) {
	for still := 0; ; {
		info, err := p.store.Get(p.ctx, job.Queue, job.Key)
		if err != nil || info.State.Ended() || still > 5 {
			return info, err
		}
		vain, err := p.skip()
		if err != nil {
			return info, err
		}
		if still++; !vain {
			still = 0
		}
		time.Sleep(5 * time.Millisecond) // polls: what happens happens in the worker
	}
}

// skip lets time pass for all that waits for it. vain: nothing does, and nothing runs.
func (p *play) skip() (vain bool, err error) {
	page, err := p.store.List(p.ctx, jobs.Query{Limit: 500})
	if err != nil {
		return false, err
	}
	vain = true
	for _, info := range page.Jobs {
		timed, err := p.hasten(info)
		if err != nil {
			return false, err
		}
		waits := info.State == jobs.StatePaused && !timed
		vain = vain && (waits || info.State.Ended())
	}
	for _, queue := range p.queues {
		moved, err := p.store.Promote(p.ctx, queue)
		if err != nil {
			return false, err
		}
		more, err := p.store.Relay(p.ctx, queue)
		if err != nil {
			return false, err
		}
		vain = vain && moved.Moved == 0 && !moved.Mail && !more
	}
	return vain, nil
}

// hasten makes a job due that is to be tried again, or has come to a timer.
func (p *play) hasten(info jobs.Info) (timed bool, err error) {
	task, retry := "asynq:{"+info.Queue+"}:t:"+info.Key, "asynq:{"+info.Queue+"}:retry"
	if info.State != jobs.StateRetrying && info.State != jobs.StatePaused {
		return false, nil
	}
	timed = info.State == jobs.StateRetrying || info.WaitingOn != nil && info.WaitingOn.Type == "timer"
	fields, err := p.rdb.HGetAll(p.ctx, task).Result()
	if err != nil {
		return false, err
	}
	for field, value := range fields {
		if parts := strings.Fields(value); strings.HasPrefix(field, "w:") && len(parts) == 3 && parts[2] == "timer" {
			timed = true
			if err := p.rdb.HSet(p.ctx, task, field, "1 "+parts[1]+" timer").Err(); err != nil {
				return false, err
			}
		}
	}
	if !timed {
		return false, nil
	}
	if err := p.rdb.HSet(p.ctx, task, "p:due", 1).Err(); err != nil {
		return false, err
	}
	return true, p.rdb.ZAddXX(p.ctx, retry, redis.Z{Score: 1, Member: info.Key}).Err()
}

// takeOver declares every owner dead: what they hold is resumed by others.
func (p *play) takeOver() error {
	owners, err := p.store.Silent(p.ctx, 0)
	if err != nil {
		return err
	}
	for _, owner := range owners {
		for _, queue := range p.queues {
			if _, err := p.store.Reclaim(p.ctx, queue, owner); err != nil {
				return fmt.Errorf("take over from %s: %w", owner, err)
			}
		}
	}
	return nil
}
