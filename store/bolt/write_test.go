package bolt_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

func TestABackupIsAWholeFile(t *testing.T) {
	path, values := filled(t, 100)
	s := open(t, path)
	var copied bytes.Buffer
	require.NoError(t, s.Backup(t.Context(), &copied))
	commit(t, s, put("later", `{}`))
	b := open(t, writeFile(t, copied.Bytes()))
	require.NoError(t, b.Verify(t.Context()))
	records, err := b.List(t.Context(), store.Range{Limit: 1_000})
	require.NoError(t, err)
	require.Len(t, records, len(values))
	require.Equal(t, store.Seq(101), commit(t, b, put("k", `{}`)))
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestABackupThatCannotBeWrittenSaysSo(t *testing.T) {
	path, _ := filled(t, 3)
	require.ErrorContains(t, open(t, path).Backup(t.Context(), full{}), "full")
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	path, _ := filled(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, open(t, path).Verify(ctx), context.Canceled)
}

// events answers how many events lie in the file of a closed store.
func events(t *testing.T, path string) (n int) {
	t.Helper()
	edit(t, path, func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("feed")).ForEach(func(_, _ []byte) error {
			n++
			return nil
		})
	})
	return n
}

func TestALongTrimIsPaidForByTheCommitsAfterIt(t *testing.T) {
	const n, sweep = 2_500, 1_000
	path := path(t)
	s := open(t, path)
	require.NoError(t, s.Load(t.Context(), nothing[store.Record], func(yield func(store.Change, error) bool) {
		for seq := range store.Seq(n) {
			if !yield(store.Change{Seq: seq + 1, Event: []byte(`{}`)}, nil) {
				return
			}
		}
	}, n))
	commit(t, s, store.Batch{Trim: n})
	feed, err := s.Changes(t.Context(), n, 10)
	require.NoError(t, err)
	require.Equal(t, store.Feed{First: n + 1, Head: n + 1}, feed)
	feed, err = s.Changes(t.Context(), n-1, 10)
	require.ErrorIs(t, err, store.ErrMissed, "it is forgotten at once")
	require.Empty(t, feed.Changes)
	require.NoError(t, s.Close())
	require.Equal(t, n-sweep, events(t, path))

	s = open(t, path)
	commit(t, s, put("k", `{}`))
	commit(t, s, put("k", `{}`))
	require.NoError(t, s.Verify(t.Context()))
	require.NoError(t, s.Close())
	require.Equal(t, 2, events(t, path), "those that were not trimmed")
}

func nothing[T any](func(T, error) bool) {}

func TestALoadThatFailsLeavesAnEmptyStore(t *testing.T) {
	errBroken := errors.New("broken")
	many := func(err error) func(yield func(store.Record, error) bool) {
		return func(yield func(store.Record, error) bool) {
			for i := range 2_500 {
				if !yield(store.Record{Key: store.Key(fmt.Sprint(i)), Version: 1, Value: []byte(`{}`)}, nil) {
					return
				}
			}
			if err != nil {
				yield(store.Record{}, err)
			}
		}
	}
	path := path(t)
	s := open(t, path)
	require.ErrorIs(t, s.Load(t.Context(), many(errBroken), nothing[store.Change], 5), errBroken)
	require.Panics(t, func() {
		_ = s.Load(t.Context(), many(nil), func(func(store.Change, error) bool) { panic("iterator") }, 5)
	})
	records, err := s.List(t.Context(), store.Range{Limit: 1})
	require.NoError(t, err)
	require.Empty(t, records)
	require.NoError(t, s.Close())

	s = open(t, path)
	require.NoError(t, s.Verify(t.Context()))
	require.NoError(t, s.Load(t.Context(), many(nil), nothing[store.Change], 5))
	require.NoError(t, s.Verify(t.Context()))
	require.Equal(t, store.Seq(6), commit(t, s, put("k", `{}`)))
	require.ErrorIs(t, s.Load(t.Context(), many(nil), nothing[store.Change], 5), store.ErrNotEmpty)
}

func TestNothingIsSeenOfALoadBeforeItIsWhole(t *testing.T) {
	path := path(t)
	s := open(t, path)
	err := s.Load(t.Context(), func(yield func(store.Record, error) bool) {
		for i := range 2_500 {
			if !yield(store.Record{Key: store.Key(fmt.Sprint(i)), Version: 1, Value: []byte(`{}`)}, nil) {
				return
			}
		}
		records, err := s.List(t.Context(), store.Range{Limit: 1})
		require.NoError(t, err)
		require.Empty(t, records)

		// What a process that dies here leaves behind is refused.
		var copied bytes.Buffer
		require.NoError(t, s.Backup(t.Context(), &copied))
		_, err = bolt.Open(t.Context(), writeFile(t, copied.Bytes()), bolt.Options{})
		require.ErrorIs(t, err, bolt.ErrFormat)
	}, nothing[store.Change], 1)
	require.NoError(t, err)
	records, err := s.List(t.Context(), store.Range{Limit: 3_000})
	require.NoError(t, err)
	require.Len(t, records, 2_500)
}

func TestAStoreOutlivesItsName(t *testing.T) {
	path, _ := filled(t, 3)
	s := open(t, path)
	require.NoError(t, os.Rename(path, filepath.Join(filepath.Dir(path), "moved.db")))
	commit(t, s, put("k", `{}`))
	other := open(t, path)
	require.Equal(t, store.Seq(1), commit(t, other, put("k", `{}`)), "a new file under the old name is another store")
}

func TestAClosedStoreSaysSo(t *testing.T) {
	s := open(t, path(t))
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Verify(t.Context()), store.ErrClosed)
	require.ErrorIs(t, s.Backup(t.Context(), full{}), store.ErrClosed)
	_, err := s.Own()
	require.ErrorIs(t, err, store.ErrClosed)
}
