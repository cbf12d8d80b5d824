package ops

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/audit"
	"github.com/perdure/perdure/deadletter"
	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// Store is what the API needs; *store.Store has it.
type Store interface {
	jobs.Client
	Quarantine
	Groups
	ReplayPlans
	Queues
	Kinds
	DependencyViews
	Breakers
}

// Quarantine decides about isolated jobs.
type Quarantine interface {
	deadletter.Store
	// ReplayEdited returns a quarantined job to its queue with another payload.
	// jobs.ErrConflict: it is not quarantined.
	ReplayEdited(ctx context.Context, queue, key string, payload []byte, fromStart bool, by jobs.Decision) (jobs.Info, error)
	// Erase forgets a quarantined job's payload and outputs. jobs.ErrConflict: it is not
	// quarantined.
	Erase(ctx context.Context, queue, key string, by jobs.Decision) (jobs.Info, error)
}

// Queues looks at queues and holds them.
type Queues interface {
	Queues(ctx context.Context) ([]string, error)
	QueueInfo(ctx context.Context, queue string) (store.QueueInfo, error)
	// PauseQueue returns jobs.ErrNotFound for a queue that is not known.
	PauseQueue(ctx context.Context, queue string, by jobs.Decision) error
	// ResumeQueue returns false while other reasons still pause the queue.
	ResumeQueue(ctx context.Context, queue string, by jobs.Decision) (bool, error)
	Events(ctx context.Context, queue string, limit int) ([]store.Event, error)
}

// Kinds knows what workers have published.
type Kinds interface {
	Kinds(ctx context.Context) (map[string]delivery.PublishedKind, error)
	// KindDefinition returns jobs.ErrUnknownKind for a kind that no worker has
	// published.
	KindDefinition(ctx context.Context, name string) (jobs.Definition, error)
}

var _ Store = (*store.Store)(nil)

// Options says what the API serves and to whom.
type Options struct {
	Store Store
	// Schedules serves what is about schedules when set.
	Schedules Schedules
	// Audit serves recorded decisions when set, and AuditKeys check their seals.
	Audit     audit.Chains
	AuditKeys audit.Keys
	// Handlers are the kinds known in this binary: their payloads are checked
	// before they are enqueued.
	Handlers []jobs.Handler
	// Tokens are the credentials. Without any, callers on this machine may do
	// everything and others nothing.
	Tokens []Token
	// Listen is the address that the handler will be served at, for [CheckListen].
	Listen string
	// Hosts are further names, without port, that requests may be addressed to when
	// there are no tokens.
	Hosts []string
	// Metrics is served as /metrics when set.
	Metrics prometheus.Gatherer
	// AsynqUI mounts asynq's web UI on this connection when set. The caller closes
	// it.
	AsynqUI redis.UniversalClient
	Log     *slog.Logger
	Version string
}

// New returns the API and the pages. It refuses options that would let strangers
// in.
func New(o Options) (http.Handler, error) {
	s, err := newService(o)
	if err != nil {
		return nil, err
	}
	return s.protect(s.routes()), nil
}

// service answers requests.
type service struct {
	store     Store
	schedules Schedules
	audit     audit.Chains
	auditKeys audit.Keys
	kinds     map[string]jobs.Handler // known in this binary
	tokens    []Token
	hosts     map[string]bool
	metrics   http.Handler
	asynq     http.Handler
	asynqCSP  string
	log       *slog.Logger
	version   string
	waits     chan struct{} // one place for each request that waits for a job
}

func newService(o Options) (*service, error) {
	if o.Store == nil {
		return nil, &jobs.InvalidError{Field: "ops store", Value: "nil", Bound: "a store"}
	}
	if o.Listen != "" {
		if err := CheckListen(o.Listen, o.Tokens); err != nil {
			return nil, err
		}
	}
	if err := checkTokens(o.Tokens); err != nil {
		return nil, err
	}
	s := &service{
		store: o.Store, schedules: o.Schedules, audit: o.Audit, auditKeys: o.AuditKeys, kinds: map[string]jobs.Handler{}, tokens: o.Tokens, hosts: map[string]bool{},
		log: o.Log, version: cmp.Or(o.Version, "unknown"), waits: make(chan struct{}, maxWaits),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, h := range o.Handlers {
		if err := h.Err(); err != nil {
			return nil, fmt.Errorf("ops: %w", err)
		}
		other, known := s.kinds[h.Definition.Name]
		if known && other.Definition.Version == h.Definition.Version {
			return nil, &jobs.InvalidError{Field: "kind", Value: h.Definition.Name, Bound: "handled once in each version"}
		}
		if known && other.Definition.Version > h.Definition.Version {
			continue // new jobs are of the newest
		}
		h.Definition = withDefaults(h.Definition)
		s.kinds[h.Definition.Name] = h
	}
	for _, host := range o.Hosts {
		if err := checkHostName(host); err != nil {
			return nil, err
		}
		s.hosts[foldHost(host)] = true
	}
	if o.Metrics != nil {
		s.metrics = metricsOf(o.Metrics)
	}
	if o.AsynqUI != nil {
		if err := s.mountAsynq(o.AsynqUI); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// withDefaults fills what definitions of adapted handlers may leave at zero: a job
// without retention would be forgotten the moment it ends.
func withDefaults(d jobs.Definition) jobs.Definition {
	d.Queue = cmp.Or(d.Queue, "default")
	d.Timeout = cmp.Or(d.Timeout, jobs.DefaultTimeout)
	d.Retention = cmp.Or(d.Retention, jobs.DefaultRetention)
	d.MaxPayload = cmp.Or(d.MaxPayload, jobs.DefaultMaxPayload)
	if d.Codec == nil {
		d.Codec = jobs.JSON
	}
	return d
}

// route is one thing that can be asked of the service. needs is the least role
// that may ask it; a route without one is closed to everybody.
type route struct {
	pattern string
	needs   Role
	serve   func(*service, http.ResponseWriter, *http.Request) error
}

// routes is the whole surface, in one place.
func (s *service) routes() []route {
	all := []route{
		{"POST /api/v1/jobs", Producer, (*service).enqueue},
		{"GET /api/v1/jobs", Viewer, (*service).listJobs},
		{"GET /api/v1/jobs/{queue}/{key}", Viewer, (*service).getJob},
		{"POST /api/v1/jobs/{queue}/{key}/cancel", Operator, decide(Store.Cancel)},
		{"POST /api/v1/jobs/{queue}/{key}/pause", Operator, decide(Store.Pause)},
		{"POST /api/v1/jobs/{queue}/{key}/resume", Operator, decide(Store.Resume)},
		{"POST /api/v1/jobs/{queue}/{key}/signals/{name...}", Producer, (*service).signalJob},
		{"POST /api/v1/jobs/{queue}/{key}/approvals/{name...}", Operator, (*service).approveJob},

		{"GET /api/v1/dead", Viewer, (*service).listDead},
		{"GET /api/v1/dead/{queue}/{key}", Viewer, (*service).getDead},
		{"POST /api/v1/dead/{queue}/{key}/replay", Operator, (*service).replay},
		{"POST /api/v1/dead/{queue}/{key}/discard", Operator, decide(Store.Discard)},
		{"POST /api/v1/dead/{queue}/{key}/erase", Operator, decide(Store.Erase)},
		{"POST /api/v1/dead/discard", Operator, (*service).discardMany},

		{"GET /api/v1/groups", Viewer, (*service).listGroups},
		{"GET /api/v1/groups/{queue}/{signature}", Viewer, (*service).getGroup},
		{"POST /api/v1/groups/{queue}/{signature}/resolve", Operator, judge(delivery.GroupResolved)},
		{"POST /api/v1/groups/{queue}/{signature}/ignore", Operator, judge(delivery.GroupIgnored)},
		{"POST /api/v1/groups/{queue}/{signature}/open", Operator, judge(delivery.GroupOpen)},

		{"GET /api/v1/plans", Viewer, (*service).listPlans},
		{"POST /api/v1/plans", Operator, (*service).makePlan},
		{"GET /api/v1/plans/{queue}/{plan}", Viewer, (*service).getPlan},
		{"POST /api/v1/plans/{queue}/{plan}/pause", Operator, steerPlan(Store.PausePlan)},
		{"POST /api/v1/plans/{queue}/{plan}/resume", Operator, steerPlan(Store.ResumePlan)},
		{"POST /api/v1/plans/{queue}/{plan}/abort", Operator, steerPlan(Store.AbortPlan)},

		{"GET /api/v1/queues", Viewer, (*service).listQueues},
		{"POST /api/v1/queues/{queue}/pause", Operator, (*service).pauseQueue},
		{"POST /api/v1/queues/{queue}/resume", Operator, (*service).resumeQueue},

		{"GET /api/v1/kinds", Viewer, (*service).listKinds},
		{"GET /api/v1/events", Viewer, (*service).listEvents},
		{"GET /api/v1/version", Viewer, (*service).showVersion},

		{"GET /{$}", Viewer, (*service).home},
		{"GET /style.css", Viewer, (*service).style},
	}
	all = append(all, dependencyRoutes()...)
	all = append(all, s.scheduleRoutes()...)
	all = append(all, s.auditRoutes()...)
	if s.metrics != nil {
		all = append(all, route{"GET /metrics", Viewer, (*service).showMetrics})
	}
	if s.asynq != nil {
		all = append(all, route{"GET /asynq/", Viewer, (*service).showAsynq})
	}
	return all
}

// NewServer returns a server with the time limits that the API needs, for the
// handlers of [New] and [Health].
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      maxWait + 30*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
	}
	if log != nil {
		server.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelWarn)
	}
	return server
}
