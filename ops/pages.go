package ops

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"

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
}

// home is a page of links and queue numbers. It comes up without Redis too, and
// says so.
func (s *service) home(w http.ResponseWriter, r *http.Request) error {
	who := visitOf(r).who
	data := homeData{Version: s.version, Actor: who.name, Role: string(who.role), Asynq: s.asynq != nil, Metrics: s.metrics != nil}
	status := http.StatusOK
	var err error
	if data.Queues, err = s.queueInfos(r.Context()); err != nil {
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
