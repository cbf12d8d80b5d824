package httprequest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/perdure/perdure/jobs"
)

// callError is a failed call under a text that is safe to store: the errors of
// net/http can quote the URL and the reply. What it wraps is for classification.
type callError struct {
	text string
	err  error
}

func (e *callError) Error() string { return e.text }

func (e *callError) Unwrap() error { return e.err }

// failure says why a call got no reply. ctx is the job's own context, bounded
// the one with the request's timeout.
func failure(ctx, bounded context.Context, p plan, err error) error {
	text := "call to " + p.origin() + ": "
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s%w", text, context.Cause(ctx))
	case bounded.Err() != nil:
		return fmt.Errorf("%sno complete reply within %v: %w", text, p.timeout, context.DeadlineExceeded)
	}
	return &callError{text: text + safeText(err), err: err}
}

// safeText is the text of errors that are known to quote no data, and a general
// one for the rest.
func safeText(err error) string {
	var (
		refused     *refusedError
		dns         *net.DNSError
		network     *net.OpError
		certificate *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &refused):
		return refused.Error()
	case errors.As(err, &dns):
		return dns.Error()
	case errors.As(err, &certificate):
		return certificate.Error()
	case errors.As(err, &network):
		return network.Error()
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), jobs.Classify(err).Class == jobs.ClassTimeout:
		return jobs.Classify(err).Rule
	}
	return "the connection broke, or the reply is not valid HTTP within its bounds"
}
