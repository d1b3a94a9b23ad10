package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/internal/group"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// maxSweep is how many forgotten events one commit deletes from the file, at most. They are
// forgotten at once in any case. So a long trim does not make one commit slow; the commits after it
// pay.
const maxSweep = 1_000

// maxLent is how much memory is kept from one commit to the next.
const maxLent = 1 << 20

// How full a page is left when it is split. Events are only ever appended. Records are appended
// under time-ordered ids and scattered under all other keys. With 0.8 a file of users with one
// random key each is a third smaller than with bbolt's default of 0.5, for the same number of page
// writes. With more, pages split so often that writes increase again.
const (
	feedFill    = 1.0
	recordsFill = 0.8
)

// writer is the [group.Backend] of a store. The leader of the group owns it, so no lock guards it.
// It lives as long as the store and holds at most one write transaction.
type writer struct {
	s        *Store
	disk     *disk
	at       position // as of the last commit
	poisoned error    // what every later write returns; nil while all is well
	room     room
	noted    *noted    // for the compaction under way; nil if there is none
	token    store.Seq // what is under compactKey; 0 for nothing
	settled  bool      // token is of no use any more

	tx          *bbolt.Tx
	work        func() error   // what tx does; called again if the file had to grow
	changes     *group.Changes // of the group; borrowed until the commit has ended
	urgent      bool
	records     *bbolt.Bucket
	next        position // after tx is committed
	key, sealed []byte   // borrowed by bbolt until tx ends
}

// position is the state of the sequence and the feed.
type position struct {
	head, first store.Seq
	swept       bool // no forgotten event is left in the file
}

// Begin implements [group.Backend].
func (w *writer) Begin() (_ group.Tx, head, first store.Seq, err error) {
	if w.poisoned != nil {
		return nil, 0, 0, w.poisoned
	}
	if err := w.s.name.check(); err != nil {
		return nil, 0, 0, err
	}
	defer caught(debug.SetPanicOnFault(true), &err)
	w.s.reads.beginWrite()
	if err := w.begin(); err != nil {
		w.s.reads.endWrite()
		return nil, 0, 0, translate(err)
	}
	// A lack of space is no reason to stop here. The limit of the commit accounts for it, and the
	// free pages of the file may be enough.
	if err := w.room.prepare(w.tx.Size()); errors.Is(err, errExtend) {
		w.poison(err)
		return nil, 0, 0, w.poisoned
	}
	return w, w.at.head, w.at.first, nil
}

// begin begins a transaction at the current position.
func (w *writer) begin() (err error) {
	if w.tx, err = w.disk.db.Begin(true); err != nil {
		return err
	}
	w.room.committed(w.tx.Size())
	w.records = w.tx.Bucket(recordsBucket)
	w.next = w.at
	return nil
}

// Versions implements [group.Tx].
func (w *writer) Versions(keys []store.Key, into []store.Seq) (err error) {
	defer caught(debug.SetPanicOnFault(true), &err)
	c := w.records.Cursor()
	for i, k := range keys {
		into[i] = 0
		w.key = append(w.key[:0], k...)
		found, data := c.Seek(w.key)
		if !bytes.Equal(found, w.key) {
			continue
		}
		version, _, err := unseal(w.key, data)
		if err != nil {
			version = group.Damaged
		}
		into[i] = version
	}
	return nil
}

// Under implements [group.Tx].
func (w *writer) Under(prefix store.Key) (found bool, err error) {
	defer caught(debug.SetPanicOnFault(true), &err)
	key, _ := w.records.Cursor().Seek([]byte(prefix))
	return bytes.HasPrefix(key, []byte(prefix)) && key != nil, nil
}

// Write implements [group.Tx].
func (w *writer) Write(c *group.Changes) (err error) {
	defer caught(debug.SetPanicOnFault(true), &err)
	w.changes, w.urgent, w.work = c, c.Urgent, w.write
	w.note(c)
	return w.write()
}

// write makes the changes of the group. Keys and values go through memory that is reused, and that
// bbolt reads until the transaction ends.
func (w *writer) write() error {
	c := w.changes
	w.records.FillPercent = recordsFill
	for _, k := range c.Drops {
		w.key = append(w.key[:0], k...)
		if err := w.records.Delete(w.key); err != nil {
			return err
		}
	}
	w.sealed = slices.Grow(w.sealed[:0], sealedSize(c))
	for _, r := range c.Puts {
		w.key = append(w.key[:0], r.Key...)
		if err := w.put(w.records, w.key, r.Version, r.Value); err != nil {
			return err
		}
	}
	return w.writeFeed(c)
}

// sealedSize returns how many bytes the changes take when they are sealed.
func sealedSize(c *group.Changes) int {
	n := 2 * sealSize // of head and first
	for _, r := range c.Puts {
		n += sealSize + len(r.Value)
	}
	for _, e := range c.Events {
		n += sealSize + len(e.Event)
	}
	return n
}

// writeFeed appends the events, deletes some of the forgotten ones, and stores head and first.
func (w *writer) writeFeed(c *group.Changes) error {
	feed := w.tx.Bucket(feedBucket)
	feed.FillPercent = feedFill
	for _, e := range c.Events {
		if err := w.put(feed, seqKey(e.Seq), e.Seq, e.Event); err != nil {
			return err
		}
	}
	w.next = position{c.Head, c.First, w.at.swept && !c.Trimmed}
	if !w.next.swept {
		var err error
		if w.next.swept, err = forget(feed, c.First); err != nil {
			return err
		}
	}
	meta := w.tx.Bucket(metaBucket)
	if c.Trimmed {
		if err := w.put(meta, firstKey, c.First, nil); err != nil {
			return err
		}
	}
	return w.put(meta, headKey, c.Head, nil)
}

// put stores a sealed value. The third index keeps a later append from writing over its end.
func (w *writer) put(b *bbolt.Bucket, key []byte, version store.Seq, value []byte) error {
	at := len(w.sealed)
	w.sealed = seal(w.sealed, key, version, value)
	return b.Put(key, w.sealed[at:len(w.sealed):len(w.sealed)])
}

// forget deletes the events below first, at most maxSweep of them. It reports whether none is left.
func forget(feed *bbolt.Bucket, first store.Seq) (all bool, err error) {
	var keys [][]byte
	end := seqKey(first)
	c := feed.Cursor()
	key, _ := c.First()
	for ; key != nil && bytes.Compare(key, end) < 0 && len(keys) < maxSweep; key, _ = c.Next() {
		keys = append(keys, key)
	}
	all = key == nil || bytes.Compare(key, end) >= 0
	for _, key := range keys {
		if err := feed.Delete(key); err != nil {
			return false, err
		}
	}
	return all, nil
}

// Commit implements [group.Tx].
func (w *writer) Commit() (err error) {
	defer func() {
		w.changes, w.work = nil, nil
		if err != nil {
			err = w.failed(err)
		}
	}()
	defer caught(debug.SetPanicOnFault(true), &err)
	if err := w.commit(); err != nil {
		return err
	}
	w.s.reads.endWrite()
	w.at = w.next
	if cap(w.sealed) > maxLent {
		w.sealed = nil
	}
	return nil
}

// commit commits the transaction, in a longer file if necessary. Only bbolt knows how many pages a
// transaction needs, and it tells by failing. It has then rolled back, so the transaction is begun
// and filled again.
//
// As that takes twice the time, a commit of much gets the room that it will probably need first. If
// there is none the free pages of the file may still be enough.
func (w *writer) commit() error {
	guess := w.room.guess(int64(len(w.sealed)))
	if err := w.room.ahead(w.tx.Size(), guess); errors.Is(err, errExtend) {
		return err
	}
	for more := 2 * int64(len(w.sealed)); ; more = 2 * max(more, minGrowth) {
		used := w.tx.Size()
		longer := w.room.limit(used, w.urgent)
		err := w.tx.Commit()
		if !longer || !errors.Is(err, berrors.ErrMaxSizeReached) {
			return err
		}
		size := w.room.size
		switch grew := w.room.grow(used, more); {
		case errors.Is(grew, errExtend):
			return grew
		case w.room.size == size:
			return err // there is no space
		}
		if err := w.begin(); err != nil {
			return err
		}
		if err := w.work(); err != nil {
			return err
		}
	}
}

// do calls f with the transaction, and makes a fault an error.
func (w *writer) do(f func(*bbolt.Tx) error) (err error) {
	defer caught(debug.SetPanicOnFault(true), &err)
	return f(w.tx)
}

// Rollback implements [group.Tx].
func (w *writer) Rollback() {
	var err error
	defer caught(debug.SetPanicOnFault(true), &err)
	_ = w.tx.Rollback()
	w.s.reads.endWrite()
}

// failed interprets err, an error of a commit. It poisons the store unless the commit was certainly
// not applied.
//
// After a failed sync the operating system may have dropped the dirty pages and report success next
// time, so to try again proves nothing. And bbolt would reuse pages that the last durable state
// still needs. Only reopening, which reads the file again, is safe.
func (w *writer) failed(err error) error {
	if certainlyNotApplied(err) {
		w.s.reads.endWrite()
		err = noRoom(err)
		w.endCompaction(err) // its file takes the room
		return err
	}
	w.poison(err)
	if strings.HasPrefix(err.Error(), "mmap allocate error: ") {
		return w.poisoned // nothing was written, but bbolt has lost its mapping
	}
	return fmt.Errorf("%w: %w", store.ErrOutcomeUnknown, err)
}

// poison makes all later reads and writes return an error that wraps err.
func (w *writer) poison(err error) {
	w.poisoned = fmt.Errorf("%w: a commit failed, the store must be opened anew: %w",
		store.ErrUnavailable, err)
	w.s.health.refused.Store(&w.poisoned)
	w.endCompaction(w.poisoned)
	w.Rollback() // the transaction is still open if bbolt panicked
}

// note notes what is written, for a compaction.
func (w *writer) note(c *group.Changes) {
	switch n := w.noted; {
	case n == nil:
	case n.ctx.Err() != nil:
		w.noted = nil // it has ended
	case n.memory > n.limit:
		w.endCompaction(errNoted)
	default:
		n.add(c)
	}
}

// endCompaction ends the compaction under way, if there is one.
func (w *writer) endCompaction(why error) {
	if w.noted != nil {
		w.noted.cancel(why)
		w.noted = nil
	}
}

// certainlyNotApplied reports whether err, from bbolt's commit, means that there was no space.
// bbolt has then rolled back, before the first sync or before it wrote the meta page. A sync that
// fails for lack of space proves nothing. Its error is not an fs.PathError, which tells the two
// apart.
func certainlyNotApplied(err error) bool {
	if errors.Is(err, berrors.ErrMaxSizeReached) ||
		strings.HasPrefix(err.Error(), "file resize error: ") {
		return true
	}
	var path *fs.PathError
	if !errors.As(err, &path) || path.Op != "write" {
		return false
	}
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		errors.Is(err, syscall.EFBIG)
}
