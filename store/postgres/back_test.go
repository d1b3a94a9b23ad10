package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/postgres"
	"github.com/stretchr/testify/require"
)

var stored = []string{"records", "changes", "head"}

// keep copies the contents of a schema and returns a function that restores them, like a backup.
func keep(t *testing.T, name string) (back func()) {
	t.Helper()
	for _, table := range stored {
		do(t, fmt.Sprintf(`CREATE TABLE %[1]s.kept_%[2]s AS TABLE %[1]s.%[2]s`, quote(name), table))
	}
	return func() {
		all := ""
		for _, table := range stored {
			all += fmt.Sprintf(`TRUNCATE %[1]s.%[2]s; INSERT INTO %[1]s.%[2]s TABLE %[1]s.kept_%[2]s;`, quote(name), table)
		}
		do(t, `DO $$ BEGIN `+all+` END $$`)
	}
}

func TestADatabaseThatWentBackIsToldToEverybody(t *testing.T) {
	s, pool, name := fresh(t)
	other := open(t, pool, postgres.Options{Schema: name, Poll: 20 * time.Millisecond})
	event := store.Batch{Put: put("k", `{}`).Put, Emit: []byte(`{}`)}
	for range 10 {
		commit(t, s, event)
	}
	back := keep(t, name)
	for range 50 {
		commit(t, s, event)
	}
	feed, err := other.Changes(t.Context(), 60, 10)
	require.NoError(t, err)
	require.Empty(t, feed.Changes)
	waited := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go func() { waited <- other.Wait(ctx, 60) }()
	back()
	require.ErrorIs(t, <-waited, store.ErrMissed, "as soon as the poll finds out")

	for _, s := range []*postgres.Store{s, other} {
		for _, after := range []store.Seq{11, 60, store.End - 1} {
			feed, err = s.Changes(t.Context(), after, 10)
			require.ErrorIs(t, err, store.ErrMissed)
			require.Equal(t, store.Feed{First: 1, Head: 10}, feed)
		}
		feed, err = s.Changes(t.Context(), store.End, 10)
		require.NoError(t, err)
		require.Equal(t, store.Feed{First: 1, Head: 10}, feed)
		// The head in memory has gone back. Waiters do not spin, and the next commit wakes them.
		short, end := context.WithTimeout(t.Context(), 50*time.Millisecond)
		require.ErrorIs(t, s.Wait(short, 10), context.DeadlineExceeded)
		end()
	}
	go func() { waited <- other.Wait(ctx, 10) }()
	require.Equal(t, store.Seq(11), commit(t, s, event))
	require.NoError(t, <-waited)
	require.ErrorIs(t, other.Wait(ctx, 40), store.ErrMissed)
}

func TestACommitFindsOutThatTheDatabaseWentBack(t *testing.T) {
	s, _, name := fresh(t)
	back := keep(t, name)
	for range 5 {
		commit(t, s, put("k", `{}`))
	}
	back()
	require.Equal(t, store.Seq(1), commit(t, s, put("k", `{}`)))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Wait(ctx, 1), context.DeadlineExceeded)
}
