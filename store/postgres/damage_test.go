package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/postgres"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// damages are the ways to damage a row by SQL. $1 is its key.
var damages = map[string]func(t *testing.T, schema, table, column string, place any){
	"it is no object": func(t *testing.T, schema, table, column string, place any) {
		do(t, fmt.Sprintf(`UPDATE %s.%s SET %s = '[]' WHERE %s = $1`, quote(schema), table, column, keyOf(table)), place)
	},
	// A large value is stored in pieces beside its table. There is one too many: unlike one that is
	// lost, and found as long as any snapshot on the server may need it, it is seen at once.
	"its pieces do not fit": func(t *testing.T, schema, table, column string, place any) {
		do(t, fmt.Sprintf(`ALTER TABLE %s.%s ALTER COLUMN %s SET STORAGE EXTERNAL`, quote(schema), table, column))
		do(t, fmt.Sprintf(`UPDATE %s.%s SET %s = (SELECT jsonb_build_object('n', string_agg(md5(i::text), ''))
			FROM generate_series(1, 500) i) WHERE %s = $1`, quote(schema), table, column, keyOf(table)), place)
		pool, err := admin()
		require.NoError(t, err)
		var toast string
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT reltoastrelid::regclass::text FROM pg_class WHERE oid = $1::regclass`,
			quote(schema)+"."+table).Scan(&toast))
		require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			// PostgreSQL refuses writes to such a table under its own name.
			kind := `UPDATE pg_class SET relkind = $2 WHERE oid = $1::regclass`
			_, err := tx.Exec(t.Context(), kind, toast, "r")
			if err == nil {
				_, err = tx.Exec(t.Context(), `INSERT INTO `+toast+` SELECT chunk_id, 1000, chunk_data FROM `+toast+` WHERE chunk_seq = 1`)
			}
			if err == nil {
				_, err = tx.Exec(t.Context(), kind, toast, "t")
			}
			return err
		}))
		_, err = pool.Exec(t.Context(), fmt.Sprintf(`SELECT md5(%s::text) FROM %s.%s WHERE %s = $1`, column, quote(schema), table, keyOf(table)), place)
		var refused *pgconn.PgError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "XX001", refused.Code)
	},
}

func keyOf(table string) string { return map[string]string{"records": "key", "changes": "seq"}[table] }

func TestADamagedRecordStopsNobody(t *testing.T) {
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			s, _, schema := fresh(t)
			for _, k := range []store.Key{"a", "b", "c"} {
				commit(t, s, put(k, `{"n":1}`))
			}
			damage(t, schema, "records", "value", []byte("b"))

			got, err := s.Get(t.Context(), "a", "b", "none", "c")
			require.NoError(t, err)
			require.Equal(t, []bool{false, true, false, false}, []bool{got[0].Damaged, got[1].Damaged, got[2].Damaged, got[3].Damaged})
			require.Nil(t, got[1].Value)
			require.Equal(t, store.Seq(3), got[3].Version)
			require.Zero(t, got[2].Version)
			require.True(t, get(t, s, "b").Damaged)

			listed, err := s.List(t.Context(), store.Range{Limit: 10})
			require.NoError(t, err)
			require.Len(t, listed, 3)
			require.True(t, listed[1].Damaged)
			require.JSONEq(t, `{"n":1}`, string(listed[2].Value))
			listed, err = s.List(t.Context(), store.Range{Limit: 10, KeysOnly: true})
			require.NoError(t, err)
			require.Equal(t, []store.Record{{Key: "a", Version: 1}, {Key: "b", Version: 2, Damaged: true}, {Key: "c", Version: 3}}, listed)

			for _, k := range []store.Key{"b", "c"} { // a version that is right, and one that is not
				_, err = s.Commit(t.Context(), store.Batch{If: []store.Cond{{Key: "b", Version: 2}, {Key: "a", Version: 1}}, Drop: []store.Key{k}})
				require.ErrorIs(t, err, store.ErrCorrupt)
			}
			commit(t, s, store.Batch{If: []store.Cond{{Key: "a", Version: 1}}, Put: put("a", `{"n":2}`).Put})
			_, err = s.Commit(t.Context(), store.Batch{If: []store.Cond{{Key: "c", Damaged: true}}, Drop: []store.Key{"c"}})
			require.ErrorIs(t, err, store.ErrConflict)
			commit(t, s, store.Batch{If: []store.Cond{{Key: "b", Damaged: true}}, Put: put("b", `{"n":2}`).Put})
			require.JSONEq(t, `{"n":2}`, string(get(t, s, "b").Value))
			damage(t, schema, "records", "value", []byte("b"))
			commit(t, s, store.Batch{Drop: []store.Key{"b"}})
			require.Equal(t, store.Record{Key: "b"}, get(t, s, "b"))
		})
	}
}

func TestADamagedEventHidesNoOther(t *testing.T) {
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			s, _, schema := fresh(t)
			for range 5 {
				commit(t, s, store.Batch{Emit: []byte(`{"n":1}`)})
			}
			damage(t, schema, "changes", "event", 3)
			feed, err := s.Changes(t.Context(), 1, 10)
			require.NoError(t, err)
			require.Equal(t, store.Seq(5), feed.Head)
			var seqs []store.Seq
			for _, c := range feed.Changes {
				seqs = append(seqs, c.Seq)
				require.Equal(t, c.Seq == 3, c.Damaged)
				require.Equal(t, c.Damaged, c.Event == nil)
			}
			require.Equal(t, []store.Seq{2, 3, 4, 5}, seqs)
		})
	}
}

func TestADamagedRecordInAHostsTransactionIsMarked(t *testing.T) {
	s, pool, schema := fresh(t)
	commit(t, s, put("b", `{}`))
	damages["it is no object"](t, schema, "records", "value", []byte("b"))
	in := s.InTx(begin(t, pool))
	require.True(t, get(t, in, "b").Damaged)
	_, err := in.Commit(context.WithoutCancel(t.Context()), store.Batch{If: []store.Cond{{Key: "b", Version: 1}}, Emit: []byte(`{}`)})
	require.ErrorIs(t, err, store.ErrCorrupt)
	commit(t, in, put("b", `{}`))
	require.False(t, get(t, in, "b").Damaged)
}

func TestADamagedRecordRefusesNoNeighbourInItsGroup(t *testing.T) {
	schema := schema(t)
	pool, tag := tagged(t, schema)
	s := open(t, pool, postgres.Options{Schema: schema, LockTimeout: time.Minute})
	for _, k := range []store.Key{"a", "b"} {
		commit(t, s, put(k, `{"n":1}`))
	}
	damages["its pieces do not fit"](t, schema, "records", "value", []byte("b"))
	tx := begin(t, pool)
	_, err := s.InTx(tx).Commit(t.Context(), store.Batch{Emit: []byte(`{}`)})
	require.NoError(t, err)
	// The first leads and waits for the lock; the others join its group.
	errs := make(chan error, 20)
	for i := range 20 {
		go func() {
			k := store.Key(fmt.Sprint("new", i))
			b := store.Batch{If: []store.Cond{{Key: k}}, Put: put(k, `{}`).Put}
			if i%2 == 1 {
				b.If = append(b.If, store.Cond{Key: "b", Version: 2})
			}
			_, err := s.Commit(context.Background(), b)
			if i%2 == 1 {
				if !errors.Is(err, store.ErrCorrupt) {
					err = fmt.Errorf("it was to be refused: %w", err)
				} else {
					err = nil
				}
			}
			errs <- err
		}()
	}
	require.Eventually(t, func() bool {
		var waiting int
		_ = pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
			WHERE locktype = 'advisory' AND NOT granted AND application_name = $1`, tag).Scan(&waiting)
		return waiting > 0
	}, 30*time.Second, time.Millisecond)
	require.NoError(t, tx.Rollback(t.Context()))
	for range 20 {
		require.NoError(t, <-errs)
	}
}
