package archtest

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
)

var (
	argument   = regexp.MustCompile(`\b(KEYS|ARGV)\[(\d+)\]`)
	dynamic    = regexp.MustCompile(`#(KEYS|ARGV)\b|\b(KEYS|ARGV)\[[^\]\d]`)
	luaComment = regexp.MustCompile(`--.*`)
	luaPcall   = regexp.MustCompile(`\bx?pcall\b`)
	luaLook    = regexp.MustCompile(`\bredis\.pcall\('HMGET'`) // of a key that may be no hash
	luaUnpack  = regexp.MustCompile(`\bunpack\s*\(`)
)

// luaScripts holds store/lua to its form. A script starts with a comment that
// names the script, each KEYS[n] and ARGV[n] that it uses, and what it returns. It
// has no pcall but for looks, because it would let a failed write pass for a done one, and no unpack
// without bounds, which fails at some thousand values.
func luaScripts(t *tree) []string {
	var found []string
	for _, f := range t.files {
		if path.Ext(f.path) != ".lua" {
			continue
		}
		report := func(format string, args ...any) {
			found = append(found, f.path+": "+fmt.Sprintf(format, args...))
		}
		header, body := splitLua(f.text)
		name := strings.TrimSuffix(path.Base(f.path), ".lua")
		if !strings.HasPrefix(header, "-- "+name+": ") {
			report("the first line is not %q and what the script does", "-- "+name+": ")
		}
		if !strings.Contains(header, "-- Returns ") {
			report("the header has no Returns")
		}
		named, used := arguments(header), arguments(body)
		for _, table := range []string{"KEYS", "ARGV"} {
			if !strings.Contains(header, table) {
				report("the header does not mention %s; say none where there are none", table)
			}
			for n := 1; n <= highest(used, table); n++ {
				if !named[key(table, n)] {
					report("the header does not name %s", key(table, n))
				}
			}
			// What is named and not used is an old header, unless a loop uses it.
			if n := highest(named, table); n > highest(used, table) && !dynamic.MatchString(body) {
				report("the header names %s, which is not used", key(table, n))
			}
		}
		if luaPcall.MatchString(luaLook.ReplaceAllString(body, "")) {
			report("pcall: a failed write must end the script")
		}
		for _, at := range luaUnpack.FindAllStringIndex(body, -1) {
			if commas(body[at[1]:]) < 2 {
				report("unpack without bounds: unpack(t, first, last)")
			}
		}
	}
	return found
}

// splitLua parts the comment at the start from the script, and takes all other
// comments out.
func splitLua(text string) (header, body string) {
	lines := strings.SplitAfter(text, "\n")
	n := 0
	for n < len(lines) && strings.HasPrefix(lines[n], "--") {
		n++
	}
	return strings.Join(lines[:n], ""), luaComment.ReplaceAllString(strings.Join(lines[n:], ""), "")
}

func key(table string, n int) string { return fmt.Sprintf("%s[%d]", table, n) }

func arguments(text string) map[string]bool {
	found := map[string]bool{}
	for _, match := range argument.FindAllString(text, -1) {
		found[match] = true
	}
	return found
}

func highest(arguments map[string]bool, table string) int {
	most := 0
	for name := range arguments {
		if parts := argument.FindStringSubmatch(name); parts[1] == table {
			n, _ := strconv.Atoi(parts[2])
			most = max(most, n)
		}
	}
	return most
}

// commas counts the commas of an argument list, up to the parenthesis that ends it.
func commas(text string) int {
	depth, n := 0, 0
	for _, c := range text {
		switch c {
		case '(', '{', '[':
			depth++
		case ')', '}', ']':
			if depth == 0 {
				return n
			}
			depth--
		case ',':
			if depth == 0 {
				n++
			}
		}
	}
	return n
}
