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

// tokenCache remembers what signed texts stand for, by the text itself. Whoever holds the text holds
// the token, and the hash of the map is keyed, so looking one up tells a stranger nothing. The nil
// tokenCache remembers nothing.
type tokenCache struct {
	shards   [64]tokenShard
	bound    int64               // what the tokens of a shard may weigh
	follower *revocationFollower // of a store that others write to; nil of a sole one
}

// tokenShard is a part of the texts. Its lock is taken alone, and guards what follows it.
type tokenShard struct {
	sync.RWMutex
	byText map[string]*cachedToken
	weight int64
}

// cachedToken is an authenticated token. It is good for as long as both records that it rests on
// are remembered: the text's and its user's. Where the feed is followed instead of remembering
// records, it is good for as long as its user is in the same epoch.
type cachedToken struct {
	by         Principal
	expires    int64
	text, user *txn.Freshness // not the entries: a token holds no records in memory
	epoch      uint64
	use        useMark
}

// newTokenCache returns a cache whose tokens weigh some bytes at most.
func newTokenCache(f *revocationFollower, bytes int64) *tokenCache {
	t := &tokenCache{follower: f}
	t.bound = bytes / int64(len(t.shards))
	for i := range t.shards {
		t.shards[i].byText = map[string]*cachedToken{}
	}
	return t
}

// shard returns where a text is remembered, by the end of its signature. Its last two characters do
// not tell texts apart: the last byte of an Ed25519 signature is below 0x11 (RFC 8032, 5.1.7).
func (t *tokenCache) shard(text string) *tokenShard {
	n := len(text)
	return &t.shards[(uint(text[n-3])+3*uint(text[n-4]))%64]
}

// get returns what a text stands for, or nil if that is not known, or not any more.
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

// remember keeps what a text stands for, in place of others if the shard is full.
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

// forget takes a text out of a locked shard.
func (s *tokenShard) forget(text string) {
	if _, ok := s.byText[text]; ok {
		delete(s.byText, text)
		s.weight -= weighText(text)
	}
}

// weighText returns what a remembered token takes in memory, about: with its principal, its names
// and its place in the map.
func weighText(text string) int64 { return int64(512 + len(text)) }

// revocationFollower reads the feed of a store that other processes write to as well, so that an
// authenticated token may be remembered: what ends a token is an event. Nothing else is remembered
// of such a store.
//
// A cachedToken carries the epoch of its user at a time before its records were read. An event that
// may end tokens of the user begins another epoch. And a token counts only while the feed was read
// to its end within the bound: while the feed cannot be read, nothing that is remembered counts.
type revocationFollower struct {
	bound int64 // milliseconds
	seed  maphash.Seed
	asOf  atomic.Int64
	epoch atomic.Uint64 // one more when the epochs of all end
	// ended is one more when the epoch of a user ends, by a hash of its id. Users share one by
	// chance; the hash is keyed, so that nobody can aim.
	ended [1024]atomic.Uint64
}

func newRevocationFollower(delay time.Duration) *revocationFollower {
	f := &revocationFollower{bound: delay.Milliseconds(), seed: maphash.MakeSeed()}
	f.asOf.Store(math.MinInt64 / 2)
	return f
}

func (f *revocationFollower) of(user UserID) *atomic.Uint64 {
	return &f.ended[maphash.String(f.seed, string(user))%uint64(len(f.ended))]
}

// epochOf returns the epoch of a user. It only grows, and is read before the records that a token
// rests on.
func (f *revocationFollower) epochOf(user UserID) uint64 {
	return f.epoch.Load() + f.of(user).Load()
}

// isCurrent reports whether the feed was known to its end within the bound before now.
func (f *revocationFollower) isCurrent(now int64) bool { return now-f.asOf.Load() <= f.bound }

// apply ends what an event may end. An event of a kind that is not known, from a later version
// of this package, may end anything of its user.
func (f *revocationFollower) apply(e *record.Event) {
	if f == nil || e == nil || e.User == "" {
		return
	}
	switch EventKind(e.What) {
	case EventUserCreated, EventUserRenamed, EventUserUnblocked,
		EventLocatorAdded, EventLocatorOwned, EventLocatorVerification, EventLocatorRemoved, EventLocatorsSet,
		EventProfileChanged, EventPresenceSet, EventPresenceCleared,
		EventTokenIssued: // but not extended: that ends the ninth text
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
		next, whole, err := d.follower.read(ctx, d.store, seen)
		if err == nil {
			seen = next
			if !whole {
				continue
			}
			d.follower.asOf.Store(began)
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

// waited returns the error of a Wait, if it is one: that the store went back is none.
func waited(err error) error {
	if isMissed(err) {
		return nil
	}
	return err
}

// read applies the events after a place, and returns the place to go on after and whether that
// was all of them. Whoever comes too late, or for the first time, starts at the end. So does
// whoever knows more than the store does, which went back: then all that is remembered ends.
func (f *revocationFollower) read(
	ctx context.Context, s store.Store, after store.Seq,
) (next store.Seq, whole bool, err error) {
	feed, err := s.Changes(ctx, after, store.MaxPage)
	if isMissed(err) || err == nil && (after == store.End || feed.Head < after) {
		f.epoch.Add(1)
		return feed.Head, true, nil
	}
	if err != nil {
		return after, false, err
	}
	for _, ch := range feed.Changes {
		if e, err := record.DecodeChange(ch); err == nil {
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
