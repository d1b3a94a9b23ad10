package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
)

// copyPage is the number of records or changes that Copy reads at once.
const copyPage = 1_000

// Copy loads the contents of from into to, which must be empty: every record with its version,
// every event that is not forgotten, and the sequence. Conditions, cursors and positions in the
// feed that are valid for one store are then valid for the other.
//
// Nobody may write to from during the copy. If its head has moved by the end, the error is
// [ErrUnavailable].
//
// The feed of to begins at the first event that from still has, or after the head if it has none.
// That may be later than in from, if the first commits that from has not forgotten emitted no
// event.
//
// Damaged records and events cannot be loaded. The error is then [ErrCorrupt] and gives their
// number. Drop or replace them first.
//
// The other errors are those of Load and of reading from. After an error to is empty, or possibly
// complete if the error is [ErrOutcomeUnknown].
func Copy(ctx context.Context, to, from Store) error {
	start, err := feedBounds(ctx, from)
	if err != nil {
		return err
	}
	return to.Load(ctx, allRecords(ctx, from), allChanges(ctx, from, start), start.Head)
}

// feedBounds returns the First and Head of s, without changes.
func feedBounds(ctx context.Context, s Store) (Feed, error) {
	f, err := s.Changes(ctx, End, 1)
	return f, err
}

// checkUnchanged returns an ErrUnavailable if the head of s is no longer head.
func checkUnchanged(ctx context.Context, s Store, head Seq) error {
	f, err := feedBounds(ctx, s)
	if err == nil && f.Head != head {
		err = fmt.Errorf("%w: somebody wrote to the store that is copied", ErrUnavailable)
	}
	return err
}

// allRecords yields every record of s in key order. If some are damaged it yields their number as
// an error at the end.
func allRecords(ctx context.Context, s Store) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		damaged := 0 // after the first, the others are only counted
		for r := (Range{Limit: copyPage}); ; {
			page, err := s.List(ctx, r)
			if err != nil {
				yield(Record{}, err)
				return
			}
			for _, rec := range page {
				r.After = rec.Key
				if rec.Damaged {
					damaged++
				}
				if damaged == 0 && !yield(rec, nil) {
					return
				}
			}
			if len(page) < copyPage {
				break
			}
		}
		if damaged > 0 {
			yield(Record{}, fmt.Errorf("%w: %d records cannot be read", ErrCorrupt, damaged))
		}
	}
}

// allChanges yields the events up to start.Head. They are read last, so it also checks at the end
// that nobody has written to s since start was read.
func allChanges(ctx context.Context, s Store, start Feed) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		damaged := 0
		for after := start.First - 1; ; {
			f, err := s.Changes(ctx, after, copyPage)
			if errors.Is(err, ErrMissed) {
				err = fmt.Errorf("%w: somebody wrote to the store that is copied", ErrUnavailable)
			}
			if err != nil {
				yield(Change{}, err)
				return
			}
			for _, c := range f.Changes {
				if c.Seq > start.Head {
					break
				}
				after = c.Seq
				if c.Damaged {
					damaged++
				}
				if damaged == 0 && !yield(c, nil) {
					return
				}
			}
			if len(f.Changes) < copyPage || f.Head > start.Head {
				break
			}
		}
		if damaged > 0 {
			yield(Change{}, fmt.Errorf("%w: %d events cannot be read", ErrCorrupt, damaged))
			return
		}
		if err := checkUnchanged(ctx, s, start.Head); err != nil {
			yield(Change{}, err)
		}
	}
}
