//go:build !unix

package bolt

import "os"

// keepsRoom says that bbolt makes the file as long as what is mapped.
const keepsRoom = false

// reserve leaves it to bbolt, which makes the file as long as what is mapped.
func reserve(*os.File, int64) int { return 0 }

func mappable(*os.File, int64) bool { return true }
