// Package txn is the transaction core of a directory: it reads records, remembers them where that
// is safe, and writes what somebody decided on exactly what was read.
//
// It knows records and the store, and nothing of principals: who may do what is decided by its
// caller, in the function that [DB.Write] calls back. There is no other way back up from here.
//
// # What is guaranteed
//
//   - What is read is never older than what the store would return, heartbeats included.
//   - What was read for a write is a condition of it. If somebody changed a part of it meanwhile
//     nothing is written, and the write is decided anew.
//   - After a write has returned every reader sees it, or sees it once its outcome is known.
//
// # Locks
//
// A shard of the cache, then the table of slots, then a slot, then the table of heartbeats, then
// the heartbeats of one user: whoever holds several took them in this order. A slot is locked by
// its version. The locks of the queues and of the gatherer are taken alone. None is held over a
// call of the store or of a decide.
package txn

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/denizenhq/denizen/internal/heartbeat"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// DB reads and writes the records of a store. Its methods may be called by many goroutines at once.
type DB struct {
	store  store.Store
	cache  *cache // nil over a store that others may write to
	shared *gatherer
	queues *queues
	beats  *heartbeat.Table // empty without a cache
	taken  atomic.Int64     // slots that StoreBeats has yet to come to

	counters counters
}

// New returns a DB over a store. CacheBytes bounds what is remembered, as it weighs in memory: see
// [MinCacheBytes]. With 0 nothing is remembered and no heartbeats are kept, as must be where others
// write to the same store.
func New(s store.Store, cacheBytes int64) *DB {
	db := &DB{
		store: s, shared: &gatherer{store: s}, queues: newQueues(), beats: heartbeat.NewTable(),
	}
	if cacheBytes > 0 {
		db.cache = newCache(cacheBytes, db.beats)
	}
	return db
}

// Caching reports whether records are remembered.
func (db *DB) Caching() bool { return db.cache != nil }

// PeekUser returns what is remembered of a user, or nil. Like the other Peeks it takes no lock,
// allocates nothing and never asks the store.
func (db *DB) PeekUser(id string) *Entry { return db.cache.peek(placeUsers, id) }

// Look fills in a user's presence, if that is remembered in the short: see [slots].
func (db *DB) Look(user string, into *Seen) bool { return db.cache.look(user, into) }

// PeekDevices returns what is remembered of a user's presence, or nil. It is nil where Look is
// true, too.
func (db *DB) PeekDevices(user string) *Entry { return db.cache.peek(placeDevices, user) }

// PeekOwner returns what is remembered of the owner of a canonical serialized locator, or nil.
func (db *DB) PeekOwner(locator string) *Entry { return db.cache.peek(placeOwners, locator) }

// UserOf returns what is remembered of the user that an entry of a Peek leads to, or nil: the user
// itself, the one whose presence it is, or the one who owns the locator. It is the present owner
// too where the entry is an outdated one.
func (db *DB) UserOf(e *Entry) *Entry {
	if u := e.user.Load(); u != nil && !u.Stale() {
		return u
	}
	return db.findUserOf(e)
}

func (db *DB) findUserOf(e *Entry) *Entry {
	id := e.id
	owner, owned := e.value.(*record.Owner)
	if owned {
		id = owner.User
	}
	u := db.PeekUser(id)
	// The key of a locator may have been left behind by a user who was damaged.
	if u == nil || owned && !u.value.(*record.User).Owns(e.id) {
		return nil
	}
	e.user.Store(u)
	return u
}

// Read returns the records under keys, in their order: what is remembered, and the others from one
// snapshot of the store. One that is damaged is no error: see [Entry.Damaged].
func (db *DB) Read(ctx context.Context, keys ...store.Key) ([]*Entry, error) {
	return db.load(ctx, true, keys)
}

// miss is a record that load has to ask the store for, and what was known before it did.
type miss struct {
	at      int    // its place among the keys
	epoch   uint64 // of lookup
	pending *heartbeat.Pending
}

// load is Read, which takes nothing from the cache unless cached is set. What it reads is
// remembered either way.
func (db *DB) load(ctx context.Context, cached bool, keys []store.Key) ([]*Entry, error) {
	entries := make([]*Entry, len(keys))
	var few [4]miss // most calls ask for a few keys
	missing := few[:0]
	for i, key := range keys {
		n := nameOf(key)
		e, epoch := db.cache.lookup(n)
		if e == nil && cached && n.kind == kindDevices {
			e = db.cache.slotted(n.id)
		}
		if e != nil && cached {
			entries[i] = e
			continue
		}
		m := miss{at: i, epoch: epoch}
		if n.kind == kindDevices {
			// Heartbeats that are stored while the record is being read are in neither it nor the
			// table afterwards. So they are looked up before the read.
			m.pending = db.cache.beatsOf(n.id)
		}
		missing = append(missing, m)
	}
	if len(missing) == 0 {
		return entries, nil
	}
	if len(missing) < len(keys) {
		wanted := make([]store.Key, len(missing))
		for i, m := range missing {
			wanted[i] = keys[m.at]
		}
		keys = wanted
	}
	db.counters.misses.Add(int64(len(keys)))
	records, err := db.store.Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	for i := range records {
		m := &missing[i]
		e := read(&records[i])
		if m.pending != nil {
			if r, ok := e.value.(*record.Devices); ok && m.pending.IsOf(r) {
				e.pending.Store(m.pending)
			}
		}
		entries[m.at] = db.cache.remember(nameOf(records[i].Key), m.epoch, e)
	}
	return entries, nil
}

// maxTries is how often a write is decided at most.
const maxTries = 16

// The errors of Write that are not those of the store or of decide.
var (
	// ErrContended: others kept changing the same records.
	ErrContended = fmt.Errorf("%w: others kept changing the same records", store.ErrConflict)
	// ErrQueueFull: there was no room left in the queue.
	ErrQueueFull = fmt.Errorf("%w: too many others wait to change the same records", store.ErrConflict)
)

// Write commits what decide plans, and returns the place of the commit in the order of all.
//
// Decide is called once, and once more after each conflict. It reads through the Tx, which makes
// what it reads a condition, and fills the Tx. An error of it ends the write and is returned as it
// is. It may read and write through the DB meanwhile, and must not keep the Tx.
//
// After its first conflict a writer waits in the queue, and so does whoever comes while others
// wait there: they would never get through otherwise. The zero Queue is none.
func (db *DB) Write(ctx context.Context, q Queue, decide func(*Tx) error) (store.Seq, error) {
	queued := q.Key == ""
	tx := &Tx{db: db, ctx: ctx}
	for try := range maxTries {
		if !queued && (try > 0 || db.queues.busy(q.Key)) {
			leave, err := db.queues.enter(ctx, q)
			if err != nil {
				return 0, err
			}
			defer leave()
			queued = true
		}
		tx.reset(try > 0)
		if err := decide(tx); err != nil {
			return 0, err
		}
		seq, err := db.commit(ctx, tx)
		// What was damaged since it was remembered is read again, once.
		again := errors.Is(err, store.ErrConflict) || try == 0 && errors.Is(err, store.ErrCorrupt)
		if !again {
			return seq, err
		}
	}
	return 0, ErrContended
}

// commit hands a batch to the store, and keeps the cache right whatever comes of it.
func (db *DB) commit(ctx context.Context, tx *Tx) (seq store.Seq, err error) {
	db.cache.beginWrite(tx)
	defer func() { // also if the store panics
		db.counters.committed(err)
		if err != nil {
			seq = 0
		}
		tx.refused = err != nil && !errors.Is(err, store.ErrOutcomeUnknown)
		db.cache.endWrite(tx, seq)
	}()
	return db.store.Commit(ctx, tx.batch)
}
