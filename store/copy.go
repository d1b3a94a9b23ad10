package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
)

// copyPage is how many records or changes Copy reads at once.
const copyPage = 1_000

// Copy loads all that from holds into to, which must be empty: every record with its
// version, every event that is not forgotten, and the sequence. Conditions, cursors and
// places in the feed that hold for the one store then hold for the other.
//
// Nobody may write to from meanwhile: if its head has moved by the end the error is
// ErrUnavailable. If from has forgotten all its events, or keeps them from a
// commit on that had none, the feed of to begins at the first event that is left, or after head.
//
// A record or an event that is damaged cannot be loaded: the error then is ErrCorrupt and says how
// many there are. Drop or replace them first.
//
// The errors are those of [Store].Load and of reading from; to is then empty, or, if the
// error is ErrOutcomeUnknown, perhaps whole.
func Copy(ctx context.Context, to, from Store) error {
	start, err := place(ctx, from)
	if err != nil {
		return err
	}
	return to.Load(ctx, allRecords(ctx, from), allChanges(ctx, from, start), start.Head)
}

// place answers where a store stands, without changes.
func place(ctx context.Context, s Store) (Feed, error) {
	f, err := s.Changes(ctx, End, 1)
	return f, err
}

// still reports that somebody wrote to s since it stood at a head, as an ErrUnavailable.
func still(ctx context.Context, s Store, head Seq) error {
	f, err := place(ctx, s)
	if err == nil && f.Head != head {
		err = fmt.Errorf("%w: somebody wrote to the store that is copied", ErrUnavailable)
	}
	return err
}

func allRecords(ctx context.Context, s Store) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		damaged := 0 // the rest is then only counted
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

// allChanges yields the changes, which are read last, and then looks whether somebody
// wrote since the start.
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
		if err := still(ctx, s, start.Head); err != nil {
			yield(Change{}, err)
		}
	}
}
