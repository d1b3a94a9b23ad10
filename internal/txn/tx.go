package txn

import (
	"context"

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
	// forgets says that what is put is not worth remembering.
	forgets bool
	known   map[store.Key]bool // the keys of conditions, where there are many

	// Room for what most writes need, so that it is allocated with the Tx.
	ifs   [8]store.Cond
	drops [4]store.Key
	puts  [4]store.Record
	recs  [4]record.Record
}

// reset makes the Tx as if nothing had been decided yet.
func (tx *Tx) reset(retrying bool) {
	tx.retrying, tx.keepsCached, tx.forgets, tx.known = retrying, false, false, nil
	tx.batch = store.Batch{If: tx.ifs[:0], Drop: tx.drops[:0], Put: tx.puts[:0]}
	tx.records = tx.recs[:0]
}

// Retrying reports whether an earlier try met a conflict. Nothing is taken from the cache then.
func (tx *Tx) Retrying() bool { return tx.retrying }

// Read is [DB.Read], and makes what it returns conditions: that a record is still at its version,
// or absent, or damaged.
func (tx *Tx) Read(keys ...store.Key) ([]*Entry, error) {
	entries, err := tx.db.load(tx.ctx, !tx.retrying, keys)
	if err != nil {
		return nil, err
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
	return tx.db.beats.Of(r.User).Apply(r)
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
