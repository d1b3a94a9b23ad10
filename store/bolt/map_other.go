//go:build !unix

package bolt

import "os"

// reserve leaves it to bbolt, which makes the file as long as what is mapped.
func reserve(*os.File, int64) int { return 0 }
