package presence_test

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/denizenhq/denizen/internal/presence"
)

const set = int64(1_800_000_000_123) // when chains are set, in Unix milliseconds

func chain(links ...presence.Link) presence.Chain { return links }

// away is the usual chain.
var away = chain(
	presence.Link{State: presence.Away, Seconds: 10},
	presence.Link{State: "Inactive", Seconds: 10},
	presence.Link{State: presence.Offline},
)

func TestAtIsExactAtEveryBoundary(t *testing.T) {
	for _, row := range []struct {
		after int64 // milliseconds since it was set
		link  int
		since int64 // likewise
	}{
		{-86_400_000, 0, 0},
		{-1, 0, 0},
		{0, 0, 0},
		{1, 0, 0},
		{9_999, 0, 0},
		{10_000, 1, 10_000},
		{10_001, 1, 10_000},
		{19_999, 1, 10_000},
		{20_000, 2, 20_000},
		{20_001, 2, 20_000},
		{1 << 50, 2, 20_000},
	} {
		link, since := away.At(set, set+row.after)
		require.Equal(t, row.link, link, "%d ms after", row.after)
		require.Equal(t, set+row.since, since, "%d ms after", row.after)
	}
}

func TestAChainWithoutALastStateRunsOutAtTheInstantItEnded(t *testing.T) {
	c := chain(presence.Link{State: presence.Online, Seconds: 10}, presence.Link{State: presence.Away, Seconds: 5})
	for after, want := range map[int64][2]int64{
		14_999:         {1, 10_000},
		15_000:         {2, 15_000},
		15_001:         {2, 15_000},
		86_400_000_000: {2, 15_000},
	} {
		link, since := c.At(set, set+after)
		require.Equal(t, want, [2]int64{int64(link), since - set}, "%d ms after", after)
	}
}

func TestAStateWithoutATimeStaysForGood(t *testing.T) {
	c := chain(presence.Link{State: presence.Online})
	for _, after := range []int64{-1, 0, 1, 1 << 52} {
		link, since := c.At(set, set+after)
		require.Zero(t, link)
		require.Equal(t, set, since)
	}
}

func TestEveryDepthUpToTheLimitIsExact(t *testing.T) {
	for depth := 1; depth <= presence.MaxLinks; depth++ {
		var c presence.Chain
		for i := range depth {
			c = append(c, presence.Link{State: fmt.Sprint("state ", i), Seconds: int64(i + 1)})
		}
		require.Empty(t, c.Check())
		begins := int64(0)
		for i := range depth {
			ends := begins + int64(i+1)*1000
			for _, after := range []int64{begins, begins + 1, ends - 1} {
				link, since := c.At(set, set+after)
				require.Equal(t, []int64{int64(i), begins}, []int64{int64(link), since - set}, "depth %d, %d ms after", depth, after)
			}
			begins = ends
		}
		for _, after := range []int64{begins, begins + 1} {
			link, since := c.At(set, set+after)
			require.Equal(t, []int64{int64(depth), begins}, []int64{int64(link), since - set}, "depth %d has run out", depth)
		}
	}
}

func TestALongestChainDoesNotOverflow(t *testing.T) {
	c := chain(presence.Link{State: presence.Online, Seconds: presence.MaxSeconds})
	require.Empty(t, c.Check())
	link, since := c.At(set, set+presence.MaxSeconds*1000-1)
	require.Zero(t, link)
	require.Equal(t, set, since)
	link, since = c.At(set, set+presence.MaxSeconds*1000)
	require.Equal(t, 1, link)
	require.Equal(t, set+presence.MaxSeconds*1000, since)
}

func TestCheckNamesTheRuleThatAChainBreaks(t *testing.T) {
	deep := func(n int) (c presence.Chain) {
		for range n {
			c = append(c, presence.Link{State: "x", Seconds: 1})
		}
		return c
	}
	named := func(s string) presence.Chain { return chain(presence.Link{State: s}) }
	for what, row := range map[string]struct {
		chain presence.Chain
		rule  string
	}{
		"none":                           {nil, "has no state"},
		"one static state":               {named(presence.Online), ""},
		"the deepest":                    {deep(32), ""},
		"too deep":                       {deep(33), "has more than 32 links"},
		"no name":                        {named(""), "names a state"},
		"a name of 128 characters":       {named(strings.Repeat("é", 128)), ""},
		"a name of 129 characters":       {named(strings.Repeat("é", 129)), "names a state"},
		"a line break":                   {named("On\nline"), "names a state"},
		"U+0000":                         {named("On\x00line"), "names a state"},
		"a line separator":               {named("On\u2028line"), "names a state"},
		"no UTF-8":                       {named("On\xffline"), "names a state"},
		"a bad name further on":          {append(deep(2), presence.Link{}), "names a state"},
		"a time below zero":              {chain(presence.Link{State: "x", Seconds: -1}), "has a time to live"},
		"the longest time":               {chain(presence.Link{State: "x", Seconds: 1<<31 - 1}), ""},
		"too long a time":                {chain(presence.Link{State: "x", Seconds: 1 << 31}), "has a time to live"},
		"more after a static state":      {append(named("x"), deep(1)...), "goes on after a state that is permanent"},
		"the longest of several":         {chain(presence.Link{State: "x", Seconds: 1<<31 - 2}, presence.Link{State: "y", Seconds: 1}, presence.Link{State: "z"}), ""},
		"too long together":              {chain(presence.Link{State: "x", Seconds: 1<<31 - 1}, presence.Link{State: "y", Seconds: 1}), "lasts longer"},
		"a time that wraps around zero":  {chain(presence.Link{State: "x", Seconds: 1 << 62}, presence.Link{State: "y", Seconds: 1 << 62}), "has a time to live"},
		"a static state after timed one": {append(deep(1), presence.Link{State: "x"}), ""},
	} {
		t.Run(what, func(t *testing.T) {
			rule := row.chain.Check()
			require.True(t, strings.HasPrefix(rule, row.rule) && (rule == "") == (row.rule == ""), "%q", rule)
		})
	}
}

func TestAnEmptyNameIsADeviceAndNoState(t *testing.T) {
	require.True(t, presence.Name("", 0, presence.MaxDevice))
	require.False(t, presence.Name("", 1, presence.MaxState))
	require.True(t, presence.Name(strings.Repeat("ß", 64), 0, presence.MaxDevice))
	require.False(t, presence.Name(strings.Repeat("ß", 65), 0, presence.MaxDevice))
}

func TestChainsAreEqualLinkByLink(t *testing.T) {
	require.True(t, presence.Equal(away, slices.Clone(away)))
	require.False(t, presence.Equal(away, away[:2]))
	other := slices.Clone(away)
	other[1].Seconds++
	require.False(t, presence.Equal(away, other))
	other = slices.Clone(away)
	other[1].State = presence.Missing
	require.False(t, presence.Equal(away, other))
}

func static(name, state string, start int64) presence.Device {
	return presence.Device{Name: name, Start: start, Chain: chain(presence.Link{State: state})}
}

func TestStatesRankInTheOrderDocumented(t *testing.T) {
	order := []string{presence.Online, presence.Away, presence.Sleeping, presence.Missing, presence.Offline, "Any other"}
	for i, better := range order {
		for j, worse := range order[i+1:] {
			devices := []presence.Device{static("a", worse, set+int64(j)), static("b", better, set-1000)}
			require.Equal(t, "b", presence.Read(devices, set+5000).Device, "%s over %s", better, worse)
		}
	}
}

func TestAStateThatOnlyLooksStandardRanksLast(t *testing.T) {
	for _, state := range []string{"mitter.up.online", "Online", "mitter.up.Online "} {
		devices := []presence.Device{static("a", state, set+1), static("b", presence.Offline, set)}
		require.Equal(t, "b", presence.Read(devices, set+5000).Device, state)
	}
}

func TestOfEqualStatesTheLaterWins(t *testing.T) {
	devices := []presence.Device{static("a", presence.Online, set), static("b", presence.Online, set+1)}
	require.Equal(t, "b", presence.Read(devices, set+5000).Device)
	// The state that began later counts, not the chain that was set later.
	early := presence.Device{Name: "a", Start: set, Chain: chain(
		presence.Link{State: presence.Online, Seconds: 10}, presence.Link{State: presence.Away})}
	devices = []presence.Device{early, static("b", presence.Away, set+9_999)}
	require.Equal(t, "a", presence.Read(devices, set+20_000).Device)
	devices[1].Start = set + 10_001
	require.Equal(t, "b", presence.Read(devices, set+20_000).Device)
}

func TestOfStatesThatBeganTogetherTheFirstNameInByteOrderWins(t *testing.T) {
	devices := []presence.Device{static("b", presence.Online, set), static("B", presence.Online, set), static("a", presence.Online, set)}
	require.Equal(t, "B", presence.Read(devices, set).Device)
	require.Equal(t, "", presence.Read(append(devices, static("", presence.Online, set)), set).Device, "the default device is first")
}

func TestADeviceThatRunsBeatsOnesThatRanOut(t *testing.T) {
	out := presence.Device{Name: "a", Start: set, Chain: chain(presence.Link{State: presence.Online, Seconds: 10})}
	r := presence.Read([]presence.Device{out, static("b", "Any other", set-9_000_000)}, set+10_000)
	require.Equal(t, "b", r.Device)
	require.Equal(t, set-9_000_000, r.Since)
}

func TestWhenAllRanOutTheReadingIsWhenTheLastEnded(t *testing.T) {
	a := presence.Device{Name: "a", Start: set, Chain: chain(presence.Link{State: presence.Online, Seconds: 10})}
	b := presence.Device{Name: "b", Start: set, Chain: chain(presence.Link{State: presence.Offline, Seconds: 20})}
	require.Equal(t, presence.Reading{Since: set + 20_000}, presence.Read([]presence.Device{a, b}, set+20_000))
	require.Equal(t, presence.Reading{Since: set + 20_000}, presence.Read([]presence.Device{b, a}, set+99_000))
}

func TestWithoutDevicesThereIsNoPresence(t *testing.T) {
	require.Equal(t, presence.Reading{}, presence.Read(nil, set))
}

func TestAReadingHasWhatIsStillToCome(t *testing.T) {
	r := presence.Read([]presence.Device{{Name: "phone", Start: set, Chain: away}}, set+10_000)
	require.Equal(t, presence.Reading{Device: "phone", Rest: away[1:], Since: set + 10_000, Until: set + 20_000}, r)
}

// devices returns up to n random devices with different names. Their chains differ in everything
// that the order depends on, with many ties.
func devices(n int) *rapid.Generator[[]presence.Device] {
	states := rapid.SampledFrom([]string{presence.Online, presence.Away, presence.Sleeping, presence.Missing, presence.Offline, "x", "y"})
	device := rapid.Custom(func(t *rapid.T) presence.Device {
		d := presence.Device{
			Name:  rapid.StringMatching(`[a-c]{0,3}`).Draw(t, "name"),
			Start: set + rapid.Int64Range(0, 3).Draw(t, "start")*1000,
		}
		if beats := rapid.Int64Range(0, 3).Draw(t, "beats"); beats > 0 {
			d.Beat = d.Start + (beats-1)*1000
		}
		for range rapid.IntRange(1, 4).Draw(t, "links") {
			d.Chain = append(d.Chain, presence.Link{State: states.Draw(t, "state"), Seconds: rapid.Int64Range(1, 3).Draw(t, "seconds")})
		}
		if rapid.Bool().Draw(t, "static") {
			d.Chain[len(d.Chain)-1].Seconds = 0
		}
		return d
	})
	return rapid.SliceOfNDistinct(device, 0, n, func(d presence.Device) string { return d.Name })
}

// The order of devices is visible only in which of two Read returns.
func TestTheOrderOfDevicesIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := devices(8).Filter(func(d []presence.Device) bool { return len(d) >= 3 }).Draw(t, "devices")
		now := set + rapid.Int64Range(-2, 16).Draw(t, "now")*500
		var running []presence.Device
		for _, d := range all {
			if link, _ := d.Chain.At(d.Origin(), now); link < len(d.Chain) {
				running = append(running, d)
			}
		}
		better := func(a, b presence.Device) bool {
			return presence.Read([]presence.Device{a, b}, now).Device == a.Name
		}
		for _, a := range running {
			for _, b := range running {
				if a.Name == b.Name {
					continue
				}
				if better(a, b) == better(b, a) {
					t.Fatalf("not antisymmetric: %v %v", a, b)
				}
				if presence.Read([]presence.Device{a, b}, now).Device != presence.Read([]presence.Device{b, a}, now).Device {
					t.Fatalf("the order they lie in counts: %v %v", a, b)
				}
				for _, c := range running {
					if c.Name != a.Name && c.Name != b.Name && better(a, b) && better(b, c) && !better(a, c) {
						t.Fatalf("not transitive: %v %v %v", a, b, c)
					}
				}
			}
		}
	})
}

// naive reads a presence from a list of the intervals of all states of all devices, and sorts the
// active ones.
func naive(devices []presence.Device, now int64) (best presence.Reading) {
	type interval struct {
		presence.Reading
		rank int
	}
	var active []interval
	for _, d := range devices {
		from := d.Start
		if d.Beat > from {
			from = d.Beat
		}
		for i, l := range d.Chain {
			to := int64(math.MaxInt64)
			if l.Seconds > 0 {
				to = from + l.Seconds*1000
			}
			began := from
			if i == 0 {
				began = d.Start
			}
			if (i == 0 || now >= from) && now < to {
				a := interval{presence.Reading{Device: d.Name, Rest: d.Chain[i:], Since: began, Until: to}, 5}
				if l.Seconds == 0 {
					a.Until = 0
				}
				for rank, state := range []string{presence.Online, presence.Away, presence.Sleeping, presence.Missing, presence.Offline} {
					if l.State == state {
						a.rank = rank
					}
				}
				active = append(active, a)
			}
			if i == len(d.Chain)-1 && l.Seconds > 0 && to > best.Since {
				best.Since = to
			}
			from = to
		}
	}
	if len(active) == 0 {
		return best
	}
	sort.Slice(active, func(i, j int) bool {
		a, b := active[i], active[j]
		if a.rank != b.rank {
			return a.rank < b.rank
		}
		if a.Since != b.Since {
			return a.Since > b.Since
		}
		return a.Device < b.Device
	})
	return active[0].Reading
}

func TestAReadingIsThatOfANaiveModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := devices(6).Draw(t, "devices")
		now := set + rapid.Int64Range(-2, 40).Draw(t, "now")*500
		want, got := naive(all, now), presence.Read(all, now)
		if want.Device != got.Device || want.Since != got.Since || want.Until != got.Until || !presence.Equal(want.Rest, got.Rest) {
			t.Fatalf("%v and not %v", got, want)
		}
		// Heartbeats beside the devices count as if they were in them.
		var beats, still []presence.Device
		for _, d := range all {
			beats = append(beats, presence.Device{Name: d.Name, Beat: d.Beat, Chain: d.Chain})
			d.Beat = 0
			still = append(still, d)
		}
		if beside := presence.Read(still, now, beats...); beside.Device != got.Device || beside.Since != got.Since || beside.Until != got.Until {
			t.Fatalf("%v and not %v", beside, got)
		}
	})
}

// Devices are set, beat and are read in a random order. The model is a list of what was done.
func TestAStateBeginsWhenItIsSetAndHeartbeatsMoveItsEndAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := devices(4).Filter(func(d []presence.Device) bool { return len(d) > 0 }).Draw(t, "devices")
		now := set + 4000
		for range rapid.IntRange(1, 12).Draw(t, "beats") {
			i := rapid.IntRange(0, len(all)-1).Draw(t, "device")
			before := all[i].Read(now)
			now += rapid.Int64Range(0, 5).Draw(t, "later") * 250
			if link, _ := all[i].Chain.At(all[i].Origin(), now); link != 0 {
				continue
			}
			all[i].Beat = max(all[i].Origin(), now)
			after := all[i].Read(now)
			if after.Since != before.Since || after.Until < before.Until || len(after.Rest) != len(all[i].Chain) {
				t.Fatalf("%v became %v", before, after)
			}
		}
	})
}

func TestDevicesThatBeatInTurnDoNotFlip(t *testing.T) {
	online := chain(presence.Link{State: presence.Online, Seconds: 10})
	all := []presence.Device{{Name: "a", Start: set, Chain: online}, {Name: "b", Start: set + 1, Chain: online}}
	for i := range int64(20) {
		all[i%2].Beat = set + 1000*i
		require.Equal(t, presence.Reading{Device: "b", Rest: online, Since: set + 1, Until: all[1].Origin() + 10_000}, presence.Read(all, set+1000*i))
	}
}

func TestADeviceThatBeatsIsNotTheOneThatGoes(t *testing.T) {
	var all []presence.Device
	for i := range presence.MaxDevices {
		all = presence.Set(all, static(fmt.Sprintf("device %02d", i), presence.Online, set+int64(i)), set+100)
	}
	all[0].Beat = set + 90
	more := presence.Set(all, static("one more", presence.Online, set+100), set+100)
	require.Contains(t, names(more), "device 00")
	require.NotContains(t, names(more), "device 01")
}

func TestReadingDoesNotDependOnTheOrderThatDevicesLieIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := devices(6).Draw(t, "devices")
		now := set + rapid.Int64Range(-2, 30).Draw(t, "now")*500
		want := presence.Read(all, now)
		got := presence.Read(rapid.Permutation(all).Draw(t, "another order"), now)
		if want.Device != got.Device || want.Since != got.Since || !presence.Equal(want.Rest, got.Rest) {
			t.Fatalf("%v and %v", want, got)
		}
	})
}

func names(devices []presence.Device) []string {
	var list []string
	for _, d := range devices {
		list = append(list, d.Name)
	}
	return list
}

func TestSettingKeepsDevicesInTheOrderOfTheirNames(t *testing.T) {
	var all []presence.Device
	for _, name := range []string{"phone", "", "desk", "Desk"} {
		all = presence.Set(all, static(name, presence.Online, set), set)
	}
	require.Equal(t, []string{"", "Desk", "desk", "phone"}, names(all))
}

func TestSettingReplacesTheDeviceOfThatName(t *testing.T) {
	before := []presence.Device{static("a", presence.Online, set), static("b", presence.Online, set)}
	after := presence.Set(before, static("a", presence.Away, set+5), set+5)
	require.Equal(t, []presence.Device{static("a", presence.Away, set+5), static("b", presence.Online, set)}, after)
	require.Equal(t, presence.Online, before[0].Chain[0].State, "what was given is changed")
}

func TestSettingLetsDevicesGoThatRanOut(t *testing.T) {
	short := presence.Device{Name: "a", Start: set, Chain: chain(presence.Link{State: presence.Online, Seconds: 10})}
	before := []presence.Device{short, static("b", presence.Offline, set)}
	require.Equal(t, []string{"a", "b", "c"}, names(presence.Set(before, static("c", presence.Away, set), set+9_999)))
	require.Equal(t, []string{"b", "c"}, names(presence.Set(before, static("c", presence.Away, set), set+10_000)))
}

func TestASeventeenthDeviceReplacesTheOneLongestInItsLastState(t *testing.T) {
	var all []presence.Device
	for i := range presence.MaxDevices {
		// The later the name, the earlier its last state begins.
		d := presence.Device{Name: fmt.Sprintf("device %02d", i), Start: set + int64(i), Chain: chain(
			presence.Link{State: presence.Online, Seconds: int64(100 - i)}, presence.Link{State: presence.Offline})}
		all = presence.Set(all, d, set+int64(i))
	}
	require.Len(t, all, presence.MaxDevices)
	again := presence.Set(all, static("device 03", presence.Away, set+50), set+50)
	require.Len(t, again, presence.MaxDevices, "a device that is there replaces itself")
	require.Contains(t, names(again), "device 15")

	more := presence.Set(all, static("one more", presence.Away, set+50), set+50)
	require.Len(t, more, presence.MaxDevices)
	require.NotContains(t, names(more), "device 15")
	require.Contains(t, names(more), "one more")
}

func TestASeventeenthDeviceReplacesTheFirstNameOfThoseEquallyLong(t *testing.T) {
	var all []presence.Device
	for i := range presence.MaxDevices {
		all = presence.Set(all, static(fmt.Sprintf("device %02d", i), presence.Online, set), set)
	}
	more := presence.Set(all, static("one more", presence.Online, set), set)
	require.NotContains(t, names(more), "device 00")
	require.Len(t, more, presence.MaxDevices)
}

func TestAStandardNameIsSharedAndAnyOtherIsKept(t *testing.T) {
	for _, state := range []string{presence.Online, presence.Away, presence.Sleeping, presence.Missing, presence.Offline} {
		one, other := presence.Shared(strings.Clone(state)), presence.Shared(strings.Clone(state))
		require.Equal(t, state, one)
		require.Same(t, unsafe.StringData(one), unsafe.StringData(other))
	}
	require.Equal(t, "Lunch", presence.Shared("Lunch"))
	require.Empty(t, presence.Shared(""))
}

func TestNextEndIsThatOfWhateverEndsFirst(t *testing.T) {
	devices := []presence.Device{
		{Name: "a", Start: 1000, Chain: presence.Chain{{State: presence.Away, Seconds: 60}, {State: presence.Offline, Seconds: 0}}},
		{Name: "b", Start: 1000, Beat: 3000, Chain: presence.Chain{{State: presence.Offline, Seconds: 10}, {State: presence.Online, Seconds: 5}}},
		{Name: "c", Start: 1000, Chain: presence.Chain{{State: presence.Online, Seconds: 0}}},
	}
	for _, c := range [][2]int64{{1000, 13_000}, {12_999, 13_000}, {13_000, 18_000}, {18_000, 61_000}, {61_000, presence.Forever}} {
		require.Equal(t, c[1], presence.NextEnd(devices, c[0]), "after %d", c[0])
	}
	require.EqualValues(t, presence.Forever, presence.NextEnd(nil, 0))
}

func TestLastHereIsTheEndOfTheLastStateButOffline(t *testing.T) {
	of := func(chains ...presence.Chain) int64 {
		var devices []presence.Device
		for _, c := range chains {
			devices = append(devices, presence.Device{Start: 500, Beat: 1000, Chain: c})
		}
		return presence.LastHere(devices)
	}
	require.Zero(t, of())
	require.Zero(t, of(presence.Chain{{State: presence.Offline, Seconds: 0}}, presence.Chain{{State: presence.Offline, Seconds: 9}}))
	require.EqualValues(t, 31_000, of(presence.Chain{{State: presence.Online, Seconds: 10}, {State: presence.Away, Seconds: 20}, {State: presence.Offline, Seconds: 0}}))
	require.EqualValues(t, 31_000, of(presence.Chain{{State: presence.Offline, Seconds: 10}, {State: "Busy", Seconds: 20}, {State: presence.Offline, Seconds: 5}}, presence.Chain{{State: presence.Online, Seconds: 3}}))
	require.EqualValues(t, presence.Forever, of(presence.Chain{{State: presence.Online, Seconds: 10}, {State: presence.Away, Seconds: 0}}, presence.Chain{{State: presence.Online, Seconds: 3}}))
}
