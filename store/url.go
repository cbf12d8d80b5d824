package store

import (
	"fmt"
	"net/url"
	"slices"
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
	if slices.Contains(o.Addrs, "") {
		return nil, badURL(text)
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

// redactURL returns the URL without its password, also when it does not parse.
func redactURL(text string) string {
	at := strings.LastIndex(text, "@")
	if at < 0 {
		return text
	}
	scheme, _, found := strings.Cut(text, "://")
	if !found {
		return "..." + text[at:]
	}
	return fmt.Sprintf("%s://...%s", scheme, text[at:])
}
