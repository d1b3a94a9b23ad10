package denizen

import (
	"sync"
)

// grants remembers what signed texts stand for, by the text itself: whoever holds the
// text holds the token, and the map's hash is keyed, so looking one up tells a stranger
// nothing.
type grants struct {
	shards    [64]grantShard
	bound     int64      // what the tokens of a shard may weigh
	following *following // of a store that others write to; nil of a sole one
}

type grantShard struct {
	sync.RWMutex
	byText map[string]*grant
	weight int64
}

// grant is an authenticated token. It is good for as long as both records that it rests
// on are remembered: the text's, and its user's. Where the feed is followed instead of
// remembering records, it is good for as long as its user is of the same generation.
type grant struct {
	by         Principal
	expires    int64
	text, user *life
	generation uint64
	use        use
}

// newGrants returns a table whose tokens weigh some bytes at most.
func newGrants(f *following, bytes int64) *grants {
	g := &grants{following: f}
	g.bound = bytes / int64(len(g.shards))
	for i := range g.shards {
		g.shards[i].byText = map[string]*grant{}
	}
	return g
}

// at answers where a text is remembered, by the end of its signature. Its last two characters
// do not tell texts apart: the last byte of an Ed25519 signature is below 0x11 (RFC 8032, 5.1.7).
func (g *grants) at(text string) *grantShard {
	n := len(text)
	return &g.shards[(uint(text[n-3])+3*uint(text[n-4]))%64]
}

func (g *grants) get(text string, now int64) *grant {
	if g == nil || len(text) < 4 || g.following != nil && !g.following.fresh(now) {
		return nil
	}
	s := g.at(text)
	s.RLock()
	a := s.byText[text]
	s.RUnlock()
	if a == nil {
		return nil
	}
	if !g.good(a) {
		s.Lock()
		if s.byText[text] == a {
			s.forget(text)
		}
		s.Unlock()
		return nil
	}
	return a
}

func (g *grants) good(a *grant) bool {
	if g.following != nil {
		return g.following.generation(a.by.user) == a.generation
	}
	return !a.text.Load() && !a.user.Load()
}

func (g *grants) remember(text string, a *grant) {
	if g == nil || !g.good(a) {
		return
	}
	s := g.at(text)
	s.Lock()
	defer s.Unlock()
	s.forget(text)
	weight := weighText(text)
	for old := range s.byText {
		if s.weight+weight <= g.bound {
			break
		}
		s.forget(old)
	}
	s.byText[text] = a
	s.weight += weight
}

// forget takes a text out of a locked shard.
func (s *grantShard) forget(text string) {
	if _, ok := s.byText[text]; ok {
		delete(s.byText, text)
		s.weight -= weighText(text)
	}
}

// weighText returns what a remembered token takes in memory, about: with its principal, its names
// and its place in the map.
func weighText(text string) int64 { return int64(512 + len(text)) }
