package postgres

import (
	"context"
	"sync"

	"github.com/denizenhq/denizen/store"
)

// head is the latest Seq that this process knows of. It may be behind what other processes
// committed, and goes back when the database does. The zero value is at 0.
type head struct {
	mu     sync.Mutex // guards all fields
	seq    store.Seq
	closed bool
	begun  uint64        // looks at the database that have begun
	done   uint64        // the latest of them that has ended
	ahead  int           // how many wait on a Seq beyond seq
	moved  chan struct{} // made by the first to wait, closed when something happens
}

// glance is a look at the database under way.
type glance struct {
	n   uint64
	was store.Seq
}

// begin notes what is known before the database is asked where it stands.
func (h *head) begin() glance {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.begun++
	return glance{h.begun, h.seq}
}

// saw ends a look that found seq. What the database says later than was known before is
// newer; a lower Seq says that it went back. If the head moved meanwhile the next look decides.
func (h *head) saw(g glance, seq store.Seq) {
	h.mu.Lock()
	defer h.mu.Unlock()
	moved := seq > h.seq || seq < g.was && h.seq == g.was
	if moved {
		h.seq = seq
	}
	h.done = max(h.done, g.n)
	if moved || h.ahead > 0 {
		h.wake()
	}
}

// Wait returns nil once the head is above after, store.ErrMissed once a look that began later
// found the database before after, store.ErrClosed after Close, and the error of ctx.
func (h *head) Wait(ctx context.Context, after store.Seq) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for came := h.begun; ; {
		switch {
		case h.closed:
			return store.ErrClosed
		case h.seq > after:
			return nil
		case h.seq < after && h.done > came:
			return store.ErrMissed
		}
		if h.moved == nil {
			h.moved = make(chan struct{})
		}
		moved, ahead := h.moved, 0
		if h.seq < after {
			ahead = 1
		}
		h.ahead += ahead
		h.mu.Unlock()
		var err error
		select {
		case <-moved:
		case <-ctx.Done():
			err = ctx.Err()
		}
		h.mu.Lock()
		h.ahead -= ahead
		if err != nil {
			return err
		}
	}
}

// Close ends every Wait.
func (h *head) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.wake()
}

// wake tells all who wait to look again. h.mu is held.
func (h *head) wake() {
	if h.moved != nil {
		close(h.moved)
		h.moved = nil
	}
}
