package bolt_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

func path(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "people.db")
}

func open(t testing.TB, path string) *bolt.Store {
	t.Helper()
	s, err := bolt.Open(t.Context(), path, bolt.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func commit(t *testing.T, s store.Store, b store.Batch) store.Seq {
	t.Helper()
	seq, err := s.Commit(t.Context(), b)
	require.NoError(t, err)
	return seq
}

func put(key store.Key, value string) store.Batch {
	return store.Batch{Put: []store.Record{{Key: key, Value: []byte(value)}}, Emit: []byte(value)}
}

// filled returns the path of a closed file with records in it, and their values.
func filled(t *testing.T, n int) (string, map[store.Key]string) {
	t.Helper()
	path := path(t)
	s := open(t, path)
	values := map[store.Key]string{}
	for i := range n {
		key := store.Key(fmt.Sprintf("key/%05d", i*7919%n))
		values[key] = fmt.Sprintf(`{"of":%q,"pad":"%0*d"}`, key, 50+i%1_000, i)
		commit(t, s, put(key, values[key]))
	}
	require.NoError(t, s.Close())
	return path, values
}

func TestOpenMakesAFileForItsOwnerAlone(t *testing.T) {
	path := path(t)
	open(t, path)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
	names, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, names, 1, "nothing is left of how it was made")
}

func TestOpenTakesARelativeName(t *testing.T) {
	t.Chdir(t.TempDir())
	s := open(t, "people.db")
	commit(t, s, put("k", `{}`))
	require.FileExists(t, "people.db")
}

func TestManyMayMakeOneFileAtOnce(t *testing.T) {
	for range 20 {
		path := path(t)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				s, err := bolt.Open(t.Context(), path, bolt.Options{LockTimeout: time.Minute})
				if !errors.Is(err, nil) {
					t.Error(err)
					return
				}
				_, err = s.Commit(t.Context(), put(store.Key(fmt.Sprint(i)), `{}`))
				if err := errors.Join(err, s.Close()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		records, err := open(t, path).List(t.Context(), store.Range{Limit: 100})
		require.NoError(t, err)
		require.Len(t, records, 8, "nobody's file was taken by another's")
	}
}

func TestAnOpenStoreHasNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which fails if one is left at its end
		s, err := bolt.Open(t.Context(), path(t), bolt.Options{})
		require.NoError(t, err)
		commit(t, s, put("k", `{}`))
	})
}

func TestAFileInUseIsRefusedWithinASecond(t *testing.T) {
	path := path(t)
	s := open(t, path)
	commit(t, s, put("k", `{}`))
	refused := func(err error) {
		t.Helper()
		require.ErrorIs(t, err, bolt.ErrInUse)
		require.ErrorIs(t, err, store.ErrUnavailable)
		require.ErrorContains(t, err, path)
	}
	start := time.Now()
	_, err := bolt.Open(t.Context(), path, bolt.Options{})
	refused(err)
	require.Less(t, time.Since(start), 30*time.Second) // a second, on any machine
	require.Contains(t, child(t, "open", path), bolt.ErrInUse.Error())

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = bolt.Open(ctx, path, bolt.Options{LockTimeout: time.Hour})
	require.ErrorIs(t, err, context.DeadlineExceeded)

	commit(t, s, put("k", `{}`))
	require.NoError(t, s.Close())
	require.Empty(t, child(t, "open", path))
}

func init() {
	children["open"] = func(path string) error {
		s, err := bolt.Open(context.Background(), path, bolt.Options{})
		if err != nil {
			return err
		}
		return s.Close()
	}
}

func TestOpenWaitsForAFileThatIsGivenBack(t *testing.T) {
	path := path(t)
	s := open(t, path)
	opened := make(chan error, 1)
	go func() {
		s, err := bolt.Open(t.Context(), path, bolt.Options{LockTimeout: time.Minute})
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	require.NoError(t, s.Close())
	require.NoError(t, <-opened)
}

// rawFile makes a bbolt file.
func rawFile(t *testing.T, f func(tx *bbolt.Tx) error) string {
	t.Helper()
	path := path(t)
	edit(t, path, f)
	return path
}

// edit changes a file without the store.
func edit(t *testing.T, path string, f func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(f))
	require.NoError(t, db.Close())
}

func writeFile(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(long.Dir(t), "people.db")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

func TestWhatOpenDidNotMakeIsRefusedAndLeftAsItIs(t *testing.T) {
	for _, test := range []struct {
		name string
		file func(t *testing.T) string
		want error
	}{
		{"an empty file", func(t *testing.T) string { return writeFile(t, nil) }, bolt.ErrFormat},
		{"a text", func(t *testing.T) string { return writeFile(t, []byte("hello\n")) }, bolt.ErrFormat},
		{"a long foreign file", func(t *testing.T) string { return writeFile(t, bytes.Repeat([]byte("SQLite format 3\x00"), 1<<14)) }, bolt.ErrFormat},
		{"a file of zeros", func(t *testing.T) string { return writeFile(t, make([]byte, 1<<15)) }, bolt.ErrFormat},
		{"an empty bbolt file", func(t *testing.T) string { return rawFile(t, func(*bbolt.Tx) error { return nil }) }, bolt.ErrFormat},
		{"a bbolt file of something else", func(t *testing.T) string {
			return rawFile(t, func(tx *bbolt.Tx) error {
				for _, name := range []string{"records", "feed", "meta"} {
					if _, err := tx.CreateBucket([]byte(name)); err != nil {
						return err
					}
				}
				return nil
			})
		}, bolt.ErrFormat},
		{"a newer format", func(t *testing.T) string {
			path, _ := filled(t, 3)
			edit(t, path, func(tx *bbolt.Tx) error {
				return tx.Bucket([]byte("meta")).Put([]byte("format"), bolt.Seal([]byte("format"), 3, []byte("denizen")))
			})
			return path
		}, bolt.ErrFormat},
		{"an older format", func(t *testing.T) string {
			path, _ := filled(t, 3)
			edit(t, path, func(tx *bbolt.Tx) error {
				return tx.Bucket([]byte("meta")).Put([]byte("format"), bolt.Seal([]byte("format"), 1, []byte("denizen")))
			})
			return path
		}, bolt.ErrFormat},
		{"a file that others may read", func(t *testing.T) string {
			path, _ := filled(t, 3)
			require.NoError(t, os.Chmod(path, 0o640))
			return path
		}, bolt.ErrMode},
		{"a file that all may write", func(t *testing.T) string {
			path, _ := filled(t, 3)
			require.NoError(t, os.Chmod(path, 0o666))
			return path
		}, bolt.ErrMode},
		{"another's mark", func(t *testing.T) string {
			path, _ := filled(t, 3)
			edit(t, path, func(tx *bbolt.Tx) error {
				return tx.Bucket([]byte("meta")).Put([]byte("format"), bolt.Seal([]byte("format"), 1, []byte("citizen")))
			})
			return path
		}, bolt.ErrFormat},
		{"a damaged mark", func(t *testing.T) string {
			path, _ := filled(t, 3)
			edit(t, path, func(tx *bbolt.Tx) error {
				return tx.Bucket([]byte("meta")).Put([]byte("format"), []byte("denizen 1 and more"))
			})
			return path
		}, store.ErrCorrupt},
		{"half a load", func(t *testing.T) string {
			path, _ := filled(t, 0)
			edit(t, path, func(tx *bbolt.Tx) error {
				_, err := tx.CreateBucket([]byte("load"))
				return err
			})
			return path
		}, bolt.ErrFormat},
		{"no feed", func(t *testing.T) string {
			path, _ := filled(t, 3)
			edit(t, path, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("feed")) })
			return path
		}, store.ErrCorrupt},
		{"no head", func(t *testing.T) string {
			path, _ := filled(t, 3)
			edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Delete([]byte("head")) })
			return path
		}, store.ErrCorrupt},
		{"both meta pages damaged", func(t *testing.T) string {
			path, _ := filled(t, 3)
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			b[40] ^= 1
			b[os.Getpagesize()+40] ^= 1
			require.NoError(t, os.WriteFile(path, b, 0o600))
			return path
		}, store.ErrCorrupt},
		{"a list of free pages with a page in use", func(t *testing.T) string {
			path, _ := filled(t, 300)
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			page := os.Getpagesize()
			freelist := max(int(binary.NativeEndian.Uint64(b[48:])), 0) * page
			if second := b[page:]; binary.NativeEndian.Uint64(second[64:]) > binary.NativeEndian.Uint64(b[64:]) {
				freelist = int(binary.NativeEndian.Uint64(second[48:])) * page
			}
			require.NotZero(t, binary.NativeEndian.Uint16(b[freelist+10:]), "there are free pages")
			binary.NativeEndian.PutUint64(b[freelist+16:], 1<<40)
			require.NoError(t, os.WriteFile(path, b, 0o600))
			return path
		}, store.ErrCorrupt},
		{"a directory", func(t *testing.T) string { return t.TempDir() }, store.ErrUnavailable},
		{"a name in no directory", func(t *testing.T) string { return filepath.Join(t.TempDir(), "none", "people.db") }, store.ErrUnavailable},
		{"a link to nowhere", func(t *testing.T) string {
			path := path(t)
			require.NoError(t, os.Symlink("nowhere", path))
			return path
		}, store.ErrUnavailable},
		{"a device", func(*testing.T) string { return os.DevNull }, bolt.ErrFormat},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := test.file(t)
			before, _ := os.ReadFile(path)
			s, err := bolt.Open(t.Context(), path, bolt.Options{})
			require.ErrorIs(t, err, test.want)
			require.ErrorContains(t, err, path)
			require.Nil(t, s)
			after, _ := os.ReadFile(path)
			require.True(t, bytes.Equal(before, after))
			_, err = bolt.Open(t.Context(), path, bolt.Options{})
			require.ErrorIs(t, err, test.want, "and again, not that it is in use")
		})
	}
}

func TestAFileCutShortIsRefused(t *testing.T) {
	path, _ := filled(t, 200)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	used := 0
	edit(t, path, func(tx *bbolt.Tx) error {
		used = int(tx.Size())
		return nil
	})
	lengths := []int{0, 1, 15, 16, 79, 80, 1024, 4095, 4096, 4097, 4096 + 79, 4096 + 80, 8191, 8192, 8193, 12288, used / 2, used - 4096, used - 1}
	for at := 0; at < used; at += used/50 + 1 {
		lengths = append(lengths, at)
	}
	for _, length := range lengths {
		short := writeFile(t, whole[:length])
		_, err := bolt.Open(t.Context(), short, bolt.Options{})
		if !errors.Is(err, store.ErrCorrupt) {
			require.ErrorIs(t, err, bolt.ErrFormat, length)
			require.Less(t, length, 80, "a meta page is there, so it is known for what it was")
		}
	}
}

func TestAnEndedContextOpensNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path := path(t)
	_, err := bolt.Open(ctx, path, bolt.Options{})
	require.ErrorIs(t, err, context.Canceled)
	require.NoFileExists(t, path)
}

func TestAFileThatMayNotBeOpenedSaysWhy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
	_, err := bolt.Open(t.Context(), filepath.Join(dir, "people.db"), bolt.Options{})
	require.ErrorIs(t, err, store.ErrUnavailable)
	var path *fs.PathError
	require.NotErrorAs(t, err, &path, "the name is there once")
}

func TestAFileWhosePagesLeadInACircleIsRefused(t *testing.T) {
	path, _ := filled(t, 300)
	whole := inUse(t, path)
	page := os.Getpagesize()
	found := 0
	for at := 2 * page; at < len(whole); at += page {
		const branch = 1
		if binary.NativeEndian.Uint16(whole[at+8:]) != branch {
			continue
		}
		damaged := bytes.Clone(whole)
		binary.NativeEndian.PutUint64(damaged[at+24:], uint64(at/page)) // its first child is itself
		path := writeFile(t, damaged)
		if says := child(t, "open", path); says != "" {
			require.Contains(t, says, store.ErrCorrupt.Error())
			require.NotContains(t, says, "goroutine")
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.True(t, bytes.Equal(damaged, after))
			found++
		}
	}
	require.Positive(t, found)
}
