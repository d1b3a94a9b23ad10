package denizen

import (
	"context"
	"sync"
	"sync/atomic"
)

// maxQueued bounds the writers that wait in one user's queue. What a user ends there is room for
// beyond that, and for .system beyond both: nobody escapes a block by a queue it keeps full.
const maxQueued = 256

// room returns how many may wait before this call is refused.
func (c *call) room() int {
	switch {
	case c.by.kind == kindSystem:
		return 4 * maxQueued
	case c.op == opRevokeToken || c.op == opLogout:
		return 2 * maxQueued
	}
	return maxQueued
}

// turns are the queues of writers that met a conflict. Each user has its own, which is made
// on the first conflict and deleted with the last writer, so nobody waits for a stranger.
type turns struct {
	queues atomic.Int64 // len(byUser), so that whoever meets no queue takes no lock

	mu     sync.Mutex // guards what follows, and count of each queue
	byUser map[UserID]*queue
}

// queue is the writers about one user.
type queue struct {
	turn  chan struct{} // holds one value while a writer has its turn
	count int           // writers that wait or have their turn
}

func newTurns() *turns { return &turns{byUser: map[UserID]*queue{}} }

// busy reports whether writers about the user queue.
func (t *turns) busy(user UserID) bool {
	if t.queues.Load() == 0 {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byUser[user] != nil
}

// take waits for the user's turn until ctx ends. Where more wait than there is room for it is
// ErrConflict at once. The function it returns ends the turn.
func (t *turns) take(ctx context.Context, user UserID, room int) (done func(), err error) {
	q := t.join(user, room)
	if q == nil {
		return nil, refuse(ErrConflict, "", "too many others wait to change the same records")
	}
	select {
	case q.turn <- struct{}{}:
		return func() { <-q.turn; t.leave(user, q) }, nil
	case <-ctx.Done():
		t.leave(user, q)
		return nil, ctx.Err()
	}
}

// join returns the user's queue, or nil if it is full.
func (t *turns) join(user UserID, room int) *queue {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.byUser[user]
	if q == nil {
		q = &queue{turn: make(chan struct{}, 1)}
		t.byUser[user] = q
		t.queues.Add(1)
	}
	if q.count > room {
		return nil
	}
	q.count++
	return q
}

func (t *turns) leave(user UserID, q *queue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if q.count--; q.count == 0 {
		delete(t.byUser, user)
		t.queues.Add(-1)
	}
}
