package history

import (
	"context"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Withhold returns a hook for a Redis client that lets a share of the commands,
// from 0 to 1, run and then reports a time-out instead of their answer. Each is
// recorded in the file.
func (f *File) Withhold(seed uint64, share float64) redis.Hook {
	return &withholding{file: f, share: share, random: rand.New(rand.NewPCG(seed, 1))}
}

type withholding struct {
	file  *File
	share float64

	mu     sync.Mutex
	random *rand.Rand
}

func (h *withholding) strikes() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.random.Float64() < h.share
}

// greetings are what a client says when it opens a connection; without an answer
// to them no command would run.
var greetings = []string{"hello", "auth", "select", "client", "readonly"}

// withheld returns the error of an unanswered command instead of nil.
func (h *withholding) withheld(err error, name string) error {
	if err != nil || slices.Contains(greetings, name) || !h.strikes() {
		return err
	}
	if _, err := h.file.Call(Event{Op: Unanswered, What: name}); err != nil {
		return err
	}
	return &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}
}

// DialHook implements [redis.Hook]; it changes nothing.
func (h *withholding) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook implements [redis.Hook].
func (h *withholding) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := h.withheld(next(ctx, cmd), cmd.Name())
		cmd.SetErr(err)
		return err
	}
}

// ProcessPipelineHook implements [redis.Hook].
func (h *withholding) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := next(ctx, cmds); err != nil || len(cmds) == 0 {
			return err
		}
		err := h.withheld(nil, cmds[0].Name())
		if err != nil {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
		}
		return err
	}
}
