package txn

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/denizenhq/denizen/internal/heartbeat"
	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// Beat keeps a heartbeat in memory, if that is all there is to do: e is the presence of a user, and
// the same chain is set on the device already, is remembered and is in its first state. Otherwise
// it returns false, and the chain is to be written.
func (db *DB) Beat(e *Entry, device string, chain presence.Chain, now int64) (kept bool) {
	r, ok := e.value.(*record.Devices)
	if !ok {
		return false
	}
	i := presence.IndexOf(r.Devices, device)
	if i < 0 || !presence.Equal(r.Devices[i].Chain, chain) {
		return false
	}
	for {
		p := e.pending.Load()
		// What is stale may know heartbeats that the entry which is remembered does not know of yet.
		if p == nil || p.Gone() || e.Stale() {
			var seen Seen
			if db.Look(r.User, &seen) && seen.text() == r.Incarnation {
				if kept, done := db.BeatSeen(&seen, device, chain, now); done {
					return kept
				}
				continue
			}
			if p = db.cache.beginBeats(r); p == nil {
				return false
			}
		}
		if kept, done := p.Beat(&r.Devices[i], now); done {
			return kept
		}
	}
}

// BeatSeen is Beat for a presence that was seen by Look. Done is false if it may be another one by
// now: who still wants to has to look again.
func (db *DB) BeatSeen(
	seen *Seen, device string, chain presence.Chain, now int64,
) (kept, done bool) {
	return db.cache.slots.beat(seen, device, chain, now)
}

// BeatsBegan returns a channel that receives a value when there are heartbeats to store.
func (db *DB) BeatsBegan() <-chan struct{} { return db.beats.Began() }

// BeatsStored reports whether all heartbeats are stored.
func (db *DB) BeatsStored() bool {
	return db.beats.Empty() && (db.cache == nil || !db.cache.slots.owing.Load())
}

// maxStored is how many records a write of heartbeats changes at most. What users change meanwhile
// waits for it: with 1,000 that took up to 70 ms, with 250 up to 45 ms, and storing costs 7 % more.
const maxStored = 250

// unstored is the heartbeats of a user that are not stored: those of a slot, or pending ones.
type unstored struct {
	debt
	pending     *heartbeat.Pending // nil for a slot
	incarnation string             // of what was taken from a slot
	taken       []presence.Device
}

func (u *unstored) isOf(r *record.Devices) bool {
	if u.pending == nil {
		return u.incarnation == r.Incarnation
	}
	return u.pending.IsOf(r)
}

// StoreBeats stores the heartbeats there are. Those of a presence whose record cannot be read are
// dropped, and its key is returned. On an error the others are stored all the same. It must not be
// called by two at once.
func (db *DB) StoreBeats(ctx context.Context) (damaged []store.Key, err error) {
	all := db.unstored()
	left := slotsAmong(all)
	defer db.taken.Store(0)
	for some := range slices.Chunk(all, maxStored) {
		db.taken.Store(left)
		found, failed := db.storeBeats(ctx, some)
		damaged, err = append(damaged, found...), errors.Join(err, failed)
		left -= slotsAmong(some)
	}
	return damaged, err
}

func slotsAmong(some []unstored) (n int64) {
	for i := range some {
		if some[i].pending == nil {
			n++
		}
	}
	return n
}

// unstored returns the heartbeats that are not stored, in the order of their users' ids: neighbours
// are stored in the same pages, which are then written once.
func (db *DB) unstored() (all []unstored) {
	if db.cache == nil {
		return nil
	}
	db.taken.Store(int64(db.cache.slots.owed())) // debts takes them off the list at once
	for _, d := range db.cache.slots.debts() {
		all = append(all, unstored{debt: d})
	}
	for _, p := range db.beats.All() {
		all = append(all, unstored{debt: debt{user: p.User()}, pending: p})
	}
	slices.SortStableFunc(all, func(a, b unstored) int { return strings.Compare(a.user, b.user) })
	return all
}

// errNothing ends a write that has nothing to write.
var errNothing = errors.New("nothing to write")

func (db *DB) storeBeats(ctx context.Context, some []unstored) (damaged []store.Key, err error) {
	_, err = db.Write(ctx, Queue{}, func(tx *Tx) error {
		tx.keepsCached, damaged = true, nil
		var read []*unstored
		var keys []store.Key
		for i := range some {
			u := &some[i]
			key := record.DevicesKey(u.user)
			if u.pending == nil {
				var seen Seen
				if !db.cache.slots.take(u.debt, &seen) {
					continue // it is pending by now, or gone
				}
				was := seen.record(u.user)
				if !tx.retrying {
					tx.require(store.Cond{Key: key, Version: store.Seq(seen.seq)})
					next := *was
					tx.PutDevices(was, &next)
					continue
				}
				u.incarnation, u.taken = was.Incarnation, was.Devices
			} else if u.taken = u.pending.Take(); u.pending.Gone() {
				continue // a slot has them by now
			}
			read, keys = append(read, u), append(keys, key)
		}
		found, err := db.moveBeats(tx, read, keys)
		if err != nil {
			return err
		}
		damaged = found
		if len(tx.records) == 0 {
			return errNothing
		}
		return nil
	})
	if err == errNothing {
		err = nil
	}
	for i := range some {
		switch u := &some[i]; {
		case u.pending == nil:
			db.cache.slots.settle(u.debt, err == nil)
		case err == nil:
			db.beats.Stored(u.pending, u.taken)
		}
	}
	return damaged, err
}

// moveBeats plans to store the heartbeats that were taken on the records that are there by now. It
// returns the keys of those that cannot be read.
func (db *DB) moveBeats(
	tx *Tx, some []*unstored, keys []store.Key,
) (damaged []store.Key, err error) {
	if len(keys) == 0 {
		return nil, nil
	}
	records, err := db.store.Get(tx.ctx, keys...)
	if err != nil {
		return nil, err
	}
	for i, u := range some {
		e := read(&records[i])
		if e.Damaged() {
			damaged = append(damaged, keys[i])
		}
		r, ok := e.value.(*record.Devices)
		if !ok || !u.isOf(r) {
			continue // the user was deleted, or cleared its presence
		}
		devices, moved := heartbeat.Apply(r.Devices, u.taken)
		if !moved {
			continue
		}
		// Only what is written is a condition: what becomes of the others is nothing to these.
		tx.require(e.cond(keys[i]))
		next := *r
		next.Devices = devices
		tx.PutDevices(r, &next)
	}
	return damaged, nil
}
