package txn

import (
	"sync/atomic"

	"github.com/denizenhq/denizen/internal/heartbeat"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// Entry is a record as it was read. It is shared by all who read it, and nobody changes it nor
// what it leads to.
type Entry struct {
	version   store.Seq
	value     any
	damage    damage
	freshness *Freshness // nil of what was never remembered

	pending atomic.Pointer[heartbeat.Pending] // of a presence
	user    atomic.Pointer[Entry]             // see UserOf

	// Where it is remembered, and what it weighs. Set before it is in a list, and then never
	// changed; next is changed with the lock of the shard held, and read without.
	place  uint8 // of its kind in record.Remembered
	id     string
	hash   uint64
	next   atomic.Pointer[Entry] // was remembered before it, in the same list
	weight int64
}

// damage is what is wrong with a record.
type damage uint8

const (
	marked     damage = iota + 1 // the store cannot read it: its version means nothing
	unreadable                   // the store can, and it is not what its key promises
)

// read returns the entry of a record of the store. It keeps the value.
func read(r *store.Record) *Entry {
	e := &Entry{version: r.Version, weight: weigh(r.Key, r.Value)}
	switch {
	case r.Damaged:
		e.damage = marked
	case r.Version != 0:
		value, err := record.Decode(r.Key, r.Value)
		if err != nil {
			e.damage = unreadable
		} else {
			e.value = value
		}
	}
	return e
}

// weigh returns what a record takes in memory, about: the value is decoded, into strings and
// slices of its own.
func weigh(key store.Key, value []byte) int64 { return int64(256 + len(key) + 2*len(value)) }

// Value returns the record, a pointer to a struct of internal/record; nil if there is none or it
// is damaged.
func (e *Entry) Value() any { return e.value }

// Version returns the version of the record, 0 if there is none.
func (e *Entry) Version() store.Seq { return e.version }

// Damaged reports whether the record is there and cannot be read.
func (e *Entry) Damaged() bool { return e.damage != 0 }

// Pending returns the heartbeats of a presence that its record lacks, or nil.
func (e *Entry) Pending() *heartbeat.Pending { return e.pending.Load() }

// Stale reports whether nobody vouches for the entry any longer: its record was written, or
// somebody tried to, or it was evicted, or it was never remembered.
func (e *Entry) Stale() bool { return e.freshness.Stale() }

// Freshness returns what says whether the entry is stale.
func (e *Entry) Freshness() *Freshness { return e.freshness }

// Freshness says whether an [Entry] is stale. It is apart from the entry, so that whoever rests on
// a record for long does not hold it in memory.
type Freshness struct{ stale atomic.Bool }

// Stale is that of the entry. The nil Freshness is that of what was never remembered.
func (f *Freshness) Stale() bool { return f == nil || f.stale.Load() }

// cond returns the condition that what was read under a key still stands.
func (e *Entry) cond(key store.Key) store.Cond {
	if e.damage == marked {
		return store.Cond{Key: key, Damaged: true}
	}
	return store.Cond{Key: key, Version: e.version}
}
