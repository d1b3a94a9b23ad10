//go:build !(darwin || dragonfly || freebsd || (linux && !android) || netbsd || openbsd)

package bolt

import "os"

// compacts reports whether a file can be compacted. Here it cannot: Windows does not replace a file
// that is open, and elsewhere the lock of a process ends when it closes any file of the same inode.
const compacts = false

const noFollow = 0

func links(os.FileInfo) uint64 { return 1 }

func keepOwner(_, _ *os.File) error { return nil }
