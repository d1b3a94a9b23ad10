package bolt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/stretchr/testify/require"
)

// inUse returns the part of the file that its pages use.
func inUse(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	page, pages := os.Getpagesize(), uint64(0)
	for _, meta := range [][]byte{b, b[page:]} {
		pages = max(pages, binary.NativeEndian.Uint64(meta[56:]))
	}
	return b[:int(pages)*page]
}

func TestADamagedValueIsFoundAndNeverAnswered(t *testing.T) {
	path, values := filled(t, 60)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(1, 2))
	for key, value := range values {
		// The file may contain stale copies of the page. All of them are damaged.
		damaged := bytes.Clone(whole)
		offset := rng.IntN(len(value))
		for at := 0; ; at += len(value) {
			i := bytes.Index(damaged[at:], []byte(value))
			if i < 0 {
				break
			}
			at += i
			damaged[at+offset] ^= 1 << rng.IntN(8)
		}
		s, err := bolt.Open(t.Context(), writeFile(t, damaged), bolt.Options{})
		require.NoError(t, err)
		got, err := s.Get(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, []store.Record{{Key: key, Damaged: true}}, got)
		got, err = s.List(t.Context(), store.Range{Limit: 100})
		require.NoError(t, err)
		require.Len(t, got, len(values))
		require.Contains(t, got, store.Record{Key: key, Damaged: true})
		feed, err := s.Changes(t.Context(), 0, 100)
		require.NoError(t, err)
		require.Len(t, feed.Changes, len(values))
		require.True(t, slices.ContainsFunc(feed.Changes, func(c store.Change) bool { return c.Damaged }), "its event has the same text")
		require.ErrorIs(t, s.Verify(t.Context()), store.ErrCorrupt)

		b := put("other", `{}`)
		b.If = []store.Cond{{Key: key, Version: 1}}
		_, err = s.Commit(t.Context(), b)
		require.ErrorIs(t, err, store.ErrCorrupt)
		for other, value := range values {
			if other != key {
				records, err := s.Get(t.Context(), other)
				require.NoError(t, err)
				require.Equal(t, value, string(records[0].Value))
			}
		}
		commit(t, s, put(key, `{}`))
		require.NoError(t, s.Close())
	}
}

func TestNoDamageMakesAWrongAnswerOrAPanic(t *testing.T) {
	path, values := filled(t, 60)
	whole := inUse(t, path)
	page := os.Getpagesize()
	rng := rand.New(rand.NewPCG(3, 4))
	found := 0
	for range 500 {
		damaged := bytes.Clone(whole)
		// Half of it hits the heads of pages, where it does the most harm.
		at := rng.IntN(len(whole))
		if rng.IntN(2) == 0 {
			at = at/page*page + rng.IntN(64)
		}
		damaged[at] ^= 1 << rng.IntN(8)
		s, err := bolt.Open(t.Context(), writeFile(t, damaged), bolt.Options{})
		if err != nil {
			require.True(t, errors.Is(err, store.ErrCorrupt) || errors.Is(err, bolt.ErrFormat), err)
			found++
			continue
		}
		verified := s.Verify(t.Context())
		if verified != nil {
			require.ErrorIs(t, verified, store.ErrCorrupt)
			found++
		}
		const branch = 1
		if verified != nil && damaged[at/page*page+8] == branch {
			require.NoError(t, s.Close())
			continue // a page above itself has no end for bbolt
		}
		for key, value := range values {
			records, err := s.Get(t.Context(), key)
			switch {
			case err != nil:
				require.ErrorIs(t, err, store.ErrCorrupt)
				require.Error(t, verified)
			case records[0].Damaged:
				require.Nil(t, records[0].Value)
				require.Error(t, verified)
			case records[0].Version == 0:
				require.True(t, verified != nil || at < 2*page, "a record is gone and only a meta page may keep it secret: byte %d", at)
			default:
				require.Equal(t, value, string(records[0].Value))
			}
		}
		for _, err := range []error{
			errOf(s.List(t.Context(), store.Range{Limit: 100})),
			errOf(s.Changes(t.Context(), 0, 100)),
		} {
			if err != nil {
				require.ErrorIs(t, err, store.ErrCorrupt)
				require.Error(t, verified)
			}
		}
		require.NoError(t, s.Close())
	}
	require.Greater(t, found, 50)
}

func errOf[T any](_ T, err error) error { return err }
