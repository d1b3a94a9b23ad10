package store_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/store/postgres"
	"github.com/denizenhq/denizen/store/storetest"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// kinds are functions that make an empty store each.
var kinds = map[string]func(t *testing.T) store.Store{
	"memory": func(*testing.T) store.Store { return memory.New() },
	"bolt": func(t *testing.T) store.Store {
		t.Helper()
		s, err := bolt.Open(t.Context(), filepath.Join(long.Dir(t), "people.db"), bolt.Options{})
		require.NoError(t, err)
		return s
	},
	"postgres": func(t *testing.T) store.Store {
		t.Helper()
		dsn := os.Getenv("DENIZEN_POSTGRES")
		if dsn == "" {
			t.Skip("DENIZEN_POSTGRES is not set")
		}
		pool, err := pgxpool.New(t.Context(), dsn)
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		name := "test " + strings.ToLower(rand.Text())
		t.Cleanup(func() {
			_, err := pool.Exec(context.Background(), `DROP SCHEMA `+pgx.Identifier{name}.Sanitize()+` CASCADE`)
			require.NoError(t, err)
		})
		s, err := postgres.Open(t.Context(), pool, postgres.Options{Schema: name})
		require.NoError(t, err)
		return s
	},
}

func empty(t *testing.T, kind string) store.Store {
	t.Helper()
	s := kinds[kind](t)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// fill commits some thousand records and changes, and trims a part of the feed.
func fill(t *testing.T, s store.Store) {
	t.Helper()
	for i := range 30 {
		b := store.Batch{Emit: fmt.Appendf(nil, `{"i":%d}`, i)}
		for j := range 150 {
			k := store.Key(fmt.Sprintf("k\x00%d\xff/%d", j, i))
			b.Put = append(b.Put, store.Record{Key: k, Value: fmt.Appendf(nil, `{"i":%d,"text":"é\"\\"}`, i)})
		}
		_, err := s.Commit(t.Context(), b)
		require.NoError(t, err)
	}
	for i := range 1_500 {
		b := store.Batch{Put: []store.Record{{Key: "last", Value: fmt.Appendf(nil, `{"i":%d}`, i)}}}
		if i%5 > 0 {
			b.Emit = []byte(`{}`)
		}
		_, err := s.Commit(t.Context(), b)
		require.NoError(t, err)
	}
	_, err := s.Commit(t.Context(), store.Batch{Trim: 10})
	require.NoError(t, err)
}

// all returns the contents of s, with JSON in one spelling.
func all(t *testing.T, s store.Store) (records []string, feed []string) {
	t.Helper()
	plain := func(v []byte) string { return strings.ReplaceAll(string(v), " ", "") }
	for r := (store.Range{Limit: 1_000}); ; {
		page, err := s.List(t.Context(), r)
		require.NoError(t, err)
		for _, rec := range page {
			records = append(records, fmt.Sprintf("%q %d %s", rec.Key, rec.Version, plain(rec.Value)))
			r.After = rec.Key
		}
		if len(page) < r.Limit {
			break
		}
	}
	f, err := s.Changes(t.Context(), 10, store.MaxPage)
	require.NoError(t, err)
	for _, c := range f.Changes {
		feed = append(feed, fmt.Sprintf("%d %s", c.Seq, plain(c.Event)))
	}
	return records, append(feed, fmt.Sprint(f.First, f.Head))
}

// DENIZEN_POSTGRES must be set for copies from and to PostgreSQL.
func TestACopyHoldsTheSame(t *testing.T) {
	for _, way := range [][2]string{
		{"memory", "memory"},
		{"memory", "bolt"},
		{"bolt", "memory"},
		{"bolt", "postgres"},
		{"postgres", "bolt"},
		{"postgres", "postgres"},
	} {
		t.Run(way[0]+" to "+way[1], func(t *testing.T) {
			from, to := empty(t, way[0]), empty(t, way[1])
			fill(t, from)
			require.NoError(t, store.Copy(t.Context(), to, from))
			records, feed := all(t, from)
			require.Len(t, records, 30*150+1)
			copied, told := all(t, to)
			require.Equal(t, records, copied)
			require.Equal(t, feed, told)
			_, err := to.Commit(t.Context(), store.Batch{If: []store.Cond{{Key: "last", Version: 1_530}}, Emit: []byte(`{}`)})
			require.NoError(t, err)
			require.ErrorIs(t, store.Copy(t.Context(), to, from), store.ErrNotEmpty)
			_, again := all(t, from)
			require.Equal(t, feed, again, "the source is as it was")
		})
	}
}

func TestACopyOfAnEmptyStoreIsEmpty(t *testing.T) {
	to := empty(t, "memory")
	require.NoError(t, store.Copy(t.Context(), to, empty(t, "memory")))
	seq, err := to.Commit(t.Context(), store.Batch{Emit: []byte(`{}`)})
	require.NoError(t, err)
	require.Equal(t, store.Seq(1), seq)
}

// disturbed is a store that somebody writes to while it is read.
type disturbed struct {
	store.Store
	n int
}

func (d *disturbed) List(ctx context.Context, r store.Range) ([]store.Record, error) {
	if d.n++; d.n == 3 {
		if _, err := d.Commit(ctx, store.Batch{Drop: []store.Key{"last"}}); err != nil {
			return nil, err
		}
	}
	return d.Store.List(ctx, r)
}

func TestACopyOfWhatIsWrittenToMeanwhileIsRefused(t *testing.T) {
	from, to := empty(t, "memory"), empty(t, "memory")
	fill(t, from)
	require.ErrorIs(t, store.Copy(t.Context(), to, &disturbed{Store: from}), store.ErrUnavailable)
	records, err := to.List(t.Context(), store.Range{Limit: 1})
	require.NoError(t, err)
	require.Empty(t, records)
	require.NoError(t, store.Copy(t.Context(), to, from))
}

func TestACopyThatCannotReadLeavesNothing(t *testing.T) {
	from := empty(t, "memory")
	fill(t, from)
	calls := storetest.EachCall(storetest.Before, func(_ int, decide func(storetest.Call) storetest.Fault) {
		to := empty(t, "memory")
		err := store.Copy(t.Context(), to, storetest.Faulty(from, decide))
		if err == nil {
			return
		}
		require.ErrorIs(t, err, store.ErrUnavailable)
		feed, err := to.Changes(t.Context(), 0, 1)
		require.NoError(t, err)
		require.Zero(t, feed.Head)
	})
	require.Greater(t, calls, 5)
}
