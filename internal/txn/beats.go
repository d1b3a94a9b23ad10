package txn

import (
	"context"
	"errors"
	"slices"

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
		if p == nil || p.Gone() {
			if p = db.cache.beginBeats(r); p == nil {
				return false
			}
		}
		if kept, done := p.Beat(&r.Devices[i], now); done {
			return kept
		}
	}
}

// BeatsBegan returns a channel that receives a value when there are heartbeats to store.
func (db *DB) BeatsBegan() <-chan struct{} { return db.beats.Began() }

// BeatsStored reports whether all heartbeats are stored.
func (db *DB) BeatsStored() bool { return db.beats.Empty() }

// maxStored is how many records a write of heartbeats changes at most.
const maxStored = 1000

// StoreBeats stores the heartbeats there are. Those of a presence whose record cannot be read are
// dropped, and its key is returned. On an error the others are stored all the same.
func (db *DB) StoreBeats(ctx context.Context) (damaged []store.Key, err error) {
	for some := range slices.Chunk(db.beats.All(), maxStored) {
		found, failed := db.storeBeats(ctx, some)
		damaged, err = append(damaged, found...), errors.Join(err, failed)
	}
	return damaged, err
}

// errNothing ends a write that has nothing to write.
var errNothing = errors.New("nothing to write")

func (db *DB) storeBeats(ctx context.Context, some []*heartbeat.Pending) (damaged []store.Key, err error) {
	keys := make([]store.Key, len(some))
	for i, p := range some {
		keys[i] = record.DevicesKey(p.User())
	}
	taken := make([][]presence.Device, len(some))
	_, err = db.Write(ctx, Queue{}, func(tx *Tx) error {
		entries, err := db.load(ctx, false, keys)
		if err != nil {
			return err
		}
		tx.keepsCached, damaged = true, nil
		for i, p := range some {
			e := entries[i]
			taken[i] = p.Take()
			if e.Damaged() {
				damaged = append(damaged, keys[i])
			}
			r, ok := e.value.(*record.Devices)
			if !ok || !p.IsOf(r) {
				continue // the user was deleted, or cleared its presence
			}
			devices, moved := heartbeat.Apply(r.Devices, taken[i])
			if !moved {
				continue
			}
			// Only what is written is a condition: what becomes of the others is nothing to these.
			tx.require(e.cond(keys[i]))
			next := *r
			next.Devices = devices
			tx.Put(keys[i], &next)
		}
		if len(tx.records) == 0 {
			return errNothing
		}
		return nil
	})
	if err != nil && err != errNothing {
		return damaged, err
	}
	for i, p := range some {
		db.beats.Stored(p, taken[i])
	}
	return damaged, nil
}
