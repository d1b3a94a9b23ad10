package denizen_test

import (
	"go/ast"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is written, and on which conditions, is decided through internal/txn alone: it makes what
// was read for a write a condition of the write, and keeps right what is remembered.
func TestTheDirectoryBuildsNoBatchAndNoCondition(t *testing.T) {
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
func TestTheOnlyWayBackFromTheCoreIsDecide(t *testing.T) {
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
func TestNobodyOutsideTheCoreChangesWhatItRemembers(t *testing.T) {
	_, files := parsed(t, "internal/txn")
	shared := []string{"DB", "Entry", "Freshness", "Tx"}
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
