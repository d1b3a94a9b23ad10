package denizen_test

import (
	"context"
	"fmt"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store/memory"
)

func statsOf(t testing.TB, d *denizen.Directory) denizen.Stats {
	t.Helper()
	s, err := d.Stats(context.Background(), sys)
	require.NoError(t, err)
	return s
}

func TestStats_CountCommitsGroupsAndConflicts(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		before := statsOf(t, d)
		for _, err := range atOnce(64, func(i int) error {
			_, err := d.CreateUser(context.Background(), sys, denizen.NewUser{ID: denizen.UserID(fmt.Sprintf("user-%04d", i/2)), ScreenName: "U"})
			return err
		}) {
			if err != nil {
				require.ErrorIs(t, err, denizen.ErrTaken)
			}
		}
		after := statsOf(t, d)
		require.Equal(t, int64(32), after.Commits.Applied-before.Commits.Applied)
		require.Equal(t, denizen.Seq(32), after.Head-before.Head)
		require.Zero(t, after.Commits.Failed)
		require.GreaterOrEqual(t, after.Commits.Took, before.Commits.Took)
		require.Zero(t, after.Commits.Waiting)
		if after.Commits.Groups == 0 {
			return // the store is wrapped, and forwards nothing
		}
		sum := int64(0)
		for _, n := range after.Commits.GroupSizes {
			sum += n
		}
		require.Equal(t, after.Commits.Groups, sum)
		require.NotZero(t, after.Commits.GroupSizes[0], "the directory was founded alone")
	})
}

func TestStats_OfTheCachesGrowAndStayWithinTheirLimits(t *testing.T) {
	d := newMemory(t, denizen.Options{CacheBytes: 16 << 20})
	before := statsOf(t, d)
	for i := range 100 {
		id := denizen.UserID(fmt.Sprintf("user-%04d", i))
		newUser(t, d, id)
		require.NoError(t, authenticated(t, d, newToken(t, d, id, denizen.TokenOptions{}).Signed))
	}
	after := statsOf(t, d)
	require.GreaterOrEqual(t, after.Records.Entries-before.Records.Entries, 100)
	require.Equal(t, 100, after.Tokens.Entries)
	for _, c := range []denizen.CacheStats{after.Records, after.Tokens} {
		require.Positive(t, c.Bytes)
		require.Less(t, c.Bytes, c.Limit)
	}
	require.Equal(t, int64(16<<20), after.Records.Limit+after.Tokens.Limit)
	for i := range 100 {
		require.NoError(t, d.DeleteUser(t.Context(), sys, denizen.UserID(fmt.Sprintf("user-%04d", i))))
	}
	gone := statsOf(t, d)
	require.LessOrEqual(t, gone.Records.Entries, before.Records.Entries+1)
	misses := gone.Records.Misses
	_, err := d.User(t.Context(), sys, "nobody-01")
	require.ErrorIs(t, err, denizen.ErrNotFound)
	require.Greater(t, statsOf(t, d).Records.Misses, misses)

	over := statsOf(t, newShared(t, denizen.Options{}))
	require.Equal(t, denizen.CacheStats{Misses: over.Records.Misses}, over.Records)
	require.Zero(t, over.Tokens)
}

func TestStats_TellHeartbeatsThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newOver(t, memory.New(), denizen.Options{HeartbeatInterval: time.Second})
		newUser(t, d, "alice-01")
		chain := denizen.Online(time.Minute).Then(denizen.Offline())
		for range 2 {
			require.NoError(t, d.SetPresence(t.Context(), sys, "alice-01", chain))
			time.Sleep(time.Millisecond)
		}
		require.Equal(t, 1, statsOf(t, d).HeartbeatsWaiting)
		time.Sleep(2 * time.Second)
		require.Zero(t, statsOf(t, d).HeartbeatsWaiting)
	})
}

func TestStats_TellHowManyAreWatched(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	newUser(t, d, "alice-01")
	require.Equal(t, denizen.CacheStats{Limit: 256 << 20}, statsOf(t, d).Watched)
	next, stop := iter.Pull2(d.WatchPresence(t.Context(), sys, []denizen.UserID{"alice-01", "nobody-1"}))
	defer stop()
	_, err, _ := next()
	require.NoError(t, err)
	watched := statsOf(t, d).Watched
	require.Equal(t, 2, watched.Entries)
	require.Positive(t, watched.Bytes)
	stop()
	require.Equal(t, denizen.CacheStats{Limit: 256 << 20}, statsOf(t, d).Watched)
}

func TestStats_TellHowFarConsumersAreBehind(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		require.Empty(t, statsOf(t, d).Consumers)
		require.NoError(t, d.ResetConsumer(t.Context(), sys, "all", ""))
		require.NoError(t, d.ResetConsumer(t.Context(), sys, "late", headOf(t, d)))
		newUser(t, d, "alice-01")
		s := statsOf(t, d)
		require.Equal(t, []denizen.ConsumerStats{
			{Name: "all", Behind: int64(s.Head)}, {Name: "late", Behind: 2},
		}, s.Consumers)
		require.NoError(t, d.TrimFeed(t.Context(), sys, s.Head))
		require.True(t, statsOf(t, d).Consumers[1].Missed)
	})
}

func TestStats_NameTheRootKey(t *testing.T) {
	s := memory.New()
	d, err := denizen.New(t.Context(), s, under(noRoot, oldRoot))
	require.NoError(t, err)
	require.Equal(t, denizen.NoRootKey, statsOf(t, d).RootKey)
	require.NoError(t, d.Close())
	d = newOver(t, s, under(oldRoot, noRoot))
	require.NoError(t, d.Rekey(t.Context(), sys))
	require.Len(t, statsOf(t, d).RootKey, 16)
	events := eventsAfter(t, d, 0)
	require.Equal(t, []string{statsOf(t, d).RootKey}, events[len(events)-1].Subjects)
}
