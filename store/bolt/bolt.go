// Package bolt implements [store.Store] in one file, on top of bbolt.
//
// [Open] opens a file or creates it. One process at a time may have it open: the next one gets
// [ErrInUse]. The file must be on a local file system with hard links and working file locks. No
// other program may write to it or truncate it while it is open.
//
// # Durability
//
// Commit returns after two syncs of the file: of the data, then of the meta page that makes the
// data count.
//
// If a sync fails, nobody knows what reached the disk, and writing on could destroy what was
// acknowledged before. So after a failed commit, unless it certainly changed nothing, the store is
// poisoned. That commit returns [store.ErrOutcomeUnknown]. All later reads and writes return
// [store.ErrUnavailable] until the file is reopened. Reads are refused as well because they could
// show what the disk does not hold, and a sequence number that somebody saw would be used again.
// Open makes a commit of its own before it returns, which settles what it found.
//
// # Full disks
//
// A full disk does no harm: the commit is not applied, and later commits succeed once there is
// space.
//
// The store also keeps the file longer than needed, filled with zeros, and reserves the last MiB.
// On a full disk only urgent batches use the reserve, and Open and Close. It lasts for some
// hundreds of urgent batches, and for fewer during a backup. File systems that compress, copy on
// write or overcommit defeat the reserve. On Windows there is none, because there bbolt alone
// decides how long the file is.
//
// # Damage
//
// Every record and every event has a checksum (CRC-32C) over its key, version and value. A read
// returns it as it was written, or marked as damaged.
//
// bbolt has no checksums for its own pages. Damage to one of them can hide records and, in rare
// cases, such as a page that leads back to itself, end the process. [Store.Verify] finds such
// damage safely, so verify a doubtful file before you read it. One case cannot be found: damage to
// the meta page that the very last commit wrote. bbolt takes it for a commit that was cut off by a
// crash and goes back to the commit before.
//
// A file that was not closed properly is checked in the background after Open, and [Store.Health]
// reports the result.
//
// [Salvage] copies what can be read of a damaged file into a new one, and lists what cannot.
//
// Before a file is mapped into memory, its length is compared with the length that its meta page
// claims. If the system refuses a longer mapping, commits that need one fail and reads go on.
//
// # Compaction
//
// What is deleted leaves free pages, which later commits use. Each commit writes the list of them,
// 8 bytes a page, so after much was deleted each commit writes much. [Store.Compact] puts a smaller
// file in the place of the open one, while it is in use. [Store.FileSize] says what that gains.
//
// The new file has the name of the old one, and another inode. So watch the name and not the inode,
// and give a container the directory and not the file.
//
// # Replaced files
//
// A file that was moved or replaced while it is open takes no more commits within about a second.
// Reads go on, and [Store.Health] reports it.
package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	_ store.Backer  = (*Store)(nil)

	_ store.Compacter = (*Store)(nil)
)

// Store is an open file. It may be used by many goroutines at once.
type Store struct {
	// Writes go through group, whose leader owns w. Reads use transactions of bbolt, lent by reads,
	// which see a snapshot and wait for no writer.
	group *group.Group
	head  group.Head
	owner group.Owner
	w     writer
	reads reads
	name  name

	unclean    bool // the file was not closed properly the last time; set by Open
	health     health
	compacting compacting
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
			version, value, err := unseal(tx.key, data)
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
		for key != nil && bytes.HasPrefix(key, under) && len(records) < r.Limit {
			rec := store.Record{Key: store.Key(key)}
			version, value, err := unseal(key, data)
			switch {
			case err != nil:
				rec.Damaged = true
			case r.KeysOnly:
				rec.Version = version
			default:
				rec.Version, rec.Value = version, bytes.Clone(value)
			}
			records = append(records, rec)
			key, data = c.Next()
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

// Counts implements [store.Counter].
func (s *Store) Counts() store.Counts { return s.group.Counts() }

// Changes implements [store.Store].
func (s *Store) Changes(
	ctx context.Context, after store.Seq, limit int,
) (feed store.Feed, err error) {
	if err := store.CheckChanges(limit); err != nil {
		return store.Feed{}, err
	}
	err = s.view(ctx, func(tx *reading) error {
		var err error
		if feed.Head, feed.First, err = feedBounds(tx.Tx); err != nil {
			return err
		}
		switch {
		case after == store.End || after == feed.Head:
			return nil
		case after < feed.First-1 || after > feed.Head:
			return store.ErrMissed
		}
		c := tx.Bucket(feedBucket).Cursor()
		key, data := c.Seek(seqKey(after + 1))
		for ; key != nil && len(feed.Changes) < limit; key, data = c.Next() {
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

// Close implements [store.Store]. It also waits for reads and backups under way. A compaction under
// way ends with [store.ErrClosed].
func (s *Store) Close() error {
	s.compacting.stop()
	s.group.Close()
	s.head.Close()
	s.health.stop()
	s.reads.beginWrite()
	s.compacting.ended.Wait()
	if !s.health.closed.Swap(true) && s.health.refused.Load() == nil && s.name.check() == nil {
		// If this fails, the next Open takes the file for one that was not closed properly, and
		// checks it.
		_ = s.w.disk.db.Update(func(tx *bbolt.Tx) error {
			s.w.room.limit(tx.Size(), true)
			if s.w.settled {
				if err := tx.Bucket(metaBucket).Delete(compactKey); err != nil {
					return err
				}
			}
			return putMeta(tx, openKey, 0)
		})
	}
	return s.w.disk.db.Close()
}

// view calls f with a snapshot. bbolt panics on some damaged pages and faults on others, in the
// mapped memory. Both become store.ErrCorrupt.
func (s *Store) view(ctx context.Context, f func(*reading) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if refused := s.health.refused.Load(); refused != nil {
		return *refused
	}
	defer caught(debug.SetPanicOnFault(true), &err)
	r, err := s.reads.begin()
	if err != nil {
		return translate(err)
	}
	ok := false
	defer func() { s.reads.end(r, ok) }()
	err = f(r)
	ok = err == nil
	return err
}

// caught recovers from a panic or a fault in mapped memory, and makes it the error of the function
// that defers caught. Its first argument is the setting to restore:
//
//	defer caught(debug.SetPanicOnFault(true), &err)
func caught(panicOnFault bool, err *error) {
	debug.SetPanicOnFault(panicOnFault)
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: a page makes no sense", store.ErrCorrupt)
	}
}

// visible returns the head that readers see.
func (s *Store) visible(ctx context.Context) (head store.Seq, err error) {
	err = s.view(ctx, func(tx *reading) error {
		head, _, err = feedBounds(tx.Tx)
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
