package onredis_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/jobs/jobstest"
	"github.com/perdure/perdure/jobs/jobstest/onredis"
)

func TestMain(m *testing.M) { redistest.Main(m) }

// world is one whose effects are counted once a key.
type world struct {
	mu      sync.Mutex
	effects map[string]int
	keys    map[string]bool
}

func newWorld() *world { return &world{effects: map[string]int{}, keys: map[string]bool{}} }

func (w *world) do(key, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.keys[key] {
		w.keys[key] = true
		w.effects[what]++
	}
}

func (w *world) counts() any {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := []string{}
	for what, n := range w.effects {
		text = append(text, fmt.Sprint(what, " ", n))
	}
	slices.Sort(text)
	return text
}

var (
	fulfil = jobs.Define[string, string]("order.fulfil", jobs.Retry(jobs.Fixed(time.Minute, 3)))
	label  = jobs.Define[string, string]("order.label", jobs.Queue("labels"))
)

func (w *world) handler() jobs.Handler {
	step := func(ctx context.Context, name string, options ...jobs.StepOption) error {
		_, err := jobs.Step(ctx, name, func(ctx context.Context) (string, error) {
			w.do(jobs.IdempotencyKey(ctx), name)
			return name, nil
		}, options...)
		return err
	}
	undo := jobs.Compensate(func(ctx context.Context, name string) error { w.do(jobs.IdempotencyKey(ctx), "-"+name); return nil })
	return fulfil.Do(func(ctx context.Context, how string) (string, error) {
		if err := step(ctx, "charge", undo); err != nil {
			return "", err
		}
		if err := jobs.Sleep(ctx, "think", 24*time.Hour); err != nil {
			return "", err
		}
		if err := jobs.Parallel(ctx, []jobs.Branch{
			jobs.Line(func(ctx context.Context) error { return step(ctx, "pack", undo) }),
			jobs.Line(func(ctx context.Context) error { return step(ctx, "invoice") }),
		}); err != nil {
			return "", err
		}
		if _, err := jobs.Await[bool](ctx, "paid", 0); err != nil {
			return "", err
		}
		text, err := jobs.Call(ctx, "label", label, "for "+how)
		if how == "again" {
			return "", jobs.ContinueAs("done")
		}
		if err == nil && how == "refused" {
			err = jobs.Permanent(errors.New("refused"))
		}
		return text, err
	})
}

func (w *world) labels() jobs.Handler {
	return label.Do(func(ctx context.Context, text string) (string, error) {
		return jobs.Step(ctx, "print", func(ctx context.Context) (string, error) {
			w.do(jobs.IdempotencyKey(ctx), "print")
			return "label " + text, nil
		})
	})
}

func TestCrashesOnRedis(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"done", "refused", "again"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			jobstest.CrashEverywhere(t, func() jobstest.World {
				w := newWorld()
				return jobstest.World{
					Handler: w.handler(), Payload: how, Children: []jobs.Handler{w.labels()}, Effects: w.counts,
					Prepare: func(j *jobstest.Job) {
						j.Signal("paid", true)
						j.Fail("pack", errors.New("the printer is jammed"), 1)
					},
				}
			}, onredis.Use(redistest.Client(t)))
		})
	}
}

// complaints is a test that notes what it would fail with.
type complaints struct {
	testing.TB
	texts []string
}

func (c *complaints) Errorf(format string, args ...any) {
	c.texts = append(c.texts, fmt.Sprintf(format, args...))
}

func TestACarelessStepIsFoundOnRedis(t *testing.T) {
	t.Parallel()
	found := &complaints{TB: t}
	jobstest.CrashEverywhere(found, func() jobstest.World {
		w := newWorld()
		return jobstest.World{Payload: "", Effects: w.counts, Handler: fulfil.Do(func(ctx context.Context, _ string) (string, error) {
			for _, name := range []string{"charge", "send"} {
				if _, err := jobs.Step(ctx, name, func(ctx context.Context) (int, error) {
					key := jobs.IdempotencyKey(ctx)
					if name == "charge" {
						key = rand.Text()
					}
					w.do(key, name)
					return 1, nil
				}); err != nil {
					return "", err
				}
			}
			_, err := jobs.Await[bool](ctx, "never", 0) // in vain: the play ends here
			return "", err
		})}
	}, onredis.Use(redistest.Client(t)))
	if len(found.texts) != 1 || !strings.Contains(found.texts[0], `step "charge" after its effect and before its record`) {
		t.Errorf("found %q", found.texts)
	}
}
