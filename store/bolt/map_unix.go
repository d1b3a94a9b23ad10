//go:build unix

package bolt

import (
	"math/bits"
	"os"
	"syscall"
)

// keepsRoom reports whether the store makes the file longer itself, instead of bbolt.
const keepsRoom = true

// initialMapSize returns how much address space bbolt should map for f, or 0 to leave it to bbolt
// if the system does not give more.
//
// A mapping that is larger than the file costs nothing, and saves bbolt from mapping again as the
// file grows. To map again, bbolt waits for all reads under way and blocks new ones, so one slow
// backup would stop every reader. And if the system refuses the new mapping, reads are no longer
// possible at all.
func initialMapSize(f *os.File, size int64) int {
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

// mappable reports whether the system can map size bytes of f, besides what is mapped already.
func mappable(f *os.File, size int64) bool {
	if size != int64(int(size)) {
		return false
	}
	m, err := syscall.Mmap(int(f.Fd()), 0, int(size), syscall.PROT_READ, syscall.MAP_SHARED)
	return err == nil && syscall.Munmap(m) == nil
}
