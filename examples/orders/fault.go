package orders

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/perdure/perdure/jobs"
)

// Fault makes a service fail.
type Fault struct {
	Mode         string `json:"mode"`           // one of Modes
	DelayMS      int    `json:"delay_ms"`       // slow: how late the answer is
	Count        int    `json:"count"`          // how many requests; 0: until it is taken back
	Path         string `json:"path"`           // one path; empty: all
	Match        string `json:"match"`          // one order; empty: all
	RetryAfterMS int    `json:"retry_after_ms"` // 429: told in whole seconds, rounded up
}

// Modes are the ways to fail: answer late, never, with a status, with a closed
// connection, with half an answer, or not at all although the effect has
// happened.
func Modes() []string {
	return []string{"slow", "hang", "500", "503", "refuse", "4xx", "429", "half", "reply-lost"}
}

func (f Fault) check() error {
	if !slices.Contains(Modes(), f.Mode) {
		return &jobs.InvalidError{Field: "mode", Value: f.Mode, Bound: fmt.Sprintf("one of %v", Modes())}
	}
	if f.DelayMS < 0 || f.DelayMS > 600_000 || f.Count < 0 || f.RetryAfterMS < 0 {
		return &jobs.InvalidError{Field: "delay_ms, count and retry_after_ms", Value: fmt.Sprintf("%d, %d, %d", f.DelayMS, f.Count, f.RetryAfterMS), Bound: "0 or more, the delay at most 600000"}
	}
	return nil
}

// faults are those of a service, first set first.
type faults struct {
	mu   sync.Mutex
	list []Fault
}

func (f *faults) add(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, fault)
}

func (f *faults) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = nil
}

func (f *faults) all() []Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.list)
}

// next returns the fault that meets a request, and counts it down.
func (f *faults) next(path, order string) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, fault := range f.list {
		if fault.Path != "" && fault.Path != path || fault.Match != "" && fault.Match != order {
			continue
		}
		switch fault.Count {
		case 0:
		case 1:
			f.list = slices.Delete(f.list, i, i+1)
		default:
			f.list[i].Count--
		}
		return fault, true
	}
	return Fault{}, false
}

// SetFault switches a fault on at the service at base, beside those already on.
func SetFault(ctx context.Context, base string, f Fault) error {
	body, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return callFault(ctx, http.MethodPut, base, body)
}

// ClearFaults switches all faults of the service at base off.
func ClearFaults(ctx context.Context, base string) error {
	return callFault(ctx, http.MethodDelete, base, nil)
}

func callFault(ctx context.Context, method, base string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, method, base+"/fault", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("set fault: %w", err)
	}
	defer resp.Body.Close()
	return jobs.CheckResponse(resp)
}
