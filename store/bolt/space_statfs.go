//go:build linux || darwin || freebsd

package bolt

import (
	"os"
	"syscall"
)

// freeOn returns how much room there is on the disk of a file, as far as the system says.
func freeOn(f *os.File) (bytes int64, known bool) {
	var fs syscall.Statfs_t
	// Some file systems have no figures, and say that they have no blocks.
	if syscall.Fstatfs(int(f.Fd()), &fs) != nil || fs.Blocks == 0 {
		return 0, false
	}
	return max(int64(fs.Bavail), 0) * max(int64(fs.Bsize), 0), true
}
