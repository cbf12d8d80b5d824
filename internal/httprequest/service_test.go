package httprequest

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/perdure/perdure/jobs"
)

func TestService(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a.", 120) + "example"
	for text, want := range map[string]string{
		"https://api.example.com/a?b=c":        "api.example.com",
		"https://API.Example.com:443/":         "api.example.com",
		"https://api.example.com./":            "api.example.com",
		"https://api.example.com:8443":         "api.example.com:8443",
		"http://api.example.com":               "api.example.com:80",
		"http://api.example.com:80":            "api.example.com:80",
		"http://api.example.com:00080":         "api.example.com:80",
		"http://api.example.com:443":           "api.example.com",
		"http://127.0.0.1:8080/x":              "127.0.0.1:8080",
		"https://[2001:DB8:0::1]/":             "ip6-2001-db8--1",
		"https://[2001:db8:0:0:0:0:0:1]:8443/": "ip6-2001-db8--1:8443",
		"https://[::ffff:192.0.2.1]/":          "192.0.2.1",
		"https://[::1]":                        "ip6---1",
		"https://_dmarc.example.com":           "host-_dmarc.example.com-17b2508d4a8a",
		"https://b\u00fccher.example":          "host-b-cher.example-c6b737c4a99b",
	} {
		u, err := checkURL(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := service(u); got != want {
			t.Errorf("%s is %q, want %q", text, got, want)
		}
	}
	one, other := (Request{URL: "https://x" + long}).services(), (Request{URL: "https://x" + long + "s"}).services()
	if len(one[0]) > jobs.MaxDependencyLength || slices.Equal(one, other) {
		t.Errorf("long hosts are %q and %q", one, other)
	}
	if got := (Request{URL: "ftp://x"}).services(); got != nil {
		t.Errorf("a request that cannot be made needs %q", got)
	}
}

// Whatever is a URL to call has a name as a dependency.
func TestServiceFits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		host := rapid.StringMatching(`[^/?#@:\[\]\\%\s[:cntrl:]]{1,200}`).Draw(t, "host")
		u, err := checkURL((&url.URL{Scheme: "https", Host: host}).String())
		if err != nil {
			t.Skip(err)
		}
		if err := jobs.CheckDependency(service(u)); err != nil {
			t.Errorf("%q: %v", host, err)
		}
	})
}

func TestRequestNeedsItsHost(t *testing.T) {
	server, _ := record(t)
	a := newAttempt()
	if _, err := run(t, t.Context(), newTestCaller(t, Options{AllowLoopback: true}), a, Request{URL: server.URL + "/secret?token=x"}); err != nil {
		t.Fatal(err)
	}
	if want := []string{strings.TrimPrefix(server.URL, "http://")}; !slices.Equal(a.called, want) {
		t.Errorf("needs %q, want %q", a.called, want)
	}
	bad := newAttempt()
	if _, err := run(t, t.Context(), newTestCaller(t, Options{}), bad, Request{URL: "nonsense"}); err == nil || len(bad.called) > 0 {
		t.Errorf("needs %q, %v", bad.called, err)
	}
}
