package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store/postgres"
)

// The walk starts this very binary as its servers.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-serve") {
		main()
		return
	}
	os.Exit(m.Run())
}

// database answers settings with a schema of the test's own, and how to look at the database.
func database(t *testing.T) (settings, *pgxpool.Pool) {
	t.Helper()
	dsn := os.Getenv("DENIZEN_POSTGRES")
	if dsn == "" {
		t.Skip("DENIZEN_POSTGRES is not set")
	}
	pool, err := pgxpool.New(t.Context(), dsn)
	require.NoError(t, err)
	s := settings{postgres: dsn, schema: "cluster " + strings.ToLower(rand.Text())}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // t's has ended
		defer cancel()
		_, err := pool.Exec(ctx, `DROP SCHEMA IF EXISTS `+pgx.Identifier{s.schema}.Sanitize()+` CASCADE`)
		pool.Close()
		require.NoError(t, err)
	})
	return s, pool
}

// complaints is what the servers of a test write errors to, and answers them.
func complaints(t *testing.T) (stderr *os.File, said func() string) {
	t.Helper()
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = stderr.Close() })
	return stderr, func() string {
		text, err := os.ReadFile(stderr.Name())
		require.NoError(t, err)
		return string(text)
	}
}

// directory opens the one in the schema, with as little as that takes, until the test ends.
func directory(t *testing.T, s settings, pool *pgxpool.Pool, o denizen.Options) *denizen.Directory {
	t.Helper()
	kept, err := postgres.Open(t.Context(), pool, postgres.Options{Schema: s.schema})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, kept.Close()) })
	dir, err := denizen.New(t.Context(), kept, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dir.Close()) })
	return dir
}

func isThere(t *testing.T, s settings, pool *pgxpool.Pool) (there bool) {
	t.Helper()
	const sql = `SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)`
	require.NoError(t, pool.QueryRow(t.Context(), sql, s.schema).Scan(&there))
	return there
}

// golden is what the walk says, without what differs each time.
const golden = `
Two servers over one schema, with the same access key
  schema  SCHEMA is made
  first   listens on ADDRESS
  second  listens on ADDRESS

A user is created on the first, and is there on the second, with an address that nobody else gets
  first   POST   /v1/users                        201
  second  GET    /v1/users/{alice}                200 Alice
  second  POST   /v1/users                        409 duplicate_entity

A token is issued by the first and used on the second
  first   POST   /v1/users/{alice}/tokens         201
  second  GET    /v1/users/me                     200 Alice

Presence is set on one and read on the other
  first   POST   /v1/users/me/presence            204
  second  GET    /v1/users/me/presence            200 mitter.up.Online
  second  POST   /v1/users/me/presence            204
  first   GET    /v1/users/me/presence            200 mitter.up.Away

The token is revoked on the first, which refuses it at once, and the second does soon
  first   DELETE /v1/users/{alice}/tokens/{token} 204
  first   GET    /v1/users/me                     401 token_revoked
  second  GET    /v1/users/me                     401 token_revoked
  refused by the second since TIME after, where MaxRevocationDelay allows TIME

The first is killed while it renames her again and again
  first   signal: killed, after it acknowledged N names

The second goes on, with the last of these names or the one that was under way
  second  GET    /v1/users/{alice}                200 Alice N
  second  POST   /v1/users/{alice}/tokens         201
  second  GET    /v1/users/me                     200 Alice N

The access key is deleted, and the second is asked to end
  second  DELETE /v1/applications/example-cluster/accessKeys/{key} 204
  second  exit status 0
  schema  SCHEMA is dropped
`

var differs = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(`\b[\d.]+m?s\b`), "TIME"},
	{regexp.MustCompile(`Alice \d+`), "Alice N"},
	{regexp.MustCompile(`acknowledged \d+`), "acknowledged N"},
}

func requireGolden(t *testing.T, s settings, said string) {
	t.Helper()
	said = strings.ReplaceAll(said, s.schema, "SCHEMA")
	for _, d := range differs {
		said = d.pattern.ReplaceAllString(said, d.by)
	}
	require.Equal(t, strings.Split(strings.TrimPrefix(golden, "\n"), "\n"), strings.Split(said, "\n"))
}

func TestTheWalkShowsThatTwoServersAreOneDirectory(t *testing.T) {
	s, pool := database(t)
	var stdout bytes.Buffer
	stderr, complained := complaints(t)
	require.NoError(t, run(t.Context(), s, &stdout, stderr))
	require.Empty(t, complained())
	requireGolden(t, s, stdout.String())
	require.False(t, isThere(t, s, pool))
}

func TestAKeptSchemaIsWalkedThroughAgainAndHoldsNoKeyOfAWalk(t *testing.T) {
	s, pool := database(t)
	s.keep = true
	var stdout bytes.Buffer
	require.NoError(t, run(t.Context(), s, &stdout, os.Stderr))
	require.Contains(t, stdout.String(), s.schema+" is made")
	s.keep = false // it is not this one's to drop
	stdout.Reset()
	require.NoError(t, run(t.Context(), s, &stdout, os.Stderr))
	require.Contains(t, stdout.String(), s.schema+" is there already")

	dir := directory(t, s, pool, denizen.Options{})
	people, err := dir.CountUsers(t.Context(), denizen.System())
	require.NoError(t, err)
	require.Equal(t, 2, people)
	keys, err := dir.AccessKeys(t.Context(), denizen.System())
	require.NoError(t, err)
	require.Empty(t, keys)
}

func TestADirectoryOfAnotherApplicationIsLeftAsItIs(t *testing.T) {
	s, pool := database(t)
	dir := directory(t, s, pool, denizen.Options{ApplicationID: "somebody-else"})
	stderr, complained := complaints(t)
	require.ErrorContains(t, run(t.Context(), s, io.Discard, stderr), "the first server: it ended before it listened")
	require.Contains(t, complained(), "cluster: denizen:")

	keys, err := dir.AccessKeys(t.Context(), denizen.System())
	require.NoError(t, err)
	require.Empty(t, keys)
}

// interrupter ends a context once a text is written to it.
type interrupter struct {
	bytes.Buffer
	at   string
	stop context.CancelFunc
}

func (i *interrupter) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(i.at)) {
		i.stop()
	}
	return i.Buffer.Write(p)
}

func TestAWalkThatIsInterruptedLeavesNothing(t *testing.T) {
	s, pool := database(t)
	for _, at := range []string{"first   listens", "A user is created", "The token is revoked", "The first is killed", "The second goes on"} {
		t.Run(at, func(t *testing.T) {
			stderr, complained := complaints(t)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			stdout := &interrupter{at: at, stop: stop}
			require.ErrorIs(t, run(ctx, s, stdout, stderr), context.Canceled)
			require.Empty(t, complained())

			require.False(t, isThere(t, s, pool))
			listened := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindAllString(stdout.String(), -1)
			require.NotEmpty(t, listened)
			for _, address := range listened {
				_, err := net.Dial("tcp", address)
				require.Error(t, err, "a server is left")
			}
		})
	}
}

func TestADatabaseThatCannotBeReachedIsSaidWithoutItsPassword(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, gone.Close())
	for _, c := range []struct{ name, dsn, says string }{
		{"none", "", "give -postgres or set DENIZEN_POSTGRES"},
		{"nobody listens", fmt.Sprintf("postgres://alice:down-the-hole@%s/people", gone.Addr()), "schema denizen_example: "},
		{"no address", "postgres://alice:down-the-hole@localhost:port/people", "schema denizen_example: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := run(t.Context(), settings{postgres: c.dsn, schema: "denizen_example"}, io.Discard, os.Stderr)
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), "down-the-hole")
		})
	}
}
