//go:build darwin || dragonfly || freebsd || (linux && !android) || netbsd || openbsd

package bolt

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"
)

// lock takes the lock that bbolt takes later, so that openFile does not inspect a file while
// another process writes to it. bbolt's own attempt then succeeds, because it is on the same open
// file.
func lock(ctx context.Context, f *os.File, timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EINTR):
			continue
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return unavailable(err)
		case !time.Now().Before(deadline):
			return ErrInUse
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(20*time.Millisecond, time.Until(deadline))):
		}
	}
}
