package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"os"
	"path/filepath"
	"testing"

	"github.com/denizenhq/denizen/store"
	"github.com/stretchr/testify/require"
)

// FuzzPages checks the code that reads files before bbolt does. It must not panic or use memory or
// time out of proportion, and every refusal is typed.
func FuzzPages(f *testing.F) {
	path := filepath.Join(f.TempDir(), "people.db")
	require.NoError(f, create(path))
	empty, err := os.ReadFile(path)
	require.NoError(f, err)
	page := os.Getpagesize()
	used := 0
	for at := 0; at < len(empty); at += page {
		if len(bytes.Trim(empty[at:at+page], "\x00")) > 0 {
			used = at + page
		}
	}
	f.Add(empty[:used])
	f.Add(empty[:page+100])
	f.Add([]byte("SQLite format 3\x00"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, file []byte) {
		file = bytes.Clone(file)
		for at := 0; at+pageHeaderSize+metaSize <= len(file) && at <= page; at += page {
			meta := file[at+pageHeaderSize:][:metaSize]
			h := fnv.New64a()
			h.Write(meta[:metaSize-8])
			binary.NativeEndian.PutUint64(meta[metaSize-8:], h.Sum64())
		}
		r := bytes.NewReader(file)
		err := inspect(r, int64(len(file)))
		if err == nil {
			err = verifyPages(t.Context(), r, checkSum)
		}
		if err != nil {
			require.True(t, errors.Is(err, ErrFormat) || errors.Is(err, store.ErrCorrupt), err)
		}
	})
}

// FuzzOpenSealed checks that unseal accepts what was sealed, and nothing else.
func FuzzOpenSealed(f *testing.F) {
	f.Add([]byte("key"), uint64(1), []byte(`{}`), uint16(0), byte(1))
	f.Add([]byte("k"), uint64(1)<<63, []byte(nil), uint16(3), byte(128))
	f.Fuzz(func(t *testing.T, key []byte, version uint64, value []byte, at uint16, flip byte) {
		sealed := seal([]byte("before"), key, store.Seq(version), value)[len("before"):]
		gotVersion, gotValue, err := unseal(key, sealed)
		require.NoError(t, err)
		require.Equal(t, store.Seq(version), gotVersion)
		require.True(t, bytes.Equal(value, gotValue))
		if flip != 0 {
			sealed[int(at)%len(sealed)] ^= flip
			_, _, err = unseal(key, sealed)
			require.ErrorIs(t, err, store.ErrCorrupt)
		}
		_, _, err = unseal(key, sealed[:min(int(at), sealSize-1)])
		require.ErrorIs(t, err, store.ErrCorrupt)
	})
}
