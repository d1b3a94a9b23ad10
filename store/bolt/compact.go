package bolt

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"github.com/denizenhq/denizen/store"
	"go.etcd.io/bbolt"
)

// A compaction copies a snapshot into a new file, while the writer notes which keys it writes. Then
// it brings these over, and notes anew, until few are left. For those the writers wait, and until
// the new file has the name of the old one. Both files then hold the same, so it does not matter
// which of them a crash leaves under the name. The directory is synced before anything is written to
// the new file, or else that could be lost with its name.
//
// The file says under what name the new one is made, so that a later Open removes what a killed
// process left, and nothing else. The new file is locked before it has a name that others open.

// Limits of a compaction.
const (
	maxRounds = 20
	// How much writers may wait for: at most maxPaused keys and events and maxPausedBytes, which
	// take less than maxPause to bring over. They rather wait for fewPaused.
	fewPaused      = 256
	maxPaused      = 10_000
	maxPausedBytes = 4 << 20
	maxPause       = time.Second
	// syncEvery is how many bytes are written to the new file between two syncs. If much were
	// synced at once, the commits meanwhile would wait for it.
	syncEvery = 16 << 20
	// leftFree is how much room is left on the disk for others, at least: or as much as was written,
	// if that is less.
	leftFree = 64 << 20
)

// The errors of a compaction that wrap [store.ErrBusy].
var (
	errTwo    = fmt.Errorf("%w: the file is being compacted", store.ErrBusy)
	errNoted  = fmt.Errorf("%w: too many keys were written while it was copied", store.ErrBusy)
	errRounds = fmt.Errorf("%w: writes do not slow down", store.ErrBusy)
	errOthers = fmt.Errorf("%w: something is loaded into it", store.ErrBusy)
)

var (
	errLinked = fmt.Errorf("%w: the file has another name, which would keep the old file",
		store.ErrUnavailable)
	errSpace = fmt.Errorf("%w: there is little room on the disk", store.ErrUnavailable)
	errLate  = errors.New("it takes too long")
)

// Compact implements [store.Compacter]. It puts a new file in the place of the open one, without
// its free pages. The new file has the mode and the owner of the old one.
//
// Reads go on. Those that began in the old file end there, and until then it takes its space. Writes
// go on but for two moments: at the beginning, for one commit, and at the end. There they wait while
// the last of what was written meanwhile is brought over, at most 10,000 records and events, 4 MiB
// and a second, and then for three syncs. In between the file grows as during a backup. The new file
// needs its own space on the same disk. If it would leave little for others, or if there is none for
// a commit, the compaction ends and gives its space back.
//
// What fails before the new file has its name leaves everything as it was. If the directory cannot
// be synced after that, nobody knows which of the two files has the name after a crash. The error is
// [store.ErrOutcomeUnknown]. No commit was lost, reads go on, and all later writes return
// [store.ErrUnavailable] until the file is reopened.
//
// A process that dies leaves a file with .compact- in its name in the same directory. The next Open
// or Compact removes it.
//
// The errors are [store.ErrBusy], [store.ErrUnavailable], the error of ctx, [store.ErrCorrupt] for a
// damaged page, which it names, and [errors.ErrUnsupported] on Windows and other systems whose locks
// do not belong to an open file. Damaged records and events are no error. They stay damaged. A file
// with several names, hard links, is refused.
func (s *Store) Compact(ctx context.Context) error {
	if !compacts {
		return fmt.Errorf("compact: %w", errors.ErrUnsupported)
	}
	ctx, cancel, err := s.compacting.begin(ctx)
	if err != nil {
		return err
	}
	defer s.compacting.end()
	c := compaction{s: s, ctx: ctx, cancel: cancel, before: math.MaxInt, most: maxPaused}
	err = c.run()
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		err = firstOf(context.Cause(ctx), err)
	}
	if err != nil {
		return fmt.Errorf("compact %s: %w", s.name.path, err)
	}
	return nil
}

// FileSize implements [store.Compacter]. Free is the pages that nothing is stored in. What the file
// is longer than its pages is not free.
func (s *Store) FileSize(ctx context.Context) (size, free int64, err error) {
	err = s.view(ctx, func(r *reading) error {
		info, err := r.disk.file.Stat()
		if err != nil {
			return unavailable(err)
		}
		size = info.Size()
		free, err = r.disk.freeBytes(r.Tx)
		return err
	})
	return size, free, err
}

// compaction is one call of Compact.
type compaction struct {
	s      *Store
	ctx    context.Context
	cancel context.CancelCauseFunc

	path string   // of the store's file, without symbolic links
	dir  *os.File // which it is in
	temp string   // the name of the new file; empty once it has that of the old one
	info os.FileInfo
	w    writer // of the new file

	mapped   int       // bytes of the new file that were mapped at first
	tx       *bbolt.Tx // in the new file, or nil
	bytes    int       // written in tx
	unsynced int       // bytes that were written since the last sync
	written  int64     // bytes in all
	chunked  bool      // commit tx when it is large
	until    time.Time // writers wait until then at most; zero while none does
	head     store.Seq // events up to here were copied
	before   int       // how many keys and events were noted in the round before
	most     int       // how many writers may wait for
}

// run compacts the file.
func (c *compaction) run() (err error) {
	defer caught(debug.SetPanicOnFault(true), &err)
	defer c.discard()
	if err := c.announce(); err != nil {
		return err
	}
	if err := c.create(); err != nil {
		return err
	}
	r, err := c.look()
	if err != nil {
		return err
	}
	if err := c.round(r, c.copyAll); err != nil {
		return err
	}
	for range maxRounds {
		r, written, err := c.turn()
		if err != nil || r == nil {
			return err
		}
		err = c.round(r, func(r *reading) error { return c.bring(r, written) })
		if err != nil {
			return err
		}
	}
	return errRounds
}

// compactName returns the name under which a file is compacted.
func compactName(path string, token store.Seq) string {
	dir, base := filepath.Split(path)
	return filepath.Join(dir, fmt.Sprintf(".%s.compact-%016x", base, uint64(token)))
}

// announce writes down in the file under what name the new one will be, and removes what an earlier
// compaction left.
func (c *compaction) announce() (err error) {
	if c.path, err = filepath.EvalSymlinks(c.s.name.path); err != nil {
		return unavailable(err)
	}
	if c.dir, err = os.Open(filepath.Dir(c.path)); err != nil {
		return unavailable(err)
	}
	if err := c.hasName(); err != nil {
		return err
	}
	var random [8]byte
	_, _ = crand.Read(random[:])
	token := max(store.Seq(binary.BigEndian.Uint64(random[:])), 1)
	return c.s.group.Alone(c.ctx, func() error {
		w := &c.s.w
		if w.token != 0 {
			removeLeftover(c.ctx, compactName(c.path, w.token))
		}
		// A directory that cannot be synced now could not be at the end either.
		if err := c.dir.Sync(); err != nil {
			return unavailable(err)
		}
		err := c.s.update(func(tx *bbolt.Tx) error { return putMeta(tx, compactKey, token) })
		if err == nil {
			w.token, w.settled = token, false
		}
		return err
	})
}

// removeLeftover removes the file that a killed compaction left, if it is one: not a link, and in
// use by nobody. It reports whether nothing is left.
func removeLeftover(ctx context.Context, path string) (gone bool) {
	info, err := os.Lstat(path)
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	if !info.Mode().IsRegular() {
		return false
	}
	f, err := os.OpenFile(path, os.O_RDWR|noFollow, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	if opened, err := f.Stat(); err != nil || !os.SameFile(opened, info) {
		return false
	}
	return lock(ctx, f, 0) == nil && os.Remove(path) == nil
}

// afterCompaction ends what a killed compaction left undone: it removes the new file, or makes its
// new name durable. It reports whether nothing is left.
func (s *Store) afterCompaction(ctx context.Context) (done bool, err error) {
	if s.w.token == 0 {
		return false, nil
	}
	path, err := filepath.EvalSymlinks(s.name.path)
	if err != nil {
		return false, unavailable(err)
	}
	done = removeLeftover(ctx, compactName(path, s.w.token))
	if err := syncDir(filepath.Dir(path)); err != nil {
		return false, unavailable(err)
	}
	return done, nil
}

// create makes the new file, which nobody else can open for as long as it has its load bucket.
func (c *compaction) create() error {
	if err := c.s.compacting.step("create"); err != nil {
		return err
	}
	name := compactName(c.path, c.s.w.token)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return unavailable(err)
	}
	c.temp = name
	choices := options(0, func(string, int, os.FileMode) (*os.File, error) { return f, nil })
	choices.InitialMmapSize = initialMapSize(f, 0)
	choices.NoSync, choices.NoGrowSync = true, true
	c.mapped = choices.InitialMmapSize
	if c.info, err = f.Stat(); err != nil {
		_ = f.Close()
		return unavailable(err)
	}
	if err := lock(c.ctx, f, 0); err != nil {
		_ = f.Close()
		return err
	}
	db, err := bbolt.Open(name, 0, choices)
	if err != nil {
		_ = f.Close()
		return translate(err)
	}
	c.w = writer{s: c.s, disk: &disk{db: db, file: f}}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(loadBucket)
		return errors.Join(err, initialize(tx))
	})
	if err != nil {
		return translate(err)
	}
	return nil
}

// discard removes the new file, unless it has taken the place of the old one.
func (c *compaction) discard() {
	if c.dir != nil {
		_ = c.dir.Close()
	}
	if c.temp == "" {
		return
	}
	if info, err := os.Lstat(c.temp); err == nil && c.info != nil && os.SameFile(info, c.info) {
		_ = os.Remove(c.temp)
	}
	if c.w.disk == nil {
		return
	}
	for _, tx := range []*bbolt.Tx{c.tx, c.w.tx} {
		if tx != nil {
			_ = tx.Rollback()
		}
	}
	_ = c.w.disk.db.Close()
}

// look begins to note what is written, and returns the state before that.
func (c *compaction) look() (r *reading, err error) {
	err = c.s.group.Alone(c.ctx, func() error {
		if err := c.s.w.poisoned; err != nil {
			return err
		}
		c.s.w.noted = newNoted(c)
		if r, err = c.s.reads.begin(); err != nil {
			return translate(err)
		}
		return nil
	})
	return r, err
}

// round makes the new file like the snapshot r, by write, and syncs it. Nobody waits for that.
func (c *compaction) round(r *reading, write func(*reading) error) error {
	defer c.s.reads.end(r, false)
	if err := c.s.compacting.step("round"); err != nil {
		return err
	}
	d := c.w.disk
	d.db.NoSync, d.db.NoGrowSync, d.db.MaxSize = true, true, 0
	c.chunked = true
	if err := write(r); err != nil {
		return err
	}
	if err := c.flush(); err != nil {
		return err
	}
	if err := d.file.Sync(); err != nil {
		return unavailable(err)
	}
	c.unsynced = 0
	d.db.NoSync, d.db.NoGrowSync = false, false
	info, err := d.file.Stat()
	if err != nil {
		return unavailable(err)
	}
	used := int64(0)
	if err := d.db.View(func(tx *bbolt.Tx) error { used = tx.Size(); return nil }); err != nil {
		return translate(err)
	}
	c.w.room = newRoom(d, used, c.mapped)
	c.w.room.size = info.Size()
	// The last commit should find the room that it needs.
	if err := c.w.room.ahead(used, min(int64(fewPaused*os.Getpagesize()), used/4)); err != nil {
		return unavailable(err)
	}
	return nil
}

// copyAll copies a whole snapshot, but for the events that are forgotten. It reads the pages itself,
// so that nothing is left out because of a damaged one.
func (c *compaction) copyAll(r *reading) error {
	head, first, err := feedBounds(r.Tx)
	if err != nil {
		return err
	}
	err = r.ForEach(func(name []byte, _ *bbolt.Bucket) error { return knownBucket(name) })
	if err != nil {
		return err
	}
	file, err := r.disk.snapshot(r.Tx)
	if err != nil {
		return err
	}
	begin := seqKey(first)
	c.head = head
	err = verifyPages(c.ctx, file, func(bucket, key, value []byte) error {
		if err := knownBucket(bucket); err != nil {
			return err
		}
		if bytes.Equal(bucket, feedBucket) && bytes.Compare(key, begin) < 0 {
			return nil
		}
		if bytes.Equal(bucket, metaBucket) {
			if err := checkSum(bucket, key, value); err != nil {
				return err
			}
		}
		return c.put(bucket, key, value, loadFill)
	})
	if err != nil {
		return err
	}
	if err := keepOwner(c.w.disk.file, r.disk.file); err != nil {
		return unavailable(err)
	}
	return nil
}

func knownBucket(name []byte) error {
	for _, known := range [][]byte{recordsBucket, feedBucket, metaBucket} {
		if bytes.Equal(name, known) {
			return nil
		}
	}
	return fmt.Errorf("%w: a part that makes no sense", store.ErrCorrupt)
}

// bring brings over what was written, as it is in the snapshot r.
func (c *compaction) bring(r *reading, n *noted) error {
	head, first, err := feedBounds(r.Tx)
	if err != nil {
		return err
	}
	records := r.records()
	for _, key := range slices.Sorted(maps.Keys(n.keys)) {
		wanted := []byte(key)
		found, data := records.Seek(wanted)
		if bytes.Equal(found, wanted) {
			err = c.put(recordsBucket, wanted, bytes.Clone(data), recordsFill)
		} else {
			err = c.drop(wanted)
		}
		if err != nil {
			return err
		}
	}
	feed := r.Bucket(feedBucket).Cursor()
	key, data := feed.Seek(seqKey(max(c.head+1, first)))
	for ; key != nil; key, data = feed.Next() {
		if err := c.put(feedBucket, key, bytes.Clone(data), feedFill); err != nil {
			return err
		}
	}
	c.head = head
	return nil
}

func (c *compaction) put(bucket, key, value []byte, fill float64) error {
	if err := c.begin(); err != nil {
		return err
	}
	b := c.tx.Bucket(bucket)
	b.FillPercent = fill
	if err := b.Put(key, value); err != nil {
		return translate(err)
	}
	return c.wrote(len(key) + len(value))
}

func (c *compaction) drop(key []byte) error {
	if err := c.begin(); err != nil {
		return err
	}
	if err := c.tx.Bucket(recordsBucket).Delete(key); err != nil {
		return translate(err)
	}
	return c.wrote(len(key))
}

func (c *compaction) begin() (err error) {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if !c.until.IsZero() && time.Now().After(c.until) {
		return errLate
	}
	if c.tx == nil {
		if c.tx, err = c.w.disk.db.Begin(true); err != nil {
			return translate(err)
		}
	}
	return nil
}

func (c *compaction) wrote(n int) error {
	if c.bytes += n; !c.chunked || c.bytes < chunkBytes {
		return nil
	}
	return c.flush()
}

// flush commits what was written.
func (c *compaction) flush() error {
	if c.tx == nil {
		return nil
	}
	err := c.tx.Commit()
	c.tx = nil
	c.written += int64(c.bytes)
	if c.unsynced += c.bytes; err == nil && c.unsynced >= syncEvery {
		err = c.w.disk.db.Sync()
		c.unsynced = 0
	}
	c.bytes = 0
	if err != nil {
		return translate(err)
	}
	return c.hasSpace()
}

// hasSpace returns an error if the new file leaves little room on the disk. Going on until there is
// none would fail the commits meanwhile, and whoever else writes there.
func (c *compaction) hasSpace() error {
	free, known := c.s.compacting.free(c.w.disk.file)
	if known && free < min(leftFree, c.written) {
		return errSpace
	}
	return nil
}

// turn ends the compaction in the writer's turn, if what was written meanwhile is little. Or else
// it returns what that is, for another round, and notes anew.
func (c *compaction) turn() (r *reading, written *noted, err error) {
	err = c.s.group.Alone(c.ctx, func() error {
		w := &c.s.w
		if w.poisoned != nil {
			return w.poisoned
		}
		written = w.noted
		if written == nil {
			return context.Canceled // its cause says why
		}
		if r, err = c.s.reads.begin(); err != nil {
			return translate(err)
		}
		if written.few(c.before, c.most, c.s.compacting.limits.paused) {
			err := c.finish(r, written)
			if err == nil || !errors.Is(err, errLate) {
				c.s.reads.end(r, false)
				r = nil
				return err
			}
			c.most = written.len() / 2 // or else writers would wait as long again, and for nothing
		}
		c.before = written.len()
		w.noted = newNoted(c)
		return nil
	})
	return r, written, err
}

// finish brings over the last of what was written, and puts the new file in the place of the old
// one. It returns errLate if that would keep writers waiting for too long.
func (c *compaction) finish(r *reading, written *noted) (err error) {
	defer caught(debug.SetPanicOnFault(true), &err)
	c.until = time.Now().Add(c.s.compacting.limits.pause)
	defer func() { c.until = time.Time{} }()
	last := func() error {
		c.tx, c.chunked = c.w.tx, false
		defer func() { c.tx = nil }()
		head := c.head
		err := c.bring(r, written)
		c.head = head // it is brought over again if the file has to grow, or if it takes too long
		if err != nil {
			return err
		}
		at := c.s.w.at
		return errors.Join(
			putMeta(c.w.tx, headKey, at.head),
			putMeta(c.w.tx, firstKey, at.first),
			putMeta(c.w.tx, openKey, 1),
			c.w.tx.DeleteBucket(loadBucket),
		)
	}
	if err := c.s.compacting.step("last"); err != nil {
		return err
	}
	if err := c.w.begin(); err != nil {
		return translate(err)
	}
	c.w.work = last
	if err := last(); err != nil {
		_ = c.w.tx.Rollback()
		return err
	}
	if err := c.w.commit(); err != nil {
		_ = c.w.tx.Rollback() // it may be open, if the error is of the work
		if errors.Is(err, errLate) {
			return err
		}
		return unavailable(err)
	}
	c.w.work = nil
	return c.takePlace()
}
