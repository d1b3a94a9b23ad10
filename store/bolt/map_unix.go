//go:build unix

package bolt

import (
	"math/bits"
	"os"
	"syscall"
)

// keepsRoom says that the file is made longer by the store, not by bbolt.
const keepsRoom = true

// reserve returns how much address space bbolt is to map for f, so that it need not map anew as
// the file grows: that waits for every read under way, and holds up those that come, so one slow
// backup would stop them all; and where it fails no read is possible any more. What is mapped
// beyond the file costs nothing. 0 leaves it to bbolt, where the system gives no more.
func reserve(f *os.File, size int64) int {
	if bits.UintSize < 64 {
		return 0
	}
	for _, room := range []int64{1 << 40, 1 << 37, 1 << 34, 1 << 31} {
		if room < 4*size {
			break
		}
		if mappable(f, room) {
			return int(room)
		}
	}
	return 0
}

// mappable reports whether the system maps so much of f, beside what is mapped.
func mappable(f *os.File, size int64) bool {
	if size != int64(int(size)) {
		return false
	}
	m, err := syscall.Mmap(int(f.Fd()), 0, int(size), syscall.PROT_READ, syscall.MAP_SHARED)
	return err == nil && syscall.Munmap(m) == nil
}
