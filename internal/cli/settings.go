package cli

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kelseyhightower/envconfig"
	"github.com/spf13/pflag"

	"github.com/perdure/perdure/audit"
	"github.com/perdure/perdure/internal/doctor"
	"github.com/perdure/perdure/jobs"
)

// settings are what the environment and the flags say. Each has a PERDURE_ name,
// and a flag of the same name in lower case with dashes.
type settings struct {
	RedisURL         string        `envconfig:"REDIS_URL"`
	Listen           string        `default:"127.0.0.1:8080"`
	HealthListen     string        `split_words:"true"`
	Concurrency      int           `default:"16"`
	Queues           priorities    ``
	StrictPriority   bool          `split_words:"true"`
	ShutdownTimeout  time.Duration `split_words:"true" default:"25s"`
	Beat             time.Duration `default:"400ms"`
	Silence          time.Duration `default:"1600ms"`
	MaxStuck         int           `split_words:"true"`
	Durability       string        `default:"relaxed"`
	AllowUnsafeRedis bool          `split_words:"true"`
	Hosts            []string      ``
	AccessTokens     string        `split_words:"true"`
	AuditKey         string        `split_words:"true"` // a secret, so there is no flag for it
	AuditCheckKeys   string        `split_words:"true"` // likewise
	AuditEvery       time.Duration `split_words:"true" default:"1m"`
	Actor            string        ``
	Output           string        `default:"table"`
	LogLevel         string        `split_words:"true" default:"info"`
	LogFormat        string        `split_words:"true" default:"text"`
	DataDir          string        `split_words:"true" default:".perdure"`
	Config           string        ``
	HTTPAllowNets    []string      `envconfig:"HTTP_ALLOW_NETS"`
	HTTPAllowPrivate bool          `envconfig:"HTTP_ALLOW_PRIVATE"`
	HTTPSecretNames  []string      `envconfig:"HTTP_SECRET_NAMES"`
}

// priorities is "orders=3,default": queues with their priority, 1 where none is
// given.
type priorities map[string]int

// Decode implements envconfig.Decoder.
func (p *priorities) Decode(text string) error { return p.Set(text) }

// Set implements pflag.Value.
func (p *priorities) Set(text string) error {
	parsed := priorities{}
	for _, part := range strings.Split(text, ",") {
		name, number, given := strings.Cut(strings.TrimSpace(part), "=")
		priority := 1
		if given {
			n, err := strconv.Atoi(number)
			if err != nil {
				return &jobs.InvalidError{Field: "queues", Value: part, Bound: "name=priority, the priority from 1 to 100"}
			}
			priority = n
		}
		if err := jobs.CheckQueue(name); err != nil {
			return err
		}
		parsed[name] = priority
	}
	*p = parsed
	return nil
}

// String implements pflag.Value.
func (p *priorities) String() string {
	var parts []string
	for name, priority := range *p {
		parts = append(parts, fmt.Sprintf("%s=%d", name, priority))
	}
	return strings.Join(parts, ",")
}

// Type implements pflag.Value.
func (p *priorities) Type() string { return "queue=priority,..." }

// typeBounds say what a value must be, by the name of its type, Go's or pflag's.
var typeBounds = map[string]string{
	"int": "a whole number", "float64": "a number", "bool": "true or false",
	"time.Duration": "a duration such as 1500ms or 10s", "duration": "a duration such as 1500ms or 10s",
}

// loadSettings reads the environment. Errors name the variable, its value and
// what it must be.
func loadSettings() (settings, error) {
	var s settings
	err := envconfig.Process("perdure", &s)
	var parse *envconfig.ParseError
	if errors.As(err, &parse) {
		bound := typeBounds[parse.TypeName]
		var invalid *jobs.InvalidError
		if errors.As(parse.Err, &invalid) {
			bound = invalid.Bound
		}
		return s, &jobs.InvalidError{Field: parse.KeyName, Value: parse.Value, Bound: bound}
	}
	return s, err
}

// check returns an error for each setting that is out of bounds.
func (s *settings) check() error {
	var errs []error
	oneOf := func(field, value string, allowed ...string) {
		for _, a := range allowed {
			if a == value {
				return
			}
		}
		errs = append(errs, &jobs.InvalidError{Field: field, Value: value, Bound: "one of " + strings.Join(allowed, ", ")})
	}
	lasting := func(field string, d, least, most time.Duration) {
		if d < least || d > most {
			errs = append(errs, &jobs.InvalidError{Field: field, Value: d, Bound: fmt.Sprintf("from %v to %v", least, most)})
		}
	}
	oneOf("PERDURE_OUTPUT", s.Output, "table", "json")
	oneOf("PERDURE_LOG_LEVEL", s.LogLevel, "debug", "info", "warn", "error")
	oneOf("PERDURE_DURABILITY", s.Durability, doctor.Modes()...)
	oneOf("PERDURE_LOG_FORMAT", s.LogFormat, "text", "json")
	lasting("PERDURE_SHUTDOWN_TIMEOUT", s.ShutdownTimeout, time.Millisecond, time.Hour)
	lasting("PERDURE_BEAT", s.Beat, 50*time.Millisecond, 10*time.Second)
	lasting("PERDURE_SILENCE", s.Silence, max(500*time.Millisecond, 3*s.Beat), 10*time.Minute)
	if s.Concurrency < 1 || s.Concurrency > 10_000 {
		errs = append(errs, &jobs.InvalidError{Field: "PERDURE_CONCURRENCY", Value: s.Concurrency, Bound: "from 1 to 10000"})
	}
	if s.MaxStuck < 0 || s.MaxStuck > s.Concurrency {
		errs = append(errs, &jobs.InvalidError{Field: "PERDURE_MAX_STUCK", Value: s.MaxStuck, Bound: fmt.Sprintf("from 1 to PERDURE_CONCURRENCY (%d), or 0 for half of it", s.Concurrency)})
	}
	for queue, priority := range s.Queues {
		if priority < 1 || priority > 100 {
			errs = append(errs, &jobs.InvalidError{Field: "PERDURE_QUEUES", Value: fmt.Sprintf("%s=%d", queue, priority), Bound: "a priority from 1 to 100"})
		}
	}
	lasting("PERDURE_AUDIT_EVERY", s.AuditEvery, time.Second, 24*time.Hour)
	_, err := s.networks()
	_, keys := s.auditKeys()
	return errors.Join(append(errs, err, keys)...)
}

func (s *settings) networks() ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, text := range s.HTTPAllowNets {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, &jobs.InvalidError{Field: "PERDURE_HTTP_ALLOW_NETS", Value: text, Bound: "networks such as 10.0.0.0/8"}
		}
		networks = append(networks, network)
	}
	return networks, nil
}

func (s *settings) auditKeys() (audit.Keys, error) {
	return audit.ParseKeys(s.AuditKey, s.AuditCheckKeys)
}

// actor is who decides, when the settings do not say: user@host.
func (s *settings) actor() string {
	if s.Actor != "" {
		return s.Actor
	}
	name, host := "unknown", "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}

func (s *settings) commonFlags(f *pflag.FlagSet) {
	f.StringVar(&s.RedisURL, "redis-url", s.RedisURL, "Redis: redis://, rediss://, redis-sentinel:// or redis+cluster:// (also REDIS_URL); default: a running perdure dev, else redis://127.0.0.1:6379")
	f.Lookup("redis-url").DefValue = "" // what the environment says may have a password: help does not show it
	f.StringVarP(&s.Output, "output", "o", s.Output, "table or json")
	f.StringVar(&s.LogLevel, "log-level", s.LogLevel, "debug, info, warn or error")
	f.StringVar(&s.LogFormat, "log-format", s.LogFormat, "text or json")
	f.StringVar(&s.DataDir, "data-dir", s.DataDir, "where perdure dev keeps its data and is found")
	f.StringVar(&s.Actor, "actor", s.Actor, "who decides, for the record (default user@host)")
}

func (s *settings) workerFlags(f *pflag.FlagSet) {
	f.IntVar(&s.Concurrency, "concurrency", s.Concurrency, "attempts at a time, 1 to 10000")
	f.Var(&s.Queues, "queues", "queues and their priority, for example orders=3,default=1 (default: the queues of the kinds)")
	f.BoolVar(&s.StrictPriority, "strict-priority", s.StrictPriority, "serve a queue only while those of higher priority are empty")
	f.DurationVar(&s.ShutdownTimeout, "shutdown-timeout", s.ShutdownTimeout, "how long attempts may finish on stop")
	f.DurationVar(&s.Beat, "beat", s.Beat, "between signs of life, 50ms to 10s")
	f.IntVar(&s.MaxStuck, "max-stuck", s.MaxStuck, "when so many handlers ignore the end of their context, drain and exit with an error (default half of the concurrency)")
	f.StringSliceVar(&s.HTTPAllowNets, "http-allow-nets", s.HTTPAllowNets, "networks that http.request may also reach")
	f.BoolVar(&s.HTTPAllowPrivate, "http-allow-private", s.HTTPAllowPrivate, "let http.request reach private addresses")
	f.StringSliceVar(&s.HTTPSecretNames, "http-secret-names", s.HTTPSecretNames, "environment names that http.request may reference")
}

func (s *settings) keeperFlags(f *pflag.FlagSet) {
	f.DurationVar(&s.Silence, "silence", s.Silence, "how long a worker may be silent before its jobs are taken over; at least 3 beats")
	f.DurationVar(&s.AuditEvery, "audit-every", s.AuditEvery, "between two seals of recorded decisions, 1s to 24h; PERDURE_AUDIT_KEY has the key")
	f.StringVar(&s.Config, "config", s.Config, "file of schedules (default: perdure.yaml in this directory, when there is one)")
	f.StringVar(&s.HealthListen, "health-listen", s.HealthListen, "address of /livez, /readyz and /metrics (default: none)")
}

func (s *settings) durabilityFlags(f *pflag.FlagSet) {
	f.StringVar(&s.Durability, "durability", s.Durability, "what Redis must keep: "+strings.Join(doctor.Modes(), ", "))
	f.BoolVar(&s.AllowUnsafeRedis, "allow-unsafe-redis", s.AllowUnsafeRedis, "start although Redis does not keep what the durability mode says")
}

func (s *settings) opsFlags(f *pflag.FlagSet) {
	f.StringVar(&s.Listen, "listen", s.Listen, "address of the API and the pages")
	f.StringSliceVar(&s.Hosts, "hosts", s.Hosts, "host names that requests may use besides loopback")
}

// secretSettings have no flags: the arguments of a process can be seen by others.
var secretSettings = []string{"PERDURE_ACCESS_TOKENS", "PERDURE_AUDIT_KEY", "PERDURE_AUDIT_CHECK_KEYS"}

// kubernetes matches the variables that Kubernetes sets for a Service whose name
// begins with perdure.
var kubernetes = regexp.MustCompile(`^PERDURE_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)?)$`)

// unknownVariables returns an error that names PERDURE_ variables which mean
// nothing: most likely misspelt.
func unknownVariables(environ []string, known map[string]bool) error {
	var errs []error
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "PERDURE_") && !known[name] && !kubernetes.MatchString(name) {
			errs = append(errs, fmt.Errorf("unknown setting %s: %s", name, meant(name, known)))
		}
	}
	return errors.Join(errs...)
}

// meant says which setting somebody meant, or which there are.
func meant(name string, known map[string]bool) string {
	best, near := min(4, 1+len(strings.TrimPrefix(name, "PERDURE_"))/3), ""
	for _, one := range slices.Sorted(maps.Keys(known)) {
		if n := edits(name, one); n < best {
			best, near = n, one
		}
	}
	if near != "" {
		return "did you mean " + near + "?"
	}
	return "must be a flag of the command (PERDURE_DATA_DIR is --data-dir) or one of " + strings.Join(settingNames(), ", ")
}

// edits is how many letters must be changed, put in or left out to make b of a.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// settingNames are the variables that are not about one command alone.
func settingNames() []string {
	names := slices.Clone(secretSettings)
	var s settings
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	for _, add := range []func(*pflag.FlagSet){s.commonFlags, s.workerFlags, s.keeperFlags, s.durabilityFlags, s.opsFlags} {
		add(flags)
	}
	flags.VisitAll(func(f *pflag.Flag) { names = append(names, variable(f.Name)) })
	slices.Sort(names)
	return names
}
