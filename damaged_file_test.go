package denizen_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
)

// damagedFiles is the environment of a child that opens each of the files it is given.
const damagedFiles = "DENIZEN_DAMAGED_FILES"

// TestADamagedFileIsTheSameDirectoryOrRefused opens files with damage at random places, in
// another process: a file that makes Open loop or fault ends that alone.
func TestADamagedFileIsTheSameDirectoryOrRefused(t *testing.T) {
	if path := os.Getenv(damagedFiles); path != "" {
		openDamaged(t, path)
		return
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "whole.db")
	d, err := denizen.Open(t.Context(), path, denizen.Options{})
	require.NoError(t, err)
	for i := range 300 {
		_, err := d.CreateUser(t.Context(), denizen.System(), denizen.NewUser{
			ScreenName: fmt.Sprint("Person ", i),
			Locators:   []denizen.NewLocator{denizen.Email(fmt.Sprintf("p%d@example.com", i))},
		})
		require.NoError(t, err)
	}
	id := d.ID()
	require.NoError(t, d.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	page, used := os.Getpagesize(), uint64(0)
	for _, meta := range [][]byte{whole, whole[page:]} {
		used = max(used, binary.NativeEndian.Uint64(meta[56:]))
	}
	whole = whole[:int(used)*page]
	rng := rand.New(rand.NewPCG(5, 6))
	for i := range 300 {
		damaged := bytes.Clone(whole)
		switch at := rng.IntN(len(whole)); i % 3 {
		case 0:
			clear(damaged[at&^511:][:512])
		case 1:
			damaged[at] ^= 1 << rng.IntN(8)
		default: // the head of a page and its elements, where it does the most harm
			at = at/page*page + rng.IntN(256)
			damaged[at] ^= 1 << rng.IntN(8)
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("damaged-%03d", i)), damaged, 0o600))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), damagedFiles+"="+filepath.Join(dir, "damaged-*"), "DENIZEN_DAMAGED_ID="+id)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out[:min(len(out), 4_000)])
}

func openDamaged(t *testing.T, pattern string) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	require.NoError(t, err)
	require.Len(t, paths, 300)
	opened := 0
	for _, path := range paths {
		stuck := time.AfterFunc(10*time.Second, func() { panic("does not end: " + filepath.Base(path)) })
		if openOneDamaged(t, path) {
			opened++
		}
		stuck.Stop()
	}
	require.Positive(t, opened)
	require.Less(t, opened, len(paths))
}

// openOneDamaged reports whether the file opens, as the directory that it was.
func openOneDamaged(t *testing.T, path string) bool {
	t.Helper()
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	d, err := denizen.Open(t.Context(), path, denizen.Options{})
	if err == nil {
		require.Equal(t, os.Getenv("DENIZEN_DAMAGED_ID"), d.ID(), "%s is another directory", filepath.Base(path))
		_, _ = d.CountUsers(t.Context(), denizen.System())
		_ = d.Close()
		return true
	}
	require.True(t, errors.Is(err, denizen.ErrCorrupt) || errors.Is(err, denizen.ErrUnavailable), "%s: %v", filepath.Base(path), err)
	require.NotErrorIs(t, err, store.ErrOutcomeUnknown, filepath.Base(path))
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	if !bytes.Equal(before, after) { // the store opened it, which is noted there
		require.Equal(t, contents(t, before), contents(t, after), "%s was changed", filepath.Base(path))
	}
	return false
}

// contents returns what a store finds in a file.
func contents(t *testing.T, file []byte) (found []any) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy.db")
	require.NoError(t, os.WriteFile(path, file, 0o600))
	s, err := bolt.Open(t.Context(), path, bolt.Options{})
	require.NoError(t, err)
	defer s.Close()
	records, err := s.List(t.Context(), store.Range{Limit: store.MaxPage})
	found = append(found, records, err)
	feed, err := s.Changes(t.Context(), 0, store.MaxPage)
	return append(found, feed, err)
}
