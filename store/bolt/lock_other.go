//go:build !(darwin || dragonfly || freebsd || (linux && !android) || netbsd || openbsd)

package bolt

import (
	"context"
	"os"
	"time"
)

// lock leaves locking to bbolt. Its lock on these systems cannot be taken twice.
func lock(ctx context.Context, _ *os.File, _ time.Duration) error { return ctx.Err() }
