package orders

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// servicePaths is what each service can be asked to do.
var servicePaths = map[string][]string{
	"payments":  {"/charge", "/refund"},
	"warehouse": {"/reserve", "/label", "/release"},
	"mail":      {"/send", "/invoice"},
}

var receiptPrefix = map[string]string{
	"/charge": "pay_", "/refund": "ref_", "/reserve": "res_", "/label": "lbl_", "/release": "rel_", "/send": "msg_", "/invoice": "inv_",
}

const (
	maxBody = 1 << 20 // bytes of a request or a reply
	maxKey  = 255     // bytes of an Idempotency-Key or a User-Agent
)

// Service is one of the three services: an [http.Handler] that has an effect once
// for each Idempotency-Key and that fails when told to. What it did is in its
// ledger, and a service that is started again on the same ledger remembers it.
type Service struct {
	name   string
	mux    *http.ServeMux
	ledger *ledger
	faults faults

	mu    sync.Mutex
	done  map[string]Entry // the effect of each idempotency key
	ended chan struct{}
	end   func()
}

// NewService opens the service "payments", "warehouse" or "mail" with its ledger,
// a file that is made when there is none. Close it when it serves no more.
func NewService(name, ledgerPath string) (*Service, error) {
	paths, ok := servicePaths[name]
	if !ok {
		return nil, invalid("service", name, "payments, warehouse or mail")
	}
	ledger, entries, err := openLedger(ledgerPath)
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", name, err)
	}
	s := &Service{name: name, mux: http.NewServeMux(), ledger: ledger, done: map[string]Entry{}, ended: make(chan struct{})}
	s.end = sync.OnceFunc(func() { close(s.ended) })
	for _, e := range entries {
		if e.Event == eventEffect {
			s.done[e.Key] = e
		}
	}
	for _, path := range paths {
		s.mux.HandleFunc("POST "+path, s.call)
	}
	s.mux.HandleFunc("PUT /fault", s.putFault)
	s.mux.HandleFunc("DELETE /fault", s.deleteFaults)
	s.mux.HandleFunc("GET /ledger", s.getLedger)
	s.mux.HandleFunc("GET /healthz", s.getHealth)
	return s, nil
}

// ServeHTTP answers a request.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Close ends requests that a fault holds up, and closes the ledger.
func (s *Service) Close() error {
	s.end()
	return s.ledger.close()
}

// call is one request to do something for an order.
type call struct {
	path, key, caller string
	order             Order
}

func (s *Service) call(w http.ResponseWriter, r *http.Request) {
	c, err := readCall(w, r)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	if err := c.order.Validate(); err != nil {
		refuse(w, http.StatusUnprocessableEntity, err)
		return
	}
	if err := s.write(c, eventReceived); err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	f, faulty := s.faults.take(c)
	if !faulty {
		s.answer(w, c)
		return
	}
	if err := s.write(c, eventFault+f.Mode); err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	s.misbehave(w, r, c, f)
}

func readCall(w http.ResponseWriter, r *http.Request) (call, error) {
	c := call{path: r.URL.Path, key: r.Header.Get("Idempotency-Key"), caller: r.UserAgent()}
	if err := within("length of header Idempotency-Key", len(c.key), 1, maxKey); err != nil {
		return c, err
	}
	if err := within("length of header User-Agent", len(c.caller), 0, maxKey); err != nil {
		return c, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return c, fmt.Errorf("read order: %w", err)
	}
	if err := json.Unmarshal(body, &c.order); err != nil {
		return c, fmt.Errorf("decode order: %w", err)
	}
	return c, nil
}

// answer has the effect, unless the key had it before, and replies with the
// receipt.
func (s *Service) answer(w http.ResponseWriter, c call) {
	reply, ok := s.effect(w, c)
	if ok {
		w.Header().Set("Content-Type", "application/json")
		w.Write(reply)
	}
}

var errKeyReused = errors.New("this idempotency key was used for another request")

// effect returns the reply to a call. When there is none it has refused the
// request, and returns false.
func (s *Service) effect(w http.ResponseWriter, c call) ([]byte, bool) {
	err := s.perform(c)
	if errors.Is(err, errKeyReused) {
		refuse(w, http.StatusUnprocessableEntity, err)
		return nil, false
	}
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return nil, false
	}
	return fmt.Appendf(nil, "{\"id\":%q}\n", receiptID(c)), true
}

// perform is the effect: a line in the ledger, once for each key.
func (s *Service) perform(c call) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before, ok := s.done[c.key]; ok {
		if before.Path != c.path || before.Order != c.order.ID {
			return errKeyReused
		}
		return s.write(c, eventReplayed)
	}
	if err := s.write(c, eventEffect); err != nil {
		return err
	}
	s.done[c.key] = Entry{Path: c.path, Order: c.order.ID}
	return nil
}

// receiptID is the same for the same key, so that the ledger need not keep it.
func receiptID(c call) string {
	sum := sha256.Sum256([]byte(c.key))
	return receiptPrefix[c.path] + hex.EncodeToString(sum[:8])
}

func (s *Service) write(c call, event string) error {
	return s.ledger.append(Entry{At: time.Now().UTC(), Service: s.name, Path: c.path, Key: c.key, Order: c.order.ID, Caller: c.caller, Event: event})
}

// getHealth says that all is well, unless a fault keeps whole calls from being answered:
// then this one is not answered either.
func (s *Service) getHealth(w http.ResponseWriter, r *http.Request) {
	if f, down := s.faults.outage(); down {
		s.misbehave(w, r, call{}, f)
		return
	}
	io.WriteString(w, "ok\n")
}

func (s *Service) getLedger(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	if err := s.ledger.copyTo(w); err != nil {
		panic(http.ErrAbortHandler) // too late for another status
	}
}

// refuse replies with a status and the reason as JSON.
func refuse(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
}

// Serve runs a service on addr until ctx ends. Once it is ready it prints the
// line "listening <addr>", with the port it got when addr ends in ":0".
func Serve(ctx context.Context, name, addr, ledgerPath string) error {
	return serve(ctx, name, addr, ledgerPath, os.Stdout)
}

func serve(ctx context.Context, name, addr, ledgerPath string, out io.Writer) error {
	s, err := NewService(name, ledgerPath)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return errors.Join(fmt.Errorf("service %s: %w", name, err), s.Close())
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { stopped <- s.shutDown(server) })
	fmt.Fprintf(out, "listening %s\n", listener.Addr())
	err = server.Serve(listener)
	if stop() { // ended by itself
		return errors.Join(fmt.Errorf("service %s: %w", name, err), s.Close())
	}
	return errors.Join(<-stopped, s.Close())
}

// shutDown lets requests finish for a moment, but not those that a fault holds up.
func (s *Service) shutDown(server *http.Server) error {
	s.end()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if server.Shutdown(ctx) == nil {
		return nil
	}
	return server.Close()
}
