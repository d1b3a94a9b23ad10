package txn

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/denizenhq/denizen/store"
)

// Queue is where a writer waits that met a conflict. The zero Queue is none: the writer tries
// again at once.
type Queue struct {
	// Key names the queue. It is the key of the record that its writers change, so that no name
	// that a user chose is the name of another queue.
	Key store.Key
	// Room is how many may wait before this writer is refused.
	Room int
}

// queues are the queues that somebody waits in. Each is made for the first writer and deleted with
// the last one, so that nobody waits for a stranger.
type queues struct {
	length atomic.Int64 // len(byKey), so that whoever meets no queue takes no lock

	mu    sync.Mutex // guards byKey, and count of each queue
	byKey map[store.Key]*queue
}

type queue struct {
	turn  chan struct{} // holds one value while a writer has its turn
	count int           // writers that wait or have their turn
}

func newQueues() *queues { return &queues{byKey: map[store.Key]*queue{}} }

// busy reports whether somebody waits in a queue.
func (q *queues) busy(key store.Key) bool {
	if q.length.Load() == 0 {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.byKey[key] != nil
}

// enter waits for the writer's turn until ctx ends. The function it returns ends the turn. Where
// more wait than there is room for, it returns ErrQueueFull at once.
func (q *queues) enter(ctx context.Context, in Queue) (leave func(), err error) {
	joined := q.join(in)
	if joined == nil {
		return nil, ErrQueueFull
	}
	select {
	case joined.turn <- struct{}{}:
		return func() { <-joined.turn; q.leave(in.Key, joined) }, nil
	case <-ctx.Done():
		q.leave(in.Key, joined)
		return nil, ctx.Err()
	}
}

// join returns a queue with the writer in it, or nil if it is full.
func (q *queues) join(in Queue) *queue {
	q.mu.Lock()
	defer q.mu.Unlock()
	joined := q.byKey[in.Key]
	if joined == nil {
		joined = &queue{turn: make(chan struct{}, 1)}
		q.byKey[in.Key] = joined
		q.length.Add(1)
	}
	if joined.count > in.Room {
		return nil
	}
	joined.count++
	return joined
}

func (q *queues) leave(key store.Key, joined *queue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if joined.count--; joined.count == 0 {
		delete(q.byKey, key)
		q.length.Add(-1)
	}
}
