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

// The errors of Open, besides store.ErrCorrupt for a file that is damaged or cut short,
// and store.ErrUnavailable for one that the system does not let us open.
var (
	// ErrFormat: there is a file, but not one that Open may touch: it is empty or foreign,
	// of a newer format, or a load into it did not end.
	ErrFormat = errors.New("not a store of this format")
	// ErrMode: others than the file's owner may read or write it. Options.AllowMode takes it all
	// the same. Windows has no such modes.
	ErrMode = errors.New("the file is open to others than its owner")
	// ErrInUse: another process, or another Store of this one, has the file open. It is
	// a store.ErrUnavailable.
	ErrInUse = fmt.Errorf("%w: the file is in use", store.ErrUnavailable)
)

// Options are the choices that Open leaves. The zero value is good.
type Options struct {
	// LockTimeout is how long Open waits for a file that is in use; 0 means 500 ms.
	LockTimeout time.Duration
	// AllowMode opens a file whatever its mode. Without it one that its group or others may read or
	// write is refused with ErrMode: it holds digests of tokens and what people entered.
	AllowMode bool
}

// Open opens the file at path, and makes it, readable by its owner only, if nothing is
// there. What is there must be a file that Open made: a new one takes its name only once
// it is whole, and nothing is ever overwritten; a process that dies before that leaves a
// file beside it, with .new- in its name, that may be removed. The errors are [ErrInUse], [ErrFormat],
// store.ErrCorrupt, store.ErrUnavailable and those of ctx; after any of them the file is
// as it was.
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
		timeout = 500 * time.Millisecond
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, unavailable(err)
		}
		f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, unavailable(err)
	}
	s, err := openFile(ctx, f, timeout, o)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return s, nil
}

// unavailable keeps the reason of a failed system call and leaves out the file's name.
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

// openFile makes a store of f, which is then the store's to close.
func openFile(ctx context.Context, f *os.File, timeout time.Duration, o Options) (_ *Store, err error) {
	if err := lock(ctx, f, timeout); err != nil {
		return nil, err
	}
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
	s := &Store{file: f}
	if s.name.path, err = filepath.Abs(f.Name()); err != nil {
		return nil, unavailable(err)
	}
	s.name.info, s.name.looked = info, time.Now()
	choices := options(timeout, func(string, int, os.FileMode) (*os.File, error) { return f, nil })
	choices.InitialMmapSize = reserve(f, info.Size())
	s.db, err = bbolt.Open(f.Name(), 0, choices)
	if err != nil {
		return nil, translate(err)
	}
	s.w.s = s
	s.w.room = room{
		db: s.db, file: f, size: info.Size(), mapped: mapSize(max(info.Size(), int64(choices.InitialMmapSize))),
		mappable: mappable,
	}
	if err := s.view(ctx, func(r *reading) error { return s.read(r.Tx) }); err != nil {
		_ = s.db.Close()
		return nil, err
	}
	// This settles what was found: if the last commit before was not synced, this one is, on top
	// of it, before anybody sees it.
	if err := s.updateUrgently(func(tx *bbolt.Tx) error { return putMeta(tx, openKey, 1) }); err != nil {
		_ = s.db.Close()
		return nil, err
	}
	s.head.Advance(s.w.at.head)
	s.group = group.New(&s.w, &s.head)
	if s.unclean {
		s.checkBehind()
	}
	return s, nil
}

func options(timeout time.Duration, openFile func(string, int, os.FileMode) (*os.File, error)) *bbolt.Options {
	return &bbolt.Options{
		Timeout: timeout,
		// Each commit writes the list of free pages in order, which a map would first have to sort.
		FreelistType: bbolt.FreelistArrayType,
		NoStatistics: true, // or every read takes one more lock
		OpenFile:     openFile,
	}
}

// read learns from the file where the store stands, and refuses what is not ours.
func (s *Store) read(tx *bbolt.Tx) error {
	meta := tx.Bucket(metaBucket)
	if meta == nil || meta.Get(formatKey) == nil {
		return fmt.Errorf("%w: a bbolt file of something else", ErrFormat)
	}
	version, name, err := open(formatKey, meta.Get(formatKey))
	switch {
	case err != nil:
		return err
	case !bytes.Equal(name, []byte(mark)):
		return fmt.Errorf("%w: a bbolt file of something else", ErrFormat)
	case version != formatVersion:
		return fmt.Errorf("%w: it has format %d, this program knows %d", ErrFormat, version, formatVersion)
	case tx.Bucket(loadBucket) != nil:
		return fmt.Errorf("%w: a load into it did not end", ErrFormat)
	case tx.Bucket(recordsBucket) == nil || tx.Bucket(feedBucket) == nil:
		return fmt.Errorf("%w: a part is missing", store.ErrCorrupt)
	}
	stopped, _, err := open(openKey, meta.Get(openKey))
	if err != nil {
		return err
	}
	s.unclean = stopped != 0
	s.w.at.head, s.w.at.first, err = place(tx)
	return err
}

// create makes an empty store at path, or answers fs.ErrExist if something is there by
// then. It appears whole or not at all.
func create(path string) error {
	dir, base := filepath.Split(path)
	f, err := os.CreateTemp(filepath.Clean(dir), "."+base+".new-*") // with mode 0600
	if err != nil {
		return err
	}
	name := f.Name()
	defer os.Remove(name)
	db, err := bbolt.Open(name, 0, options(0, func(string, int, os.FileMode) (*os.File, error) { return f, nil }))
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
	return errors.Join(
		tx.Bucket(metaBucket).Put(formatKey, seal(nil, formatKey, formatVersion, []byte(mark))),
		putMeta(tx, headKey, 0),
		putMeta(tx, firstKey, 1),
		putMeta(tx, openKey, 0),
	)
}

// syncDir makes the names in dir durable. Windows has no such call and needs none.
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
