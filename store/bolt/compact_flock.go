//go:build darwin || dragonfly || freebsd || (linux && !android) || netbsd || openbsd

package bolt

import (
	"os"
	"syscall"
)

// compacts reports whether a file can be compacted: locks belong to the open file, and an open file
// can be replaced.
const compacts = true

const noFollow = syscall.O_NOFOLLOW

// links returns how many names a file has.
func links(info os.FileInfo) uint64 { return uint64(info.Sys().(*syscall.Stat_t).Nlink) }

// keepOwner gives a file the mode and the owner of another. The group does not matter if it may do
// nothing.
func keepOwner(f, like *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	model, err := like.Stat()
	if err != nil {
		return err
	}
	is, want := info.Sys().(*syscall.Stat_t), model.Sys().(*syscall.Stat_t)
	if is.Uid != want.Uid || is.Gid != want.Gid {
		err := f.Chown(int(want.Uid), int(want.Gid))
		if err != nil && (is.Uid != want.Uid || model.Mode().Perm()&0o070 != 0) {
			return err
		}
	}
	return f.Chmod(model.Mode().Perm())
}
