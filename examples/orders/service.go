package orders

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/perdure/perdure/jobs"
)

// paths are what each service does.
var paths = map[string][]string{"payments": {"/charge"}, "warehouse": {"/reserve", "/label"}, "mail": {"/send"}}

// Service is one of the three: payments, warehouse or mail. It has each effect
// once for an idempotency key, also across restarts: what it knows is read back
// from its ledger.
type Service struct {
	name       string
	ledgerPath string
	ledger     *ledger
	faults     faults
	mux        *http.ServeMux

	mu       sync.Mutex
	receipts map[string]string // by path and idempotency key
}

// NewService returns a service with its ledger at a path.
func NewService(name, ledgerPath string) (*Service, error) {
	if paths[name] == nil {
		return nil, &jobs.InvalidError{Field: "service", Value: name, Bound: "payments, warehouse or mail"}
	}
	entries, err := ReadLedger(ledgerPath)
	if err != nil {
		return nil, err
	}
	s := &Service{name: name, ledgerPath: ledgerPath, receipts: map[string]string{}, mux: http.NewServeMux()}
	for _, e := range entries {
		if e.Event == "effect" {
			s.receipts[e.Path+" "+e.Key] = e.Receipt
		}
	}
	if s.ledger, err = openLedger(ledgerPath); err != nil {
		return nil, err
	}
	for _, path := range paths[name] {
		s.mux.HandleFunc("POST "+path, s.act)
	}
	s.mux.HandleFunc("PUT /fault", s.putFault)
	s.mux.HandleFunc("DELETE /fault", func(http.ResponseWriter, *http.Request) { s.faults.clear() })
	s.mux.HandleFunc("GET /fault", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, s.faults.all()) })
	s.mux.HandleFunc("GET /ledger", s.getLedger)
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	return s, nil
}

// Close closes the ledger.
func (s *Service) Close() error { return s.ledger.file.Close() }

// ServeHTTP implements http.Handler.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// act has the effect of a request, unless a fault prevents it.
func (s *Service) act(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Idempotency-Key")
	var o Order
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&o)
	if err != nil || key == "" {
		answer(w, http.StatusBadRequest, "want an order and the header Idempotency-Key")
		return
	}
	e := Entry{Service: s.name, Path: r.URL.Path, Key: key, Order: o.ID, Event: "received"}
	if err := s.ledger.append(e); err != nil {
		answer(w, http.StatusInternalServerError, err.Error())
		return
	}
	fault, failing := s.faults.next(r.URL.Path, o.ID)
	if failing {
		e.Event = "fault:" + fault.Mode
		_ = s.ledger.append(e) // the fault happens all the same
		if s.before(w, r, fault) {
			return
		}
	}
	receipt, err := s.effect(e)
	switch {
	case err != nil:
		answer(w, http.StatusInternalServerError, err.Error())
	case failing && fault.Mode == "reply-lost":
		reset(w)
	case failing && fault.Mode == "half":
		half(w)
	default:
		answer(w, http.StatusOK, map[string]string{"id": receipt})
	}
}

// before plays the faults that come before any effect; true: the request is over.
func (s *Service) before(w http.ResponseWriter, r *http.Request, f Fault) bool {
	switch f.Mode {
	case "slow":
		timer := time.NewTimer(time.Duration(f.DelayMS) * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
			return false
		case <-r.Context().Done():
			return true
		}
	case "hang":
		<-r.Context().Done()
	case "500":
		answer(w, http.StatusInternalServerError, "fault")
	case "503":
		answer(w, http.StatusServiceUnavailable, "fault")
	case "4xx":
		answer(w, http.StatusUnprocessableEntity, "this order cannot be processed")
	case "429":
		w.Header().Set("Retry-After", fmt.Sprint((f.RetryAfterMS+999)/1000))
		answer(w, http.StatusTooManyRequests, "fault")
	case "refuse":
		reset(w)
	default:
		return false
	}
	return true
}

// effect happens once for a path and key; later calls get the first one's receipt.
func (s *Service) effect(e Entry) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := e.Path + " " + e.Key
	if receipt, ok := s.receipts[known]; ok {
		e.Event, e.Receipt = "replayed", receipt
		return receipt, s.ledger.append(e)
	}
	e.Event, e.Receipt = "effect", fmt.Sprintf("%s-%s-%d", s.name, e.Order, len(s.receipts)+1)
	if err := s.ledger.append(e); err != nil {
		return "", err
	}
	s.receipts[known] = e.Receipt
	return e.Receipt, nil
}

func (s *Service) putFault(w http.ResponseWriter, r *http.Request) {
	var f Fault
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16))
	decoder.DisallowUnknownFields()
	if err := errors.Join(decoder.Decode(&f), f.check()); err != nil {
		answer(w, http.StatusBadRequest, err.Error())
		return
	}
	s.faults.add(f)
}

func (s *Service) getLedger(w http.ResponseWriter, _ *http.Request) {
	entries, err := ReadLedger(s.ledgerPath)
	if err != nil {
		answer(w, http.StatusInternalServerError, err.Error())
		return
	}
	answer(w, http.StatusOK, entries)
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the caller may be gone
}

// reset closes the connection at once, without an answer.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}

// half promises more than it sends.
func half(w http.ResponseWriter) {
	conn, out, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprint(out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"id\":\"ha")
	_ = out.Flush()
}

// Serve runs a service at an address until ctx ends. Once it listens it prints
// "listening <address>", so that a parent process learns the port.
func Serve(ctx context.Context, name, addr, ledgerPath string) error {
	s, err := NewService(name, ledgerPath)
	if err != nil {
		return err
	}
	defer s.Close()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("service %s: %w", name, err)
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	fmt.Fprintf(os.Stdout, "listening %s\n", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("service %s: %w", name, err)
	}
	return nil
}
