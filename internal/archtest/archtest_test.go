package archtest

import (
	"slices"
	"strings"
	"testing"
)

var rules = map[string]func(*tree) []string{
	"imports go one way":              func(t *tree) []string { return imports(t, mayImport) },
	"files are short":                 lengths,
	"packages say what they are":      packageDocs,
	"nothing panics":                  panics,
	"nothing is left for later":       unfinished,
	"only store runs scripts":         scriptsElsewhere,
	"no test is skipped":              skips,
	"what is exported is documented":  undocumented,
	"scripts say what they take":      luaScripts,
	"the exceptions are still needed": stalePanics,
}

func TestTheTree(t *testing.T) {
	t.Parallel()
	source := load(t)
	for name, rule := range rules {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, violation := range rule(source) {
				t.Error(violation)
			}
		})
	}
}

// A source for each way to break a rule, and what the rule must say about it.
var broken = []struct {
	rule, path, text string
	want             string // "" when the source breaks nothing
}{
	{"imports go one way", "worker/a.go", "package worker\nimport _ \"github.com/perdure/perdure/store\"\n", "worker may not import store"},
	{"imports go one way", "jobs/a.go", "package jobs\nimport _ \"github.com/perdure/perdure\"\n", "jobs may not import ."},
	{"imports go one way", "helpers/a.go", "package helpers\n", "not in the table"},
	{"imports go one way", "worker/a_test.go", "package worker\nimport _ \"github.com/perdure/perdure/store\"\n", ""},
	{"imports go one way", "test/chaos/a.go", "package chaos\nimport _ \"github.com/perdure/perdure/store\"\n", ""},
	{"imports go one way", "worker/a.go", "package worker\nimport _ \"github.com/perdure/perdure-tools/store\"\n", ""},

	{"files are short", "jobs/a.go", "package jobs\n" + strings.Repeat("\n", 600), "601 lines, at most 600"},
	{"files are short", "cmd/perdure/main.go", "package main\n" + strings.Repeat("\n", 60), "61 lines, at most 60"},
	{"files are short", "jobs/a.go", "package jobs\n" + strings.Repeat("\n", 599), ""},
	{"files are short", "jobs/a_test.go", "package jobs\n" + strings.Repeat("\n", 600), ""},

	{"packages say what they are", "jobs/a.go", "package jobs\n", "jobs: no package comment"},
	{"packages say what they are", "jobs/a.go", "// Package jobs is.\npackage jobs\n", ""},

	{"nothing panics", "jobs/a.go", "package jobs\nfunc f() { panic(1) }\n", "jobs/a.go:2"},
	{"nothing panics", "ops/guard.go", "package ops\nfunc f() { panic(1)\npanic(2) }\n", "ops/guard.go:3"},
	{"nothing panics", "ops/a.go", "package ops\nfunc f() { panic(http.ErrAbortHandler) }\n", ""},
	{"nothing panics", "jobs/a.go", "package jobs\n// f does not panic(1).\nfunc f() {}\n", ""},

	{"nothing is left for later", "jobs/a.go", "package jobs // TO" + "DO: more\n", "jobs/a.go:1"},
	{"nothing is left for later", "store/lua/a.lua", "-- FIX" + "ME\n", "store/lua/a.lua:1"},

	{"only store runs scripts", "worker/a.go", "package worker\nfunc f() { rdb.Eval(ctx, s, nil) }\n", "only store runs scripts"},
	{"only store runs scripts", "worker/a_test.go", "package worker\nvar s = redis.NewScript(``)\n", "only store runs scripts"},
	{"only store runs scripts", "store/a.go", "package store\nfunc f() { rdb.EvalSha(ctx, s, nil) }\n", ""},

	{"no test is skipped", "jobs/a_test.go", "package jobs\nfunc f(t T) { t.Skipf(``) }\n", "jobs/a_test.go:2"},
	{"no test is skipped", "jobs/a_test.go", "package jobs\nfunc f(t *rapid.T) { t.Skip(``) }\n", ""},

	{"what is exported is documented", "jobs/a.go", "package jobs\nfunc F() {}\n", "jobs.F has no doc comment"},
	{"what is exported is documented", "jobs/a.go", "package jobs\n// T is.\ntype T[A any] struct{}\nfunc (t *T[A]) M() {}\n", "jobs.M has no doc comment"},
	{"what is exported is documented", "jobs/a.go", "package jobs\ntype T int\n", "T has no doc comment"},
	{"what is exported is documented", "jobs/a.go", "package jobs\n// T is.\ntype T interface{ M() }\n", "T.M has no doc comment"},
	{"what is exported is documented", "worker/a.go", "package worker\n// T is.\ntype T interface{ M() }\n", ""},
	{"what is exported is documented", "jobs/a.go", "package jobs\nconst C = 1\n", "C has no doc comment"},
	{"what is exported is documented", "jobs/a.go", "package jobs\n// States.\nconst (\n\tA = 1\n\tB = 2\n)\ntype t int\nfunc (t) M() {}\n", ""},
	{"what is exported is documented", "internal/cli/a.go", "package cli\nfunc F() {}\n", ""},

	{"scripts say what they take", "store/lua/a.lua", luaHeader + "return redis.call('GET', KEYS[2])\n", "does not name KEYS[2]"},
	{"scripts say what they take", "store/lua/a.lua", luaHeader + "return KEYS[1] .. ARGV[1] .. ARGV[3]\n", "does not name ARGV[3]"},
	{"scripts say what they take", "store/lua/a.lua", luaHeader + "return KEYS[1]\n", "names ARGV[1], which is not used"},
	{"scripts say what they take", "store/lua/a.lua", "-- a: does.\n-- KEYS: none\n-- ARGV: none\nreturn 1\n", "no Returns"},
	{"scripts say what they take", "store/lua/a.lua", "-- a: does.\n-- Returns 1.\nreturn 1\n", "does not mention KEYS"},
	{"scripts say what they take", "store/lua/b.lua", luaHeader + luaBody, "the first line is not"},
	{"scripts say what they take", "store/lua/a.lua", luaHeader + luaBody + "redis.pcall('GET', KEYS[1])\n", "pcall"},
	{"scripts say what they take", "store/lua/a.lua", luaHeader + luaBody + "redis.pcall('HMGET', KEYS[1], 'a')\n", ""},
	{"scripts say what they take", "store/lua/a.lua", luaHeader + luaBody + "f(unpack(g(1, 2)))\n", "unpack without bounds"},
	{"scripts say what they take", "store/lua/a.lua", luaHeader + luaBody + "f(unpack(g(1, 2), 1, 500))\n", ""},
	{"scripts say what they take", "store/lua/a.lua", luaHeader + luaBody + "-- no pcall, no KEYS[7]\n", ""},

	{"the exceptions are still needed", "ops/guard.go", "package ops\n", "correct the list"},
}

const (
	luaHeader = "-- a: does.\n-- KEYS[1] a key   ARGV[1] a value\n-- Returns 1.\n"
	luaBody   = "redis.call('SET', KEYS[1], ARGV[1])\n"
)

func TestEachRuleCanFail(t *testing.T) {
	t.Parallel()
	failed := map[string]bool{}
	for _, c := range broken {
		violations := rules[c.rule](parse(t, map[string]string{c.path: c.text}))
		if c.want == "" {
			if len(violations) > 0 {
				t.Errorf("%s: %q breaks nothing, but: %q", c.rule, c.text, violations)
			}
			continue
		}
		failed[c.rule] = true
		if !slices.ContainsFunc(violations, func(v string) bool { return strings.Contains(v, c.want) }) {
			t.Errorf("%s: %s %q: found %q, want one with %q", c.rule, c.path, c.text, violations, c.want)
		}
	}
	for name := range rules {
		if !failed[name] {
			t.Errorf("no source breaks the rule %q", name)
		}
	}
}
