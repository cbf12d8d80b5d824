package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/internal/history"
	"github.com/perdure/perdure/store"
)

const queue = "orders"

// slow is how long each service takes to answer, so that faults meet jobs half way.
var slow = map[string]time.Duration{"payments": 150 * time.Millisecond, "warehouse": 300 * time.Millisecond, "mail": 100 * time.Millisecond}

// stage is everything that a run plays on.
type stage struct {
	options  Options
	dir      string
	binary   string
	redis    *server // the primary
	servers  []*server
	services []*child          // and sentinels
	urls     map[string]string // of the services
	members  []*member         // workers, then schedulers
	feeder   *proxy
	history  *history.File
	store    *store.Store // past the proxies
	counters counters
	failures chan error
	ending   sync.Once
	pair     *pair // of a replicated run
}

func openStage(ctx context.Context, dir string, o Options) (*stage, error) {
	redis.SetLogger(silent{}) // go-redis prints what it also returns
	s := &stage{options: o, dir: dir, urls: map[string]string{}, counters: counters{n: map[string]int{}}, failures: make(chan error, 1000)}
	start := s.startRedis
	if o.Replicated {
		start = s.startPair
	}
	for _, step := range []func(context.Context) error{s.prepare, start, s.startServices, s.recruit} {
		if err := step(ctx); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func (s *stage) logf(format string, args ...any) {
	fmt.Fprintf(s.options.Log, format+"\n", args...)
}

func (s *stage) prepare(ctx context.Context) error {
	var err error
	if s.binary, err = build(ctx, s.dir, s.options.Mutant); err != nil {
		return err
	}
	s.history, err = history.Open(historyPath(s.dir))
	return err
}

func (s *stage) startRedis(ctx context.Context) error {
	shim, err := compileShim(ctx, s.dir)
	if err != nil {
		return err
	}
	fsync := "always"
	if s.options.Mutant == MutantFsync {
		fsync = "no"
	}
	if s.redis, err = s.startServer(ctx, "redis", shim, fsync); err != nil {
		return err
	}
	s.store, err = store.Connect(ctx, "redis://"+s.redis.addr()+"/0")
	return err
}

// startServer starts a redis-server that ends with the stage.
func (s *stage) startServer(ctx context.Context, name, shim, fsync string, args ...string) (*server, error) {
	r, err := startServer(ctx, s.dir, name, shim, fsync, args...)
	if r != nil {
		s.servers = append(s.servers, r)
	}
	return r, err
}

func (s *stage) startServices(ctx context.Context) error {
	for name := range slow {
		port, err := freePort()
		if err != nil {
			return err
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		s.urls[name] = "http://" + addr
		c, err := launch(s.dir, name, s.environ(), s.binary, "example", "service", name, "--address", addr, "--ledger", s.effects(name))
		if err != nil {
			return err
		}
		s.services = append(s.services, c)
		if err := awaitHealthy(ctx, s.urls[name]); err != nil {
			return fmt.Errorf("service %s: %w; see %s", name, err, logOf(s.dir, name))
		}
		if err := orders.SetFault(ctx, s.urls[name], slowness(name)); err != nil {
			return err
		}
	}
	return nil
}

func awaitHealthy(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthz", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			return response.Body.Close()
		}
		if !sleep(ctx, 20*time.Millisecond) {
			return err
		}
	}
}

// effects is the ledger of a service.
func (s *stage) effects(service string) string {
	return filepath.Join(s.dir, service+".jsonl")
}

// environ is this process's environment without settings of perdure's, and with
// more.
func (s *stage) environ(more ...string) []string {
	var environ []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "PERDURE_") && !strings.HasPrefix(entry, "REDIS_URL=") && !strings.HasPrefix(entry, "CHAOS_") {
			environ = append(environ, entry)
		}
	}
	return append(environ, more...)
}

const schedulers = 2

// recruit makes the workers and schedulers, and the way to Redis of each.
func (s *stage) recruit(context.Context) error {
	var err error
	if s.feeder, err = s.way("feeder"); err != nil {
		return err
	}
	// What the mode asks for beyond the files (a password, a limit of memory) is not
	// set here, and for a mutant not even that.
	mode := "strict"
	if s.pair != nil {
		mode = "replicated"
	}
	environ := s.environ("CHAOS_HISTORY="+historyPath(s.dir), "CHAOS_UNANSWERED=0.01", "PERDURE_DURABILITY="+mode, "PERDURE_ALLOW_UNSAFE_REDIS=true")
	for name, url := range s.urls {
		environ = append(environ, "ORDERS_"+strings.ToUpper(name)+"_URL="+url)
	}
	for i := range s.options.Workers + schedulers {
		m := &member{name: fmt.Sprintf("worker-%d", i), args: []string{"example", "worker", "--shutdown-timeout", "15s"}, environ: environ, jumps: true}
		if i >= s.options.Workers {
			m = &member{name: fmt.Sprintf("scheduler-%d", i-s.options.Workers), args: []string{"scheduler"}, environ: environ}
		}
		if m.proxy, err = s.way(m.name); err != nil {
			return err
		}
		m.args = append(m.args, "--redis-url", s.url(m.proxy), "--log-level", "warn")
		s.members = append(s.members, m)
	}
	return nil
}

// way returns the proxy that someone reaches Redis by. Sentinels name addresses, so
// that there is none in a replicated run.
func (s *stage) way(name string) (*proxy, error) {
	if s.pair != nil {
		return nil, nil
	}
	return startProxy(name, s.redis.addr())
}

func (s *stage) url(p *proxy) string {
	if s.pair != nil {
		return s.pair.url()
	}
	return p.url()
}

func (s *stage) workers() []*member { return s.members[:s.options.Workers] }

// close ends every process; what has ended already is left as it is.
func (s *stage) close() {
	s.ending.Do(func() {
		for _, m := range s.members {
			_ = m.end(false) // what was wrong with it is known by now
		}
		for _, c := range s.services {
			c.kill()
		}
		s.feeder.close()
		if s.store != nil {
			s.store.Close()
		}
		for _, server := range s.servers {
			server.close()
		}
		if s.history != nil {
			s.history.Close()
		}
	})
}

// play runs the whole thing, up to the judgement.
func (s *stage) play(ctx context.Context, report *Report) error {
	f, err := s.openFeed(ctx)
	if err != nil {
		return err
	}
	defer f.close()
	running, end := context.WithCancel(ctx)
	var crew, feeding sync.WaitGroup
	defer crew.Wait()
	defer end()
	for i, m := range s.members {
		crew.Go(func() { m.run(running, s, s.options.Seed+uint64(i)) })
	}
	feeding.Go(func() { f.feed(ctx) })
	if s.pair != nil {
		s.failOvers(ctx)
	} else {
		s.harm(ctx)
	}
	s.settle(ctx, report, f, &feeding)
	end()
	crew.Wait()
	s.dismiss(ctx, report)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return s.judge(ctx, report, f)
}

// settle waits until every job is accepted and has ended, or for long enough.
func (s *stage) settle(ctx context.Context, report *Report, f *feed, feeding *sync.WaitGroup) {
	s.logf("faults are over; waiting for the rest")
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.options.Settle)
	defer cancel()
	f.finish(ctx)
	feeding.Wait()
	if s.pair != nil {
		f.again(ctx) // the producer's part after a loss
	}
	left := s.awaitEnd(ctx, f.keys())
	s.awaitLanes(ctx)
	took := time.Since(began)
	s.logf("settled after %v; %d jobs not ended", took.Round(time.Millisecond), left)
	report.found("ms from the last fault to the last job", int(took.Milliseconds()))
}

// dismiss ends workers and schedulers, and notes what was wrong with them and with
// the run.
func (s *stage) dismiss(ctx context.Context, report *Report) {
	var ends sync.WaitGroup
	for _, m := range s.members {
		ends.Go(func() { s.fail(m.end(ctx.Err() == nil)) })
	}
	ends.Wait()
	close(s.failures)
	for err := range s.failures {
		report.problem("%v", err)
	}
}

// awaitEnd waits until every job has ended, and returns how many have not.
func (s *stage) awaitEnd(ctx context.Context, keys []string) int {
	for {
		var left []string
		for _, key := range keys {
			info, err := s.store.Get(ctx, queue, key)
			if err != nil || !info.State.Ended() {
				left = append(left, key)
			}
		}
		if keys = left; len(keys) == 0 || !sleep(ctx, 200*time.Millisecond) {
			return len(keys)
		}
	}
}

// fail notes what went wrong with the run itself.
func (s *stage) fail(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		select {
		case s.failures <- err:
		default: // a thousand are enough
		}
	}
}
