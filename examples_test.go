package denizen_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// shownElsewhere are methods that fmt, errors, log/slog and encoding/json call.
var shownElsewhere = map[string]bool{
	"String": true, "GoString": true, "Error": true, "Unwrap": true, "LogValue": true, "MarshalJSON": true, "UnmarshalJSON": true,
}

func TestExamples_EveryExportedVerbHasAnExampleThatIsRun(t *testing.T) {
	examples, called := examplesOf(t)
	var missing []string
	for _, f := range exportedVerbs(t) {
		shown := false
		switch receiver := receiverOf(f); receiver {
		case "":
			shown = examples["Example"+f.Name.Name]
		case "Directory":
			shown = examples["ExampleDirectory_"+f.Name.Name]
		default:
			// What a smaller type can do may be shown together.
			shown = shownElsewhere[f.Name.Name] || slices.Contains(called["Example"+receiver], f.Name.Name)
		}
		if !shown {
			missing = append(missing, strings.TrimPrefix(receiverOf(f)+"."+f.Name.Name, "."))
		}
	}
	require.Empty(t, missing, "exported, and without an example")
}

// examplesOf returns the names of the examples that go test runs, and what the examples
// of each type, by the name of the first, call.
func examplesOf(t *testing.T) (examples map[string]bool, called map[string][]string) {
	t.Helper()
	examples, called = map[string]bool{}, map[string][]string{}
	for _, e := range doc.Examples(parsedFiles(t, "*_test.go")...) {
		name := "Example" + e.Name
		require.True(t, e.Output != "" || e.EmptyOutput, "%s has no output to check, so it is not run", name)
		examples[name] = true
		about, _, _ := strings.Cut(name, "_")
		ast.Inspect(e.Code, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				called[about] = append(called[about], s.Sel.Name)
			}
			return true
		})
	}
	require.NotEmpty(t, examples)
	return examples, called
}

// exportedVerbs returns the exported functions of this package and the exported methods of
// its exported types.
func exportedVerbs(t *testing.T) []*ast.FuncDecl {
	t.Helper()
	var verbs []*ast.FuncDecl
	for _, file := range parsedFiles(t, "*.go") {
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if ok && f.Name.IsExported() && (f.Recv == nil || ast.IsExported(receiverOf(f))) {
				verbs = append(verbs, f)
			}
		}
	}
	require.NotEmpty(t, verbs)
	return verbs
}

func receiverOf(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	e := f.Recv.List[0].Type
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	return e.(*ast.Ident).Name
}

// parsedFiles parses the files of this directory that match a pattern: tests if it asks for
// tests, otherwise none.
func parsedFiles(t *testing.T, pattern string) []*ast.File {
	t.Helper()
	names, err := filepath.Glob(pattern)
	require.NoError(t, err)
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") != strings.HasSuffix(pattern, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		require.NoError(t, err)
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ParseComments)
		require.NoError(t, err)
		files = append(files, file)
	}
	return files
}
