//go:build unix

package opsocket

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// own reports whether a file is of the user that this process runs as.
func own(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(s.Uid) == os.Geteuid()
}

// isRefused reports whether nobody listens at the other end of a socket.
func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
