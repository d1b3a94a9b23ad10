package postgres_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/postgres"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// children are functions that this test binary runs instead of its tests when it is started as a
// child process. Each returns what went wrong, or nothing.
var children = map[string]func(schema string) error{}

const (
	childEnv  = "DENIZEN_POSTGRES_TEST_CHILD"
	serverEnv = "DENIZEN_POSTGRES"
)

func TestMain(m *testing.M) {
	if child, ok := children[os.Getenv(childEnv)]; ok {
		if err := child(os.Args[1]); err != nil {
			_, _ = os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child starts this binary as a child process and returns what went wrong in it.
func child(t *testing.T, name, schema string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], schema)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	var out bytes.Buffer
	cmd.Stderr = &out
	err := cmd.Run()
	if err == nil {
		require.Empty(t, out.String())
	}
	return out.String()
}

// server returns the connection string for the tests, or skips the test.
func server(t testing.TB) string {
	t.Helper()
	dsn := os.Getenv(serverEnv)
	if dsn == "" {
		t.Skip(serverEnv + " is not set")
	}
	return dsn
}

// connect returns a pool, which is closed after the stores that are opened on it later.
func connect(t testing.TB, dsn string, change ...func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	config.MaxConns = 8
	for _, f := range change {
		f(config)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// tagged returns a pool for a test in the schema name. The server knows its sessions by tag.
func tagged(t testing.TB, name string) (pool *pgxpool.Pool, tag string) {
	t.Helper()
	tag = strings.ReplaceAll(name, " ", "-")
	return connect(t, server(t), func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["application_name"] = tag }), tag
}

// admin is a pool for statements that the tests run beside the stores.
var admin = sync.OnceValues(func() (*pgxpool.Pool, error) {
	return pgxpool.New(context.Background(), os.Getenv(serverEnv))
})

// do executes a statement as administrator.
func do(t testing.TB, sql string, args ...any) {
	t.Helper()
	pool, err := admin()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // t's may have ended
	defer cancel()
	_, err = pool.Exec(ctx, sql, args...)
	require.NoError(t, err)
}

// schema returns the name of a schema that only this test uses.
func schema(t testing.TB) string {
	t.Helper()
	name := "test " + strings.ToLower(rand.Text())
	t.Cleanup(func() { do(t, `DROP SCHEMA IF EXISTS `+quote(name)+` CASCADE`) })
	return name
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// open returns a store that is closed after the test.
func open(t testing.TB, pool *pgxpool.Pool, o postgres.Options) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), pool, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// fresh returns an empty store, and the arguments it was opened with.
func fresh(t testing.TB) (*postgres.Store, *pgxpool.Pool, string) {
	t.Helper()
	dsn := server(t)
	name, pool := schema(t), connect(t, dsn)
	return open(t, pool, postgres.Options{Schema: name}), pool, name
}

func put(key store.Key, value string) store.Batch {
	return store.Batch{Put: []store.Record{{Key: key, Value: []byte(value)}}}
}

func commit(t testing.TB, s store.Store, b store.Batch) store.Seq {
	t.Helper()
	seq, err := s.Commit(t.Context(), b)
	require.NoError(t, err)
	return seq
}

func get(t testing.TB, s store.Store, key store.Key) store.Record {
	t.Helper()
	records, err := s.Get(t.Context(), key)
	require.NoError(t, err)
	return records[0]
}
