package fault

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// When says at which point a call goes wrong.
type When string

// The points. A call that is executed twice does not fail.
const (
	Before When = "before" // it is never sent
	After  When = "after"  // it is executed, and its answer is lost
	Twice  When = "twice"  // it is executed twice, and its second answer is the one that is seen
)

// Options say what fails at random, and how calls are named. The zero value fails
// nothing at random.
type Options struct {
	Seed   uint64                  // the same calls in the same order fail the same way
	Before float64                 // share of all calls that are never sent, 0 to 1
	After  float64                 // share of all calls whose answer is lost, 0 to 1
	Twice  float64                 // share of all calls that are executed twice, 0 to 1
	Script func(sha string) string // names a script by its SHA-1, "" where it is unknown; nil: none has a name
}

// Count is what became of the calls of one name.
type Count struct {
	Calls  int // all of them, failed ones included
	Before int // never sent
	After  int // executed, answer lost
	Twice  int // executed twice
}

// Error is what a failed call returns. It matches the error of the network that it
// stands for: a refused connection before, a time-out or the end of the
// connection after.
type Error struct {
	Name string // of the call
	When When

	err error
}

// Error says that the fault was made, so that nobody looks for it in the network.
func (e *Error) Error() string {
	return fmt.Sprintf("injected fault, %s %s ran: %v", e.When, e.Name, e.err)
}

// Unwrap returns the error of the network.
func (e *Error) Unwrap() error { return e.err }

// Hook is a go-redis hook; add it with AddHook to as many clients as are to share
// its plan and its counts. Make one with [New]. It is safe for concurrent use.
//
// A script goes by its own name, or by "evalsha" when it has none, however it is
// sent; any other call goes by its command's name in lower case. Of a pipeline each
// command is counted, and all go wrong together when one is to. What a client sends to
// set a connection up never fails and is not counted.
type Hook struct {
	options Options

	mu      sync.Mutex
	random  *rand.Rand
	planned map[string]map[int]When // by name, and by the number of the call
	counts  map[string]Count
}

var _ redis.Hook = (*Hook)(nil)

// New returns a hook.
func New(options Options) *Hook {
	return &Hook{
		options: options, random: rand.New(rand.NewPCG(options.Seed, 0)), planned: map[string]map[int]When{}, counts: map[string]Count{},
	}
}

// Fail plans a fault of the nth call of a name from now on; 1 is the next one.
func (h *Hook) Fail(name string, nth int, when When) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.plan(name, h.counts[name].Calls+nth, when)
}

func (h *Hook) plan(name string, number int, when When) {
	if h.planned[name] == nil {
		h.planned[name] = map[int]When{}
	}
	h.planned[name][number] = when
}

// Forget drops every planned fault that has not happened; random ones go on.
func (h *Hook) Forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.planned)
}

// Counts returns what the hook did until now, by the name of the call.
func (h *Hook) Counts() map[string]Count {
	h.mu.Lock()
	defer h.mu.Unlock()
	counts := make(map[string]Count, len(h.counts))
	for name, count := range h.counts {
		counts[name] = count
	}
	return counts
}

// Total returns what the hook did until now, over all names.
func (h *Hook) Total() Count {
	var total Count
	for _, count := range h.Counts() {
		total.Calls += count.Calls
		total.Before += count.Before
		total.After += count.After
		total.Twice += count.Twice
	}
	return total
}

// DialHook implements [redis.Hook]; connections are not touched.
func (h *Hook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements [redis.Hook].
func (h *Hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return h.call(ctx, []redis.Cmder{cmd}, func() error { return next(ctx, cmd) })
	}
}

// ProcessPipelineHook implements [redis.Hook].
func (h *Hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return h.call(ctx, cmds, func() error { return next(ctx, cmds) })
	}
}

// call sends the commands, unless they are to fail before.
func (h *Hook) call(ctx context.Context, cmds []redis.Cmder, send func() error) error {
	if setsUp(cmds[0]) {
		return send()
	}
	name, when := h.draw(cmds)
	if when != Before {
		err := send()
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			h.undo(cmds[0], when)
			return err
		}
		if when == "" {
			return err
		}
	}
	if when == Twice {
		return send()
	}
	failure := &Error{Name: name, When: when, err: h.network(when)}
	for _, cmd := range cmds {
		cmd.SetErr(failure)
	}
	return failure
}

// undo takes a call back that Redis did not execute because it does not have the
// script yet: its fate is that of the next one, which brings the text.
func (h *Hook) undo(cmd redis.Cmder, when When) {
	h.mu.Lock()
	defer h.mu.Unlock()
	name := h.name(cmd)
	h.count(name, when, -1)
	if when != "" {
		h.plan(name, h.counts[name].Calls+1, when)
	}
}

// draw counts the commands and says how they go wrong and because of which, if
// they do.
func (h *Hook) draw(cmds []redis.Cmder) (name string, when When) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, cmd := range cmds {
		its := h.name(cmd)
		fate := h.fate(its, h.counts[its].Calls+1)
		if when != "" {
			fate = "" // one is enough for all
		}
		if h.count(its, fate, 1); fate != "" {
			name, when = its, fate
		}
	}
	return name, when
}

func (h *Hook) count(name string, when When, n int) {
	count := h.counts[name]
	count.Calls += n
	switch when {
	case Before:
		count.Before += n
	case After:
		count.After += n
	case Twice:
		count.Twice += n
	}
	h.counts[name] = count
}

// fate is what is to happen to a call: what was planned for it, or else chance.
func (h *Hook) fate(name string, number int) When {
	if when, planned := h.planned[name][number]; planned {
		delete(h.planned[name], number)
		return when
	}
	switch drawn := h.random.Float64(); {
	case drawn < h.options.Before:
		return Before
	case drawn < h.options.Before+h.options.After:
		return After
	case drawn < h.options.Before+h.options.After+h.options.Twice:
		return Twice
	}
	return ""
}

// network returns an error as the network would.
func (h *Hook) network(when When) error {
	if when == Before {
		return &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.random.IntN(2) == 0 {
		return io.EOF
	}
	return &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}
}

// name is what a call goes by.
func (h *Hook) name(cmd redis.Cmder) string {
	name := strings.ToLower(cmd.Name())
	switch name {
	case "eval", "evalsha", "eval_ro", "evalsha_ro":
	default:
		return name
	}
	sha := ""
	if args := cmd.Args(); len(args) > 1 {
		sha, _ = args[1].(string)
	}
	if !strings.HasPrefix(name, "evalsha") {
		sum := sha1.Sum([]byte(sha))
		sha = hex.EncodeToString(sum[:])
	}
	if h.options.Script != nil {
		if script := h.options.Script(sha); script != "" {
			return script
		}
	}
	return "evalsha"
}

// setsUp reports that a command belongs to a new connection.
func setsUp(cmd redis.Cmder) bool {
	switch strings.ToLower(cmd.Name()) {
	case "hello", "auth", "client", "select", "readonly":
		return true
	}
	return false
}
