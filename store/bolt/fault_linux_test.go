package bolt_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/stretchr/testify/require"
)

func init() {
	children["full"] = fullDisk
	children["poisoned"] = failedSync
}

func TestAFullDiskIsHarmless(t *testing.T) {
	path, _ := filled(t, 20)
	require.Empty(t, child(t, "full", path))
	s := open(t, path)
	require.NoError(t, s.Verify(t.Context()))
}

func TestAFailedSyncStopsAllWrites(t *testing.T) {
	path, values := filled(t, 20)
	require.Empty(t, child(t, "poisoned", path))
	s := open(t, path)
	require.NoError(t, s.Verify(t.Context()))
	records, err := s.List(t.Context(), store.Range{Limit: 100})
	require.NoError(t, err)
	require.Len(t, records, len(values))
}

// fullDisk lets the file grow no further, commits until there is no room, and goes on
// once there is.
func fullDisk(path string) error {
	ctx := context.Background()
	s, err := bolt.Open(ctx, path, bolt.Options{})
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	tight := syscall.Rlimit{Cur: uint64(info.Size()), Max: limit.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &tight); err != nil {
		return err
	}
	pad := fmt.Sprintf(`{"pad":"%05000d"}`, 0)
	applied := store.Seq(20)
	for i := 0; ; i++ {
		seq, err := s.Commit(ctx, put(store.Key(fmt.Sprint("full/", i)), pad))
		if err != nil {
			if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrOutcomeUnknown) {
				return fmt.Errorf("not a plain refusal: %w", err)
			}
			break
		}
		applied = seq
		if i == 1_000 {
			return errors.New("the limit does not hold")
		}
	}
	if err := s.Verify(ctx); err != nil {
		return fmt.Errorf("while there is no room: %w", err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	seq, err := s.Commit(ctx, put("room", pad))
	if err != nil {
		return fmt.Errorf("once there is room: %w", err)
	}
	if seq != applied+1 {
		return fmt.Errorf("a refused batch took a Seq: %d after %d", seq, applied)
	}
	return errors.Join(s.Verify(ctx), s.Close())
}

// failedSync puts /dev/null in the place of the file: it takes what is written and
// cannot be synced.
func failedSync(path string) error {
	ctx := context.Background()
	s, err := bolt.Open(ctx, path, bolt.Options{})
	if err != nil {
		return err
	}
	fd, err := descriptor(path)
	if err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := syscall.Dup3(int(null.Fd()), fd, syscall.O_CLOEXEC); err != nil {
		return err
	}
	if seq, err := s.Commit(ctx, put("k", `{}`)); !errors.Is(err, store.ErrOutcomeUnknown) || seq != 0 {
		return fmt.Errorf("the commit that failed: %d, %w", seq, err)
	}
	for range 3 {
		_, err := s.Commit(ctx, put("k", `{}`))
		if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrOutcomeUnknown) {
			return fmt.Errorf("a commit after it: %w", err)
		}
	}
	if err := s.Load(ctx, nothing[store.Record], nothing[store.Change], 0); !errors.Is(err, store.ErrNotEmpty) {
		return fmt.Errorf("a load after it: %w", err)
	}
	if _, err := s.List(ctx, store.Range{Limit: 100}); !errors.Is(err, store.ErrUnavailable) {
		return fmt.Errorf("a read after it: %w", err)
	}
	if err := s.Health(); !errors.Is(err, store.ErrUnavailable) {
		return fmt.Errorf("its health: %w", err)
	}
	return s.Close()
}

// descriptor answers the number under which this process has the file open.
func descriptor(path string) (int, error) {
	const dir = "/proc/self/fd"
	names, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if to, err := os.Readlink(filepath.Join(dir, name.Name())); err == nil && to == path {
			return strconv.Atoi(name.Name())
		}
	}
	return 0, errors.New("the file is not open")
}
