package orders

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/perdure/perdure/internal/redistest"
)

// TestMain runs a service instead of the tests when a test started this binary
// as one.
func TestMain(m *testing.M) {
	if name := os.Getenv("ORDERS_TEST_SERVICE"); name != "" {
		err := Serve(context.Background(), name, "127.0.0.1:0", os.Getenv("ORDERS_TEST_LEDGER"))
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	redistest.Main(m)
}

// rig is the three services, in this process.
type rig struct {
	Services
	dir      string
	services map[string]*Service
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir(), services: map[string]*Service{}}
	for name, base := range map[string]*string{"payments": &r.Payments, "warehouse": &r.Warehouse, "mail": &r.Mail} {
		s, err := NewService(name, r.ledger(name))
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(s)
		t.Cleanup(func() {
			s.end()
			server.Close()
			s.Close()
		})
		r.services[name], *base = s, server.URL
	}
	return r
}

func (r *rig) ledger(name string) string { return filepath.Join(r.dir, name+".jsonl") }

// count returns how often an event happened at each path.
func (r *rig) count(t *testing.T, event string) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for name := range r.services {
		entries, err := ReadLedger(r.ledger(name))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Event == event {
				counts[e.Path]++
			}
		}
	}
	return counts
}

func (r *rig) fault(t *testing.T, base string, f Fault) {
	t.Helper()
	if err := SetFault(t.Context(), base, f); err != nil {
		t.Fatal(err)
	}
}

func sampleOrder(t *testing.T) Order {
	t.Helper()
	list, err := Sample()
	if err != nil {
		t.Fatal(err)
	}
	return list[42]
}
