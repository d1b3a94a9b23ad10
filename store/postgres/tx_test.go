package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/postgres"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// begin returns a transaction of the host, which is rolled back after the test.
func begin(t *testing.T, pool *pgxpool.Pool, o ...pgx.TxOptions) pgx.Tx {
	t.Helper()
	tx, err := pool.BeginTx(t.Context(), append(o, pgx.TxOptions{})[0])
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	return tx
}

// hosted returns a store and the name of a table of the host beside it.
func hosted(t *testing.T) (s *postgres.Store, pool *pgxpool.Pool, name, insert, count string) {
	t.Helper()
	s, pool, name = fresh(t)
	table := quote(name) + `.orders`
	do(t, `CREATE TABLE `+table+` (id integer PRIMARY KEY)`)
	return s, pool, name, `INSERT INTO ` + table + ` VALUES (1)`, `SELECT count(*) FROM ` + table
}

func TestTheHostsRowsAndTheDirectorysComeTogether(t *testing.T) {
	s, pool, _, insert, count := hosted(t)
	tx := begin(t, pool)
	_, err := tx.Exec(t.Context(), insert)
	require.NoError(t, err)
	in := s.InTx(tx)
	require.Equal(t, store.Seq(1), commit(t, in, store.Batch{If: []store.Cond{{Key: "k"}}, Put: put("k", `{"n":1}`).Put, Emit: []byte(`{}`)}))
	require.Equal(t, store.Seq(2), commit(t, in, store.Batch{If: []store.Cond{{Key: "k", Version: 1}}, Put: put("l", `{"n":2}`).Put}))

	require.Equal(t, store.Seq(1), get(t, in, "k").Version, "the transaction sees it")
	feed, err := in.Changes(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, feed.Changes, 1)
	listed, err := in.List(t.Context(), store.Range{Limit: 10})
	require.NoError(t, err)
	require.Len(t, listed, 2)

	require.Zero(t, get(t, s, "k").Version, "nobody else does")
	feed, err = s.Changes(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Equal(t, store.Feed{First: 1}, feed)

	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, store.Seq(1), get(t, s, "k").Version)
	var rows int
	require.NoError(t, pool.QueryRow(t.Context(), count).Scan(&rows))
	require.Equal(t, 1, rows)
	require.Equal(t, store.Seq(3), commit(t, s, put("m", `{}`)))
}

func TestATransactionRolledBackLeavesNothing(t *testing.T) {
	s, pool, _, insert, count := hosted(t)
	tx := begin(t, pool)
	_, err := tx.Exec(t.Context(), insert)
	require.NoError(t, err)
	commit(t, s.InTx(tx), store.Batch{Put: put("k", `{}`).Put, Emit: []byte(`{}`)})
	require.NoError(t, tx.Rollback(t.Context()))
	var rows int
	require.NoError(t, pool.QueryRow(t.Context(), count).Scan(&rows))
	require.Zero(t, rows)
	require.Equal(t, store.Seq(1), commit(t, s, store.Batch{If: []store.Cond{{Key: "k"}}, Put: put("k", `{}`).Put}))
}

func TestARefusalLeavesTheTransactionUsableAndOthersFree(t *testing.T) {
	s, pool, _, insert, _ := hosted(t)
	commit(t, s, put("taken", `{}`))
	tx := begin(t, pool)
	in := s.InTx(tx)
	_, err := in.Commit(t.Context(), store.Batch{If: []store.Cond{{Key: "taken"}}, Put: put("taken", `{}`).Put})
	var conflict *store.Conflict
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, []store.Cond{{Key: "taken"}}, conflict.Failed)
	_, err = in.Commit(t.Context(), store.Batch{If: []store.Cond{{Key: "ta", Under: true}}, Put: put("x", `{}`).Put})
	require.ErrorIs(t, err, store.ErrConflict)
	_, err = in.Commit(t.Context(), store.Batch{})
	require.ErrorIs(t, err, store.ErrInvalid)
	commit(t, s, put("free", `{}`))
	_, err = tx.Exec(t.Context(), insert)
	require.NoError(t, err)
	require.Equal(t, store.Seq(3), commit(t, in, put("k", `{}`)))
	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, store.Seq(3), get(t, s, "k").Version)
}

func TestOthersWaitForATransactionNoLongerThanTheirLockTimeout(t *testing.T) {
	const bound = 300 * time.Millisecond
	s, pool, name := fresh(t)
	brief := open(t, pool, postgres.Options{Schema: name, LockTimeout: bound})
	tx := begin(t, pool)
	commit(t, s.InTx(tx), put("k", `{}`))

	start := time.Now()
	_, err := brief.Commit(t.Context(), put("other", `{}`))
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.NotErrorIs(t, err, store.ErrOutcomeUnknown)
	require.GreaterOrEqual(t, time.Since(start), bound-10*time.Millisecond) // the server is told whole milliseconds
	require.Less(t, time.Since(start), bound+5*time.Second)
	err = brief.Load(t.Context(), nothing[store.Record], nothing[store.Change], 0)
	require.ErrorIs(t, err, store.ErrUnavailable)
	second := begin(t, pool)
	_, err = brief.InTx(second).Commit(t.Context(), put("other", `{}`))
	require.ErrorIs(t, err, store.ErrUnavailable)
	_, err = second.Exec(t.Context(), `SELECT 1`)
	require.NoError(t, err, "and can go on")
	require.Zero(t, get(t, brief, "other").Version, "reads wait for nobody")

	waiting := make(chan error, 1)
	go func() {
		_, err := s.Commit(t.Context(), put("patient", `{}`))
		waiting <- err
	}()
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-waiting)
	require.Equal(t, store.Seq(2), get(t, s, "patient").Version)
}

func TestATransactionKeepsItsSettings(t *testing.T) {
	s, pool, _ := fresh(t)
	tx := begin(t, pool)
	_, err := tx.Exec(t.Context(), `SET LOCAL lock_timeout = '1234ms'`)
	require.NoError(t, err)
	in := s.InTx(tx)
	check := func() {
		var timeout string
		require.NoError(t, tx.QueryRow(t.Context(), `SHOW lock_timeout`).Scan(&timeout))
		require.Equal(t, "1234ms", timeout)
	}
	commit(t, in, put("k", `{}`))
	check()
	_, err = in.Commit(t.Context(), store.Batch{If: []store.Cond{{Key: "k"}}, Emit: []byte(`{}`)})
	require.ErrorIs(t, err, store.ErrConflict)
	check()
}

func TestAStricterIsolationFailsSafely(t *testing.T) {
	s, pool, _ := fresh(t)
	commit(t, s, put("k", `{"n":1}`))
	tx := begin(t, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	in := s.InTx(tx)
	require.Equal(t, store.Seq(1), get(t, in, "k").Version)
	commit(t, s, store.Batch{If: []store.Cond{{Key: "k", Version: 1}}, Put: put("k", `{"n":2}`).Put})
	_, err := in.Commit(t.Context(), store.Batch{If: []store.Cond{{Key: "k", Version: 1}}, Put: put("k", `{"n":3}`).Put})
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.NoError(t, tx.Rollback(t.Context()))
	require.JSONEq(t, `{"n":2}`, string(get(t, s, "k").Value))
}

func TestOthersLearnOfATransactionAtTheNextPoll(t *testing.T) {
	s, pool, _ := fresh(t)
	tx := begin(t, pool)
	commit(t, s.InTx(tx), put("k", `{}`))
	waited := make(chan error, 1)
	go func() { waited <- s.Wait(t.Context(), 0) }()
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-waited)
}

func TestAStoreInATransactionSaysWhatItCannotDo(t *testing.T) {
	s, pool, _ := fresh(t)
	tx := begin(t, pool)
	in := s.InTx(tx)
	require.ErrorIs(t, in.Wait(t.Context(), 0), store.ErrInvalid)
	require.ErrorIs(t, in.Load(t.Context(), nothing[store.Record], nothing[store.Change], 0), store.ErrInvalid)
	_, owned := in.(store.Sole)
	require.False(t, owned)
	require.NoError(t, in.Close())
	require.NoError(t, in.Close())
	_, err := in.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.ErrClosed)
	_, err = in.Commit(t.Context(), put("k", `{}`))
	require.ErrorIs(t, err, store.ErrClosed)
	require.ErrorIs(t, in.Wait(t.Context(), 0), store.ErrClosed)

	late := s.InTx(tx)
	require.NoError(t, tx.Commit(t.Context()))
	_, err = late.Commit(t.Context(), put("k", `{}`))
	require.ErrorIs(t, err, store.ErrClosed)
	_, err = late.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.ErrClosed)
	commit(t, s, put("k", `{}`))
}
