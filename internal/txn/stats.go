package txn

import (
	"errors"
	"sync/atomic"

	"github.com/denizenhq/denizen/store"
)

// Counts is what a DB counted since it was made.
type Counts struct {
	Applied, Conflicts, Failed int64 // commits
	Misses                     int64 // records that were read from the store
}

// counters is what Counts is made from.
type counters struct {
	applied, conflicts, failed, misses atomic.Int64
}

func (c *counters) committed(err error) {
	switch {
	case err == nil:
		c.applied.Add(1)
	case errors.Is(err, store.ErrConflict):
		c.conflicts.Add(1)
	default:
		c.failed.Add(1)
	}
}

// Counts returns what was counted.
func (db *DB) Counts() Counts {
	c := &db.counters
	return Counts{
		Applied: c.applied.Load(), Conflicts: c.conflicts.Load(), Failed: c.failed.Load(),
		Misses: c.misses.Load(),
	}
}

// Cached returns how many records are remembered, and what they weigh without the lists and the
// table of presences.
func (db *DB) Cached() (entries int, bytes int64) {
	if db.cache == nil {
		return 0, 0
	}
	for i := range db.cache.shards {
		s := &db.cache.shards[i]
		s.Lock()
		for j := range s.pools {
			bytes += s.pools[j].weight
			entries += s.pools[j].entries
		}
		s.Unlock()
	}
	return entries, bytes
}

// BeatsWaiting returns how many users have heartbeats that are not stored, or a few more.
func (db *DB) BeatsWaiting() int {
	n := db.beats.Len() + int(db.taken.Load())
	if db.cache != nil {
		n += db.cache.slots.owed()
	}
	return n
}
