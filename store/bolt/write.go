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
)

// sweep is how many forgotten events a commit takes out of the file, at most. They are
// forgotten at once; a long trim is paid for by the commits after it.
const sweep = 1_000

// By how much the file grows at least and at most beyond what a commit needs.
const (
	minGrowth = 32 << 10
	maxGrowth = 16 << 20
)

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

	tx          *bbolt.Tx
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
	if w.tx, err = w.s.db.Begin(true); err != nil {
		w.s.reads.wrote()
		return nil, 0, 0, translate(err)
	}
	// bbolt grows the file by this much beyond its need: an eighth, not 16 MiB of an empty one.
	w.s.db.AllocSize = int(min(max(w.tx.Size()/8, minGrowth), maxGrowth))
	w.records = w.tx.Bucket(recordsBucket)
	w.next = w.at
	return w, w.at.head, w.at.first, nil
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
		if err != nil {
			err = w.failed(err)
		}
	}()
	defer caught(debug.SetPanicOnFault(true), &err)
	if err := w.tx.Commit(); err != nil {
		return err
	}
	w.s.reads.wrote()
	w.at = w.next
	if cap(w.sealed) > maxLent {
		w.sealed = nil
	}
	return nil
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
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	w.poisoned = fmt.Errorf("%w: a commit failed, the store must be opened anew: %w", store.ErrUnavailable, err)
	w.s.health.refused.Store(&w.poisoned)
	w.Rollback() // it is still there if bbolt panicked
	return fmt.Errorf("%w: %w", store.ErrOutcomeUnknown, err)
}

// harmless reports whether err, from bbolt's commit, says that there was no room. bbolt
// then has rolled back before the first sync, or before the page that makes it count was
// written. A sync that says so is another matter: it comes without an fs.PathError.
func harmless(err error) bool {
	if strings.HasPrefix(err.Error(), "file resize error: ") {
		return true
	}
	var path *fs.PathError
	if !errors.As(err, &path) || path.Op != "write" {
		return false
	}
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}
