package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/doctor"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// paying is a worker process whose one kind calls a service that can be taken away.
type paying struct {
	t    *testing.T
	url  string
	away atomic.Bool
}

var pay = jobs.Define[string, string]("pay", jobs.Queue("payouts"), jobs.Needs("payments"))

func newPaying(t *testing.T) *paying {
	p := &paying{t: t, url: redistest.URL(t)}
	handler := pay.Do(func(ctx context.Context, text string) (string, error) {
		return jobs.Step(ctx, "charge", func(context.Context) (string, error) {
			if p.away.Load() {
				return "", fmt.Errorf("charge: %w", syscall.ECONNREFUSED)
			}
			return text, nil
		}, jobs.StepNeeds("payments"))
	})
	ctx, stop := context.WithCancel(t.Context())
	app := &App{Handlers: []jobs.Handler{handler}, Args: []string{"worker", "--redis-url=" + p.url, "--log-level=error"}, Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}
	ended := make(chan int, 1)
	go func() { ended <- app.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if code := <-ended; code != 0 {
			t.Errorf("worker: exit %d %s", code, app.Err)
		}
	})
	return p
}

// on runs a command line: its exit code, and the parts of what it says, separated by |.
func (p *paying) on(code int, want string, args ...string) string {
	p.t.Helper()
	got, out, errs := run(p.t.Context(), nil, append(args, "--redis-url="+p.url, "--actor=ann")...)
	for _, part := range strings.Split(want, "|") {
		if !strings.Contains(out+errs, part) {
			p.t.Errorf("%v: %s%s\nhas no %q", args, out, errs, part)
		}
	}
	if got != code {
		p.t.Errorf("%v: exit %d, want %d\n%s%s", args, got, code, out, errs)
	}
	return out
}

func (p *paying) until(what string, args ...string) {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		_, out, errs := run(p.t.Context(), nil, append(args, "--redis-url="+p.url)...)
		if strings.Contains(out, what) {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%v never says %q: %s%s", args, what, out, errs)
		}
	}
}

func TestDependencies(t *testing.T) {
	t.Parallel()
	p := newPaying(t)
	p.until("payments  closed", "dep", "list")
	p.away.Store(true)
	for i := range 8 {
		p.on(0, "accepted", "job", "enqueue", "pay", "--key", fmt.Sprint("k", i), "--data", `"x"`)
	}
	p.until("payments  open", "dep", "list")
	p.on(0, "payments  OPEN|connection refused|It closes by itself: at most a probe a second|needed by pay|by perdure: ", "dep", "show", "payments")
	p.until("dependency payments since", "job", "list", "--state", "paused") // a probe was made
	p.on(0, "OPEN (FORCED)|ann: their maintenance|It stays open until somebody closes it: perdure dep close payments", "dep", "open", "payments", "--reason", "their maintenance")
	p.until("dependency payments since", "job", "list", "--state", "paused")
	p.on(0, "payouts/pay", "dep", "show", "payments")
	told := 0
	for i := range 8 {
		out := p.on(0, "", "job", "get", fmt.Sprint("k", i))
		if strings.Contains(out, "waits for the dependency payments since") && strings.Contains(out, "payments is open (forced) since") && strings.Contains(out, "no attempt used") {
			told++
		} else if !strings.Contains(out, "its queue is paused by dependency:payments (perdure: payments is not available") && !strings.Contains(out, "waits for timer: ") {
			t.Errorf("does not say why it waits: %s", out)
		}
	}
	if told == 0 {
		t.Error("no job says that it waits for the dependency")
	}
	p.on(0, "nothing changed", "dep", "open", "payments", "--reason", "again")
	p.away.Store(false)
	p.on(exitTimedOut, "open (forced)|payments is open, with |jobs waiting, after 300ms", "dep", "watch", "payments", "--timeout", "300ms")
	p.on(0, "resumes at 4/s|set by an operator, taken back with `default`: resume", "dep", "set", "payments", "--resume", "4", "--reason", "gently")
	p.on(0, "payments  RECOVERING|Jobs resume by themselves", "dep", "close", "payments", "--reason", "they are back")
	p.on(0, "payments  closed", "dep", "watch", "payments", "--timeout", "30s")
	p.on(0, "nothing changed|payments  CLOSED", "dep", "close", "payments", "--reason", "to be sure")
	for i := range 8 {
		p.on(0, "COMPLETED|attempts used 0", "job", "wait", fmt.Sprint("k", i))
	}
	p.on(0, "resumes at 100/s", "dep", "set", "payments", "--resume", "default", "--reason", "as before")
	p.on(0, "resume=4 -> resume=default|as before|their maintenance|ann", "dep", "events")
	var decided struct{ Events []store.Event }
	if err := json.Unmarshal([]byte(p.on(0, "", "dep", "events", "payments", "--limit", "2", "-o", "json")), &decided); err != nil || len(decided.Events) != 2 || decided.Events[0].What != "set" {
		t.Errorf("%+v %v", decided, err)
	}
	var list struct{ Dependencies []delivery.DependencyInfo }
	if err := json.Unmarshal([]byte(p.on(0, "", "dep", "list", "--all", "-o", "json")), &list); err != nil || len(list.Dependencies) != 1 || list.Dependencies[0].Name != "payments" {
		t.Errorf("%+v %v", list, err)
	}
}

func TestDependenciesRefuse(t *testing.T) {
	t.Parallel()
	p := &paying{t: t, url: redistest.URL(t)}
	s := publishEcho(t, p.url)
	if err := s.Declare(t.Context(), jobs.Dependency{Name: "payments", Resume: 5}); err != nil {
		t.Fatal(err)
	}
	p.on(3, "paymnets|not found", "dep", "show", "paymnets")
	p.on(3, "paymnets|not found", "dep", "open", "paymnets", "--reason", "r")
	p.on(3, "paymnets|not found", "dep", "close", "paymnets", "--reason", "r")
	p.on(3, "paymnets|not found", "dep", "set", "paymnets", "--resume", "1", "--reason", "r")
	p.on(3, "paymnets|not found", "dep", "watch", "paymnets")
	p.on(0, "OPEN (FORCED)", "dep", "open", "paymnets", "--unknown", "--reason", "r")
	p.on(2, "dependency|a-z 0-9", "dep", "show", "Payments")
	p.on(2, "perdure limit", "dep", "show", "kind/echo")
	p.on(2, "reason|1 to 1000 bytes", "dep", "open", "payments")
	p.on(2, "reason|1 to 1000 bytes", "dep", "set", "payments", "--resume", "1")
	p.on(2, "settings of payments|at least one of", "dep", "set", "payments", "--reason", "r")
	p.on(2, "resume|-1|a number over 0, or default", "dep", "set", "payments", "--resume", "-1", "--reason", "r")
	p.on(2, "resume|0|a number over 0, or default", "dep", "set", "payments", "--resume", "0", "--reason", "r")
	p.on(2, "resume|none", "dep", "set", "payments", "--resume", "none", "--reason", "r")
	p.on(2, "resume|1000000|from 0.1 to 100000", "dep", "set", "payments", "--resume", "1000000", "--reason", "r")
	p.on(2, "ratio|1.5|at most 1", "dep", "set", "payments", "--ratio", "1.5", "--reason", "r")
	p.on(2, "quorum|1.5|a whole number", "dep", "set", "payments", "--quorum", "1.5", "--reason", "r")
	p.on(2, "concurrency|many|none, or default", "dep", "set", "payments", "--concurrency", "many", "--reason", "r")
	p.on(2, "timeout", "dep", "watch", "payments", "--timeout", "-1s")
	p.on(2, "limit|501", "dep", "events", "--limit", "501")

	p.on(2, "limit|payments|perdure dep set", "limit", "set", "payments", "--rate", "1", "--reason", "r")
	p.on(2, "kind|Echo", "limit", "set", "kind/Echo", "--rate", "1", "--reason", "r")
	p.on(3, "kind/eco|not found", "limit", "set", "kind/eco", "--rate", "1", "--reason", "r")
	p.on(2, "rate|2000000", "limit", "set", "kind/echo", "--rate", "2000000", "--reason", "r")
	p.on(2, "reason", "limit", "set", "kind/echo", "--rate", "5")
	p.on(0, "kind/echo|5/s|operator", "limit", "set", "kind/echo", "--rate", "5", "--reason", "r")
	p.on(0, "tenant/acme|none|7", "limit", "set", "tenant/acme", "--concurrency", "7", "--reason", "r")
	p.on(0, "kind/new|1/s", "limit", "set", "kind/new", "--rate", "1", "--unknown", "--reason", "r")
	p.on(0, "kind/echo|tenant/acme|kind/new", "limit", "list")
	p.on(0, "tenant/acme|none|-", "limit", "clear", "tenant/acme", "--reason", "r")
	p.on(3, "limit tenant/acme not found|perdure limit list", "limit", "clear", "tenant/acme", "--reason", "r")
	p.on(3, "limit tenant/none not found", "limit", "clear", "tenant/none", "--reason", "r")
	p.on(0, "kind/echo|none|-", "limit", "clear", "kind/echo", "--reason", "r")
	p.on(3, "limit kind/echo not found: nobody has set it", "limit", "clear", "kind/echo", "--reason", "r")
	if err := s.Declare(t.Context(), jobs.Dependency{Name: "kind/echo", Limit: jobs.Limit{Rate: 9}}); err != nil {
		t.Fatal(err)
	}
	p.on(0, "nothing changed|9/s|program", "limit", "clear", "kind/echo", "--reason", "r")
	if out := p.on(0, `"name": "kind/echo"`, "limit", "list", "-o", "json"); strings.Contains(out, "state") || strings.Contains(out, "quorum") {
		t.Errorf("a limit has what is a breaker's: %s", out)
	}
	if out := p.on(0, "paymnets", "dep", "list"); strings.Contains(out, "kind/echo") || strings.Index(out, "paymnets") > strings.Index(out, "payments") {
		t.Error(out)
	}
}

func TestAilments(t *testing.T) {
	t.Parallel()
	now := time.Now()
	at := func(ago time.Duration) time.Time { return now.Add(-ago) }
	info := func(state jobs.DependencyState, since time.Duration, forced bool, waiting int64, looked, oldest time.Duration) delivery.DependencyInfo {
		i := delivery.DependencyInfo{Waiting: waiting, Looked: at(looked), Oldest: at(oldest)}
		i.State, i.Since, i.Forced, i.By = state, at(since), forced, "ann"
		return i
	}
	for _, row := range []struct {
		i      delivery.DependencyInfo
		want   string // "": nothing
		stands bool
	}{
		{info(jobs.DependencyClosed, time.Hour, false, 0, time.Hour, 0), "", false},
		{info(jobs.DependencyOpen, 9*time.Minute, false, 5, 0, 9*time.Minute), "", false},
		{info(jobs.DependencyOpen, 11*time.Minute, false, 5, 0, 11*time.Minute), "open for 11m0s", false},
		{info(jobs.DependencyOpen, 11*time.Minute, true, 5, 0, 11*time.Minute), "opened by ann 11m0s ago", false},
		{info(jobs.DependencyOpen, time.Minute, false, 5, 20*time.Second, time.Minute), "nobody looks after them", false},
		{info(jobs.DependencyOpen, time.Minute, false, 5, time.Hour, time.Second), "", false}, // the first has just come
		{info(jobs.DependencyRecovering, time.Hour, false, 5, 0, time.Hour), "", false},
		{info(jobs.DependencyClosed, 30*time.Second, false, 5, 0, time.Hour), "", false},
		{info(jobs.DependencyClosed, time.Hour, false, 5, 0, 30*time.Second), "", false},
		{info(jobs.DependencyClosed, time.Hour, false, 5, 0, 2*time.Minute), "", true},
	} {
		got := ailing(row.i, now)
		if (got == nil) != (row.want == "") || got != nil && !strings.Contains(got.Value, row.want) {
			t.Errorf("%+v: %+v, want %q", row.i, got, row.want)
		}
		if stands(row.i, now) != row.stands {
			t.Errorf("%+v stands %v", row.i, !row.stands)
		}
	}
}

// TestDoctorTellsWhoIsForgotten parks a job on something closed, with nobody to send it
// back, and then makes it look as if somebody looked after it.
func TestDoctorTellsWhoIsForgotten(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	s := publishEcho(t, url)
	ctx := t.Context()
	if _, err := s.Enqueue(ctx, echo.New("k", "x")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Beat(ctx, "o", true); err != nil {
		t.Fatal(err)
	}
	batch, err := s.Claim(ctx, "echoes", "o", 1)
	if err != nil || len(batch.Deliveries) != 1 {
		t.Fatal(batch, err)
	}
	v := delivery.Verdict{Outcome: delivery.Pause, Waiting: jobs.Waiting{Type: "dependency", Name: "mail"}, Lane: true, Said: "mail is not available", Delay: time.Hour,
		Since: time.Now().Add(-time.Hour).UnixMilli()}
	if err := s.Settle(ctx, batch.Deliveries[0], v); err != nil {
		t.Fatal(err)
	}
	told := func() []ailment {
		var report struct{ Dependencies []ailment }
		_, out, errs := run(ctx, nil, "doctor", "-o", "json", "--redis-url="+url)
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			t.Fatalf("%v %s", err, errs)
		}
		return report.Dependencies
	}
	if got := told(); len(got) != 1 || got[0].Name != "mail" || got[0].Verdict != doctor.Warn || !strings.Contains(got[0].Value, "nobody looks after them") {
		t.Errorf("%+v", got)
	}
	if _, out, _ := run(ctx, nil, "doctor", "--redis-url="+url); !strings.Contains(out, "WARN: dependency mail") || !strings.Contains(out, "start `perdure scheduler`") {
		t.Error(out)
	}
	rdb := s.Redis()
	if err := rdb.HSet(ctx, "perdure:{@dep}:d:mail", "state", "closed", "since", time.Now().Add(-time.Hour).UnixMilli(), "lined", time.Now().Add(5*time.Second).UnixMilli()).Err(); err != nil {
		t.Fatal(err)
	}
	if got := told(); len(got) != 1 || !strings.Contains(got[0].Value, "closed since") || !strings.Contains(got[0].Why, "must never happen") {
		t.Errorf("%+v", got)
	}
}

// TestHTTPRequestNeedsItsHost takes one of two endpoints away: its calls wait, those of the
// other do not, and when it is back they are made.
func TestHTTPRequestNeedsItsHost(t *testing.T) {
	t.Parallel()
	p := &paying{t: t, url: redistest.URL(t)}
	var served atomic.Int64
	answer := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) })
	well, gone := httptest.NewServer(answer), httptest.NewServer(answer)
	t.Cleanup(well.Close)
	gone.Close()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		code, _, _ := run(ctx, nil, "worker", "--redis-url="+p.url, "--log-level=error", "--http-allow-nets=127.0.0.0/8")
		ended <- code
	}()
	t.Cleanup(func() { stop(); <-ended })
	request := func(key, url string) {
		p.on(0, "accepted", "job", "enqueue", "http.request", "--key", key, "--data", `{"url":"`+url+`","method":"GET"}`)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) { // until the worker has published its kinds
		if code, _, _ := run(t.Context(), nil, "job", "enqueue", "http.request", "--key", "first", "--data", `{"url":"`+well.URL+`"}`, "--redis-url="+p.url); code == 0 || time.Now().After(deadline) {
			break
		}
	}
	for i := range 8 {
		request(fmt.Sprint("gone", i), gone.URL)
	}
	host := strings.TrimPrefix(gone.URL, "http://")
	p.until(host+"  open", "dep", "list")
	request("well", well.URL)
	p.on(0, "COMPLETED", "job", "wait", "well")
	p.on(0, host+"  OPEN|connection refused", "dep", "show", host)
	p.until("dependency "+host+" since", "job", "list", "--state", "paused")

	listener, err := net.Listen("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	back := &http.Server{Handler: answer, ReadHeaderTimeout: time.Second}
	go back.Serve(listener)
	t.Cleanup(func() { back.Close() })
	for i := range 8 {
		p.on(0, "COMPLETED|attempts used 0", "job", "wait", fmt.Sprint("gone", i))
	}
	if n := served.Load(); n != 10 {
		t.Errorf("%d calls were answered, want one for each of 10 jobs", n)
	}
}
