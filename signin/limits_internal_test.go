package signin

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store"
)

func TestALimiterAllowsABurstAndThenOneEachInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(3, time.Minute)
		for range 3 {
			require.NoError(t, l.take("Start", "a"))
		}
		require.ErrorIs(t, l.take("Start", "a"), denizen.ErrLimited)
		require.NoError(t, l.take("Start", "b"))
		time.Sleep(time.Minute)
		require.NoError(t, l.take("Start", "a"))
		require.ErrorIs(t, l.take("Start", "a"), denizen.ErrLimited)
	})
}

func TestALimiterForgetsThoseFirstWhoUsedLeast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(3, time.Minute)
		for range 3 {
			require.NoError(t, l.take("Start", "greedy"))
		}
		for i := range 2 * maxLimited {
			require.NoError(t, l.take("Start", strconv.Itoa(i)))
			require.LessOrEqual(t, len(l.free), maxLimited)
		}
		require.ErrorIs(t, l.take("Start", "greedy"), denizen.ErrLimited)
	})
}

func TestARingHoldsTheNewestForAsLongAsTheyLive(t *testing.T) {
	r := ring{most: 2, life: time.Minute}
	now := time.Now()
	for i, want := range []struct {
		oldest store.Key
		full   bool
	}{{"", false}, {"", false}, {"0", true}, {"1", true}} {
		oldest, full := r.add(store.Key(strconv.Itoa(i)), now)
		require.Equal(t, want.oldest, oldest)
		require.Equal(t, want.full, full)
	}
	_, full := r.add("later", now.Add(time.Minute))
	require.False(t, full)
	require.Len(t, r.keys, 1)
}
