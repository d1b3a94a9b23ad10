package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/internal/group"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// sweep is how many forgotten events a commit takes out of the file, at most. They are
// forgotten at once; a long trim is paid for by the commits after it.
const sweep = 1_000

// maxLent is how much memory is kept from one commit for the next.
const maxLent = 1 << 20

// How full a page is left when it is split. Events are only ever appended. Records are
// appended under time-ordered ids and strewn under all else: with 0.8 the files of users
// with a random key each are a third smaller than with bbolt's own 0.5, for as many page
// writes; with more, pages split so often that writes grow again.
const (
	feedFill    = 1.0
	recordsFill = 0.8
)

// writer is the one write transaction at a time, and where the store stands between them.
type writer struct {
	s        *Store
	at       standing
	poisoned error // what every further write answers
	room     room

	tx          *bbolt.Tx
	work        func() error   // what tx does, to do it again in a longer file
	changes     *group.Changes // of the group; lent until the commit has ended
	urgent      bool
	records     *bbolt.Bucket
	next        standing // once tx is committed
	key, sealed []byte   // lent to bbolt until tx ends
}

// standing is where a store stands.
type standing struct {
	head, first store.Seq
	swept       bool // no forgotten event is left in the file
}

// Begin implements [group.Backend].
func (w *writer) Begin() (_ group.Tx, head, first store.Seq, err error) {
	if w.poisoned != nil {
		return nil, 0, 0, w.poisoned
	}
	if err := w.s.name.look(); err != nil {
		return nil, 0, 0, err
	}
	defer caught(debug.SetPanicOnFault(true), &err)
	w.s.reads.write()
	if err := w.begin(); err != nil {
		w.s.reads.wrote()
		return nil, 0, 0, translate(err)
	}
	// If there is no room, the limit of the commit says so, and free pages may be enough.
	if err := w.room.prepare(w.tx.Size()); errors.Is(err, errExtend) {
		w.poison(err)
		return nil, 0, 0, w.poisoned
	}
	return w, w.at.head, w.at.first, nil
}

func (w *writer) begin() (err error) {
	if w.tx, err = w.s.db.Begin(true); err != nil {
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
		version, _, err := open(w.key, data)
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
	return w.write()
}

func (w *writer) write() error {
	c := w.changes
	w.records.FillPercent = recordsFill
	for _, k := range c.Drops {
		w.key = append(w.key[:0], k...)
		if err := w.records.Delete(w.key); err != nil {
			return err
		}
	}
	w.sealed = w.sealed[:0]
	for _, r := range c.Puts {
		w.key = append(w.key[:0], r.Key...)
		if err := w.put(w.records, w.key, r.Version, r.Value); err != nil {
			return err
		}
	}
	return w.writeFeed(c)
}

func (w *writer) writeFeed(c *group.Changes) error {
	feed := w.tx.Bucket(feedBucket)
	feed.FillPercent = feedFill
	for _, e := range c.Events {
		if err := w.put(feed, seqKey(e.Seq), e.Seq, e.Event); err != nil {
			return err
		}
	}
	w.next = standing{c.Head, c.First, w.at.swept && !c.Trimmed}
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

// put seals a value into the writer's memory, which bbolt reads until the transaction ends.
func (w *writer) put(b *bbolt.Bucket, key []byte, version store.Seq, value []byte) error {
	at := len(w.sealed)
	w.sealed = seal(w.sealed, key, version, value)
	return b.Put(key, w.sealed[at:len(w.sealed):len(w.sealed)])
}

// forget deletes events below first, at most sweep of them, and reports whether none is left.
func forget(feed *bbolt.Bucket, first store.Seq) (all bool, err error) {
	var keys [][]byte
	end := seqKey(first)
	c := feed.Cursor()
	key, _ := c.First()
	for ; key != nil && bytes.Compare(key, end) < 0 && len(keys) < sweep; key, _ = c.Next() {
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
	w.s.reads.wrote()
	w.at = w.next
	if cap(w.sealed) > maxLent {
		w.sealed = nil
	}
	return nil
}

// commit commits, in a longer file if need be. Only bbolt knows how many pages it takes.
func (w *writer) commit() error {
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
			return err // there is no room
		}
		if err := w.begin(); err != nil {
			return err
		}
		if err := w.work(); err != nil {
			return err
		}
	}
}

// do calls f with the transaction.
func (w *writer) do(f func(*bbolt.Tx) error) (err error) {
	defer caught(debug.SetPanicOnFault(true), &err)
	return f(w.tx)
}

// Rollback implements [group.Tx].
func (w *writer) Rollback() {
	var err error
	defer caught(debug.SetPanicOnFault(true), &err)
	_ = w.tx.Rollback()
	w.s.reads.wrote()
}

// failed says what err, from a commit, means, and poisons the store unless it is certain
// that nothing was written that counts.
func (w *writer) failed(err error) error {
	if harmless(err) {
		w.s.reads.wrote()
		return full(err)
	}
	w.poison(err)
	if strings.HasPrefix(err.Error(), "mmap allocate error: ") {
		return w.poisoned // nothing was written, but bbolt has no mapping any more
	}
	return fmt.Errorf("%w: %w", store.ErrOutcomeUnknown, err)
}

// poison lets the store take no more writes and reads.
func (w *writer) poison(err error) {
	w.poisoned = fmt.Errorf("%w: a commit failed, the store must be opened anew: %w", store.ErrUnavailable, err)
	w.s.health.refused.Store(&w.poisoned)
	w.Rollback() // it is still there if bbolt panicked
}

// harmless reports whether err, from bbolt's commit, says that there was no room. bbolt
// then has rolled back before the first sync, or before the page that makes it count was
// written. A sync that says so is another matter: it comes without an fs.PathError.
func harmless(err error) bool {
	if errors.Is(err, berrors.ErrMaxSizeReached) || strings.HasPrefix(err.Error(), "file resize error: ") {
		return true
	}
	var path *fs.PathError
	if !errors.As(err, &path) || path.Op != "write" {
		return false
	}
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}
