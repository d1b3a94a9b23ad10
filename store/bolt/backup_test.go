package bolt_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/stretchr/testify/require"
)

// backedUp returns a backup of a store with n records.
func backedUp(t *testing.T, n int) []byte {
	t.Helper()
	path, _ := filled(t, n)
	s := open(t, path)
	var b bytes.Buffer
	require.Equal(t, store.Seq(n), backUp(t, s, &b))
	require.NoError(t, s.Close())
	return b.Bytes()
}

func ready(*bolt.Store) error { return nil }

func TestABackupIsRestoredToAFileOfItsOwner(t *testing.T) {
	from, to := writeFile(t, backedUp(t, 100)), path(t)
	prepared := false
	info, err := bolt.Restore(t.Context(), from, to, func(s *bolt.Store) error {
		prepared = true
		require.NoFileExists(t, to)
		commit(t, s, put("prepared", `{}`))
		return nil
	})
	require.NoError(t, err)
	require.True(t, prepared)
	require.Equal(t, store.Seq(100), info.Seq)
	require.NotZero(t, info.TakenAt)
	file, err := os.Stat(to)
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		require.Equal(t, fs.FileMode(0o600), file.Mode().Perm())
	}
	s := open(t, to)
	records, err := s.List(t.Context(), store.Range{Limit: 1_000})
	require.NoError(t, err)
	require.Len(t, records, 101)
	require.NoError(t, s.Verify(t.Context()))
	names, err := os.ReadDir(filepath.Dir(to))
	require.NoError(t, err)
	require.Len(t, names, 1, "nothing else is left")
}

func TestAFileThatIsThereIsNotRestoredOver(t *testing.T) {
	from, to := writeFile(t, backedUp(t, 3)), writeFile(t, []byte("mine"))
	_, err := bolt.Restore(t.Context(), from, to, ready)
	require.ErrorIs(t, err, fs.ErrExist)
	late := path(t)
	_, err = bolt.Restore(t.Context(), from, late, func(*bolt.Store) error { return os.WriteFile(late, []byte("mine"), 0o600) })
	require.ErrorIs(t, err, fs.ErrExist)
	for _, path := range []string{to, late} {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, "mine", string(content))
	}
}

func TestARestoreThatFailsLeavesNothing(t *testing.T) {
	from, to := writeFile(t, backedUp(t, 3)), path(t)
	failed := errors.New("failed")
	_, err := bolt.Restore(t.Context(), from, to, func(*bolt.Store) error { return failed })
	require.ErrorIs(t, err, failed)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = bolt.Restore(ctx, from, to, ready)
	require.ErrorIs(t, err, context.Canceled)
	names, err := os.ReadDir(filepath.Dir(to))
	require.NoError(t, err)
	require.Empty(t, names)
}

func TestABackupIsNotOpened(t *testing.T) {
	_, err := bolt.Open(t.Context(), writeFile(t, backedUp(t, 3)), bolt.Options{})
	require.ErrorIs(t, err, bolt.ErrFormat)
	require.ErrorContains(t, err, "a backup")
}

func TestEachChangedOrMissingByteOfABackupIsFound(t *testing.T) {
	whole := backedUp(t, 20)
	info, err := bolt.VerifyBackup(t.Context(), writeFile(t, whole))
	require.NoError(t, err)
	require.Equal(t, int64(len(bolt.RawOf(whole))), info.Bytes)
	path := path(t)
	refused := func(content []byte, what ...any) {
		t.Helper()
		require.NoError(t, os.WriteFile(path, content, 0o600))
		_, err := bolt.VerifyBackup(t.Context(), path)
		require.True(t, errors.Is(err, store.ErrCorrupt) || errors.Is(err, bolt.ErrFormat), what...)
		_, err = bolt.Restore(t.Context(), path, path+".restored", ready)
		require.True(t, errors.Is(err, store.ErrCorrupt) || errors.Is(err, bolt.ErrFormat), what...)
	}
	for at := 0; at < len(whole); at += 1 + at/50 {
		changed := bytes.Clone(whole)
		changed[at] ^= 0x10
		refused(changed, "byte", at)
		refused(whole[:at], "cut at", at)
	}
	refused(whole[:len(whole)-1])
	refused(append(bytes.Clone(whole), '\n'))
}

func TestABackupOfADamagedFileIsFoundAndRestored(t *testing.T) {
	file, _ := filled(t, 60)
	s := open(t, file)
	require.NoError(t, s.Damage("key/00007"))
	var b bytes.Buffer
	backUp(t, s, &b)
	from, to := writeFile(t, b.Bytes()), path(t)
	_, err := bolt.VerifyBackup(t.Context(), from)
	require.ErrorIs(t, err, store.ErrCorrupt)
	_, err = bolt.Restore(t.Context(), from, to, ready)
	require.NoError(t, err)
	records, err := open(t, to).Get(t.Context(), "key/00007", "key/00008")
	require.NoError(t, err)
	require.True(t, records[0].Damaged)
	require.False(t, records[1].Damaged)
}
