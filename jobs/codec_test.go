package jobs_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/perdure/perdure/jobs"
	"pgregory.net/rapid"
)

func TestDigest(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, a, b string
		equal      bool
	}{
		{"members in another order", `{"a":1,"b":[1,{"c":2,"d":3}]}`, `{"b":[1,{"d":3,"c":2}],"a":1}`, true},
		{"white space", `{"a":[1,2]}`, " {\n\t\"a\" : [ 1 , 2 ] } ", true},
		{"1 and 1.0", `1`, `1.0`, true},
		{"1 and 1e0", `{"a":1}`, `{"a":1e0}`, true},
		{"100 and 1E+2", `[100]`, `[1E+2]`, true},
		{"0 and -0.0", `0`, `-0.0`, true},
		{"escapes", `"aé/"`, `"\u0061\u00e9\/"`, true},
		{"HTML characters", `"<&>"`, `"\u003c\u0026\u003e"`, true},
		{"the last of two members counts", `{"a":1,"a":2}`, `{"a":2}`, true},
		{"the first of two does not", `{"a":1,"a":2}`, `{"a":1}`, false},
		{"big integers", `9007199254740993`, `9007199254740992`, false},
		{"big integers that are equal", `9007199254740993`, `9007199254740993.0`, true},
		{"decimals that a float64 cannot tell apart", `0.1`, `0.10000000000000000555`, false},
		{"amounts that a float64 cannot tell apart", `1234567890.12345678901`, `1234567890.12345678902`, false},
		{"numbers beyond a float64", `1e400`, `1e401`, false},
		{"equal numbers beyond a float64", `1e400`, `10e399`, true},
		{"number and text", `1`, `"1"`, false},
		{"null and absent", `{"a":null}`, `{}`, false},
		{"null and false", `null`, `false`, false},
		{"order of elements", `[1,2]`, `[2,1]`, false},
		{"upper and lower case", `{"A":1}`, `{"a":1}`, false},
		{"nesting", `[[1],2]`, `[[1,2]]`, false},
		{"no JSON", "\x00\x01", "\x00\x02", false},
		{"no JSON, white space counts", "x", "x ", false},
		{"trailing bracket", `{}`, `{}]`, false},
		{"trailing brace", `[]`, `[]}`, false},
		{"empty", ``, `null`, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a, b := jobs.Digest("k", []byte(test.a)), jobs.Digest("k", []byte(test.b))
			if (a == b) != test.equal {
				t.Errorf("%s and %s: equal is %v", test.a, test.b, a == b)
			}
			if raw, err := hex.DecodeString(a); err != nil || len(raw) != 32 {
				t.Errorf("%q is not the hex of a SHA-256", a)
			}
			if a == jobs.Digest("l", []byte(test.a)) {
				t.Error("another kind has the same digest")
			}
		})
	}
	if jobs.Digest("ab", []byte("c")) == jobs.Digest("a", []byte("bc")) {
		t.Error("kind and payload run into each other")
	}
}

// TestDigestOfNumbers: two numbers digest alike exactly when their values are equal.
func TestDigestOfNumbers(t *testing.T) {
	t.Parallel()
	number := rapid.StringMatching(`-?(0|[1-9][0-9]{0,3}0{0,3})(\.[0-9]{0,2}0{1,2})?([eE][+-]?[0-2])?`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := number.Draw(t, "a"), number.Draw(t, "b")
		if rapid.Bool().Draw(t, "same value") {
			b = a + "e0"
			if strings.ContainsAny(a, "eE") {
				b = a
			}
		}
		x, okX := new(big.Rat).SetString(a)
		y, okY := new(big.Rat).SetString(b)
		if !okX || !okY {
			t.Fatalf("%s, %s: no numbers", a, b)
		}
		if equal := jobs.Digest("k", []byte(a)) == jobs.Digest("k", []byte(b)); equal != (x.Cmp(y) == 0) {
			t.Fatalf("%s and %s: digests are equal is %v", a, b, equal)
		}
	})
}

// TestDigestOfReorderedMembers writes the same members in any order.
func TestDigestOfReorderedMembers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		members := rapid.MapOf(rapid.String(), rapid.Int64()).Draw(t, "members")
		write := func(names []string) string {
			var parts []string
			for _, name := range names {
				key, _ := json.Marshal(name)
				value, _ := json.Marshal(members[name])
				parts = append(parts, string(key)+": "+string(value))
			}
			return "{" + strings.Join(parts, " ,\n") + "}"
		}
		names := slices.Sorted(maps.Keys(members))
		shuffled := rapid.Permutation(names).Draw(t, "order")
		if a, b := write(names), write(shuffled); jobs.Digest("k", []byte(a)) != jobs.Digest("k", []byte(b)) {
			t.Fatalf("%s and %s differ", a, b)
		}
	})
}

func TestJSONCodec(t *testing.T) {
	t.Parallel()
	data, err := jobs.JSON.Encode(validated{N: 2})
	if err != nil || string(data) != `{"N":2}` {
		t.Fatalf("got %s, %v", data, err)
	}
	var v validated
	if err := jobs.JSON.Decode([]byte(`{"N":3,"later":true}`), &v); err != nil || v.N != 3 {
		t.Errorf("got %+v, %v", v, err)
	}
	if err := jobs.JSON.Decode([]byte(`{"N":3} x`), &v); err == nil {
		t.Error("text after the value is accepted")
	}
}

// TestSealedCodec holds the codec of ExampleCodec to what it promises.
func TestSealedCodec(t *testing.T) {
	t.Parallel()
	open := func(key, digestKey string) *sealed {
		t.Helper()
		codec, err := newSealed([]byte(key), []byte(digestKey))
		if err != nil {
			t.Fatal(err)
		}
		return codec
	}
	codec := open("0123456789abcdef", "d")
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		a, err := codec.Encode(map[string]string{"text": text})
		if err != nil {
			t.Fatal(err)
		}
		b, err := codec.Encode(map[string]string{"text": text})
		if err != nil || bytes.Equal(a, b) {
			t.Fatalf("two encryptions are alike, %v", err)
		}
		var back map[string]string
		if err := codec.Decode(a, &back); err != nil || back["text"] != strings.ToValidUTF8(text, "\ufffd") {
			t.Fatalf("got %q, %v", back, err)
		}
		if len(text) > 4 && bytes.Contains(a, []byte(text)) {
			t.Fatal("the text is stored in clear")
		}
		a[rapid.IntRange(0, len(a)-1).Draw(t, "at")] ^= 1
		if codec.Decode(a, &back) == nil {
			t.Fatal("a changed byte is not noticed")
		}
	})
	data, err := codec.Encode(1)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if open("fedcba9876543210", "d").Decode(data, &n) == nil || codec.Decode(nil, &n) == nil || codec.Decode(data[:12], &n) == nil {
		t.Error("another key or missing data is not noticed")
	}
	if _, err := newSealed([]byte("short"), nil); err == nil {
		t.Error("a key of 5 bytes is accepted")
	}
	digest := func(codec *sealed, kind string, v any) string {
		t.Helper()
		digest, err := codec.Digest(kind, v)
		if err != nil {
			t.Fatal(err)
		}
		return digest
	}
	first := digest(codec, "k", map[string]any{"a": 1, "b": 2})
	if first != digest(codec, "k", json.RawMessage(`{"b": 2.0, "a": 1}`)) {
		t.Error("equal payloads have different digests")
	}
	for name, other := range map[string]string{
		"another payload": digest(codec, "k", map[string]any{"a": 1, "b": 3}),
		"another kind":    digest(codec, "l", map[string]any{"a": 1, "b": 2}),
		"another key":     digest(open("0123456789abcdef", "e"), "k", map[string]any{"a": 1, "b": 2}),
		"no key":          jobs.Digest("k", []byte(`{"a":1,"b":2}`)),
	} {
		if other == first {
			t.Errorf("%s has the same digest", name)
		}
	}
	if _, err := codec.Digest("k", make(chan int)); err == nil {
		t.Error("a channel has a digest")
	}
	if _, err := codec.Encode(make(chan int)); err == nil {
		t.Error("a channel is encoded")
	}
}
