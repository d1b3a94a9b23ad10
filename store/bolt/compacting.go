package bolt

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/denizenhq/denizen/store"
)

// compacting is what a store knows of its compactions.
type compacting struct {
	mu     sync.Mutex              // guards the fields below
	cancel context.CancelCauseFunc // of the one under way; nil if there is none
	closed bool

	ended sync.WaitGroup // of the one under way, and of old files that are still read

	limits limits
	free   func(*os.File) (bytes int64, known bool) // freeOn, replaced in tests
	// at is for tests: called before a step, which fails with its error.
	at func(step string) error
}

type limits struct {
	noted  int           // bytes of the memory that noted keys may take
	paused int           // bytes of the values and events that writers may wait for
	pause  time.Duration // how long they may wait until that is brought over
}

// begin makes the caller the only one that compacts. The caller calls end.
func (c *compacting) begin(ctx context.Context) (context.Context, context.CancelCauseFunc, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, nil, store.ErrClosed
	case c.cancel != nil:
		return nil, nil, errTwo
	}
	ctx, c.cancel = context.WithCancelCause(ctx)
	c.ended.Add(1)
	return ctx, c.cancel, nil
}

func (c *compacting) end() {
	c.mu.Lock()
	c.cancel(nil)
	c.cancel = nil
	c.mu.Unlock()
	c.ended.Done()
}

// stop ends the compaction under way, and refuses others.
func (c *compacting) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.cancel != nil {
		c.cancel(store.ErrClosed)
	}
}

// step is called before a step, for tests.
func (c *compacting) step(name string) error {
	if c.at == nil {
		return nil
	}
	return c.at(name)
}
