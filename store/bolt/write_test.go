package bolt_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

func TestABackupIsAWholeFile(t *testing.T) {
	path, values := filled(t, 100)
	s := open(t, path)
	var copied bytes.Buffer
	backUp(t, s, &copied)
	commit(t, s, put("later", `{}`))
	b := open(t, writeFile(t, bolt.RawOf(copied.Bytes())))
	require.NoError(t, b.Verify(t.Context()))
	records, err := b.List(t.Context(), store.Range{Limit: 1_000})
	require.NoError(t, err)
	require.Len(t, records, len(values))
	require.Equal(t, store.Seq(101), commit(t, b, put("k", `{}`)))
}

// backUp writes a backup, whose raw file is what a process that dies now leaves.
func backUp(t *testing.T, s *bolt.Store, w io.Writer) store.Seq {
	t.Helper()
	seq, err := s.Backup(t.Context(), w)
	require.NoError(t, err)
	return seq
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestABackupThatCannotBeWrittenSaysSo(t *testing.T) {
	path, _ := filled(t, 3)
	_, err := open(t, path).Backup(t.Context(), full{})
	require.ErrorContains(t, err, "full")
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	path, _ := filled(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, open(t, path).Verify(ctx), context.Canceled)
}

// events returns how many events are in the file of a closed store.
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

		// The file that a process leaves if it dies here is refused.
		var copied bytes.Buffer
		backUp(t, s, &copied)
		_, err = bolt.Open(t.Context(), writeFile(t, bolt.RawOf(copied.Bytes())), bolt.Options{})
		require.ErrorIs(t, err, bolt.ErrFormat)
	}, nothing[store.Change], 1)
	require.NoError(t, err)
	records, err := s.List(t.Context(), store.Range{Limit: 3_000})
	require.NoError(t, err)
	require.Len(t, records, 2_500)
}

func TestAFileThatWasReplacedIsRefused(t *testing.T) {
	path, _ := filled(t, 3)
	moved := filepath.Join(filepath.Dir(path), "moved.db")
	synctest.Test(t, func(t *testing.T) {
		s, err := bolt.Open(t.Context(), path, bolt.Options{})
		require.NoError(t, err)
		require.NoError(t, os.Rename(path, moved))
		for range 2 { // there is none under its name, and then another
			time.Sleep(time.Second)
			_, err = s.Commit(t.Context(), put("k", `{}`))
			require.ErrorIs(t, err, store.ErrUnavailable)
			require.ErrorIs(t, s.Health(), store.ErrUnavailable)
			_, err = s.Get(t.Context(), "k")
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, []byte("another"), 0o600))
		}
		require.NoError(t, os.Rename(moved, path))
		time.Sleep(time.Second)
		commit(t, s, put("k", `{}`))
		require.NoError(t, s.Health())
		require.NoError(t, s.Close())
	})
}

func TestAClosedStoreSaysSo(t *testing.T) {
	s := open(t, path(t))
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Verify(t.Context()), store.ErrClosed)
	_, err := s.Backup(t.Context(), full{})
	require.ErrorIs(t, err, store.ErrClosed)
	_, err = s.Own()
	require.ErrorIs(t, err, store.ErrClosed)
}

// stalled is a writer that blocks until it is released.
type stalled struct {
	begun, free chan struct{}
	bytes.Buffer
}

func (w *stalled) Write(p []byte) (int, error) {
	if w.Len() == 0 {
		close(w.begun)
	}
	<-w.free
	return w.Buffer.Write(p)
}

func TestASlowBackupStopsNobody(t *testing.T) {
	path, values := filled(t, 60)
	s := open(t, path)
	before, err := os.Stat(path)
	require.NoError(t, err)
	w := &stalled{begun: make(chan struct{}), free: make(chan struct{})}
	done := make(chan error, 1)
	go func() { done <- errOf(s.Backup(t.Context(), w)) }()
	<-w.begun
	pad := fmt.Sprintf(`{"pad":"%0100000d"}`, 0)
	grown := make(chan error, 8)
	for i := range 8 {
		go func() {
			for n := range 20 {
				if _, err := s.Commit(context.Background(), put(store.Key(fmt.Sprint(i, "/", n)), pad)); err != nil {
					grown <- err
					return
				}
			}
			grown <- nil
		}()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 8 {
		select {
		case err := <-grown:
			require.NoError(t, err)
		case <-ctx.Done():
			close(w.free)
			require.Fail(t, "commits wait for the backup")
		}
		_, err := s.Get(ctx, "key/00001")
		require.NoError(t, err)
	}
	after, err := os.Stat(path)
	require.NoError(t, err)
	require.Greater(t, after.Size(), 4*before.Size(), "the file had to grow")
	close(w.free)
	require.NoError(t, <-done)
	b := open(t, writeFile(t, bolt.RawOf(w.Bytes())))
	require.NoError(t, b.Verify(t.Context()))
	records, err := b.List(t.Context(), store.Range{Limit: 1_000})
	require.NoError(t, err)
	require.Len(t, records, len(values))
}

func TestABackupEndsWithItsContext(t *testing.T) {
	path, _ := filled(t, 3)
	s := open(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	w := &stalled{begun: make(chan struct{}), free: make(chan struct{})}
	done := make(chan error, 1)
	go func() { done <- errOf(s.Backup(ctx, w)) }()
	<-w.begun
	cancel()
	close(w.free)
	require.ErrorIs(t, <-done, context.Canceled)
}

func TestDamageIsFoundInTheBackgroundAfterAnUncleanStop(t *testing.T) {
	path, _ := filled(t, 60)
	s := open(t, path)
	require.NoError(t, s.Health())
	var copied bytes.Buffer // the file as a dying process leaves it
	backUp(t, s, &copied)
	sound := open(t, writeFile(t, bolt.RawOf(copied.Bytes())))
	sound.Checked()
	require.NoError(t, sound.Health())
	require.NoError(t, s.Damage("key/00007"))
	copied.Reset()
	backUp(t, s, &copied)
	damaged := open(t, writeFile(t, bolt.RawOf(copied.Bytes())))
	damaged.Checked()
	require.ErrorIs(t, damaged.Health(), store.ErrCorrupt)
	commit(t, damaged, put("k", `{}`))
}
