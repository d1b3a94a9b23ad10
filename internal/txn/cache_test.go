package txn

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/heartbeat"
	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

const (
	usualBytes      = 192 << 20
	maxDevicesBytes = 8 << 10 // of a presence as it is stored
)

func remembering(c *cache, id string) *Entry { return rememberingUser(c, &record.User{ID: id}) }

func rememberingUser(c *cache, u *record.User) *Entry {
	n := nameOf(record.UserKey(u.ID))
	_, epoch := c.lookup(n)
	return c.remember(n, epoch, &Entry{version: 1, value: u, weight: weigh(record.UserKey(u.ID), record.Encode(u))})
}

// requireBound requires that a cache weighs what its entries do, and no more than it may.
func requireBound(t *testing.T, c *cache, bytes int64) (weight int64) {
	t.Helper()
	taken := int64(0)
	for i := range c.shards {
		s := &c.shards[i]
		var found [2]int64
		for at := range s.heads {
			heads := s.heads[at].Load()
			if heads == nil {
				continue
			}
			taken += int64(unsafe.Sizeof(*heads))
			for j := range heads {
				for m := heads[j].Load(); m != nil; m = m.next.Load() {
					require.False(t, m.Stale())
					found[poolOf(record.Remembered[at])] += m.weight
				}
			}
		}
		for j := range s.pools {
			require.Equal(t, found[j], s.pools[j].weight)
			require.LessOrEqual(t, found[j], s.pools[j].bound)
			weight += found[j]
		}
	}
	require.LessOrEqual(t, weight+taken, bytes)
	return weight + taken
}

func TestThePlacesThatArePeekedAtAreThoseOfTheirKinds(t *testing.T) {
	require.Len(t, record.Remembered, kinds)
	for place, key := range map[int]store.Key{
		placeUsers: record.UserKey("x"), placeOwners: record.OwnerKey("x"), placeDevices: record.DevicesKey("x"),
	} {
		require.Equal(t, key[0], record.Remembered[place])
	}
}

func TestWhatIsRememberedIsBoundedAndTheRestIsDead(t *testing.T) {
	const bytes = MinCacheBytes
	c := newCache(bytes, heartbeat.NewTable())
	entries := make([]*Entry, 60_000)
	for i := range entries {
		entries[i] = remembering(c, fmt.Sprintf("user-%d", i))
	}
	for i, m := range entries {
		found := c.peek(placeUsers, fmt.Sprintf("user-%d", i))
		if m.Stale() {
			require.Nil(t, found)
			continue
		}
		require.Same(t, m, found)
	}
	require.Greater(t, requireBound(t, c, bytes), int64(bytes/2))
	require.False(t, entries[len(entries)-1].Stale(), "the last one")
}

func TestTheCacheNeverWeighsMoreThanItMay(t *testing.T) {
	c := newCache(MinCacheBytes, heartbeat.NewTable())
	chance := rand.New(rand.NewPCG(1, 2))
	for i := range 60_000 {
		id := fmt.Sprintf("user-%d", chance.IntN(20_000))
		u := &record.User{ID: id, ScreenName: strings.Repeat("n", chance.IntN(9_000))}
		if i%4 != 0 {
			rememberingUser(c, u)
		} else {
			b := &Tx{keepsCached: i%8 == 0}
			b.Put(record.UserKey(id), u)
			b.Put(record.DefinitionKey(id), &record.Definition{Key: id})
			c.beginWrite(b)
			c.endWrite(b, store.Seq(i%3))
		}
		if i%5_000 == 0 {
			requireBound(t, c, MinCacheBytes)
		}
	}
	requireBound(t, c, MinCacheBytes)
}

func TestWhatIsHeavierThanAQuarterOfAShardIsNotRemembered(t *testing.T) {
	c := newCache(MinCacheBytes, heartbeat.NewTable())
	quarter := int((MinCacheBytes/64 - kinds*8*1024) / 4)
	require.Greater(t, quarter, 256+80+2*maxDevicesBytes, "the heaviest presence is remembered")
	heavy := rememberingUser(c, &record.User{ID: "heavy-01", ScreenName: strings.Repeat("n", quarter/2)})
	require.True(t, heavy.Stale())
	require.Nil(t, c.peek(placeUsers, "heavy-01"))
}

func TestAFloodOfUsersEvictsNoAccessKeyAndNoDefinition(t *testing.T) {
	c := newCache(MinCacheBytes, heartbeat.NewTable())
	b := new(Tx)
	b.Put(record.AccessKeysKey, &record.AccessKeys{})
	for i := range 100 {
		b.Put(record.DefinitionKey(fmt.Sprint(i)), &record.Definition{Key: fmt.Sprint(i)})
	}
	c.beginWrite(b)
	c.endWrite(b, 1)
	for i := range 100_000 {
		remembering(c, fmt.Sprintf("user-%d", i))
	}
	for _, put := range b.batch.Put {
		require.NotNil(t, c.get(nameOf(put.Key)))
	}
}

// liveHeap returns the bytes of what lives.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// The weights are held against the live heap, with what an attacker would have remembered:
// presences of many devices with as many short states, or a few long ones, as 8 KB allow.
func TestTheCacheWeighsWhatItTakesInMemory(t *testing.T) {
	for state, states := range map[string]int{"a": 13, strings.Repeat("\U0001F600", 110): 1} {
		before := liveHeap()
		c := newCache(MinCacheBytes, heartbeat.NewTable())
		for i := range 4_000 {
			var r record.Devices
			r.User, r.Incarnation = fmt.Sprintf("user-%d", i), "1"
			for d := range 16 {
				var chain presence.Chain
				for s := range states {
					chain = append(chain, presence.Link{State: state, Seconds: int64(s + 1)})
				}
				r.Devices = append(r.Devices, presence.Device{Name: strconv.Itoa(d), Start: 1_800_000_000_000, Chain: chain})
			}
			key, value := record.DevicesKey(r.User), record.Encode(&r)
			require.InDelta(t, maxDevicesBytes, len(value), maxDevicesBytes/4)
			decoded, err := record.Decode(key, value)
			require.NoError(t, err)
			n := nameOf(key)
			_, epoch := c.lookup(n)
			c.remember(n, epoch, &Entry{version: 1, value: decoded, weight: weigh(key, value)})
		}
		weight, live := requireBound(t, c, MinCacheBytes), liveHeap()-before
		t.Logf("%d states: weight %d, heap %d", states, weight, live)
		require.Less(t, live, 2*weight)
		require.Less(t, weight, 2*live)
		runtime.KeepAlive(c)
	}
}

func TestWhatIsWrittenIsForgottenAndNothingElse(t *testing.T) {
	c := newCache(usualBytes, heartbeat.NewTable())
	known := map[string]*Entry{}
	for i := range 20_000 {
		id := fmt.Sprintf("user-%d", rand.IntN(3000))
		if i%3 != 0 {
			m := remembering(c, id)
			require.True(t, known[id] == nil || known[id] == m, "another is remembered already")
			known[id] = m
			continue
		}
		b, m := new(Tx), known[id]
		b.Put(record.UserKey(id), &record.User{ID: id})
		if b.keepsCached = i%2 == 0; b.keepsCached {
			c.beginWrite(b)
			require.Same(t, m, c.peek(placeUsers, id), "it goes on being remembered")
		} else {
			c.beginWrite(b)
			require.Nil(t, c.peek(placeUsers, id))
		}
		require.True(t, remembering(c, id).Stale(), "it is being written")
		outcome := store.Seq(i % 5) // 0: it failed, or may have
		c.endWrite(b, outcome)
		require.True(t, m == nil || m.Stale())
		delete(known, id)
		if now := c.peek(placeUsers, id); outcome == 0 {
			require.Nil(t, now)
		} else {
			require.Equal(t, outcome, now.version)
			known[id] = now
		}
	}
	for i := range 3000 {
		id := fmt.Sprintf("user-%d", i)
		require.Same(t, known[id], c.peek(placeUsers, id))
	}
}

// Readers take no lock: whoever else is forgotten or remembered meanwhile, what stays is found.
func TestWhatStaysIsFoundWhileOthersComeAndGo(t *testing.T) {
	c := newCache(usualBytes, heartbeat.NewTable())
	const stay = 2000
	for i := range stay {
		remembering(c, fmt.Sprintf("stay-%d", i))
	}
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := range 20_000 {
				id := fmt.Sprintf("goes-%d-%d", w, i%5000)
				remembering(c, id)
				b := &Tx{batch: store.Batch{Drop: []store.Key{record.UserKey(id)}}}
				c.beginWrite(b)
				c.endWrite(b, 1)
			}
		})
		wg.Go(func() {
			for i := range 100_000 {
				id := fmt.Sprintf("stay-%d", i%stay)
				if m := c.peek(placeUsers, id); m == nil || m.value.(*record.User).ID != id {
					panic("not found")
				}
			}
		})
	}
	wg.Wait()
}
