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

// fullDisk keeps the file from growing, commits until there is no space, and continues once there
// is.
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

// failedSync replaces the open file by /dev/null, which accepts writes and cannot be synced.
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

// descriptor returns the number under which this process has the file open.
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

func TestUrgentBatchesAreAppliedOnAFullDisk(t *testing.T) {
	path, _ := filled(t, 300)
	require.Empty(t, child(t, "urgent", path))
	s := open(t, path)
	require.NoError(t, s.Verify(t.Context()))
	records, err := s.List(t.Context(), store.Range{Under: "key/", Limit: 1_000})
	require.NoError(t, err)
	require.Empty(t, records, "all drops were applied")
	commit(t, s, put("room", `{}`))
}

// fillUp commits batches of a decreasing size until there is no space for any.
func fillUp(ctx context.Context, s store.Store) error {
	for _, size := range []int{100_000, 5_000, 10} {
		pad := fmt.Sprintf(`{"pad":"%0*d"}`, size, 0)
		for i := 0; ; i++ {
			_, err := s.Commit(ctx, put(store.Key(fmt.Sprint("full/", size, "/", i)), pad))
			if err == nil {
				if i == 20_000 {
					return errors.New("the limit does not hold")
				}
				continue
			}
			if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrOutcomeUnknown) {
				return fmt.Errorf("not a plain refusal: %w", err)
			}
			break
		}
	}
	return nil
}

// urgentOnly commits n urgent drops, each beside an ordinary batch that is refused, half of them
// at once.
func urgentOnly(ctx context.Context, s store.Store, from, n int) error {
	pad := fmt.Sprintf(`{"pad":"%0100000d"}`, 0)
	errs := make(chan error)
	for i := from; i < from+n; i++ {
		do := func() error {
			b := store.Batch{
				Drop: []store.Key{store.Key(fmt.Sprintf("key/%05d", i))}, Urgent: true,
				Put:  []store.Record{{Key: store.Key(fmt.Sprint("ended/", i)), Value: []byte(`{"ended":true}`)}},
				Emit: []byte(fmt.Sprintf(`{"pad":"%0300d"}`, i)),
			}
			if _, err := s.Commit(ctx, b); err != nil {
				return fmt.Errorf("urgent batch %d: %w", i, err)
			}
			return nil
		}
		ordinary := func() error {
			_, err := s.Commit(ctx, put(store.Key(fmt.Sprint("more/", i)), pad))
			if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrOutcomeUnknown) {
				return fmt.Errorf("ordinary batch %d: %w", i, err)
			}
			return nil
		}
		if i%2 == 0 {
			if err := errors.Join(ordinary(), do()); err != nil {
				return err
			}
			continue
		}
		for range 4 {
			go func() { errs <- ordinary() }()
		}
		go func() { errs <- do() }()
		var err error
		for range 5 {
			err = errors.Join(err, <-errs)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// limitFile keeps the files of this process from growing beyond size.
func limitFile(size uint64) (free func() error, err error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return nil, err
	}
	tight := syscall.Rlimit{Cur: size, Max: limit.Max}
	return func() error { return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit) }, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &tight)
}

func init() {
	children["urgent"] = urgentOnAFullDisk
}

func urgentOnAFullDisk(path string) error {
	ctx := context.Background()
	s, err := bolt.Open(ctx, path, bolt.Options{})
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	free, err := limitFile(uint64(info.Size()) + 10_000)
	if err != nil {
		return err
	}
	if err := fillUp(ctx, s); err != nil {
		return err
	}
	if err := urgentOnly(ctx, s, 0, 200); err != nil {
		return err
	}
	for i := range 3 {
		if err := s.Close(); err != nil {
			return err
		}
		if s, err = bolt.Open(ctx, path, bolt.Options{}); err != nil {
			return fmt.Errorf("open on a full disk: %w", err)
		}
		if err := fillUp(ctx, s); err != nil {
			return err
		}
		if err := urgentOnly(ctx, s, 200+25*i, 25); err != nil {
			return fmt.Errorf("opened again: %w", err)
		}
	}
	if err := s.Verify(ctx); err != nil {
		return err
	}
	if err := free(); err != nil {
		return err
	}
	if _, err := s.Commit(ctx, put("room", fmt.Sprintf(`{"pad":"%0100000d"}`, 0))); err != nil {
		return fmt.Errorf("once there is room: %w", err)
	}
	if err := urgentOnly(ctx, s, 275, 1); err == nil {
		return errors.New("ordinary batches are refused though there is room")
	}
	for i := 275; i < 300; i++ {
		if _, err := s.Commit(ctx, store.Batch{Drop: []store.Key{store.Key(fmt.Sprintf("key/%05d", i))}}); err != nil {
			return err
		}
	}
	return errors.Join(s.Verify(ctx), s.Close())
}

func TestAMappingThatFailsToGrowLeavesReadsAsTheyWere(t *testing.T) {
	path, values := filled(t, 60)
	s := open(t, path)
	again, err := s.MapNoMore()
	require.NoError(t, err)
	pad := fmt.Sprintf(`{"pad":"%0100000d"}`, 0)
	refused := 0
	for i := range 60 {
		_, err := s.Commit(t.Context(), put(store.Key(fmt.Sprint("full/", i)), pad))
		if err != nil {
			require.ErrorIs(t, err, store.ErrUnavailable)
			require.NotErrorIs(t, err, store.ErrOutcomeUnknown)
			refused++
		}
		for key, value := range values {
			records, err := s.Get(t.Context(), key)
			require.NoError(t, err)
			require.JSONEq(t, value, string(records[0].Value))
		}
	}
	require.Positive(t, refused, "every mapping grew")
	require.Less(t, refused, 60, "what is mapped is not used")
	again()
	commit(t, s, put("room", pad))
	require.NoError(t, s.Verify(t.Context()))
}
