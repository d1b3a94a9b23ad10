//go:build !linux && !darwin && !freebsd

package peer

import "errors"

func uidOf(int) (int, error) { return 0, errors.ErrUnsupported }

// Supported reports whether UID works here.
const Supported = false
