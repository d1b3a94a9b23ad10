package bolt_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// compactable skips a test on a system where no file can be compacted.
func compactable(t *testing.T) {
	t.Helper()
	if !bolt.Compacts {
		t.Skip("no file can be compacted on this system")
	}
}

// state is all that a store holds.
type state struct {
	Records []store.Record
	Feed    store.Feed
}

func stateOf(t testing.TB, s store.Store) (all state) {
	t.Helper()
	var err error
	all.Records, err = s.List(t.Context(), store.Range{Limit: store.MaxPage})
	require.NoError(t, err)
	all.Feed, err = s.Changes(t.Context(), store.End, store.MaxPage)
	require.NoError(t, err)
	all.Feed, err = s.Changes(t.Context(), all.Feed.First-1, store.MaxPage)
	require.NoError(t, err)
	return all
}

// requireAlone requires that nothing but the file is in its directory, and returns its length.
func requireAlone(t testing.TB, path string) int64 {
	t.Helper()
	names, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, names, 1, names)
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Size()
}

// sparse returns the path of a closed file of which most was deleted again.
func sparse(t *testing.T) string {
	t.Helper()
	path := filepath.Join(long.Dir(t), "store", "people.db")
	require.NoError(t, os.Mkdir(filepath.Dir(path), 0o700))
	s := open(t, path)
	var drops []store.Key
	for n := range 400 {
		key := store.Key(fmt.Sprintf("key/%05d", n*7919%400))
		if key >= "key/00040" {
			drops = append(drops, key)
		}
		commit(t, s, put(key, fmt.Sprintf(`{"pad":"%0*d"}`, 50+n%1_000, n)))
	}
	commit(t, s, store.Batch{Drop: drops, Trim: 350})
	require.NoError(t, s.Close())
	return path
}

// beside returns a free path on the same disk, in another directory.
func beside(path, name string) string { return filepath.Join(filepath.Dir(filepath.Dir(path)), name) }

// whole opens a file, requires that it holds all of want and is as it should be, and closes it.
func whole(t testing.TB, path string, want state) {
	t.Helper()
	s, err := bolt.Open(t.Context(), path, bolt.Options{})
	require.NoError(t, err)
	require.NoError(t, s.Verify(t.Context()))
	require.Equal(t, want, stateOf(t, s))
	require.NoError(t, s.Close())
	requireAlone(t, path)
}

func TestACompactedFileHoldsTheSame(t *testing.T) {
	compactable(t)
	path := sparse(t)
	long := requireAlone(t, path)
	s := open(t, path)
	require.NoError(t, s.Damage("key/00007"))
	require.NoError(t, s.DamageEvent(399))
	want := stateOf(t, s)
	require.NoError(t, s.Compact(t.Context()))
	require.Equal(t, want, stateOf(t, s))
	require.Less(t, requireAlone(t, path), long-50<<10)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
	commit(t, s, put("key/00007", `{}`))
	require.Equal(t, want.Feed.Head+1, commit(t, s, put("later", `{}`))-1)
	want = stateOf(t, s)
	require.NoError(t, s.Close())
	s = open(t, path)
	require.Equal(t, want, stateOf(t, s))
	require.NoError(t, s.Compact(t.Context()))
	require.NoError(t, s.Compact(t.Context()))
	require.Equal(t, want, stateOf(t, s))
	commit(t, s, put("later", `{}`))
	require.NoError(t, s.Health())
}

func TestTheSizeOfAFileSaysWhatACompactionGains(t *testing.T) {
	compactable(t)
	path := sparse(t)
	free := int64(0)
	edit(t, path, func(tx *bbolt.Tx) error {
		for id := range tx.Size() / int64(os.Getpagesize()) {
			if page, err := tx.Page(int(id)); err != nil || page.Type == "free" {
				free += int64(os.Getpagesize())
			}
		}
		return nil
	})
	s := open(t, path)
	size, got, err := s.FileSize(t.Context())
	require.NoError(t, err)
	require.Equal(t, requireAlone(t, path), size)
	require.InDelta(t, free, got, 20*float64(os.Getpagesize()))
	require.Greater(t, free, int64(100<<10))
	require.NoError(t, s.Compact(t.Context()))
	_, got, err = s.FileSize(t.Context())
	require.NoError(t, err)
	require.Less(t, got, int64(20*os.Getpagesize()))
}

// Two stores get the same batches, and one of them is compacted over and over.
func TestCompactionsAreNotSeenInTheHistory(t *testing.T) {
	compactable(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(long.Dir(t), "people.db")
	file, model := open(t, path), memory.New()
	ctx, stop := context.WithCancel(t.Context())
	compactions, busy := 0, 0
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			switch err := file.Compact(ctx); {
			case err == nil:
				compactions++
			case errors.Is(err, store.ErrBusy):
				busy++
			case ctx.Err() == nil:
				t.Error(err)
				return
			}
		}
	})
	for i := range long.Of(1_500, 8_000) {
		key := func() store.Key { return store.Key(fmt.Sprintf("key/%03d", rng.IntN(150))) }
		b := store.Batch{Drop: []store.Key{key(), key(), key()}[:rng.IntN(4)]}
		for k := range map[store.Key]bool{key(): true, key(): true} {
			pad := rng.IntN(300)
			if rng.IntN(50) == 0 {
				pad *= 100
			}
			b.Put = append(b.Put, store.Record{Key: k, Value: fmt.Appendf(nil, `{"pad":"%0*d"}`, pad, i)})
		}
		if rng.IntN(2) == 0 {
			b.Emit = fmt.Appendf(nil, `{"n":%d}`, i)
		}
		if rng.IntN(3) == 0 {
			k := key()
			found, err := model.Get(t.Context(), k)
			require.NoError(t, err)
			version := found[0].Version
			if rng.IntN(4) == 0 {
				version++
			}
			b.If = append(b.If, store.Cond{Key: k, Version: version})
		}
		if rng.IntN(40) == 0 {
			feed, err := model.Changes(t.Context(), store.End, 1)
			require.NoError(t, err)
			b.Trim = feed.Head - min(feed.Head, store.Seq(rng.IntN(100)))
		}
		want, wantErr := model.Commit(t.Context(), b)
		got, err := file.Commit(t.Context(), b)
		require.Equal(t, want, got, "batch %d", i)
		require.Equal(t, errors.Is(wantErr, store.ErrConflict), errors.Is(err, store.ErrConflict), "batch %d: %v, %v", i, wantErr, err)
		require.Equal(t, wantErr == nil, err == nil, "batch %d: %v", i, err)
		if i%100 == 0 {
			require.Equal(t, stateOf(t, model), stateOf(t, file), "batch %d", i)
		}
	}
	stop()
	wg.Wait()
	require.Positive(t, compactions)
	t.Logf("%d compactions, %d gave up", compactions, busy)
	want := stateOf(t, model)
	require.Equal(t, want, stateOf(t, file))
	require.NoError(t, file.Close())
	whole(t, path, want)
}

// steps are those of a compaction before the file has its name.
var steps = []string{"create", "round", "last", "rename"}

// at returns a function that calls f once, at a step.
func at(step string, f func() error) func(string) error {
	done := false
	return func(now string) error {
		if now != step || done {
			return nil
		}
		done = true
		return f()
	}
}

func TestACompactionThatFailsLeavesEverythingAsItWas(t *testing.T) {
	compactable(t)
	path := sparse(t)
	s := open(t, path)
	before, err := os.Stat(path)
	require.NoError(t, err)
	for i, step := range steps {
		failed := errors.New("failed")
		s.AtCompaction(at(step, func() error { return failed }))
		require.ErrorIs(t, s.Compact(t.Context()), failed, step)
		ctx, cancel := context.WithCancel(t.Context())
		s.AtCompaction(at(step, func() error { cancel(); return nil }))
		err := s.Compact(ctx)
		require.ErrorIs(t, err, context.Canceled, step)
		require.ErrorContains(t, err, path)
		requireAlone(t, path)
		commit(t, s, put(store.Key(fmt.Sprint("after/", i)), `{}`))
		require.NoError(t, s.Verify(t.Context()))
		after, err := os.Stat(path)
		require.NoError(t, err)
		require.True(t, os.SameFile(before, after))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	require.ErrorIs(t, s.Compact(ctx), context.DeadlineExceeded)
	require.NoError(t, s.Health())
	s.AtCompaction(nil)
	require.NoError(t, s.Compact(t.Context()))
}

func TestWhatIsWrittenDuringACompactionIsInIt(t *testing.T) {
	compactable(t)
	for _, step := range []string{"create", "round"} {
		path := sparse(t)
		s := open(t, path)
		s.AtCompaction(at(step, func() error {
			commit(t, s, put("key/00001", `{"now":"else"}`))
			commit(t, s, store.Batch{Drop: []store.Key{"key/00002"}, Put: []store.Record{{Key: "new", Value: []byte(`{}`)}}})
			commit(t, s, store.Batch{Trim: 401, Put: []store.Record{{Key: "brief", Value: []byte(`{}`)}}})
			commit(t, s, store.Batch{Drop: []store.Key{"brief"}, Emit: []byte(`{}`)})
			return nil
		}))
		require.NoError(t, s.Compact(t.Context()))
		want := stateOf(t, s)
		require.Equal(t, store.Seq(402), want.Feed.First)
		require.Len(t, want.Feed.Changes, 2)
		found, err := s.Get(t.Context(), "key/00001", "key/00002", "new", "brief")
		require.NoError(t, err)
		require.JSONEq(t, `{"now":"else"}`, string(found[0].Value))
		require.Zero(t, found[1].Version)
		require.NotZero(t, found[2].Version)
		require.Zero(t, found[3].Version)
		commit(t, s, put("new", `{}`))
		want = stateOf(t, s)
		require.NoError(t, s.Close())
		require.Equal(t, len(want.Feed.Changes), events(t, path), "those that are forgotten are gone, too")
		whole(t, path, want)
	}
}

func TestReadsThatBeganInTheOldFileEndThere(t *testing.T) {
	compactable(t)
	path := sparse(t)
	s := open(t, path)
	want := stateOf(t, s)
	w := &stalled{begun: make(chan struct{}), free: make(chan struct{})}
	backedUp, verified := make(chan error, 1), make(chan error, 1)
	inside, goOn := make(chan struct{}), make(chan struct{})
	s.WhileChecking(func() { close(inside); <-goOn })
	go func() { backedUp <- errOf(s.Backup(t.Context(), w)) }()
	go func() { verified <- s.Verify(t.Context()) }()
	<-w.begun
	<-inside
	require.NoError(t, s.Compact(t.Context()))
	for i := range 200 { // in the new file
		commit(t, s, put(store.Key(fmt.Sprint("during/", i)), fmt.Sprintf(`{"pad":"%01000d"}`, i)))
	}
	require.NoError(t, s.Compact(t.Context()), "and again, before they have ended")
	commit(t, s, put("later", `{}`))
	close(w.free)
	close(goOn)
	require.NoError(t, <-backedUp)
	require.NoError(t, <-verified)
	b := open(t, writeFile(t, bolt.RawOf(w.Bytes())))
	require.NoError(t, b.Verify(t.Context()))
	require.Equal(t, want, stateOf(t, b))
}

func TestCloseWaitsForReadsOfTheOldFile(t *testing.T) {
	compactable(t)
	s := open(t, sparse(t))
	w := &stalled{begun: make(chan struct{}), free: make(chan struct{})}
	backedUp := make(chan error, 1)
	go func() { backedUp <- errOf(s.Backup(t.Context(), w)) }()
	<-w.begun
	require.NoError(t, s.Compact(t.Context()))
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	for err := error(nil); !errors.Is(err, store.ErrClosed); { // it has begun
		_, err = s.Commit(t.Context(), put("k", `{}`))
	}
	for range 10_000 { // it has time to end
		runtime.Gosched()
	}
	select {
	case <-closed:
		require.Fail(t, "it closed a file that is read")
	default:
	}
	close(w.free)
	require.NoError(t, <-backedUp)
	require.NoError(t, <-closed)
}

func TestCloseEndsACompaction(t *testing.T) {
	compactable(t)
	for _, step := range steps {
		path := sparse(t)
		s := open(t, path)
		want := stateOf(t, s)
		closed := make(chan error, 1)
		s.AtCompaction(at(step, func() error {
			go func() { closed <- s.Close() }()
			for err := error(nil); !errors.Is(err, store.ErrClosed); { // it has begun
				err = s.Compact(t.Context())
				if err != nil && !errors.Is(err, store.ErrClosed) {
					require.ErrorIs(t, err, store.ErrBusy)
				}
			}
			return nil
		}))
		require.ErrorIs(t, s.Compact(t.Context()), store.ErrClosed, step)
		require.NoError(t, <-closed)
		require.ErrorIs(t, s.Compact(t.Context()), store.ErrClosed)
		require.ErrorIs(t, errOf2(s.FileSize(t.Context())), store.ErrClosed)
		whole(t, path, want)
	}
}

func errOf2[T, U any](_ T, _ U, err error) error { return err }

func TestOfTwoCompactionsOneIsRefused(t *testing.T) {
	compactable(t)
	path := sparse(t)
	s := open(t, path)
	s.AtCompaction(at("round", func() error {
		require.ErrorIs(t, s.Compact(t.Context()), store.ErrBusy)
		return nil
	}))
	require.NoError(t, s.Compact(t.Context()))
	requireAlone(t, path)
}

func TestACompactionGivesUpWhenTooMuchIsWritten(t *testing.T) {
	compactable(t)
	path := sparse(t)
	s := open(t, path)
	s.LimitCompaction(10_000, 50_000, time.Hour)
	n := 0
	many := func() {
		for range 200 {
			n++
			commit(t, s, put(store.Key(fmt.Sprintf("many/%0100d", n)), `{}`))
		}
	}
	s.AtCompaction(at("round", func() error { many(); return nil }))
	require.ErrorIs(t, s.Compact(t.Context()), store.ErrBusy)
	requireAlone(t, path)

	s.LimitCompaction(100_000, 50_000, time.Hour)
	large := `{"pad":"` + strings.Repeat("0", 30_000) + `"}`
	rounds := 0
	s.AtCompaction(func(step string) error {
		if step == "round" {
			rounds++
			commit(t, s, put("large/1", large))
			commit(t, s, put("large/2", large))
		}
		return nil
	})
	require.ErrorIs(t, s.Compact(t.Context()), store.ErrBusy)
	require.Greater(t, rounds, 10)
	requireAlone(t, path)
	require.NoError(t, s.Verify(t.Context()))
	commit(t, s, put("later", `{}`))
	rounds = 0
	s.AtCompaction(func(step string) error {
		if step == "round" {
			if rounds++; rounds < 3 {
				many()
			}
		}
		return nil
	})
	require.NoError(t, s.Compact(t.Context()))
	require.Equal(t, 2, rounds, "it does not get less")

	s.LimitCompaction(100_000, 50_000, 1)
	rounds = 0
	s.AtCompaction(func(step string) error {
		if step == "round" {
			rounds++
			commit(t, s, put("key/00001", `{}`))
		}
		return nil
	})
	require.ErrorIs(t, s.Compact(t.Context()), store.ErrBusy, "it takes longer than writers may wait")
	require.Greater(t, rounds, 10)
	requireAlone(t, path)
	require.NoError(t, s.Verify(t.Context()))
}

// Or else all of them would wait as long again, up to twenty times.
func TestWritersDoNotWaitAgainForAsMuchAsWasTooMuch(t *testing.T) {
	compactable(t)
	s := open(t, sparse(t))
	s.LimitCompaction(100_000, 50_000, 1)
	waits := 0
	s.AtCompaction(func(step string) error {
		switch step {
		case "round":
			for i := range 60 {
				commit(t, s, put(store.Key(fmt.Sprint("during/", i)), `{}`))
			}
		case "last":
			waits++
		}
		return nil
	})
	require.ErrorIs(t, s.Compact(t.Context()), store.ErrBusy)
	require.Equal(t, 1, waits)
}

func TestACompactionLeavesRoomOnTheDiskForOthers(t *testing.T) {
	compactable(t)
	path := sparse(t)
	s := open(t, path)
	before := requireAlone(t, path)
	s.DiskHas(func() int64 { return 1_000 })
	err := s.Compact(t.Context())
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.ErrorContains(t, err, "little room on the disk")
	require.Equal(t, before, requireAlone(t, path))
	commit(t, s, put("later", `{}`))
	require.NoError(t, s.Health())
	s.DiskHas(func() int64 { return 64 << 20 })
	require.NoError(t, s.Compact(t.Context()), "it takes less than it leaves")
}

func TestALoadEndsACompaction(t *testing.T) {
	compactable(t)
	path := path(t)
	s := open(t, path)
	s.AtCompaction(at("round", func() error {
		return s.Load(t.Context(), func(yield func(store.Record, error) bool) {
			yield(store.Record{Key: "k", Version: 3, Value: []byte(`{}`)}, nil)
		}, nothing[store.Change], 5)
	}))
	require.ErrorIs(t, s.Compact(t.Context()), store.ErrBusy)
	want := stateOf(t, s)
	require.Len(t, want.Records, 1)
	require.NoError(t, s.Compact(t.Context()))
	require.NoError(t, s.Close())
	whole(t, path, want)
}

// A page that cannot be read would be left out of the copy, with all that is on it.
func TestADamagedPageEndsACompaction(t *testing.T) {
	compactable(t)
	path := sparse(t)
	b := inUse(t, path)
	page := os.Getpagesize()
	found := 0
	for at := 2 * page; at < len(b); at += page {
		const leaf = 2
		if binary.NativeEndian.Uint16(b[at+8:]) != leaf || binary.NativeEndian.Uint16(b[at+10:]) < 3 {
			continue
		}
		damaged := bytes.Clone(b)
		damaged[at+16+2*16+4] ^= 0x40 // where the third entry begins
		path := writeFile(t, damaged)
		s, err := bolt.Open(t.Context(), path, bolt.Options{})
		if errors.Is(err, store.ErrCorrupt) {
			continue // it is the page of the buckets
		}
		require.NoError(t, err)
		verified := s.Verify(t.Context())
		err = s.Compact(t.Context())
		if verified == nil { // the page is free
			require.NoError(t, err)
		} else {
			found++
			require.ErrorIs(t, err, store.ErrCorrupt)
			require.ErrorContains(t, err, fmt.Sprintf("page %d ", at/page))
			requireAlone(t, path)
			commit(t, s, put("k", `{}`))
		}
		require.NoError(t, s.Close())
		if found == 10 {
			break
		}
	}
	require.Positive(t, found)
}

func TestACompactedFileStaysBehindItsSymbolicLink(t *testing.T) {
	compactable(t)
	path := sparse(t)
	link := filepath.Join(t.TempDir(), "link.db")
	require.NoError(t, os.Symlink(path, link))
	s := open(t, link)
	want := stateOf(t, s)
	require.NoError(t, s.Compact(t.Context()))
	commit(t, s, put("k", `{}`))
	info, err := os.Lstat(link)
	require.NoError(t, err)
	require.Equal(t, fs.ModeSymlink, info.Mode().Type())
	requireAlone(t, path)
	require.NoError(t, s.Close())
	got := stateOf(t, open(t, path))
	require.Len(t, got.Records, len(want.Records)+1)
}

func TestAFileWithAnotherNameIsNotCompacted(t *testing.T) {
	compactable(t)
	path := sparse(t)
	s := open(t, path)
	other := beside(path, "other.db")
	for _, step := range []string{"", "rename"} {
		s.AtCompaction(at(step, func() error { return os.Link(path, other) }))
		if step == "" {
			require.NoError(t, os.Link(path, other))
		}
		err := s.Compact(t.Context())
		require.ErrorIs(t, err, store.ErrUnavailable)
		require.ErrorContains(t, err, "another name")
		require.NoError(t, os.Remove(other))
		requireAlone(t, path)
	}
	require.NoError(t, s.Compact(t.Context()))
}

func TestAFileThatWasReplacedIsNotReplacedByACompaction(t *testing.T) {
	compactable(t)
	path := sparse(t)
	s := open(t, path)
	moved := beside(path, "moved.db")
	s.AtCompaction(at("rename", func() error {
		return errors.Join(os.Rename(path, moved), os.WriteFile(path, []byte("another"), 0o600))
	}))
	require.ErrorIs(t, s.Compact(t.Context()), store.ErrUnavailable)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "another", string(content))
	requireAlone(t, path)
	require.ErrorIs(t, s.Compact(t.Context()), store.ErrUnavailable)
	require.NoError(t, os.Rename(moved, path))
}

func TestACompactedFileKeepsItsMode(t *testing.T) {
	compactable(t)
	path := sparse(t)
	require.NoError(t, os.Chmod(path, 0o640))
	s, err := bolt.Open(t.Context(), path, bolt.Options{AllowMode: true})
	require.NoError(t, err)
	s.AtCompaction(at("round", func() error {
		for _, name := range dirOf(t, path) {
			info, err := os.Stat(name)
			require.NoError(t, err)
			if name != path {
				require.Equal(t, fs.FileMode(0o600), info.Mode(), "while it is made")
			}
		}
		return nil
	}))
	require.NoError(t, s.Compact(t.Context()))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o640), info.Mode())
	require.NoError(t, s.Close())
}

// dirOf returns the names of all that is in the directory of a file.
func dirOf(t testing.TB, path string) (all []string) {
	t.Helper()
	names, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	for _, name := range names {
		all = append(all, filepath.Join(filepath.Dir(path), name.Name()))
	}
	return all
}

// leftover returns the paths of a file as a process leaves it that dies during a compaction, and of
// the new file.
func leftover(t *testing.T) (path, temp string) {
	t.Helper()
	path = sparse(t)
	s := open(t, path)
	var file, half bytes.Buffer
	s.AtCompaction(at("last", func() error {
		_, err := s.Backup(t.Context(), &file)
		for _, name := range dirOf(t, path) {
			if name != path {
				temp = name
				b, failed := os.ReadFile(name)
				err = errors.Join(err, failed)
				half.Write(b)
			}
		}
		return errors.Join(err, errors.New("dies"))
	}))
	require.ErrorContains(t, s.Compact(t.Context()), "dies")
	require.NoError(t, s.Close())
	require.NoError(t, os.WriteFile(path, bolt.RawOf(file.Bytes()), 0o600))
	require.NotEmpty(t, temp)
	require.NoError(t, os.WriteFile(temp, half.Bytes(), 0o600))
	return path, temp
}

func TestOpenRemovesWhatAKilledCompactionLeft(t *testing.T) {
	compactable(t)
	path, temp := leftover(t)
	_, err := bolt.Open(t.Context(), temp, bolt.Options{})
	require.ErrorIs(t, err, bolt.ErrFormat, "it is no store yet")
	another := temp[:len(temp)-1]
	require.NoError(t, os.WriteFile(another, nil, 0o600))
	require.NoError(t, open(t, path).Close())
	require.NoFileExists(t, temp)
	require.FileExists(t, another, "it is not of this store")
	require.NoError(t, os.WriteFile(temp, nil, 0o600))
	require.NoError(t, open(t, path).Close())
	require.FileExists(t, temp, "it is not of this store any more")
}

func TestWhatHasTheNameOfALeftoverIsLeftAlone(t *testing.T) {
	compactable(t)
	for name, make := range map[string]func(t *testing.T, temp string) func(){
		"a symbolic link": func(t *testing.T, temp string) func() {
			to := writeFile(t, []byte("mine"))
			require.NoError(t, os.Symlink(to, temp))
			return func() { require.FileExists(t, to) }
		},
		"a directory": func(t *testing.T, temp string) func() {
			require.NoError(t, os.Mkdir(temp, 0o700))
			return func() {}
		},
		"a file in use": func(t *testing.T, temp string) func() {
			from, _ := filled(t, 3)
			content, err := os.ReadFile(from)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(temp, content, 0o600))
			s := open(t, temp)
			return func() { commit(t, s, put("k", `{}`)) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			path, temp := leftover(t)
			require.NoError(t, os.Remove(temp))
			check := make(t, temp)
			s := open(t, path)
			_, err := os.Lstat(temp)
			require.NoError(t, err)
			check()
			require.NoError(t, s.Compact(t.Context()))
			_, err = os.Lstat(temp)
			require.NoError(t, err)
			check()
		})
	}
}

func TestACompactionRemovesWhatOneBeforeCouldNot(t *testing.T) {
	compactable(t)
	path, temp := leftover(t)
	content, err := os.ReadFile(temp)
	require.NoError(t, err)
	require.NoError(t, os.Remove(temp))
	require.NoError(t, os.Mkdir(temp, 0o700))
	s := open(t, path)
	require.NoError(t, os.Remove(temp))
	require.NoError(t, os.WriteFile(temp, content, 0o600))
	require.NoError(t, s.Compact(t.Context()))
	requireAlone(t, path)
}

func TestASalvagedFileDoesNotTellOfCompactions(t *testing.T) {
	compactable(t)
	path, _ := leftover(t)
	copied, err := os.ReadFile(path)
	require.NoError(t, err)
	s := open(t, writeFile(t, copied))
	want := stateOf(t, s)
	to := filepath.Join(t.TempDir(), "salvaged.db")
	_, err = bolt.Salvage(t.Context(), path, to, bolt.SalvageOptions{})
	require.NoError(t, err)
	require.Equal(t, want, stateOf(t, open(t, to)))
}

func TestACompactionUnderFullLoadIsInNobodysWay(t *testing.T) {
	compactable(t)
	path, values := filled(t, 300)
	s := open(t, path)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
	last := map[store.Key]string{}
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key := store.Key(fmt.Sprint("w/", w, "/", i%50))
				value := fmt.Sprintf(`{"n":"%d"}`, i)
				if _, err := s.Commit(context.Background(), put(key, value)); err != nil {
					t.Error(err)
					return
				}
				found, err := s.Get(context.Background(), key)
				if err != nil || string(found[0].Value) != value {
					t.Errorf("%s is %v, not %s: %v", key, found, value, err)
				}
				mu.Lock()
				last[key] = value
				mu.Unlock()
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			found, err := s.Get(context.Background(), "key/00007")
			if err != nil || string(found[0].Value) != values["key/00007"] {
				t.Error(found, err)
				return
			}
		}
	})
	wg.Go(func() {
		for ctx.Err() == nil {
			if _, err := s.Backup(ctx, io.Discard); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
				return
			}
		}
	})
	for done := 0; done < long.Of(4, 30); {
		switch err := s.Compact(t.Context()); {
		case err == nil:
			done++
		default:
			require.ErrorIs(t, err, store.ErrBusy)
		}
		require.NoError(t, s.Health())
	}
	stop()
	wg.Wait()
	for key, value := range last {
		found, err := s.Get(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, value, string(found[0].Value))
	}
	require.NoError(t, s.Close())
	s = open(t, path)
	require.NoError(t, s.Verify(t.Context()))
	records, err := s.List(t.Context(), store.Range{Limit: 10_000})
	require.NoError(t, err)
	require.Len(t, records, len(values)+len(last))
}

// The opener has opened the old file before the new one has its name, and waits for its lock.
func TestWhoWaitsForTheOldFileGetsTheNewOne(t *testing.T) {
	compactable(t)
	path := sparse(t)
	for range long.Of(5, 20) {
		s, err := bolt.Open(t.Context(), path, bolt.Options{})
		require.NoError(t, err)
		opened := make(chan *bolt.Store, 4)
		for range cap(opened) {
			go func() {
				s, err := bolt.Open(context.Background(), path, bolt.Options{LockTimeout: time.Minute})
				if err != nil {
					t.Error(err)
				}
				opened <- s
			}()
		}
		for i := range 3 {
			require.NoError(t, s.Compact(t.Context()))
			commit(t, s, put(store.Key(fmt.Sprint("after/", i)), `{}`))
		}
		want := stateOf(t, s)
		require.NoError(t, s.Close())
		for range cap(opened) {
			other := <-opened
			require.Equal(t, want, stateOf(t, other))
			require.NoError(t, other.Close())
		}
		requireAlone(t, path)
	}
}

func init() {
	for _, step := range append(steps, "sync") {
		children["killed at "+step] = func(path string) error {
			s, err := bolt.Open(context.Background(), path, bolt.Options{})
			if err != nil {
				return err
			}
			s.AtCompaction(at(step, func() error {
				if step == "create" || step == "round" {
					if _, err := s.Commit(context.Background(), put("during", `{}`)); err != nil {
						return err
					}
				}
				self, err := os.FindProcess(os.Getpid())
				if err == nil {
					err = self.Kill()
				}
				if err == nil {
					select {}
				}
				return err
			}))
			return fmt.Errorf("it was not killed: %w", s.Compact(context.Background()))
		}
	}
}

func TestACompactionMayBeKilledAtEachStep(t *testing.T) {
	compactable(t)
	for _, step := range append(steps, "sync") {
		path := sparse(t)
		s := open(t, path)
		want := stateOf(t, s)
		require.NoError(t, s.Close())
		before, err := os.Stat(path)
		require.NoError(t, err)
		require.Empty(t, child(t, "killed at "+step, path), step)
		after, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, step != "sync", os.SameFile(before, after), step)
		left := len(dirOf(t, path)) - 1
		require.Equal(t, step == "round" || step == "last" || step == "rename", left == 1, step)
		s = open(t, path)
		requireAlone(t, path)
		got := stateOf(t, s)
		if step == "create" || step == "round" {
			during := got.Records[0]
			require.Equal(t, store.Key("during"), during.Key, step)
			got.Records, got.Feed.Changes = got.Records[1:], got.Feed.Changes[:len(got.Feed.Changes)-1]
			got.Feed.Head--
		}
		require.Equal(t, want, got, step)
		require.NoError(t, s.Verify(t.Context()))
		require.NoError(t, s.Compact(t.Context()))
	}
}
