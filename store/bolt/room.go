package bolt

import (
	"errors"
	"fmt"
	"os"

	"github.com/denizenhq/denizen/store/internal/group"
	"go.etcd.io/bbolt"
)

// keptBack is how much of the file beyond its pages only urgent commits may use, and those that
// Open and Close make.
const keptBack = 1 << 20

// By how much the file is made longer at least and at most beyond what a commit needs.
const (
	minGrowth = 32 << 10
	maxGrowth = 4 << 20
)

// mapMargin is what the system must give beyond a longer mapping, for all else that takes memory
// until bbolt maps it.
const mapMargin = 128 << 20

// errExtend is a failed sync of a longer file: nobody knows how long it is on the disk.
var errExtend = errors.New("the longer file could not be synced")

// room keeps the file longer than its pages need. What is beyond them was written, so that a full
// disk takes pages there all the same; bbolt's own way leaves a hole, which it does not. bbolt
// never makes the file longer by itself. Only the writer uses it.
type room struct {
	db     *bbolt.DB
	file   *os.File
	size   int64 // of the file
	mapped int64 // of the file at least, by bbolt

	mappable func(f *os.File, size int64) bool // another one in tests
}

// grow makes the file longer, by more at least.
func (r *room) grow(used, more int64) error {
	return r.extend(max(r.size, used+keptBack) + max(more, growth(used)))
}

func growth(used int64) int64 { return min(max(used/8, minGrowth), maxGrowth) }

// prepare makes the file longer unless there is some room beyond used.
func (r *room) prepare(used int64) error {
	if !keepsRoom || r.size >= used+minGrowth/2+keptBack {
		return nil
	}
	return r.extend(used + growth(used) + keptBack)
}

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

// limit lets the next commit use the file up to what is kept back, or all of it if it is urgent.
// bbolt gives up its mapping before it has a longer one, and with it all reads if it gets none:
// so the limit is what is mapped, too, unless the system has just given a longer one. It reports
// whether a longer file would help.
func (r *room) limit(used int64, urgent bool) (longer bool) {
	if !keepsRoom {
		r.db.AllocSize = int(growth(used))
		return false
	}
	usable := r.size
	if !urgent {
		usable -= keptBack
	}
	longer = true
	if usable >= r.mapped && !r.mappable(r.file, mapSize(r.size)+mapMargin) {
		usable, longer = r.mapped-1, false
	}
	r.db.AllocSize = 0
	r.db.MaxSize = int(max(usable, 1)) // 0 would be no limit
	return longer
}

// committed learns from the bytes of pages in use whether bbolt has mapped more.
func (r *room) committed(used int64) {
	if used+int64(os.Getpagesize()) >= r.mapped {
		r.mapped = mapSize(r.size)
	}
}

// mapSize is how much bbolt maps of a file: see its DB.mmapSize.
func mapSize(size int64) int64 {
	const step = 1 << 30
	for n := int64(1 << 15); n <= step; n *= 2 {
		if size <= n {
			return n
		}
	}
	return (size + step - 1) / step * step
}

// full makes err, which says that there is no room, the group's error for that.
func full(err error) error { return fmt.Errorf("%w: %w", group.ErrFull, err) }
