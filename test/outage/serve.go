package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/scheduler"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/worker"
)

const queue = "outage"

// What the processes are told.
const (
	redisSetting   = "OUTAGE_REDIS"
	serviceSetting = "OUTAGE_SERVICE"
	rateSetting    = "OUTAGE_RATE"
	lateSetting    = "OUTAGE_LATE"
)

func kind(rate float64) jobs.Kind[int, string] {
	return jobs.Define[int, string]("outage.pay", jobs.Queue(queue), jobs.Needs("payments"), jobs.Describe(jobs.Dependency{Name: "payments", Resume: rate}))
}

// serve is what a worker process or a scheduler process does.
func serve(ctx context.Context, role string, log *slog.Logger) error {
	s, err := store.Connect(ctx, os.Getenv(redisSetting))
	if err != nil {
		return err
	}
	defer s.Close()
	if role == "scheduler" {
		k, err := scheduler.New(s, scheduler.Options{Log: log})
		if err != nil {
			return err
		}
		return k.Run(ctx)
	}
	rate, err := strconv.ParseFloat(os.Getenv(rateSetting), 64)
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	handler := kind(rate).Do(func(ctx context.Context, n int) (string, error) {
		return jobs.Step(ctx, "charge", func(ctx context.Context) (string, error) {
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("%s/%d", os.Getenv(serviceSetting), n), nil)
			if err != nil {
				return "", err
			}
			response, err := client.Do(request)
			if err != nil {
				return "", err
			}
			defer response.Body.Close()
			return "charged", jobs.CheckResponse(response)
		})
	})
	var on worker.Store = s
	if by, err := time.ParseDuration(os.Getenv(lateSetting)); err == nil && by > 0 {
		on = &late{Store: s, by: by}
	}
	w, err := worker.New(on, worker.Options{Handlers: []jobs.Handler{handler}, Concurrency: 32, Log: log})
	if err != nil {
		return err
	}
	return w.Run(ctx)
}

// late is a store whose board comes late, and whose news do not come at all.
type late struct {
	*store.Store
	by time.Duration
}

func (l *late) Board(ctx context.Context) (map[string]jobs.Standing, error) {
	board, err := l.Store.Board(ctx)
	select {
	case <-ctx.Done():
	case <-time.After(l.by):
	}
	return board, err
}

func (l *late) Listen(ctx context.Context, begun func(), _ func(jobs.Standing)) error {
	begun()
	<-ctx.Done()
	return nil
}
