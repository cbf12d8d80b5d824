package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	maxLines     = 600 // of a Go file that is no test
	maxMainLines = 60  // of a file of a command
)

// mayImport says which packages of this module each of its packages may import.
// Jobs flow down this list; a package that is not in it fails, so that a new one
// is placed deliberately. Tests may import what they like.
var mayImport = map[string][]string{
	"jobs":                  {},
	"jobs/jobstest":         {"jobs"},
	"internal/delivery":     {"jobs"},
	"store":                 {"jobs", "internal/delivery"},
	"dependency":            {"jobs", "internal/delivery"},
	"worker":                {"jobs", "internal/delivery", "dependency"},
	"deadletter":            {"jobs", "internal/delivery", "internal/archive"},
	"scheduler":             {"jobs", "internal/delivery", "deadletter"},
	"audit":                 {"jobs", "internal/delivery", "internal/archive"},
	"scheduler/cron":        {"jobs", "internal/delivery"},
	"jobs/jobstest/onredis": {"jobs", "jobs/jobstest", "store", "worker"},
	"ops":                   {"jobs", "internal/delivery", "store", "deadletter", "worker", "scheduler", "scheduler/cron", "audit"},

	"internal/archive":     {"jobs"},
	"internal/httprequest": {"jobs"},
	"internal/devredis":    {},
	"internal/doctor":      {"jobs"},
	"internal/redistest":   {},
	"internal/fault":       {},
	"internal/archtest":    {},
	"internal/drill":       {"jobs", "store", "audit", "examples/orders", "internal/devredis", "internal/delivery"},
	"internal/history":     {"jobs", "worker", "internal/delivery"},
	"internal/bench":       {"jobs", "store", "worker", "scheduler", "internal/delivery"},
	"internal/cli": {
		"jobs", "store", "worker", "scheduler", "scheduler/cron", "deadletter", "audit", "ops", "examples/orders", "internal/delivery",
		"internal/httprequest", "internal/devredis", "internal/doctor", "internal/drill", "internal/bench", "internal/history",
	},

	".":           {"internal/cli", "internal/doctor", "jobs", "store", "worker", "scheduler", "scheduler/cron", "audit"},
	"cmd/perdure": {"."},

	"examples/orders":            {"jobs"},
	"examples/orders/gen":        {"examples/orders"},
	"examples/orders/cmd/orders": {".", "examples/orders"},
}

// imports finds imports against the direction of the table.
func imports(t *tree, allowed map[string][]string) []string {
	var found []string
	for _, f := range t.production() {
		if f.pkg() == "test" || strings.HasPrefix(f.pkg(), "test/") {
			continue
		}
		may, listed := allowed[f.pkg()]
		if !listed {
			found = append(found, f.path+": its package is not in the table of imports: say what it may import")
			continue
		}
		for _, spec := range f.syntax.Imports {
			name, _ := strconv.Unquote(spec.Path.Value)
			ours := strings.TrimPrefix(strings.TrimPrefix(name, module), "/")
			if name != module && !strings.HasPrefix(name, module+"/") {
				continue
			}
			if ours == "" {
				ours = "."
			}
			if !slices.Contains(may, ours) {
				found = append(found, fmt.Sprintf("%s:%d: %s may not import %s", f.path, t.line(spec), f.pkg(), ours))
			}
		}
	}
	return found
}

// lengths finds files that are too long.
func lengths(t *tree) []string {
	var found []string
	for _, f := range t.production() {
		most := maxLines
		if strings.HasPrefix(f.path, "cmd/") || strings.Contains(f.path, "/cmd/") {
			most = maxMainLines
		}
		if n := strings.Count(f.text, "\n"); n > most {
			found = append(found, fmt.Sprintf("%s: %d lines, at most %d", f.path, n, most))
		}
	}
	return found
}

// packageDocs finds packages that do not say what they are.
func packageDocs(t *tree) []string {
	documented := map[string]bool{}
	for _, f := range t.production() {
		documented[f.pkg()] = documented[f.pkg()] || f.syntax.Doc.Text() != ""
	}
	var found []string
	for pkg, ok := range documented {
		if !ok {
			found = append(found, pkg+": no package comment")
		}
	}
	slices.Sort(found)
	return found
}

// mayPanic says how often a file may call panic, and why.
var mayPanic = map[string]struct {
	times int
	why   string
}{
	"ops/guard.go": {1, "passes on http.ErrAbortHandler, which it has recovered"},
}

// panics finds calls of panic: input and Redis' answers must never be able to end
// a process. With http.ErrAbortHandler it is how a handler of net/http cuts an
// answer short, and ends nothing else.
func panics(t *tree) []string {
	var found []string
	for _, f := range t.production() {
		for i, call := range calls(f, "panic") {
			if i >= mayPanic[f.path].times {
				found = append(found, fmt.Sprintf("%s:%d: panic: return an error", f.path, t.line(call)))
			}
		}
	}
	return found
}

// stalePanics finds files that may panic more often than they do.
func stalePanics(t *tree) []string {
	times := map[string]int{}
	for _, f := range t.production() {
		times[f.path] = len(calls(f, "panic"))
	}
	var found []string
	for name, may := range mayPanic {
		if times[name] < may.times {
			found = append(found, fmt.Sprintf("%s panics %d times and may %d times: correct the list", name, times[name], may.times))
		}
	}
	return found
}

// calls returns the calls of a builtin, without those that abort an HTTP answer.
func calls(f *file, builtin string) []*ast.CallExpr {
	var found []*ast.CallExpr
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if name, ok := call.Fun.(*ast.Ident); ok && name.Name == builtin && !abortsAnswer(call) {
			found = append(found, call)
		}
		return true
	})
	return found
}

func abortsAnswer(call *ast.CallExpr) bool {
	if len(call.Args) != 1 {
		return false
	}
	value, ok := call.Args[0].(*ast.SelectorExpr)
	if !ok || value.Sel.Name != "ErrAbortHandler" {
		return false
	}
	from, ok := value.X.(*ast.Ident)
	return ok && from.Name == "http"
}

// The words are put together here so that this file does not contain them.
var unfinishedWord = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)

// unfinished finds notes to do something later: do it, or write it where users
// read it.
func unfinished(t *tree) []string {
	var found []string
	for _, f := range t.files {
		for i, line := range strings.Split(f.text, "\n") {
			if word := unfinishedWord.FindString(line); word != "" {
				found = append(found, fmt.Sprintf("%s:%d: %s", f.path, i+1, word))
			}
		}
	}
	return found
}

// scriptCalls are the ways of go-redis to send a script.
var scriptCalls = []string{"Eval", "EvalSha", "EvalRO", "EvalShaRO", "NewScript", "ScriptLoad"}

// scriptsElsewhere finds scripts that are sent by other packages than store, whose
// tests hold each script to its header. Tests of others may not either: they would
// know keys that are store's.
func scriptsElsewhere(t *tree) []string {
	var found []string
	for _, f := range t.files {
		if f.syntax == nil || f.pkg() == "store" {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if s, ok := call.Fun.(*ast.SelectorExpr); ok && slices.Contains(scriptCalls, s.Sel.Name) {
				found = append(found, fmt.Sprintf("%s:%d: %s: only store runs scripts", f.path, t.line(call), s.Sel.Name))
			}
			return true
		})
	}
	return found
}

// skips finds tests that can be skipped: one that does not run looks like one that
// passed. rapid's Skip is another thing, the refusal of one action or draw, so that
// a function with a *rapid.T may call it.
func skips(t *tree) []string {
	var found []string
	for _, f := range t.files {
		if f.syntax == nil || !f.isTest() {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				return !takesRapid(n.Type)
			case *ast.FuncLit:
				return !takesRapid(n.Type)
			case *ast.CallExpr:
				if s, ok := n.Fun.(*ast.SelectorExpr); ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, s.Sel.Name) {
					found = append(found, fmt.Sprintf("%s:%d: %s: a test runs or fails", f.path, t.line(n), s.Sel.Name))
				}
			}
			return true
		})
	}
	return found
}

func takesRapid(f *ast.FuncType) bool {
	return slices.ContainsFunc(f.Params.List, func(field *ast.Field) bool {
		star, ok := field.Type.(*ast.StarExpr)
		if !ok {
			return false
		}
		name, ok := star.X.(*ast.SelectorExpr)
		if !ok || name.Sel.Name != "T" {
			return false
		}
		from, ok := name.X.(*ast.Ident)
		return ok && from.Name == "rapid"
	})
}

// undocumented finds exported identifiers that others can import and that have no
// doc comment: functions, methods, types, constants and variables; and the methods
// of interfaces in the packages that applications use. Elsewhere an interface is
// what a package needs of store, which documents the methods.
func undocumented(t *tree) []string {
	var found []string
	for _, f := range t.production() {
		if slices.Contains(strings.Split(f.pkg(), "/"), "internal") || f.syntax.Name.Name == "main" {
			continue
		}
		report := func(n ast.Node, name string) {
			found = append(found, fmt.Sprintf("%s:%d: %s has no doc comment", f.path, t.line(n), name))
		}
		for _, decl := range f.syntax.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiver(d))) && d.Doc.Text() == "" {
					report(d, path.Base(f.pkg())+"."+d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					undocumentedSpec(d, spec, f.pkg() == "." || f.pkg() == "jobs", report)
				}
			}
		}
	}
	return found
}

func undocumentedSpec(d *ast.GenDecl, spec ast.Spec, contract bool, report func(ast.Node, string)) {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if !s.Name.IsExported() {
			return
		}
		if s.Doc.Text() == "" && (d.Lparen != token.NoPos || d.Doc.Text() == "") {
			report(s, s.Name.Name)
		}
		if i, ok := s.Type.(*ast.InterfaceType); ok && contract {
			for _, m := range i.Methods.List {
				if len(m.Names) == 1 && m.Names[0].IsExported() && m.Doc.Text() == "" && m.Comment.Text() == "" {
					report(m, s.Name.Name+"."+m.Names[0].Name)
				}
			}
		}
	case *ast.ValueSpec:
		// A group may have one comment for all of it.
		for _, name := range s.Names {
			if name.IsExported() && s.Doc.Text() == "" && s.Comment.Text() == "" && d.Doc.Text() == "" {
				report(s, name.Name)
			}
		}
	}
}

// receiver is the name of the type that a method belongs to.
func receiver(d *ast.FuncDecl) string {
	expr := d.Recv.List[0].Type
	for {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.IndexListExpr:
			expr = e.X
		case *ast.Ident:
			return e.Name
		default:
			return ""
		}
	}
}
