package ops

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const maxPing = 2 * time.Second

// Health serves what watches a process, at PERDURE_HEALTH_LISTEN: /livez says that
// it runs and never asks Redis, so that no outage of Redis restarts anything;
// /readyz says whether Redis answers and ready agrees; /metrics shows what
// gatherer has. ready and gatherer may be nil.
func Health(ping func(context.Context) error, ready func() error, gatherer prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), maxPing)
		defer cancel()
		if ping != nil && ping(ctx) != nil {
			say(w, http.StatusServiceUnavailable, "not ready: Redis cannot be reached")
			return
		}
		if ready != nil {
			if err := ready(); err != nil {
				say(w, http.StatusServiceUnavailable, "not ready: "+shortText(err.Error(), 500))
				return
			}
		}
		say(w, http.StatusOK, "ok")
	})
	if gatherer != nil {
		mux.Handle("GET /metrics", metricsOf(gatherer))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		mux.ServeHTTP(w, r)
	})
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}

// metricsOf serves a gatherer. One metric that cannot be had does not hide the
// others.
func metricsOf(gatherer prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 8, Timeout: 10 * time.Second,
	})
}
