package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/perdure/perdure"

// tree is the source of a module: every Go and Lua file, by its path from the
// module's root.
type tree struct {
	fset  *token.FileSet
	files []*file
}

type file struct {
	path   string
	text   string
	syntax *ast.File // nil for Lua
}

// pkg is the path of the package from the module's root; "." is the root package.
func (f *file) pkg() string { return path.Dir(f.path) }

func (f *file) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

// production returns the Go files that are no tests.
func (t *tree) production() []*file {
	var found []*file
	for _, f := range t.files {
		if f.syntax != nil && !f.isTest() {
			found = append(found, f)
		}
	}
	return found
}

func (t *tree) line(n ast.Node) int { return t.fset.Position(n.Pos()).Line }

// parse makes a tree of sources in memory.
func parse(tb testing.TB, sources map[string]string) *tree {
	tb.Helper()
	t := &tree{fset: token.NewFileSet()}
	for name, text := range sources {
		f := &file{path: name, text: text}
		if strings.HasSuffix(name, ".go") {
			var err error
			if f.syntax, err = parser.ParseFile(t.fset, name, text, parser.ParseComments|parser.SkipObjectResolution); err != nil {
				tb.Fatal(err)
			}
		}
		t.files = append(t.files, f)
	}
	slices.SortFunc(t.files, func(a, b *file) int { return strings.Compare(a.path, b.path) })
	return t
}

// load makes a tree of the module that this package belongs to.
func load(tb testing.TB) *tree {
	tb.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		tb.Fatal(err)
	}
	sources := map[string]string{}
	err = filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" || entry.Name() == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if ext := filepath.Ext(name); ext != ".go" && ext != ".lua" {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		sources[filepath.ToSlash(relative)] = string(text)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	if len(sources) < 50 {
		tb.Fatalf("found %d files under %s: that is not the whole tree", len(sources), root)
	}
	return parse(tb, sources)
}
