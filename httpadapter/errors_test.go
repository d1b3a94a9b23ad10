package httpadapter_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
)

// What the directory says for people may be said otherwise tomorrow: the adapter passes it on, and
// decides by kinds and fields.
func TestErrorsAreToldApartByDataAlone(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	set := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, name, nil, 0)
		require.NoError(t, err)
		ofText := func(n ast.Node) (found bool) {
			if n == nil {
				return false
			}
			ast.Inspect(n, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				found = found || ok && (s.Sel.Name == "Reason" || s.Sel.Name == "Error")
				return !found
			})
			return found
		}
		ast.Inspect(f, func(n ast.Node) bool {
			where := ""
			if n != nil {
				where = set.Position(n.Pos()).String()
			}
			switch n := n.(type) {
			case *ast.SelectorExpr:
				require.NotEqual(t, "Op", n.Sel.Name, "%s: the route knows its operation", where)
			case *ast.BinaryExpr:
				if n.Op == token.EQL || n.Op == token.NEQ {
					require.False(t, ofText(n.X) || ofText(n.Y), "%s compares a text", where)
				}
			case *ast.SwitchStmt:
				require.False(t, n.Tag != nil && ofText(n.Tag), "%s switches on a text", where)
			}
			return true
		})
	}
}

// That a token has ended says nothing of the extension that was asked for with it.
func TestErrorOfTheCredentialIsNotThatOfTheOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
		time.Sleep(25 * time.Hour)
		own := "/v1/users/me/tokens/" + string(w.tokenID)
		w.do("PATCH", own, `{"ttl":3600}`, bearer(w.aliceToken)).refused(t, 401, "claim_rejected")
		w.do("POST", "/v1/users/"+secEscaped(secBob.id)+"/tokens", "", bearer(w.bobToken)).refused(t, 401, "claim_rejected")
		w.do("POST", "/v1/users/"+secEscaped(secBob.id)+"/tokens", "", actingFor(secAbsent.id)).refused(t, 403, "missing_privilege")
	})
}
