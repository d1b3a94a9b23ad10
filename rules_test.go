package denizen_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is written, and on which conditions, is decided through internal/txn alone: it makes what
// was read for a write a condition of the write, and keeps right what is remembered.
func TestRules_TheDirectoryBuildsNoBatchAndNoCondition(t *testing.T) {
	_, files := parsed(t, ".")
	through := 0
	for name, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			switch source(sel) {
			case "store.Batch", "store.Cond":
				require.Fail(t, "built outside internal/txn", "%s names %s", name, source(sel))
			case "d.records.Write":
				through++
			}
			require.NotContains(t, []string{"Commit", "Load"}, storeMethod(sel), "%s writes to a store", name)
			return true
		})
		ast.Inspect(f, func(n ast.Node) bool {
			if lit, ok := n.(*ast.CompositeLit); ok && lit.Type != nil && len(lit.Elts) > 0 {
				require.NotEqual(t, "store.Record", source(lit.Type), "%s makes a stored record", name)
			}
			return true
		})
	}
	require.Equal(t, 2, through, "of calls and of what is done in the background")
}

// storeMethod returns which method of a store a selector is, as far as its name tells.
func storeMethod(sel *ast.SelectorExpr) string {
	if sel.Sel.Name == "Load" && source(sel.X) != "d.store" && source(sel.X) != "s" {
		return "" // of an atomic
	}
	return sel.Sel.Name
}

// The core calls back in one place: for the decision that a write is about.
func TestRules_TheOnlyWayBackFromTheCoreIsDecide(t *testing.T) {
	for dir, want := range map[string][]string{
		"internal/txn":       {"Write decide"},
		"internal/heartbeat": nil,
	} {
		_, files := parsed(t, dir)
		var back []string
		for _, f := range files {
			for _, decl := range f.Decls {
				fn, ok := decl.(*ast.FuncDecl)
				if !ok || !fn.Name.IsExported() {
					continue
				}
				for _, p := range fn.Type.Params.List {
					if _, ok := p.Type.(*ast.FuncType); ok {
						back = append(back, fn.Name.Name+" "+p.Names[0].Name)
					}
				}
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if s, ok := n.(*ast.StructType); ok {
					for _, field := range s.Fields.List {
						require.NotEqual(t, "*ast.FuncType", source(field.Type), "%s keeps a function", dir)
					}
				}
				_, ok := n.(*ast.InterfaceType)
				require.False(t, ok, "%s asks for an interface of its own", dir)
				return true
			})
		}
		require.Equal(t, want, back, dir)
	}
}

// What is remembered is shared by all who read it, so nobody outside the core can change it.
func TestRules_NobodyOutsideTheCoreChangesWhatItRemembers(t *testing.T) {
	_, files := parsed(t, "internal/txn")
	shared := []string{"DB", "Entry", "Freshness", "Seen", "Tx"}
	found := 0
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || !slices.Contains(shared, spec.Name.Name) {
				return true
			}
			found++
			for _, field := range spec.Type.(*ast.StructType).Fields.List {
				require.NotEmpty(t, field.Names, "%s embeds something", spec.Name.Name)
				for _, name := range field.Names {
					require.False(t, name.IsExported(), "%s.%s can be set by anybody", spec.Name.Name, name.Name)
				}
			}
			return true
		})
	}
	require.Equal(t, len(shared), found)
}

const module = "github.com/denizenhq/denizen"

// parsed is the Go files of a directory by their names, without those of tests.
func parsed(t testing.TB, dir string) (*token.FileSet, map[string]*ast.File) {
	t.Helper()
	set := token.NewFileSet()
	files := map[string]*ast.File{}
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		require.NoError(t, err)
		files[filepath.Base(name)] = f
	}
	require.NotEmpty(t, files)
	return set, files
}

// closures are the methods that only return a function which goes through other methods or
// functions that enter, by the names of these.
var closures = map[string]string{
	"AllUsers":      "Users",
	"CheckLocators": "locatorChanges",
	"RekeyLocators": "locatorChanges",
	"Events":        "events",
	"Follow":        "events",
	"WatchPresence": "watch",
}

func TestRules_EveryMethodWithAPrincipalEntersFirst(t *testing.T) {
	_, files := parsed(t, ".")
	functions := map[string]*ast.FuncDecl{}
	for _, f := range files {
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok {
				functions[fn.Name.Name] = fn
			}
		}
	}
	entered := 0
	for _, f := range files {
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || !fn.Name.IsExported() || !takesPrincipal(fn) {
				continue
			}
			name := fn.Name.Name
			require.Equal(t, "Directory", receiver(fn), "%s takes a principal", name)
			if inner, listed := closures[name]; listed {
				require.Len(t, fn.Body.List, 1, "%s does more than answering a function", name)
				answered, ok := fn.Body.List[0].(*ast.ReturnStmt)
				require.True(t, ok, name)
				require.IsType(t, &ast.FuncLit{}, answered.Results[0], name)
				require.True(t, calls(answered, inner), "%s does not call %s", name, inner)
				require.True(t, slices.ContainsFunc(answered.Results[0].(*ast.FuncLit).Body.List, func(s ast.Stmt) bool {
					return tracedAs(s) == name
				}), "%s is not traced", name)
				if !ast.IsExported(inner) {
					require.True(t, enters(functions[inner].Body.List[0]), "%s does not enter first", inner)
				}
				entered++
				continue
			}
			require.Equal(t, name, tracedAs(fn.Body.List[0]), "%s does not begin with defer d.trace", name)
			first := slices.IndexFunc(fn.Body.List[1:], func(s ast.Stmt) bool { return !declares(s) })
			require.True(t, enters(fn.Body.List[1+first]), "%s does not enter first", name)
			entered++
		}
	}
	require.Equal(t, len(methods), entered)
	require.True(t, calls(functions["readAll"].Body, "enter"))
}

// tracedAs returns the name in a statement such as
//
//	defer d.trace(&ctx, "User", &by).end(&err)
//
// and "" for any other.
func tracedAs(s ast.Stmt) string {
	deferred, ok := s.(*ast.DeferStmt)
	if !ok || len(deferred.Call.Args) != 1 || source(deferred.Call.Args[0]) != "&err" {
		return ""
	}
	end, ok := deferred.Call.Fun.(*ast.SelectorExpr)
	if !ok || end.Sel.Name != "end" {
		return ""
	}
	begin, ok := end.X.(*ast.CallExpr)
	if !ok || source(begin.Fun) != "d.trace" || source(begin.Args[0]) != "&ctx" || source(begin.Args[2]) != "&by" {
		return ""
	}
	name, _ := strconv.Unquote(source(begin.Args[1]))
	return name
}

func takesPrincipal(fn *ast.FuncDecl) bool {
	return slices.ContainsFunc(fn.Type.Params.List, func(p *ast.Field) bool { return source(p.Type) == "Principal" })
}

func receiver(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return ""
	}
	return strings.TrimPrefix(source(fn.Recv.List[0].Type), "*")
}

// declares reports whether a statement only declares variables, which are given no values.
func declares(s ast.Stmt) bool {
	d, ok := s.(*ast.DeclStmt)
	return ok && !slices.ContainsFunc(d.Decl.(*ast.GenDecl).Specs, func(s ast.Spec) bool {
		v, ok := s.(*ast.ValueSpec)
		return !ok || len(v.Values) > 0
	})
}

// enters reports whether a statement is an assignment from d.enter or d.readAll.
func enters(s ast.Stmt) bool {
	a, ok := s.(*ast.AssignStmt)
	if !ok || len(a.Rhs) != 1 {
		return false
	}
	call, ok := a.Rhs[0].(*ast.CallExpr)
	return ok && (source(call.Fun) == "d.enter" || source(call.Fun) == "d.readAll")
}

// calls reports whether a method of the name is called somewhere in n.
func calls(n ast.Node, name string) (found bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			found = found || source(call.Fun) == "d."+name
		}
		return true
	})
	return found
}

// source spells a simple expression.
func source(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.BasicLit:
		return e.Value
	case *ast.SelectorExpr:
		return source(e.X) + "." + e.Sel.Name
	case *ast.StarExpr:
		return "*" + source(e.X)
	case *ast.UnaryExpr:
		return e.Op.String() + source(e.X)
	}
	return fmt.Sprintf("%T", e)
}

// principalsToldApart is where the kind of a principal is looked at outside access.go,
// identity.go and where principals are made, and why.
var principalsToldApart = map[string]string{
	"write.go callerKeys":        "which records a caller rests on follows from what it is",
	"write.go checkCallerCached": "the same, for records that are remembered",
	"write.go checkCallerSeen":   "the same, for a presence that was seen",
	"write.go queue":             "so does for whom there is room in a full queue",
	"events.go metered":          "which events a user causes by itself follows from what it is",
}

func TestRules_NothingElseTellsPrincipalsApart(t *testing.T) {
	_, files := parsed(t, ".")
	found := map[string]bool{}
	for name, f := range files {
		if name == "access.go" || name == "identity.go" {
			continue
		}
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			where := name + " " + fn.Name.Name
			ast.Inspect(fn, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.SelectorExpr:
					if n.Sel.Name == "IsSystem" || n.Sel.Name == "IsAnonymous" || n.Sel.Name == "IsUser" || last(n, "by") == "kind" {
						require.Contains(t, principalsToldApart, where)
						found[where] = true
					}
				case *ast.Ident:
					_, made := principalsMade[where]
					if n.Name == "kindSystem" && !made || n.Name == "kindAnonymous" || n.Name == "kindUser" {
						require.Contains(t, principalsToldApart, where)
					}
				case *ast.BinaryExpr:
					if n.Op == token.EQL || n.Op == token.NEQ {
						for _, side := range []string{source(n.X), source(n.Y)} {
							require.False(t, side == "by" || strings.HasSuffix(side, ".by"), "%s compares principals", where)
						}
					}
				}
				return true
			})
		}
	}
	require.Len(t, found, len(principalsToldApart), "the list names what is not there any more")
}

// principalsMade is where principals are made, and from what.
var principalsMade = map[string]string{
	"identity.go System":           "the program itself",
	"identity.go Named":            "nothing that may do anything",
	"identity.go Authenticate":     "a record under the digest of a token's text",
	"identity.go ActAs":            "a user's record, for .system",
	"keys.go AuthenticateKey":      "a proven access key",
	"signed.go AuthenticateSigned": "a proven access key",
}

func TestRules_PrincipalsAreMadeInFewPlaces(t *testing.T) {
	_, files := parsed(t, ".")
	made := map[string]bool{}
	for name, f := range files {
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CompositeLit:
					if n.Type != nil && source(n.Type) == "Principal" && len(n.Elts) > 0 {
						where := name + " " + fn.Name.Name
						require.Contains(t, principalsMade, where)
						made[where] = true
					}
				case *ast.AssignStmt:
					for _, left := range n.Lhs {
						require.NotContains(t, []string{"kind", "incarnation", "keyIncarnation"}, last(left, "by"), "%s changes a principal", fn.Name.Name)
					}
				}
				return true
			})
		}
	}
	require.Len(t, made, len(principalsMade))
}

// last returns the field that is selected of a variable, or "".
func last(e ast.Expr, of string) string {
	if s, ok := e.(*ast.SelectorExpr); ok && (source(s.X) == of || strings.HasSuffix(source(s.X), "."+of)) {
		return s.Sel.Name
	}
	return ""
}

func TestRules_EveryOperationHasANameAndARow(t *testing.T) {
	_, files := parsed(t, ".")
	var ops []string
	rows := map[string]bool{}
	ast.Inspect(files["access.go"], func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			for _, name := range n.Names {
				if strings.HasPrefix(name.Name, "op") {
					ops = append(ops, name.Name)
				}
				if name.Name == "access" {
					for _, row := range n.Values[0].(*ast.CompositeLit).Elts {
						rows[source(row.(*ast.KeyValueExpr).Key)] = true
					}
				}
			}
		}
		return true
	})
	require.Len(t, ops, len(specified))
	for _, op := range ops {
		require.True(t, rows[op], "%s has no row", op)
	}
	for _, row := range specified {
		require.NotEmpty(t, row.Name)
	}
}

// clocksRead is where the time is read, besides internal/clock, and why.
var clocksRead = map[string]string{
	"signing.go Verify": "it has no directory",
}

func TestRules_TheClockIsReadInOnePlace(t *testing.T) {
	found := map[string]bool{}
	for _, p := range packages(t) {
		rel := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		if rel == "internal/clock" || !(rel == "" || strings.HasPrefix(rel, "internal/")) || len(p.GoFiles) == 0 {
			continue
		}
		_, files := parsed(t, p.Dir)
		for name, f := range files {
			for _, decl := range f.Decls {
				ast.Inspect(decl, func(n ast.Node) bool {
					s, ok := n.(*ast.SelectorExpr)
					if !ok || !slices.Contains([]string{"time.Now", "time.Since", "time.Until"}, source(s)) {
						return true
					}
					fn, ok := decl.(*ast.FuncDecl)
					require.True(t, ok, "%s reads the clock in a variable", name)
					where := path.Join(rel, name) + " " + fn.Name.Name
					require.Contains(t, clocksRead, where)
					found[where] = true
					return true
				})
			}
		}
	}
	require.Len(t, found, len(clocksRead), "the list names what is not there any more")
}

// listed is a package as the go command lists it.
type listed struct {
	ImportPath, Dir                                   string
	Standard                                          bool
	GoFiles, Imports, Deps, TestGoFiles, XTestGoFiles []string
	Error                                             *struct{ Err string }
}

// packages lists the packages of this module.
func packages(t testing.TB) []listed {
	t.Helper()
	return list(t, "./...")
}

func list(t testing.TB, args ...string) []listed {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list", "-json"}, args...)...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("%v: %s", err, exit.Stderr)
	}
	require.NoError(t, err)
	var found []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p listed
		require.NoError(t, dec.Decode(&p))
		require.Nil(t, p.Error)
		found = append(found, p)
	}
	require.NotEmpty(t, found)
	return found
}

// within reports whether an import path is a package of this module or is below it.
func within(importPath, dir string) bool {
	p := path.Join(module, dir)
	return importPath == p || strings.HasPrefix(importPath, p+"/")
}

// mayImport returns the packages of this module that one of them may import, each with what
// is below it if it ends in a slash; false if the rules do not know it.
func mayImport(dir string) (allowed []string, known bool) {
	rules := []struct {
		dir     string
		imports []string
	}{
		{"examples", []string{
			"", "httpadapter", "signin", "adminui", "opsocket", "denizentest", "transfer", "locator/", "store/",
		}},
		{"adminui", []string{""}},
		{"cmd/denizen", []string{
			"", "internal/ops", "internal/salvage", "transfer", "verify", "locator/", "store", "store/bolt",
			"store/postgres",
		}},
		{"opsocket", []string{"", "internal/door", "internal/ops", "internal/peer"}},
		{"internal/ops", []string{"", "internal/door", "internal/peer", "internal/record", "store", "verify"}},
		{"internal/peer", nil},
		{"transfer", []string{"", "internal/door", "internal/record", "store"}},
		{"verify", []string{"", "internal/door", "internal/record", "store"}},
		{"webhook", []string{"", "internal/door", "internal/wire"}},
		{"internal/door", []string{"internal/record", "store"}},
		{"httpadapter", []string{"", "internal/wire"}},
		{"signin", []string{"", "httpadapter", "internal/door", "internal/wire", "store"}},
		{"internal/wire", []string{""}},
		{"locator/username", []string{""}},
		{"locator/external", []string{""}},
		{"denizentest", []string{"", "store", "store/memory"}},
		{"store/postgres", []string{"store", "store/internal/group", "internal/record"}},
		{"store/internal/group", []string{"store"}},
		{"store/storetest", []string{"store"}},
		{"store/memory", []string{"store", "store/internal/group"}},
		{"store/bolt", []string{"store", "store/internal/group"}},
		{"store", nil},
		{"internal/clock", nil},
		{"internal/locator", nil},
		{"internal/token", nil},
		{"internal/presence", nil},
		{"internal/record", []string{"store", "internal/presence"}},
		{"internal/heartbeat", []string{"internal/presence", "internal/record"}},
		{"internal/watch", []string{"internal/presence"}},
		{"internal/txn", []string{"store", "internal/record", "internal/presence", "internal/heartbeat"}},
		{"internal/census", []string{"store", "internal/record"}},
		{"internal/trim", []string{"store", "internal/record", "internal/txn"}},
		{"internal/salvage", []string{"store", "store/bolt", "internal/record"}},
		{"internal/spec", nil},
		{"internal/long", nil},
		{"internal/invariant", []string{"", "internal/record", "store"}},
		{"", []string{"internal/", "store", "store/bolt"}},
	}
	for _, r := range rules {
		if dir == r.dir || r.dir == "examples" && strings.HasPrefix(dir, "examples/") {
			return r.imports, true
		}
	}
	return nil, false
}

func TestRules_ArrowsOnlyPointDown(t *testing.T) {
	for _, p := range packages(t) {
		dir := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		allowed, known := mayImport(dir)
		require.True(t, known, "no rule says what %q may import", dir)
		for _, i := range p.Imports {
			if !within(i, "") {
				continue
			}
			imported := strings.TrimPrefix(strings.TrimPrefix(i, module), "/")
			ok := slices.ContainsFunc(allowed, func(a string) bool {
				return imported == a || strings.HasSuffix(a, "/") && strings.HasPrefix(imported, a)
			})
			require.True(t, ok, "%q imports %q", dir, imported)
		}
	}
}

// onlyIn is the packages, of others, that few packages of this module import, in their own
// code and directly.
var onlyIn = map[string][]string{
	"github.com/nyaruka/phonenumbers": {"internal/locator"},
	"golang.org/x/text/secure":        {"locator/username"},
	"github.com/stretchr/testify":     {"store/storetest", "internal/invariant"},
	"pgregory.net/rapid":              {},
	"go.uber.org/goleak":              {},
	"github.com/golang-jwt/jwt":       {},
	"go.etcd.io/bbolt":                {"store/bolt"},
	"github.com/jackc/pgx":            {"store/postgres", "cmd/denizen", "examples/cluster", "examples/import"},
	"github.com/getkin/kin-openapi":   {},
	"testing":                         {"store/storetest", "denizentest", "internal/invariant", "internal/long"},
	"net/http":                        {"internal/ops", "opsocket", "httpadapter", "signin", "webhook", "adminui", "examples/board", "examples/console", "examples/quickstart", "examples/server", "examples/cluster"},
}

func TestRules_HeavyPackagesAreImportedInOnePlace(t *testing.T) {
	for _, p := range packages(t) {
		dir := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		for _, i := range p.Imports {
			for heavy, places := range onlyIn {
				if i == heavy || strings.HasPrefix(i, heavy+"/") {
					require.Contains(t, places, dir, "%q imports %s", dir, i)
				}
			}
		}
	}
}

func TestRules_PurePackagesStayPure(t *testing.T) {
	for dir, impure := range map[string][]string{
		"internal/token":     {"time", "context", module + "/store"},
		"internal/presence":  {"time", "context", module + "/store", "sync"},
		"internal/heartbeat": {"time", "context", module + "/store"},
		"internal/locator":   {"time", "context", "net"},
		"internal/record":    {"time", "context"},
	} {
		for _, p := range list(t, "./"+dir) {
			for _, i := range impure {
				require.NotContains(t, p.Imports, i, "%s", dir)
			}
		}
	}
}

func TestRules_TheStoreContractNeedsTheStandardLibraryOnly(t *testing.T) {
	for _, p := range list(t, "-deps", "./store") {
		require.True(t, p.Standard || p.ImportPath == module+"/store", "store depends on %s", p.ImportPath)
	}
}

// What an importer of the package gets with it, other code's imports included.
func TestRules_TheDirectoryBringsNeitherServersNorTests(t *testing.T) {
	var all []string
	for _, p := range list(t, "-deps", ".") {
		all = append(all, p.ImportPath)
	}
	for _, heavy := range []string{
		"net/http", "testing", "crypto/tls", "crypto/x509", "database/sql", "html/template", "os/exec", "plugin", "expvar",
		"golang.org/x/text/secure/precis", module + "/locator/username", module + "/locator/external",
		"github.com/stretchr/testify/require", module + "/store/memory", module + "/store/storetest", module + "/httpadapter",
		module + "/opsocket", module + "/internal/ops", module + "/internal/peer", module + "/verify", module + "/transfer",
	} {
		require.NotContains(t, all, heavy)
	}
}

// Its tables cost each start of a program milliseconds and megabytes, whether or not it meets a
// telephone number.
func TestRules_WithoutTelephoneNumbersTheirLibraryIsLeftOut(t *testing.T) {
	library := func(args ...string) (found bool) {
		for _, p := range list(t, append(args, "-deps", ".")...) {
			found = found || p.ImportPath == "github.com/nyaruka/phonenumbers"
		}
		return found
	}
	require.True(t, library())
	require.False(t, library("-tags", "denizen_notele"))
}

func TestRules_EverythingExportedIsDocumented(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) == 0 {
			continue
		}
		set := token.NewFileSet()
		var files []*ast.File
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, parser.ParseComments)
			require.NoError(t, err)
			files = append(files, f)
		}
		d, err := doc.NewFromFiles(set, files, p.ImportPath)
		require.NoError(t, err)
		if strings.TrimSpace(d.Doc) == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
		if d.Name == "main" {
			continue
		}
		undocumented := func(kind, name, comment string) {
			t.Helper()
			if token.IsExported(name[strings.LastIndex(name, ".")+1:]) && strings.TrimSpace(comment) == "" {
				t.Errorf("%s: %s %s has no comment", p.ImportPath, kind, name)
			}
		}
		functions := func(of string, list []*doc.Func) {
			t.Helper()
			for _, f := range list {
				undocumented("func", of+f.Name, f.Doc)
			}
		}
		values := func(list []*doc.Value) {
			t.Helper()
			for _, v := range list {
				for _, spec := range v.Decl.Specs {
					s := spec.(*ast.ValueSpec)
					for _, name := range s.Names {
						undocumented("value", name.Name, v.Doc+s.Doc.Text()+s.Comment.Text())
					}
				}
			}
		}
		functions("", d.Funcs)
		values(d.Consts)
		values(d.Vars)
		for _, typ := range d.Types {
			undocumented("type", typ.Name, typ.Doc)
			functions("", typ.Funcs)
			functions(typ.Name+".", typ.Methods)
			values(typ.Consts)
			values(typ.Vars)
		}
	}
}

func TestRules_NothingIsLeftToDo(t *testing.T) {
	marks := []string{"TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK:"}
	files := 0
	require.NoError(t, filepath.WalkDir(".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			if name != "." && (strings.HasPrefix(e.Name(), ".") || e.Name() == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if !slices.Contains([]string{".go", ".md", ".sql", ".sh"}, filepath.Ext(name)) {
			return nil
		}
		files++
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for _, mark := range marks {
			if bytes.Contains(text, []byte(mark)) {
				t.Errorf("%s says %s", name, mark)
			}
		}
		return nil
	}))
	require.Greater(t, files, 20)
}

// So that go test -run Tokens runs the tests of tokens.go.
func TestRules_ATestBeginsWithTheNameOfItsFile(t *testing.T) {
	names, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	for _, name := range names {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		of := strings.TrimSuffix(strings.TrimSuffix(name, "_test.go"), "_internal")
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Test") {
				continue
			}
			subject, _, _ := strings.Cut(strings.TrimPrefix(f.Name.Name, "Test"), "_")
			require.True(t, strings.EqualFold(of, subject), "%s is in %s", f.Name.Name, name)
		}
	}
}
