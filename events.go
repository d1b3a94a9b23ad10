package denizen

import (
	"container/heap"
	"sync"
	"time"
)

// maxBuckets bounds how many buckets are remembered, which takes about 15 MB.
const maxBuckets = 1 << 16

// buckets bound how fast users fill the feed by themselves. Each user has a bucket of tokens, and
// an event takes one. A user who is not remembered has a full bucket, so only the others are kept.
// Past maxBuckets the bucket that would be full first is forgotten. So many users together cannot
// refill the bucket of one who has emptied it.
type buckets struct {
	burst int64 // tokens in a full bucket
	every int64 // milliseconds until a bucket gets the next token

	mu     sync.Mutex // guards the fields below and every bucket
	byUser map[UserID]*bucket
	byFull fullFirst
}

// bucket is a bucket that is not full.
type bucket struct {
	user  UserID
	full  int64 // when it is full again, in Unix milliseconds
	index int   // in byFull
}

func newBuckets(burst int, every time.Duration) *buckets {
	return &buckets{burst: int64(burst), every: every.Milliseconds(), byUser: map[UserID]*bucket{}}
}

// take takes a token from the user's bucket, or returns in how many milliseconds there will be one.
func (t *buckets) take(user UserID, now int64) (wait int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.byFull) > 0 && t.byFull[0].full <= now {
		t.forget(t.byFull[0])
	}
	b := t.byUser[user]
	if b == nil {
		if len(t.byFull) >= maxBuckets {
			t.forget(t.byFull[0])
		}
		b = &bucket{user: user, full: now + t.every}
		t.byUser[user] = b
		heap.Push(&t.byFull, b)
		return 0
	}
	if wait = b.full + t.every - now - t.burst*t.every; wait > 0 {
		return wait
	}
	b.full += t.every
	heap.Fix(&t.byFull, b.index)
	return 0
}

// giveBack returns a token to the user's bucket, because nothing was changed for it.
func (t *buckets) giveBack(user UserID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.byUser[user]; b != nil {
		b.full -= t.every
		heap.Fix(&t.byFull, b.index)
	}
}

func (t *buckets) forget(b *bucket) {
	heap.Remove(&t.byFull, b.index)
	delete(t.byUser, b.user)
}

// fullFirst is a heap of buckets, those first that are full first.
type fullFirst []*bucket

func (h fullFirst) Len() int           { return len(h) }
func (h fullFirst) Less(i, j int) bool { return h[i].full < h[j].full }
func (h fullFirst) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push and Pop are called by container/heap.
func (h *fullFirst) Push(b any) {
	b.(*bucket).index = len(*h)
	*h = append(*h, b.(*bucket))
}

func (h *fullFirst) Pop() any {
	last := len(*h) - 1
	b := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return b
}

// metered reports whether the caller is a user who authenticated with a token of its own.
func (c *call) metered() bool {
	return c.by.kind == kindUser && c.by.token != "" && c.by.accessKey == ""
}

// metered reports whether the event of a write takes a token. It does if a user causes it who
// authenticated with a token of its own. Ending a token or a presence is free, because it cannot
// outnumber what began them.
func (p *plan) metered() bool {
	if p.event == nil || !p.c.metered() {
		return false
	}
	kind := EventKind(p.event.What)
	return kind != EventTokenRevoked && kind != EventPresenceCleared
}

// pay takes a token for the event of a write, unless an earlier try has done so. It gives the token
// back if this try has no such event.
func (d *Directory) pay(p *plan, paid *bool) error {
	if metered := p.metered(); metered == *paid {
		return nil
	} else if !metered {
		d.buckets.giveBack(p.c.by.user)
		*paid = false
		return nil
	}
	if err := d.take(p.c.by.user); err != nil {
		return err
	}
	*paid = true
	return nil
}

// take takes a token from the user's bucket, or returns ErrLimited.
func (d *Directory) take(user UserID) error {
	if wait := d.buckets.take(user, d.clock.Now()); wait > 0 {
		return &Error{
			Kind: ErrLimited, Field: "events",
			Reason:     "too many changes by this user in a short time",
			RetryAfter: time.Duration(wait) * time.Millisecond,
		}
	}
	return nil
}
