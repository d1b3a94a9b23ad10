//go:build !unix

package bolt

import "os"

// keepsRoom reports whether the store makes the file longer itself. Here bbolt does: it makes the
// file as long as its mapping.
const keepsRoom = false

// initialMapSize returns 0, which leaves the size to bbolt. A larger mapping would make the file as
// large.
func initialMapSize(*os.File, int64) int { return 0 }

func mappable(*os.File, int64) bool { return true }
