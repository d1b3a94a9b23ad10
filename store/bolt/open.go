package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/internal/group"
	"go.etcd.io/bbolt"
)

// Errors of [Open], besides [store.ErrCorrupt] for a file that is damaged or truncated, and
// [store.ErrUnavailable] for a file that the system does not let it open.
var (
	// ErrFormat means that there is a file that Open must not touch: it is empty or not a store,
	// has a newer format, or contains an unfinished load.
	ErrFormat = errors.New("not a store of this format")
	// ErrMode means that others than the owner of the file may read or write it.
	// [Options].AllowMode accepts such a file. Windows has no such modes.
	ErrMode = errors.New("the file is open to others than its owner")
	// ErrInUse means that another process, or another Store of this one, has the file open. It
	// wraps [store.ErrUnavailable].
	ErrInUse = fmt.Errorf("%w: the file is in use", store.ErrUnavailable)
)

// Options configures [Open]. The zero value has good defaults.
type Options struct {
	// LockTimeout is how long Open waits for a file that is in use. 0 means 500 ms.
	LockTimeout time.Duration
	// AllowMode accepts a file that its group or others may read or write, which is otherwise
	// refused with [ErrMode]. The file holds digests of tokens and personal data.
	AllowMode bool
}

// Open opens the file at path, or creates it with mode 0600 if nothing is there.
//
// Open never overwrites anything. It accepts only files that it has created. A new file gets its
// name only once it is complete. A process that dies before that leaves a file with .new- in its
// name in the same directory, which may be removed.
//
// The errors are [ErrInUse], [ErrFormat], [ErrMode], [store.ErrCorrupt], [store.ErrUnavailable] and
// those of ctx. After any of them the file is unchanged.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	s, err := openStore(ctx, path, o)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return s, nil
}

func openStore(ctx context.Context, path string, o Options) (*Store, error) {
	timeout := o.LockTimeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := openLocked(ctx, path, os.O_RDWR, timeout)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, unavailable(err)
		}
		f, err = openLocked(ctx, path, os.O_RDWR, timeout)
	}
	if err != nil {
		return nil, err
	}
	s, err := openFile(ctx, f, timeout, o)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return s, nil
}

const defaultTimeout = 500 * time.Millisecond

// openLocked opens the file at path and locks it. A compaction by who has the file open may give
// its name to another one before the lock is free. Then that one is opened.
func openLocked(
	ctx context.Context, path string, flag int, timeout time.Duration,
) (*os.File, error) {
	for until := time.Now().Add(timeout); ; {
		f, err := os.OpenFile(path, flag, 0)
		if err != nil {
			return nil, unavailable(err)
		}
		if err = lock(ctx, f, time.Until(until)); err == nil {
			var named bool
			if named, err = isNamed(f, path); named {
				return f, nil
			}
		}
		_ = f.Close()
		switch {
		case err != nil:
			return nil, err
		case time.Now().After(until):
			return nil, ErrInUse
		}
	}
}

// isNamed reports whether f is the file at path.
func isNamed(f *os.File, path string) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, unavailable(err)
	}
	named, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, unavailable(err)
	}
	return os.SameFile(info, named), nil
}

// unavailable keeps the reason of a failed system call and drops the name of the file.
func unavailable(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		err = path.Err
	case errors.As(err, &link):
		err = link.Err
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}

// openFile makes a store of f, which the store then closes. After an error the caller closes f.
//
// The order of the steps matters. f is locked already, so that nobody writes meanwhile. Then the
// file is checked by reading, because bbolt would create a store in an empty file and crash on some
// damaged ones. Only then bbolt maps it.
func openFile(
	ctx context.Context, f *os.File, timeout time.Duration, o Options,
) (_ *Store, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, unavailable(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is not a file", ErrFormat)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 && !o.AllowMode {
		return nil, ErrMode
	}
	if err := inspect(f, info.Size()); err != nil {
		return nil, err
	}
	if err := verifyBranches(ctx, f); err != nil {
		return nil, err
	}
	defer caught(debug.SetPanicOnFault(true), &err)
	s := &Store{compacting: compacting{
		limits: limits{maxNoted, maxPausedBytes, maxPause}, free: freeOn,
	}}
	if s.name.path, err = filepath.Abs(f.Name()); err != nil {
		return nil, unavailable(err)
	}
	s.name.info, s.name.checked = info, time.Now()
	choices := options(timeout, func(string, int, os.FileMode) (*os.File, error) { return f, nil })
	choices.InitialMmapSize = initialMapSize(f, info.Size())
	db, err := bbolt.Open(f.Name(), 0, choices)
	if err != nil {
		return nil, translate(err)
	}
	d := &disk{db: db, file: f}
	s.reads.disk = d
	s.w.s, s.w.disk = s, d
	s.w.room = newRoom(d, info.Size(), choices.InitialMmapSize)
	if err := s.view(ctx, func(r *reading) error { return s.read(r.Tx) }); err != nil {
		_ = db.Close()
		return nil, err
	}
	forget, err := s.afterCompaction(ctx)
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	// This commit also settles what was found. If the last commit of the previous process was not
	// synced, this one is, on top of it, before anybody sees it.
	err = s.updateUrgently(func(tx *bbolt.Tx) error {
		if forget {
			s.w.token = 0
			if err := tx.Bucket(metaBucket).Delete(compactKey); err != nil {
				return err
			}
		}
		return putMeta(tx, openKey, 1)
	})
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	s.head.Advance(s.w.at.head)
	s.group = group.New(&s.w, &s.head)
	if s.unclean {
		s.checkInBackground()
	}
	return s, nil
}

// options returns the options for bbolt, which gets its file from openFile.
func options(
	timeout time.Duration, openFile func(string, int, os.FileMode) (*os.File, error),
) *bbolt.Options {
	return &bbolt.Options{
		Timeout: timeout,
		// Each commit writes the list of free pages in order. A map would have to be sorted first.
		FreelistType: bbolt.FreelistArrayType,
		NoStatistics: true, // statistics would cost every read another lock
		OpenFile:     openFile,
	}
}

// read sets head and first from the file, and refuses a file that is not a complete store.
func (s *Store) read(tx *bbolt.Tx) error {
	meta := tx.Bucket(metaBucket)
	if meta == nil || meta.Get(formatKey) == nil {
		return fmt.Errorf("%w: a bbolt file of something else", ErrFormat)
	}
	version, name, err := unseal(formatKey, meta.Get(formatKey))
	switch {
	case err != nil:
		return err
	case !bytes.Equal(name, []byte(formatMark)):
		return fmt.Errorf("%w: a bbolt file of something else", ErrFormat)
	case version != formatVersion:
		return fmt.Errorf("%w: it has format %d, this program knows %d",
			ErrFormat, version, formatVersion)
	case tx.Bucket(loadBucket) != nil:
		return fmt.Errorf("%w: a load into it did not end", ErrFormat)
	case tx.Bucket(recordsBucket) == nil || tx.Bucket(feedBucket) == nil:
		return fmt.Errorf("%w: a part is missing", store.ErrCorrupt)
	}
	stopped, _, err := unseal(openKey, meta.Get(openKey))
	if err != nil {
		return err
	}
	if data := meta.Get(compactKey); data != nil {
		if s.w.token, _, err = unseal(compactKey, data); err != nil {
			return err
		}
	}
	s.unclean = stopped != 0
	s.w.at.head, s.w.at.first, err = feedBounds(tx)
	return err
}

// create makes an empty store at path, or returns fs.ErrExist if something is there. It writes a
// temporary file and links it to path, so that the store appears completely or not at all.
func create(path string) error {
	dir, base := filepath.Split(path)
	f, err := os.CreateTemp(filepath.Clean(dir), "."+base+".new-*") // with mode 0600
	if err != nil {
		return err
	}
	name := f.Name()
	defer os.Remove(name)
	openFile := func(string, int, os.FileMode) (*os.File, error) { return f, nil }
	db, err := bbolt.Open(name, 0, options(0, openFile))
	if err != nil {
		_ = f.Close()
		return err
	}
	err = db.Update(initialize)
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Link(name, path); err != nil {
		return err
	}
	return syncDir(filepath.Clean(dir))
}

// initialize writes an empty store into an empty file.
func initialize(tx *bbolt.Tx) error {
	for _, name := range [][]byte{recordsBucket, feedBucket, metaBucket} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	format := seal(nil, formatKey, formatVersion, []byte(formatMark))
	return errors.Join(
		tx.Bucket(metaBucket).Put(formatKey, format),
		putMeta(tx, headKey, 0),
		putMeta(tx, firstKey, 1),
		putMeta(tx, openKey, 0),
	)
}

// syncDir makes the names in dir durable. Windows has no such call and does not need it.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
