// Package trim drops the events of a feed that are too old or too many.
package trim

import (
	"context"
	"errors"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store"
)

const (
	page       = 1000 // events that are read at once
	maxDropped = 1000 // events that one commit drops, or a few more
)

// Trimmer trims the feed of a store. Only one goroutine may use it.
//
// The Seqs of a feed also count commits without an event, so a Trimmer counts the events itself as
// they come. It keeps the place of every step-th one, which makes it cheap to find where the newest
// events begin.
type Trimmer struct {
	store store.Store
	db    *txn.DB // of store
	most  int     // events that may be kept
	step  int     // events between two marks
	progress
}

// progress is how far the feed was trimmed and counted.
type progress struct {
	trimmed store.Seq   // the events up to here are dropped
	next    int64       // the time of the first event that was not too old; 0: not known
	counted store.Seq   // the events up to here are counted
	marks   []store.Seq // every step-th event that was counted and is not dropped
	since   int         // events that were counted after the last mark
}

// New returns a Trimmer that keeps the newest events, as many as most or fewer by less than a
// thousandth.
func New(s store.Store, db *txn.DB, most int) *Trimmer {
	return &Trimmer{store: s, db: db, most: most, step: min(max(1, most/1000), maxDropped)}
}

// Trim drops the events from before oldest, in Unix milliseconds, and those that are too many. One
// commit drops a bounded number.
func (t *Trimmer) Trim(ctx context.Context, oldest int64) error {
	for t.next < oldest {
		feed, err := t.store.Changes(ctx, t.trimmed, page)
		if (err == nil || isMissed(err)) && feed.Head < max(t.trimmed, t.counted) {
			t.progress = progress{trimmed: feed.First - 1} // the store went back
			continue
		}
		if isMissed(err) {
			t.trimmed = feed.First - 1 // another process trimmed
			continue
		}
		if err != nil {
			return err
		}
		old, newer := 0, false
		for i, ch := range feed.Changes {
			event, err := record.DecodeChange(ch)
			if err != nil {
				continue // a damaged event counts as old as the next one
			}
			if event.At >= oldest {
				t.next, newer = event.At, true
				break
			}
			old = i + 1
		}
		if len(feed.Changes) == page && !newer {
			old = page
		}
		if old > 0 {
			if err := t.trimTo(ctx, feed.Changes[old-1].Seq); err != nil {
				return err
			}
		}
		if old < page {
			break
		}
	}
	return t.count(ctx)
}

// trimMany drops the events that are too many, about maxDropped in one commit.
func (t *Trimmer) trimMany(ctx context.Context) error {
	hop := max(1, maxDropped/t.step)
	for {
		for len(t.marks) > 0 && t.marks[0] <= t.trimmed {
			t.marks = t.marks[1:]
		}
		over := len(t.marks)*t.step + t.since - t.most
		if over <= 0 || len(t.marks) == 0 {
			return nil
		}
		n := min(hop, (over+t.step-1)/t.step, len(t.marks))
		if err := t.trimTo(ctx, t.marks[n-1]); err != nil {
			return err
		}
		t.marks = t.marks[n:]
	}
}

func (t *Trimmer) trimTo(ctx context.Context, upTo store.Seq) error {
	_, err := t.db.Write(ctx, txn.Queue{}, func(tx *txn.Tx) error {
		tx.Trim(upTo)
		return nil
	})
	if err == nil {
		t.trimmed = upTo
	}
	return err
}

// count counts the events since the last count, and drops those that are too many.
func (t *Trimmer) count(ctx context.Context) error {
	for {
		feed, err := t.store.Changes(ctx, t.counted, page)
		if isMissed(err) || err == nil && feed.Head < t.counted {
			t.counted, t.since, t.marks = feed.First-1, 0, nil
			continue
		}
		if err != nil {
			return err
		}
		t.trimmed = min(max(t.trimmed, feed.First-1), feed.Head)
		for _, ch := range feed.Changes {
			t.counted = ch.Seq
			if t.since++; t.since == t.step {
				t.marks, t.since = append(t.marks, ch.Seq), 0
			}
		}
		if err := t.trimMany(ctx); err != nil {
			return err
		}
		if len(feed.Changes) < page {
			t.counted = max(t.counted, feed.Head)
			return nil
		}
	}
}

func isMissed(err error) bool { return errors.Is(err, store.ErrMissed) }
