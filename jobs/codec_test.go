package jobs_test

import (
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
