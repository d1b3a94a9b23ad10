package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"

	"github.com/denizenhq/denizen/store"
)

// Constants of bbolt's file format. See meta.go and page.go in go.etcd.io/bbolt/internal/common.
const (
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	pageHeaderSize = 16
	metaSize       = 64
	minPageSize    = 1 << 10
	maxPageSize    = 1 << 24
	freelistFlag   = 0x10
	countElsewhere = 0xFFFF // the count is in the first entry
)

// boltMeta is the content of a meta page. There are two of them, which are written in turn; the
// newer valid one tells where all other pages are.
type boltMeta struct {
	Magic, Version, PageSize, Flags     uint32
	Root, Sequence, Freelist, Pages, Tx uint64
	Sum                                 uint64
}

// pageHeader begins every page.
type pageHeader struct {
	ID       uint64
	Flags    uint16
	Count    uint16
	Overflow uint32
}

// inspect checks a file before bbolt sees it. It refuses files that bbolt would take for new ones,
// files whose mapping would fault because they are too short, and files with a bad list of free
// pages, which bbolt trusts.
func inspect(f io.ReaderAt, size int64) error {
	if size == 0 {
		return fmt.Errorf("%w: it is empty", ErrFormat)
	}
	if isBackup(f) {
		return fmt.Errorf("%w: a backup, which is to be restored", ErrFormat)
	}
	newest, err := readMetas(f)
	if err != nil {
		return err
	}
	if newest.Pages > uint64(size)/uint64(newest.PageSize) {
		return fmt.Errorf("%w: the file is cut short", store.ErrCorrupt)
	}
	return inspectFreelist(f, newest)
}

// readMetas returns the newer of the two meta pages, or the only valid one.
func readMetas(f io.ReaderAt) (boltMeta, error) {
	first, foundFirst, ours := readMeta(f, 0)
	if foundFirst {
		second, found, _ := readMeta(f, int64(first.PageSize))
		if found && second.Tx > first.Tx {
			return second, nil
		}
		return first, nil
	}
	for size := int64(minPageSize); size <= maxPageSize; size *= 2 {
		second, found, magic := readMeta(f, size)
		if found && int64(second.PageSize) == size {
			return second, nil
		}
		ours = ours || magic
	}
	if ours {
		return boltMeta{}, fmt.Errorf("%w: both meta pages are bad", store.ErrCorrupt)
	}
	return boltMeta{}, fmt.Errorf("%w: a file of something else", ErrFormat)
}

// readMeta reads the meta page at an offset. whole reports whether it is valid, magic whether it
// has at least bbolt's magic number.
func readMeta(f io.ReaderAt, at int64) (m boltMeta, whole, magic bool) {
	var buf [metaSize]byte
	if _, err := f.ReadAt(buf[:], at+pageHeaderSize); err != nil && !errors.Is(err, io.EOF) {
		return m, false, false
	}
	if _, err := binary.Decode(buf[:], binary.NativeEndian, &m); err != nil {
		return m, false, false
	}
	h := fnv.New64a()
	h.Write(buf[:metaSize-8])
	whole = m.Magic == boltMagic && m.Version == boltVersion && m.Sum == h.Sum64() &&
		m.PageSize >= minPageSize && m.PageSize <= maxPageSize && m.PageSize&(m.PageSize-1) == 0
	return m, whole, m.Magic == boltMagic
}

func inspectFreelist(f io.ReaderAt, m boltMeta) error {
	_, _, err := readFreelist(f, m)
	return err
}

// readFreelist returns the ids of the free pages, 8 bytes each and in order, and the number of
// overflow pages of the list.
func readFreelist(f io.ReaderAt, m boltMeta) (free []byte, overflow uint64, err error) {
	bad := fmt.Errorf("%w: the list of free pages is bad", store.ErrCorrupt)
	if m.Freelist < 2 || m.Freelist >= m.Pages {
		return nil, 0, bad
	}
	at := int64(m.Freelist) * int64(m.PageSize)
	var buf [pageHeaderSize + 8]byte
	if _, err := f.ReadAt(buf[:], at); err != nil {
		return nil, 0, bad
	}
	var h pageHeader
	if _, err := binary.Decode(buf[:], binary.NativeEndian, &h); err != nil {
		return nil, 0, bad
	}
	count, entries := uint64(h.Count), at+pageHeaderSize
	if h.Count == countElsewhere {
		count, entries = binary.NativeEndian.Uint64(buf[pageHeaderSize:]), entries+8
	}
	end := at + (int64(h.Overflow)+1)*int64(m.PageSize)
	if h.ID != m.Freelist || h.Flags != freelistFlag || uint64(h.Overflow) >= m.Pages-m.Freelist ||
		count > uint64(end-entries)/8 {
		return nil, 0, bad
	}
	ids := make([]byte, 8*count)
	if _, err := f.ReadAt(ids, entries); err != nil {
		return nil, 0, bad
	}
	last := uint64(1) // pages 0 and 1 are the metas
	for at := 0; at < len(ids); at += 8 {
		id := binary.NativeEndian.Uint64(ids[at:])
		if id <= last || id >= m.Pages {
			return nil, 0, bad
		}
		last = id
	}
	return ids, uint64(h.Overflow), nil
}
