package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"sync"

	"go.etcd.io/bbolt"
)

// disk is an open file. A store has one, and another from a compaction on. The old one stays open
// until the reads that began in it have ended.
type disk struct {
	db   *bbolt.DB
	file *os.File       // the file that db uses
	used sync.WaitGroup // by read transactions
}

// metas returns the two meta pages as of a snapshot, whatever was committed since.
func (d *disk) metas(tx *bbolt.Tx) ([]byte, error) {
	// WriteTo generates them, and firstBytes stops it after them.
	metas := &firstBytes{size: 2 * int64(d.db.Info().PageSize)}
	if _, err := tx.WriteTo(metas); int64(len(metas.bytes)) != metas.size {
		return nil, err
	}
	return metas.bytes, nil
}

// firstBytes is a writer that keeps the first size bytes and refuses the rest.
type firstBytes struct {
	bytes []byte
	size  int64
}

var errEnough = errors.New("enough")

func (h *firstBytes) Write(p []byte) (int, error) {
	n := min(int64(len(p)), h.size-int64(len(h.bytes)))
	h.bytes = append(h.bytes, p[:n]...)
	if n < int64(len(p)) {
		return int(n), errEnough
	}
	return int(n), nil
}

// snapshot is the file as one read transaction sees it.
type snapshot struct {
	metas []byte
	file  *os.File
}

// snapshot returns the file as tx sees it, for as long as tx is open.
func (d *disk) snapshot(tx *bbolt.Tx) (snapshot, error) {
	metas, err := d.metas(tx)
	return snapshot{metas, d.file}, err
}

// ReadAt implements io.ReaderAt. No caller reads across the end of the meta pages.
func (s snapshot) ReadAt(p []byte, at int64) (int, error) {
	if at < int64(len(s.metas)) {
		return copy(p, s.metas[at:]), nil
	}
	return s.file.ReadAt(p, at)
}

// freeBytes returns how much of the file is free pages, as of a snapshot.
func (d *disk) freeBytes(tx *bbolt.Tx) (int64, error) {
	metas, err := d.metas(tx)
	if err != nil {
		return 0, err
	}
	m, err := readMetas(bytes.NewReader(metas))
	if err != nil {
		return 0, err
	}
	var buf [pageHeaderSize + 8]byte
	if _, err := d.file.ReadAt(buf[:], int64(m.Freelist)*int64(m.PageSize)); err != nil {
		return 0, unavailable(err)
	}
	count := uint64(binary.NativeEndian.Uint16(buf[10:]))
	if count == countElsewhere {
		count = binary.NativeEndian.Uint64(buf[pageHeaderSize:])
	}
	return int64(min(count, m.Pages)) * int64(m.PageSize), nil
}
