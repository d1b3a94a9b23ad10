package group

import (
	"context"
	"sync"

	"github.com/denizenhq/denizen/store"
)

// Head is the latest Seq a store knows of, for those who wait for the next. The zero
// value is ready to use and at 0.
type Head struct {
	mu     sync.Mutex // guards all below
	seq    store.Seq
	back   uint64 // how often it went back
	closed bool
	moved  chan struct{} // made by the first to wait, closed when something happens
}

// Advance moves the head up to seq. A lower one changes nothing.
func (h *Head) Advance(seq store.Seq) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if seq > h.seq {
		h.seq = seq
		h.wake()
	}
}

// Reset moves the head down to seq: the store went back, and what came after seq is lost. Those
// who wait for what comes after a higher one get store.ErrMissed. A seq that is not lower
// changes nothing. Only who knows that nothing is committed meanwhile may call it, or a head
// that is merely old takes a newer one for lost.
func (h *Head) Reset(seq store.Seq) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if seq < h.seq {
		h.seq = seq
		h.back++
		h.wake()
	}
}

// Wait returns nil once the head is above after, store.ErrMissed once it went back below after,
// the error of ctx once that has ended, and store.ErrClosed after Close. A head that is below
// after from the start is waited for: the reader may know more than the store. A store whose head
// is exact refuses such a reader itself.
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

// Close ends every Wait.
func (h *Head) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.wake()
}

// wake tells all who wait to look again. h.mu is held.
func (h *Head) wake() {
	if h.moved != nil {
		close(h.moved)
		h.moved = nil
	}
}
