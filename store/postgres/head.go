package postgres

import (
	"context"
	"sync"

	"github.com/denizenhq/denizen/store"
)

// head is the latest Seq that this process knows of. Other processes may have committed more, and
// it goes back if the database does. The zero value is at 0.
//
// It differs from [group.Head] in that it is updated by observations that run concurrently and may
// end out of order. A low Seq can be old news, or mean that the database went back. begin and saw
// tell these apart.
type head struct {
	mu     sync.Mutex // guards all fields
	seq    store.Seq
	closed bool
	begun  uint64        // the number of observations begun
	done   uint64        // the latest observation that has ended
	ahead  int           // the number of waiters for a Seq above seq
	moved  chan struct{} // made by the first waiter; closed to wake all of them
}

// observation is one look at the database, under way.
type observation struct {
	n   uint64    // its number
	was store.Seq // the head when it began
}

// begin must be called before the database is asked for its head.
func (h *head) begin() observation {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.begun++
	return observation{h.begun, h.seq}
}

// saw ends an observation that found seq. If seq is above the head, it is newer. If seq is below
// the head that was known when the observation began, the database went back, provided that the
// head has not moved meanwhile. If it has moved, nothing is certain, and the next observation
// decides.
func (h *head) saw(g observation, seq store.Seq) {
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

// Wait returns nil once the head is above after, store.ErrClosed after Close, and the error of ctx
// once that has ended. It returns store.ErrMissed if the head is below after even after an
// observation that began later than the call.
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

// Close makes every Wait return, now and later.
func (h *head) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.wake()
}

// wake makes all waiters re-check the head. The caller holds h.mu.
func (h *head) wake() {
	if h.moved != nil {
		close(h.moved)
		h.moved = nil
	}
}
