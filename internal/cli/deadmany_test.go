package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/internal/redistest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// quarantineMany quarantines n jobs that failed in the same way.
func quarantineMany(t *testing.T, url string, n int) *store.Store {
	t.Helper()
	s, err := store.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	for i := range n {
		if _, err := s.Enqueue(t.Context(), echo.New(fmt.Sprint("k", i), "x", jobs.Tenant("acme"))); err != nil {
			t.Fatal(err)
		}
	}
	quarantineNext(t, s, n)
	return s
}

// quarantineNext quarantines the next n jobs.
func quarantineNext(t *testing.T, s *store.Store, n int) {
	t.Helper()
	batch, err := s.Claim(t.Context(), "echoes", "owner", n)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range batch.Deliveries {
		failure := jobs.Failure{Class: jobs.ClassInvalid, Rule: "r", Step: "first", Message: "row 17 is bad\x1b[31m", Stack: "deep\x1b[31m\n\tin a file", At: time.Now()}
		entry := delivery.Entry{Class: failure.Class, Rule: "r", Reason: "no use", Step: "first", Message: failure.Message, Worker: "w", Trace: "00-1"}
		if err := s.Settle(t.Context(), d, delivery.Verdict{Outcome: delivery.Quarantine, Failure: &failure, Entry: entry}); err != nil {
			t.Fatal(err)
		}
	}
}

// Jobs of other clients have task IDs that perdure would give no new job.
func TestCommandsAboutJobsOfOtherClients(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	s := quarantineMany(t, url, 0)
	client := asynq.NewClientFromRedisClient(s.Redis())
	file := filepath.Join(t.TempDir(), "f")
	for _, key := range []string{"tenant/42", "a b", "_x", "p1#2", "mail:ü"} {
		if _, err := client.Enqueue(asynq.NewTask("mail:send", nil), asynq.TaskID(key), asynq.Queue("echoes")); err != nil {
			t.Fatal(err)
		}
		quarantineNext(t, s, 1)
		for _, args := range [][]string{
			{"job", "get", key}, {"job", "get", key, "--queue", "echoes"}, {"dead", "show", key}, {"dead", "replay", key}, {"job", "pause", key}, {"job", "resume", key},
		} {
			if args[1] != "get" && args[1] != "show" {
				args = append(args, "--reason", "mended")
			}
			if code, out, errs := run(t.Context(), nil, append(args, "--redis-url", url)...); code != 0 || !strings.Contains(out, "echoes/"+key) {
				t.Errorf("%q: exit %d\n%s%s", args, code, out, errs)
			}
		}
		quarantineNext(t, s, 1)
	}
	for _, c := range [][2]string{
		{"move --all --file " + file, "5 entries moved"}, {"import " + file, "5 restored"}, {"erase tenant/42", "erased"}, {"discard tenant/42", "its key is free"},
	} {
		args := append(strings.Fields("dead "+c[0]), "--reason", "mended", "--redis-url", url)
		if code, out, errs := run(t.Context(), nil, args...); code != 0 || !strings.Contains(out, c[1]) {
			t.Errorf("%q: exit %d\n%s%s", args, code, out, errs)
		}
	}
	if code, _, errs := run(t.Context(), nil, "dead", "show", "", "--redis-url", url); code != 2 || !strings.Contains(errs, `key "": must be`) {
		t.Errorf("no key: exit %d: %s", code, errs)
	}
}

func TestDeadCommands(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	s := quarantineMany(t, url, 103)
	groups, _, err := s.DeadGroups(t.Context(), "echoes", "", 10, "")
	if err != nil || len(groups) != 1 {
		t.Fatalf("%v %+v", err, groups)
	}
	sig, file := groups[0].Signature, filepath.Join(t.TempDir(), "f")
	for _, c := range []struct {
		args string
		code int
		want string // in what is said, on either output
	}{
		{"list --limit 2", 0, "more: --cursor"},
		{"list --text nothing", 0, "SIGNATURE"},
		{"list --kind echo --class invalid --tenant acme --group SIG --since 1h --limit 500 -o json", 0, `"read": 103`},
		{"list --since yesterday", 2, "since"},
		{"list --since=-5h", 2, `since "-5h": must be a time such as`},
		{"list --kind-version -1", 2, "version"},
		{"groups", 0, "row <n> is bad"},
		{"groups --state odd", 2, "state"},
		{"show k0", 0, "trace 00-1"},
		{"show none", 3, "not found"},
		{"resolve SIG --reason mended", 0, "resolved"},
		{"ignore SIG --reason known", 0, "ignored"},
		{"open SIG --reason again --queue echoes", 0, "open"},
		{"open 0123456789ab --reason x", 3, "group 0123456789ab"},
		{"replay --reason x", 2, "say which entries"},
		{"replay --group SIG --dry-run", 0, "103"},
		{"replay --group SIG --reason x", 2, "--yes"},
		{"replay --group SIG --most 101 --reason x", 2, "replay 101 entries"},
		{"replay --group SIG --most 7 --dry-run -o json", 0, `"entries": 7`},
		{"replay --group SIG --most -1 --dry-run", 2, "most -1: must be from 0"},
		{"replay --group SIG --rate 5001 --dry-run", 2, "rate 5001: must be from 0.01 to 5000"},
		{"replay --class odd --dry-run", 2, `class "odd": must be one of the classes unknown, `},
		{"list --since 1h --before 2h", 2, "earlier than before, 2"},
		{"replay --text nothing --reason x", 3, "nothing in quarantine is so"},
		{"replay --group SIG --payload {} --reason x", 2, "one job"},
		{"replay k0 --group SIG --reason x", 2, "not both"},
		{"replay k0 k1", 2, "at most"},
		{"replay k0 --wait --reason x", 2, "--wait is of a plan"},
		{"replay k0 --rate 7 --most 1 --reason x", 2, "--rate is of a plan"},
		{"replay k0 --plan p --reason x", 2, "--plan is of a plan"},
		{"replay k0 --payload { --reason x", 2, `payload "of 1 byte": must be valid JSON`},
		{"replay k0 --payload @/none --reason x", 2, "read --payload"},
		{`replay k0 --payload "y" --from-start --reason edited`, 0, "PENDING"},
		{"replay --text k10 --plan p1 --reason go", 0, "selecting"},
		{"plans", 0, "p1"},
		{"plans odd", 2, "unknown command"},
		{"plans pause p1 --reason wait", 0, "paused"},
		{"plans watch p1", 1, "plan p1 is paused"},
		{"plans resume p1 --reason go", 0, "selecting"},
		{"plans abort p1 --reason no", 0, "aborted"},
		{"plans abort p1 --reason no", 4, "it has ended; make another plan"},
		{"plans abort p2 --reason no", 3, "plan p2: no queue has it"},
		{"plans abort p2 --queue echoes --reason no", 3, "there is none of this name"},
		{"erase k1 --reason asked", 0, "erased"},
		{"show k1", 0, "erased by"},
		{"replay k1 --reason x", 4, "erased"},
		{"export --file FILE", 0, "102 entries written"},
		{"export --file FILE", 1, "exist"},
		{"discard --all --reason x", 2, "--yes"},
		{"discard --all", 2, "reason"},
		{"discard --all --dry-run", 0, "102"},
		{"discard k2 --reason x", 0, "discarded"},
		{"discard --all --reason x --yes", 0, "101 entries discarded"},
		{"import FILE --reason back", 0, "102 restored"},
		{"import none --reason back", 2, "no such file"},
		{"move --all --reason x", 2, "--file"},
		{"move --all --reason x --file FILE2 --yes", 0, "102 entries moved"},
		{"import FILE2 --reason back -o json", 0, `"restored": 102`},
	} {
		args := strings.Fields("dead " + strings.NewReplacer("SIG", sig, "FILE", file).Replace(c.args))
		code, out, errs := run(t.Context(), nil, append(args, "--redis-url="+url)...)
		if code != c.code || !strings.Contains(out+errs, c.want) || strings.Contains(out, "\x1b") {
			t.Errorf("%s: exit %d, want %d with %q\n%s%s", c.args, code, c.code, c.want, out, errs)
		}
	}
	if n := len(decoded(t, file)); n != 102 {
		t.Errorf("the file has %d lines", n)
	}
}

func decoded(t *testing.T, path string) (lines []map[string]any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Error(err)
		}
		lines = append(lines, v)
	}
	return lines
}
