package orders

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
)

// post calls a path with a key, without a job around it.
func post(ctx context.Context, url, key string, o Order) (string, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Idempotency-Key", key)
	reply, err := exchange(defaultHTTP, request)
	if err != nil {
		return "", err
	}
	return receipt(reply)
}

func statusOf(err error) int {
	var refused *jobs.HTTPError
	if errors.As(err, &refused) {
		return refused.Status
	}
	return 0
}

func TestRefusals(t *testing.T) {
	r, o := newRig(t), sampleOrder(t)
	if _, err := post(t.Context(), r.Payments+"/charge", "", o); statusOf(err) != 400 {
		t.Errorf("without a key: %v", err)
	}
	if _, err := post(t.Context(), r.Payments+"/charge", strings.Repeat("k", 256), o); statusOf(err) != 400 {
		t.Errorf("with a long key: %v", err)
	}
	if _, err := post(t.Context(), r.Payments+"/charge", "k", Order{ID: "1042"}); statusOf(err) != 422 {
		t.Errorf("with a bad order: %v", err)
	}
	if _, err := post(t.Context(), r.Payments+"/send", "k", o); statusOf(err) != 404 {
		t.Errorf("at another's path: %v", err)
	}
	if entries, err := ReadLedger(r.ledger("payments")); err != nil || len(entries) != 0 {
		t.Errorf("ledger: %v, %v", entries, err)
	}
}

func TestKeyIsForOneRequest(t *testing.T) {
	r, o := newRig(t), sampleOrder(t)
	first, err := post(t.Context(), r.Warehouse+"/reserve", "k", o)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := post(t.Context(), r.Warehouse+"/reserve", "k", o); err != nil || second != first {
		t.Errorf("again: %s, %v; first %s", second, err, first)
	}
	if _, err := post(t.Context(), r.Warehouse+"/label", "k", o); statusOf(err) != 422 {
		t.Errorf("for another path: %v", err)
	}
	if got := r.count(t, "effect"); got["/reserve"] != 1 || got["/label"] != 0 {
		t.Errorf("effects: %v", got)
	}
}

func TestFaultsAreMeantForSomeAndCleared(t *testing.T) {
	r, o := newRig(t), sampleOrder(t)
	other := o
	other.ID = "order:7"
	r.fault(t, r.Warehouse, Fault{Mode: "503", Path: "/reserve", Match: o.ID})
	r.fault(t, r.Warehouse, Fault{Mode: "500", Path: "/label"})
	want := map[string]int{"/reserve": 503, "/label": 500}
	for path, status := range want {
		for range 2 {
			if _, err := post(t.Context(), r.Warehouse+path, "k"+path, o); statusOf(err) != status {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	if _, err := post(t.Context(), r.Warehouse+"/reserve", "other", other); err != nil {
		t.Error(err)
	}
	if err := ClearFaults(t.Context(), r.Warehouse); err != nil {
		t.Fatal(err)
	}
	if _, err := post(t.Context(), r.Warehouse+"/reserve", "k/reserve", o); err != nil {
		t.Error(err)
	}
}

func TestBadFaults(t *testing.T) {
	r := newRig(t)
	for _, f := range []Fault{{Mode: "flood"}, {Mode: "slow", DelayMS: -1}, {Mode: "hang", Count: -1}, {Mode: "hang", Path: "/send"}, {Mode: "429", RetryAfterMS: maxFaultMS + 1}} {
		if err := SetFault(t.Context(), r.Payments, f); statusOf(err) != 400 {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

func TestSlowAnswersLate(t *testing.T) {
	r, o := newRig(t), sampleOrder(t)
	r.fault(t, r.Mail, Fault{Mode: "slow", DelayMS: 60})
	began := time.Now()
	if _, err := post(t.Context(), r.Mail+"/send", "k", o); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 60*time.Millisecond {
		t.Errorf("answered after %v", took)
	}
}

func TestLedgerAndHealthOverHTTP(t *testing.T) {
	r, o := newRig(t), sampleOrder(t)
	if _, err := post(t.Context(), r.Mail+"/send", "k", o); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/ledger": `"event":"effect"`, "/healthz": "ok"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.Mail+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := exchange(defaultHTTP, request); err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%s: %q, %v", path, body, err)
		}
	}
}

func TestUnknownService(t *testing.T) {
	if _, err := NewService("bank", filepath.Join(t.TempDir(), "l")); !errors.Is(err, jobs.ErrInvalid) {
		t.Error(err)
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, "mail", "127.0.0.1:0", filepath.Join(t.TempDir(), "l"), write) }()
	base := announced(t, read)
	if err := SetFault(t.Context(), base, Fault{Mode: "hang"}); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func announced(t *testing.T, r io.Reader) string {
	t.Helper()
	line, err := bufio.NewReader(r).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "listening ")
	if err != nil || !ok {
		t.Fatalf("said %q: %v", line, err)
	}
	return "http://" + address
}

// startProcess runs payments as a process of its own.
func startProcess(t *testing.T, ledger string) (base string, kill func()) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "ORDERS_TEST_SERVICE=payments", "ORDERS_TEST_LEDGER="+ledger)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		c.Process.Kill()
		c.Wait()
	}
	t.Cleanup(kill)
	return announced(t, out), kill
}

func TestKilledServiceRemembers(t *testing.T) {
	ledger, o := filepath.Join(t.TempDir(), "payments.jsonl"), sampleOrder(t)
	base, kill := startProcess(t, ledger)
	first, err := post(t.Context(), base+"/charge", "k", o)
	if err != nil {
		t.Fatal(err)
	}
	kill()
	f, err := os.OpenFile(ledger, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(f, `{"at":"2026-01-`) // half a line
	f.Close()
	base, _ = startProcess(t, ledger)
	if second, err := post(t.Context(), base+"/charge", "k", o); err != nil || second != first {
		t.Errorf("after the restart: %s, %v; first %s", second, err, first)
	}
	entries, err := ReadLedger(ledger)
	if err != nil || len(entries) != 4 || entries[3].Event != "replayed" || Effects(entries)["k"] != 1 {
		t.Errorf("%+v, %v", entries, err)
	}
}

func TestBadLedgerLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l")
	if err := os.WriteFile(path, []byte("{}\nnonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadLedger(path); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Error(err)
	}
}
