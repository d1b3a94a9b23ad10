package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/postgres"
)

// Otherwise it would have the settings of the command, and the service could not make its own.
func TestOpen_MakesNoDirectoryInAnEmptyStore(t *testing.T) {
	t.Run("file", func(t *testing.T) {
		path := filepath.Join(long.Dir(t), "people.db")
		empty := func(t *testing.T) store.Store {
			s, err := bolt.Open(t.Context(), path, bolt.Options{})
			require.NoError(t, err)
			return s
		}
		require.NoError(t, empty(t).Close())
		makesNothing(t, file(path), empty)
	})
	t.Run("database", func(t *testing.T) {
		p := database(t)
		empty := func(t *testing.T) store.Store {
			pool, err := pgxpool.New(t.Context(), p.env["DENIZEN_DSN"])
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			s, err := postgres.Open(t.Context(), pool, postgres.Options{Schema: p.args[1]})
			require.NoError(t, err)
			return s
		}
		require.NoError(t, empty(t).Close())
		makesNothing(t, p, empty)
	})
}

func makesNothing(t *testing.T, p place, open func(*testing.T) store.Store) {
	for _, args := range [][]string{{"stat"}, {"users"}, {"keys", "make"}, {"verify"}} {
		r := p.run(t, "", args...)
		require.Equal(t, exitFailed, r.code, "%v", args)
		require.Contains(t, r.err, "there is no directory in ", "%v", args)
	}
	s := open(t)
	feed, err := s.Changes(t.Context(), store.End, 1)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.Zero(t, feed.Head)
	r := p.run(t, `{"kind":"begin","format":1}`+"\n"+`{"kind":"end","users":0}`, "import", "-new", "-")
	require.Equal(t, exitDone, r.code, r.err)
	p.ok(t, "stat")
}

// waiting is input that nobody writes.
type waiting struct{ begun chan struct{} }

func (w waiting) Read([]byte) (int, error) {
	close(w.begun)
	select {}
}

func TestInput_ThatDoesNotComeIsInterrupted(t *testing.T) {
	p := file(filepath.Join(long.Dir(t), "people.db"))
	people(t, p)
	for _, args := range [][]string{{"import", "-"}, {"user", "-"}, {"erase", "-yes", "-"}} {
		ctx, interrupt := context.WithCancel(t.Context())
		in := waiting{make(chan struct{})}
		go func() { <-in.begun; interrupt() }()
		var out strings.Builder
		code := run(ctx, append(args, p.args...),
			world{env: func(string) string { return "" }, stdin: in, stdout: &out, stderr: &out})
		require.Equal(t, exitInterrupted, code, "%v %s", args, out.String())
	}
	require.Len(t, p.objects(t, "users"), 2)
}

func TestOpen_SaysNothingOfADSNAmongTheArguments(t *testing.T) {
	path := filepath.Join(long.Dir(t), "people.db")
	people(t, file(path))
	for _, args := range [][]string{
		{"copy", "-db", path, "-to", "postgres://ada:hunter22@127.0.0.1/x"},
		{"copy", "-db", path, "-to", "host=127.0.0.1 password=hunter22"},
		{"stat", "-db", "host=127.0.0.1 password=hunter22"},
	} {
		r := place{env: map[string]string{}}.run(t, "", args...)
		require.Equal(t, exitUsage, r.code, "%v", args)
		require.NotContains(t, r.out+r.err, "hunter22", "%v", args)
	}
}
