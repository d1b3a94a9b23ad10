// Package clock provides a time that never goes back while the process lives.
//
// The time is the latest wall time seen plus the monotonic time since then, or the wall clock where
// that is later. So a wall clock that is set back does not revive expired tokens. After a restart
// the wall clock is trusted again.
package clock

import (
	"context"
	"sync/atomic"
	"time"
)

// Clock is a clock that never goes back. It may be used by many goroutines at once. The zero Clock
// is not usable; use [New] or [From].
//
// It needs no lock. Time is ahead plus mono, and ahead only grows.
type Clock struct {
	read    func() (wall, mono int64)
	mono    func() int64
	every   int64        // how long mono may advance before the wall clock is read again
	checked atomic.Int64 // mono when the wall clock was last read
	ahead   atomic.Int64 // the greatest difference seen between wall and mono, in nanoseconds
}

// New returns a clock over read, which returns a wall clock in Unix nanoseconds and a monotonic
// clock in nanoseconds since any instant.
func New(read func() (wall, mono int64)) *Clock {
	c := &Clock{read: read}
	c.mono = func() int64 {
		_, mono := read()
		return mono
	}
	wall, mono := read()
	c.checked.Store(mono)
	c.ahead.Store(wall - mono)
	return c
}

// system returns a clock over those of the machine. It reads the wall clock only ten times a
// second, because that costs as much again as the monotonic one.
func system() *Clock {
	start := time.Now()
	c := New(func() (wall, mono int64) {
		t := time.Now()
		return t.UnixNano(), int64(t.Sub(start))
	})
	c.mono = func() int64 { return int64(time.Since(start)) }
	c.every = int64(100 * time.Millisecond)
	return c
}

// Now returns the time in Unix milliseconds.
func (c *Clock) Now() int64 {
	mono := c.mono()
	if mono-c.checked.Load() >= c.every {
		mono = c.readWall()
	}
	return (mono + c.ahead.Load()) / int64(time.Millisecond)
}

// readWall reads the wall clock and raises ahead if the wall clock is further ahead than ever.
func (c *Clock) readWall() (mono int64) {
	wall, mono := c.read()
	for now := wall - mono; ; {
		most := c.ahead.Load()
		if now <= most || c.ahead.CompareAndSwap(most, now) {
			c.checked.Store(mono)
			return mono
		}
	}
}

type key struct{}

// With returns a context in which directories are opened with c. Only the project's own tests can
// use it, because the package is internal.
func With(ctx context.Context, c *Clock) context.Context { return context.WithValue(ctx, key{}, c) }

// From returns the clock that ctx was given by [With], or the machine's.
func From(ctx context.Context) *Clock {
	if c, ok := ctx.Value(key{}).(*Clock); ok {
		return c
	}
	return system()
}
