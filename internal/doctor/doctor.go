package doctor

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/jobs"
)

// Store is what the doctor needs of the store.
type Store interface {
	Redis() redis.UniversalClient
	TryScripts(ctx context.Context) error
	StockServers(ctx context.Context, queues ...string) ([]string, error)
}

// Options say what is examined for. The zero value of each field has a default.
type Options struct {
	Mode        Mode                  // default Relaxed
	AllowUnsafe bool                  // let pass what would be refused
	Queues      []string              // that no server of asynq's own may serve; default: those that perdure has worked on
	Every       time.Duration         // between repeated checks; default 15 s
	OnChange    func()                // called by Run when Redis has another run_id or replid; it must return soon
	Log         *slog.Logger          // default: none
	Registerer  prometheus.Registerer // default: none
}

// Doctor examines one Redis. Make one with [New].
type Doctor struct {
	store   Store
	options Options
	log     *slog.Logger
	checks  *prometheus.GaugeVec
	changed prometheus.Counter

	// Of Start and Run, which follow each other.
	known    map[string]Result // by check, as last logged
	identity string
	mute     bool // CONFIG is refused: asking again and again only fills Redis' log of refusals
}

// New returns a doctor for the Redis of a store.
func New(store Store, options Options) *Doctor {
	if options.Mode == "" {
		options.Mode = Relaxed
	}
	if options.Every == 0 {
		options.Every = 15 * time.Second
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	d := &Doctor{
		store: store, options: options, log: options.Log, known: map[string]Result{},
		checks: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "perdure_redis_check", Help: "1 where Redis is not what it should be or does not tell, by check.",
		}, []string{"check"}),
		changed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "perdure_redis_changed_total", Help: "Restarts and fail-overs of Redis seen (another run_id or replid).",
		}),
	}
	mode := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "perdure_durability", Help: "1, with the durability mode and whether refusals are overridden.",
		ConstLabels: prometheus.Labels{"mode": string(options.Mode), "allow_unsafe": strconv.FormatBool(options.AllowUnsafe)},
	})
	mode.Set(1)
	if options.Registerer != nil {
		options.Registerer.MustRegister(d.checks, d.changed, mode)
	}
	return d
}

// Examine makes every check. The error matches [jobs.ErrUnavailable] when Redis
// could not be reached; what Redis refuses to tell is in the report. It is not to
// be called while Run runs.
func (d *Doctor) Examine(ctx context.Context) (Report, error) {
	report, _, err := d.examine(ctx, true)
	return report, err
}

// examine makes the standing checks on every primary, and the others where asked
// for. identity tells one run of these primaries from another.
func (d *Doctor) examine(ctx context.Context, probing bool) (report Report, identity string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	report = Report{Mode: d.options.Mode, AllowUnsafe: d.options.AllowUnsafe, Verdict: OK}
	found, layout, err := nodes(ctx, d.store.Redis())
	if err != nil {
		return report, "", err
	}
	var identities []string
	for i, node := range found {
		f, err := read(ctx, node, probing || !d.mute)
		if err != nil {
			return report, "", err
		}
		d.mute = len(f.config) == 0
		f.mode, f.layout = d.options.Mode, layout
		if probing && i == 0 {
			if f.probes, err = d.try(ctx, node); err != nil {
				return report, "", err
			}
		}
		d.judge(&report, f)
		if run := f.info["run_id"]; run != "" {
			identities = append(identities, run+"/"+f.info["master_replid"])
		}
	}
	return report, strings.Join(identities, " "), nil
}

func (d *Doctor) judge(report *Report, f *facts) {
	checks := standing
	if f.probes != nil {
		checks = append(checks[:len(checks):len(checks)], tried...)
	}
	for _, c := range checks {
		result := c.result(f)
		if result.Verdict == Refuse && d.options.AllowUnsafe {
			result.Verdict = Overridden
		}
		report.add(result)
	}
}

// Start examines Redis before anything runs on it, logs what is not as it should
// be, and returns an error naming each check that refuses, its value, its bound
// and what mends it. A connection that is lost meanwhile is tried three times;
// then the error matches [jobs.ErrUnavailable].
func (d *Doctor) Start(ctx context.Context) error {
	report, identity, err := d.examine(ctx, true)
	for again := 0; again < 2 && errors.Is(err, jobs.ErrUnavailable) && ctx.Err() == nil; again++ {
		pause(ctx, 200*time.Millisecond)
		report, identity, err = d.examine(ctx, true)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil // told to stop
		}
		return err
	}
	d.identity = identity
	d.keep(report)
	if refusal := report.refusal(); refusal != nil {
		return refusal
	}
	if overridden := report.with(Overridden); len(overridden) > 0 {
		d.log.Error("PERDURE_ALLOW_UNSAFE_REDIS lets perdure run on a Redis that may lose jobs", "durability", report.Mode, "checks", names(overridden))
	}
	if warned := report.with(Warn); len(warned) > 0 {
		d.log.Warn("redis is not all that it should be; `perdure doctor` says why and what to do", "durability", report.Mode, "checks", names(warned))
	}
	return nil
}

func (d *Doctor) keep(report Report) {
	for _, c := range report.Checks {
		d.known[c.Name] = c
		failing := 0.0
		if c.Verdict != OK {
			failing = 1
		}
		d.checks.WithLabelValues(c.Name).Set(failing)
	}
}

// Run repeats what only reads until ctx ends, and then returns nil. It logs each
// change once. After a restart or a fail-over of Redis it makes every check again
// and calls OnChange. It never ends a process: one that runs is needed to end the
// jobs that there are.
func (d *Doctor) Run(ctx context.Context) error {
	for {
		pause(ctx, d.options.Every)
		if ctx.Err() != nil {
			return nil
		}
		d.look(ctx)
	}
}

func (d *Doctor) look(ctx context.Context) {
	report, identity, err := d.examine(ctx, false)
	if err != nil {
		d.log.Debug("cannot examine redis", "error", err) // the loops that work say so too
		return
	}
	if identity != d.identity && identity != "" {
		known := d.identity
		d.identity = identity
		if known != "" {
			d.changed.Inc()
			d.log.Warn("redis was restarted or failed over: what was written last may be missing", "was", known, "now", identity)
			if full, again, err := d.examine(ctx, true); err == nil {
				report, d.identity = full, again
			}
			if d.options.OnChange != nil {
				d.options.OnChange()
			}
		}
	}
	d.logChanges(report)
	d.keep(report)
}

func (d *Doctor) logChanges(report Report) {
	for _, c := range report.Checks {
		if c.Verdict == d.known[c.Name].Verdict {
			continue
		}
		level, text := slog.LevelInfo, "redis is as it should be again"
		switch c.Verdict {
		case Warn:
			level, text = slog.LevelWarn, "redis is not as it should be"
		case Refuse, Overridden:
			level, text = slog.LevelError, "redis is not safe any more"
		}
		d.log.Log(context.Background(), level, text, "check", c.Name, "value", c.Value, "bound", c.Bound, "why", c.Why, "fix", c.Fix)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
