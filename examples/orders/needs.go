package orders

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/perdure/perdure/jobs"
)

// The services, as the kinds need them. While one is away, orders that need it pause
// and use no attempt; then they come back at the rate that is said here, so many a
// second.
var (
	payments  = jobs.Dependency{Name: "payments", Resume: 50}
	warehouse = jobs.Dependency{Name: "warehouse", Resume: 100} // asked how it is, see [Services.bind]
	mailing   = jobs.Dependency{Name: "mail", Resume: 100}
)

// DependencyName is the name of one of the services as a dependency: its own, or with
// the prefix and a colon in front where several environments share a Redis.
func (s Services) DependencyName(service string) string {
	if s.Prefix == "" {
		return service
	}
	return s.Prefix + ":" + service
}

// needs says that a step calls a service. Its calls then count for that service alone,
// and it is not begun while the service is away.
func (s Services) needs(d jobs.Dependency) jobs.StepOption {
	return jobs.StepNeeds(s.DependencyName(d.Name))
}

// bind gives a handler's dependencies their names, and the warehouse a health check:
// it can say itself that it is back, so that no order has to find out.
func (s Services) bind(h jobs.Handler) jobs.Handler {
	h.Definition.Needs = slices.Clone(h.Definition.Needs)
	for i, name := range h.Definition.Needs {
		h.Definition.Needs[i] = s.DependencyName(name)
	}
	h.Definition.Dependencies = slices.Clone(h.Definition.Dependencies)
	for i, d := range h.Definition.Dependencies {
		if d.Name == warehouse.Name {
			h.Definition.Dependencies[i].Health = func(ctx context.Context) error { return s.healthy(ctx, s.Warehouse) }
		}
		h.Definition.Dependencies[i].Name = s.DependencyName(d.Name)
	}
	return h
}

// healthy asks a service how it is.
func (s Services) healthy(ctx context.Context, base string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(base, "/")+"/healthz", http.NoBody)
	if err != nil {
		return err
	}
	_, err = exchange(s.client(), request)
	return err
}
