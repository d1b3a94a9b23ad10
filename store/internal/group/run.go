package group

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/denizenhq/denizen/store"
)

// run checks and commits one group. Its memory is reused for the next group. It belongs to the
// leader, so no lock guards it.
type run struct {
	group    []*waiter // the leader first; nil where a waiter was settled early
	bytes    int       // of the group's values and events
	err      error     // the outcome of the group's transaction
	accepted bool      // at least one batch was accepted

	keys     []store.Key       // that conditions are about
	asked    map[store.Key]int // where in keys a key is, in a group of several batches
	conds    []int             // the index in keys of each condition on one key, in order
	unused   []int             // the part of conds that check has not consumed
	versions []store.Seq       // of keys, as they were before the group
	records  []store.Record    // the writes of the accepted batches; version 0 is a drop
	at       map[store.Key]int // the index in records of each written key
	changes  Changes
}

// The outcome while the backend is at work. It is set before each step, so that it is right if that
// step panics.
var (
	errPanicBefore = fmt.Errorf("%w: its backend panicked", store.ErrUnavailable)
	errPanicWithin = fmt.Errorf("%w: the store's backend panicked", store.ErrOutcomeUnknown)
)

// commit commits the group. It leaves the outcome of the transaction in r.err, and the refusals in
// the waiters. It may call more, which adds waiting batches to the group.
//
// If there is no space, the urgent batches of the group are tried again without the others.
func (r *run) commit(b Backend, h *Head, more func()) {
	r.try(b, h, more)
	if errors.Is(r.err, ErrFull) && !r.changes.Urgent && r.keepUrgent() {
		r.try(b, h, nil)
	}
}

// keepUrgent refuses all batches of the group that are not urgent, prepares the urgent ones to be
// judged again, and reports whether there are any.
func (r *run) keepUrgent() bool {
	err, found := r.err, false
	r.forget()
	for i, w := range r.group {
		switch {
		case w == nil:
		case w.batch.Urgent:
			w.seq, w.err, w.tied = 0, nil, false
			found = true
		default:
			w.settle(err)
			r.group[i] = nil
			if i > 0 { // the first is the leader, which needs no signal
				w.ready <- struct{}{}
			}
		}
	}
	return found
}

// try runs the group in one transaction.
func (r *run) try(b Backend, h *Head, more func()) {
	r.err = errPanicBefore
	r.gather(r.group)
	f, foresees := b.(Foreseer)
	if foresees {
		f.Foresee(r.keys)
	}
	tx, head, first, err := b.Begin()
	if err != nil {
		r.err = notApplied(err)
		return
	}
	// Nobody else can commit now, so a lower head means that the store went back.
	h.Reset(head)
	ended := false
	defer func() {
		if !ended {
			tx.Rollback()
		}
	}()
	r.changes.Head, r.changes.First = head, first
	if foresees && more != nil {
		n := len(r.group)
		more()
		r.gather(r.group[n:])
	}
	if err := r.judge(tx); err != nil {
		r.err = notApplied(err)
		return
	}
	if !r.accepted {
		r.err = nil
		return
	}
	r.net()
	if err := tx.Write(&r.changes); err != nil {
		r.err = notApplied(err)
		return
	}
	r.err = errPanicWithin
	ended = true
	if err := tx.Commit(); err != nil {
		r.err = notApplied(err)
		return
	}
	r.err = nil
}

// gather appends the keys of the conditions of batches to r.keys. What many batches rest on, such
// as a definition, is asked for once.
func (r *run) gather(batches []*waiter) {
	for _, w := range batches {
		if w == nil {
			continue
		}
		for _, c := range w.batch.If {
			if c.Under {
				continue
			}
			at, asked := r.asked[c.Key]
			if !asked {
				at = len(r.keys)
				r.keys = append(r.keys, c.Key)
				if len(r.group) > 1 {
					r.ask(c.Key, at)
				}
			}
			r.conds = append(r.conds, at)
		}
	}
}

// ask notes that a key is in r.keys.
func (r *run) ask(key store.Key, at int) {
	if r.asked == nil {
		r.asked = map[store.Key]int{}
	}
	r.asked[key] = at
}

// judge accepts or refuses each batch, in order. A refusal that depends on no earlier batch of the
// group is final, whatever becomes of the transaction, so its caller is released at once.
func (r *run) judge(tx Tx) error {
	r.versions = slices.Grow(r.versions, len(r.keys))[:len(r.keys)]
	if len(r.keys) > 0 {
		if err := tx.Versions(r.keys, r.versions); err != nil {
			return err
		}
	}
	r.unused = r.conds
	r.changes.Urgent = true
	for i, w := range r.group {
		if w == nil {
			continue
		}
		if err := r.check(tx, w); err != nil {
			return err
		}
		switch {
		case w.err == nil:
			r.accept(w)
		case !w.tied && i > 0:
			r.group[i] = nil
			w.ready <- struct{}{}
		}
	}
	return nil
}

// check sets w.err if a condition of w does not hold. The versions come from the store, except for
// keys that an earlier batch of the group has written.
func (r *run) check(tx Tx, w *waiter) error {
	var failed []store.Cond
	damaged := false
	for _, c := range w.batch.If {
		if c.Under {
			// Such a batch is alone in its group, so no earlier batch counts.
			found, err := tx.Under(c.Key)
			if err != nil {
				return err
			}
			if found {
				failed = append(failed, c)
			}
			continue
		}
		version := r.versions[r.unused[0]]
		r.unused = r.unused[1:]
		i, touched := r.at[c.Key]
		if touched {
			version = r.records[i].Version
		}
		switch {
		case c.Damaged:
			if version != Damaged {
				failed = append(failed, c)
				w.tied = w.tied || touched
			}
		case version == Damaged:
			damaged = true
		case version != c.Version:
			failed = append(failed, c)
			w.tied = w.tied || touched
		}
	}
	switch {
	case damaged:
		w.err, w.tied = fmt.Errorf("%w: a condition cannot be judged", store.ErrCorrupt), false
	case failed != nil:
		w.err = &store.Conflict{Failed: failed}
	}
	return nil
}

// accept gives w the next Seq and adds its writes to the changes.
func (r *run) accept(w *waiter) {
	r.accepted = true
	c := &r.changes
	c.Head++
	c.Urgent = c.Urgent && w.batch.Urgent
	w.seq = c.Head
	for _, k := range w.batch.Drop {
		r.set(store.Record{Key: k})
	}
	for _, p := range w.batch.Put {
		r.set(store.Record{Key: p.Key, Version: w.seq, Value: p.Value})
	}
	if w.batch.Emit != nil {
		c.Events = append(c.Events, store.Change{Seq: w.seq, Event: w.batch.Emit})
	}
	if first := min(w.batch.Trim, w.seq-1) + 1; first > c.First {
		c.First, c.Trimmed = first, true
	}
}

// set records a write. A later write to the same key replaces it.
func (r *run) set(rec store.Record) {
	if i, ok := r.at[rec.Key]; ok {
		r.records[i] = rec
		return
	}
	if r.at == nil {
		r.at = make(map[store.Key]int)
	}
	r.at[rec.Key] = len(r.records)
	r.records = append(r.records, rec)
}

// net turns the records into sorted drops and puts, and removes the events that are trimmed
// already.
func (r *run) net() {
	c := &r.changes
	for _, rec := range r.records {
		if rec.Version == 0 {
			c.Drops = append(c.Drops, rec.Key)
		} else {
			c.Puts = append(c.Puts, rec)
		}
	}
	slices.Sort(c.Drops)
	slices.SortFunc(c.Puts, func(a, b store.Record) int {
		return strings.Compare(string(a.Key), string(b.Key))
	})
	forgotten := 0
	for forgotten < len(c.Events) && c.Events[forgotten].Seq < c.First {
		forgotten++
	}
	c.Events = slices.Delete(c.Events, 0, forgotten)
}

// settle sets the outcome of w, whose group ended with err.
func (w *waiter) settle(err error) {
	switch {
	case err == nil || w.err != nil && !w.tied:
	case w.tied:
		// The batch was refused because of an earlier one that failed, or perhaps did not. Either
		// way it was not applied itself.
		w.err = fmt.Errorf("%w: the group this batch was judged in failed: %v",
			store.ErrUnavailable, err)
	default:
		w.seq, w.err = 0, err
	}
}

// reset empties the group and keeps its memory.
func (r *run) reset() {
	r.forget()
	r.group, r.bytes, r.err = r.group[:0], 0, nil
}

// forget discards what was judged and keeps the memory. It clears the slices, so that the memory
// keeps no value of a caller alive.
func (r *run) forget() {
	clear(r.keys)
	clear(r.asked)
	clear(r.records)
	clear(r.at)
	c := &r.changes
	clear(c.Drops)
	clear(c.Puts)
	clear(c.Events)
	*r = run{
		group:    r.group,
		bytes:    r.bytes,
		err:      r.err,
		keys:     r.keys[:0],
		asked:    r.asked,
		conds:    r.conds[:0],
		versions: r.versions[:0],
		records:  r.records[:0],
		at:       r.at,
		changes: Changes{
			Drops:  c.Drops[:0],
			Puts:   c.Puts[:0],
			Events: c.Events[:0],
		},
	}
}

// notApplied makes err one of the store's errors if it is none yet.
func notApplied(err error) error {
	for _, kind := range []error{
		store.ErrOutcomeUnknown, store.ErrUnavailable, store.ErrCorrupt, store.ErrClosed,
	} {
		if errors.Is(err, kind) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}
