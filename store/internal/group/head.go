package group

import (
	"context"
	"sync"

	"github.com/denizenhq/denizen/store"
)

// Head is the latest Seq a store knows of, for those who wait for the next. The zero
// value is ready to use and at 0.
type Head struct {
	mu     sync.Mutex
	seq    store.Seq
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

// Wait returns nil once the head is above after, the error of ctx once that has ended,
// and store.ErrClosed after Close.
func (h *Head) Wait(ctx context.Context, after store.Seq) error {
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
