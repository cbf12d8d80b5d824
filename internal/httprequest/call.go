package httprequest

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/perdure/perdure/jobs"
)

// caller makes the calls of one handler.
type caller struct {
	transport *http.Transport
	secrets   secrets
}

func newCaller(o Options) (*caller, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	allowed := policy{private: o.AllowPrivate, loopback: o.AllowLoopback, nets: o.AllowNets}
	return &caller{transport: newTransport(allowed), secrets: o.secrets()}, nil
}

// newTransport has no proxy: one would dial in our place and unchecked. It is
// used without an [http.Client], which would follow redirects and put the whole
// URL into errors.
func newTransport(allowed policy) *http.Transport {
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 15 * time.Second, ControlContext: allowed.control}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    30 * time.Second,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // so that bounds hold for what is sent
		MaxIdleConns:           128,
		MaxIdleConnsPerHost:    16,
		MaxConnsPerHost:        256,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

func (c *caller) handler() jobs.Handler {
	return Kind.Do(func(ctx context.Context, r Request) (Response, error) {
		return jobs.Step(ctx, "request", func(ctx context.Context) (Response, error) { return c.call(ctx, r) }, jobs.StepNeeds(r.services()...))
	})
}

func (c *caller) call(ctx context.Context, r Request) (Response, error) {
	p, err := r.plan()
	if err != nil {
		return Response{}, err
	}
	bounded, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	request, err := c.build(bounded, p)
	if err != nil {
		return Response{}, err
	}
	started := time.Now()
	reply, err := c.transport.RoundTrip(request)
	if err != nil {
		return Response{}, failure(ctx, bounded, p, err)
	}
	defer reply.Body.Close()
	if err := checkStatus(p, reply); err != nil {
		return Response{}, err
	}
	response, err := readResponse(reply)
	if err != nil {
		return Response{}, failure(ctx, bounded, p, err)
	}
	response.DurationMS = time.Since(started).Milliseconds()
	return response, nil
}

func (c *caller) build(ctx context.Context, p plan) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, p.method, p.url.String(), bytes.NewReader(p.body))
	if err != nil {
		return nil, jobs.Permanent(&callError{text: "url or method cannot be sent", err: err})
	}
	request.Header.Set("User-Agent", "perdure")
	if p.contentType != "" {
		request.Header.Set("Content-Type", p.contentType)
	}
	for name, value := range p.headers {
		if value, err = c.secrets.header(name, value); err != nil {
			return nil, err
		}
		request.Header.Set(name, value)
	}
	id := jobs.IdempotencyKey(ctx)
	request.Header.Set("Idempotency-Key", id)
	if parent := traceParent(ctx); parent != "" {
		request.Header.Set("Traceparent", parent)
	}
	return request, c.signInto(request.Header, p, id)
}

func (c *caller) signInto(header http.Header, p plan, id string) error {
	if p.secret == "" {
		return nil
	}
	key, err := c.secrets.key(p.secret)
	if err != nil {
		return err
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	header.Set("Webhook-Id", id)
	header.Set("Webhook-Timestamp", timestamp)
	header.Set("Webhook-Signature", sign(key, id, timestamp, p.body))
	return nil
}

var traceParentForm = regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// traceParent is the job's W3C trace context, or empty.
func traceParent(ctx context.Context) string {
	about, _ := jobs.Current(ctx)
	if parent := about.Headers["traceparent"]; traceParentForm.MatchString(parent) {
		return parent
	}
	return ""
}

// checkStatus returns an error that has a *[jobs.HTTPError] in it unless the
// status is one of success.
func checkStatus(p plan, reply *http.Response) error {
	status := reply.StatusCode
	if p.success.has(status) {
		return nil
	}
	err := &jobs.HTTPError{Status: status, RetryAfter: jobs.ParseRetryAfter(reply.Header), URL: p.origin()}
	switch {
	case status >= 300 && status < 400:
		return fmt.Errorf("redirects are not followed: %w", err)
	case status < 300:
		return fmt.Errorf("status is not one of success: %w", err)
	}
	return err
}
