package denizen

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// A heartbeat may come after the chain it was meant for was changed: its writer read before.
func TestAHeartbeatMovesTheChainItIsOfAlone(t *testing.T) {
	online, away := Online().chain, Away().chain
	stored := &record.Devices{User: "alice-01", Incarnation: "1", Devices: []presence.Device{
		{Name: "desk", Start: 5, Chain: away}, {Name: "phone", Start: 5, Chain: online},
	}}
	b := &beats{user: "alice-01", incarnation: "1", devices: []presence.Device{
		{Name: "desk", Start: 9, Chain: online}, {Name: "phone", Start: 9, Chain: online}, {Name: "gone", Start: 9, Chain: online},
	}}
	want := []presence.Device{{Name: "desk", Start: 5, Chain: away}, {Name: "phone", Start: 9, Chain: online}}
	require.Equal(t, want, b.over(stored))
	require.Equal(t, int64(5), stored.Devices[1].Start, "the record is changed")
	b.devices[1].Start = 4
	require.Equal(t, stored.Devices, b.over(stored), "an older one moves nothing")
	b.devices[1].Start, b.incarnation = 9, "2"
	require.Equal(t, stored.Devices, b.over(stored), "nor does one of another user of the same id")
}

func TestAReadingTakesTheHeartbeatsOfItsUserAlone(t *testing.T) {
	r := &record.Devices{User: "alice-01", Incarnation: "1", Devices: []presence.Device{{Start: 5000, Chain: Online().chain}}}
	for incarnation, want := range map[string]int64{"1": 9000, "2": 5000} {
		b := &beats{incarnation: incarnation, devices: []presence.Device{{Start: 9000, Chain: Online().chain}}}
		c, p := call{now: 10_000}, UserPresence{}
		c.presence(&p, r, b)
		require.Equal(t, want, p.Since.UnixMilli())
	}
}

// A reader may hold a record from before its heartbeats were stored.
func TestHeartbeatsThatWereStoredStayForWhoReadBefore(t *testing.T) {
	chain := Online().chain
	table := newBeating()
	before := &record.Devices{User: "alice-01", Incarnation: "1", Devices: []presence.Device{{Start: 5, Chain: chain}}}
	remembered := newCache(usualCacheBytes)
	require.Nil(t, table.begin(before, remembered), "who is not remembered may be another by now")
	remembered.remember(name{kindDevices, before.User}, 0, &memo{version: 1, value: before})
	b := table.begin(before, remembered)
	kept, done := b.beat(&before.Devices[0], 9)
	require.True(t, kept && done)
	taken := []presence.Device{b.devices[0]}

	b.beat(&before.Devices[0], 11)
	table.stored([]*beats{b}, [][]presence.Device{taken}, remembered)
	require.Equal(t, int64(11), b.over(before)[0].Start)
	next := table.of(before)
	require.NotSame(t, b, next, "what is stored is not changed any more")
	require.Equal(t, int64(11), next.over(before)[0].Start, "one that came since goes on")
	_, done = b.beat(&before.Devices[0], 12)
	require.False(t, done)

	table.stored([]*beats{next}, [][]presence.Device{next.devices}, remembered)
	require.Nil(t, table.of(before))
	require.Equal(t, int64(11), next.over(before)[0].Start)
}

// A record may be read while its heartbeats are being stored: after the read they are in
// neither the record nor the table.
func TestAReaderKnowsTheHeartbeatsFromBeforeItsRead(t *testing.T) {
	chain := Online().chain
	d := &Directory{beating: newBeating(), cache: newCache(usualCacheBytes)}
	r := &record.Devices{User: "alice-01", Incarnation: "1", Devices: []presence.Device{{Start: 5, Chain: chain}}}
	remembered := d.rememberDevices(&memo{version: 1, value: r}, r, 0, nil)
	b := d.beating.begin(r, d.cache)
	require.Same(t, b, remembered.beats.Load())
	b.beat(&r.Devices[0], 9)

	before := d.beating.before([]store.Key{record.UserKey("alice-01"), record.DevicesKey("alice-01")})
	require.Equal(t, []*beats{nil, b}, before)
	d.beating.stored([]*beats{b}, [][]presence.Device{b.devices}, d.cache)
	const outdated = 7 // a write to the record ended since the read began
	m := d.rememberDevices(&memo{version: 1, value: r}, r, outdated, before[1])
	require.True(t, m.dead.Load())
	require.Equal(t, int64(9), m.beats.Load().over(r)[0].Start)

	again := &record.Devices{User: "alice-01", Incarnation: "2", Devices: r.Devices}
	m = d.rememberDevices(&memo{version: 3, value: again}, again, outdated, before[1])
	require.Nil(t, m.beats.Load(), "heartbeats of another user of the same id")
}

// Whoever comes late with a heartbeat of the chain before takes nothing from the chain after it.
func TestALateHeartbeatOfAnotherChainTakesNothingAway(t *testing.T) {
	before := presence.Device{Start: 1_000, Chain: presence.Chain{{State: presence.Online}}}
	after := presence.Device{Start: 5_000, Chain: presence.Chain{{State: presence.Away}}}
	b := new(beats)
	beat := func(d presence.Device, now int64) {
		kept, done := b.beat(&d, now)
		require.True(t, kept && done)
	}
	beat(after, 6_000)
	beat(before, 4_000)
	require.Equal(t, []presence.Device{{Start: 6_000, Chain: after.Chain}}, b.devices)
	beat(before, 7_000) // it was set again
	require.Equal(t, []presence.Device{{Start: 7_000, Chain: before.Chain}}, b.devices)
}
