package orders_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/jobs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is an attempt without Redis.
type memory struct {
	mu      sync.Mutex
	entered map[string]bool
	steps   map[string][]byte
}

func (m *memory) About() jobs.About {
	return jobs.About{Queue: "orders", Key: "k", Kind: "order.fulfil", Incarnation: "i", Attempt: 1}
}
func (m *memory) Definition() jobs.Definition { return orders.Fulfil.Definition() }
func (m *memory) Enter(step string) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.entered[step] {
		return nil, false, jobs.ErrDuplicateStep
	}
	m.entered[step] = true
	output, ok := m.steps[step]
	return output, ok, nil
}
func (m *memory) Commit(_ context.Context, step string, output []byte, _ time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.steps[step] = output
	return nil
}
func (m *memory) Progress(string) []byte                             { return nil }
func (m *memory) SaveProgress(context.Context, string, []byte) error { return nil }

// shop is the three services and a client of its own.
type shop struct {
	orders.Services
	ledgers map[string]string
	sample  orders.Order
}

func open(t *testing.T) *shop {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	s := &shop{ledgers: map[string]string{}}
	s.HTTP = &http.Client{Transport: transport}
	for name, url := range map[string]*string{"payments": &s.Payments, "warehouse": &s.Warehouse, "mail": &s.Mail} {
		s.ledgers[name] = filepath.Join(t.TempDir(), name)
		service, err := orders.NewService(name, s.ledgers[name])
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(service)
		t.Cleanup(func() { server.Close(); service.Close() })
		*url = server.URL
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	list, err := orders.Sample()
	if err != nil {
		t.Fatal(err)
	}
	s.sample = list[0]
	return s
}

// fulfil runs executions on one record until one succeeds, and returns the errors
// of the others.
func (s *shop) fulfil(t *testing.T, most int) (orders.Shipment, []error) {
	t.Helper()
	m := &memory{steps: map[string][]byte{}}
	var errs []error
	for range most {
		m.entered = map[string]bool{}
		ctx, cancel := context.WithTimeout(jobs.WithAttempt(t.Context(), m), 300*time.Millisecond)
		shipment, err := s.Fulfil(ctx, s.sample)
		cancel()
		if err == nil {
			return shipment, errs
		}
		errs = append(errs, err)
	}
	return orders.Shipment{}, errs
}

// count returns how often an event happened to a path.
func (s *shop) count(t *testing.T, service, path, event string) int {
	t.Helper()
	entries, err := orders.ReadLedger(s.ledgers[service])
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if e.Path == path && e.Event == event {
			n++
		}
	}
	return n
}

func TestEachFaultHasItsClassAndOneEffect(t *testing.T) {
	t.Parallel()
	for mode, class := range map[string]jobs.Class{
		"slow": jobs.ClassTimeout, "hang": jobs.ClassTimeout, "500": jobs.ClassTransient, "503": jobs.ClassUnavailable,
		"refuse": jobs.ClassUnavailable, "4xx": jobs.ClassInvalid, "429": jobs.ClassThrottled, "half": jobs.ClassTransient,
		"reply-lost": jobs.ClassUnavailable,
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			fault := orders.Fault{Mode: mode, DelayMS: 60_000, Count: 1, Path: "/reserve", Match: s.sample.ID, RetryAfterMS: 1500}
			if err := orders.SetFault(t.Context(), s.Warehouse, fault); err != nil {
				t.Fatal(err)
			}
			shipment, errs := s.fulfil(t, 2)
			if len(errs) != 1 || shipment.Mail == "" {
				t.Fatalf("shipment %+v, errors %v", shipment, errs)
			}
			c := jobs.Classify(errs[0])
			if c.Class != class || c.Step != "reserve" {
				t.Errorf("class %+v of %v", c, errs[0])
			}
			if mode == "429" && c.Wait != 2*time.Second {
				t.Errorf("wait %v", c.Wait)
			}
			if n := s.count(t, "payments", "/charge", "received"); n != 1 {
				t.Errorf("charged %d times", n)
			}
			if n := s.count(t, "warehouse", "/reserve", "effect"); n != 1 {
				t.Errorf("reserved %d times", n)
			}
			if n := s.count(t, "warehouse", "/reserve", "fault:"+mode); n != 1 {
				t.Errorf("%d faults", n)
			}
		})
	}
}

func TestFaultsAreForSomeAndEnd(t *testing.T) {
	t.Parallel()
	s := open(t)
	if err := orders.SetFault(t.Context(), s.Payments, orders.Fault{Mode: "500", Match: "order:1"}); err != nil {
		t.Fatal(err)
	}
	if _, errs := s.fulfil(t, 1); len(errs) != 0 {
		t.Fatalf("a fault of another order: %v", errs)
	}
	if err := orders.SetFault(t.Context(), s.Mail, orders.Fault{Mode: "500"}); err != nil {
		t.Fatal(err)
	}
	if _, errs := s.fulfil(t, 3); len(errs) != 3 {
		t.Fatalf("a fault without count: %v", errs)
	}
	if err := orders.ClearFaults(t.Context(), s.Mail); err != nil {
		t.Fatal(err)
	}
	if _, errs := s.fulfil(t, 1); len(errs) != 0 {
		t.Fatalf("cleared: %v", errs)
	}
	if err := orders.SetFault(t.Context(), s.Mail, orders.Fault{Mode: "sulk"}); err == nil {
		t.Fatal("an unknown mode was taken")
	}
}

func TestAServiceRemembersAcrossRestarts(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger")
	ask := func() string {
		service, err := orders.NewService("mail", path)
		if err != nil {
			t.Fatal(err)
		}
		defer service.Close()
		w, r := httptest.NewRecorder(), httptest.NewRequest("POST", "/send", strings.NewReader(`{"id":"order:5"}`))
		r.Header.Set("Idempotency-Key", "k")
		service.ServeHTTP(w, r)
		return w.Body.String()
	}
	first := ask()
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	file.WriteString(`{"half a li`) // what a killed process leaves
	file.Close()
	if again := ask(); first == "" || again != first {
		t.Fatalf("first %q, after the restart %q", first, again)
	}
	entries, err := orders.ReadLedger(path)
	if n := orders.Effects(entries)["k"]; err != nil || n != 1 || len(entries) != 4 {
		t.Fatalf("%d effects in %+v, %v", n, entries, err)
	}
}

func TestRequestsWithoutKeyAreRefused(t *testing.T) {
	t.Parallel()
	s := open(t)
	resp, err := s.HTTP.Post(s.Payments+"/charge", "application/json", strings.NewReader(`{}`))
	if err != nil || resp.StatusCode != http.StatusBadRequest {
		t.Fatalf("%v %v", resp, err)
	}
	resp.Body.Close()
}

func TestTheSampleIsWhatTheGeneratorMakes(t *testing.T) {
	t.Parallel()
	made, err := exec.Command("go", "run", "./gen").Output()
	if err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile("orders.csv")
	if err != nil || !bytes.Equal(made, kept) {
		t.Fatalf("orders.csv is not what gen makes: %v", err)
	}
	list, err := orders.Sample()
	if err != nil || len(list) != 3000 {
		t.Fatalf("%d orders, %v", len(list), err)
	}
}

const heading = "id,customer,email,country,currency,items,total_cents\n"

func TestBadLinesAreNamed(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"id,name\n": "number of fields",
		"a,customer,email,country,currency,items,total_cents\n":  `column 1: heading is "a"`,
		heading + "order:1,Ada,a@b.c,DE,EUR,X*1@5 Mug,six\n":     `line 2: column total_cents: "six"`,
		heading + "order:1,Ada,a@b.c,DE,EUR,Mug,5\n":             `line 2: column items: "Mug"`,
		heading + "order:1,Ada,a@b.c,DE,EUR,X*1@5 Mug,6\n":       "line 2: total_cents 6",
		heading + "1,Ada,a@b.c,DE,EUR,X*1@5 Mug,5\n":             `line 2: id "1"`,
		heading + "order:1,Ada,nobody,Germany,EUR,X*1@5 Mug,5\n": `country "Germany"`,
	} {
		if _, err := orders.ReadCSV(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v does not say %q", text, err, says)
		}
	}
	if _, err := orders.NewService("bank", filepath.Join(t.TempDir(), "x")); !errors.Is(err, jobs.ErrInvalid) {
		t.Errorf("an unknown service: %v", err)
	}
}

func FuzzReadCSV(f *testing.F) {
	f.Add(heading + "order:1,Ada,a@b.c,DE,EUR,X*1@5 Mug,5\n")
	f.Add("\"")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := orders.ReadCSV(strings.NewReader(text))
		for _, o := range list {
			if err == nil && o.Validate() != nil {
				t.Fatalf("an order that is not valid was read: %+v", o)
			}
		}
	})
}
