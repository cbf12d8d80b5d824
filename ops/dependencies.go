package ops

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// DependencyViews looks at the services that jobs need, and at limits.
type DependencyViews interface {
	// Dependencies returns all that are known, DependenciesInUse those that are not
	// closed, that kinds need, or that were called within a minute.
	Dependencies(ctx context.Context) ([]delivery.DependencyInfo, error)
	DependenciesInUse(ctx context.Context) ([]delivery.DependencyInfo, error)
	Limits(ctx context.Context) ([]delivery.LimitInfo, error)
	// Limit returns jobs.ErrNotFound for a limit that nobody has set.
	Limit(ctx context.Context, name string) (delivery.LimitInfo, error)
	DependencyStory(ctx context.Context, name string) (store.DependencyStory, error)
	DependencyEvents(ctx context.Context, limit int) ([]store.Event, error)
}

// Breakers decides about dependencies and limits.
type Breakers interface {
	// CheckDependencyKnown returns jobs.ErrNotFound for a name that nothing is known of.
	CheckDependencyKnown(ctx context.Context, name string) error
	// ForceDependency returns false when it was so before, as TuneDependency does.
	ForceDependency(ctx context.Context, name string, open bool, by jobs.Decision) (bool, error)
	TuneDependency(ctx context.Context, name string, t delivery.Tuning, by jobs.Decision) (bool, error)
}

// dependencyRoutes have a dependency's name as one part of the path, which has no slash
// and nothing to be escaped. A limit's name, kind/mail, is two parts, as it is written.
func dependencyRoutes() []route {
	return []route{
		{"GET /api/v1/dependencies", Viewer, (*service).listDependencies},
		{"GET /api/v1/dependencies/{dependency}", Viewer, (*service).getDependency},
		{"POST /api/v1/dependencies/{dependency}/open", Operator, forceDependency(true)},
		{"POST /api/v1/dependencies/{dependency}/close", Operator, forceDependency(false)},
		{"PATCH /api/v1/dependencies/{dependency}", Operator, (*service).tuneDependency},

		{"GET /api/v1/limits", Viewer, (*service).listLimits},
		{"GET /api/v1/limits/{of}/{limited}", Viewer, (*service).getLimit},
		{"PATCH /api/v1/limits/{of}/{limited}", Operator, (*service).tuneLimit},
	}
}

func (s *service) listDependencies(w http.ResponseWriter, r *http.Request) error {
	values, err := params(r, "all")
	if err != nil {
		return err
	}
	read := s.store.DependenciesInUse
	switch values.Get("all") {
	case "", "false":
	case "true":
		read = s.store.Dependencies
	default:
		return &jobs.InvalidError{Field: "all", Value: values.Get("all"), Bound: "true or false"}
	}
	infos, err := read(r.Context())
	if err != nil {
		return err
	}
	delivery.WorstFirst(infos)
	return writeJSON(w, http.StatusOK, map[string]any{"dependencies": infos})
}

func (s *service) getDependency(w http.ResponseWriter, r *http.Request) error {
	if _, err := params(r); err != nil {
		return err
	}
	return s.tellDependency(w, r)
}

// tellDependency answers with how a dependency stands.
func (s *service) tellDependency(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("dependency")
	if err := jobs.CheckDependency(name); err != nil {
		return err
	}
	story, err := s.store.DependencyStory(r.Context(), name)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, story)
}

func forceDependency(open bool) func(*service, http.ResponseWriter, *http.Request) error {
	return func(s *service, w http.ResponseWriter, r *http.Request) error {
		name, unknown, more := r.PathValue("dependency"), false, []member{}
		if open {
			more = append(more, unknownMember(&unknown))
		}
		by, err := decisionOf(w, r, more...)
		if err := errors.Join(jobs.CheckDependency(name), err); err != nil {
			return err
		}
		if err := s.checkKnown(r.Context(), name, unknown); err != nil {
			return err
		}
		if _, err := s.store.ForceDependency(r.Context(), name, open, by); err != nil {
			return err
		}
		return s.tellDependency(w, r)
	}
}

func unknownMember(to *bool) member { return member{"unknown", to, "true or false"} }

// checkKnown refuses a name that nothing is known of, most likely misspelt, unless it may
// be unknown.
func (s *service) checkKnown(ctx context.Context, name string, unknown bool) error {
	if unknown {
		return nil
	}
	return s.store.CheckDependencyKnown(ctx, name)
}

// setting is a member of a settings body: absent it stays, null takes it back.
type setting[T int | float64] struct{ to **T }

func (s setting[T]) UnmarshalJSON(text []byte) error {
	var n T
	if string(text) == "null" {
		n = -1 // what takes one back
		*s.to = &n
		return nil
	}
	if err := json.Unmarshal(text, &n); err != nil {
		return err
	}
	if n < 0 {
		return errors.New("below 0")
	}
	*s.to = &n
	return nil
}

func number(name string, to **float64) member {
	return member{name, &setting[float64]{to}, "a number, at least 0, or null: take it back"}
}

func whole(name string, to **int) member {
	return member{name, &setting[int]{to}, "a whole number, at least 0, or null: take it back"}
}

func (s *service) tuneDependency(w http.ResponseWriter, r *http.Request) error {
	var t delivery.Tuning
	err := s.tune(w, r, r.PathValue("dependency"), &t, jobs.CheckDependency,
		number("resume", &t.Resume), number("ratio", &t.Ratio), whole("min_calls", &t.MinCalls), whole("quorum", &t.Quorum))
	if err != nil {
		return err
	}
	return s.tellDependency(w, r)
}

// tune carries out a body of settings.
func (s *service) tune(w http.ResponseWriter, r *http.Request, name string, t *delivery.Tuning, check func(string) error, more ...member) error {
	unknown := false
	members := append(more, number("rate", &t.Rate), whole("concurrency", &t.Concurrency), unknownMember(&unknown))
	by, err := decisionOf(w, r, members...)
	if err := errors.Join(check(name), err); err != nil {
		return err
	}
	if err := t.Check(name); err != nil {
		return err
	}
	if err := s.checkKnown(r.Context(), name, unknown); err != nil {
		return err
	}
	_, err = s.store.TuneDependency(r.Context(), name, *t, by)
	return err
}

func (s *service) listLimits(w http.ResponseWriter, r *http.Request) error {
	if _, err := params(r); err != nil {
		return err
	}
	limits, err := s.store.Limits(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{"limits": limits})
}

func limitName(r *http.Request) string { return r.PathValue("of") + "/" + r.PathValue("limited") }

// checkLimit refuses what is no kind/<kind> or tenant/<tenant>.
func checkLimit(name string) error {
	if of, _, _ := strings.Cut(name, "/"); of != "kind" && of != "tenant" {
		return &jobs.InvalidError{Field: "limit", Value: of, Bound: "kind or tenant, then its name"}
	}
	return delivery.CheckLimitName(name)
}

func (s *service) getLimit(w http.ResponseWriter, r *http.Request) error {
	if _, err := params(r); err != nil {
		return err
	}
	if err := checkLimit(limitName(r)); err != nil {
		return err
	}
	limit, err := s.store.Limit(r.Context(), limitName(r))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, limit)
}

func (s *service) tuneLimit(w http.ResponseWriter, r *http.Request) error {
	var t delivery.Tuning
	if err := s.tune(w, r, limitName(r), &t, checkLimit); err != nil {
		return err
	}
	limit, err := s.store.Limit(r.Context(), limitName(r))
	if errors.Is(err, jobs.ErrNotFound) { // what was taken back was all that was known
		limit, err = delivery.LimitInfo{Name: limitName(r)}, nil
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, limit)
}
