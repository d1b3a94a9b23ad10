package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/postgres"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

func TestWhoeverComesFirstMigrates(t *testing.T) {
	pool, name := connect(t, server(t)), schema(t)
	errs := make(chan error)
	for range 8 {
		go func() {
			s, err := postgres.Open(t.Context(), pool, postgres.Options{Schema: name})
			if err == nil {
				_, err = s.Commit(t.Context(), store.Batch{Emit: []byte(`{}`)})
				err = errors.Join(err, s.Close())
			}
			errs <- err
		}()
	}
	for range 8 {
		require.NoError(t, <-errs)
	}
	feed, err := open(t, pool, postgres.Options{Schema: name}).Changes(t.Context(), 0, 100)
	require.NoError(t, err)
	require.Len(t, feed.Changes, 8)
}

func TestASchemaOfAnotherVersionIsRefused(t *testing.T) {
	for _, version := range []int{1, 2, 99} { // the first two are from before the first release
		s, pool, name := fresh(t)
		commit(t, s, put("k", `{}`))
		do(t, `DELETE FROM `+quote(name)+`.migrations`)
		do(t, `INSERT INTO `+quote(name)+`.migrations (version) VALUES ($1)`, version)
		_, err := postgres.Open(t.Context(), pool, postgres.Options{Schema: name})
		require.ErrorIs(t, err, postgres.ErrVersion)
		require.ErrorContains(t, err, fmt.Sprintf("version %d,", version))
		require.ErrorIs(t, postgres.Migrate(t.Context(), pool, name), postgres.ErrVersion)
	}
}

func TestMigrationsCanBeRunByAnotherTool(t *testing.T) {
	pool, name := connect(t, server(t)), schema(t)
	files, err := fs.Glob(postgres.Migrations, "*.sql")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	all := `CREATE SCHEMA ` + quote(name) + `; SET search_path = ` + quote(name) + `;`
	for _, file := range files {
		text, err := fs.ReadFile(postgres.Migrations, file)
		require.NoError(t, err)
		all += string(text)
	}
	conn, err := pgx.Connect(t.Context(), server(t))
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.PgConn().Exec(t.Context(), all).ReadAll()
	require.NoError(t, err)
	require.NoError(t, postgres.Migrate(t.Context(), conn, name))
	require.Equal(t, store.Seq(1), commit(t, open(t, pool, postgres.Options{Schema: name}), put("k", `{}`)))
}

// role creates a role without any rights and returns its connection string.
func role(t *testing.T) (name, dsn string) {
	t.Helper()
	name = "denizen_" + strings.ToLower(strings.TrimPrefix(schema(t), "test "))
	do(t, `CREATE ROLE `+name+` LOGIN PASSWORD 'pass' NOSUPERUSER NOCREATEDB NOCREATEROLE`)
	t.Cleanup(func() {
		do(t, `DROP OWNED BY `+name)
		do(t, `DROP ROLE `+name)
	})
	u, err := url.Parse(server(t))
	require.NoError(t, err)
	u.User = url.UserPassword(name, "pass")
	return name, u.String()
}

// The grants that the package's documentation lists.
const grants = `
	GRANT USAGE ON SCHEMA denizen TO app;
	GRANT SELECT ON denizen.migrations TO app;
	GRANT SELECT, INSERT, UPDATE, DELETE ON denizen.records TO app;
	GRANT SELECT, INSERT, DELETE ON denizen.changes TO app;
	GRANT SELECT, UPDATE ON denizen.head TO app;`

func TestARoleThatMayCreateNothingCanUseAMigratedSchema(t *testing.T) {
	pool, name := connect(t, server(t)), schema(t)
	app, dsn := role(t)
	appPool := connect(t, dsn)

	_, err := postgres.Open(t.Context(), appPool, postgres.Options{Schema: name})
	require.ErrorIs(t, err, postgres.ErrVersion, "it may not migrate")
	require.ErrorContains(t, err, "may not migrate")

	require.NoError(t, postgres.Migrate(t.Context(), pool, name))
	_, err = postgres.Open(t.Context(), appPool, postgres.Options{Schema: name})
	require.ErrorIs(t, err, store.ErrUnavailable, "it may not read")

	for _, grant := range strings.Split(strings.NewReplacer("denizen", quote(name), "app", app).Replace(grants), ";") {
		do(t, grant)
	}
	s := open(t, appPool, postgres.Options{Schema: name})
	tries(t, s)
	empty := schema(t)
	require.NoError(t, postgres.Migrate(t.Context(), pool, empty))
	for _, grant := range strings.Split(strings.NewReplacer("denizen", quote(empty), "app", app).Replace(grants), ";") {
		do(t, grant)
	}
	require.NoError(t, store.Copy(t.Context(), open(t, appPool, postgres.Options{Schema: empty}), s))
}

// tries calls every method of an empty store.
func tries(t *testing.T, s store.Store) {
	t.Helper()
	ctx, waited := t.Context(), make(chan error, 1)
	go func() { waited <- s.Wait(ctx, 0) }()
	require.Equal(t, store.Seq(1), commit(t, s, store.Batch{
		If:   []store.Cond{{Key: "a"}, {Key: "p/", Under: true}},
		Put:  []store.Record{{Key: "a", Value: []byte(`{"n":1}`)}, {Key: "b'\\\x00\xff", Value: []byte(`{"s":"'\\\"é"}`)}, {Key: "p/1", Value: []byte(`{}`)}},
		Emit: []byte(`{"e":1}`),
	}))
	require.NoError(t, <-waited)
	_, err := s.Commit(ctx, store.Batch{If: []store.Cond{{Key: "a"}}, Put: put("a", `{}`).Put})
	require.ErrorIs(t, err, store.ErrConflict)
	commit(t, s, store.Batch{
		If:  []store.Cond{{Key: "a", Version: 1}},
		Put: put("a", `{"n":2}`).Put, Drop: []store.Key{"c", "p/1"}, Emit: []byte(`{"e":2}`), Trim: 1,
	})
	records, err := s.Get(ctx, "b'\\\x00\xff", "p/1", "a")
	require.NoError(t, err)
	require.Equal(t, []store.Seq{1, 0, 2}, []store.Seq{records[0].Version, records[1].Version, records[2].Version})
	require.JSONEq(t, `{"s":"'\\\"é"}`, string(records[0].Value))
	records, err = s.List(ctx, store.Range{Limit: 10})
	require.NoError(t, err)
	require.Len(t, records, 2)
	feed, err := s.Changes(ctx, 1, 10)
	require.NoError(t, err)
	require.Equal(t, []store.Seq{2, 2}, []store.Seq{feed.First, feed.Head})
	require.Len(t, feed.Changes, 1)
	_, err = s.Changes(ctx, 0, 10)
	require.ErrorIs(t, err, store.ErrMissed)
}

func TestEveryModeOfThePoolWorks(t *testing.T) {
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			pool := connect(t, server(t), func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode })
			s := open(t, pool, postgres.Options{Schema: schema(t)})
			tries(t, s)
			require.NoError(t, store.Copy(t.Context(), open(t, pool, postgres.Options{Schema: schema(t)}), s))
		})
	}
}

func TestTwoDirectoriesInOneDatabaseDoNotMeet(t *testing.T) {
	a, pool, _ := fresh(t)
	b := open(t, pool, postgres.Options{Schema: schema(t)})
	commit(t, a, put("k", `{"of":"a"}`))
	require.Zero(t, get(t, b, "k").Version)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer tx.Rollback(context.Background())
	commit(t, a.InTx(tx), put("k", `{"of":"a"}`))
	require.Equal(t, store.Seq(1), commit(t, b, put("k", `{"of":"b"}`)), "one does not wait for the other")
}

func TestANameThatNoSchemaCanHaveIsRefused(t *testing.T) {
	pool := connect(t, server(t))
	for _, name := range []string{strings.Repeat("x", 64), "pg_x", "a\x00b", "\xff", "information_schema"} {
		_, err := postgres.Open(t.Context(), pool, postgres.Options{Schema: name})
		require.ErrorIs(t, err, store.ErrInvalid, "%q", name)
	}
}

func TestASchemaMayHaveAnOddName(t *testing.T) {
	pool := connect(t, server(t))
	name := `"; DROP É ` + schema(t)
	t.Cleanup(func() { do(t, `DROP SCHEMA `+quote(name)+` CASCADE`) })
	tries(t, open(t, pool, postgres.Options{Schema: name}))
}

func TestWhatIsAcknowledgedIsDurableWhateverTheRoleSays(t *testing.T) {
	s, pool, name := fresh(t)
	require.NotNil(t, pool)
	off := connect(t, server(t), func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["synchronous_commit"] = "off" })
	do(t, `CREATE FUNCTION `+quote(name)+`.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO `+quote(name)+`.noted VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$`)
	do(t, `CREATE TABLE `+quote(name)+`.noted (setting text)`)
	do(t, `CREATE TRIGGER note AFTER UPDATE ON `+quote(name)+`.head FOR EACH ROW EXECUTE FUNCTION `+quote(name)+`.note()`)
	commit(t, open(t, off, postgres.Options{Schema: name}), put("k", `{}`))
	commit(t, s, put("k", `{}`))
	rows, err := pool.Query(t.Context(), `SELECT setting FROM `+quote(name)+`.noted`)
	require.NoError(t, err)
	settings, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{"on", "on"}, settings)
}

func TestWhatJSONBCannotHoldIsRefused(t *testing.T) {
	s, _, _ := fresh(t)
	for name, c := range map[string]struct {
		value string
		ok    bool
	}{
		"a usual exponent":           {`{"a":1e308,"b":-2.5E-300}`, true},
		"a number too large":         {`{"a":1e131072}`, false},
		"a number too small":         {`{"a":1e-16384}`, false},
		"an exponent without bounds": {`{"a":1e99999999999999999999}`, false},
		"many exponents":             {`{"a":[` + strings.Repeat("1e999,", 20) + `1]}`, false},
		"digits":                     {`{"a":1.` + strings.Repeat("9", 20_000) + `}`, false},
		"digits in a text":           {`{"a":"` + strings.Repeat("9", 20_000) + `","b":"1e99999\"1e99999"}`, true},
		"depth":                      {`{"a":` + strings.Repeat("[", 2_000) + strings.Repeat("]", 2_000) + `}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Commit(t.Context(), put("k", c.value))
			_, event := s.Commit(t.Context(), store.Batch{Emit: []byte(c.value)})
			if c.ok {
				require.NoError(t, errors.Join(err, event))
				require.JSONEq(t, c.value, string(get(t, s, "k").Value))
				return
			}
			require.ErrorIs(t, err, store.ErrInvalid)
			require.ErrorIs(t, event, store.ErrInvalid)
		})
	}
}

func TestErrorsNameNothingThatIsStoredAndNoHost(t *testing.T) {
	s, _, name := fresh(t)
	commit(t, s, put("secret-key", `{"v":"secret-value"}`))
	do(t, `ALTER TABLE `+quote(name)+`.records ADD CONSTRAINT small CHECK (length(value::text) < 40)`)
	_, err := s.Commit(t.Context(), put("secret-key", `{"v":"secret-value secret-value secret-value"}`))
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.NotContains(t, err.Error(), "secret")
	var answer *pgconn.PgError
	require.ErrorAs(t, err, &answer, "its cause can be looked at")

	config, err := pgxpool.ParseConfig("postgres://who@127.0.0.1:1/where")
	require.NoError(t, err)
	gone, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer gone.Close()
	_, err = postgres.Open(t.Context(), gone, postgres.Options{})
	require.ErrorIs(t, err, store.ErrUnavailable)
	for _, part := range []string{"who", "127", "where"} {
		require.NotContains(t, err.Error(), part)
	}
}

func TestALongTrimIsPaidForByTheCommitsAfterIt(t *testing.T) {
	const n = 2_500
	s, pool, name := fresh(t)
	require.NoError(t, s.Load(t.Context(), nothing[store.Record], func(yield func(store.Change, error) bool) {
		for seq := range store.Seq(n) {
			if !yield(store.Change{Seq: seq + 1, Event: []byte(`{}`)}, nil) {
				return
			}
		}
	}, n))
	left := func() (n int) {
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM `+quote(name)+`.changes`).Scan(&n))
		return n
	}
	commit(t, s, store.Batch{Trim: n})
	require.Equal(t, n-1_000, left())
	feed, err := s.Changes(t.Context(), n, 10)
	require.NoError(t, err)
	require.Equal(t, store.Feed{First: n + 1, Head: n + 1}, feed)
	_, err = s.Changes(t.Context(), n-1, 10)
	require.ErrorIs(t, err, store.ErrMissed, "it is forgotten at once")
	commit(t, s, put("k", `{}`))
	commit(t, s, put("k", `{}`))
	require.Zero(t, left())
}

func nothing[T any](func(T, error) bool) {}

func TestAPanicOfWhoIsLoadedFromLeavesAnEmptyStore(t *testing.T) {
	s, pool, _ := fresh(t)
	require.Panics(t, func() {
		_ = s.Load(t.Context(), func(func(store.Record, error) bool) { panic("iterator") }, nothing[store.Change], 5)
	})
	require.Eventually(t, func() bool { return pool.Stat().AcquiredConns() == 0 }, 30*time.Second, time.Millisecond)
	require.Equal(t, store.Seq(1), commit(t, s, put("k", `{}`)))
}

func TestNothingIsSeenOfALoadBeforeItIsWhole(t *testing.T) {
	s, _, _ := fresh(t)
	err := s.Load(t.Context(), func(yield func(store.Record, error) bool) {
		for i := range 25_000 {
			if !yield(store.Record{Key: store.Key(fmt.Sprint(i)), Version: 1, Value: []byte(`{}`)}, nil) {
				return
			}
		}
		records, err := s.List(t.Context(), store.Range{Limit: 1})
		require.NoError(t, err)
		require.Empty(t, records)
	}, nothing[store.Change], 1)
	require.NoError(t, err)
	require.Equal(t, store.Seq(1), get(t, s, "24999").Version)
}

func TestOneConnectionIsEnough(t *testing.T) {
	pool := connect(t, server(t), func(c *pgxpool.Config) { c.MaxConns = 1 })
	s := open(t, pool, postgres.Options{Schema: schema(t), Poll: 10 * time.Millisecond})
	var waiting sync.WaitGroup
	for range 8 {
		waiting.Go(func() { _ = s.Wait(t.Context(), 1) })
	}
	tries(t, s)
	waiting.Wait()
}
