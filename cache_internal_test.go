package denizen

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

	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

func remembering(c *cache, id string) *memo { return rememberingUser(c, &record.User{ID: id}) }

func rememberingUser(c *cache, u *record.User) *memo {
	n := name{kindUsers, u.ID}
	_, ended := c.look(n)
	return c.remember(n, ended, &memo{version: 1, value: u, weight: weigh(record.UserKey(u.ID), record.Encode(u))})
}

// requireBound requires that a cache weighs what its memos do, and no more than it may.
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
					require.False(t, m.dead.Load())
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

func TestWhatIsRememberedIsBoundedAndTheRestIsDead(t *testing.T) {
	const bytes = minCacheBytes
	c := newCache(bytes)
	memos := make([]*memo, 60_000)
	for i := range memos {
		memos[i] = remembering(c, fmt.Sprintf("user-%d", i))
	}
	for i, m := range memos {
		found := c.get(name{kindUsers, fmt.Sprintf("user-%d", i)})
		if m.dead.Load() {
			require.Nil(t, found)
			continue
		}
		require.Same(t, m, found)
	}
	require.Greater(t, requireBound(t, c, bytes), int64(bytes/2))
	require.False(t, memos[len(memos)-1].dead.Load(), "the last one")
}

func TestTheCacheNeverWeighsMoreThanItMay(t *testing.T) {
	c := newCache(minCacheBytes)
	chance := rand.New(rand.NewPCG(1, 2))
	for i := range 60_000 {
		id := fmt.Sprintf("user-%d", chance.IntN(20_000))
		u := &record.User{ID: id, ScreenName: strings.Repeat("n", chance.IntN(9_000))}
		if i%4 != 0 {
			rememberingUser(c, u)
		} else {
			b := &batch{retells: i%8 == 0}
			b.put(record.UserKey(id), u)
			b.put(record.DefinitionKey(id), &record.Definition{Key: id})
			c.writes(b)
			c.wrote(b, store.Seq(i%3), nil)
		}
		if i%5_000 == 0 {
			requireBound(t, c, minCacheBytes)
		}
	}
	requireBound(t, c, minCacheBytes)
}

func TestWhatIsHeavierThanAQuarterOfAShardIsNotRemembered(t *testing.T) {
	c := newCache(minCacheBytes)
	quarter := int((minCacheBytes/64 - kinds*8*1024) / 4)
	require.Greater(t, quarter, 256+80+2*MaxDevicesBytes, "the heaviest presence is remembered")
	heavy := rememberingUser(c, &record.User{ID: "heavy-01", ScreenName: strings.Repeat("n", quarter/2)})
	require.True(t, heavy.dead.Load())
	require.Nil(t, c.get(name{kindUsers, "heavy-01"}))
}

func TestAFloodOfUsersEvictsNoAccessKeyAndNoDefinition(t *testing.T) {
	c := newCache(minCacheBytes)
	b := new(batch)
	b.put(record.AccessKeysKey, &record.AccessKeys{})
	for i := range 100 {
		b.put(record.DefinitionKey(fmt.Sprint(i)), &record.Definition{Key: fmt.Sprint(i)})
	}
	c.writes(b)
	c.wrote(b, 1, nil)
	for i := range 100_000 {
		remembering(c, fmt.Sprintf("user-%d", i))
	}
	for _, put := range b.Put {
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
		c := newCache(minCacheBytes)
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
			require.InDelta(t, MaxDevicesBytes, len(value), MaxDevicesBytes/4)
			decoded, err := record.Decode(key, value)
			require.NoError(t, err)
			n := nameOf(key)
			_, ended := c.look(n)
			c.remember(n, ended, &memo{version: 1, value: decoded, weight: weigh(key, value)})
		}
		weight, live := requireBound(t, c, minCacheBytes), liveHeap()-before
		t.Logf("%d states: weight %d, heap %d", states, weight, live)
		require.Less(t, live, 2*weight)
		require.Less(t, weight, 2*live)
		runtime.KeepAlive(c)
	}
}

func TestWhatIsWrittenIsForgottenAndNothingElse(t *testing.T) {
	c := newCache(usualCacheBytes)
	known := map[string]*memo{}
	for i := range 20_000 {
		id := fmt.Sprintf("user-%d", rand.IntN(3000))
		if i%3 != 0 {
			m := remembering(c, id)
			require.True(t, known[id] == nil || known[id] == m, "another is remembered already")
			known[id] = m
			continue
		}
		b, m := new(batch), known[id]
		b.put(record.UserKey(id), &record.User{ID: id})
		if b.retells = i%2 == 0; b.retells {
			c.writes(b)
			require.Same(t, m, c.get(name{kindUsers, id}), "it goes on being remembered")
		} else {
			c.writes(b)
			require.Nil(t, c.get(name{kindUsers, id}))
		}
		require.True(t, remembering(c, id).dead.Load(), "it is being written")
		outcome := store.Seq(i % 5) // 0: it failed, or may have
		c.wrote(b, outcome, nil)
		require.True(t, m == nil || m.dead.Load())
		delete(known, id)
		if now := c.get(name{kindUsers, id}); outcome == 0 {
			require.Nil(t, now)
		} else {
			require.Equal(t, outcome, now.version)
			known[id] = now
		}
	}
	for i := range 3000 {
		id := fmt.Sprintf("user-%d", i)
		require.Same(t, known[id], c.get(name{kindUsers, id}))
	}
}

// Readers take no lock: whoever else is forgotten or remembered meanwhile, what stays is found.
func TestWhatStaysIsFoundWhileOthersComeAndGo(t *testing.T) {
	c := newCache(usualCacheBytes)
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
				b := &batch{Batch: store.Batch{Drop: []store.Key{record.UserKey(id)}}}
				c.writes(b)
				c.wrote(b, 1, nil)
			}
		})
		wg.Go(func() {
			for i := range 100_000 {
				id := fmt.Sprintf("stay-%d", i%stay)
				if m := c.get(name{kindUsers, id}); m == nil || m.value.(*record.User).ID != id {
					panic("not found")
				}
			}
		})
	}
	wg.Wait()
}
