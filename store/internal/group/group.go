// Package group implements the part of a store that all stores share. It gathers the batches that
// are committed at the same time into groups, checks each batch against the store and against the
// earlier batches of its group, and passes the net effect to a [Backend] as one transaction.
//
// Group commit is what makes durable writes fast: a hundred concurrent writers pay for one sync of
// the disk, or one round trip to the database, instead of a hundred.
//
// There is no goroutine and no timer. A Commit that finds nobody at work becomes the leader. It
// runs one group on its own goroutine, with all that is queued by then, and passes the lead to the
// first waiter in the queue. So a lone write waits for nothing, and writes that arrive while a
// group is being committed share the next one.
package group

import (
	"context"
	"fmt"
	"math/bits"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/denizenhq/denizen/store"
)

// Limits of one group. A batch larger than maxBytes gets a group of its own.
const (
	maxBatches = 4_096
	maxBytes   = 16 << 20
)

// Backend commits groups. Its methods and those of its transactions are never called by two
// goroutines at once. A Backend does not see the contexts of the callers: a batch that was handed
// over is carried out.
type Backend interface {
	// Begin opens a write transaction and returns the current head and first. No other write
	// transaction, of this process or another, may be open until it ends.
	Begin() (tx Tx, head, first store.Seq, err error)
}

// Foreseer is implemented by a [Backend] whose Begin takes long, because it waits for a lock of
// other processes. Before Begin it is told the keys that Versions will be asked for, so that it can
// read them in the same round trip. Batches that arrive while Begin waits join the group, so
// Versions is asked for their keys too, after the foreseen ones.
type Foreseer interface {
	// Foresee announces the keys of the next transaction. They are borrowed until it ends.
	Foresee(keys []store.Key)
}

// Tx is a write transaction of a [Backend]. Its last call is either Commit or Rollback, never both.
// After a failed Commit the transaction has ended.
type Tx interface {
	// Versions sets into[i] to the version of keys[i], to 0 if the key is absent, and to [Damaged]
	// if the record cannot be read. It must not keep either slice. A key may occur twice.
	Versions(keys []store.Key, into []store.Seq) error
	// Under reports whether the key of any record begins with prefix.
	Under(prefix store.Key) (bool, error)
	// Write makes the changes. They are borrowed until Commit or Rollback returns.
	Write(*Changes) error
	// Commit makes the changes durable. An error that is store.ErrOutcomeUnknown means that they
	// may have been applied; any other, that they were not.
	Commit() error
	// Rollback discards the changes.
	Rollback()
}

// Damaged stands for the version of a record that cannot be read. It refuses the batches that
// depend on that version, with store.ErrCorrupt, and no others.
const Damaged = ^store.Seq(0)

// ErrFull is the error of a Commit for lack of space. Nothing was applied. If the group had urgent
// batches among others, the urgent ones are committed again by themselves.
var ErrFull = fmt.Errorf("%w: there is no room", store.ErrUnavailable)

// Changes is the net effect of a group. Drops are to be applied first.
type Changes struct {
	Drops   []store.Key    // in key order; none of them is also put
	Puts    []store.Record // in key order, each key once, with its new version
	Events  []store.Change // in commit order, without those that the group itself trims
	First   store.Seq      // the new first; events below it are forgotten
	Trimmed bool           // First has changed
	Head    store.Seq      // the new head
	Urgent  bool           // every batch of the group is urgent
}

// Group commits batches to a [Backend]. It may be used by many goroutines at once.
//
// At any time at most one goroutine leads. The lead is passed under mu and carries the ownership of
// run, which therefore needs no lock of its own.
type Group struct {
	backend Backend
	head    *Head

	mu      sync.Mutex // guards the five fields below
	queue   []*waiter  // in order of arrival, not yet handed over
	leading bool       // somebody leads or was told to; if false, queue is empty
	closed  bool
	idle    chan struct{} // closed once closed is set and nobody leads
	counts  store.Counts

	took atomic.Int64 // nanoseconds, of all calls of Commit

	run run // owned by the leader
}

// waiter is one call of Commit or Alone.
type waiter struct {
	ctx   context.Context
	batch store.Batch
	alone func() error // what Alone calls; nil for a batch
	solo  bool         // must be alone in its group
	bytes int          // of the values and the event

	// The leader that hands over, settles or passes the lead on writes these before it sends on
	// ready. The waiter reads them after it received.
	ready chan struct{} // of size 1; nil if the waiter led from the start
	lead  bool          // the waiter leads now; guarded by Group.mu
	seq   store.Seq
	err   error
	tied  bool // err depends on an earlier batch of the group
}

// New returns a group committer for b. It reports each new head to h, and resets h if Begin returns
// a lower head, which means that the store went back.
func New(b Backend, h *Head) *Group {
	return &Group{backend: b, head: h, idle: make(chan struct{})}
}

// Commit checks b, commits it in some group and returns its Seq. A ctx that ends before b is handed
// over to the backend withdraws b, and the error is the context's. After that, Commit waits for the
// outcome.
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
	began := time.Now()
	err := g.do(w)
	g.took.Add(int64(time.Since(began)))
	return w.seq, err
}

// Alone calls f in its turn, while no group is being committed. A ctx that ends before that turn
// withdraws the call.
func (g *Group) Alone(ctx context.Context, f func() error) error {
	return g.do(&waiter{ctx: ctx, alone: f, solo: true})
}

// Close refuses later calls with store.ErrClosed and waits until all earlier ones have their
// outcome. It does not close the Backend or the Head. It may be called more than once.
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

// do queues w and returns its outcome. On the way, it leads a group if the lead falls to w.
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
	// The previous group has probably just been settled. Let its writers queue their next batches,
	// or else every other group would be a small one.
	runtime.Gosched()
	if w.ctx.Err() != nil && g.withdraw(w) {
		return w.ctx.Err()
	}
	g.leadOne(w)
	return w.err
}

// withdraw removes w from the queue, and passes the lead on if w was to lead. It reports false if w
// was already handed over.
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

// passOn gives the lead to the first waiter in the queue. The caller holds g.mu and leads.
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

// leadOne runs the group that begins with w and passes the lead on.
func (g *Group) leadOne(w *waiter) {
	g.take()
	defer g.finish(w)
	if w.alone != nil {
		w.err = w.alone()
		return
	}
	g.run.commit(g.backend, g.head, g.take)
}

// take moves batches from the queue into the group, as many as fit. A waiter whose context has
// ended is settled instead, unless it is the leader, which is the first of the group and carries
// on.
func (g *Group) take() {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := &g.run
	n := 0
	for _, w := range g.queue {
		if len(r.group) == maxBatches ||
			len(r.group) > 0 && (w.solo || r.group[0].solo || r.bytes+w.bytes > maxBytes) {
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

// finish settles the group and passes the lead on. The leader needs no signal. It is deferred, so
// that the waiters are released even if the backend panics; the panic then continues in the leader.
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
	r.reset() // before anyone is signalled: the callers own their batches again afterwards
	for i, w := range group {
		if w != nil && w != leader {
			w.ready <- struct{}{}
		}
		group[i] = nil
	}
	g.mu.Lock()
	if leader.alone == nil {
		g.counts.Groups++
		g.counts.Sizes[bits.Len(uint(len(group)-1))]++
	}
	g.passOn()
	g.mu.Unlock()
}

// Counts returns what was counted.
func (g *Group) Counts() store.Counts {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.counts
	c.Waiting, c.Took = len(g.queue), time.Duration(g.took.Load())
	return c
}
