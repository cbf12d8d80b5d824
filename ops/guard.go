package ops

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

const (
	maxQuery   = 8 << 10          // bytes of a query string
	maxHandler = 20 * time.Second // to answer, when no wait was asked for
)

// visit is what is known of one request, for its handlers and the log.
type visit struct {
	who   identity
	route string
	err   error
}

type visitKey struct{}

func visitOf(r *http.Request) *visit {
	if v, ok := r.Context().Value(visitKey{}).(*visit); ok {
		return v
	}
	return &visit{}
}

// answering notes what was answered.
type answering struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *answering) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *answering) Write(data []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(data)
	w.bytes += int64(n)
	return n, err
}

func (w *answering) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// protect builds the handler: what is not in routes is not reachable, and each
// request passes every check before it reaches its route.
func (s *service) protect(routes []route) http.Handler {
	mux := http.NewServeMux()
	for _, rt := range routes {
		mux.Handle(rt.pattern, s.guarded(rt))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := &visit{}
		r = r.WithContext(context.WithValue(r.Context(), visitKey{}, v))
		aw := &answering{ResponseWriter: w}
		began := time.Now()
		defer func() { s.logVisit(r, v, aw, time.Since(began)) }() // also when the next one panics again
		defer func() { s.recovered(aw, r, recover()) }()
		setHeaders(w.Header())
		if err := s.admit(r); err != nil {
			s.refuse(aw, r, err)
			return
		}
		s.dispatch(mux, aw, r)
	})
}

// admit checks what holds for every path, known or not.
func (s *service) admit(r *http.Request) error {
	if err := s.checkHost(r); err != nil {
		return err
	}
	if err := checkOrigin(r); err != nil {
		return err
	}
	who, ok := s.identify(r)
	if !ok {
		return errUnauthenticated
	}
	visitOf(r).who = who
	if len(r.URL.RawQuery) > maxQuery {
		return &jobs.InvalidError{Field: "query", Value: fmt.Sprintf("of %d bytes", len(r.URL.RawQuery)), Bound: fmt.Sprintf("at most %d bytes", maxQuery)}
	}
	return nil
}

// checkHost refuses names that a web page could have made to point here. With
// tokens it need not: such a page has none.
func (s *service) checkHost(r *http.Request) error {
	host := hostOf(r.Host)
	if len(s.tokens) > 0 || isLoopback(host) || s.hosts[foldHost(host)] {
		return nil
	}
	return errForeignHost
}

var crossOrigin = http.NewCrossOriginProtection()

// checkOrigin refuses what changes something and comes from a page of another
// origin, also one that shares this machine under another port.
func checkOrigin(r *http.Request) error {
	if crossOrigin.Check(r) != nil {
		return errForeignOrigin
	}
	if !changes(r.Method) {
		return nil
	}
	for _, origin := range r.Header.Values("Origin") {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || !strings.EqualFold(u.Host, r.Host) {
			return errForeignOrigin
		}
	}
	return nil
}

// changes reports whether a request of a method may change something.
func changes(method string) bool {
	return method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions
}

// dispatch serves a route, or the problem that there is none.
func (s *service) dispatch(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	h, pattern := mux.Handler(r)
	if pattern != "" {
		mux.ServeHTTP(w, r)
		return
	}
	if refusal := capture(h, r); refusal.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", refusal.header.Get("Allow"))
		s.refuse(w, r, errMethod)
		return
	}
	s.refuse(w, r, errNoRoute)
}

// captured is an answer that nobody gets.
type captured struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func capture(h http.Handler, r *http.Request) *captured {
	c := &captured{header: http.Header{}}
	h.ServeHTTP(c, r)
	return c
}

func (c *captured) Header() http.Header { return c.header }

func (c *captured) WriteHeader(status int) { c.status = cmp.Or(c.status, status) }

func (c *captured) Write(data []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	return c.body.Write(data)
}

// guarded serves one route to those who may use it.
func (s *service) guarded(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := visitOf(r)
		v.route = rt.pattern
		if !v.who.role.may(rt.needs) {
			s.refuse(w, r, errForbidden)
			return
		}
		if changes(r.Method) {
			if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
				s.refuse(w, r, errMediaType)
				return
			}
			if _, err := params(r); err != nil {
				s.refuse(w, r, err)
				return
			}
		}
		limit := maxHandler
		if r.URL.Query().Has("wait") {
			limit += maxWait
		}
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		if err := rt.serve(s, w, r.WithContext(ctx)); err != nil {
			s.refuse(w, r, err)
		}
	})
}

// setHeaders sets what every answer carries; pages loosen it where they must.
func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// recovered turns a panic into a problem. The panic's own text may hold a payload,
// so only the text of the runtime's is logged.
func (s *service) recovered(w *answering, r *http.Request, caught any) {
	if caught == nil {
		return
	}
	if caught == http.ErrAbortHandler {
		panic(caught)
	}
	text := fmt.Sprintf("%T", caught)
	var fault runtime.Error
	if err, ok := caught.(error); ok && errors.As(err, &fault) {
		text = fault.Error()
	}
	s.log.Error("panic while answering", "route", visitOf(r).route, "panic", text, "stack", string(debug.Stack()))
	if w.status != 0 {
		panic(http.ErrAbortHandler) // the answer is cut short; the caller must not take it for whole
	}
	s.refuse(w, r, errPanic)
}

var errPanic = errors.New("panic while answering")

// logVisit writes the access log: who did what to which job, never what was sent.
// A path that no route matched is left out, because it may hold anything.
func (s *service) logVisit(r *http.Request, v *visit, w *answering, took time.Duration) {
	level := slog.LevelInfo
	switch {
	case w.status >= 500:
		level = slog.LevelError
	case w.status < 400 && !changes(r.Method):
		level = slog.LevelDebug
	}
	attrs := []slog.Attr{
		slog.String("method", shortText(r.Method, 20)), slog.String("route", v.route), slog.Int("status", w.status),
		slog.Int64("bytes", w.bytes), slog.Duration("took", took), slog.String("actor", v.who.name), slog.String("remote", r.RemoteAddr),
	}
	if queue := r.PathValue("queue"); jobs.CheckQueue(queue) == nil {
		attrs = append(attrs, slog.String("queue", queue))
	}
	if key := r.PathValue("key"); key != "" {
		attrs = append(attrs, slog.String("key", shortText(key, jobs.MaxKeyLength)))
	}
	if name := r.PathValue("dependency"); jobs.CheckDependency(name) == nil {
		attrs = append(attrs, slog.String("dependency", name))
	}
	if name := limitName(r); delivery.CheckLimitName(name) == nil && delivery.IsLimit(name) {
		attrs = append(attrs, slog.String("limit", name))
	}
	if v.err != nil {
		attrs = append(attrs, slog.String("problem", answerTo(v.err).name))
		if !answerTo(v.err).tell {
			attrs = append(attrs, slog.String("error", shortText(v.err.Error(), 1000)))
		}
	}
	s.log.LogAttrs(r.Context(), level, "request", attrs...)
}
