package group

import (
	"context"
	"sync"

	"github.com/denizenhq/denizen/store"
)

// Head is the latest Seq that a store knows of. [Head.Wait] waits for a later one. The zero value
// is ready to use and is at 0.
type Head struct {
	mu     sync.Mutex // guards the fields below
	seq    store.Seq
	back   uint64 // the number of times the head went back
	closed bool
	moved  chan struct{} // made by the first waiter; closed when the head moves or is closed
}

// Advance moves the head up to seq. It does nothing if seq is not above the head.
func (h *Head) Advance(seq store.Seq) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if seq > h.seq {
		h.seq = seq
		h.wake()
	}
}

// Reset moves the head down to seq, because the store went back and the commits after seq are lost.
// Waiters for a Seq above seq get store.ErrMissed. Reset does nothing if seq is not below the head.
//
// Only a caller that prevents other commits meanwhile may call Reset. Otherwise seq may just be out
// of date, and Reset would declare newer commits lost.
func (h *Head) Reset(seq store.Seq) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if seq < h.seq {
		h.seq = seq
		h.back++
		h.wake()
	}
}

// Wait returns nil once the head is above after, store.ErrMissed once the head went back to below
// after, store.ErrClosed after Close, and the error of ctx once that has ended.
//
// If the head is below after from the start, Wait waits: the reader may know more than this
// process. A store whose head is exact refuses such a reader itself.
func (h *Head) Wait(ctx context.Context, after store.Seq) error {
	h.mu.Lock()
	back := h.back
	h.mu.Unlock()
	for {
		h.mu.Lock()
		if h.closed {
			h.mu.Unlock()
			return store.ErrClosed
		}
		if h.seq > after {
			h.mu.Unlock()
			return nil
		}
		if h.back != back && h.seq < after {
			h.mu.Unlock()
			return store.ErrMissed
		}
		if h.moved == nil {
			h.moved = make(chan struct{})
		}
		moved := h.moved
		h.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close makes every Wait return, now and later.
func (h *Head) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.wake()
}

// wake makes all waiters re-check the head. The caller holds h.mu.
func (h *Head) wake() {
	if h.moved != nil {
		close(h.moved)
		h.moved = nil
	}
}
