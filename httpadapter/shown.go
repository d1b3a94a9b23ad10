package httpadapter

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/denizenhq/denizen"
)

// shown are presences as they were sent to streams last. A change is told to all who watch the
// user, and is encoded once for all of them. It keeps one of each place alone, so that
// it is bounded.
type shown struct {
	seed   maphash.Seed
	places [64]atomic.Pointer[shownPresence]
}

type shownPresence struct {
	of    denizen.UserPresence
	event []byte
}

// event returns the event of a presence, which the caller must not change.
func (s *shown) event(p *denizen.UserPresence) []byte {
	place := &s.places[maphash.String(s.seed, string(p.User))%uint64(len(s.places))]
	last := place.Load()
	if last != nil && last.of.User == p.User && last.of.Presence.Equal(p.Presence) &&
		last.of.Since.Equal(p.Since) && last.of.Until.Equal(p.Until) && last.of.Hidden == p.Hidden {
		return last.event
	}
	made := &shownPresence{of: *p, event: encodeEvent("presence", "", newWiredPresence(*p))}
	place.Store(made)
	return made.event
}
