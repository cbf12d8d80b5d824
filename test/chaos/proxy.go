package chaos

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// proxy stands between one process and Redis.
type proxy struct {
	inner *toxiproxy.Proxy
	busy  sync.Mutex // held while a fault lasts
}

func startProxy(name, upstream string) (*proxy, error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := &proxy{inner: toxiproxy.NewProxy(server, name, "127.0.0.1:0", upstream)}
	if err := p.inner.Start(); err != nil {
		return nil, fmt.Errorf("start proxy of %s: %w", name, err)
	}
	return p, nil
}

func (p *proxy) url() string { return "redis://" + p.inner.Listen + "/0" }

// disturb spoils the connections for a while. It returns false when another fault
// does so already.
func (p *proxy) disturb(ctx context.Context, f fault) (bool, error) {
	if !p.busy.TryLock() {
		return false, nil
	}
	defer p.busy.Unlock()
	toxic := map[string]string{
		cutReset:  `"type": "reset_peer", "attributes": {"timeout": 0}`,
		cutSilent: `"type": "timeout", "attributes": {"timeout": 0}`,
		cutSlow:   `"type": "latency", "attributes": {"latency": 400, "jitter": 300}`,
	}[f.Kind]
	direction := []string{"upstream", "downstream"}[f.Pick%2]
	toxic = fmt.Sprintf(`{%s, "name": "fault", "stream": %q}`, toxic, direction)
	if _, err := p.inner.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		return false, fmt.Errorf("begin %s: %w", f.Kind, err)
	}
	sleep(ctx, f.Hold)
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := p.inner.Toxics.RemoveToxic(bounded, "fault"); err != nil {
		return false, fmt.Errorf("end %s: %w", f.Kind, err)
	}
	return true, nil
}

func (p *proxy) close() {
	if p != nil {
		p.inner.Stop()
	}
}
