// Package peer tells which user is at the other end of a Unix socket, as the system knows it.
package peer

import (
	"errors"
	"net"
)

// UID returns the user id of the process at the other end. It is [errors.ErrUnsupported] where the
// system does not tell.
func UID(c *net.UnixConn) (uid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	controlled := raw.Control(func(fd uintptr) { uid, err = uidOf(int(fd)) })
	return uid, errors.Join(controlled, err)
}
