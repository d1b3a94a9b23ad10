package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/denizenhq/denizen/store"
	"go.etcd.io/bbolt"
)

// The file has three buckets. While a load is under way there is a fourth, in which the load builds
// the new records and feed.
var (
	recordsBucket = []byte("records") // key → sealed value
	feedBucket    = []byte("feed")    // Seq, big-endian → sealed event
	metaBucket    = []byte("meta")
	loadBucket    = []byte("load")
)

// The keys of the meta bucket. What they store is the version of a sealed value.
var (
	formatKey = []byte("format") // the format's number; its value is formatMark
	headKey   = []byte("head")   // the head
	firstKey  = []byte("first")  // the first of the feed
	openKey   = []byte("open")   // 1 while the file is open, 0 once it was closed properly
	// A compaction makes its file under a name with this number in it. Absent if there was none.
	compactKey = []byte("compact")
)

const (
	formatMark    = "denizen"
	formatVersion = 2
)

// Every entry is sealed: four bytes of CRC-32C, eight of version, then the value. The checksum also
// covers the key, so that an entry under a wrong key does not pass.
const (
	sumSize  = 4
	sealSize = sumSize + 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal appends the sealed value to buf.
func seal(buf, key []byte, version store.Seq, value []byte) []byte {
	at := len(buf)
	buf = append(buf, 0, 0, 0, 0)
	buf = binary.BigEndian.AppendUint64(buf, uint64(version))
	buf = append(buf, value...)
	binary.BigEndian.PutUint32(buf[at:], sum(key, buf[at+sumSize:]))
	return buf
}

// unseal returns what was sealed under key. value is a part of data.
func unseal(key, data []byte) (version store.Seq, value []byte, err error) {
	if len(data) < sealSize || binary.BigEndian.Uint32(data) != sum(key, data[sumSize:]) {
		return 0, nil, fmt.Errorf("%w: a checksum is wrong", store.ErrCorrupt)
	}
	return store.Seq(binary.BigEndian.Uint64(data[sumSize:])), data[sealSize:], nil
}

// openEvent returns the event that was sealed under key. A damaged event still gets a Seq: that of
// its key, which is in order with its neighbours.
func openEvent(key, data []byte) (store.Change, error) {
	if len(key) != seqSize {
		return store.Change{}, fmt.Errorf("%w: the key of an event makes no sense",
			store.ErrCorrupt)
	}
	seq := store.Seq(binary.BigEndian.Uint64(key))
	version, event, err := unseal(key, data)
	if err != nil || version != seq {
		return store.Change{Seq: seq, Damaged: true}, nil
	}
	return store.Change{Seq: seq, Event: bytes.Clone(event)}, nil
}

const seqSize = 8

func sum(key, data []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, key), castagnoli, data)
}

func seqKey(seq store.Seq) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(seq))
}

// feedBounds returns the head and the first of the feed.
func feedBounds(tx *bbolt.Tx) (head, first store.Seq, err error) {
	meta := tx.Bucket(metaBucket)
	if head, _, err = unseal(headKey, meta.Get(headKey)); err != nil {
		return 0, 0, err
	}
	first, _, err = unseal(firstKey, meta.Get(firstKey))
	return head, first, err
}

// putMeta stores a version in the meta bucket.
func putMeta(tx *bbolt.Tx, key []byte, version store.Seq) error {
	return tx.Bucket(metaBucket).Put(key, seal(nil, key, version, nil))
}
