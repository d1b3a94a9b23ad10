package httpadapter

import (
	"hash/maphash"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
)

func TestAPresenceIsEncodedOnceForAllWhoWatch(t *testing.T) {
	s := &shown{seed: maphash.MakeSeed()}
	p := denizen.UserPresence{User: "alice-0001", Presence: denizen.Online(time.Hour).Then(denizen.Away()), Since: time.UnixMilli(1000), Until: time.UnixMilli(2000)}
	first, again := s.event(&p), s.event(&p)
	require.Same(t, &first[0], &again[0])
	require.Equal(t, "event: presence\ndata: "+string(encode(newWiredPresence(p)))+"\n\n", string(first))
}

func TestAPresenceIsSentAsItIsNow(t *testing.T) {
	s := &shown{seed: maphash.MakeSeed()}
	p := denizen.UserPresence{User: "alice-0001", Presence: denizen.Online(time.Hour), Since: time.UnixMilli(1000), Until: time.UnixMilli(2000)}
	for name, change := range map[string]func(p *denizen.UserPresence){
		"user":     func(p *denizen.UserPresence) { p.User = "bob-00001" },
		"presence": func(p *denizen.UserPresence) { p.Presence = denizen.Online(time.Hour).Then(denizen.Away()) },
		"none":     func(p *denizen.UserPresence) { p.Presence = denizen.Presence{} },
		"since":    func(p *denizen.UserPresence) { p.Since = time.UnixMilli(1001) },
		"until":    func(p *denizen.UserPresence) { p.Until = time.Time{} },
		"hidden":   func(p *denizen.UserPresence) { p.Hidden = true },
	} {
		s.event(&p)
		other := p
		change(&other)
		for i := range s.places { // whatever place it has
			s.places[i].Store(s.places[maphash.String(s.seed, string(p.User))%uint64(len(s.places))].Load())
		}
		require.Equal(t, string(encodeEvent("presence", "", newWiredPresence(other))), string(s.event(&other)), name)
	}
}
