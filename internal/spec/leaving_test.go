package spec_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/store/postgres"
)

// overEachStore runs a test over a store of each kind. everything returns all the bytes that the
// store holds of its present state.
func overEachStore(t *testing.T, test func(t *testing.T, s store.Store, everything func() []byte)) {
	t.Run("memory", func(t *testing.T) {
		s := memory.New()
		defer s.Close()
		test(t, s, func() []byte { return nil }) // invariant.Traces sees all there is
	})
	t.Run("bolt", func(t *testing.T) {
		s, err := bolt.Open(ctx, filepath.Join(long.Dir(t), "people.db"), bolt.Options{})
		require.NoError(t, err)
		defer s.Close()
		test(t, s, func() []byte {
			path := filepath.Join(t.TempDir(), "compacted.db")
			to, err := bolt.Open(ctx, path, bolt.Options{})
			require.NoError(t, err)
			require.NoError(t, store.Copy(ctx, to, s))
			require.NoError(t, to.Close())
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			return content
		})
	})
	t.Run("postgres", func(t *testing.T) {
		requirePostgres(t)
		schema := newSchema()
		s, err := postgres.Open(ctx, pool(), postgres.Options{Schema: schema})
		require.NoError(t, err)
		defer s.Close()
		test(t, s, func() []byte {
			var content bytes.Buffer
			for _, table := range []string{"records", "changes"} {
				rows, err := pool().Query(ctx, "SELECT t::text FROM "+pgx.Identifier{schema, table}.Sanitize()+" t")
				require.NoError(t, err)
				lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
				require.NoError(t, err)
				require.NotEmpty(t, lines)
				for _, line := range lines {
					content.WriteString(line + "\n")
				}
			}
			return content.Bytes()
		})
	})
}

// What zoe is, has and chose. The last one rests.
var zoesTraces = []string{
	`Zoë "Z" Őszi`, "Z.Oe@Example.org", "z.oe@example.org", "+1 (650) 253-0001", "+16502530001", "zo3zo3", "claims@example.net",
	"likes <b>tea</b> & ñandú \\ \u2028 💡", "of a hidden kind", "Zoë's téléphone", "in the garden", "the old laptop", "wrote too much", "zo3before",
}

// settleZoe makes zoe, and returns her signed token.
func settleZoe(t *testing.T, d *denizen.Directory) (id denizen.UserID, signed string) {
	t.Helper()
	id = "zoe-0001"
	for _, def := range []denizen.AttributeDef{{Key: "bio"}, {Key: "score", VisibleTo: denizen.ToSystem, WritableBy: denizen.ToSystem}} {
		_, err := d.DefineAttribute(ctx, system, def)
		require.NoError(t, err)
	}
	_, err := d.CreateUser(ctx, system, denizen.NewUser{
		ID: id, ScreenName: zoesTraces[0], Idempotency: denizen.Idempotency{Key: zoesTraces[2], Digest: zoesTraces[2]},
		Locators: []denizen.NewLocator{
			denizen.Email(zoesTraces[1]), denizen.Tele(zoesTraces[3]), {Locator: "nick:" + zoesTraces[5]}, {Locator: "nick:" + zoesTraces[13]},
		},
		Attributes: []denizen.Attribute{{Key: "bio", Value: zoesTraces[7]}, {Key: "score", Value: zoesTraces[8]}},
	})
	require.NoError(t, err)
	_, err = d.BlockUser(ctx, system, id, denizen.Block{Reason: zoesTraces[12], Until: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	_, err = d.UnblockUser(ctx, system, id)
	require.NoError(t, err)
	token, err := d.IssueToken(ctx, system, id, denizen.TokenOptions{Label: zoesTraces[11]})
	require.NoError(t, err)
	by, err := d.Authenticate(ctx, token.Signed)
	require.NoError(t, err)
	_, err = d.AddLocator(ctx, by, id, denizen.Email(zoesTraces[6]))
	require.NoError(t, err)
	require.NoError(t, d.SetPresence(ctx, by, id, denizen.State(zoesTraces[10], time.Hour).On(zoesTraces[9])))
	return id, token.Signed
}

func TestLeaving_AfterAnErasureNoByteOfThePersonIsLeft(t *testing.T) {
	overEachStore(t, func(t *testing.T, s store.Store, everything func() []byte) {
		d, err := denizen.New(ctx, s, denizen.Options{LocatorTypes: []denizen.LocatorRule{nicks}})
		require.NoError(t, err)
		defer d.Close()
		id, signed := settleZoe(t, d)
		traces := append(slices.Clone(zoesTraces[:12]), signed)
		look := func() []string {
			found := invariant.Traces(t, s, traces...)
			for _, text := range invariant.TracesIn(everything(), traces...) {
				if !slices.Contains(found, text) {
					found = append(found, text)
				}
			}
			return found
		}
		require.Subset(t, look(), zoesTraces[:12], "what is looked for is there")
		ls, err := d.Locators(ctx, system, id)
		require.NoError(t, err)
		require.NoError(t, d.RemoveLocator(ctx, system, id, ls[3].ID))
		traces = append(slices.Clone(zoesTraces), signed)
		u, err := d.User(ctx, system, id)
		require.NoError(t, err)

		_, err = d.EraseUser(ctx, system, id)
		require.NoError(t, err)
		require.Empty(t, look())
		require.NoError(t, d.Close()) // it stores what was in memory
		require.Empty(t, look())
		for _, r := range invariant.Of(t, s).Records {
			require.Empty(t, invariant.TracesIn([]byte(string(r.Key)+string(r.Value)), string(id), u.InternalID))
		}
		invariant.Check(t, s)
	})
}

func schemaOf(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile("../../" + name)
	require.NoError(t, err)
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	require.NoError(t, compiler.AddResource(name, document))
	schema, err := compiler.Compile(name)
	require.NoError(t, err)
	return schema
}

func TestLeaving_ExportsAndReceiptsFollowTheirSchemas(t *testing.T) {
	overEachStore(t, func(t *testing.T, s store.Store, _ func() []byte) {
		d, err := denizen.New(ctx, s, denizen.Options{LocatorTypes: []denizen.LocatorRule{nicks}})
		require.NoError(t, err)
		defer d.Close()
		id, _ := settleZoe(t, d)
		_, err = d.CreateUser(ctx, system, denizen.NewUser{ID: "bare-0001", ScreenName: "Bare"})
		require.NoError(t, err)
		_, err = d.CreateUser(ctx, system, denizen.NewUser{ID: "out-00001", ScreenName: "Out"})
		require.NoError(t, err)
		_, err = d.CreateUser(ctx, system, denizen.NewUser{ID: "was-00001", ScreenName: "Was"})
		require.NoError(t, err)
		_, err = d.MergeUsers(ctx, system, "was-00001", "bare-0001", denizen.MergePolicy{Alias: denizen.Forever})
		require.NoError(t, err)
		_, err = d.BlockUser(ctx, system, "out-00001", denizen.Block{Reason: "why", Until: time.Now().Add(time.Hour)})
		require.NoError(t, err)
		exports, receipts := schemaOf(t, "export.schema.json"), schemaOf(t, "erasure.schema.json")
		valid := func(schema *jsonschema.Schema, text []byte) {
			t.Helper()
			document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
			require.NoError(t, err)
			require.NoError(t, schema.Validate(document), "%s", text)
		}
		for _, user := range []denizen.UserID{id, "bare-0001", "out-00001"} {
			var b bytes.Buffer
			require.NoError(t, d.ExportUser(ctx, system, user, &b))
			valid(exports, b.Bytes())
			receipt, err := d.EraseUser(ctx, system, user)
			require.NoError(t, err)
			text, err := json.Marshal(receipt)
			require.NoError(t, err)
			valid(receipts, text)
		}
	})
}

// A block is judged by the clock of the process that is asked, and PostgreSQL's views by that of the
// server.
func TestLeaving_ABlockEndsByItselfInEveryProcess(t *testing.T) {
	requirePostgres(t)
	schema := newSchema()
	now, later := newProcess(t, schema, denizen.Options{}, 0), newProcess(t, schema, denizen.Options{}, 2*time.Hour)
	_, token := now.alice(t)
	by, err := now.Authenticate(ctx, token.Signed)
	require.NoError(t, err)
	_, err = now.BlockUser(ctx, system, by.User(), denizen.Block{Until: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	u, err := later.User(ctx, system, by.User())
	require.NoError(t, err)
	require.False(t, u.Blocked)
	_, err = now.IssueToken(ctx, system, by.User(), denizen.TokenOptions{})
	require.ErrorIs(t, err, denizen.ErrDenied)
	require.Equal(t, []bool{true}, blockedInView(t, now, schema))
	next, err := later.IssueToken(ctx, system, by.User(), denizen.TokenOptions{TTL: 24 * time.Hour})
	require.NoError(t, err)
	_, err = now.Authenticate(ctx, next.Signed)
	require.NoError(t, err, "who was let in is not blocked, whatever a clock says")
	require.Equal(t, []bool{false}, blockedInView(t, now, schema))
	_, err = now.Authenticate(ctx, token.Signed)
	require.ErrorIs(t, err, denizen.ErrRevoked)
}

func blockedInView(t *testing.T, p *process, schema string) []bool {
	t.Helper()
	type row struct{ Blocked bool }
	var blocked []bool
	for _, r := range selected[row](t, p, in(schema, `SELECT blocked FROM {users}`)) {
		blocked = append(blocked, r.Blocked)
	}
	return blocked
}
