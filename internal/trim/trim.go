// Package trim forgets the events of a feed that are too old or too many.
package trim

import (
	"context"
	"errors"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store"
)

// page is how many events the store is asked for at once, and maxForgotten how many, or a few more,
// are forgotten by one commit.
const (
	page         = 1000
	maxForgotten = 1000
)

// Trimmer trims the feed of a store. It is used by one goroutine.
type Trimmer struct {
	store store.Store
	db    *txn.DB // of store
	most  int     // events that may stay
	step  int     // events between marks
	progress
}

// progress is how far the feed was trimmed and counted.
type progress struct {
	trimmed store.Seq
	next    int64 // the time of an event after that, or 0: until it is too old none is
	counted store.Seq
	marks   []store.Seq // every step-th event that was counted, and is not forgotten
	since   int         // events counted after the last mark
}

// New returns a Trimmer that leaves most events at most, and fewer by less than a thousandth.
func New(s store.Store, db *txn.DB, most int) *Trimmer {
	return &Trimmer{store: s, db: db, most: most, step: min(max(1, most/1000), maxForgotten)}
}

// Trim forgets the events from before oldest, in Unix milliseconds, and those that are too many, a
// bounded number in one commit.
func (t *Trimmer) Trim(ctx context.Context, oldest int64) error {
	for t.next < oldest {
		feed, err := t.store.Changes(ctx, t.trimmed, page)
		if (err == nil || isMissed(err)) && feed.Head < max(t.trimmed, t.counted) {
			t.progress = progress{trimmed: feed.First - 1} // the store went back
			continue
		}
		if isMissed(err) {
			t.trimmed = feed.First - 1 // somebody else trimmed
			continue
		}
		if err != nil {
			return err
		}
		old, newer := 0, false
		for i, ch := range feed.Changes {
			event, err := record.DecodeChange(ch)
			if err != nil {
				continue // as old as the one after it
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

// trimMany forgets the events that are too many, maxForgotten or so in one commit.
func (t *Trimmer) trimMany(ctx context.Context) error {
	hop := max(1, maxForgotten/t.step)
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

// count counts the events that came since it last did, and forgets those that are too many.
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
