package txn

import (
	"context"
	"slices"

	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// Tx is a write that is being decided. It puts what was read for it into its conditions, so that
// what is decided on is what is written on. It is used by one goroutine, until decide returns.
type Tx struct {
	db       *DB
	ctx      context.Context
	retrying bool
	batch    store.Batch
	records  []record.Record // of batch.Put, to be remembered
	// keepsCached says that readers know what the records will say, as with heartbeats that are
	// stored. What is remembered stays so during the write. Only its version may be an older one,
	// and a write that rests on that meets a conflict.
	keepsCached bool
	refused     bool // it is known that nothing was written
	// forgets says that what is put is not worth remembering.
	forgets bool
	known   map[store.Key]bool // the keys of conditions, where there are many
	ahead   []readAhead        // what Gather read

	// Room for what most writes need, so that it is allocated with the Tx.
	ifs   [8]store.Cond
	drops [4]store.Key
	puts  [4]store.Record
	recs  [4]record.Record
}

// reset makes the Tx as if nothing had been decided yet.
func (tx *Tx) reset(retrying bool) {
	tx.retrying, tx.keepsCached, tx.refused, tx.forgets, tx.known = retrying, false, false, false, nil
	tx.ahead = nil
	tx.batch = store.Batch{If: tx.ifs[:0], Drop: tx.drops[:0], Put: tx.puts[:0]}
	tx.records = tx.recs[:0]
}

// Retrying reports whether an earlier try met a conflict. Nothing is taken from the cache then.
func (tx *Tx) Retrying() bool { return tx.retrying }

// readAhead is an entry that Gather read.
type readAhead struct {
	key   store.Key
	entry *Entry
}

// Gather reads records ahead: Read then takes them from there. Where nothing is remembered, those
// who gather at the same time share one read of the store. Elsewhere it does nothing.
func (tx *Tx) Gather(keys ...store.Key) error {
	if tx.db.cache != nil {
		return nil
	}
	records, err := tx.db.shared.read(tx.ctx, keys)
	if err != nil {
		return err
	}
	tx.ahead = make([]readAhead, 0, len(keys))
	for i, key := range keys {
		if tx.gathered(keys[i:i+1]) == nil {
			tx.ahead = append(tx.ahead, readAhead{key, read(&records[i])})
		}
	}
	return nil
}

// gathered returns the entries of keys, or nil if Gather did not read all of them.
func (tx *Tx) gathered(keys []store.Key) []*Entry {
	if tx.ahead == nil {
		return nil
	}
	entries := make([]*Entry, len(keys))
	for i, key := range keys {
		at := slices.IndexFunc(tx.ahead, func(r readAhead) bool { return r.key == key })
		if at < 0 {
			return nil
		}
		entries[i] = tx.ahead[at].entry
	}
	return entries
}

// Read is [DB.Read], and makes what it returns conditions: that a record is still at its version,
// or absent, or damaged.
func (tx *Tx) Read(keys ...store.Key) ([]*Entry, error) {
	entries := tx.gathered(keys)
	if entries == nil {
		var err error
		if entries, err = tx.db.load(tx.ctx, !tx.retrying, keys); err != nil {
			return nil, err
		}
	}
	for i, e := range entries {
		tx.require(e.cond(keys[i]))
	}
	return entries, nil
}

// Rest makes an entry that was read before the write a condition, as Read would. While Retrying it
// may be an outdated one, which only Read helps against.
func (tx *Tx) Rest(key store.Key, e *Entry) { tx.require(e.cond(key)) }

// WithBeats returns the devices of a record, which may be nil, with the heartbeats applied that
// are not stored yet.
func (tx *Tx) WithBeats(r *record.Devices) []presence.Device {
	if r == nil {
		return nil
	}
	// Not those that the entry knows: it may be one that is not remembered, which is not told of
	// heartbeats that began since.
	return tx.db.cache.beatsOf(r.User).Apply(r)
}

// Absent makes it a condition that there is nothing under a key.
func (tx *Tx) Absent(key store.Key) { tx.require(store.Cond{Key: key}) }

// AbsentUnder makes it a condition that there is nothing under any key with a prefix.
func (tx *Tx) AbsentUnder(prefix store.Key) {
	tx.batch.If = append(tx.batch.If, store.Cond{Key: prefix, Under: true})
}

// fewConds is up to how many conditions are searched one by one: a map costs more than that.
const fewConds = 32

// require adds a condition on a key, unless there is one already: what was read first counts.
func (tx *Tx) require(c store.Cond) {
	if tx.known == nil {
		for i := range tx.batch.If {
			if earlier := &tx.batch.If[i]; earlier.Key == c.Key && !earlier.Under {
				return
			}
		}
		if len(tx.batch.If) >= fewConds {
			tx.known = make(map[store.Key]bool, 2*len(tx.batch.If))
			for i := range tx.batch.If {
				if earlier := &tx.batch.If[i]; !earlier.Under {
					tx.known[earlier.Key] = true
				}
			}
		}
	} else if tx.known[c.Key] {
		return
	}
	if tx.known != nil {
		tx.known[c.Key] = true
	}
	tx.batch.If = append(tx.batch.If, c)
}

// Put writes a record, and returns the bytes that it is stored as. The record must not be changed
// any more: it may be remembered.
func (tx *Tx) Put(key store.Key, r record.Record) (size int) {
	value := record.Encode(r)
	tx.batch.Put = append(tx.batch.Put, store.Record{Key: key, Value: value})
	tx.records = append(tx.records, r)
	return len(value)
}

// PutDevices writes the presence of a user together with the key by which it is found while it is
// here, and returns the bytes that the presence is stored as. Was is the record before, or nil. If
// next has no devices and does not hide, there is none afterwards.
func (tx *Tx) PutDevices(was, next *record.Devices) (size int) {
	if was == nil {
		was = &record.Devices{}
	}
	next.PlaceHere(was)
	has := func(r *record.Devices, place int64) bool { return place == r.Here || place == r.Left }
	for _, place := range [...]int64{was.Here, was.Left} {
		if place != 0 && !has(next, place) {
			tx.Drop(record.HereKey(place, was.User))
		}
	}
	if next.Here != 0 && !has(was, next.Here) {
		tx.Put(record.HereKey(next.Here, next.User), &record.Here{
			Place: next.Here, User: next.User, Incarnation: next.Incarnation,
		})
	}
	key := record.DevicesKey(next.User)
	if len(next.Devices) == 0 && !next.Hidden {
		tx.Drop(key)
		return 0
	}
	return tx.Put(key, next)
}

// Drop deletes what is under keys, if there is anything. A key that is put too is put.
func (tx *Tx) Drop(keys ...store.Key) { tx.batch.Drop = append(tx.batch.Drop, keys...) }

// Emit makes what the feed tells of the write. The last call counts.
func (tx *Tx) Emit(e *record.Event) { tx.batch.Emit = record.Encode(e) }

// Trim forgets the events of the feed up to a place.
func (tx *Tx) Trim(upTo store.Seq) { tx.batch.Trim = upTo }

// Forget lets what is put not be remembered, where nobody is about to ask for it: it would be in
// the place of what somebody does.
func (tx *Tx) Forget() { tx.forgets = true }

// Urgent lets the write have room that the store keeps back for a full disk.
func (tx *Tx) Urgent() { tx.batch.Urgent = true }
