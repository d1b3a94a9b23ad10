package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
)

// The floors: the least that an operation costs, without any of our code and with nothing that
// could be left out.

var (
	recordsBucket = []byte("records")
	feedBucket    = []byte("feed")
)

// openBare opens a file with bbolt alone, with the settings of store/bolt.
func openBare(path string) (*bbolt.DB, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{FreelistType: bbolt.FreelistArrayType, NoStatistics: true})
	if err != nil {
		return nil, err
	}
	return db, db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(recordsBucket)
		_, again := tx.CreateBucketIfNotExists(feedBucket)
		return first(err, again)
	})
}

var errAbsent = errors.New("what was asked for is not there")

// get reads values in one transaction. It copies them, because they would be used after that.
func get(db *bbolt.DB, keys ...[]byte) error {
	return db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(recordsBucket)
		for _, key := range keys {
			if len(append([]byte(nil), bucket.Get(key)...)) == 0 {
				return errAbsent
			}
		}
		return nil
	})
}

type pair struct{ key, value []byte }

// group is the simplest group commit over bbolt: all that is queued while one transaction syncs
// goes into the next. There is no timer.
type group struct {
	db *bbolt.DB
	in chan waiting
}

type waiting struct {
	write func(tx *bbolt.Tx) error
	done  chan error
}

var doneChans = sync.Pool{New: func() any { return make(chan error, 1) }}

func newGroup(db *bbolt.DB) *group {
	g := &group{db, make(chan waiting, 1024)}
	go func() {
		var batch []waiting
		for w := range g.in {
			batch = append(batch[:0], w)
			for len(g.in) > 0 && len(batch) < 1000 {
				batch = append(batch, <-g.in)
			}
			err := db.Update(func(tx *bbolt.Tx) error {
				for _, w := range batch {
					if err := w.write(tx); err != nil {
						return err
					}
				}
				return nil
			})
			for _, w := range batch {
				w.done <- err
			}
		}
	}()
	return g
}

func (g *group) commit(write func(tx *bbolt.Tx) error) error {
	done := doneChans.Get().(chan error)
	g.in <- waiting{write, done}
	err := <-done
	doneChans.Put(done)
	return err
}

func (g *group) close() { close(g.in) }

var sequence atomic.Uint64

// fresh returns an unused number, far from the previous one.
func fresh() uint64 { return sequence.Add(1) * 0x9E3779B97F4A7C15 >> 16 }

func event(kind denizen.EventKind, user string) pair {
	return pair{
		binary.BigEndian.AppendUint64(nil, 1<<40+sequence.Add(1)),
		record.Encode(&record.Event{At: 1, What: string(kind), Actor: ".system", User: user, Incarnation: user}),
	}
}

// newUser returns a function that puts a user with a locator: two records, which must not exist
// yet, and an event.
func newUser() func(tx *bbolt.Tx) error {
	id := uuid.Must(uuid.NewV7()).String()
	address := fmt.Sprintf("new%012x@example.com", fresh())
	user := record.Encode(&record.User{
		ID: id, Incarnation: id, ScreenName: "Somebody", Created: 1, Updated: 1,
		Locators: []record.Locator{{ID: "0123456789ABCDEFGHIJKLMNOP", Type: "email", Canonical: address, Raw: address, Status: "Verified", Owned: true, Added: 1}},
	})
	owner := record.Encode(&record.Owner{Locator: "email:" + address, User: id, Incarnation: id})
	created := event(denizen.EventUserCreated, id)
	return func(tx *bbolt.Tx) error {
		records := tx.Bucket(recordsBucket)
		for _, p := range []pair{{[]byte(record.UserKey(id)), user}, {[]byte(record.OwnerKey("email:" + address)), owner}} {
			if records.Get(p.key) != nil {
				return errors.New("it is there already")
			}
			if err := records.Put(p.key, p.value); err != nil {
				return err
			}
		}
		return tx.Bucket(feedBucket).Put(created.key, created.value)
	}
}

// newPresence returns a function that puts the presence of a user and an event.
func newPresence(id string, chain presence.Chain) func(tx *bbolt.Tx) error {
	devices := record.Encode(&record.Devices{User: id, Incarnation: id, Devices: []presence.Device{{Start: 1, Chain: chain}}})
	set := event(denizen.EventPresenceSet, id)
	return func(tx *bbolt.Tx) error {
		if err := tx.Bucket(recordsBucket).Put([]byte(record.DevicesKey(id)), devices); err != nil {
			return err
		}
		return tx.Bucket(feedBucket).Put(set.key, set.value)
	}
}

// syncs appends 4 KiB to a file and syncs it.
type syncs struct{ file *os.File }

func newSyncs(dir string) (*syncs, error) {
	file, err := os.Create(filepath.Join(dir, "syncs"))
	return &syncs{file}, err
}

var page [4096]byte

func (s *syncs) append(uint64) error {
	if _, err := s.file.Write(page[:]); err != nil {
		return err
	}
	return datasync(s.file)
}

// sharded is a map of 64 shards with a lock each, the least that is needed to keep a time for each
// user.
type sharded [64]struct {
	sync.RWMutex
	m map[denizen.UserID]int64
	_ [64]byte
}

func newSharded(ids []denizen.UserID) *sharded {
	s := new(sharded)
	for i := range s {
		s[i].m = map[denizen.UserID]int64{}
	}
	for _, id := range ids {
		s.set(id, 1)
	}
	return s
}

func (s *sharded) shard(id denizen.UserID) int {
	h := uint32(2166136261) // FNV-1a
	for i := range len(id) {
		h = (h ^ uint32(id[i])) * 16777619
	}
	return int(h % 64)
}

func (s *sharded) set(id denizen.UserID, at int64) {
	shard := &s[s.shard(id)]
	shard.Lock()
	shard.m[id] = at
	shard.Unlock()
}

func (s *sharded) get(id denizen.UserID) int64 {
	shard := &s[s.shard(id)]
	shard.RLock()
	defer shard.RUnlock()
	return shard.m[id]
}
