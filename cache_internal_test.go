package denizen

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

func remembering(c *cache, id string) *memo {
	n := name{kindUsers, id}
	_, ended := c.look(n)
	return c.remember(n, ended, &memo{version: 1, value: &record.User{ID: id}})
}

func TestWhatIsRememberedIsBoundedAndTheRestIsDead(t *testing.T) {
	c := newCache()
	const bound = 64 * perShard
	memos := make([]*memo, 2*bound)
	for i := range memos {
		memos[i] = remembering(c, fmt.Sprintf("user-%d", i))
	}
	alive := 0
	for i, m := range memos {
		found := c.get(name{kindUsers, fmt.Sprintf("user-%d", i)})
		if m.dead.Load() {
			require.Nil(t, found)
			continue
		}
		require.Same(t, m, found)
		alive++
	}
	require.LessOrEqual(t, alive, bound)
	require.Greater(t, alive, bound*9/10)
	require.False(t, memos[len(memos)-1].dead.Load(), "the last one")
}

func TestWhatIsWrittenIsForgottenAndNothingElse(t *testing.T) {
	c := newCache()
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
	c := newCache()
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
