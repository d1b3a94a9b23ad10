package heartbeat

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
)

var (
	online = presence.Chain{{State: presence.Online}}
	away   = presence.Chain{{State: presence.Away}}
	minute = presence.Chain{{State: presence.Online, Seconds: 60}}
)

// alice returns the record of a user of one id.
func alice(incarnation string, devices ...presence.Device) *record.Devices {
	return &record.Devices{User: "alice-01", Incarnation: incarnation, Devices: devices}
}

func requireKept(t *testing.T, p *Pending, d presence.Device, now int64) {
	t.Helper()
	kept, done := p.Beat(&d, now)
	require.True(t, kept && done)
}

// A heartbeat may come after the chain it was meant for was changed: its writer read before.
func TestAHeartbeatMovesTheChainItIsOfAlone(t *testing.T) {
	stored := alice("1",
		presence.Device{Name: "desk", Start: 5, Chain: away}, presence.Device{Name: "phone", Start: 5, Chain: online})
	p := &Pending{user: "alice-01", incarnation: "1", devices: []presence.Device{
		{Name: "desk", Beat: 9, Chain: online}, {Name: "phone", Beat: 9, Chain: online}, {Name: "gone", Beat: 9, Chain: online},
	}}
	want := []presence.Device{{Name: "desk", Start: 5, Chain: away}, {Name: "phone", Start: 5, Beat: 9, Chain: online}}
	require.Equal(t, want, p.Apply(stored))
	require.Zero(t, stored.Devices[1].Beat, "the record is changed")
	p.devices[1].Beat = 4
	require.Equal(t, stored.Devices, p.Apply(stored), "an older one moves nothing")
	p.devices[1].Beat, p.incarnation = 9, "2"
	require.Equal(t, stored.Devices, p.Apply(stored), "nor does one of another user of the same id")
}

func TestApplyTellsWhetherAnythingMoved(t *testing.T) {
	stored := []presence.Device{{Name: "desk", Start: 5, Chain: away}, {Name: "phone", Start: 5, Chain: online}}
	devices, moved := Apply(stored, []presence.Device{{Name: "phone", Beat: 5, Chain: online}})
	require.False(t, moved)
	require.Same(t, &stored[0], &devices[0], "nothing is copied")
	devices, moved = Apply(stored, []presence.Device{{Name: "phone", Beat: 6, Chain: online}})
	require.True(t, moved)
	require.NotSame(t, &stored[0], &devices[0])
	_, moved = Apply(nil, []presence.Device{{Name: "phone", Beat: 6, Chain: online}})
	require.False(t, moved)
}

func TestAReadingTakesTheHeartbeatsOfItsUserAlone(t *testing.T) {
	r := alice("1", presence.Device{Start: 5000, Chain: minute})
	for incarnation, until := range map[string]int64{"1": 69_000, "2": 65_000} {
		p := &Pending{incarnation: incarnation, devices: []presence.Device{{Beat: 9000, Chain: minute}}}
		reading := p.Read(r, 10_000)
		require.Equal(t, until, reading.Until)
		require.Equal(t, int64(5000), reading.Since)
	}
}

func TestNoHeartbeatsLeaveARecordAsItIs(t *testing.T) {
	var none *Pending
	r := alice("1", presence.Device{Start: 5000, Chain: minute})
	require.False(t, none.IsOf(r))
	require.Equal(t, r.Devices, none.Apply(r))
	require.Equal(t, int64(65_000), none.Read(r, 10_000).Until)
	require.Nil(t, none.Apply(nil))
	require.Nil(t, new(Pending).Apply(nil))
}

func TestAHeartbeatIsKeptWhileTheFirstStateRuns(t *testing.T) {
	device := presence.Device{Start: 5000, Chain: minute}
	p := new(Pending)
	requireKept(t, p, device, 64_999)
	requireKept(t, p, device, 124_998)
	requireKept(t, p, device, 100_000)
	require.Equal(t, int64(124_998), p.devices[0].Beat, "a time of before moves nothing back")
	kept, done := p.Beat(&device, 184_998)
	require.True(t, done)
	require.False(t, kept, "the state has ended")
}

// Whoever comes late with a heartbeat of the chain before takes nothing from the chain after it.
func TestALateHeartbeatOfAnotherChainTakesNothingAway(t *testing.T) {
	before := presence.Device{Start: 1_000, Chain: online}
	after := presence.Device{Start: 5_000, Chain: away}
	p := new(Pending)
	requireKept(t, p, after, 6_000)
	requireKept(t, p, before, 7_000)
	require.Equal(t, int64(6_000), p.Apply(&record.Devices{Devices: []presence.Device{after}})[0].Beat)
	require.Equal(t, int64(7_000), p.Apply(&record.Devices{Devices: []presence.Device{before}})[0].Beat,
		"who reads the record of before")
}

// A reader may hold a record from before its heartbeats were stored.
func TestHeartbeatsThatWereStoredStayForWhoReadBefore(t *testing.T) {
	table := NewTable()
	before := alice("1", presence.Device{Start: 5, Chain: online})
	p := table.Begin(before)
	require.Same(t, p, table.Begin(before), "there is one")
	requireKept(t, p, before.Devices[0], 9)
	taken := p.Take()

	requireKept(t, p, before.Devices[0], 11)
	table.Stored(p, taken)
	next := table.Of("alice-01")
	require.True(t, p.Gone())
	require.Equal(t, int64(11), p.Apply(before)[0].Beat, "who knows it knows what came since")
	require.NotSame(t, p, next, "what is stored is not changed any more")
	require.Equal(t, int64(11), next.Apply(before)[0].Beat, "one that came since goes on")
	_, done := p.Beat(&before.Devices[0], 12)
	require.False(t, done)

	table.Stored(p, taken)
	require.Same(t, next, table.Of("alice-01"), "the other is out of the table already")
	table.Stored(next, next.Take())
	require.Nil(t, table.Of("alice-01"))
	require.Equal(t, int64(11), next.Apply(before)[0].Beat)
}

func TestWhatWasTakenIsACopy(t *testing.T) {
	p := new(Pending)
	requireKept(t, p, presence.Device{Start: 5, Chain: online}, 9)
	taken := p.Take()
	requireKept(t, p, presence.Device{Start: 5, Chain: online}, 11)
	require.Equal(t, int64(9), taken[0].Beat)
}

func TestAnotherChainSinceGoesOnToo(t *testing.T) {
	table := NewTable()
	r := alice("1", presence.Device{Start: 5, Chain: online})
	p := table.Begin(r)
	requireKept(t, p, r.Devices[0], 9)
	taken := p.Take()
	requireKept(t, p, presence.Device{Start: 9, Chain: away}, 10)
	table.Stored(p, taken)
	require.Equal(t, []presence.Device{{Start: 9, Beat: 10, Chain: away}}, table.Of("alice-01").Take())
}

func TestAnotherUserOfTheSameIdPushesOutTheOneBefore(t *testing.T) {
	table := NewTable()
	first := table.Begin(alice("1"))
	second := table.Begin(alice("2"))
	require.NotSame(t, first, second)
	require.True(t, first.Gone())
	require.Same(t, second, table.Of("alice-01"))
	table.Stored(first, nil)
	require.Same(t, second, table.Of("alice-01"), "what is stored of the one takes nothing of the other")
}

func TestATableTellsThatSomethingBegan(t *testing.T) {
	table := NewTable()
	require.True(t, table.Empty())
	heard := func() bool {
		select {
		case <-table.Began():
			return true
		default:
			return false
		}
	}
	require.False(t, heard())
	p := table.Begin(alice("1"))
	table.Begin(&record.Devices{User: "bob-0001", Incarnation: "2"})
	require.False(t, table.Empty())
	require.True(t, heard())
	require.False(t, heard(), "once until it is empty again")
	for _, p := range table.All() {
		table.Stored(p, nil)
	}
	require.True(t, table.Empty())
	table.Begin(alice("1"))
	require.NotSame(t, p, table.Of("alice-01"))
	require.True(t, heard())
}

func TestAllIsInTheOrderOfTheUsers(t *testing.T) {
	table := NewTable()
	for i := range 50 {
		table.Begin(&record.Devices{User: fmt.Sprintf("user-%03d", (i*37)%50), Incarnation: "1"})
	}
	all := table.All()
	require.Len(t, all, 50)
	for i, p := range all {
		require.Equal(t, fmt.Sprintf("user-%03d", i), p.User())
	}
}

// Whatever happens meanwhile, each heartbeat that was kept is among those that are taken.
func TestNoHeartbeatIsLostWhileOthersAreStored(t *testing.T) {
	table := NewTable()
	r := alice("1", presence.Device{Start: 1, Chain: online})
	var latest int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for now := int64(2); now < 20_000; now++ {
			for {
				if _, done := table.Begin(r).Beat(&r.Devices[0], now); done {
					break
				}
			}
		}
	})
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	store := func() {
		for _, p := range table.All() {
			taken := p.Take()
			if devices, moved := Apply(r.Devices, taken); moved {
				require.GreaterOrEqual(t, devices[0].Beat, latest)
				latest = devices[0].Beat
			}
			table.Stored(p, taken)
		}
	}
	for ended := false; !ended; store() {
		select {
		case <-done:
			ended = true
		default:
		}
	}
	require.True(t, table.Empty())
	require.Equal(t, int64(19_999), latest)
}
