package httprequest

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"net/url"
	"strings"

	"github.com/perdure/perdure/jobs"
)

// services are what the request needs: the one that it calls. A request that cannot be
// made needs none.
func (r Request) services() []string {
	u, err := checkURL(r.URL)
	if err != nil {
		return nil // the step says what is wrong with it
	}
	return []string{service(u)}
}

// service is the name that a URL's host and port have as a dependency: "api.example.com",
// or with a port that is not 443 "api.example.com:8080". An IPv6 address is written
// "ip6-2001-db8--1".
func service(u *url.URL) string {
	name := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if addr, err := netip.ParseAddr(name); err == nil {
		if addr = addr.Unmap(); addr.Is6() {
			name = "ip6-" + strings.ReplaceAll(addr.String(), ":", "-")
		} else {
			name = addr.String()
		}
	}
	port := u.Port()
	if port == "" && u.Scheme == "http" {
		port = "80"
	}
	if port = strings.TrimLeft(port, "0"); port != "" && port != "443" {
		name += ":" + port
	}
	if jobs.CheckDependency(name) == nil {
		return name
	}
	return fitted(name)
}

// fitted makes a name of a dependency of a host that is none, because it is too long or of
// other characters: its beginning, and a digest that tells it from others.
func fitted(host string) string {
	digest := sha256.Sum256([]byte(host))
	kept := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("_.:-", r) {
			return r
		}
		return '-'
	}, host)
	return "host-" + kept[:min(len(kept), 100)] + "-" + hex.EncodeToString(digest[:6])
}
