package bolt

import (
	"bytes"
	"context"
	"os"

	"github.com/denizenhq/denizen/store"
	"go.etcd.io/bbolt"
)

// Seal returns what the store writes for a value.
func Seal(key []byte, version store.Seq, value []byte) []byte { return seal(nil, key, version, value) }

// Damage damages the checksum of the record under key.
func (s *Store) Damage(key store.Key) error { return s.spoil(recordsBucket, []byte(key)) }

// DamageEvent damages the checksum of the event at seq.
func (s *Store) DamageEvent(seq store.Seq) error { return s.spoil(feedBucket, seqKey(seq)) }

func (s *Store) spoil(bucket, key []byte) error {
	return s.group.Alone(context.Background(), func() error {
		return s.update(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucket)
			data := bytes.Clone(b.Get(key))
			data[0] ^= 1
			return b.Put(key, data)
		})
	})
}

// Checked waits until the background check has ended.
func (s *Store) Checked() { s.health.checked.Wait() }

// WhileChecking makes each check call f once it has its snapshot.
func (s *Store) WhileChecking(f func()) { s.health.checking = f }

// KeepsRoom reports whether the store makes its file longer itself.
const KeepsRoom = keepsRoom

// MapNoMore simulates a system that refuses to map more of the file than its current length, until
// again is called.
func (s *Store) MapNoMore() (again func(), err error) {
	before := s.w.room
	err = s.group.Alone(context.Background(), func() error {
		s.w.room.mapped = mapSize(s.w.room.size)
		s.w.room.mappable = func(*os.File, int64) bool { return false }
		return nil
	})
	return func() {
		_ = s.group.Alone(context.Background(), func() error {
			s.w.room.mapped, s.w.room.mappable = before.mapped, before.mappable
			return nil
		})
	}, err
}
