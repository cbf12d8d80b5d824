package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// crew is the workers of one scenario, on a queue of their own: workers that are
// killed, stopped and replaced.
type crew struct {
	*stage
	queue   string
	args    []string // of each worker
	workers []*hand
	orderOf func(orders.Order) jobs.Job // what an order is enqueued as; nil: as the example does
}

// hand is one worker of a crew.
type hand struct {
	*child
	listens string // where its metrics are
	owner   string // its identity
}

// withCrew makes a scenario of one that needs workers of its own.
func withCrew(workers int, play func(ctx context.Context, c *crew) (string, string, error), args ...string) func(context.Context, *stage) (string, string, error) {
	return func(ctx context.Context, s *stage) (observed, evidence string, err error) {
		s.crews++
		c := &crew{stage: s, queue: fmt.Sprintf("%s-%d", s.queue, s.crews), args: args}
		s.queues = append(s.queues, c.queue)
		defer func() { err = errors.Join(err, c.dismiss()) }()
		for range workers {
			if _, err := c.hire(ctx); err != nil {
				return "", "", err
			}
		}
		return play(ctx, c)
	}
}

// hire adds a worker and returns once it works.
func (c *crew) hire(ctx context.Context) (*hand, error) {
	w, err := c.startWorker(ctx, c.queue, c.args...)
	if err == nil {
		c.workers = append(c.workers, w)
	}
	return w, err
}

// startWorker starts a worker of a queue and returns once it works.
func (s *stage) startWorker(ctx context.Context, queue string, args ...string) (*hand, error) {
	log := &startLog{to: s.log, whole: make(chan struct{})}
	args = append([]string{"example", "worker", "--queues", queue, "--health-listen", "127.0.0.1:0", "--log-level", "info"}, args...)
	worker, err := start(log, s.environ(queue), s.executable, args...)
	if err != nil {
		return nil, err
	}
	select {
	case <-log.whole:
		return &hand{child: worker, listens: log.found(listensAt), owner: log.found(startedAs)}, nil
	case <-time.After(20 * time.Second):
		err = fmt.Errorf("%s did not start to work within 20 s", worker.name)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	_, killed := worker.kill()
	return nil, errors.Join(err, killed)
}

// dismiss ends the workers and removes what they leave in Redis.
func (c *crew) dismiss() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	errs := make([]error, len(c.workers))
	var all sync.WaitGroup
	for i, w := range c.workers {
		all.Go(func() { errs[i] = w.stop() })
	}
	all.Wait()
	host, err := os.Hostname()
	if err != nil {
		host = "unknown" // as workers call it
	}
	for _, w := range c.workers {
		errs = append(errs, c.store.Withdraw(ctx, delivery.Presence{Host: host, PID: w.pid(), ID: w.owner}), c.store.Forget(ctx, w.owner))
	}
	return errors.Join(append(errs, c.store.Drop(ctx, c.queue))...)
}

// by returns the worker that a service was called by.
func (c *crew) by(e orders.Entry) (*hand, error) {
	for _, w := range c.workers {
		if e.Caller == w.caller() {
			return w, nil
		}
	}
	return nil, fmt.Errorf("%s was called by %q, which is no worker of this scenario", e.Path, e.Caller)
}

func (c *crew) enqueue(ctx context.Context, o orders.Order) (jobs.Handle, error) {
	if c.orderOf != nil {
		return c.store.Enqueue(ctx, c.orderOf(o))
	}
	return c.store.Enqueue(ctx, orders.Fulfil.New(o.ID, o, jobs.Queue(c.queue)))
}

// batch enqueues an import of orders.csv.
func (c *crew) batch(ctx context.Context, b orders.Batch) (jobs.Handle, error) {
	return c.store.Enqueue(ctx, orders.Import.New(fmt.Sprintf("import:%d", b.First), b, jobs.Queue(c.queue)))
}

// lines are the orders of a batch.
func (s *stage) lines(b orders.Batch) []orders.Order { return s.orders[b.First-1:][:b.Lines] }

// calls are what a service was asked to do, in order, for some orders.
func (s *stage) calls(path string, list ...orders.Order) ([]orders.Entry, error) {
	wanted := map[string]bool{}
	for _, o := range list {
		wanted[o.ID] = true
	}
	entries, err := s.ledger()
	var calls []orders.Entry
	for _, e := range entries {
		if e.Event == "received" && e.Path == path && wanted[e.Order] {
			calls = append(calls, e)
		}
	}
	return calls, err
}

// ledger is what all services have written down since the scenario began, each in order.
func (s *stage) ledger() ([]orders.Entry, error) {
	var all []orders.Entry
	for _, name := range serviceNames {
		entries, err := orders.ReadLedger(s.services.Ledger(name))
		if err != nil {
			return nil, err
		}
		all = append(all, slices.DeleteFunc(entries, func(e orders.Entry) bool { return e.At.Before(s.began) })...)
	}
	return all, nil
}

// awaitCalls waits until a service was asked n times, and returns those calls.
func (s *stage) awaitCalls(ctx context.Context, n int, path string, list ...orders.Order) (calls []orders.Entry, err error) {
	err = await(ctx, fmt.Sprintf("%d calls of %s", n, path), func() (bool, error) {
		calls, err = s.calls(path, list...)
		return len(calls) >= n, err
	})
	return calls, err
}

// atWork waits until a worker has called services n times.
func (s *stage) atWork(ctx context.Context, w *hand, n int) error {
	return await(ctx, fmt.Sprintf("%d calls by %s", n, w.caller()), func() (bool, error) {
		entries, err := s.ledger()
		calls := 0
		for _, e := range entries {
			if e.Event == "received" && e.Caller == w.caller() {
				calls++
			}
		}
		return calls >= n, err
	})
}

// settle waits until somebody may take over from a dead worker: who has just
// started may not, and in a fleet not everybody has.
func (s *stage) settle(ctx context.Context) error {
	select {
	case <-time.After(time.Until(s.steady)):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// await looks until ok, for at most a minute.
func await(ctx context.Context, what string, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, fmt.Errorf("not within a minute: %s", what))
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		if done, err := ok(); done || err != nil {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// caller is how the services know a worker.
func (c *child) caller() string { return "orders/" + strconv.Itoa(c.pid()) }

// metric sums a metric of the worker over its labels, of which some text must be
// part.
func (w *hand) metric(ctx context.Context, name, label string) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.listens+"/metrics", http.NoBody)
	if err != nil {
		return 0, err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for line := range strings.Lines(string(text)) {
		found, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		labels, ok := strings.CutPrefix(found, name)
		if ok && (labels == "" || labels[0] == '{') && strings.Contains(labels, label) {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, fmt.Errorf("metric %s: %w", name, err)
			}
			sum += n
		}
	}
	return sum, nil
}

var (
	listensAt = regexp.MustCompile(`what=health address=(\S+)`)
	startedAs = regexp.MustCompile(`"worker started" owner=(\S+)`)
)

// startLog passes a worker's log on and finds in it where the worker listens and
// who it is.
type startLog struct {
	to    io.Writer
	whole chan struct{} // closed when both are known

	mu   sync.Mutex
	text strings.Builder
	done bool
}

// Write implements io.Writer.
func (l *startLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.done {
		l.text.Write(p)
		if text := l.text.String(); listensAt.MatchString(text) && startedAs.MatchString(text) && strings.HasSuffix(text, "\n") {
			l.done = true
			close(l.whole)
		}
	}
	return l.to.Write(p)
}

func (l *startLog) found(pattern *regexp.Regexp) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return pattern.FindStringSubmatch(l.text.String())[1]
}
