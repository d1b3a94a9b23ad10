package presence_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/presence"
)

// chainOf makes a chain of any bytes, with two for the seconds of each link. A zero is permanent
// wherever it is, which no valid chain has.
func chainOf(data []byte) presence.Chain {
	var c presence.Chain
	for len(data) >= 2 && len(c) < presence.MaxLinks+1 {
		c = append(c, presence.Link{State: string(rune('a' + len(c)%26)), Seconds: int64(binary.BigEndian.Uint16(data))})
		data = data[2:]
	}
	return c
}

// simulated goes through a chain second by second.
func simulated(c presence.Chain, seconds int64) (link int, since int64) {
	if len(c) == 0 {
		return 0, 0
	}
	left := c[0].Seconds
	for now := int64(1); now <= seconds && link < len(c); now++ {
		if c[link].Seconds == 0 {
			return link, since
		}
		if left--; left == 0 {
			if link, since = link+1, now; link < len(c) {
				left = c[link].Seconds
			}
		}
	}
	return link, since
}

func FuzzChain(f *testing.F) {
	f.Add([]byte{0, 10, 0, 10, 0, 0}, int64(20_000))
	f.Add([]byte{0, 10, 0, 10, 0, 0}, int64(19_999))
	f.Add([]byte{0, 1}, int64(1000))
	f.Add([]byte{0, 0}, int64(1<<62))
	f.Add([]byte{0, 0, 0, 5}, int64(7000))
	f.Add([]byte{255, 255, 255, 255}, int64(-1))
	f.Add([]byte{}, int64(0))
	f.Fuzz(func(t *testing.T, data []byte, after int64) {
		c := chainOf(data)
		_ = c.Check()
		after %= 1 << 33
		link, since := c.At(set, set+after)
		require.True(t, link >= 0 && link <= len(c))

		later, laterSince := c.At(set, set+after+1)
		require.GreaterOrEqual(t, later, link, "a link comes back")
		require.GreaterOrEqual(t, laterSince, since)
		if after >= 0 {
			require.LessOrEqual(t, since, set+after, "a link began in the future")
		}
		if link == later {
			require.Equal(t, since, laterSince, "a link began twice")
		} else {
			require.Equal(t, set+after+1, laterSince, "a link began at another instant than the one before ended")
		}

		// Every boundary is where the times add up to.
		ends := set
		for i, l := range c {
			if l.Seconds == 0 {
				break
			}
			ends += l.Seconds * 1000
			got, _ := c.At(set, ends-1)
			require.Equal(t, i, got)
			got, gotSince := c.At(set, ends)
			require.Equal(t, []int64{int64(i + 1), ends}, []int64{int64(got), gotSince})
		}

		if seconds := after / 1000; seconds >= 0 && seconds < 20_000 {
			wantLink, wantSince := simulated(c, seconds)
			require.Equal(t, []int64{int64(wantLink), wantSince * 1000}, []int64{int64(link), since - set}, "%v after %d s", c, seconds)
		}
	})
}

func FuzzSet(f *testing.F) {
	f.Add("phone", []byte{0, 10, 0, 0}, int64(5))
	f.Add("", []byte{0, 1}, int64(2000))
	f.Fuzz(func(t *testing.T, name string, data []byte, after int64) {
		c := chainOf(data)
		if c.Check() != "" || !presence.Name(name, 0, presence.MaxDevice) {
			return
		}
		now := set + after%(1<<33)
		var all []presence.Device
		for i := range 20 {
			all = presence.Set(all, presence.Device{Name: name[:len(name)/2] + string(rune('a'+i)), Start: set, Chain: c}, now)
			all = presence.Set(all, presence.Device{Name: name, Start: now, Chain: c}, now)
			require.LessOrEqual(t, len(all), presence.MaxDevices)
			require.Contains(t, names(all), name)
			require.True(t, slices.IsSorted(names(all)))
			require.Len(t, slices.Compact(names(all)), len(all), "a name is there twice")
		}
	})
}
