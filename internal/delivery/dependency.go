package delivery

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/perdure/perdure/jobs"
)

// KindLimit is the name under which the limit of a kind is kept.
func KindLimit(kind string) string { return "kind/" + kind }

// TenantLimit is the name under which the limit of a tenant is kept.
func TenantLimit(tenant string) string { return "tenant/" + tenant }

// CheckLimitName returns an error matching [jobs.ErrInvalid] unless name is that of a
// dependency, or "kind/" or "tenant/" and a name.
func CheckLimitName(name string) error {
	if kind, ok := strings.CutPrefix(name, "kind/"); ok {
		return jobs.CheckKind(kind)
	}
	if tenant, ok := strings.CutPrefix(name, "tenant/"); ok {
		return jobs.CheckTenant(tenant)
	}
	return jobs.CheckDependency(name)
}

// IsLimit reports whether a name is that of a limit of a kind or a tenant, which has no
// breaker.
func IsLimit(name string) bool { return strings.Contains(name, "/") }

// Vote is what a worker has seen of a dependency: calls that have ended, and those of
// them that failed, within a short and a long while.
type Vote struct {
	Name       string
	Turn       int64 // that they were made in
	Calls      int   // within [ShortWhile]
	Failed     int
	LongCalls  int // within [LongWhile]
	LongFailed int
	Reason     string // of the last failure
}

// The whiles that votes are about. The longer one counts where too few calls are made
// within the short one.
const (
	ShortWhile = 2 * time.Second
	LongWhile  = 30 * time.Second
	VoteStands = 12 * time.Second // a worker that is silent for longer has no vote
)

// Pass lets one execution of a job begin although its dependency recovers, or is at
// its limit: whoever sent the job back has counted it.
type Pass struct {
	Name   string
	Turn   int64
	Issued time.Time // by Redis' clock
	ID     string    // of the place that is kept for it under a limit of concurrency, or of the probe
	Probe  bool      // this execution finds out whether the service is back
	Since  int64     // when it was first parked there, ms: its place in the line
}

// PassStands is how long after its issue a pass is worth something: jobs that could
// not begin by then would begin all at once.
const PassStands = 300 * time.Millisecond

// String is how a pass is stored; Since is put in front by the script that issues it.
func (p Pass) String() string {
	sort := "pass"
	if p.Probe {
		sort = "probe"
	}
	return fmt.Sprintf("%s %d %s %s", sort, p.Turn, p.ID, p.Name)
}

// Made is what tells a probe from others, of all turns: '<turn> <id>'.
func (p Pass) Made() string { return fmt.Sprintf("%d %s", p.Turn, p.ID) }

// ParsePass reads '<since ms> <issued ms> <pass>'; nil when it is none.
func ParsePass(text string) *Pass {
	parts := strings.SplitN(text, " ", 6)
	if len(parts) != 6 {
		return nil
	}
	p := &Pass{ID: parts[4], Name: parts[5], Probe: parts[2] == "probe"}
	p.Since, _ = strconv.ParseInt(parts[0], 10, 64)
	issued, _ := strconv.ParseInt(parts[1], 10, 64)
	p.Issued = time.UnixMilli(issued).UTC()
	p.Turn, _ = strconv.ParseInt(parts[3], 10, 64)
	return p
}

// Ask is a question whether something may begin now.
type Ask struct {
	Name string
	Pass string // the ID of a valid pass; [SentBack], [Probing]: it has one for another name; empty: none
}

// SentBack says that what asks was sent back with a pass for another name: those who
// wait need not go first.
const SentBack = "-"

// Probing says that what asks is to find out whether a service is back: no rate refuses
// it, because those who wait for one would keep it from finding out.
const Probing = "!"

// Held says which queues are paused for dependencies.
type Held struct {
	For     map[string][]string // names by queue
	Pending map[string]int64    // jobs of these queues that have not been claimed
	Resting map[string]bool     // queues that something else pauses: an operator, or asynq's tools
}

// Refusal says why something may not begin now; the zero value: it may.
type Refusal struct {
	Name string
	Why  string        // "open", "recovering", "throttled", "rate", "busy" or "line": others wait already
	Wait time.Duration // until it may be asked again; 0: nobody knows
}

// Lane is where jobs of a kind wait in a queue for one name.
type Lane struct {
	Queue string `json:"queue"`
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	Jobs  int64  `json:"jobs"` // entries; some may have moved on
}

// Grant is how many of those who wait may begin.
type Grant struct {
	Name   string // of the dependency or limit
	State  jobs.DependencyState
	Turn   int64
	Jobs   int
	ID     string // of the places that are kept for them: ID:1, ID:2 …, or of a probe
	Probe  bool
	Health bool    // the probe is the service's health check
	Rate   float64 // of the ramp

	Asked time.Time // when it was asked for, by the asker's clock; zero: just now
}

// Probed is what a probe has found.
type Probed string

// The findings.
const (
	ProbeWell    Probed = "well"
	ProbeFailed  Probed = "failed"
	ProbeNothing Probed = "nothing" // it did not come to call the service
)

// Lease is a place that is taken under a limit of concurrency.
type Lease struct {
	Name, ID string
}

// DependencyInfo is all that people see of a dependency or a limit.
type DependencyInfo struct {
	jobs.Standing
	Rate     float64   `json:"rate,omitempty"` // while it recovers: jobs that may begin in this second
	Ratio    float64   `json:"ratio"`
	MinCalls int       `json:"min_calls"`
	Quorum   int       `json:"quorum"`
	Workers  int       `json:"workers"` // that call it
	Against  int       `json:"against"` // of them, that see it fail
	Calls    int       `json:"calls"`   // ended within the last 30 s, as workers last said
	Failed   int       `json:"failed"`  // of them
	Running  int       `json:"running"` // places taken, where concurrency is limited
	Waiting  int64     `json:"waiting"` // jobs parked on it
	Held     int64     `json:"held"`    // pending jobs of queues that are paused whole for it
	Probes   int64     `json:"probes"`  // since it opened
	Resumed  int64     `json:"resumed"` // jobs sent back since it opened
	NextTry  string    `json:"next_try,omitempty"`
	Kinds    []string  `json:"kinds,omitempty"`      // that need it, as their workers have said
	Declared bool      `json:"declared,omitempty"`   // a program has described it
	Set      []string  `json:"set,omitempty"`        // settings that are an operator's: resume, ratio, min_calls, quorum, rate, concurrency
	Looked   time.Time `json:"looked_at,omitzero"`   // when a process last asked whether those who wait may go
	Oldest   time.Time `json:"oldest_wait,omitzero"` // since when the first of them waits
}

// Named reports whether somebody has named it: a kind, a program or an operator. Other
// names come along with jobs, as hosts of http.request do, and there may be any number.
func (i DependencyInfo) Named() bool {
	return IsLimit(i.Name) || i.Declared || len(i.Kinds) > 0 || len(i.Set) > 0
}

// AllWaiting is how many jobs do not begin because of it.
func (i DependencyInfo) AllWaiting() int64 { return i.Waiting + i.Held }

// Next says what happens by itself, or who has to do what; "" when calls are made and
// nobody waits.
func (i DependencyInfo) Next() string {
	switch {
	case i.Forced:
		return "It stays open until somebody closes it: perdure dep close " + i.Name + " --reason WHY"
	case i.State == jobs.DependencyOpen:
		return fmt.Sprintf("It closes by itself: at most a probe a second, the next %s; then jobs resume, 1, 2, 4 ... up to %g a second", i.NextTry, i.Resume)
	case i.State == jobs.DependencyRecovering:
		return fmt.Sprintf("Jobs resume by themselves, %g a second now, up to %g; it closes then", i.Rate, i.Resume)
	case i.Waiting > 0 && i.Limit.None():
		return fmt.Sprintf("Those who wait resume by themselves, %g a second", i.Resume)
	case i.Waiting > 0:
		return "Those who wait begin as its limit allows"
	}
	return ""
}

// LimitInfo is the limit of a kind or a tenant as people look at it. The zero value but for
// its name is one that nothing is known of: it bounds nothing.
type LimitInfo struct {
	Name     string     `json:"name"`
	Limit    jobs.Limit `json:"limit"`
	Running  int        `json:"running"`              // places taken, where concurrency is limited
	Waiting  int64      `json:"waiting"`              // jobs parked on it
	Oldest   time.Time  `json:"oldest_wait,omitzero"` // since when the first of them waits
	Declared bool       `json:"declared,omitempty"`   // a program has described it
	Set      []string   `json:"set,omitempty"`        // settings that are an operator's: rate, concurrency
	Looked   time.Time  `json:"looked_at,omitzero"`   // when a process last asked whether those who wait may go
}

// AsLimit is what of it is about a limit: that has no breaker.
func (i DependencyInfo) AsLimit() LimitInfo {
	return LimitInfo{Name: i.Name, Limit: i.Limit, Running: i.Running, Waiting: i.Waiting, Oldest: i.Oldest, Declared: i.Declared, Set: i.Set, Looked: i.Looked}
}

// StateNumber is a state in metrics.
func StateNumber(s jobs.DependencyState) float64 {
	switch s {
	case jobs.DependencyOpen:
		return 2
	case jobs.DependencyRecovering:
		return 1
	}
	return 0
}

// WorstFirst puts those first that are open, then those that recover.
func WorstFirst(infos []DependencyInfo) {
	slices.SortStableFunc(infos, func(a, b DependencyInfo) int { return cmp.Compare(StateNumber(b.State), StateNumber(a.State)) })
}

// Tuning is what an operator sets of a dependency or a limit; nil fields stay, a value
// below 0 takes the operator's setting back.
type Tuning struct {
	Resume      *float64 `json:"resume,omitempty"`
	Ratio       *float64 `json:"ratio,omitempty"`
	MinCalls    *int     `json:"min_calls,omitempty"`
	Quorum      *int     `json:"quorum,omitempty"`
	Rate        *float64 `json:"rate,omitempty"`
	Concurrency *int     `json:"concurrency,omitempty"`
}

// Check returns an error matching [jobs.ErrInvalid] that names what is out of bounds.
func (t Tuning) Check(name string) error {
	d := jobs.Dependency{Name: name}
	some := false
	number := func(from *float64, to *float64) {
		if some = some || from != nil; from != nil && *from >= 0 {
			*to = *from
		}
	}
	whole := func(from *int, to *int) {
		if some = some || from != nil; from != nil && *from >= 0 {
			*to = *from
		}
	}
	number(t.Resume, &d.Resume)
	number(t.Ratio, &d.Ratio)
	whole(t.MinCalls, &d.MinCalls)
	whole(t.Quorum, &d.Quorum)
	number(t.Rate, &d.Limit.Rate)
	whole(t.Concurrency, &d.Limit.Concurrency)
	if !some {
		return &jobs.InvalidError{Field: "settings of " + name, Value: "none", Bound: "at least one of resume, ratio, min_calls, quorum, rate, concurrency"}
	}
	if IsLimit(name) && (t.Resume != nil || t.Ratio != nil || t.MinCalls != nil || t.Quorum != nil) {
		return &jobs.InvalidError{Field: "settings of " + name, Value: "of a breaker", Bound: "rate and concurrency only: it is a limit"}
	}
	for field, zero := range map[string]bool{
		"resume": t.Resume != nil && *t.Resume == 0, "ratio": t.Ratio != nil && *t.Ratio == 0, "min_calls": t.MinCalls != nil && *t.MinCalls == 0,
		"quorum": t.Quorum != nil && *t.Quorum == 0,
	} {
		if zero {
			return &jobs.InvalidError{Field: field, Value: 0, Bound: "over 0; null, or default on the command line, takes it back"}
		}
	}
	if IsLimit(name) {
		return d.Limit.Check("limit of " + name)
	}
	return d.Check()
}

// Pairs are the settings as the store keeps them.
func (t Tuning) Pairs() []any {
	var pairs []any
	number := func(name string, n *float64) {
		if n == nil {
			return
		}
		text := ""
		if *n >= 0 {
			text = strconv.FormatFloat(*n, 'f', -1, 64)
		}
		pairs = append(pairs, name, text)
	}
	whole := func(name string, n *int) {
		if n != nil {
			f := float64(*n)
			number(name, &f)
		}
	}
	number("resume", t.Resume)
	number("ratio", t.Ratio)
	whole("least", t.MinCalls)
	whole("quorum", t.Quorum)
	number("rate", t.Rate)
	whole("places", t.Concurrency)
	return pairs
}
