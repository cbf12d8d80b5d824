package store

import (
	"context"
	"fmt"
	"regexp"
	"sync"

	"github.com/perdure/perdure/internal/delivery"
)

const (
	maxSorted  = 250 // jobs of a shared queue that a claim looks at; a script that only sorts looks at maxBatch
	sortAtOnce = 8   // scripts that sort, one after the other
)

// nobody is the tenant of jobs that have none.
const nobody = "-"

var tenantName = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,63}$`)

// tenantOf is a job's tenant as turns know it: a name that perdure's client would
// refuse is of a stock producer, and counts as none. It is what tenant_of of the
// prelude makes of the message.
func tenantOf(tenant string) string {
	if !tenantName.MatchString(tenant) {
		return nobody
	}
	return tenant
}

// registerTenant notes that a tenant has jobs in a queue, once a process. A queue of
// two is shared: its jobs are claimed in turn.
func (s *Store) registerTenant(ctx context.Context, queue, tenant string) error {
	all, ok := s.tenants.Load(queue)
	if !ok {
		all, _ = s.tenants.LoadOrStore(queue, &sync.Map{})
	}
	known := all.(*sync.Map)
	if _, ok := known.Load(tenant); ok {
		return nil
	}
	_, err := surely(ctx, func() (int64, error) {
		added, err := s.rdb.SAdd(ctx, tenantsKey(queue), tenantOf(tenant)).Result()
		return added, unreachable(err)
	})
	if err != nil {
		return fmt.Errorf("register tenant %s in queue %s: %w", tenantOf(tenant), queue, err)
	}
	known.Store(tenant, true)
	return nil
}

// sawTenants notes whose jobs a claim has met: a producer may be a stock one, and a
// fail-over may have lost what clients have registered. An error is left to the next
// claim: these jobs are to be run.
func (s *Store) sawTenants(ctx context.Context, queue string, claimed []delivery.Delivery) {
	for _, d := range claimed {
		if s.registerTenant(ctx, queue, d.Tenant) != nil {
			return
		}
	}
}

// sort sorts a long queue that tenants share by whose turn it is, without claiming,
// and reports whether there is more to do.
func (s *Store) sort(ctx context.Context, queue string) (more bool, err error) {
	for range sortAtOnce {
		batch, err := s.claim(ctx, queue, "", 0, maxBatch)
		if err != nil {
			return false, fmt.Errorf("sort queue %s: %w", queue, err)
		}
		if batch.Emptied || batch.Paused || ctx.Err() != nil {
			return false, nil
		}
	}
	return true, nil
}

// queued reports that a job waits its turn. To asynq it is a retry, to everybody else
// it is pending.
func (h hash) queued() bool {
	waiting := h.waiting()
	return waiting != nil && waiting.Type == "turn"
}
