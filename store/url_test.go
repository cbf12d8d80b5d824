package store

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/perdure/perdure/jobs"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url, addrs, user, password, master string
		db                                 int
		tls, cluster                       bool
	}{
		{url: "redis://localhost", addrs: "localhost:6379"},
		{url: "redis://:secret@host:1/3", addrs: "host:1", password: "secret", db: 3},
		{url: "redis://ada:s%40cret@host:1", addrs: "host:1", user: "ada", password: "s@cret"},
		{url: "redis://[::1]:7000/0", addrs: "[::1]:7000"},
		{url: "rediss://ada:secret@host:1/2", addrs: "host:1", user: "ada", password: "secret", db: 2, tls: true},
		{url: "redis-sentinel://a:1,b:2/main", addrs: "a:1,b:2", master: "main"},
		{url: "redis-sentinel://ada:s%2Fcret@a:1/main/4", addrs: "a:1", user: "ada", password: "s/cret", master: "main", db: 4},
		{url: "redis+cluster://a:1,b:2", addrs: "a:1,b:2", cluster: true},
		{url: "redis+cluster://ada:secret@a:1,b:2", addrs: "a:1,b:2", user: "ada", password: "secret", cluster: true},
	} {
		o, err := parseURL(c.url)
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		if strings.Join(o.Addrs, ",") != c.addrs || o.Username != c.user || o.Password != c.password || o.MasterName != c.master || o.DB != c.db ||
			(o.TLSConfig != nil) != c.tls || o.IsClusterMode != c.cluster {
			t.Errorf("%s: %+v", c.url, o)
		}
		if c.master != "" && (o.SentinelPassword != c.password || o.SentinelUsername != c.user) {
			t.Errorf("%s: sentinel as %q", c.url, o.SentinelUsername)
		}
	}
}

func TestParseURLRefuses(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"", "localhost:6379", "http://host", "redis:host", "://host",
		"redis://ada:hunter2@host:port/0", "redis://ada:hunter2@host/x", "redis://ada:hunter2", "redis://:hunter2", "redis://ada:hun/ter2@host",
		"redis://ada:hunter2%zz@host", "redis://ada:@hunter2@host/x", "redis://host:1?password=hunter2", "rediss://host:1/0?hunter2",
		"redis://host:1/0/1#hunter2", "ada:hunter2@host", "ada:hunter2", "mysql://ada:hunter2@host", "redis://host:1/0?a=x@hunter2/x?y@z",
		"redis-sentinel://ada:hunter2@a:1", "redis-sentinel://ada:hunter2@a:1/main/x", "redis-sentinel://ada:hunter2@a:1/main/-1",
		"redis-sentinel://ada:hunter2@a:1,,b:1/main", "redis-sentinel://hunter2%zz@a:1/main", "redis-sentinel://ada:hunter2",
		"redis+cluster://", "redis+cluster://ada:hunter2@a:1,", "redis+cluster://,a:1", "redis+cluster://ada:hunter2", "redis+cluster://host",
	} {
		_, err := parseURL(url)
		if !errors.Is(err, jobs.ErrInvalid) {
			t.Errorf("%q: %v", url, err)
			continue
		}
		if text := err.Error(); strings.Contains(text, "unter2") || strings.Contains(text, "ter2") || !strings.Contains(text, "REDIS_URL") {
			t.Errorf("%q: error says %q", url, text)
		}
	}
}

func TestRedactURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"redis://ada:hunter2@host:1/0":      "redis://...@host:1/0",
		"redis://host:1/0":                  "redis://host:1/0",
		"redis://[::1]:7000/0":              "redis://[::1]:7000/0",
		"redis-sentinel://a:1,b:2/main":     "redis-sentinel://a:1,b:2/main",
		"redis://host:1/0?password=hunter2": "redis://host:1/0?...",
		"redis://ada:hunter2":               "redis://ada:...",
		"redis+cluster://x:h@a@b:1,c:2":     "redis+cluster://...@b:1,c:2",
		"localhost:6379":                    "localhost:6379",
		"":                                  "",
	} {
		if got := redactURL(url); got != want {
			t.Errorf("%q: %q, want %q", url, got, want)
		}
	}
	if !slices.Contains([]string{"redis://host"}, redactURL("redis://host")) {
		t.Error("a URL without a port has changed")
	}
}
