package denizen

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEvents_ABucketHoldsItsBurstAndFillsByTheInterval(t *testing.T) {
	b := newBuckets(3, time.Second)
	for _, row := range []struct{ now, wait int64 }{
		{1000, 0},
		{1000, 0},
		{1000, 0},
		{1000, 1000},
		{1400, 600},
		{2000, 0},
		{2000, 1000},
		{4000, 0},
		{4000, 0},
		{4001, 999},
		{90_000, 0},
		{90_000, 0},
		{90_000, 0},
		{90_000, 1000},
	} {
		require.Equal(t, row.wait, b.take("alice", row.now), row)
	}
	b.giveBack("alice")
	require.Zero(t, b.take("alice", 90_000))
	require.Positive(t, b.take("alice", 90_000))
	require.Zero(t, b.take("bob", 90_000))
	b.giveBack("noTarget")
}

func TestEvents_AFloodOfUsersNeitherGrowsTheBucketsNorFreesWhoEmptiedItsOwn(t *testing.T) {
	b := newBuckets(60, time.Second)
	for range 60 {
		require.Zero(t, b.take("attacker", 0))
	}
	for i := range 2 * maxBuckets {
		b.take(UserID(strconv.Itoa(i)), int64(i%900))
	}
	require.Len(t, b.byUser, maxBuckets)
	require.Len(t, b.byFull, maxBuckets)
	require.Positive(t, b.take("attacker", 900))
	for _, bucket := range b.byFull {
		require.Same(t, bucket, b.byUser[bucket.user])
	}
	require.Zero(t, b.take("late", 60_000))
	require.Len(t, b.byUser, 1, "full buckets are forgotten")
}
