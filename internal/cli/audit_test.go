package cli

import (
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
	if code, text := command("audit", "list", "--since", "yesterday"); code != 2 || !strings.Contains(text, `time "yesterday": must be a time such as`) {
		t.Errorf("%d: %s", code, text)
	}
}
