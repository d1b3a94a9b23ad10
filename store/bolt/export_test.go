package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"time"

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

// Compacts reports whether files can be compacted on this system.
const Compacts = compacts

// AtCompaction makes each compaction call f before its steps, which fail with its error: "create"
// the new file, each "round" of copying, the "last" one, "rename" the file, "sync" the directory.
func (s *Store) AtCompaction(f func(step string) error) { s.compacting.at = f }

// LimitCompaction limits the memory for keys that are written during a compaction, and the bytes of
// values that writers wait for, and how long.
func (s *Store) LimitCompaction(noted, paused int, pause time.Duration) {
	s.compacting.limits = limits{noted, paused, pause}
}

// DiskHas makes compactions believe that there is so much room on the disk.
func (s *Store) DiskHas(bytes func() int64) {
	s.compacting.free = func(*os.File) (int64, bool) { return bytes(), true }
}

// FreeBeside returns how much room there is on the disk of a file, as compactions are told.
func FreeBeside(f *os.File) (bytes int64, known bool) { return freeOn(f) }

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

// RawOf returns the file that a backup holds.
func RawOf(backup []byte) []byte {
	_, rest, _ := bytes.Cut(backup, []byte("\n"))
	return rest[:len(rest)-trailerSize]
}

// Placed is an entry of a whole file: where its bytes lie there.
type Placed struct {
	Page    uint64
	Event   bool
	Key     []byte
	Data    []byte // sealed
	Element [2]int64
	Entry   [2]int64
}

// FreelistOf returns the page of the list of free pages of a whole file.
func FreelistOf(file []byte) int {
	meta, err := readMetas(bytes.NewReader(file))
	if err != nil {
		panic(err)
	}
	return int(meta.Freelist)
}

// EntriesOf returns where the entries of a whole file lie.
func EntriesOf(file []byte) (all []Placed) {
	meta, err := readMetas(bytes.NewReader(file))
	if err != nil {
		panic(err)
	}
	var visit func(id uint64, event bool)
	visit = func(id uint64, event bool) {
		at := int64(id) * int64(meta.PageSize)
		page := file[at:]
		flags, count := binary.NativeEndian.Uint16(page[8:]), int(binary.NativeEndian.Uint16(page[10:]))
		for i := range count {
			if flags == branchFlag {
				visit(binary.NativeEndian.Uint64(page[pageHeaderSize+i*elementSize+8:]), event)
				continue
			}
			e, _ := elementAt(page, i, leafLayout)
			key, data := page[e.at:e.at+e.key], page[e.at+e.key:e.end()]
			if e.bucket() {
				if root := binary.NativeEndian.Uint64(data); root != 0 {
					visit(root, bytes.Equal(key, feedBucket))
				}
				continue
			}
			from := at + pageHeaderSize + int64(i)*elementSize
			all = append(all, Placed{id, event, key, data, [2]int64{from, from + elementSize}, [2]int64{at + e.at, at + e.end()}})
		}
	}
	visit(meta.Root, false)
	return all
}
