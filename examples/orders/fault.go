package orders

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Fault is a way for a service to fail, set with PUT /fault or [SetFault]. Each
// call meets the first fault that is meant for it.
type Fault struct {
	// Mode is what happens:
	//
	//	slow        the answer comes after DelayMS, and so does the effect
	//	hang        no answer, no effect
	//	503, 500    this status, no effect
	//	4xx         status 422, no effect
	//	429         this status with Retry-After, no effect
	//	refuse      the connection is reset at once, no effect
	//	half        the effect, then half of the answer
	//	reply-lost  the effect, then the connection is reset
	Mode         string `json:"mode"`
	DelayMS      int    `json:"delay_ms,omitempty"`       // for slow
	Count        int    `json:"count,omitempty"`          // calls to fail; 0: until switched off
	Path         string `json:"path,omitempty"`           // for example "/charge"; empty: all
	Match        string `json:"match,omitempty"`          // an order's ID; empty: all
	RetryAfterMS int    `json:"retry_after_ms,omitempty"` // for 429; sent in whole seconds, rounded up
}

var modes = []string{"slow", "hang", "503", "500", "refuse", "4xx", "429", "half", "reply-lost"}

const maxFaultMS = 3_600_000

func (f Fault) check(paths []string) error {
	if !slices.Contains(modes, f.Mode) {
		return invalid("mode", f.Mode, "one of "+strings.Join(modes, ", "))
	}
	if f.Path != "" && !slices.Contains(paths, f.Path) {
		return invalid("path", f.Path, "empty or one of "+strings.Join(paths, ", "))
	}
	if err := within("delay_ms", f.DelayMS, 0, maxFaultMS); err != nil {
		return err
	}
	if err := within("retry_after_ms", f.RetryAfterMS, 0, maxFaultMS); err != nil {
		return err
	}
	return within("count", f.Count, 0, 1_000_000_000)
}

func (f Fault) meant(c call) bool {
	return (f.Path == "" || f.Path == c.path) && (f.Match == "" || f.Match == c.order.ID)
}

// faults are those switched on, oldest first.
type faults struct {
	mu   sync.Mutex
	list []Fault
}

// take returns the fault that a call meets and uses up one of its count.
func (fs *faults) take(c call) (Fault, bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	i := slices.IndexFunc(fs.list, func(f Fault) bool { return f.meant(c) })
	if i < 0 {
		return Fault{}, false
	}
	f := fs.list[i]
	switch f.Count {
	case 0: // until switched off
	case 1:
		fs.list = slices.Delete(fs.list, i, i+1)
	default:
		fs.list[i].Count--
	}
	return f, true
}

// outage returns the fault, if any, by which no order gets an answer until it is
// switched off.
func (fs *faults) outage() (Fault, bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, f := range fs.list {
		if f.Count == 0 && f.Match == "" && slices.Contains([]string{"hang", "503", "refuse"}, f.Mode) {
			return f, true
		}
	}
	return Fault{}, false
}

func (fs *faults) add(f Fault) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list = append(fs.list, f)
}

func (fs *faults) clear() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list = nil
}

func (s *Service) putFault(w http.ResponseWriter, r *http.Request) {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	var f Fault
	err := decoder.Decode(&f)
	if err == nil {
		err = f.check(servicePaths[s.name])
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("fault: %w", err))
		return
	}
	s.faults.add(f)
	w.WriteHeader(http.StatusNoContent)
}

func (s *Service) deleteFaults(w http.ResponseWriter, _ *http.Request) {
	s.faults.clear()
	w.WriteHeader(http.StatusNoContent)
}

// misbehave answers a call as the fault says.
func (s *Service) misbehave(w http.ResponseWriter, r *http.Request, c call, f Fault) {
	switch f.Mode {
	case "slow":
		s.slow(w, c, time.Duration(f.DelayMS)*time.Millisecond)
	case "hang":
		s.hang(r)
	case "refuse":
		reset(w)
	case "half":
		s.half(w, c)
	case "reply-lost":
		if _, ok := s.effect(w, c); ok {
			reset(w)
		}
	default:
		refuse(w, f.status(w), errors.New("told to fail with "+f.Mode))
	}
}

// status returns a mode's status, and sets the header that goes with it.
func (f Fault) status(w http.ResponseWriter) int {
	switch f.Mode {
	case "429":
		if f.RetryAfterMS > 0 {
			w.Header().Set("Retry-After", strconv.Itoa((f.RetryAfterMS+999)/1000))
		}
		return http.StatusTooManyRequests
	case "4xx":
		return http.StatusUnprocessableEntity
	case "503":
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// slow answers late, and goes on when the caller has given up: the hard case.
func (s *Service) slow(w http.ResponseWriter, c call, delay time.Duration) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		s.answer(w, c)
	case <-s.ended:
		panic(http.ErrAbortHandler)
	}
}

func (s *Service) hang(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-s.ended:
	}
	panic(http.ErrAbortHandler)
}

// half announces the whole answer and sends half; the server then closes the
// connection.
func (s *Service) half(w http.ResponseWriter, c call) {
	reply, ok := s.effect(w, c)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(reply)))
	w.Write(reply[:len(reply)/2])
}

// reset ends the connection so that the caller sees it reset, without an answer.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// SetFault adds a fault to the service at base.
func SetFault(ctx context.Context, base string, f Fault) error {
	body, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode fault: %w", err)
	}
	if err := toFault(ctx, base, http.MethodPut, bytes.NewReader(body)); err != nil {
		return fmt.Errorf("set fault %s: %w", f.Mode, err)
	}
	return nil
}

// ClearFaults switches off all faults of the service at base.
func ClearFaults(ctx context.Context, base string) error {
	if err := toFault(ctx, base, http.MethodDelete, nil); err != nil {
		return fmt.Errorf("clear faults: %w", err)
	}
	return nil
}

func toFault(ctx context.Context, base, method string, body io.Reader) error {
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(base, "/")+"/fault", body)
	if err != nil {
		return err
	}
	_, err = exchange(defaultHTTP, request)
	return err
}
