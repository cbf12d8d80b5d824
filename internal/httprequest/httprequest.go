// Package httprequest is the built-in kind http.request: a job that makes one
// HTTP call, so that work written in any language can be run by perdure. The
// call is one recorded step: once it has succeeded and is recorded it is never
// made again.
//
// Jobs come from whoever may enqueue, so the call is confined: addresses are
// checked as they are dialled, redirects are not followed, no proxy is taken
// from the environment, and only listed environment names can be referenced.
package httprequest

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/perdure/perdure/jobs"
)

// Kind is http.request, for producers.
var Kind = jobs.Define[Request, Response]("http.request", jobs.Timeout(maxTimeout+time.Minute))

// The settings that messages name.
const (
	settingNets    = "PERDURE_HTTP_ALLOW_NETS"
	settingPrivate = "PERDURE_HTTP_ALLOW_PRIVATE"
	settingSecrets = "PERDURE_HTTP_SECRET_NAMES"
)

// Options says what calls may reach and use. The zero value allows public
// addresses only, and no references.
type Options struct {
	AllowPrivate  bool                             // 10/8, 172.16/12, 192.168/16 and fc00::/7, except cloud metadata
	AllowLoopback bool                             // 127/8 and ::1
	AllowNets     []netip.Prefix                   // further networks, whatever they are
	SecretNames   []string                         // the environment names that jobs may reference
	Secrets       func(name string) (string, bool) // default os.LookupEnv
}

// New returns the handler of [Kind]. It may be given to several workers of one
// process; they share its connections.
func New(o Options) (jobs.Handler, error) {
	c, err := newCaller(o)
	if err != nil {
		return jobs.Handler{}, fmt.Errorf("options of http.request: %w", err)
	}
	return c.handler(), nil
}

func (o Options) check() error {
	var errs []error
	for _, network := range o.AllowNets {
		if !network.IsValid() || network != network.Masked() || network.Addr().Is4In6() {
			errs = append(errs, &jobs.InvalidError{Field: settingNets, Value: network.String(), Bound: "a network such as 10.0.0.0/8 or fd00::/8, its host bits zero"})
		}
	}
	for _, name := range o.SecretNames {
		if !isEnvName(name) {
			errs = append(errs, &jobs.InvalidError{Field: settingSecrets, Value: name, Bound: "1 to 128 of A-Z a-z 0-9 _, not beginning with a digit"})
		}
	}
	return errors.Join(errs...)
}

func (o Options) secrets() secrets {
	s := secrets{allowed: map[string]bool{}, lookup: o.Secrets}
	if s.lookup == nil {
		s.lookup = os.LookupEnv
	}
	for _, name := range o.SecretNames {
		s.allowed[name] = true
	}
	return s
}
