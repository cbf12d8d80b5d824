package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/perdure/perdure/jobs"
)

const queue = "crash"

// work is a payload: how long each step takes.
type work struct {
	Steps []time.Duration `json:"steps"`
}

var kind = jobs.Define[work, int]("crash.steps", jobs.Queue(queue), jobs.Timeout(time.Minute))

// What a handler says of itself, on its worker's standard output: a witness that
// is neither Redis nor perdure.
const (
	begun    = "begun"    // the handler was called
	entered  = "entered"  // a step's function was called
	recorded = "recorded" // jobs.Step has returned
	ended    = "ended"    // the handler is about to return
)

// event is one line of it.
type event struct {
	What string    `json:"what"`
	Job  string    `json:"job"`
	Run  int       `json:"run"`
	Step string    `json:"step,omitempty"`
	PID  int       `json:"pid"`
	At   time.Time `json:"at"`
}

// handler runs the kind and tells out.
func handler(out io.Writer) jobs.Handler {
	var writing sync.Mutex
	return kind.Do(func(ctx context.Context, w work) (int, error) {
		about, _ := jobs.Current(ctx)
		tell := func(what, step string) error {
			line, err := json.Marshal(event{what, about.Key, about.Attempt, step, os.Getpid(), time.Now()})
			if err != nil {
				return err
			}
			writing.Lock()
			defer writing.Unlock()
			_, err = out.Write(append(line, '\n'))
			return err
		}
		if err := tell(begun, ""); err != nil {
			return 0, err
		}
		for i, takes := range w.Steps {
			if err := step(ctx, fmt.Sprintf("step-%d", i+1), takes, tell); err != nil {
				return 0, err
			}
		}
		return len(w.Steps), tell(ended, "")
	})
}

func step(ctx context.Context, name string, takes time.Duration, tell func(what, step string) error) error {
	ran := false
	_, err := jobs.Step(ctx, name, func(ctx context.Context) (string, error) {
		ran = true
		if err := tell(entered, name); err != nil {
			return "", err
		}
		select {
		case <-time.After(takes):
			return "done", nil
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	})
	if err != nil || !ran {
		return err
	}
	return tell(recorded, name)
}
