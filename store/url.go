package store

import (
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/jobs"
)

const urlBound = "redis://, rediss://, redis-sentinel://host:port,host:port/master or redis+cluster://host:port,host:port"

// parseURL reads a REDIS_URL. Errors name the field and never show a password.
func parseURL(text string) (*redis.UniversalOptions, error) {
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		return nil, badURL(text)
	}
	switch scheme {
	case "redis", "rediss":
		return parseSingle(text)
	case "redis-sentinel", "redis+cluster":
		return parseMany(scheme, rest, text)
	}
	return nil, badURL(text)
}

func badURL(text string) error {
	return &jobs.InvalidError{Field: "REDIS_URL", Value: redactURL(text), Bound: urlBound}
}

func parseSingle(text string) (*redis.UniversalOptions, error) {
	o, err := redis.ParseURL(text)
	if err != nil {
		return nil, badURL(text)
	}
	return &redis.UniversalOptions{
		Addrs: []string{o.Addr}, DB: o.DB, Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig,
		DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout, PoolSize: o.PoolSize,
	}, nil
}

func parseMany(scheme, rest, text string) (*redis.UniversalOptions, error) {
	o := &redis.UniversalOptions{}
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		user, err := url.Parse("redis://" + rest[:at] + "@host")
		if err != nil {
			return nil, badURL(text)
		}
		o.Username = user.User.Username()
		o.Password, _ = user.User.Password()
		rest = rest[at+1:]
	}
	hosts, path, _ := strings.Cut(rest, "/")
	o.Addrs = strings.Split(hosts, ",")
	for _, addr := range o.Addrs {
		// A password without its host must not get into the error of a dial.
		if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" || !isPort(port) {
			return nil, badURL(text)
		}
	}
	if scheme == "redis+cluster" {
		o.IsClusterMode = true
		return o, nil
	}
	master, db, _ := strings.Cut(path, "/")
	if master == "" {
		return nil, badURL(text)
	}
	o.MasterName, o.SentinelUsername, o.SentinelPassword = master, o.Username, o.Password
	if db != "" {
		n, err := strconv.Atoi(db)
		if err != nil || n < 0 {
			return nil, badURL(text)
		}
		o.DB = n
	}
	return o, nil
}

// redactURL returns the URL without its credentials and query, also when it does
// not parse: whatever may be a password is left out.
func redactURL(text string) string {
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		scheme, rest = "", text
	} else {
		scheme += "://"
	}
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		rest = rest[at:]
		scheme += "..."
	}
	if i := strings.IndexAny(rest, "?#"); i >= 0 {
		rest = rest[:i] + rest[i:i+1] + "..."
	}
	hosts, path, hasPath := strings.Cut(rest, "/")
	list := strings.Split(hosts, ",")
	for i, host := range list {
		// What stands for a port but is none may be the password of a URL without a host.
		if colon := strings.LastIndex(host, ":"); colon >= 0 && !isPort(host[colon+1:]) {
			list[i] = host[:strings.Index(host, ":")+1] + "..."
		}
	}
	hosts = strings.Join(list, ",")
	if hasPath {
		hosts += "/" + path
	}
	return scheme + hosts
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0 || text == ""
}
