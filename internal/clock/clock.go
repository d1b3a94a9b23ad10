// Package clock is where the time comes from. A clock never goes back while it lives: it
// answers the latest wall time seen plus the monotonic time since, or the wall clock where
// that is later, so that a wall clock that is set back revives nothing.
package clock

import (
	"context"
	"sync/atomic"
	"time"
)

// Clock answers the time. The zero Clock is not ready; use New or From.
type Clock struct {
	read    func() (wall, mono int64)
	mono    func() int64
	every   int64        // how far mono goes before the wall clock is looked at again
	checked atomic.Int64 // what mono was when it last was
	ahead   atomic.Int64 // the most that wall was ever ahead of mono, in nanoseconds
}

// New returns a clock over read, which answers a wall clock in Unix nanoseconds and a
// monotonic one in nanoseconds since any instant.
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

// system returns a clock over the machine's. It looks at the wall clock, which costs as much
// as the monotonic one again, ten times a second.
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

// Now answers the time in Unix milliseconds. It may be called by many goroutines.
func (c *Clock) Now() int64 {
	mono := c.mono()
	if mono-c.checked.Load() >= c.every {
		mono = c.look()
	}
	return (mono + c.ahead.Load()) / int64(time.Millisecond)
}

// look looks at the wall clock.
func (c *Clock) look() (mono int64) {
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

// With returns a context whose directories are opened on c. It is for the project's own
// tests: no other code can name it.
func With(ctx context.Context, c *Clock) context.Context { return context.WithValue(ctx, key{}, c) }

// From returns the clock ctx was given by With, or the machine's.
func From(ctx context.Context) *Clock {
	if c, ok := ctx.Value(key{}).(*Clock); ok {
		return c
	}
	return system()
}
