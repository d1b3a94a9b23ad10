//go:build unix

package ops

import (
	"errors"
	"syscall"
)

// isRefused reports whether nobody listens at the other end of a socket.
func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
