package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/internal/redistest"
)

func TestAuditFindsWhatWasTamperedWith(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	defer client.Close()
	command := func(args ...string) (int, string) {
		t.Helper()
		code, out, errs := run(t.Context(), nil, append(args, "--redis-url", url)...)
		return code, out + errs
	}
	if code, text := command("job", "enqueue", "http.request", "--key", "k", "--queue", "echoes", "--data", `{"url":"http://127.0.0.1:1/"}`); code != 0 {
		t.Fatal(text)
	}
	for _, verb := range []string{"pause", "resume", "pause", "resume"} {
		if code, text := command("job", verb, "k", "--actor", "ada", "--reason", "to "+verb); code != 0 {
			t.Fatal(text)
		}
	}
	if code, text := command("audit", "verify"); code != 0 || !strings.Contains(text, "as written") || strings.Contains(text, "BROKEN") {
		t.Errorf("%d: %s", code, text)
	}
	code, text := command("audit", "list", "--what", "pause", "--by", "ada", "--since", "1h")
	if code != 0 || strings.Count(text, "to pause") != 2 || strings.Contains(text, "to resume") {
		t.Errorf("%d: %s", code, text)
	}
	entries := client.XRange(t.Context(), "perdure:{echoes}:events", "-", "+").Val()
	client.XDel(t.Context(), "perdure:{echoes}:events", entries[1].ID)
	if code, text := command("audit", "verify", "--queue", "echoes"); code != 1 || !strings.Contains(text, "BROKEN at "+entries[2].ID+": it is number 3 after number 1") {
		t.Errorf("%d: %s", code, text)
	}
	client.XDel(t.Context(), "perdure:{echoes}:events", entries[0].ID)
	if code, text := command("audit", "verify", "-o", "json"); code != 1 || !strings.Contains(text, "those before it were cut off") {
		t.Errorf("%d: %s", code, text)
	}
	if code, text := command("audit", "list", "--since", "yesterday"); code != 2 || !strings.Contains(text, `since "yesterday": must be a time such as`) {
		t.Errorf("%d: %s", code, text)
	}
}

// TestAuditSealsExportsAndTrims sets the environment, so it runs by itself.
func TestAuditSealsExportsAndTrims(t *testing.T) {
	url, dir := redistest.URL(t), t.TempDir()
	key := strings.Repeat("secret-key-", 4)
	t.Setenv("PERDURE_AUDIT_KEY", key)
	t.Setenv("PERDURE_ACTOR", "ada")
	command := func(want int, args []string, says ...string) string {
		t.Helper()
		code, out, errs := run(t.Context(), []string{"PERDURE_AUDIT_KEY=" + key}, append(args, "--redis-url", url)...)
		if code != want {
			t.Errorf("%q: %d %s%s", args, code, out, errs)
		}
		for _, part := range says {
			if !strings.Contains(out+errs, part) {
				t.Errorf("%q says %s%s\nand not %q", args, out, errs, part)
			}
		}
		if strings.Contains(out+errs, key) {
			t.Errorf("%q shows the key", args)
		}
		return out
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	command(0, []string{"job", "enqueue", "echo", "--key", "k", "--data", `"x"`})
	for range 60 {
		command(0, []string{"job", "pause", "k", "--reason", "r"})
		command(0, []string{"job", "resume", "k", "--reason", "r"})
	}
	command(0, []string{"audit", "list", "--limit", "1"}, "pending -> paused by an operator")
	command(0, []string{"audit", "verify"}, "echoes", "chained; not sealed", "120 since")
	command(0, []string{"doctor"}, "audit of echoes: 120 decisions, none of them sealed, 120 not sealed since")
	command(0, []string{"audit", "seal"}, "echoes", "120")
	command(0, []string{"audit", "seals", "-o", "json"}, `"n": 120`)
	command(0, []string{"audit", "seals", "--file", file("seals")}, "1 seal written")
	command(0, []string{"audit", "verify", "--seals", file("seals")}, "as written")
	command(0, []string{"doctor", "-o", "json"}, `"audit_key": true`, `"sealed_to": 120`)

	command(0, []string{"audit", "export", "--file", file("all")}, "120 decisions and 1 seal of 1 queue written")
	command(1, []string{"audit", "export", "--file", file("all")}, "file exists")
	if out := command(0, []string{"audit", "export", "--queue", "echoes"}); strings.Count(out, "\n") != 121 {
		t.Errorf("to the output: %s", out)
	}
	command(0, []string{"audit", "verify", "--file", file("all")}, "as written", "120")
	command(2, []string{"audit", "export", "--reason", "r"}, "are for --trim")
	command(2, []string{"audit", "export", "--trim", "--reason", "r"}, "say --file")
	command(2, []string{"audit", "export", "--trim", "--file", file("moved"), "--reason", "r"}, "up to 120 decisions would be moved", "--yes")
	command(2, []string{"audit", "export", "--trim", "--file", file("moved"), "--yes", "--before", "never", "--reason", "r"}, "time")
	command(2, []string{"audit", "export", "--trim", "--file", file("moved"), "--yes"}, "reason")
	command(2, []string{"audit", "verify", "--queue", "@x"}, "queue", "@cron")
	command(0, []string{"audit", "export", "--trim", "--file", file("moved"), "--yes", "--reason", "kept elsewhere"}, "120 decisions moved")
	command(0, []string{"audit", "verify", "--seals", file("seals")}, "as written")
	command(0, []string{"audit", "verify", "-o", "json"}, `"moved_out": 120`, `"seals_checked": true`)
	command(0, []string{"audit", "list", "--what", "move out"}, "ada", "decisions 1 to 120 in Redis -> in moved", "kept elsewhere")
	command(0, []string{"audit", "verify", "--file", file("moved"), "--queue", "echoes"}, "as written")

	text, err := os.ReadFile(file("moved"))
	if err != nil || os.WriteFile(file("edited"), bytes.Replace(text, []byte(`"actor":"ada"`), []byte(`"actor":"eve"`), 1), 0o600) != nil {
		t.Fatal(err)
	}
	command(3, []string{"audit", "verify", "--file", file("moved"), "--queue", "eches"}, "has no decision of eches")
	command(2, []string{"audit", "verify", "--file", file("moved"), "--queue", "@x"}, "queue", "@cron")
	command(1, []string{"audit", "verify", "--file", file("edited")}, "BROKEN at", "it was edited")
	command(2, []string{"audit", "verify", "--file", file("none")}, "no such file")
	command(2, []string{"audit", "verify", "--seals", file("none")}, "no such file")
	t.Setenv("PERDURE_AUDIT_KEY", "short")
	command(2, []string{"audit", "verify"}, "PERDURE_AUDIT_KEY", "32 to 512 bytes")
	t.Setenv("PERDURE_AUDIT_KEY", "")
	command(0, []string{"audit", "verify"}, "No PERDURE_AUDIT_KEY: seals were not checked")
	if code, out, errs := run(t.Context(), nil, "audit", "seal", "--redis-url", url); code != 2 || strings.Count(errs, "PERDURE_AUDIT_KEY") != 1 {
		t.Errorf("seal without a key: %d %s%s", code, out, errs)
	}
	command(0, []string{"doctor"}, "no PERDURE_AUDIT_KEY here")
	t.Setenv("PERDURE_AUDIT_CHECK_KEYS", strings.Repeat("another-key", 4)+","+key)
	command(0, []string{"audit", "verify"}, "as written")

	t.Setenv("PERDURE_AUDIT_CHECK_KEYS", "")
	t.Setenv("PERDURE_AUDIT_KEY", strings.Repeat("another-key", 4))
	code, out, errs := run(t.Context(), nil, "audit", "seal", "--redis-url", url, "-o", "json")
	if code != 1 || !strings.Contains(errs, "audit alarm, recorded and sealed: echoes: the last seal, of decision ") || !strings.Contains(errs, "PERDURE_AUDIT_CHECK_KEYS") || !strings.Contains(out, `"alarms"`) {
		t.Errorf("seal with another key: %d %s%s", code, out, errs)
	}
	command(0, []string{"audit", "list", "--what", "audit alarm"}, "audit alarm", "is not given")
}
