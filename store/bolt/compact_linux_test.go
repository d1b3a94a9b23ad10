package bolt_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/stretchr/testify/require"
)

func init() {
	children["compact on a full disk"] = compactOnAFullDisk
	children["compact while commits find no room"] = compactWithoutRoom
	children["compact with a failing sync"] = compactWithAFailingSync
	children["compact with a failing commit"] = compactWithAFailingCommit
	children["compact with a failing directory"] = compactWithAFailingDirectory
}

// A child works on a file with 40 records and 51 events, of which 350 are forgotten.
func TestACompactionThatMeetsAFailingDiskIsHarmless(t *testing.T) {
	for _, name := range []string{
		"compact on a full disk", "compact while commits find no room",
		"compact with a failing sync", "compact with a failing commit",
		"compact with a failing directory",
	} {
		t.Run(name, func(t *testing.T) {
			path := sparse(t)
			require.Empty(t, child(t, name, path))
			requireAlone(t, path)
			s := open(t, path)
			require.NoError(t, s.Verify(t.Context()))
			records, err := s.List(t.Context(), store.Range{Under: "key/", Limit: 1_000})
			require.NoError(t, err)
			require.Len(t, records, 40)
			require.NoError(t, s.Compact(t.Context()))
			commit(t, s, put("later", `{}`))
		})
	}
}

// failsHarmlessly compacts, and requires that it fails while nothing but the file is left.
func failsHarmlessly(s *bolt.Store, path string) error {
	before, err := os.Stat(path)
	if err != nil {
		return err
	}
	switch err := s.Compact(context.Background()); {
	case !errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrOutcomeUnknown):
		return fmt.Errorf("the compaction: %w", err)
	}
	after, err := os.Stat(path)
	if err != nil {
		return err
	}
	names, err := os.ReadDir(filepath.Dir(path))
	if err == nil && (len(names) != 1 || !os.SameFile(before, after)) {
		err = fmt.Errorf("it left %v", names)
	}
	return err
}

func compactOnAFullDisk(path string) error {
	ctx := context.Background()
	s, err := bolt.Open(ctx, path, bolt.Options{})
	if err != nil {
		return err
	}
	var free func() error
	s.AtCompaction(at("round", func() (err error) {
		free, err = limitFile(30_000)
		return err
	}))
	if err := failsHarmlessly(s, path); err != nil {
		return err
	}
	if err := errors.Join(free(), s.Health(), s.Verify(ctx)); err != nil {
		return err
	}
	if _, err := s.Commit(ctx, put("later", `{}`)); err != nil {
		return err
	}
	return s.Close()
}

func compactWithoutRoom(path string) error {
	ctx := context.Background()
	s, err := bolt.Open(ctx, path, bolt.Options{})
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	s.AtCompaction(at("round", func() error {
		free, err := limitFile(uint64(info.Size()) + 10_000)
		if err != nil {
			return err
		}
		return errors.Join(fillUp(ctx, s), free())
	}))
	if err := failsHarmlessly(s, path); err != nil {
		return err
	}
	return errors.Join(s.Health(), s.Verify(ctx), s.Close())
}

// replace puts another file in the place of an open one.
func replace(from func(link string) bool, to string) error {
	const dir = "/proc/self/fd"
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		link, err := os.Readlink(filepath.Join(dir, name.Name()))
		if err != nil || !from(link) {
			continue
		}
		fd := 0
		if _, err := fmt.Sscan(name.Name(), &fd); err != nil {
			return err
		}
		other, err := os.OpenFile(to, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer other.Close()
		return syscall.Dup3(int(other.Fd()), fd, syscall.O_CLOEXEC)
	}
	return errors.New("the file is not open")
}

func compactWithAFailingSync(path string) error {
	ctx := context.Background()
	s, err := bolt.Open(ctx, path, bolt.Options{})
	if err != nil {
		return err
	}
	s.AtCompaction(at("last", func() error {
		return replace(func(link string) bool { return strings.Contains(link, ".compact-") }, os.DevNull)
	}))
	if err := failsHarmlessly(s, path); err != nil {
		return err
	}
	if _, err := s.Commit(ctx, put("later", `{}`)); err != nil {
		return err
	}
	return errors.Join(s.Health(), s.Verify(ctx), s.Close())
}

func compactWithAFailingCommit(path string) error {
	ctx := context.Background()
	s, err := bolt.Open(ctx, path, bolt.Options{})
	if err != nil {
		return err
	}
	s.AtCompaction(at("round", func() error {
		if err := replace(func(link string) bool { return link == path }, os.DevNull); err != nil {
			return err
		}
		if _, err := s.Commit(ctx, put("k", `{}`)); !errors.Is(err, store.ErrOutcomeUnknown) {
			return fmt.Errorf("the commit: %w", err)
		}
		return nil
	}))
	if err := failsHarmlessly(s, path); err != nil {
		return err
	}
	s.AtCompaction(nil)
	if err := failsHarmlessly(s, path); err != nil {
		return fmt.Errorf("poisoned: %w", err)
	}
	return s.Close()
}

// The file has its new name, and the directory cannot be synced.
func compactWithAFailingDirectory(path string) error {
	ctx := context.Background()
	s, err := bolt.Open(ctx, path, bolt.Options{})
	if err != nil {
		return err
	}
	s.AtCompaction(at("sync", func() error {
		return replace(func(link string) bool { return link == filepath.Dir(path) }, os.DevNull)
	}))
	if err := s.Compact(ctx); !errors.Is(err, store.ErrOutcomeUnknown) {
		return fmt.Errorf("the compaction: %w", err)
	}
	s.AtCompaction(nil)
	for range 2 {
		if _, err := s.Commit(ctx, put("k", `{}`)); !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrOutcomeUnknown) {
			return fmt.Errorf("a commit after it: %w", err)
		}
		if err := s.Compact(ctx); !errors.Is(err, store.ErrUnavailable) {
			return fmt.Errorf("a compaction after it: %w", err)
		}
		if err := s.Health(); !errors.Is(err, store.ErrUnavailable) {
			return fmt.Errorf("its health: %w", err)
		}
		records, err := s.List(ctx, store.Range{Under: "key/", Limit: 1_000})
		if err != nil || len(records) != 40 {
			return fmt.Errorf("%d records are read: %w", len(records), err)
		}
	}
	return s.Close()
}

func TestARenameThatFailsIsHarmless(t *testing.T) {
	path := sparse(t)
	s := open(t, path)
	s.AtCompaction(at("rename", func() error {
		for _, name := range dirOf(t, path) {
			if name != path {
				return os.Remove(name)
			}
		}
		return errors.New("there is no file")
	}))
	require.NoError(t, failsHarmlessly(s, path))
	commit(t, s, put("later", `{}`))
	require.NoError(t, s.Health())
	require.NoError(t, s.Compact(t.Context()))
}

// openedAs returns the files that this process has open, by what the system says they are.
func openedAs(t *testing.T) (links []string) {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, name := range names {
		if link, err := os.Readlink("/proc/self/fd/" + name.Name()); err == nil {
			links = append(links, link)
		}
	}
	return links
}

func count(links []string, is string) (n int) {
	for _, link := range links {
		if link == is {
			n++
		}
	}
	return n
}

// The opener has opened the old file before the new one has its name, and waits for its lock.
func TestAnOpenerOfTheOldFileGetsTheNewOne(t *testing.T) {
	path := sparse(t)
	s := open(t, path)
	opened := make(chan *bolt.Store, 1)
	s.AtCompaction(at("rename", func() error {
		go func() {
			s, err := bolt.Open(context.Background(), path, bolt.Options{LockTimeout: time.Hour})
			if err != nil {
				t.Error(err)
			}
			opened <- s
		}()
		for count(openedAs(t), path) < 2 {
			runtime.Gosched()
		}
		return nil
	}))
	require.NoError(t, s.Compact(t.Context()))
	commit(t, s, put("after", `{}`))
	want := stateOf(t, s)
	require.NoError(t, s.Close())
	other := <-opened
	require.Equal(t, want, stateOf(t, other))
	require.NoError(t, other.Close())
	require.False(t, slices.ContainsFunc(openedAs(t), func(link string) bool { return strings.Contains(link, "people.db") }))
}

func TestOldFilesAreClosed(t *testing.T) {
	path := sparse(t)
	s := open(t, path)
	for range 5 {
		require.NoError(t, s.Compact(t.Context()))
	}
	of := func() (n int) {
		for _, link := range openedAs(t) {
			if strings.Contains(link, filepath.Base(path)) {
				n++
			}
		}
		return n
	}
	for of() > 1 { // they are closed in the background
		runtime.Gosched()
	}
	require.NoError(t, s.Close())
	require.Zero(t, of())
}
