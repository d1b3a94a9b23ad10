// Package bolt is a store in one file, over bbolt.
//
// # What is durable
//
// Commit returns after the file was synced, twice: the data, then the page that makes
// it count. If a sync fails, nobody knows what reached the disk, and to write on could
// destroy what was acknowledged before. So after any failure of a commit that is not
// certainly harmless the store takes no more writes until it is opened anew: they answer
// store.ErrUnavailable. That one commit answers store.ErrOutcomeUnknown. Reads are refused, too:
// they could show what the disk does not hold, and a number somebody saw would be used again. Open
// commits before it returns, so that what it found is settled.
//
// A full disk is harmless: such a commit was not applied, and later ones succeed once there is
// room. The file is kept longer than it need be, with zeros that were written, and the last MiB
// is kept back: on a full disk only urgent batches use it, and Open and Close do. It lasts for
// some hundreds of them; a backup under way shortens that. A file system that compresses, copies on
// write or promises what it does not have keeps nothing back. Nor does Windows, where bbolt alone
// decides how long the file is.
//
// # What is checked
//
// Every record and every event carries a checksum over its key, version and value (CRC-32C),
// and is answered as it was written or refused with store.ErrCorrupt. bbolt has none for
// its own pages, so damage to one can hide a record, and in rare cases, such as a page
// that leads back to itself, end the process. [Store.Verify] finds both without harm: a
// file in doubt is to be verified before it is read. What it cannot find is damage to the
// page that the very last commit wrote last: bbolt takes that for a commit cut off by a
// crash and goes back to the one before.
//
// A file is mapped into memory only after its length was compared with what it says of
// itself. No other program may write to it or shorten it while it is open. Where the system gives
// no longer mapping, commits that need one are refused, and reads go on.
//
// A file that was not closed in order is checked in the background once it is open, and one whose
// name leads elsewhere, as it was moved or replaced, takes no more commits a second later, while
// reads go on. [Store.Health] tells of both.
//
// # Where it works
//
// On a local file system with hard links and working file locks. One process at a time
// has the file open; the next gets [ErrInUse].
package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/internal/group"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

var (
	_ store.Store   = (*Store)(nil)
	_ store.Sole    = (*Store)(nil)
	_ store.Checker = (*Store)(nil)
)

// Store is an open file. It may be used by many goroutines at once.
type Store struct {
	db    *bbolt.DB
	file  *os.File // what db works on
	group *group.Group
	head  group.Head
	owner group.Owner
	w     writer
	reads reads
	name  name

	unclean bool // the file was not closed in order before it was opened; set by Open
	health  health
}

// Get implements [store.Store].
func (s *Store) Get(ctx context.Context, keys ...store.Key) (records []store.Record, err error) {
	if err := store.CheckKeys(keys...); err != nil {
		return nil, err
	}
	err = s.view(ctx, func(tx *reading) error {
		records = make([]store.Record, len(keys))
		c := tx.records()
		for i, k := range keys {
			records[i].Key = k
			tx.key = append(tx.key[:0], k...)
			found, data := c.Seek(tx.key)
			if !bytes.Equal(found, tx.key) {
				continue
			}
			version, value, err := open(tx.key, data)
			if err != nil {
				records[i].Damaged = true
				continue
			}
			records[i].Version, records[i].Value = version, bytes.Clone(value)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// List implements [store.Store].
func (s *Store) List(ctx context.Context, r store.Range) (records []store.Record, err error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	err = s.view(ctx, func(tx *reading) error {
		c := tx.records()
		under, after := []byte(r.Under), []byte(r.After)
		key, data := c.Seek([]byte(max(r.Under, r.After)))
		if len(after) > 0 && bytes.Equal(key, after) {
			key, data = c.Next()
		}
		for ; key != nil && bytes.HasPrefix(key, under) && len(records) < r.Limit; key, data = c.Next() {
			rec := store.Record{Key: store.Key(key)}
			version, value, err := open(key, data)
			switch {
			case err != nil:
				rec.Damaged = true
			case r.KeysOnly:
				rec.Version = version
			default:
				rec.Version, rec.Value = version, bytes.Clone(value)
			}
			records = append(records, rec)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// Commit implements [store.Store].
func (s *Store) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	return s.group.Commit(ctx, b)
}

// Changes implements [store.Store].
func (s *Store) Changes(ctx context.Context, after store.Seq, limit int) (feed store.Feed, err error) {
	if err := store.CheckChanges(limit); err != nil {
		return store.Feed{}, err
	}
	err = s.view(ctx, func(tx *reading) error {
		var err error
		if feed.Head, feed.First, err = place(tx.Tx); err != nil {
			return err
		}
		switch {
		case after == store.End || after == feed.Head:
			return nil
		case after < feed.First-1 || after > feed.Head:
			return store.ErrMissed
		}
		c := tx.Bucket(feedBucket).Cursor()
		for key, data := c.Seek(seqKey(after + 1)); key != nil && len(feed.Changes) < limit; key, data = c.Next() {
			c, err := openEvent(key, data)
			if err != nil {
				return err
			}
			feed.Changes = append(feed.Changes, c)
		}
		return nil
	})
	if err != nil && !errors.Is(err, store.ErrMissed) {
		return store.Feed{}, err
	}
	return feed, err
}

// Wait implements [store.Store].
func (s *Store) Wait(ctx context.Context, after store.Seq) error {
	if head, err := s.visible(ctx); err != nil || after > head {
		return firstOf(err, store.ErrMissed)
	}
	return s.head.Wait(ctx, after)
}

// Own implements [store.Sole].
func (s *Store) Own() (release func(), err error) {
	if err := s.view(context.Background(), func(*reading) error { return nil }); err != nil {
		return nil, err
	}
	return s.owner.Own()
}

// Close implements [store.Store]. It waits for reads and backups under way, too.
func (s *Store) Close() error {
	s.group.Close()
	s.head.Close()
	s.health.stop()
	s.reads.write()
	if !s.health.closed.Swap(true) && s.health.refused.Load() == nil && s.name.look() == nil {
		// If it fails, the next Open takes the file for one that was not closed in order.
		_ = s.db.Update(func(tx *bbolt.Tx) error {
			s.w.room.limit(tx.Size(), true)
			return putMeta(tx, openKey, 0)
		})
	}
	return s.db.Close()
}

// view calls f with a snapshot. Where bbolt trips over a damaged page, by a panic or by
// a fault in the mapped memory, the error is store.ErrCorrupt.
func (s *Store) view(ctx context.Context, f func(*reading) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if refused := s.health.refused.Load(); refused != nil {
		return *refused
	}
	defer caught(debug.SetPanicOnFault(true), &err)
	r, err := s.reads.begin(s.db)
	if err != nil {
		return translate(err)
	}
	sound := false
	defer func() { s.reads.end(r, sound) }()
	err = f(r)
	sound = err == nil
	return err
}

// caught makes a panic, and a fault in mapped memory, the error of the function that
// defers it.
func caught(panicOnFault bool, err *error) {
	debug.SetPanicOnFault(panicOnFault)
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: a page makes no sense", store.ErrCorrupt)
	}
}

// visible answers the head that readers see.
func (s *Store) visible(ctx context.Context) (head store.Seq, err error) {
	err = s.view(ctx, func(tx *reading) error {
		head, _, err = place(tx.Tx)
		return err
	})
	return head, err
}

// translate turns an error of bbolt into one of package store.
func translate(err error) error {
	switch {
	case errors.Is(err, berrors.ErrDatabaseNotOpen):
		return store.ErrClosed
	case errors.Is(err, berrors.ErrTimeout):
		return ErrInUse
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}
