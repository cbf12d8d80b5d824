package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

func (a *App) jobCommand() *cobra.Command {
	return group("job", "Enqueue jobs and look at them", a.jobEnqueue(), a.jobGet(), a.jobList(), a.jobWait(), a.jobDecision("cancel", "End a job that has not ended", (*store.Store).Cancel),
		a.jobDecision("pause", "Keep a job from running until it is resumed", (*store.Store).Pause), a.jobDecision("resume", "Let a paused job go on", (*store.Store).Resume),
		a.jobSignal(), a.jobApprove("approve", true), a.jobApprove("deny", false))
}

// withStore runs do on an open store.
func (a *App) withStore(cmd *cobra.Command, do func(ctx context.Context, s *store.Store) error) error {
	ctx := cmd.Context()
	s, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	return do(ctx, s)
}

type enqueueFlags struct {
	key, data, queue, tenant, at string
	delay                        time.Duration
	headers                      []string
	wait                         bool
	timeout                      time.Duration
}

func (a *App) jobEnqueue() *cobra.Command {
	var f enqueueFlags
	c := &cobra.Command{
		Use: "enqueue KIND --key KEY --data JSON", Short: "Enqueue a job; a duplicate is not an error",
		Example: `  perdure job enqueue http.request --key k1 --data '{"url":"https://example.com/hook","body":{"hello":1}}' --wait`,
		Args:    exactly(1, "the kind"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error { return a.enqueue(ctx, s, args[0], f) })
		},
	}
	c.Flags().StringVar(&f.key, "key", "", "the job's unique key (required)")
	c.Flags().StringVar(&f.data, "data", "", "payload as JSON; @FILE reads a file, - standard input")
	c.Flags().StringVar(&f.queue, "queue", "", "queue (default: the kind's)")
	c.Flags().StringVar(&f.tenant, "tenant", "", "on whose behalf")
	c.Flags().DurationVar(&f.delay, "delay", 0, "start no sooner than this from now")
	c.Flags().StringVar(&f.at, "at", "", "start no sooner than this time, RFC 3339")
	c.Flags().StringArrayVar(&f.headers, "header", nil, "name=value, repeated")
	c.Flags().BoolVar(&f.wait, "wait", false, "wait for the end and show the job")
	c.Flags().DurationVar(&f.timeout, "timeout", time.Minute, "how long to wait")
	return c
}

func (a *App) enqueue(ctx context.Context, s *store.Store, kind string, f enqueueFlags) error {
	payload, err := readData(f.data)
	if err != nil {
		return usage(err)
	}
	options, err := f.options()
	if err != nil {
		return err
	}
	definition, err := a.definition(ctx, s, kind, payload)
	if err != nil {
		return err
	}
	h, err := s.Enqueue(ctx, jobs.Raw(definition, f.key, payload, options...))
	if err != nil {
		return err
	}
	how := "accepted"
	if h.Duplicate {
		how = "duplicate of an accepted job; nothing new was enqueued"
	}
	told := fmt.Sprintf("%s/%s  %s  %s: %s", h.Queue, h.Key, h.Kind, h.State, how)
	if f.wait {
		a.note("%s", told)
		return a.wait(ctx, s, h.Queue, h.Key, f.timeout)
	}
	return a.print(h, func() { a.printf("%s\n", told) })
}

func (f enqueueFlags) options() ([]jobs.JobOption, error) {
	var options []jobs.JobOption
	if f.queue != "" {
		options = append(options, jobs.Queue(f.queue))
	}
	if f.tenant != "" {
		options = append(options, jobs.Tenant(f.tenant))
	}
	if f.delay != 0 {
		options = append(options, jobs.Delay(f.delay))
	}
	if f.at != "" {
		at, err := time.Parse(time.RFC3339, f.at)
		if err != nil {
			return nil, &jobs.InvalidError{Field: "at", Value: f.at, Bound: "a time such as 2026-01-31T09:00:00Z"}
		}
		options = append(options, jobs.At(at))
	}
	for _, header := range f.headers {
		name, value, ok := strings.Cut(header, "=")
		if !ok {
			return nil, &jobs.InvalidError{Field: "header", Value: header, Bound: "name=value"}
		}
		options = append(options, jobs.Header(name, value))
	}
	return options, nil
}

// definition finds a kind: in this binary, which checks the payload too, else
// among those that workers have published.
func (a *App) definition(ctx context.Context, s *store.Store, kind string, payload []byte) (jobs.Definition, error) {
	handlers, err := a.handlers(false)
	if err != nil {
		return jobs.Definition{}, err
	}
	for _, h := range handlers {
		if h.Definition.Name == kind {
			return h.Definition, h.Check(payload)
		}
	}
	definition, err := s.KindDefinition(ctx, kind)
	if errors.Is(err, jobs.ErrUnknownKind) {
		return definition, fmt.Errorf("%w; known: %s", err, a.knownKinds(ctx, s, handlers))
	}
	return definition, err
}

func (a *App) knownKinds(ctx context.Context, s *store.Store, handlers []jobs.Handler) string {
	names := map[string]bool{}
	for _, h := range handlers {
		names[h.Definition.Name] = true
	}
	published, _ := s.Kinds(ctx)
	for name := range published {
		names[name] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(names)), ", ")
}

func readData(data string) (json.RawMessage, error) { return readJSON("data", data) }

// readJSON reads what a flag of this name was given.
func readJSON(flag, data string) (json.RawMessage, error) {
	var raw []byte
	var err error
	switch {
	case data == "-":
		raw, err = io.ReadAll(io.LimitReader(os.Stdin, 64<<20))
	case strings.HasPrefix(data, "@"):
		raw, err = os.ReadFile(data[1:])
	default:
		raw = []byte(data)
	}
	if err != nil {
		return nil, fmt.Errorf("read --%s: %w", flag, err)
	}
	if len(raw) == 0 {
		return json.RawMessage("null"), nil
	}
	if !json.Valid(raw) {
		return nil, &jobs.InvalidError{Field: flag, Value: "of " + count(len(raw), "byte"), Bound: "valid JSON"}
	}
	return raw, nil
}

// located runs do for the one queue that has the key, or for the one given.
func (a *App) located(ctx context.Context, s *store.Store, queue, key string) (string, error) {
	if queue != "" {
		return queue, errors.Join(jobs.CheckTaskID(key), a.knownQueue(ctx, s, queue))
	}
	queues, err := s.Find(ctx, key)
	switch {
	case err != nil:
		return "", err
	case len(queues) == 0:
		return "", fmt.Errorf("job %s in any queue: %w", key, jobs.ErrNotFound)
	case len(queues) > 1:
		return "", usage(fmt.Errorf("key %s is in queues %s: say which with --queue", key, strings.Join(queues, ", ")))
	}
	return queues[0], nil
}

// onJob is a command about one job by its key.
func (a *App) onJob(use, short string, do func(ctx context.Context, s *store.Store, queue, key string) error) *cobra.Command {
	return a.onJobWith(use, short, exactly(1, "the job's key"), func(ctx context.Context, s *store.Store, queue string, args []string) error {
		return do(ctx, s, queue, args[0])
	})
}

// onJobWith is onJob for commands whose first argument of several is the key.
func (a *App) onJobWith(use, short string, expects cobra.PositionalArgs, do func(ctx context.Context, s *store.Store, queue string, args []string) error) *cobra.Command {
	var queue string
	c := &cobra.Command{
		Use: use, Short: short, Args: expects,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				queue, err := a.located(ctx, s, queue, args[0])
				if err != nil {
					return err
				}
				return do(ctx, s, queue, args)
			})
		},
	}
	c.Flags().StringVar(&queue, "queue", "", "queue (default: the one that has the key)")
	return c
}

func (a *App) jobGet() *cobra.Command {
	return a.onJob("get KEY", "Tell a job's story", func(ctx context.Context, s *store.Store, queue, key string) error {
		info, err := s.Get(ctx, queue, key)
		if err != nil {
			return err
		}
		return a.tellJob(ctx, s, info)
	})
}

func (a *App) jobList() *cobra.Command {
	var q jobs.Query
	var state string
	c := &cobra.Command{
		Use: "list", Short: "List jobs", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q.State = jobs.State(state)
			return a.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				if err := a.knownQueue(ctx, s, q.Queue); err != nil {
					return err
				}
				page, err := s.List(ctx, q)
				if err != nil {
					return err
				}
				if len(page.Jobs) == 0 {
					a.noteUnknownKind(ctx, s, q.Kind)
				}
				return a.print(page, func() {
					a.table(jobRows(page.Jobs)...)
					if page.Next != "" {
						a.printf("more: --cursor %s\n", page.Next)
					}
				})
			})
		},
	}
	c.Flags().StringVar(&q.Queue, "queue", "", "one queue")
	c.Flags().StringVar(&state, "state", "", "one state: pending, running, scheduled, retrying, paused, quarantined, completed, cancelled")
	c.Flags().StringVar(&q.Kind, "kind", "", "one kind")
	c.Flags().IntVar(&q.Limit, "limit", 50, "jobs a page, 1 to 500")
	c.Flags().StringVar(&q.Cursor, "cursor", "", "next of the page before")
	return c
}

func (a *App) jobWait() *cobra.Command {
	var timeout time.Duration
	c := a.onJob("wait KEY", "Wait for a job's end", func(ctx context.Context, s *store.Store, queue, key string) error {
		return a.wait(ctx, s, queue, key, timeout)
	})
	c.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait")
	return c
}

func (a *App) wait(ctx context.Context, s *store.Store, queue, key string, timeout time.Duration) error {
	if timeout <= 0 {
		return &jobs.InvalidError{Field: "timeout", Value: timeout, Bound: "over 0s"}
	}
	a.note("waiting for the end of %s/%s, %v at most", queue, key, timeout)
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	info, err := s.Wait(limited, queue, key)
	timedOut := errors.Is(err, context.DeadlineExceeded) && limited.Err() != nil
	if err != nil && !timedOut {
		return err
	}
	if err := a.tellJob(ctx, s, info); err != nil {
		return err
	}
	switch {
	case timedOut:
		return &exitError{exitTimedOut, fmt.Errorf("%s/%s is still %s after %v", queue, key, info.State, timeout)}
	case info.State == jobs.StateQuarantined:
		return &exitError{code: exitQuarantined}
	case info.State == jobs.StateCancelled:
		return &exitError{code: exitCancelled}
	}
	return nil
}

// jobDecision is a command that decides something about a job, with a reason.
func (a *App) jobDecision(verb, short string, decide func(*store.Store, context.Context, string, string, jobs.Decision) (jobs.Info, error)) *cobra.Command {
	var reason string
	c := a.onJob(verb+" KEY --reason WHY", short, func(ctx context.Context, s *store.Store, queue, key string) error {
		info, err := decide(s, ctx, queue, key, jobs.Decision{Actor: a.settings.actor(), Reason: reason})
		if err != nil {
			return err
		}
		return a.tellJob(ctx, s, info)
	})
	c.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	return c
}

func (a *App) jobSignal() *cobra.Command {
	var data, id, reason string
	c := a.onJobWith("signal KEY NAME [--data JSON]", "Hand a signal to a job, which keeps it until it waits for it", exactly(2, "the job's key and the signal's name"),
		func(ctx context.Context, s *store.Store, queue string, args []string) error {
			if !json.Valid([]byte(data)) {
				return &jobs.InvalidError{Field: "data", Value: data, Bound: "JSON"}
			}
			return a.signal(ctx, s, queue, args[0], jobs.Signal{Name: args[1], ID: id, Data: []byte(data), Actor: a.settings.actor(), Reason: reason})
		})
	c.Flags().StringVar(&data, "data", "null", "the signal's data, JSON")
	c.Flags().StringVar(&id, "id", "", "a signal of the same id is delivered once (default: each call is one of its own)")
	c.Flags().StringVar(&reason, "reason", "", "why, for the record")
	return c
}

func (a *App) jobApprove(verb string, approved bool) *cobra.Command {
	var reason string
	short := map[bool]string{true: "Approve what a job awaits approval of", false: "Deny what a job awaits approval of"}[approved]
	c := a.onJobWith(verb+" KEY NAME --reason WHY", short, exactly(2, "the job's key and the approval's name"),
		func(ctx context.Context, s *store.Store, queue string, args []string) error {
			signal, err := jobs.Approve(args[1], approved, jobs.Decision{Actor: a.settings.actor(), Reason: reason})
			if err != nil {
				return err
			}
			return a.signal(ctx, s, queue, args[0], signal)
		})
	c.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	return c
}

func (a *App) signal(ctx context.Context, s *store.Store, queue, key string, signal jobs.Signal) error {
	if err := s.Signal(ctx, queue, key, signal); err != nil {
		return err
	}
	info, err := s.Get(ctx, queue, key)
	if err != nil {
		return err
	}
	return a.tellJob(ctx, s, info)
}
