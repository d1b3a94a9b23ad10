package denizen

import (
	"context"
	"crypto/rand"
	"encoding/binary"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// Cursor is a place in the feed, for a consumer to keep and to go on after. It is opaque text of at
// most 32 characters. The empty one is before the oldest event that is kept.
//
// It names the history that it is of and the event at its place. So a consumer is told with
// [ErrMissed] if the store was put back, by a backup or a failover, even if others have written
// past that place since.
type Cursor string

// place is a place in the feed of this directory. Its zero value is before the oldest event.
type place struct {
	seq    store.Seq
	digest uint64 // of the event there; 0 if none is known
}

// placeOf returns the place of an event.
func placeOf(ch store.Change) place { return place{ch.Seq, record.DigestOf(ch)} }

// newEpoch returns the epoch of a new history of a directory. A directory that was made before
// there were epochs has 0.
func newEpoch() int64 {
	var b [8]byte
	rand.Read(b[:])
	return int64(binary.BigEndian.Uint64(b[:])>>1 | 1)
}

func (d *Directory) cursor(p place) Cursor {
	if p == (place{}) {
		return ""
	}
	return Cursor(record.Place{Epoch: d.epoch, Seq: p.seq, Digest: p.digest}.String())
}

// parse returns the place of a cursor. One of another history is store.ErrMissed.
func (d *Directory) parse(after Cursor) (place, error) {
	if after == "" {
		return place{}, nil
	}
	p, ok := record.ParsePlace(string(after))
	if !ok {
		return place{}, invalid("after", "is not a cursor of the feed")
	}
	if p.Epoch != d.epoch {
		return place{}, store.ErrMissed
	}
	return place{p.Seq, p.Digest}, nil
}

// changesAfter returns at most limit events after a place, and reports whether there are no more up
// to Head. The event at the place is read too: if it is not the one that the place names, the error
// is [store.ErrMissed].
func changesAfter(
	ctx context.Context, s store.Store, after place, limit int,
) (feed store.Feed, whole bool, err error) {
	if after.digest == 0 {
		return changesFrom(ctx, s, after, limit)
	}
	limit = min(limit+1, store.MaxPage)
	feed, err = s.Changes(ctx, after.seq-1, limit)
	if isMissed(err) && feed.First == after.seq+1 { // trimmed up to the place
		return changesFrom(ctx, s, place{seq: after.seq}, limit)
	}
	if err != nil {
		return feed, false, err
	}
	if len(feed.Changes) == 0 || !isAt(feed.Changes[0], after) {
		feed.Changes = nil
		return feed, false, store.ErrMissed
	}
	whole = len(feed.Changes) < limit
	feed.Changes = feed.Changes[1:]
	return feed, whole, nil
}

// isAt reports whether an event is the one that a place names, as far as it can be read.
func isAt(ch store.Change, p place) bool {
	if ch.Seq != p.seq {
		return false
	}
	digest := record.DigestOf(ch)
	return digest == p.digest || digest == 0
}

// changesFrom is changesAfter for a place whose event is not known.
func changesFrom(
	ctx context.Context, s store.Store, after place, limit int,
) (store.Feed, bool, error) {
	feed, err := s.Changes(ctx, after.seq, limit)
	for range maxTries {
		if after.seq != 0 || !isMissed(err) {
			break
		}
		feed, err = s.Changes(ctx, feed.First-1, limit)
	}
	if err == nil && feed.Head < after.seq {
		err = store.ErrMissed
	}
	return feed, err == nil && len(feed.Changes) < limit, err
}

// newestPlace returns the place of the newest event, or if none is kept the end of the feed.
func newestPlace(ctx context.Context, s store.Store) (p place, err error) {
	for range maxTries {
		if p, err = searchNewest(ctx, s); !isMissed(err) {
			break
		}
	}
	return p, err
}

// searchNewest looks for the newest event from the end of the feed back, in steps that double, and
// then between the last two. Commits without an event have places, too, so it may be far.
func searchNewest(ctx context.Context, s store.Store) (place, error) {
	feed, err := headOf(ctx, s)
	if err != nil {
		return place{}, err
	}
	newest := place{seq: feed.Head}
	from, to := feed.First-1, feed.Head // if there is one, it is after from, and at to at most
	for step := store.Seq(1); from < to; step *= 2 {
		middle := max(from+(to-from)/2, to-min(step, to))
		feed, err := s.Changes(ctx, middle, 1)
		if err != nil {
			return place{}, err
		}
		if len(feed.Changes) == 0 {
			to = middle
			continue
		}
		newest = placeOf(feed.Changes[0])
		if from = newest.seq; from >= to {
			break
		}
	}
	return newest, nil
}
