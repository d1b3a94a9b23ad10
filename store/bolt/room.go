package bolt

import (
	"errors"
	"fmt"
	"os"

	"github.com/denizenhq/denizen/store/internal/group"
	"go.etcd.io/bbolt"
)

// reserveSize is the part of the file beyond its pages that only urgent commits may use, and the
// commits that Open and Close make.
const reserveSize = 1 << 20

// The minimum and maximum by which the file grows beyond what a commit needs.
const (
	minGrowth = 32 << 10
	maxGrowth = 4 << 20
)

// mapMargin is what the system must be able to map beyond a longer mapping. It leaves room for
// everything else that takes memory before bbolt maps the file.
const mapMargin = 128 << 20

// errExtend means that the sync of a longer file failed. Nobody knows how long the file is on the
// disk.
var errExtend = errors.New("the longer file could not be synced")

// room keeps the file longer than its pages need. Only the writer uses it.
//
// bbolt by itself would extend a file by truncating it upwards, which leaves a hole, and writing to
// a hole fails on a full disk. So the store extends the file, with zeros that it writes, and bbolt
// never does. The limit it gives to bbolt before each commit decides how much of that a commit may
// use.
type room struct {
	db     *bbolt.DB
	file   *os.File
	size   int64 // of the file
	mapped int64 // how much of the file bbolt has mapped, at least
	used   int64 // the length of the pages, after the last commit
	taken  int64 // by how much the last commit made that longer

	mappable func(f *os.File, size int64) bool // replaced in tests
}

// newRoom returns the room of a file of size bytes, which was opened with a mapping of
// mapped bytes.
func newRoom(d *disk, size int64, mapped int) room {
	return room{
		db: d.db, file: d.file, size: size, mapped: mapSize(max(size, int64(mapped))),
		mappable: mappable,
	}
}

// grow makes the file longer by at least more bytes. used is the length of its pages.
func (r *room) grow(used, more int64) error {
	return r.extend(max(r.size, used+reserveSize) + max(more, growth(used)))
}

func growth(used int64) int64 { return min(max(used/8, minGrowth), maxGrowth) }

// prepare makes the file longer if there is little room beyond used.
func (r *room) prepare(used int64) error { return r.ahead(used, minGrowth/2) }

// ahead makes the file longer if there is not as much room as need beyond used.
func (r *room) ahead(used, need int64) error {
	if !keepsRoom || r.size >= used+need+reserveSize {
		return nil
	}
	return r.extend(used + max(need, growth(used)) + reserveSize)
}

// extend makes the file size bytes long and syncs it. After an error of the write the file is as
// long as r.size says.
func (r *room) extend(size int64) error {
	if size <= r.size {
		return nil
	}
	zeros := make([]byte, min(size-r.size, 1<<20))
	for r.size < size {
		n, err := r.file.WriteAt(zeros[:min(int64(len(zeros)), size-r.size)], r.size)
		r.size += int64(n)
		if err != nil {
			return err
		}
	}
	if err := r.file.Sync(); err != nil {
		return fmt.Errorf("%w: %w", errExtend, err)
	}
	return nil
}

// limit sets how long a file the next commit may use: without the reserve, or with it if the commit
// is urgent. It reports whether a longer file would allow more.
//
// The limit also keeps bbolt from mapping a longer file in vain. bbolt gives up its mapping before
// it gets a longer one, and if it gets none all reads fail from then on. So a commit may only need
// a longer mapping if the system has just shown that it can provide one.
func (r *room) limit(used int64, urgent bool) (longer bool) {
	if !keepsRoom {
		r.db.AllocSize = int(growth(used))
		return false
	}
	usable := r.size
	if !urgent {
		usable -= reserveSize
	}
	longer = true
	if usable >= r.mapped && !r.mappable(r.file, mapSize(r.size)+mapMargin) {
		usable, longer = r.mapped-1, false
	}
	r.db.AllocSize = 0
	r.db.MaxSize = int(max(usable, 1)) // 0 would mean no limit
	return longer
}

// guess returns how much room a commit of some bytes will take, about: more than its bytes, as it
// writes whole pages, and as much as the one before, which probably wrote to the like of them.
func (r *room) guess(bytes int64) int64 { return min(max(2*bytes, r.taken+r.taken/4), 16*bytes) }

// committed updates mapped from the length of the pages in use: if they reach its end, bbolt has
// mapped more.
func (r *room) committed(used int64) {
	if r.used != 0 {
		r.taken = used - r.used
	}
	r.used = used
	if used+int64(os.Getpagesize()) >= r.mapped {
		r.mapped = mapSize(r.size)
	}
}

// mapSize returns how much bbolt maps of a file of the given size. See its DB.mmapSize.
func mapSize(size int64) int64 {
	const step = 1 << 30
	for n := int64(1 << 15); n <= step; n *= 2 {
		if size <= n {
			return n
		}
	}
	return (size + step - 1) / step * step
}

// noRoom wraps err, a lack of space, in the error that the group committer knows.
func noRoom(err error) error { return fmt.Errorf("%w: %w", group.ErrFull, err) }
