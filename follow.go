package denizen

import (
	"context"
	"hash/maphash"
	"math"
	"sync/atomic"
	"time"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// following reads the feed of a store that other processes write to as well, so that an
// authenticated token may be remembered: what ends a token is an event. Nothing else is
// remembered of such a store.
//
// A grant carries the generation of its user at a time before its records were read. An event
// that may end tokens of the user makes that another generation. And a grant counts only
// while the feed was read to its end within the bound: while it cannot be read, nothing that is
// remembered counts.
type following struct {
	bound int64 // milliseconds
	seed  maphash.Seed
	asOf  atomic.Int64
	epoch atomic.Uint64       // one more when all are ended
	ended [1024]atomic.Uint64 // one more when those of a user are, by a keyed hash of its id, which nobody can aim
}

func newFollowing(freshness time.Duration) *following {
	f := &following{bound: freshness.Milliseconds(), seed: maphash.MakeSeed()}
	f.asOf.Store(math.MinInt64 / 2)
	return f
}

func (f *following) of(user UserID) *atomic.Uint64 {
	return &f.ended[maphash.String(f.seed, string(user))%uint64(len(f.ended))]
}

// generation only grows, and is read before the records of a grant are.
func (f *following) generation(user UserID) uint64 { return f.epoch.Load() + f.of(user).Load() }

// fresh reports whether the feed was known to its end within the bound before now.
func (f *following) fresh(now int64) bool { return now-f.asOf.Load() <= f.bound }

// apply ends what an event may end. An event of a kind that is not known, from a later version
// of this package, may end anything of its user.
func (f *following) apply(e *record.Event) {
	if f == nil || e == nil || e.User == "" {
		return
	}
	switch EventKind(e.What) {
	case EventUserCreated, EventUserRenamed, EventUserUnblocked, EventLocatorAdded, EventLocatorOwned, EventLocatorVerification, EventLocatorRemoved, EventLocatorsSet,
		EventProfileChanged, EventPresenceSet, EventPresenceCleared, EventTokenIssued: // extending one ends its ninth text
		return
	}
	f.of(UserID(e.User)).Add(1)
}

// follow reads the feed until the directory is closed. It asks four times within the bound, and
// whenever the store says that there is something newer.
func (d *Directory) follow(ctx context.Context, t *duty) {
	quarter := d.options.MaxRevocationDelay / 4
	missed := false // by the Wait before
	for seen := store.End; ctx.Err() == nil; {
		began := d.clock.Now()
		next, whole, err := d.following.read(ctx, d.store, seen)
		if err == nil {
			seen = next
			if !whole {
				continue
			}
			d.following.asOf.Store(began)
		}
		waiting, cancel := context.WithTimeout(ctx, quarter)
		if err == nil {
			err = d.store.Wait(waiting, seen)
		}
		if ctx.Err() == nil && waiting.Err() == nil {
			d.ended(t, waited(err))
		}
		// A store that went back says so once: what it knows is read at once.
		if err != nil && (missed || !isMissed(err)) {
			<-waiting.Done() // the store cannot say when there is something newer
		}
		missed = isMissed(err)
		cancel()
	}
}

// waited is the error of a Wait, if it is one: that the store went back is none.
func waited(err error) error {
	if isMissed(err) {
		return nil
	}
	return err
}

// read applies the events after a place, and answers the place to go on after and whether that
// was all of them. Whoever comes too late, or for the first time, starts at the end; so does
// whoever knows more than the store does, which went back: all that is remembered ends.
func (f *following) read(ctx context.Context, s store.Store, after store.Seq) (next store.Seq, whole bool, err error) {
	feed, err := s.Changes(ctx, after, store.MaxPage)
	if isMissed(err) || err == nil && (after == store.End || feed.Head < after) {
		f.epoch.Add(1)
		return feed.Head, true, nil
	}
	if err != nil {
		return after, false, err
	}
	for _, ch := range feed.Changes {
		if e, err := decodeEvent(ch); err == nil {
			f.apply(&e)
		} else {
			f.epoch.Add(1) // it may end anything of anybody
		}
		after = ch.Seq
	}
	if len(feed.Changes) == store.MaxPage {
		return after, false, nil
	}
	return feed.Head, true, nil
}
