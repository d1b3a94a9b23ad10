package denizen

import (
	"context"
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store"
)

// tokenCache remembers what signed texts stand for, by the text itself. Whoever holds the text
// holds the token. The hash of the map is keyed, so the time of a look-up tells a stranger nothing.
// A nil tokenCache remembers nothing.
type tokenCache struct {
	shards   [64]tokenShard
	bound    int64               // the most bytes that the tokens of a shard may weigh
	follower *revocationFollower // nil over a store that this directory owns alone
}

// tokenShard is a part of the texts. While its lock is held no other lock is taken.
type tokenShard struct {
	sync.RWMutex // guards the fields below
	byText       map[string]*cachedToken
	weight       int64 // of all tokens in byText
}

// cachedToken is an authenticated token. It rests on two records: that of the text and that of its
// user. It is good while neither is stale. Where the feed is followed, it is good while its user is
// in the same epoch.
type cachedToken struct {
	by         Principal
	expires    int64
	text, user *txn.Freshness // not the entries, which would keep the records in memory
	epoch      uint64         // of the user, before its record was read
	use        useMark
}

// newTokenCache returns a cache whose tokens weigh at most the given bytes.
func newTokenCache(f *revocationFollower, bytes int64) *tokenCache {
	t := &tokenCache{follower: f}
	t.bound = bytes / int64(len(t.shards))
	for i := range t.shards {
		t.shards[i].byText = map[string]*cachedToken{}
	}
	return t
}

// shard returns where a text is remembered. It goes by the end of the signature, but not by the
// last two characters: they hardly differ, because the last byte of an Ed25519 signature is below
// 0x11 (RFC 8032, 5.1.7).
func (t *tokenCache) shard(text string) *tokenShard {
	n := len(text)
	return &t.shards[(uint(text[n-3])+3*uint(text[n-4]))%64]
}

// get returns what a text stands for, or nil if that is not known, or no longer.
func (t *tokenCache) get(text string, now int64) *cachedToken {
	if t == nil || len(text) < 4 || t.follower != nil && !t.follower.isCurrent(now) {
		return nil
	}
	s := t.shard(text)
	s.RLock()
	a := s.byText[text]
	s.RUnlock()
	if a == nil {
		return nil
	}
	if !t.good(a) {
		s.Lock()
		if s.byText[text] == a {
			s.forget(text)
		}
		s.Unlock()
		return nil
	}
	return a
}

func (t *tokenCache) good(a *cachedToken) bool {
	if t.follower != nil {
		return t.follower.epochOf(a.by.user) == a.epoch
	}
	return !a.text.Stale() && !a.user.Stale()
}

// remember keeps what a text stands for. It forgets others if the shard is full.
func (t *tokenCache) remember(text string, a *cachedToken) {
	if t == nil || !t.good(a) {
		return
	}
	s := t.shard(text)
	s.Lock()
	defer s.Unlock()
	s.forget(text)
	weight := weighText(text)
	for old := range s.byText {
		if s.weight+weight <= t.bound {
			break
		}
		s.forget(old)
	}
	s.byText[text] = a
	s.weight += weight
}

// size returns how many texts are remembered, and what they weigh.
func (t *tokenCache) size() (entries int, bytes int64) {
	for i := range t.shards {
		s := &t.shards[i]
		s.RLock()
		entries, bytes = entries+len(s.byText), bytes+s.weight
		s.RUnlock()
	}
	return entries, bytes
}

// forget removes a text. The shard must be locked.
func (s *tokenShard) forget(text string) {
	if _, ok := s.byText[text]; ok {
		delete(s.byText, text)
		s.weight -= weighText(text)
	}
}

// weighText returns roughly what a remembered token takes in memory, with its principal, its ids
// and its place in the map.
func weighText(text string) int64 { return int64(512 + len(text)) }

// revocationFollower reads the feed of a store that other processes write to as well. Everything
// that ends a token is an event, so a directory that follows the feed may remember authenticated
// tokens. It remembers nothing else of such a store.
//
// A cachedToken carries the epoch that its user was in before its records were read. An event that
// may end tokens of the user begins a new epoch. A remembered token counts only if the feed was
// read to its end within the bound. So while the feed cannot be read no remembered token counts.
//
// It has no lock: each field is atomic or never changes.
type revocationFollower struct {
	bound int64 // milliseconds
	seed  maphash.Seed
	asOf  atomic.Int64  // when the feed was last known to its end, in Unix milliseconds
	epoch atomic.Uint64 // counts new epochs of all users
	// ended counts new epochs of single users, by a hash of the id. Users share a counter by
	// chance. The hash is keyed, so nobody can choose with whom.
	ended [1024]atomic.Uint64
}

func newRevocationFollower(delay time.Duration) *revocationFollower {
	f := &revocationFollower{bound: delay.Milliseconds(), seed: maphash.MakeSeed()}
	f.asOf.Store(math.MinInt64 / 2)
	return f
}

// of returns the counter of a user's epochs.
func (f *revocationFollower) of(user UserID) *atomic.Uint64 {
	return &f.ended[maphash.String(f.seed, string(user))%uint64(len(f.ended))]
}

// epochOf returns the epoch of a user. It only grows. It is read before the records that a token
// rests on: then an event that comes in between makes the token count as ended, and not as good.
func (f *revocationFollower) epochOf(user UserID) uint64 {
	return f.epoch.Load() + f.of(user).Load()
}

// isCurrent reports whether the feed was known to its end within the bound before now.
func (f *revocationFollower) isCurrent(now int64) bool { return now-f.asOf.Load() <= f.bound }

// apply begins a new epoch if an event may end tokens. An event of an unknown kind, from a later
// version of this package, may end any token of the users it is about.
func (f *revocationFollower) apply(e *record.Event) {
	if f != nil && e != nil && mayEndTokens(e) {
		f.of(UserID(e.User)).Add(1)
		if e.Other != "" {
			f.of(UserID(e.Other)).Add(1)
		}
	}
}

// mayEndTokens reports whether an event may end tokens of the users it is about. One of an unknown
// kind, from a later version of this package, may end any.
func mayEndTokens(e *record.Event) bool {
	switch EventKind(e.What) {
	case EventUserCreated, EventUserRenamed, EventUserUnblocked,
		EventLocatorAdded, EventLocatorOwned, EventLocatorVerification, EventUndoCancelled,
		// Not EventLocatorRemoved and EventLocatorsSet: tokens that were got by it may end.
		EventProfileChanged, EventPresenceSet, EventPresenceCleared,
		EventPresenceHidden, EventPresenceShown,
		EventTokenIssued: // not EventTokenExtended: a ninth text ends another
		return false
	}
	return e.User != ""
}

// follow reads the feed until the directory is closed. It asks four times within the bound, and
// whenever the store reports something newer.
func (d *Directory) follow(ctx context.Context, t *duty) {
	quarter := d.options.MaxRevocationDelay / 4
	missed := false // whether the last Wait returned ErrMissed
	var seen place
	for ctx.Err() == nil {
		began := d.clock.Now()
		next, head, whole, err := d.follower.read(ctx, d.store, seen)
		if err == nil {
			if seen = next; !whole {
				continue
			}
			d.follower.asOf.Store(began)
		}
		waiting, cancel := context.WithTimeout(ctx, quarter)
		if err == nil {
			err = d.store.Wait(waiting, head)
		}
		if ctx.Err() == nil && waiting.Err() == nil {
			d.ended(t, waited(err))
		}
		// A store that went back says so once, and is then read at once. After any other error,
		// or if it goes on saying so, the store cannot report something newer.
		if err != nil && (missed || !isMissed(err)) {
			<-waiting.Done()
		}
		missed = isMissed(err)
		cancel()
	}
}

// waited returns the error of a Wait. That the store went back is no failure.
func waited(err error) error {
	if isMissed(err) {
		return nil
	}
	return err
}

// read applies the events after a place. It returns the place to go on after, the end of the
// feed, and whether those were all. The first read starts at the newest event. So does one that
// comes too late, or from a place of another history, because the store went back. In these cases
// the epochs of all users end.
func (f *revocationFollower) read(
	ctx context.Context, s store.Store, after place,
) (next place, head store.Seq, whole bool, err error) {
	var feed store.Feed
	if err = store.ErrMissed; after != (place{}) {
		feed, whole, err = changesAfter(ctx, s, after, store.MaxPage)
	}
	if isMissed(err) {
		if next, err = newestPlace(ctx, s); err != nil {
			return after, 0, false, err
		}
		f.epoch.Add(1)
		return next, next.seq, true, nil
	}
	if err != nil {
		return after, 0, false, err
	}
	for _, ch := range feed.Changes {
		if e, err := record.DecodeChange(ch); err == nil {
			f.apply(&e)
		} else {
			f.epoch.Add(1) // it may end anything of anybody
		}
		after = placeOf(ch)
	}
	return after, feed.Head, whole, nil
}
