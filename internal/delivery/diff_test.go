package delivery

import (
	"encoding/json"
	"testing"
)

func TestDiff(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ from, to, paths, changes string }{
		{`{"a":1}`, `{ "a" : 1 }`, "nothing", `[]`},
		{`{"a":1,"b":{"c":[1,2]},"d":3}`, `{"a":2,"b":{"c":[1,5]},"e/f":4}`, "~/a ~/b/c/1 -/d +/e~1f",
			`[{"path":"/a","from":1,"to":2},{"path":"/b/c/1","from":2,"to":5},{"path":"/d","from":3},{"path":"/e~1f","to":4}]`},
		{`[1,2]`, `[1]`, "~all of it", `[{"path":"","from":[1,2],"to":[1]}]`},
		{`{"a":null}`, `{}`, "-/a", `[{"path":"/a","from":null}]`},
		{`12345678901234567890`, `12345678901234567891`, "~all of it", `[{"path":"","from":12345678901234567890,"to":12345678901234567891}]`},
		{"\xff", "x", "~all of it", `[{"path":"","from":"/w==","to":"eA=="}]`},
		{"\xff", "\xff", "nothing", `[]`},
	} {
		changes := Diff([]byte(c.from), []byte(c.to))
		if got, _ := json.Marshal(changes); string(got) != c.changes || Paths(changes) != c.paths {
			t.Errorf("from %s to %s: %s (%s), want %s (%s)", c.from, c.to, got, Paths(changes), c.changes, c.paths)
		}
	}
}
