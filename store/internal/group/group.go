// Package group is the half of a store that all stores share: it gathers the batches
// that are committed at the same time into groups, judges each batch against the store
// and against those before it in its group, and hands the net effect to a [Backend] as
// one transaction.
//
// There is no goroutine and no timer. A Commit that finds nobody at work leads: it runs
// one group on its own goroutine, with whatever is queued by then, and hands the lead to
// the first that waits. So a lone write waits for nothing, and writes that come while a
// group is being committed share the next one.
package group

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/denizenhq/denizen/store"
)

// Bounds of one group. A batch above maxBytes makes a group of its own.
const (
	maxBatches = 1_000
	maxBytes   = 16 << 20
)

// Backend is where a group is committed. Its methods, and those of its transactions, are
// never called by two goroutines at once. A Backend does not see the contexts of those
// who commit: what was handed over is carried out.
type Backend interface {
	// Begin opens the only write transaction and answers where the store stands.
	Begin() (tx Tx, head, first store.Seq, err error)
}

// Foreseer is a [Backend] whose Begin takes long. It is told, before each, the keys that
// Versions will be asked for, so that it can read them while it begins. Batches that come
// meanwhile join the group: Versions is then asked for their keys, too, after those
// foreseen. The keys are only lent, until the transaction ends.
type Foreseer interface {
	Foresee(keys []store.Key)
}

// Tx is a write transaction of a [Backend]. Exactly one of Commit and Rollback is called,
// last; after a Commit that fails the transaction is over.
type Tx interface {
	// Versions sets into[i] to the version of keys[i], 0 if it is absent, [Damaged] if
	// nobody can say. Both slices are only lent. A key may come twice.
	Versions(keys []store.Key, into []store.Seq) error
	// Under reports whether the key of any record begins with prefix.
	Under(prefix store.Key) (bool, error)
	// Write makes the changes, which are only lent until Commit or Rollback returns.
	Write(*Changes) error
	// Commit makes them durable. An error that is store.ErrOutcomeUnknown says that they
	// may be; any other, that they are not.
	Commit() error
	Rollback()
}

// Damaged stands for the version of a record that cannot be read. It refuses, with
// store.ErrCorrupt, the batch that depends on it and no other.
const Damaged = ^store.Seq(0)

// ErrFull is the error of a Commit for want of room. Nothing was applied. If the group had urgent
// batches among others, these are committed alone.
var ErrFull = fmt.Errorf("%w: there is no room", store.ErrUnavailable)

// Changes is the net effect of a group. Its parts are to be applied in this order.
type Changes struct {
	Drops   []store.Key    // in key order, none of them also put
	Puts    []store.Record // in key order, each key once, with the version it gets
	Events  []store.Change // in commit order, without those that are forgotten at once
	First   store.Seq      // from now on; events below it are forgotten
	Trimmed bool           // First has moved
	Head    store.Seq      // from now on
	Urgent  bool           // every batch of the group is
}

// Group commits batches to a [Backend]. It may be used by many goroutines at once.
type Group struct {
	backend Backend
	head    *Head

	mu      sync.Mutex
	queue   []*waiter // in order of arrival, not yet handed over
	leading bool      // someone runs a group, or was told to; else the queue is empty
	closed  bool
	idle    chan struct{} // closed once closed and no longer leading

	run run // belongs to whoever leads
}

// waiter is one Commit or Alone under way.
type waiter struct {
	ctx   context.Context
	batch store.Batch
	alone func() error // instead of a batch
	solo  bool         // shares its group with nobody
	bytes int

	// Who hands over, answers or passes the lead on writes these before it sends.
	ready chan struct{} // nil for one that led from the start
	lead  bool          // it found nobody at work, or was told to lead; guarded by Group.mu
	seq   store.Seq
	err   error
	tied  bool // err rests on a batch earlier in the group
}

// New makes a group committer for b, which tells h of each new head, and that the store went back
// where Begin returns a lower one.
func New(b Backend, h *Head) *Group {
	return &Group{backend: b, head: h, idle: make(chan struct{})}
}

// Commit checks b, has it committed in some group and answers the Seq it took. A ctx
// that ends before the hand-over to the backend withdraws b, and the error is the
// context's; after that Commit waits for the outcome.
func (g *Group) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	if err := b.Check(); err != nil {
		return 0, err
	}
	w := &waiter{ctx: ctx, batch: b, bytes: len(b.Emit)}
	for _, c := range b.If {
		w.solo = w.solo || c.Under
	}
	for _, r := range b.Put {
		w.bytes += len(r.Value)
	}
	err := g.do(w)
	return w.seq, err
}

// Alone calls f while no group is under way, in its turn. A ctx that ends before that
// turn comes withdraws it.
func (g *Group) Alone(ctx context.Context, f func() error) error {
	return g.do(&waiter{ctx: ctx, alone: f, solo: true})
}

// Close refuses what comes from now on with store.ErrClosed, waits until all that came
// before is answered, and leaves the Backend and the Head to the caller. It may be
// called more than once.
func (g *Group) Close() {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		if !g.leading {
			close(g.idle)
		}
	}
	g.mu.Unlock()
	<-g.idle
}

func (g *Group) do(w *waiter) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return store.ErrClosed
	}
	if err := w.ctx.Err(); err != nil {
		g.mu.Unlock()
		return err
	}
	g.queue = append(g.queue, w)
	if !g.leading {
		g.leading, w.lead = true, true
		g.mu.Unlock()
	} else {
		w.ready = make(chan struct{}, 1)
		g.mu.Unlock()
		select {
		case <-w.ready:
			if !w.lead {
				return w.err
			}
		case <-w.ctx.Done():
			if g.withdraw(w) {
				return w.ctx.Err()
			}
			<-w.ready
			return w.err
		}
	}
	// The group before has just been answered, or so it may be. Its writers get a chance to queue
	// their next batches, or every other group would be a small one.
	runtime.Gosched()
	if w.ctx.Err() != nil && g.withdraw(w) {
		return w.ctx.Err()
	}
	g.leadOne(w)
	return w.err
}

// withdraw takes w out of the queue, and passes the lead on if w was to lead. It reports
// false if w was handed over.
func (g *Group) withdraw(w *waiter) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.queue, w)
	if i < 0 {
		return false
	}
	g.queue = slices.Delete(g.queue, i, i+1)
	if w.lead {
		g.passOn()
	}
	return true
}

// passOn gives the lead to the first in the queue. g.mu is held, by who has the lead.
func (g *Group) passOn() {
	if len(g.queue) == 0 {
		g.leading = false
		if g.closed {
			close(g.idle)
		}
		return
	}
	next := g.queue[0]
	next.lead = true
	next.ready <- struct{}{}
}

// leadOne runs one group, which w is the first of, and passes the lead on.
func (g *Group) leadOne(w *waiter) {
	g.take()
	defer g.finish(w)
	if w.alone != nil {
		w.err = w.alone()
		return
	}
	g.run.commit(g.backend, g.head, g.take)
}

// take moves batches from the queue to the group, as many as it has room for, and answers
// those whose contexts have ended.
func (g *Group) take() {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := &g.run
	n := 0
	for _, w := range g.queue {
		if len(r.group) == maxBatches || len(r.group) > 0 && (w.solo || r.group[0].solo || r.bytes+w.bytes > maxBytes) {
			break
		}
		n++
		if err := w.ctx.Err(); err != nil && len(r.group) > 0 {
			w.err = err
			w.ready <- struct{}{}
			continue
		}
		r.group = append(r.group, w)
		r.bytes += w.bytes
	}
	g.queue = slices.Delete(g.queue, 0, n)
}

// finish answers the group, whose leader needs no word, and passes the lead on. It runs
// when the backend panics, too; the panic then goes on in the leader.
func (g *Group) finish(leader *waiter) {
	r := &g.run
	if r.err == nil && r.accepted {
		g.head.Advance(r.changes.Head)
	}
	for _, w := range r.group {
		if w != nil {
			w.settle(r.err)
		}
	}
	group := r.group
	r.reset() // before anyone is told: what they lent is theirs again
	for i, w := range group {
		if w != nil && w != leader {
			w.ready <- struct{}{}
		}
		group[i] = nil
	}
	g.mu.Lock()
	g.passOn()
	g.mu.Unlock()
}
