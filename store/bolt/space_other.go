//go:build !(linux || darwin || freebsd)

package bolt

import "os"

// freeOn returns nothing: this system does not say how much room there is on a disk.
func freeOn(*os.File) (bytes int64, known bool) { return 0, false }
