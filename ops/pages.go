package ops

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"html/template"
	"net/http"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/store"
)

//go:embed pages
var pageFiles embed.FS

var homePage = template.Must(template.ParseFS(pageFiles, "pages/home.html"))

const pageCSP = "default-src 'none'; style-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

type homeData struct {
	Version        string
	Actor, Role    string
	Asynq, Metrics bool
	Problem        string
	Queues         []store.QueueInfo
	Services       []delivery.DependencyInfo // that jobs need, the worst first
	More           int                       // of them, not shown
	Decided        []store.Event             // about them, lately
}

const (
	homeServices = 50
	homeDecided  = 5
)

// home is a page of links, queue numbers and how dependencies stand. It comes up without Redis too, and
// says so.
func (s *service) home(w http.ResponseWriter, r *http.Request) error {
	who := visitOf(r).who
	data := homeData{Version: s.version, Actor: who.name, Role: string(who.role), Asynq: s.asynq != nil, Metrics: s.metrics != nil}
	status := http.StatusOK
	var err error
	if err = s.lookAround(r.Context(), &data); err != nil {
		p := problemOf(err)
		data.Problem, status = p.Title, p.Status
		visitOf(r).err = err
		w.Header().Set("Retry-After", "1")
	}
	var page bytes.Buffer
	if err := homePage.Execute(&page, data); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	w.Header().Set("Content-Security-Policy", pageCSP)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = page.WriteTo(w)
	return nil
}

// lookAround reads what the page shows.
func (s *service) lookAround(ctx context.Context, data *homeData) (err error) {
	if data.Queues, err = s.queueInfos(ctx); err != nil {
		return err
	}
	services, err := s.store.DependenciesInUse(ctx)
	if err != nil {
		return err
	}
	delivery.WorstFirst(services)
	data.Services, data.More = services[:min(len(services), homeServices)], max(len(services)-homeServices, 0)
	data.Decided, err = s.store.DependencyEvents(ctx, homeDecided)
	return err
}

func (s *service) style(w http.ResponseWriter, r *http.Request) error {
	css, err := pageFiles.ReadFile("pages/style.css")
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "private, max-age=3600")
	_, _ = w.Write(css)
	return nil
}

func (s *service) showMetrics(w http.ResponseWriter, r *http.Request) error {
	s.metrics.ServeHTTP(w, r)
	return nil
}
