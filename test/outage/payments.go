package main

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// payments is the service. Away, it takes each call and cuts it off, so that it can count
// the calls that are made in vain.
type payments struct {
	listener net.Listener
	server   *http.Server

	mu     sync.Mutex
	away   bool
	vain   []time.Time
	served []time.Time
	times  map[string]int // by job
}

func newPayments() (*payments, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &payments{listener: listener, away: true, times: map[string]int{}}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: 5 * time.Second}
	go p.server.Serve(listener)
	return p, nil
}

func (p *payments) url() string { return fmt.Sprintf("http://%s", p.listener.Addr()) }

func (p *payments) set(away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = away
}

// ServeHTTP implements http.Handler.
func (p *payments) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away {
		p.vain = append(p.vain, time.Now())
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	p.served = append(p.served, time.Now())
	p.times[strings.TrimPrefix(r.URL.Path, "/")]++
}

func (p *payments) count() (vain, served, jobs int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.vain), len(p.served), len(p.times)
}

// most returns the most of the times that fall into one second.
func most(times []time.Time) (n int) {
	first := 0
	for i := range times {
		for times[i].Sub(times[first]) >= time.Second {
			first++
		}
		n = max(n, i-first+1)
	}
	return n
}
