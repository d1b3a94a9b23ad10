package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/denizenhq/denizen/store"
	"go.etcd.io/bbolt"
)

// The file has three buckets. A fourth, in which a load builds the first two, is there
// only until the load is done.
var (
	recordsBucket = []byte("records") // key → sealed value
	feedBucket    = []byte("feed")    // Seq, big-endian → sealed event
	metaBucket    = []byte("meta")
	loadBucket    = []byte("load")
)

// The keys of the meta bucket, each with a sealed value.
var (
	formatKey = []byte("format") // the mark as value, the format's number as version
	headKey   = []byte("head")   // the head as version
	firstKey  = []byte("first")  // the first as version
	openKey   = []byte("open")   // version 1 while the file is open, 0 once it was closed in order
)

const (
	mark          = "denizen"
	formatVersion = 2
)

// What is stored is sealed: a CRC-32C over all else, the version and the value. The sum
// begins with the key, so that no entry passes for another.
const (
	sumSize  = 4
	sealSize = sumSize + 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal appends value, sealed, to buf.
func seal(buf, key []byte, version store.Seq, value []byte) []byte {
	at := len(buf)
	buf = append(buf, 0, 0, 0, 0)
	buf = binary.BigEndian.AppendUint64(buf, uint64(version))
	buf = append(buf, value...)
	binary.BigEndian.PutUint32(buf[at:], sum(key, buf[at+sumSize:]))
	return buf
}

// open answers what was sealed under key; value is a part of data.
func open(key, data []byte) (version store.Seq, value []byte, err error) {
	if len(data) < sealSize || binary.BigEndian.Uint32(data) != sum(key, data[sumSize:]) {
		return 0, nil, fmt.Errorf("%w: a checksum is wrong", store.ErrCorrupt)
	}
	return store.Seq(binary.BigEndian.Uint64(data[sumSize:])), data[sealSize:], nil
}

// openEvent returns the change that was sealed under key. The Seq of a damaged one is that of its
// key, which the order of the feed vouches for.
func openEvent(key, data []byte) (store.Change, error) {
	if len(key) != seqSize {
		return store.Change{}, fmt.Errorf("%w: the key of an event makes no sense", store.ErrCorrupt)
	}
	seq := store.Seq(binary.BigEndian.Uint64(key))
	version, event, err := open(key, data)
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

// place answers where the store stands.
func place(tx *bbolt.Tx) (head, first store.Seq, err error) {
	meta := tx.Bucket(metaBucket)
	if head, _, err = open(headKey, meta.Get(headKey)); err != nil {
		return 0, 0, err
	}
	first, _, err = open(firstKey, meta.Get(firstKey))
	return head, first, err
}

// putMeta stores a version in the meta bucket.
func putMeta(tx *bbolt.Tx, key []byte, version store.Seq) error {
	return tx.Bucket(metaBucket).Put(key, seal(nil, key, version, nil))
}
