package denizen_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

func TestLastUses_AreStoredInBoundedBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &batches{Store: memory.New()}
		d := newOver(t, s, denizen.Options{})
		const users = 1100
		for i := range users {
			user := denizen.UserID(fmt.Sprintf("user-%04d", i))
			newUser(t, d, user)
			require.NoError(t, authenticated(t, d, newToken(t, d, user, denizen.TokenOptions{}).Signed))
		}
		s.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 2*2, s.commits, "with the last activities")
		require.LessOrEqual(t, s.keys, 1000)
		rs, err := s.List(t.Context(), store.Range{Under: record.LastUsesKey("user-"), Limit: store.MaxPage, KeysOnly: true})
		require.NoError(t, err)
		require.Len(t, rs, users)
	})
}

// A last use that is noted when its token is gone leaves nothing behind.
func TestLastUses_TheLastUseOfATokenThatEndedIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		d := newOver(t, s, denizen.Options{})
		newUser(t, d, "alice-user")
		newUser(t, d, "bob-user")
		a, b := newToken(t, d, "alice-user", denizen.TokenOptions{}), newToken(t, d, "bob-user", denizen.TokenOptions{})
		require.NoError(t, authenticated(t, d, a.Signed))
		require.NoError(t, authenticated(t, d, b.Signed))
		require.NoError(t, d.RevokeTokens(t.Context(), sys, "alice-user", a.ID))
		require.NoError(t, d.DeleteUser(t.Context(), sys, "bob-user"))
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		for _, r := range invariant.Of(t, s).Records {
			require.False(t, r.Key.HasPrefix(record.LastUsesKey("")), "%s", r.Value)
		}
	})
}

func TestLastUses_TheUseOfAccessKeysIsStoredOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := memory.New()
		s := &counting{Store: inner}
		d := newOver(t, &owned{s, inner}, denizen.Options{})
		key := newKey(t, d)
		byKey(t, d, key.Key, key.Secret)
		time.Sleep(10 * time.Second)
		before := s.commits.Load()
		for range 600 {
			byKey(t, d, key.Key, key.Secret)
			time.Sleep(time.Second)
		}
		require.EqualValues(t, 10, s.commits.Load()-before)
	})
}

func TestLastUses_TheLastUseIsKnownToTheMinuteAndOutlivesTheDirectory(t *testing.T) {
	overReopening(t, func(t *testing.T, open func(denizen.Options) *denizen.Directory) {
		d := open(denizen.Options{})
		newUser(t, d, "alice-user")
		signed := newToken(t, d, "alice-user", denizen.TokenOptions{}).Signed
		require.Zero(t, lastUseOf(t, d))
		for range 600 {
			time.Sleep(time.Second)
			require.NoError(t, authenticated(t, d, signed))
			require.Less(t, time.Since(lastUseOf(t, d)), time.Minute)
		}
		for _, wait := range []time.Duration{0, 10 * time.Minute} { // stored by Close, and before
			used := lastUseOf(t, d)
			time.Sleep(wait)
			require.NoError(t, d.Close())
			d = open(denizen.Options{})
			require.Equal(t, used, lastUseOf(t, d))
		}
	})
}

func TestLastUses_TheLastUseIsStoredOnceAMinute(t *testing.T) {
	for _, cached := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			inner := memory.New()
			count := &counting{Store: inner}
			var s store.Store = count
			if cached {
				s = &owned{count, inner}
			}
			d := newOver(t, s, denizen.Options{})
			newUser(t, d, "alice-user")
			newUser(t, d, "bob-user")
			a, b := newToken(t, d, "alice-user", denizen.TokenOptions{}).Signed, newToken(t, d, "bob-user", denizen.TokenOptions{}).Signed
			time.Sleep(10 * time.Second) // so that no use is at the very instant of a store
			before, seen := count.commits.Load(), len(eventsAfter(t, d, 0))
			for range 1200 {
				require.NoError(t, authenticated(t, d, a))
				require.NoError(t, authenticated(t, d, b))
				time.Sleep(500 * time.Millisecond)
			}
			require.EqualValues(t, 2*10, count.commits.Load()-before) // in ten minutes, both together; and the last activity
			require.Len(t, eventsAfter(t, d, 0), seen)
		})
	}
}
