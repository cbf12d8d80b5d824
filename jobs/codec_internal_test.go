package jobs

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestShortNumber(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, want string }{
		{"0", "0"}, {"-0", "0"}, {"0.000", "0"}, {"0e9", "0"}, {"-0.0E-3", "0"},
		{"1", "1"}, {"1.0", "1"}, {"1e0", "1"}, {"1E+0", "1"}, {"10e-1", "1"}, {"0.1e1", "1"}, {"-1.00", "-1"},
		{"10", "1e1"}, {"1e1", "1e1"}, {"100.0", "1e2"}, {"0.01", "1e-2"}, {"1e-2", "1e-2"},
		{"12.50", "125e-1"}, {"0.1", "1e-1"}, {"0.10000000000000000555", "10000000000000000555e-20"},
		{"9007199254740993", "9007199254740993"}, {"9007199254740992", "9007199254740992"},
		{"9007199254740993.0", "9007199254740993"},
		{"1e400", "1e400"}, {"10e399", "1e400"}, {"-1e-400", "-1e-400"},
		{"1e2147483647", "1e2147483647"}, {"10e2147483647", "1e2147483648"}, {"1e2147483648", "1e2147483648"},
		{"1e99999999999999999999", "1e99999999999999999999"},
	}
	for _, test := range tests {
		if got := string(shortNumber(json.Number(test.in))); got != test.want {
			t.Errorf("%s: got %s, want %s", test.in, got, test.want)
		}
	}
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"members sorted", `{"b":1,"a":2}`, `{"a":2,"b":1}`},
		{"nested", `{"b":{"d":1,"c":[{"f":1.0,"e":2}]},"a":null}`, `{"a":null,"b":{"c":[{"e":2,"f":1}],"d":1}}`},
		{"white space", " [ 1 ,\t2 ]\n", `[1,2]`},
		{"order of elements stays", `[2,1]`, `[2,1]`},
		{"scalars", `"a"`, `"a"`},
		{"escapes", `"\u0061\/"`, `"a/"`},
		{"last duplicate wins", `{"a":1,"a":2}`, `{"a":2}`},
		{"empty", "", ""},
		{"two values", `1 2`, `1 2`},
		{"trailing bracket", `{}]`, `{}]`},
		{"trailing brace", `{}}`, `{}}`},
		{"trailing text", `{} x`, `{} x`},
		{"cut short", `{"b":1,"a":`, `{"b":1,"a":`},
		{"no JSON", "\x00\xff{", "\x00\xff{"},
		{"no number", `01`, `01`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := string(canonical([]byte(test.in))); got != test.want {
				t.Errorf("canonical(%s) = %s, want %s", test.in, got, test.want)
			}
		})
	}
}

func TestCanonicalOfDeepNesting(t *testing.T) {
	t.Parallel()
	deep := bytes.Repeat([]byte("["), 1_000_000)
	if got := canonical(deep); !bytes.Equal(got, deep) {
		t.Error("a value nested too deeply is not left as it is")
	}
}

func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{
		`{"b":1,"a":[1.0,1e0,-0,9007199254740993,1e400]}`, `"\u0000<>&\u2028\ud800"`, "\"\xff\"", `{}]`, ` 1 `, ``,
		`{"a":1,"a":2}`, `1e2147483647`, `10e2147483647`, `0.1e-2147483648`, `[[[[]]]]`, `nul`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		before := bytes.Clone(payload)
		once := canonical(payload)
		if twice := canonical(once); !bytes.Equal(once, twice) {
			t.Errorf("not idempotent: %q gives %q gives %q", payload, once, twice)
		}
		if !bytes.Equal(payload, before) {
			t.Errorf("the payload was changed from %q to %q", before, payload)
		}
		if json.Valid(payload) != json.Valid(once) {
			t.Errorf("%q is JSON: %v; %q is: %v", payload, json.Valid(payload), once, json.Valid(once))
		}
		if !json.Valid(payload) && !bytes.Equal(payload, once) {
			t.Errorf("no JSON, yet changed: %q to %q", payload, once)
		}
	})
}
