package cli

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// parkedFor has a job of the kind wait for a dependency.
func parkedFor(t *testing.T, s *store.Store, key, dependency string) {
	t.Helper()
	if _, err := s.Enqueue(t.Context(), echo.New(key, "hello")); err != nil {
		t.Fatal(err)
	}
	batch, err := s.Claim(t.Context(), "echoes", "o", 1)
	if err != nil || len(batch.Deliveries) != 1 {
		t.Fatalf("%+v %v", batch, err)
	}
	verdict := delivery.Verdict{Outcome: delivery.Pause, Delay: time.Hour, Waiting: jobs.Waiting{Type: "dependency", Name: dependency}, Lane: true, Said: dependency + " is not available"}
	if err := s.Settle(t.Context(), batch.Deliveries[0], verdict); err != nil {
		t.Fatal(err)
	}
}

// Whoever waits for a breaker that somebody has opened is told who must close it, and not
// that it closes by itself.
func TestAJobThatIsHeldByHandSaysSo(t *testing.T) {
	t.Parallel()
	p := &paying{t: t, url: redistest.URL(t)}
	s := publishEcho(t, p.url)
	parkedFor(t, s, "k", "payments")
	p.on(0, "", "dep", "open", "payments", "--unknown", "--reason", "their maintenance")
	held := "waits for the dependency payments since|payments is open (forced)|It stays open until somebody closes it: perdure dep close payments --reason WHY"
	for code, args := range map[int][]string{0: {"job", "get", "k"}, exitTimedOut: {"job", "wait", "k", "--timeout", "20ms"}} {
		if out := p.on(code, held, args...); strings.Contains(out, "by itself") || strings.Contains(out, "by themselves") {
			t.Errorf("%v: it does not: %s", args, out)
		}
	}
	p.on(0, "1 job waits for it, the first", "dep", "show", "payments")
	p.on(exitTimedOut, "with 1 job waiting", "dep", "watch", "payments", "--timeout", "20ms")
	p.on(0, "RECOVERING", "dep", "close", "payments", "--reason", "they are back")
	p.on(0, "by themselves", "job", "get", "k")
}

// Nothing that people read has a time in UTC beside those of the machine.
func TestTimesAreInOneFormat(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 31, 9, 0, 0, 0, time.UTC)
	info := delivery.DependencyInfo{NextTry: "at " + at.Format(time.RFC3339)}
	info.Name, info.State = "payments", jobs.DependencyOpen
	var out strings.Builder
	app := &App{Out: &out}
	app.depTable([]delivery.DependencyInfo{info})
	app.depStory(store.DependencyStory{DependencyInfo: info}, at)
	if strings.Count(out.String(), "at "+clock(at)) != 2 || instants.MatchString(out.String()) {
		t.Error(out.String())
	}
	p := &paying{t: t, url: redistest.URL(t)}
	bury(t, publishEcho(t, p.url))
	if out := p.on(0, "since=2", "dead", "replay", "--since", "1h", "--dry-run"); instants.MatchString(out) {
		t.Error(out)
	}
	if out := p.on(0, "", "dead", "replay", "--since", "1h", "--dry-run", "-o", "json"); !instants.MatchString(out) {
		t.Errorf("not for machines: %s", out)
	}
}

func TestQueuesThatNobodyKnows(t *testing.T) {
	t.Parallel()
	p := &paying{t: t, url: redistest.URL(t)}
	s := publishEcho(t, p.url)
	if err := s.Register(t.Context(), "echoes"); err != nil { // as a worker does at its start
		t.Fatal(err)
	}
	for _, args := range []string{
		"job list", "dead list", "dead groups", "dead plans", "dead export", "dead replay --all --dry-run", "dead discard --all --dry-run",
		"dead move --all --dry-run --file f", "audit list", "audit verify", "audit export", "audit seals",
	} {
		p.on(3, "queue ordres not found|perdure queue list", append(strings.Fields(args), "--queue", "ordres")...)
		p.on(2, "queue", append(strings.Fields(args), "--queue", "Bad Name")...)
		p.on(0, "", append(strings.Fields(args), "--queue", "echoes")...)
	}
	for _, args := range []string{"queue pause ordres --reason r", "job get k --queue ordres", "dead show k --queue ordres", "dead plans watch p1 --queue ordres"} {
		p.on(3, "queue ordres not found|perdure queue list", strings.Fields(args)...)
	}
	p.on(0, "", "audit", "list", "--queue", "@dep")
}

func TestQueueHoldsThatChangeNothingSaySo(t *testing.T) {
	t.Parallel()
	p := &paying{t: t, url: redistest.URL(t)}
	s := publishEcho(t, p.url)
	if err := s.Register(t.Context(), "echoes"); err != nil {
		t.Fatal(err)
	}
	const nothing = "nothing changed"
	p.on(0, "echoes: nothing changed, it was not paused", "queue", "resume", "echoes", "--reason", "r")
	for _, args := range [][]string{{"pause", "the move"}, {"resume", "r"}} {
		_, out, errs := run(t.Context(), nil, "queue", args[0], "echoes", "--reason", args[1], "--actor=ann", "--redis-url="+p.url)
		if strings.Contains(out+errs, nothing) {
			t.Errorf("%v: %s%s", args, out, errs)
		}
	}
	p.on(0, "", "queue", "pause", "echoes", "--reason", "the move")
	p.on(0, "nothing changed, it was paused by operator (ann: the move)", "queue", "pause", "echoes", "--reason", "again")
}

func TestDecisionsThatChangeNothingSaySo(t *testing.T) {
	t.Parallel()
	p := &paying{t: t, url: redistest.URL(t)}
	s := publishEcho(t, p.url)
	bury(t, s)
	groups, _, err := s.DeadGroups(t.Context(), "echoes", "", 10, "")
	if err != nil || len(groups) != 1 {
		t.Fatalf("%+v %v", groups, err)
	}
	p.on(0, "", "cron", "add", "nightly", "--when", "@daily", "--kind", "echo", "--data", `"x"`, "--reason", "r")
	p.on(0, "", "dead", "replay", "--all", "--plan", "p1", "--reason", "r")
	for _, args := range []string{"cron pause nightly", "cron resume nightly", "dead plans pause p1", "dead plans resume p1", "dead resolve " + groups[0].Signature} {
		decide := append(strings.Fields(args), "--reason", "r", "--redis-url="+p.url)
		if code, _, errs := run(t.Context(), nil, decide...); code != 0 || errs != "" {
			t.Errorf("%s: exit %d %s", args, code, errs)
		}
		if code, _, errs := run(t.Context(), nil, decide...); code != 0 || !strings.Contains(errs, ": nothing changed, it was ") {
			t.Errorf("%s again: exit %d %s", args, code, errs)
		}
	}
}

func TestKindsThatNobodyHasAreNoted(t *testing.T) {
	t.Parallel()
	p := &paying{t: t, url: redistest.URL(t)}
	s := publishEcho(t, p.url)
	bury(t, s)
	unknown := "no worker has said that it has the kind ehco; known: echo, http.request"
	p.on(0, unknown+"|queue ordres not found", "cron", "add", "again", "--when", "@daily", "--replay", `{"kind":"ehco","queue":"ordres"}`, "--reason", "r")
	for _, args := range []string{"job list", "dead list", "dead replay --dry-run"} {
		p.on(0, unknown, append(strings.Fields(args), "--kind", "ehco")...)
		_, _, errs := run(t.Context(), nil, append(strings.Fields(args), "--kind", "echo", "--redis-url="+p.url)...)
		if errs != "" {
			t.Errorf("%s of a known kind: %s", args, errs)
		}
	}
	_, _, errs := run(t.Context(), nil, "cron", "add", "more", "--when", "@daily", "--replay", `{"kind":"echo","queue":"echoes"}`, "--reason", "r", "--redis-url="+p.url)
	if errs != "" {
		t.Error(errs)
	}
	if out := p.on(0, "set by operator", "cron", "show", "more"); strings.Contains(out, "api") {
		t.Error(out)
	}
	p.on(0, "SET BY", "cron", "list")
}

// A script that waits for a plan must not go on as if it were done.
func TestWatchOfAPlanThatHasStopped(t *testing.T) {
	t.Parallel()
	p := &paying{t: t, url: redistest.URL(t)}
	ctx, stop := context.WithCancel(t.Context())
	worked := make(chan int)
	go func() {
		code, _, _ := run(ctx, nil, "worker", "--redis-url="+p.url, "--log-level=error")
		worked <- code
	}()
	t.Cleanup(func() { stop(); <-worked })
	for _, key := range []string{"a", "b", "c"} {
		p.on(exitQuarantined, "QUARANTINED", "job", "enqueue", "echo", "--key", key, "--data", `"bad"`, "--wait")
	}
	const stopped = "plan p1 is stopped: a is back in quarantine with the same failure"
	p.on(exitFailed, stopped, "dead", "replay", "--all", "--plan", "p1", "--wait", "--reason", "r")
	p.on(exitFailed, stopped, "dead", "plans", "watch", "p1")
	p.on(0, "aborted", "dead", "plans", "abort", "p1", "--reason", "r")
	p.on(exitFailed, "plan p1 is aborted", "dead", "plans", "watch", "p1")
	p.on(0, "done", "dead", "replay", "--all", "--keep-going", "--plan", "p2", "--wait", "--reason", "r")
	p.on(0, "done", "dead", "plans", "watch", "p2")
}

func TestUnknownSettingsSayWhatIsMeant(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"PERDURE_CONCURENCY": "unknown setting PERDURE_CONCURENCY: did you mean PERDURE_CONCURRENCY?",
		"PERDURE_AUDITKEY":   "did you mean PERDURE_AUDIT_KEY?",
		"PERDURE_XYZ":        "unknown setting PERDURE_XYZ: must be a flag of the command (PERDURE_DATA_DIR is --data-dir) or one of PERDURE_ACCESS_TOKENS, PERDURE_ACTOR",
	} {
		code, _, errs := run(t.Context(), []string{name + "=sesame"}, "version")
		if code != 2 || !strings.Contains(errs, want) || strings.Contains(errs, "sesame") || strings.Contains(errs, "invalid") {
			t.Errorf("exit %d: %s", code, errs)
		}
	}
	for entry, want := range map[string]string{"PERDURE_LIMIT=x": "must be a whole number", "PERDURE_TIMEOUT=1": "must be a duration such as", "PERDURE_WAIT=7": "must be true or false"} {
		args := []string{"job", "enqueue", "echo"}
		if strings.Contains(entry, "LIMIT") {
			args = []string{"job", "list"}
		}
		if code, _, errs := run(t.Context(), []string{entry}, args...); code != 2 || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d: %s", entry, code, errs)
		}
	}
}

func TestWaitingSaysThatItWaits(t *testing.T) {
	t.Parallel()
	p := &paying{t: t, url: redistest.URL(t)}
	args := []string{"job", "enqueue", "echo", "--key", "k", "--data", `"x"`, "--wait", "--timeout", "20ms", "--redis-url=" + p.url}
	for _, want := range []string{"echoes/k  echo  pending: accepted\nwaiting for the end of echoes/k, 20ms at most\n", "duplicate of an accepted job"} {
		if code, _, errs := run(t.Context(), nil, args...); code != exitTimedOut || !strings.Contains(errs, want) {
			t.Errorf("exit %d: %s", code, errs)
		}
	}
	if _, _, errs := run(t.Context(), nil, append(args, "-o", "json")...); strings.Contains(errs, "waiting") {
		t.Error(errs)
	}
}

func TestCounts(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"0 jobs": count(0, "job"), "1 job": count(1, "job"), "2 jobs": count(int64(2), "job"), "1 entry": count(1, "entry"), "3 entries": count(3, "entry"),
		"1 job waits": does(1, "job", "waits"), "2 jobs wait": does(2, "job", "waits"),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
